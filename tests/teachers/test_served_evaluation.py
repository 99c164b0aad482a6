"""A model behind an endpoint is evaluated as one that is loaded is."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.teachers import endpoint

from codestill.errors import TeacherError
from codestill.evaluation import EvaluateModel, evaluate_model
from codestill.files.serialize import read_jsonl
from codestill.report import write_report
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.types import Evaluation, Event

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


def evaluated_by(server: endpoint.Server, directory: Path) -> Evaluation:
    address = server.url.replace("//", "//user:planted-password@") + "?api_key=planted-key"
    settings = {
        "model": "big",
        "served": {"base_url": address, "endpoint": "completions", "concurrency": 1, "retries": 0},
        "evaluate": {"tasks": TASKS, "samples_per_task": 1, "greedy": False},
        "execution": {"device": "cpu"},
    }
    config = EvaluateModel.model_validate(settings)
    with Run.open(directory, config) as run:
        return evaluate_model(config, run)


def test_answers_without_text_are_scored_counted_and_named(tmp_path: Path) -> None:
    """Of four tasks one prompt is too long, one answer is filtered, one is cut, and one is right."""
    tasks = TasksConfig.model_validate(TASKS).load().tasks

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        place = next(n for n, task in enumerate(tasks) if task.prompt.strip() in endpoint.said(asked))
        refusal = {"error": {"message": "maximum context length is 4096 tokens", "code": "context"}}
        text, reason = {
            0: ("", "stop"),
            1: (None, "content_filter"),
            2: ("    x", "length"),
            3: (tasks[3].reference, "stop"),
        }[place]
        choice = {"index": 0, "text": text, "finish_reason": reason}
        body = endpoint.answer(asked, choices=[choice], usage=None)
        handler.send(200 if place else 400, body if place else json.dumps(refusal).encode())

    with endpoint.serving(behave) as server:
        found = evaluated_by(server, tmp_path / "run")
    assert [found.per_task[task.task_id] for task in tasks] == [(1, 0), (1, 0), (1, 0), (1, 1)]
    assert found.unfinished == {"content_filter": 1, "length": 1, "prompt_too_long": 1}
    assert len(server.asked) == 4
    said = [event.message for event in read_jsonl(tmp_path / "run" / "metrics.jsonl", Event) if event.message]
    assert said == [
        "the endpoint does not say how many tokens it took: they are estimated",
        f"2 answers of big are empty: {tasks[0].task_id}#0 (prompt too long), "
        f"{tasks[1].task_id}#0 (content filter)",
        f"1 of 4 prompts leave big no room, and count as failures: {tasks[0].task_id}",
    ]
    page = write_report([tmp_path / "run"])[0].read_text(encoding="utf-8")
    assert "3 calls estimated" in page
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"planted" in path.read_bytes()]


def test_one_answer_that_never_comes_leaves_the_others_alone(tmp_path: Path) -> None:
    tasks = TasksConfig.model_validate(TASKS).load().tasks
    faults = ["it is still broken"]

    def behave(handler: endpoint.Handler, asked: dict[str, Any], before: int) -> None:
        choice = {"index": 0, "text": "    return None\n", "finish_reason": "stop"}
        odd = bool(faults) and tasks[1].prompt.strip() in endpoint.said(asked)
        handler.send(200, b"{}" if odd else endpoint.answer(asked, choices=[choice]))

    with endpoint.serving(behave) as server:
        named = rf"no usable answer to {tasks[1].task_id}#0 in 1 call; .*choices is missing"
        with pytest.raises(TeacherError, match=named):
            evaluated_by(server, tmp_path / "run")
        assert len((tmp_path / "run" / "ledger.jsonl").read_text().splitlines()) == 3
        faults.clear()
        assert evaluated_by(server, tmp_path / "run").task_count == 4
    assert len(server.asked) == 5
