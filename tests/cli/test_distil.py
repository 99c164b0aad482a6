"""``codestill distil``: one line for the usual job."""

from pathlib import Path

import pytest
from tests.cli.conftest import Codestill, assert_refused

from codestill.files.strict_yaml import load_yaml
from codestill.pocket import generate
from codestill.tasks import write_tasks

QUICK = (
    "--train.max-steps=2",
    "--evaluate.samples-per-task=1",
    "--evaluate.profile=false",
    "--no-score-teacher",
    "--evaluate.max-new-tokens=16",
    "--execution.threads=1",
)


def test_own_tasks_are_distilled_and_the_config_repeats_it(codestill: Codestill) -> None:
    write_tasks(Path("mine.jsonl"), generate("train", 5))
    line = ["distil", "pocket", "pocket-base", "--tasks", "mine.jsonl", "--share", "0.3", *QUICK]
    outcome = codestill(*line)
    assert outcome.code == 0, outcome.err
    directory = Path("runs/distil-pocket-pocket-base")
    for part in (
        "logit_kd: both have one vocabulary",
        "2 of 5 tasks are held out",
        "after - before:",
        "report:",
    ):
        assert part in outcome.out
    assert f"codestill compare {directory}/config.yaml --run-dir {directory}" in " ".join(outcome.out.split())
    before = {path: path.read_bytes() for path in directory.rglob("*.safetensors")}
    assert codestill(*line).code == 0  # nothing is trained again
    assert codestill("compare", directory / "config.yaml", "--run-dir", directory).code == 0
    assert before and all(path.read_bytes() == data for path, data in before.items())
    config = load_yaml((directory / "config.yaml").read_text())
    assert [arm["name"] for arm in config["arms"]] == ["before", "after"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("distil", ("no teacher, student and tasks", "TEACHER STUDENT --tasks FILE")),
        ("distil pocket", ("student: Field required",)),
        ("distil pocket pocket-base", ("tasks: Field required",)),
        ("distil pocket pocket-base --task mine.jsonl", ("unknown option: --task.", "Did you mean --tasks?")),
        ("distil pocket pocket-base --evalute.profile false", ("--evalute", "Did you mean --evaluate?")),
        (
            "distil http://127.0.0.1:1/v1 pocket-base --tasks pocket",
            ("nothing answers at http://127.0.0.1:1",),
        ),
        ("distil pocket pocket-base mine.jsonl", ("unexpected argument 'mine.jsonl'", "--tasks")),
        ("distil pocket pocket-base --tasks nowhere.jsonl", ("nowhere.jsonl",)),
        ("distil pocket pocket-base --tasks humaneval", ("no training tasks",)),
        ("distil nowhere/model.gguf pocket-base --tasks pocket", ("nowhere/model.gguf",)),
        ("distil pocket pocket-base --tasks pocket --evaluate.tasks humaneval", ("held_out",)),
    ],
)
def test_what_cannot_be_done_is_refused(codestill: Codestill, arguments: str, parts: tuple[str, ...]) -> None:
    assert_refused(codestill(*arguments.split()), *parts)
    assert not Path("runs").exists()


def test_help_has_the_line(codestill: Codestill) -> None:
    shown = codestill("distil", "--help").out
    assert "distil TEACHER STUDENT --tasks FILE" in shown and "--held-out" in shown
