"""Where a round's time goes: the student's attempts, the teacher's answers, its passes in training, training.

Times depend on the machine and on interruptions, so that they are in no file that a resumed run must end with
alike: they are in ``metrics.jsonl``, and of this process alone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from codestill.pace import duration
from codestill.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from codestill.losses.targets import LinearTeacher
    from codestill.teachers import LogitTeacher

Part = Literal["attempts", "answers", "gap", "teacher", "student"]
SAID: dict[Part, str] = {
    "attempts": "the student's attempts and their execution",
    "answers": "the teacher's answers and their execution",
    "gap": "the gap",
    "teacher": "the teacher's logits in training",
    "student": "the student's training",
}
assert set(SAID) == set(get_args(Part))


@dataclass
class Times:
    """Seconds of one round, by what they were spent on."""

    seconds: dict[Part, float] = field(default_factory=lambda: dict.fromkeys(SAID, 0.0))
    now: Callable[[], float] = time.perf_counter

    @contextmanager
    def of(self, part: Part) -> Iterator[None]:
        """Counts what is done meanwhile; where parts are nested, in the inner one alone."""
        before, started = sum(self.seconds.values()), self.now()
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - before
            self.seconds[part] += self.now() - started - inner

    def timed(self, teacher: "LogitTeacher") -> "LogitTeacher":
        """The teacher, whose passes are counted."""
        return cast("LogitTeacher", _Timed(teacher, self))

    def tell(self, run: Run) -> None:
        """Log the seconds, and say them with their shares."""
        whole = sum(self.seconds.values())
        run.log("time", {f"{part}_seconds": round(value, 3) for part, value in self.seconds.items()})
        shares = [
            f"{value / whole:.0%} {SAID[part]}"
            for part, value in sorted(self.seconds.items(), key=lambda item: -item[1])
            if value >= 0.005 * whole > 0
        ]
        run.message("time", f"of {duration(whole)} in this process: {', '.join(shares)}")


@dataclass(frozen=True)
class _Timed:
    """A teacher of logits whose passes are timed, with the device's work finished before and after each."""

    teacher: "LogitTeacher"
    times: Times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.teacher, name)

    def logits(self, tokens_BT: "Tensor", attention_mask_BT: "Tensor") -> "Tensor":
        """As the teacher's."""
        return self._timed(self.teacher.logits, tokens_BT, attention_mask_BT)

    def linear(self, tokens_BT: "Tensor", attention_mask_BT: "Tensor") -> "LinearTeacher | None":
        """As the teacher's."""
        return self._timed(self.teacher.linear, tokens_BT, attention_mask_BT)

    def _timed(self, ask: Callable[..., Any], tokens_BT: "Tensor", attention_mask_BT: "Tensor") -> Any:
        _finish()
        with self.times.of("teacher"):
            found = ask(tokens_BT, attention_mask_BT)
            _finish()
        return found


def _finish() -> None:
    """Wait for what the device has been given: else its time would count where it is waited for next."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
