"""A run's teacher: every answer kept, counted in the ledger, and within the budget."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from codestill.errors import BudgetError
from codestill.models.settings import Device, SamplingConfig
from codestill.run import Run
from codestill.teachers.base import Teacher
from codestill.teachers.endpoint import ApiTeacherConfig
from codestill.teachers.ledger import Budget, Ledger, Totals
from codestill.teachers.local import LocalTeacherConfig
from codestill.teachers.replay import Identified, Replay, Replayed
from codestill.types import Call, Completion, Request, Settings


def _tagged(value: Any) -> Any:
    if isinstance(value, str):
        return {"type": "local", "model": value}
    return {"type": "local", **value} if isinstance(value, dict) else value


AnyTeacherConfig = Annotated[
    LocalTeacherConfig | ApiTeacherConfig, Field(discriminator="type"), BeforeValidator(_tagged)
]
"""Weights on this machine, or an endpoint; a plain string names weights."""


class TeachingConfig(Settings):
    """What is kept of a teacher's answers, and what they may cost."""

    replay: Replay = "record"
    """``record``: an answer that is kept is not asked for again. ``only``: nothing is asked at all."""
    answers: Path | None = None
    """Directory of the answers, which several runs may share (default: the run's own)."""
    budget: Budget = Budget()
    """Where the run stops, with everything kept."""


@dataclass
class Counted:
    """A local teacher whose answers stand in the ledger, as those of an endpoint do."""

    teacher: Identified
    ledger: Ledger
    stage: str
    tokens_of: Callable[[str], int]

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def identity(self) -> dict[str, Any]:
        return self.teacher.identity

    def complete(
        self,
        requests: Iterable[Request],
        sampling: SamplingConfig,
        stopped: Callable[[str], bool] | None = None,
        seed: int = 0,
    ) -> Iterator[Completion]:
        """Yield the teacher's answers. Where the budget allows some of the requests, these are answered
        before BudgetError is raised."""
        waiting = list(requests)
        while waiting:
            granted: list[tuple[Request, int]] = []
            refused: BudgetError | None = None
            for request in waiting:
                most = self.tokens_of(request.prompt) + sampling.max_new_tokens
                try:
                    self.ledger.promise(most, 0.0)
                except BudgetError as error:
                    refused = error
                    break
                granted.append((request, most))
            if refused is not None and not granted:
                raise refused
            waiting = waiting[len(granted) :]
            yield from self._granted(granted, sampling, stopped, seed)

    def _granted(
        self,
        granted: list[tuple[Request, int]],
        sampling: SamplingConfig,
        stopped: Callable[[str], bool] | None,
        seed: int,
    ) -> Iterator[Completion]:
        most = {request.key: (request, tokens) for request, tokens in granted}
        started = time.monotonic()
        try:
            asked = [request for request, _ in granted]
            for answer in self.teacher.complete(asked, sampling, stopped, seed):
                request, tokens = most.pop(answer.key)
                self.ledger.release(tokens, 0.0)
                self.ledger.record(
                    Call(
                        key=answer.key,
                        stage=self.stage,
                        model=self.name,
                        prompt_tokens=self.tokens_of(request.prompt),
                        completion_tokens=answer.tokens,
                        cost=0.0,
                        seconds=round(time.monotonic() - started, 3),
                    )
                )
                yield answer
        finally:
            for _, tokens in most.values():
                self.ledger.release(tokens, 0.0)


@dataclass
class Desk:
    """A teacher at work for one run."""

    teacher: Any
    """As it was built, with logits where it has them."""
    ledger: Ledger
    config: TeachingConfig
    answers: Path

    @property
    def name(self) -> str:
        return self.teacher.name

    def at(self, stage: str) -> Teacher:
        """The teacher for one stage, under whose name its calls are counted."""
        from codestill.teachers.endpoint import ApiTeacher

        if isinstance(self.teacher, ApiTeacher):
            counted: Identified = replace(self.teacher, ledger=self.ledger, stage=stage)
        else:
            tokenizer = self.teacher.tokenizer
            counted = Counted(self.teacher, self.ledger, stage, lambda text: len(tokenizer.encode(text)))
        return Replayed(counted, self.answers, self.config.replay)


def open_desk(
    config: LocalTeacherConfig | ApiTeacherConfig, teaching: TeachingConfig, device: Device, run: Run
) -> Desk:
    """Build the teacher. Raises ModelError or ConfigError where that is impossible, before any call."""
    ledger = Ledger(run.ledger_path, teaching.budget, partial(_show, run))
    return Desk(config.build(device), ledger, teaching, teaching.answers or run.directory / "answers")


def _show(run: Run, call: Call, spent: Totals) -> None:
    """Tell the observers what was spent so far."""
    spending = {"teacher_calls": spent.calls, "teacher_tokens": spent.tokens, "teacher_money": spent.money}
    run.progress(call.stage, 0, 0, **spending)
