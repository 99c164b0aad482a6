"""One trial run of a job in a process of its own, and what each of its stages took:
``python -m codestill.planning.trial RECIPE DIRECTORY RESULT``, which reads its config from standard input.
"""

import pickle
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from codestill.errors import CodestillError, Failure, TaskError
from codestill.evaluation import evaluate_model
from codestill.files.run_files import read_ledger
from codestill.files.serialize import read_record, write_object
from codestill.files.usage import Used, forget_peak, peak_bytes, read_usage
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.types import Call, Event, Record

EVALUATION = "evaluate"
"""In a recipe's place: a model is evaluated as it stands."""
_TOO_FEW = 3
"""Exit code of a trial whose tasks led to nothing."""
REST = "after the last stage"
"""Named as a stage: what a run does at its end."""


class Lap(Record):
    """What a stage took."""

    stage: str
    items: int = 1
    """Tasks, answers, programs or training steps."""
    seconds: float = 0.0
    start: float = 0.0
    """Of them, seconds before its first item was begun: models are loaded then."""
    peak_bytes: int = 0
    """The most memory that the process held in it; where that cannot be told apart, held so far."""
    base_bytes: int = 0
    """What it held when the first item was begun."""
    tokens: int = 0
    """That were trained on; 0 for other stages."""
    rate: float = 0.0
    """Of these tokens, so many a second in the steps themselves."""
    calls: int = 0
    """Of a teacher or judge."""
    call_tokens: int = 0
    """Tokens that these read and wrote."""
    money: float | None = 0.0
    """What they cost; None where that is not known."""


class Trial(Record):
    """What a trial run took."""

    laps: tuple[Lap, ...]
    used: Used


class Clock:
    """An observer that divides a run's time among its stages: what passes before an event is its stage's."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.stages: dict[str, Lap] = {}

    def __call__(self, event: Event) -> None:
        if event.kind != "progress" or not event.total:
            return
        first = event.stage not in self.stages
        lap = self._pass(event.stage)
        self.stages[event.stage] = lap.model_copy(
            update={
                "items": event.total,
                "start": lap.seconds if first and not event.done else lap.start,
                "base_bytes": peak_bytes() if first else lap.base_bytes,
                "tokens": int(event.metrics.get("trained_tokens") or 0),
                "rate": float(event.metrics.get("tokens_per_second") or 0),
            }
        )

    def _pass(self, stage: str) -> Lap:
        """The stage's lap with the time since the last event."""
        now, held = time.monotonic(), peak_bytes()
        forget_peak()
        lap = self.stages.get(stage, Lap(stage=stage))
        passed = lap.seconds + now - self.last
        self.last = now
        self.stages[stage] = lap.model_copy(
            update={"seconds": passed, "peak_bytes": max(held, lap.peak_bytes)}
        )
        return self.stages[stage]

    def laps(self) -> tuple[Lap, ...]:
        """Every stage in its order, and the time after the last one."""
        self._pass(REST)
        return tuple(self.stages.values())


class TooFew(Failure):
    """A trial came to nothing that may come to something with more tasks."""


def try_out(recipe: str, config: Any, directory: Path) -> Trial:
    """Run a recipe (or EVALUATION) with a config in a fresh process and an empty directory. Raises Failure,
    with its last words, where it fails; TooFew where its tasks may be the reason."""
    result = directory.with_suffix(".trial.json")
    command = [sys.executable, "-m", "codestill.planning.trial", recipe, str(directory), str(result)]
    # Pickled, as an address written as text has lost its credentials; and piped, so that no file has them.
    outcome = subprocess.run(command, input=pickle.dumps(config), capture_output=True, check=False)
    if outcome.returncode:
        said = outcome.stderr.decode(errors="replace").strip().splitlines()
        last = said[-1] if said else f"exit code {outcome.returncode}"
        kind = TooFew if outcome.returncode == _TOO_FEW else Failure
        raise kind(f"a trial run on few tasks failed: {last}", next_step="Correct the settings.")
    return read_record(result, Trial, "Plan again.")


def main(recipe: str, directory: str, result: str) -> None:
    """Run it and write what it took."""
    clock = Clock()
    if recipe != EVALUATION:
        load_recipe(recipe)  # the config's class may be its own
    settings: Any = pickle.load(sys.stdin.buffer)
    settings.execution.prepare()
    with Run.open(Path(directory), settings, [clock]) as run:
        if recipe == EVALUATION:
            evaluate_model(settings, run)
        else:
            load_recipe(recipe).distill(settings, run)
    used = read_usage(Path(directory))
    assert used is not None, "it has ended by itself"
    write_object(Path(result), Trial(laps=with_calls(clock.laps(), Path(directory)), used=used))


def with_calls(laps: tuple[Lap, ...], directory: Path) -> tuple[Lap, ...]:
    """The laps, each with its calls in the run's ledger; stages that nothing else was heard of come last."""
    asked: dict[str, list[Call]] = {}
    for ledger in directory.rglob("ledger.jsonl"):
        for call in read_ledger(ledger):
            asked.setdefault(call.stage, []).append(call)
    known = {lap.stage for lap in laps}
    others = [
        Lap(stage=stage, items=len(calls)) for stage, calls in sorted(asked.items()) if stage not in known
    ]
    return tuple(_with(lap, asked.get(lap.stage, [])) for lap in (*laps, *others))


def _with(lap: Lap, calls: list[Call]) -> Lap:
    costs = [call.cost for call in calls]
    return lap.model_copy(
        update={
            "calls": len(calls),
            "call_tokens": sum(call.prompt_tokens + call.completion_tokens for call in calls),
            "money": None if None in costs else sum(cost or 0.0 for cost in costs),
        }
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CodestillError as error:
        # Without what names the trial's directory, which is gone when this is read.
        steps = [step for step in re.split(r"(?<=\.) ", error.next_step) if sys.argv[2] not in step]
        print(" ".join([error.message, *steps]), file=sys.stderr)
        sys.exit(_TOO_FEW if isinstance(error, TaskError) else 1)
