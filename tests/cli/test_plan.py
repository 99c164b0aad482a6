"""``codestill plan``: what a command will take, before it is run."""

import re
from pathlib import Path

import pytest
from tests.cli.conftest import Codestill, assert_refused

from codestill.files.run_files import FORECAST
from codestill.files.usage import read_forecast, read_usage

SFT = (
    "run sft --config pocket --examples.tasks.count 12 --examples.validation null --train.max-steps 6 "
    "--evaluate.tasks.count 4 --evaluate.samples-per-task 1 --evaluate.profile=false "
    "--examples.max-new-tokens 32 --evaluate.max-new-tokens 16 --execution.threads 1 --run-dir runs/s"
)


def test_a_run_is_forecast_refused_over_its_budget_and_then_takes_its_time(codestill: Codestill) -> None:
    refused = codestill("plan", *SFT.split(), "--teacher-usage.budget.calls", "5")
    assert refused.code == 1 and "expected to take 12 calls" in refused.err and "budget is 5" in refused.err
    assert "trial run on 2 of 12 tasks" in refused.err and "evaluate-student" in refused.out
    expected = read_forecast(Path("runs/s"))
    assert expected is not None and (expected.tasks, expected.measured_on) == (12, (2, 6))
    assert {path.name for path in Path("runs/s").iterdir()} == {FORECAST, "answers"}
    done = codestill(*SFT.split())
    assert done.code == 0 and re.search(
        r"^time +\d+ s +\d+ s to .* s +\d+ s +\d+\.\d\d$", done.out, re.MULTILINE
    )
    assert codestill("report", "runs/s").code == 0
    assert "what was forecast, and what it took" in Path("runs/s/report.html").read_text()
    used = read_usage(Path("runs/s"))
    assert used is not None and used.seconds > 0
    assert used.calls == 6  # a trial had half of the tasks: their answers were there


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("plan train", ("'train' is no command", "Plan run, compare")),
        ("plan run", ("no recipe is given",)),
        ("plan compare", ("no file is given",)),
        ("plan run sft --studnt x", ("Did you mean --student?",)),
        ("plan evaluate pocket-base --tasks nowhere.jsonl", ("nowhere.jsonl",)),
    ],
)
def test_what_cannot_be_planned_is_refused(
    codestill: Codestill, arguments: str, parts: tuple[str, ...]
) -> None:
    assert_refused(codestill(*arguments.split()), *parts)
    assert not Path("runs").exists()


def test_help_says_what_can_be_planned(codestill: Codestill) -> None:
    assert "run|compare|sweep|distil|evaluate|quickstart" in codestill("plan", "--help").out
