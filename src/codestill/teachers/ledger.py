"""What a teacher cost: calls, tokens, money, retries; and budgets that are kept, not only noticed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from codestill.errors import BudgetError
from codestill.serialize import append_jsonl, cut_torn_line, read_jsonl
from codestill.types import Call, Settings

_MILLION = 1_000_000


class Prices(Settings):
    """Money per million tokens, in whatever currency the budget is in."""

    prompt: NonNegativeFloat
    """Per million tokens read."""
    completion: NonNegativeFloat
    """Per million tokens written."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Of one call."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / _MILLION


class Budget(Settings):
    """Limits of a run, over all its resumes; a call that could pass one is not made."""

    calls: PositiveInt | None = None
    """Answers."""
    tokens: PositiveInt | None = None
    """Tokens read and written."""
    money: PositiveFloat | None = None
    """Needs prices."""


@dataclass
class Totals:
    """Sums over calls."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0

    def add(self, calls: int, tokens: int, money: float) -> None:
        """Count more, or, with negative numbers, less."""
        self.calls, self.tokens, self.money = self.calls + calls, self.tokens + tokens, self.money + money


@dataclass
class Ledger:
    """The calls of a run, one line each in a file that outlives kills."""

    path: Path
    budget: Budget = field(default_factory=Budget)
    tell: Callable[[Call, Totals], None] = lambda call, spent: None
    """Called after each call, with what is spent by then."""
    spent: Totals = field(default_factory=Totals)
    promised: Totals = field(default_factory=Totals)

    def __post_init__(self) -> None:
        """Raises RunError where the file holds something else."""
        cut_torn_line(self.path)
        if self.path.exists():
            for call in read_jsonl(self.path, Call):
                self._count(call)

    def promise(self, tokens: int, money: float | None) -> None:
        """Set aside what a call may cost at most. Raises BudgetError where that could pass the budget."""
        if self.budget.money is not None and money is None:
            raise BudgetError(
                "the budget is in money, and the teacher's prices are unknown.",
                next_step="Set teacher.prices, or a budget in calls or tokens.",
            )
        for name, more in (("calls", 1), ("tokens", tokens), ("money", money or 0.0)):
            limit = getattr(self.budget, name)
            known = getattr(self.spent, name) + getattr(self.promised, name)
            if limit is not None and known + more > limit:
                raise BudgetError(
                    f"the budget of {limit:,} {name} does not allow another call: {known:,.6g} are spent or "
                    f"under way, and it could take {more:,.6g}.",
                    next_step="Everything answered is kept. Raise the budget, and run the command again.",
                )
        self.promised.add(1, tokens, money or 0.0)

    def release(self, tokens: int, money: float | None) -> None:
        """Take back a promise, once its call has ended in whatever way."""
        self.promised.add(-1, -tokens, -(money or 0.0))

    def record(self, call: Call) -> None:
        """Write a call down, and count it."""
        append_jsonl(self.path, [call])
        self._count(call)
        self.tell(call, self.spent)

    def _count(self, call: Call) -> None:
        self.spent.add(1, call.prompt_tokens + call.completion_tokens, call.cost or 0.0)
