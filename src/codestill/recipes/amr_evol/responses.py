"""Answers to instructions by the baselines of AMR-Evol (arXiv:2410.00558, section 3.2).

No baseline sees a task's own tests.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from codestill.attempt import read
from codestill.models import SamplingConfig
from codestill.recipes.amr_evol.agreement import AgreementConfig, ask_calls, run_on, teacher_tests, vote
from codestill.teaching import Teaching
from codestill.types import Completion, Record, Request, Task

How = Literal["direct", "chain_of_thought", "regenerated", "voted", "evolved", "repaired"]


class Response(Record):
    """The answer that the student is trained on."""

    task_id: str
    completion: str
    """Continues the task's prompt."""
    how: How
    cut: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether the token limit cut it: it is then not trained on."""
    why: str = ""
    """Why the direct answer was kept, where another was tried."""

    @property
    def key(self) -> str:
        return self.task_id


def direct(teaching: Teaching, tasks: Sequence[Task], sampling: SamplingConfig) -> dict[str, Response]:
    """The teacher's answers to the plain prompts, by task id."""
    requests = [Request(task_id=task.task_id, prompt=teaching.prompts.to_solve(task)) for task in tasks]
    return _responses(teaching, "direct", "direct", tasks, requests, sampling)


def chain_of_thought(
    teaching: Teaching, tasks: Sequence[Task], sampling: SamplingConfig
) -> dict[str, Response]:
    """Answers after a chain of thought, prompted with one worked example (arXiv:2201.11903)."""
    requests = [
        Request(task_id=task.task_id, prompt=teaching.modular.to_think(task.prompt)) for task in tasks
    ]
    return _responses(teaching, "thoughts", "chain_of_thought", tasks, requests, sampling)


def answer_repair(
    teaching: Teaching,
    tasks: Sequence[Task],
    direct_answers: Mapping[str, Response],
    sampling: SamplingConfig,
    agreement: AgreementConfig,
) -> dict[str, Response]:
    """AnsRepair: the teacher generates tests of its answer; an answer that fails them is regenerated once,
    from the task and the failed answer, without the error message. Without tests, the answer is kept."""
    answered = _answered(tasks, direct_answers)
    tested = teacher_tests(teaching, "tests", answered, agreement)
    answers = [Completion(task_id=task.task_id, sample=0, text=task.reference) for task in tested]
    attempts = run_on(teaching, "tested", tested, answers)
    failed_ids = {attempt.task_id for attempt in attempts if not attempt.result.passed}
    failed = [task for task in answered if task.task_id in failed_ids]
    requests = [
        Request(
            task_id=task.task_id,
            prompt=teaching.modular.to_regenerate(task.prompt, task.reference, task.program(task.reference)),
        )
        for task in failed
    ]
    regenerated = _responses(teaching, "regenerated", "regenerated", failed, requests, sampling)
    return {**direct_answers, **regenerated}


def best_of(
    teaching: Teaching,
    tasks: Sequence[Task],
    direct_answers: Mapping[str, Response],
    samples: int,
    token_budget: float | None,
    agreement: AgreementConfig,
) -> dict[str, Response]:
    """Of several answers to each task, the first in the largest group that agrees (``agreement.vote``).

    ``samples`` answers are sampled besides the direct one. With ``token_budget``, sampling continues, one
    answer per task at a time, until the teacher has generated that many tokens per task, counting direct
    answers and the calls that the vote uses.
    """
    candidates = {
        task_id: ["" if answer.cut else answer.completion] for task_id, answer in direct_answers.items()
    }
    by_id = {task.task_id: task for task in tasks}
    answered = _answered(tasks, direct_answers)
    ask_calls(teaching, "votes-calls", answered, agreement.calls)  # first: its tokens count in the budget
    number = 0
    while number < samples or (token_budget is not None and teaching.tokens < token_budget * len(tasks)):
        number += 1
        requests = [
            Request(task_id=task.task_id, prompt=teaching.prompts.to_solve(task), sample=number)
            for task in tasks
        ]
        for answer in teaching.ask_for_code(f"samples-{number}", requests, agreement.sampling):
            completion = read(answer, teaching.prompts, by_id[answer.task_id], teaching.stop)
            candidates[answer.task_id].append(completion.text if answer.is_whole else "")
    groups = vote(teaching, "votes", answered, candidates, agreement.calls)
    return {
        task_id: Response(task_id=task_id, completion=candidates[task_id][group.members[0]], how="voted")
        if (group := groups.get(task_id)) is not None
        else direct_answers[task_id].model_copy(update={"why": "no answer passes a test"})
        for task_id in candidates
    }


def _answered(tasks: Sequence[Task], answers: Mapping[str, Response]) -> list[Task]:
    """The tasks with their answers as references."""
    return [task.model_copy(update={"reference": answers[task.task_id].completion}) for task in tasks]


def _responses(
    teaching: Teaching,
    stage: str,
    how: How,
    tasks: Sequence[Task],
    requests: Sequence[Request],
    sampling: SamplingConfig,
) -> dict[str, Response]:
    answers = teaching.ask_for_code(stage, requests, sampling)
    return {
        task.task_id: Response(
            task_id=task.task_id,
            completion=teaching.prompts.read(answer.text, task, teaching.stop),
            how=how,
            cut=not answer.is_whole,
        )
        for task, answer in zip(tasks, answers, strict=True)
    }
