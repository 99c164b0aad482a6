"""Cost of a teacher in calls, tokens and money, and budgets that are enforced before each call."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from codestill.errors import BudgetError
from codestill.files.run_files import read_ledger
from codestill.files.serialize import append_jsonl, cut_torn_line, read_record, sealed, write_atomic
from codestill.types import Call, Record, Settings

_MILLION = 1_000_000


class Prices(Settings):
    """Prices per million tokens, in the currency of the budget."""

    prompt: NonNegativeFloat
    """Per million prompt tokens."""
    completion: NonNegativeFloat
    """Per million completion tokens."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of one call."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / _MILLION


class Budget(Settings):
    """Limits of a run, over all its resumes; a call that could exceed one is not made."""

    calls: PositiveInt | None = None
    """Number of answered calls."""
    tokens: PositiveInt | None = None
    """Number of prompt and completion tokens."""
    money: PositiveFloat | None = None
    """Cost; needs prices."""


@dataclass
class Totals:
    """Sums over calls."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0

    def add(self, calls: int, tokens: int, money: float) -> None:
        """Add to the sums; negative numbers subtract."""
        self.calls, self.tokens, self.money = self.calls + calls, self.tokens + tokens, self.money + money


@dataclass(frozen=True)
class AnswerFile:
    """The file that keeps an answer."""

    path: Path
    content: str


class _UnderWay(Record):
    """A call that is being entered: what a killed process leaves, and the next start completes."""

    call: Call
    ledger_bytes: int
    """Size of the ledger without the call."""
    answer: str
    """Path of the answer's file, relative to the ledger's directory."""
    content: str


@dataclass
class Ledger:
    """The calls of a run, one line each in a file that survives a killed process.

    A call and the file of its answer are entered together: first both are written into a file of their own,
    from which the next start completes what a killed process left undone.
    """

    path: Path
    budget: Budget = field(default_factory=Budget)
    tell: Callable[[Call, Totals], None] = lambda call, spent: None
    """Callback after each call, with the totals so far."""
    spent: Totals = field(default_factory=Totals)
    promised: Totals = field(default_factory=Totals)

    def __post_init__(self) -> None:
        """Read the file of an earlier start, and complete it. Raises RunError if it is no ledger."""
        self._entering = threading.Lock()
        cut_torn_line(self.path)
        self._recover()
        if self.path.exists():
            for call in read_ledger(self.path):
                self._count(call)

    def promise(self, tokens: int, money: float | None) -> None:
        """Reserve the upper bound of a call's cost. Raises BudgetError if it could exceed the budget."""
        if self.budget.money is not None and money is None:
            raise BudgetError(
                "the budget is in money, but the teacher's prices are unknown.",
                next_step="Set teacher.prices, or a budget in calls or tokens.",
            )
        for name, more in (("calls", 1), ("tokens", tokens), ("money", money or 0.0)):
            limit = getattr(self.budget, name)
            committed = getattr(self.spent, name) + getattr(self.promised, name)
            if limit is not None and committed + more > limit:
                raise BudgetError(
                    f"the budget of {limit:,} {name} does not allow another call: {committed:,.6g} are spent "
                    f"or reserved, and it could take {more:,.6g}.",
                    next_step="All answers so far are kept. Raise the budget, and run the command again.",
                )
        self.promised.add(1, tokens, money or 0.0)

    def release(self, tokens: int, money: float | None) -> None:
        """Release a reservation once its call has succeeded or failed."""
        self.promised.add(-1, -tokens, -(money or 0.0))

    def record(self, call: Call, answer: AnswerFile | None = None) -> None:
        """Append a call to the file, write the answer's file, and count the call."""
        with self._entering:
            if answer is not None:
                relative = os.path.relpath(answer.path, self.path.parent)
                under_way = _UnderWay(
                    call=call, ledger_bytes=self._bytes, answer=relative, content=answer.content
                )
                write_atomic(self._under_way_path, sealed(under_way))
                write_atomic(answer.path, answer.content)
            append_jsonl(self.path, [call])
            self._under_way_path.unlink(missing_ok=True)
            self._count(call)
        self.tell(call, self.spent)

    @property
    def _under_way_path(self) -> Path:
        return self.path.with_suffix(".entering.json")

    @property
    def _bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _recover(self) -> None:
        path = self._under_way_path
        if not path.exists():
            return
        entry = read_record(path, _UnderWay, "Delete the file: at most one answer is lost.")
        answer = Path(os.path.normpath(self.path.parent / entry.answer))
        if not answer.exists():
            write_atomic(answer, entry.content)
        if self._bytes <= entry.ledger_bytes:
            append_jsonl(self.path, [entry.call])
        path.unlink()

    def _count(self, call: Call) -> None:
        self.spent.add(1, call.prompt_tokens + call.completion_tokens, call.cost or 0.0)
