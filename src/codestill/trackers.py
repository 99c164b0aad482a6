"""Observers of a run's events: TensorBoard, Weights & Biases, or a class of the user's own."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator

from codestill.errors import ConfigError
from codestill.plugins import is_plugin, load_plugin, suggestion
from codestill.run import Observer, slug
from codestill.terminal import printable
from codestill.types import Event

if TYPE_CHECKING:
    import wandb

PROJECT = "codestill"
"""In W&B."""


class TensorBoard:
    """Scalars as ``stage/name`` in ``<run>/tensorboard``."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", "track") from error
        self.writer_type, self.directory = SummaryWriter, directory / "tensorboard"
        self.writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        if event.kind != "metrics":
            return
        if self.writer is None:  # not earlier: it creates the directory, which the run must find empty
            self.writer = self.writer_type(str(self.directory))
        for name, value in _numbers(event).items():
            self.writer.add_scalar(name, value, event.step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class WeightsAndBiases:
    """Metrics as ``stage/name`` over ``stage/step`` in a W&B run; ``WANDB_MODE=offline`` needs no account.

    Every command that continues a run starts another W&B run of the same name. The runs of a comparison, an
    arm and a seed each, are a group.
    """

    def __init__(self, directory: Path, config: dict[str, Any], group: Path | None = None) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb", "wandb") from error
        self.wandb, self.directory, self.config, self.group = wandb, directory, config, group
        self.run: wandb.Run | None = None
        self.stages: set[str] = set()

    def __call__(self, event: Event) -> None:
        if event.kind != "metrics":
            return
        run = self.run or self._start()
        step = {} if event.step is None else {f"{event.stage}/step": event.step}
        if step and event.stage not in self.stages:
            self.stages.add(event.stage)
            run.define_metric(f"{event.stage}/*", step_metric=f"{event.stage}/step")
        run.log({**_numbers(event), **step})

    def _start(self) -> "wandb.Run":
        name = self.directory.relative_to(self.group).as_posix() if self.group else self.directory.name
        run = self.wandb.init(
            project=PROJECT,
            name=name,
            group=self.group.name if self.group else None,
            dir=str(self.directory),
            config=self.config,
        )
        self.run = run
        return run

    def close(self) -> None:
        if self.run is not None:
            self.run.finish()


def publish_report(names: Sequence["TrackerName"], page: Path, group: Path) -> None:
    """Give the report on a run or comparison to the trackers that keep files: in W&B an artefact of a run of
    its own, in the group of that name. One that fails is named on standard error."""
    if "wandb" not in names:
        return
    try:
        import wandb

        with wandb.init(
            project=PROJECT, name="report", group=group.name, job_type="report", dir=str(group)
        ) as run:
            artifact = wandb.Artifact(slug(f"report-{group.name}"), type="report")
            artifact.add_file(str(page))
            run.log_artifact(artifact)
    except Exception as error:  # a tracker must not fail a finished run
        print(printable(f"wandb did not take the report: {error}"), file=sys.stderr)


Opener = Callable[[Path, dict[str, Any]], Observer]
"""Makes an observer, given the run's directory and its config as plain data. It gets every :class:`Event`;
``close()``, where it has that method, is called at the end of the command."""

TRACKERS: Mapping[str, Opener] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
"""The trackers that have a name; any other is a class of the user's own, ``module:Class``."""


def _known_tracker(name: str) -> str:
    """Raises ValueError for a name that stands for nothing, ConfigError for a class that is no tracker."""
    _opener(name)
    return name


if TYPE_CHECKING:
    TrackerName = str
else:
    # The Literal is for --help, which lists its choices.
    TrackerName = Annotated[Literal[tuple(TRACKERS)] | str, AfterValidator(_known_tracker)]


def open_trackers(
    names: Sequence[TrackerName], directory: Path, config: dict[str, Any], group: Path | None = None
) -> list[Observer]:
    """The observers that a run's config names, in that order; ``group`` is the directory of the comparison
    that the run belongs to.

    Raises ConfigError where a package is not installed, or a class of the user's own is missing or raises.
    """
    return [_open(name, directory, config, group) for name in names]


def _open(name: TrackerName, directory: Path, config: dict[str, Any], group: Path | None) -> Observer:
    try:
        grouped = partial(WeightsAndBiases, group=group) if name == "wandb" else _opener(name)
        tracker = grouped(directory, config)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the tracker {name} cannot be opened: {type(error).__name__}: {error}",
            next_step="Correct what it needs, or drop it from execution.trackers.",
        ) from error
    if not callable(tracker):
        raise _not_a_tracker(name, f"a {type(tracker).__name__} cannot be called with an event")
    return tracker


def _opener(name: str) -> Opener:
    if name in TRACKERS:
        return TRACKERS[name]
    known = f"known are {' and '.join(TRACKERS)}, or module:Class of your own"
    if not is_plugin(name):
        raise ValueError(f"no tracker {name!r}. {suggestion(name, TRACKERS, '')} {known}".replace("  ", " "))
    opener: Any = load_plugin(name, "tracker")
    _require_opener(name, opener)
    return opener


def _require_opener(name: str, opener: object) -> None:
    """Raises ConfigError for what cannot make an observer, as far as can be seen without calling it."""
    if not callable(opener):
        raise _not_a_tracker(name, "it is neither a class nor a function")
    try:
        inspect.signature(opener).bind(Path(), {})
    except TypeError as error:
        raise _not_a_tracker(name, f"it does not take (directory, config): {error}") from error
    except ValueError:  # compiled code may have no signature: the call will tell
        return
    if isinstance(opener, type) and not any("__call__" in vars(base) for base in opener.__mro__):
        raise _not_a_tracker(name, "its instances cannot be called: it has no __call__(event)")


def _not_a_tracker(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{name} is not a tracker: {reason}.",
        next_step="A tracker is a class with __init__(directory, config) and __call__(event); close() is "
        "optional. docs/extending.md has an example.",
    )


def close_trackers(observers: list[Observer]) -> None:
    """Close every observer that can be closed; one that fails is named on standard error."""
    for observer in observers:
        close = getattr(observer, "close", None)
        if close:
            try:
                close()
            except Exception as error:  # a tracker must not fail a finished run
                name = type(observer).__name__
                print(printable(f"{name} could not be closed: {error}"), file=sys.stderr)


def _numbers(event: Event) -> dict[str, float]:
    return {
        f"{event.stage}/{name}": float(value)
        for name, value in event.metrics.items()
        if isinstance(value, int | float)
    }


def _missing(package: str, extra: str) -> ConfigError:
    return ConfigError(
        f"the tracker {package} is not installed.",
        next_step=f"Install it with: pip install 'codestill[{extra}]', or drop it from execution.trackers.",
    )
