"""A run's training examples, for other trainers."""

import json
from pathlib import Path
from typing import Any

import pytest

from codestill.browse import FORMS, export
from codestill.cli import main
from codestill.errors import RunError
from codestill.files.serialize import read_jsonl
from codestill.types import Example


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_form_has_every_example(tmp_path: Path, finished: Path) -> None:
    examples = list(read_jsonl(finished / "examples.jsonl", Example, whole=True))
    assert examples
    written = {form: export(finished, form, tmp_path / form) for form in FORMS}
    assert {count for _, count in written.values()} == {len(examples)}
    pairs = [{"prompt": example.prompt, "completion": example.completion} for example in examples]
    assert rows(written["sft"][0]) == pairs
    turns = [row["messages"] for row in rows(written["messages"][0])]
    assert turns == [
        [{"role": "user", "content": pair["prompt"]}, {"role": "assistant", "content": pair["completion"]}]
        for pair in pairs
    ]
    import datasets

    kept: list[Any] = list(datasets.load_from_disk(str(written["hf"][0])))
    assert [{name: row[name] for name in pair} for row, pair in zip(kept, pairs, strict=True)] == pairs
    assert [row["example_id"] for row in kept] == [example.example_id for example in examples]


def test_an_earlier_training_has_a_part_of_its_own(tmp_path: Path, finished: Path) -> None:
    _, count = export(finished, "sft", tmp_path / "warm", part="warm-up")
    assert count == 5  # references
    with pytest.raises(RunError, match="no training examples of round-9") as refused:
        export(finished, "sft", tmp_path / "none", part="round-9")
    assert "warm-up" in refused.value.next_step and "round-1" in refused.value.next_step


def test_the_command_writes_beside_the_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", str(finished), "--to", "messages"])
    assert ended.value.code == 0
    assert (finished / "data" / "messages.jsonl").exists()
    assert "examples" in capsys.readouterr().out
