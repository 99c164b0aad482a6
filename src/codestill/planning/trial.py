"""One trial run of a job in a process of its own, and what each of its stages took:
``python -m codestill.planning.trial RECIPE DIRECTORY RESULT``, which reads its config from standard input.
"""

import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from codestill.errors import CodestillError, Failure
from codestill.evaluation import evaluate_model
from codestill.files.serialize import read_record, write_object
from codestill.files.usage import Used, read_usage
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.types import Event, Record

EVALUATION = "evaluate"
"""In a recipe's place: a model is evaluated as it stands."""
REST = "after the last stage"
"""Named as a stage: what a run does at its end."""


class Lap(Record):
    """What a stage took."""

    stage: str
    items: int
    """Tasks, answers, programs or training steps."""
    tokens: int
    """That were trained on; 0 for other stages."""
    seconds: float


class Trial(Record):
    """What a trial run took."""

    laps: tuple[Lap, ...]
    used: Used


class Clock:
    """An observer that divides a run's time among its stages: what passes before an event is its stage's."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.items: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if event.kind != "progress" or not event.total:
            return
        self._pass(event.stage)
        self.items[event.stage] = event.total
        self.tokens[event.stage] = int(event.metrics.get("trained_tokens") or 0)

    def _pass(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.last = now

    def laps(self) -> tuple[Lap, ...]:
        """Every stage in its order, and the time after the last one."""
        self._pass(REST)
        return tuple(
            Lap(
                stage=stage,
                items=self.items.get(stage, 1),
                tokens=self.tokens.get(stage, 0),
                seconds=seconds,
            )
            for stage, seconds in self.seconds.items()
        )


def try_out(recipe: str, config: Any, directory: Path) -> Trial:
    """Run a recipe (or EVALUATION) with a config in a fresh process and an empty directory. Raises Failure,
    with its last words, where it fails."""
    result = directory.with_suffix(".trial.json")
    command = [sys.executable, "-m", "codestill.planning.trial", recipe, str(directory), str(result)]
    # Pickled, as an address written as text has lost its credentials; and piped, so that no file has them.
    outcome = subprocess.run(command, input=pickle.dumps(config), capture_output=True, check=False)
    if outcome.returncode:
        said = outcome.stderr.decode(errors="replace").strip().splitlines()
        raise Failure(
            f"a trial run on few tasks failed: {said[-1] if said else f'exit code {outcome.returncode}'}",
            next_step="Correct the settings; or, where the tasks were too few, measure on more.",
        )
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
    write_object(Path(result), Trial(laps=clock.laps(), used=used))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CodestillError as error:
        sys.exit(f"{error.message} {error.next_step}")
