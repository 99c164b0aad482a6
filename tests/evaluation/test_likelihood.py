"""Nats per byte of reference solutions: an independent sum, and where the figure shows."""

from pathlib import Path

import pytest
import torch
from tests.support.scripted import Scripted

from codestill.config import RunConfig
from codestill.errors import ConfigError, TaskError
from codestill.evaluation import EvaluateConfig, EvaluateModel, evaluate, evaluate_model
from codestill.models import load_student
from codestill.report import write_report
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, write_tasks
from codestill.types import Evaluation, Task

HELD_OUT = {"source": "pocket", "split": "validation", "count": 5}
SETTINGS = {
    "tasks": {"source": "pocket", "split": "test", "count": 2},
    "samples_per_task": 0,
    "max_new_tokens": 8,
    "profile": False,
    "likelihood": HELD_OUT,
}


def test_nats_per_byte_of_a_model(tmp_path: Path) -> None:
    drawn = TasksConfig.model_validate(HELD_OUT).load().tasks
    # Without their last newline, so that the end is no matter of course.
    unended = [task.model_copy(update={"reference": task.reference.rstrip("\n")}) for task in drawn]
    write_tasks(tmp_path / "unended.jsonl", unended)
    held_out = str(tmp_path / "unended.jsonl")
    settings = EvaluateConfig.model_validate(SETTINGS | {"likelihood": held_out})
    with Run.open(tmp_path / "run", EvaluateModel(model="pocket-base", evaluate=settings)) as run:
        found = evaluate_model(EvaluateModel(model="pocket-base", evaluate=settings), run)
    model = load_student("pocket-base")
    tasks = TasksConfig.model_validate(held_out).load()
    for task in tasks.tasks:
        ((prompt, completion),) = model.codec.examples([(task.prompt, task.reference)])
        ids = [*prompt, *completion, model.codec.end]
        with torch.no_grad():
            log_p = model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        nats = -sum(float(log_p[at - 1, ids[at]]) for at in range(len(prompt), len(ids)))
        expected = nats / len(task.reference.encode())
        assert found.nats_per_byte_per_task[task.task_id] == pytest.approx(expected, rel=1e-4)
    assert found.likelihood_tasks == tasks.name and len(found.nats_per_byte_per_task) == 5
    assert (
        found.nats_per_byte and found.nats_per_byte.low < found.nats_per_byte.mean < found.nats_per_byte.high
    )
    page = write_report([tmp_path / "run"], tmp_path / "page")[0].read_text()
    assert "nats/byte" in page and f"{found.nats_per_byte.mean:.3f}" in page


def test_text_alone_has_no_likelihood(tmp_path: Path) -> None:
    asked: list[str] = []
    model = Scripted(lambda request: asked.append(request.prompt) or "")  # type: ignore[func-returns-value]
    settings = EvaluateConfig.model_validate(SETTINGS)
    with (
        Run.open(tmp_path / "run", RunConfig()) as run,
        Sandbox(SandboxConfig(), 1) as sandbox,
        pytest.raises(ConfigError, match=r"evaluate\.likelihood"),
    ):
        evaluate(model, "student", settings, sandbox, run)
    assert not asked


def test_solutions_beyond_the_positions(tmp_path: Path) -> None:
    tasks = TasksConfig.model_validate(HELD_OUT).load().tasks
    long = [task.model_copy(update={"reference": task.reference * 500}) for task in tasks[:2]]

    def found(name: str, among: list[Task]) -> tuple[Evaluation, str]:
        file = tmp_path / f"{name}.jsonl"
        write_tasks(file, among)
        settings = EvaluateConfig.model_validate(SETTINGS | {"likelihood": str(file)})
        config = EvaluateModel(model="pocket-base", evaluate=settings)
        messages: list[str] = []
        with Run.open(tmp_path / name, config, [lambda event: messages.append(event.message)]) as run:
            return evaluate_model(config, run), "\n".join(messages)

    evaluation, said = found("some", [*long, *tasks[2:]])
    assert set(evaluation.nats_per_byte_per_task) == {task.task_id for task in tasks[2:]}
    assert long[0].task_id in said
    with pytest.raises(TaskError, match="no solution"):
        found("all", long)
