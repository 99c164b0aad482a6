"""Which answers the student of AMR-Evol is trained on."""

from pathlib import Path

import pytest
from tests.support.forms import CONTINUES

from codestill.config import RunConfig
from codestill.errors import TaskError
from codestill.recipes.amr_evol.recipe import answer_examples
from codestill.recipes.amr_evol.responses import Response
from codestill.run import Run
from codestill.tasks import STOP_RULES, TaskSet
from codestill.types import Task

ANSWERS = {
    "right": Response(task_id="right", completion="    return x\n", how="direct"),
    "cut": Response(task_id="cut", completion="    return x\n", how="direct", cut=True),
    "prose": Response(task_id="prose", completion="I cannot.", how="chain_of_thought"),
    "empty": Response(task_id="empty", completion="", how="voted"),
    "other": Response(task_id="other", completion="    return (x\n", how="direct"),
}


def tasks(*names: str) -> TaskSet:
    made = [
        Task.model_validate(
            {
                "task_id": name,
                "prompt": f'def {name}(x):\n    """Return x."""\n',
                "entry_point": name,
                "reference": "    return x\n",
                "tests": [f"assert {name}(1) == 1"],
            }
        )
        for name in names
    ]
    return TaskSet("t", tuple(made), "train", "zero-shot", STOP_RULES["definitions"])


def test_only_whole_programs_are_trained_on(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", RunConfig()) as run:
        examples = answer_examples(tasks(*ANSWERS), ANSWERS, CONTINUES, run)
        assert [example.example_id for example in examples] == ["right"]
        with pytest.raises(TaskError, match="none of 2 answers is a program"):
            answer_examples(tasks("cut", "prose"), ANSWERS, CONTINUES, run)
    assert '"answers_without_program":' in (tmp_path / "run" / "accounting.json").read_text()
