"""Rows of stages: what they say, which are chosen, how they are shown."""

import re
import shutil
from pathlib import Path

import pytest

from codestill.browse import Filter, read_stages, write_rows
from codestill.cli import main
from codestill.errors import RunError
from codestill.files.run_files import Marker, read_stage
from codestill.files.serialize import read_record, write_object
from codestill.recipes.persd.collect import Refinement
from codestill.types import Attempt


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["show", *arguments])
    assert ended.value.code == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_stages_come_in_the_order_of_the_rounds(finished: Path) -> None:
    stages = [stage.name for stage in read_stages(finished)]
    parts = [name.rpartition("/")[0] for name in stages]
    assert parts == sorted(parts, key=["warm-up", "round-1", "round-2", ""].index)
    first = [name for name in stages if name.startswith("round-1/")]
    assert first[:3] == ["round-1/solutions", "round-1/attempts", "round-1/refinements"]


def test_a_row_says_what_the_record_says(finished: Path) -> None:
    (stage,) = read_stages(finished, Filter(stage="round-1/attempts"))
    attempts = read_stage(finished, "round-1/attempts", Attempt)
    assert [(row.key, row.task, row.verdict, row.text) for row in stage.rows] == [
        (one.key, one.task_id, one.result.verdict, one.completion.text) for one in attempts
    ]
    assert all(row.error for row in stage.rows if row.verdict != "pass")
    assert sum(stage.verdicts.values()) == len(attempts) == stage.count


def test_a_repair_is_shown_beside_its_attempt(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repairs = read_stage(finished, "round-1/refinements", Refinement)
    (stage,) = read_stages(finished, Filter(stage="round-1/refinements"))
    assert [(row.before, row.text) for row in stage.rows] == [
        (one.attempt.completion.text, one.completion.text) for one in repairs
    ]
    row = stage.rows[0]
    marked = {line[0] for line in row.changes()}
    assert marked <= {"-", "+", " "} and marked & {"-", "+"}
    out = shown(capsys, str(finished), "--stage", "round-1/refinements", "--limit", "1")
    assert all(line.rstrip() in out for line in row.changes())


def test_examples_are_rows_too(finished: Path) -> None:
    last, first = (read_stages(finished, Filter(stage=name)) for name in ("examples", "round-1/examples"))
    assert {stage.name for stage in last} >= {"warm-up/examples", "round-1/examples", "examples"}
    assert all(row.prompt and row.text for stage in first for row in stage.rows)


@pytest.mark.parametrize("verdict", ["pass", "failing"])
def test_rows_are_filtered(verdict: str, finished: Path) -> None:
    (everything,) = read_stages(finished, Filter(stage="round-1/solutions"))
    (chosen,) = read_stages(finished, Filter(stage="round-1/solutions", verdict=verdict))
    wanted = [row for row in everything.rows if (row.verdict == "pass") == (verdict == "pass")]
    assert [*chosen.rows] == wanted
    (of_task,) = read_stages(finished, Filter(stage="round-1/solutions", task=everything.rows[1].task))
    assert of_task.rows == (everything.rows[1],)
    (by_text,) = read_stages(finished, Filter(stage="round-1/solutions", text=r"^\s+return\b.*$"))
    assert [*by_text.rows] == [row for row in everything.rows if re.search(r"^\s+return\b.*$", row.text)]
    failed = next(row for stage in read_stages(finished) for row in stage.rows if row.error)
    found = read_stages(finished, Filter(error=failed.error.upper()))
    assert failed in [row for stage in found for row in stage.rows]


def test_an_unfinished_stage_says_how_far_it_is(tmp_path: Path, finished: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    path = copy / "stages" / "round-1" / "attempts.jsonl"
    marker = path.with_suffix(".json")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20])
    write_object(marker, read_record(marker, Marker).model_copy(update={"done": False}))
    (stage,) = read_stages(copy, Filter(stage="round-1/attempts"))
    assert (len(stage.rows), stage.count) == (1, len(lines))


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"stage": "atempts"}, "has no stage 'atempts'"),
        ({"text": "("}, "no regular expression"),
    ],
)
def test_what_cannot_be_shown_is_refused(filters: dict[str, str], said: str, finished: Path) -> None:
    with pytest.raises(RunError, match=said) as refused:
        read_stages(finished, Filter(**filters))
    assert refused.value.next_step


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        read_stages(tmp_path)


def test_the_page_holds_the_rows_and_obeys_none(tmp_path: Path, finished: Path) -> None:
    stages = read_stages(finished)
    page = tmp_path / "rows.html"
    count = sum(len(stage.rows) for stage in stages)
    assert write_rows("<run>", stages, page, 10_000) == (count, count)
    text = page.read_text(encoding="utf-8")
    assert text.count("<details") == count
    assert "<h1>&lt;run&gt;</h1>" in text and 'class="new"' in text
    assert "default-src 'none'" in text
    assert write_rows("run", stages, page, 9) == (9, count)
    names = re.findall(r'data-stage="([^"]+)"', page.read_text(encoding="utf-8"))
    assert len(set(names)) == min(9, len(stages))  # of every stage some


def test_the_command_shows_stages_and_then_rows(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overview = shown(capsys, str(finished))
    assert "round-1/attempts" in overview and "--page" in overview
    rows = shown(capsys, str(finished), "--stage", "attempts", "--limit", "2")
    assert "2 of 8 rows, 6 more: --limit 8" in rows  # four tasks in each of two rounds
