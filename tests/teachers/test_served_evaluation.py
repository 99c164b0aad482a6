"""A model behind an endpoint is evaluated as one that is loaded is."""

from pathlib import Path
from typing import Any

import pytest
from tests.teachers import endpoint

from codestill.evaluation import EvaluateModel, evaluate_model
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.types import Evaluation

TASKS: dict[str, Any] = {"source": "pocket", "split": "test", "count": 4, "depths": [2]}


@pytest.mark.parametrize("kind", ["completions", "chat"])
def test_it_is_asked_once_and_scored(kind: str, tmp_path: Path) -> None:
    tasks = TasksConfig.model_validate(TASKS).load().tasks
    known = tasks[:3]  # of the last it knows nothing

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        task = next((task for task in known if task.prompt.strip() in endpoint.said(asked)), None)
        code = task.reference if task else "    return None\n"
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "text": code}
        if kind == "chat":
            prompt = task.prompt if task else tasks[3].prompt
            choice = {"index": 0, "finish_reason": "stop"}
            choice["message"] = {"role": "assistant", "content": f"So:\n```python\n{prompt}{code}```\n"}
        handler.send(200, endpoint.answer(asked, choices=[choice]))

    with endpoint.serving(behave) as server:
        settings = {
            "model": "big",
            "served": {"base_url": server.url, "endpoint": kind},
            "prompts": "instruct" if kind == "chat" else "continued",
            "evaluate": {"tasks": TASKS, "samples_per_task": 2},
            "execution": {"device": "cpu"},
        }
        config = EvaluateModel.model_validate(settings)

        def evaluated() -> Evaluation:
            with Run.open(tmp_path / "run", config) as run:
                return evaluate_model(config, run)

        found = evaluated()
        assert {task.task_id: found.per_task[task.task_id] for task in tasks} == {
            task.task_id: (2, 2 if task in known else 0) for task in tasks
        }
        assert found.model == "big" and found.greedy is not None and found.greedy.mean == 0.75
        assert found.profile is None
        calls = len((tmp_path / "run" / "ledger.jsonl").read_text().splitlines())
        assert calls == len(server.asked) == 12
        (tmp_path / "run" / "results" / "student.json").unlink()
        assert evaluated() == found and len(server.asked) == 12
