"""Answers to instructions, by the methods that AMR-Evol is compared with (arXiv:2410.00558, section 3.2).

None of them sees a task's own tests.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

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
    """Of the task's prompt."""
    how: How
    why: str = ""
    """Why it is the direct one, where another was tried."""

    @property
    def key(self) -> str:
        return self.task_id


def direct(teaching: Teaching, tasks: Sequence[Task], sampling: SamplingConfig) -> dict[str, Response]:
    """The teacher's plain answers, by task id."""
    asked = [Request(task_id=task.task_id, prompt=teaching.prompts.to_solve(task)) for task in tasks]
    return _responses(teaching, "direct", "direct", tasks, asked, sampling)


def chain_of_thought(
    teaching: Teaching, tasks: Sequence[Task], sampling: SamplingConfig
) -> dict[str, Response]:
    """Answers after a chain of thought, with one worked example (arXiv:2201.11903)."""
    asked = [Request(task_id=task.task_id, prompt=teaching.modular.to_think(task.prompt)) for task in tasks]
    return _responses(teaching, "thoughts", "chain_of_thought", tasks, asked, sampling)


def answer_repair(
    teaching: Teaching,
    tasks: Sequence[Task],
    given: Mapping[str, Response],
    sampling: SamplingConfig,
    agreement: AgreementConfig,
) -> dict[str, Response]:
    """AnsRepair: the teacher tests its answer, and one that fails is written anew, once, from task and wrong
    answer, without the error. Where it has no test, or all pass, the answer stays."""
    answered = [task.model_copy(update={"reference": given[task.task_id].completion}) for task in tasks]
    tested = teacher_tests(teaching, "tests", answered, agreement)
    answers = [Completion(task_id=task.task_id, sample=0, text=task.reference) for task in tested]
    ran = run_on(teaching, "tested", tested, answers)
    failed = {one.task_id for one in ran if not one.result.passed}
    wrong = [task for task in answered if task.task_id in failed]
    asked = [
        Request(task_id=task.task_id, prompt=teaching.modular.to_regenerate(task.prompt, task.reference))
        for task in wrong
    ]
    return {**given, **_responses(teaching, "regenerated", "regenerated", wrong, asked, sampling)}


def best_of(
    teaching: Teaching,
    tasks: Sequence[Task],
    given: Mapping[str, Response],
    samples: int,
    token_budget: float | None,
    agreement: AgreementConfig,
) -> dict[str, Response]:
    """Of several answers to each task the first of the largest group that agrees (``agreement.vote``).

    ``samples`` answers are sampled besides the direct one; with ``token_budget``, more, one for every task at
    a time, until the teacher has generated that many tokens a task, direct answers and the vote's calls
    included.
    """
    candidates = {task.task_id: [given[task.task_id].completion] for task in tasks}
    known = {task.task_id: task for task in tasks}
    answered = [task.model_copy(update={"reference": given[task.task_id].completion}) for task in tasks]
    ask_calls(teaching, "votes-calls", answered, agreement.calls)  # first: it is part of what is spent
    number = 0
    while number < samples or (token_budget is not None and teaching.tokens < token_budget * len(tasks)):
        number += 1
        asked = [
            Request(task_id=task.task_id, prompt=teaching.prompts.to_solve(task), sample=number)
            for task in tasks
        ]
        drawn = teaching.ask_for_code(f"samples-{number}", asked, agreement.sampling)
        for one in drawn:
            candidates[one.task_id].append(
                read(one, teaching.prompts, known[one.task_id], teaching.stop).text
            )
    found = vote(teaching, "votes", answered, candidates, agreement.calls)
    return {
        task_id: Response(task_id=task_id, completion=candidates[task_id][one.members[0]], how="voted")
        if (one := found.get(task_id)) is not None
        else given[task_id].model_copy(update={"why": "no test is passed"})
        for task_id in candidates
    }


def _responses(
    teaching: Teaching,
    stage: str,
    how: How,
    tasks: Sequence[Task],
    asked: Sequence[Request],
    sampling: SamplingConfig,
) -> dict[str, Response]:
    answers = teaching.ask_for_code(stage, asked, sampling)
    return {
        task.task_id: Response(
            task_id=task.task_id, completion=teaching.prompts.read(one.text, task, teaching.stop), how=how
        )
        for task, one in zip(tasks, answers, strict=True)
    }
