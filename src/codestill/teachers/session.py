"""A run's teacher: every answer kept, counted in the ledger, and within the budget."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from codestill.errors import BudgetError, ConfigError
from codestill.files.serialize import sweep
from codestill.models.completer import Completer, Decoding
from codestill.models.settings import Placement
from codestill.run import Run
from codestill.teachers.base import LogitTeacher
from codestill.teachers.endpoint import ApiTeacherConfig
from codestill.teachers.ledger import Budget, Ledger, Totals
from codestill.teachers.local import LocalTeacherConfig
from codestill.teachers.replay import AnswerFiles, Identified, Keeping, Probe, Replay, Replayed
from codestill.types import Call, ChatForm, Completion, Request, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def _tagged(value: Any) -> Any:
    if isinstance(value, str):
        return {"type": "local", "model": value}
    return {"type": "local", **value} if isinstance(value, dict) else value


AnyTeacherConfig = Annotated[
    LocalTeacherConfig | ApiTeacherConfig, Field(discriminator="type"), BeforeValidator(_tagged)
]
"""Weights on this machine, or an endpoint; a plain string names weights."""


class TeacherUsage(Settings):
    """What a run keeps of its teacher's answers, and what they may cost."""

    replay: Replay = "record"
    """``record``: no request is sent twice. ``only``: none is sent; every answer must be kept already."""
    answers: Path | None = None
    """Directory of kept answers, which runs may share (default: the run's own)."""
    budget: Budget = Budget()
    """Limits at which the run stops, with everything kept."""


@dataclass
class Counted:
    """A local teacher whose calls are entered in the ledger, as an endpoint's are."""

    teacher: Identified
    ledger: Ledger
    stage: str
    tokens_of: Callable[[str], int]

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def form(self) -> ChatForm | None:
        return self.teacher.form

    @property
    def identity(self) -> dict[str, Any]:
        return self.teacher.identity

    @property
    def probe(self) -> Probe | None:
        """None: nothing about weights needs to be found out."""
        return None

    def ask_probe(self, files: AnswerFiles) -> None:
        """Nothing."""

    def complete(
        self, requests: Iterable[Request], decoding: Decoding, files: AnswerFiles | None = None
    ) -> Iterator[Completion]:
        """Yield the teacher's answers. Where the budget allows some of the requests, these are answered
        before BudgetError is raised."""
        waiting = list(requests)
        while waiting:
            granted: list[tuple[Request, int]] = []
            refused: BudgetError | None = None
            for request in waiting:
                most = self.tokens_of(request.prompt) + decoding.sampling.max_new_tokens
                try:
                    self.ledger.promise(most, 0.0)
                except BudgetError as error:
                    refused = error
                    break
                granted.append((request, most))
            if refused is not None and not granted:
                raise refused
            waiting = waiting[len(granted) :]
            yield from self._granted(granted, decoding, files)

    def _granted(
        self, granted: list[tuple[Request, int]], decoding: Decoding, files: AnswerFiles | None
    ) -> Iterator[Completion]:
        most = {request.key: (request, tokens) for request, tokens in granted}
        started = time.monotonic()
        try:
            asked = [request for request, _ in granted]
            for answer in self.teacher.complete(asked, decoding):
                request, tokens = most.pop(answer.key)
                self.ledger.release(tokens, 0.0)
                was_read = answer.finish != "prompt_too_long"
                self.ledger.record(
                    Call(
                        key=answer.key,
                        stage=self.stage,
                        model=self.name,
                        prompt_tokens=self.tokens_of(request.prompt) if was_read else 0,
                        completion_tokens=answer.tokens,
                        cost=0.0,
                        finish=answer.finish,
                        seconds=round(time.monotonic() - started, 3),
                    ),
                    files(answer) if files else None,
                )
                yield answer
        finally:
            for _, tokens in most.values():
                self.ledger.release(tokens, 0.0)


@dataclass(frozen=True)
class TeacherSession:
    """A teacher during one run: what it may cost, and where its answers are kept."""

    teacher: Identified
    ledger: Ledger
    usage: TeacherUsage
    answers: Path
    """Directory of the kept answers."""
    tell: Callable[[str, str], None]
    """Called with a stage and what a reader of the run should know about its answers."""

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def form(self) -> ChatForm | None:
        """The chat template in which the teacher is asked; None where it continues text."""
        return self.teacher.form

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase | None":
        """A local teacher's tokenizer, which presets take; None for an endpoint."""
        return getattr(self.teacher, "tokenizer", None)

    @property
    def logits(self) -> LogitTeacher:
        """The teacher, for an objective that needs its logits. Raises ConfigError for an endpoint."""
        if isinstance(self.teacher, LogitTeacher):
            return self.teacher
        raise ConfigError(
            f"{self.name} is a text-only endpoint: it gives no logits.",
            next_step="Use a local teacher, or the objective cross_entropy.",
        )

    def stage(self, name: str) -> Completer:
        """The teacher for one stage, under whose name its calls are counted."""
        from codestill.teachers.endpoint import ApiTeacher
        from codestill.teachers.frozen import LocalTeacher

        if isinstance(self.teacher, ApiTeacher):
            counted: Keeping = replace(self.teacher, ledger=self.ledger, stage=name, tell=self.tell)
        else:
            assert isinstance(self.teacher, LocalTeacher), "weights, or else an endpoint"
            counted = Counted(
                self.teacher, self.ledger, name, partial(_count_tokens, self.teacher.codec.prompt)
            )
        return Replayed(counted, self.answers, self.usage.replay)


def open_session(
    config: AnyTeacherConfig, usage: TeacherUsage, placement: Placement, run: Run
) -> TeacherSession:
    """Build the teacher. Raises ModelError or ConfigError where that is impossible, before any call."""
    return session_of(config.build(placement), usage, run)


def session_of(teacher: Identified, usage: TeacherUsage, run: Run) -> TeacherSession:
    """A teacher that is built already, during one run. Raises RunError where the run's ledger is damaged."""
    ledger = Ledger(run.ledger_path, usage.budget, partial(_show, run))
    answers = usage.answers or run.answers_directory
    sweep(answers)
    return TeacherSession(teacher, ledger, usage, answers, run.message)


def _count_tokens(encode: Callable[[str], list[int]], prompt: str) -> int:
    return len(encode(prompt))


def _show(run: Run, call: Call, spent: Totals) -> None:
    """Tell the observers what was spent so far."""
    spending = {"teacher_calls": spent.calls, "teacher_tokens": spent.tokens, "teacher_money": spent.money}
    run.progress(call.stage, 0, 0, **spending)
