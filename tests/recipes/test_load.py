import sys
from pathlib import Path

import pytest

from codestill.errors import ConfigError
from codestill.files.run_files import read_stage
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.types import Attempt

MINE = '''
from codestill.attempt import Workbench
from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.losses import CrossEntropy
from codestill.models import SamplingConfig, StudentConfig
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.train import TrainConfig, fit
from codestill.types import Example


class Config(RunConfig):
    """The student learns from its own answers that pass."""

    student: StudentConfig = StudentConfig(model="pocket-base")
    tasks: TasksConfig = TasksConfig(source="pocket", split="train", count=6, depths=(1,))
    rounds: int = 2
    train: TrainConfig = TrainConfig(max_steps=2, accumulation=1)
    evaluate: EvaluateConfig = EvaluateConfig()


def distill(config, run):
    student, task_set = config.student.build(placement=config.execution), config.tasks.load()
    prompts = {task.task_id: task.prompt for task in task_set.tasks}
    sampling = SamplingConfig(max_new_tokens=48)
    with config.execution.sandbox(config.sandbox) as sandbox:
        for round in run.rounds(config.rounds):
            answers = Workbench(sandbox, round).attempt("answers", student, task_set, sampling)
            examples = [
                Example(example_id=a.key, prompt=prompts[a.task_id], completion=a.completion.text)
                for a in answers
                if a.result.passed
            ]
            student = fit(student, examples, CrossEntropy(), config.train, round)
            evaluate(student, "student", config.evaluate, sandbox, round)
    return student
'''
EVALUATE = {
    "tasks": {"source": "pocket", "count": 2, "depths": [2]},
    "samples_per_task": 1,
    "max_new_tokens": 16,
    "profile": False,
}


def test_strangers_recipe_runs_in_rounds(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(MINE, encoding="utf-8")  # called like a module that is in use
    json = sys.modules["json"]
    recipe = load_recipe(str(tmp_path / "json.py"))
    assert sys.modules["json"] is json
    config = recipe.Config.model_validate({"evaluate": EVALUATE})
    for _ in range(2):
        with Run.open(tmp_path / "run", config) as run:
            recipe.distill(config, run)
    for number in (1, 2):
        answers = read_stage(tmp_path / "run", f"round-{number}/answers", Attempt)
        assert len(answers) == 6
        assert any(answer.result.passed for answer in answers)
        assert (tmp_path / "run" / "results" / f"round-{number}" / "student.json").exists()
    first, second = (
        (tmp_path / "run" / f"round-{number}" / "student" / "model.safetensors").read_bytes()
        for number in (1, 2)
    )
    assert first != second


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stf", None, "no recipe 'stf'"),
        ("missing.py", None, "no recipe file"),
        ("empty.py", "", "defines no Config and no distill"),
        ("half.py", "def distill(config, run): ...", "defines no Config"),
    ],
)
def test_what_is_no_recipe(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(tmp_path / name) if name.endswith(".py") else name)
