"""Comparisons: arms that differ only in what is compared, on the same tasks, with the same seeds.

Every arm and seed is a separate run below the comparison's directory, so a killed comparison continues where
it stopped. Differences are paired over tasks and seeds.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import Field, PositiveFloat, model_validator

from codestill.config import RunConfig, validated
from codestill.errors import ConfigError, RunError
from codestill.evaluation import EvaluateConfig, EvaluateModel, evaluate_model, read_evaluation
from codestill.evaluation.metrics import interval_over_seeds
from codestill.evaluation.pairs import difference, rates
from codestill.examples import ExamplesConfig
from codestill.files.run_files import read_accounting
from codestill.files.serialize import fingerprint, write_object
from codestill.losses import DivergenceName
from codestill.prompts import fitting
from codestill.recipes import load_recipe
from codestill.run import Observer, Run, slug
from codestill.tasks import TaskSet
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.session import TeacherUsage
from codestill.trackers import close_trackers, open_trackers
from codestill.train import TrainConfig
from codestill.types import Arm, Comparison, Evaluation, Event, Interval, Settings

C = TypeVar("C", bound=RunConfig)
ANSWERS = "kept_answers"
"""Directory of the teachers' answers that a comparison's runs share. No arm's has this name: see ``slug``."""


class PlannedRun(NamedTuple):
    """One run of an arm."""

    name: str
    """Its directory, below the comparison's."""
    recipe: str | None
    """None for a model that is evaluated untrained."""
    config: Any
    """The recipe's, or an EvaluateModel."""


class ArmConfig(Settings):
    """One side of a comparison."""

    name: str = Field(min_length=1)
    """Its name in tables."""
    about: str = ""
    """What it is, in a few words: the report explains the name with them."""
    recipe: str | None = None
    """A recipe's name or file; without one, the arm is an untrained ``model``."""
    model: str | None = None
    """A model to evaluate untrained, such as the teacher."""
    of: str | None = None
    """An earlier arm: this one is another evaluation of its runs."""
    result: str = "student"
    """Which evaluation of a run: also `round-1/student`, or `student-self-repair` where a recipe makes it."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Settings of the recipe, or of the evaluation of a ``model``, such as `dtype`; the others keep their
    defaults, except that the teacher is loaded as the arms that learn from it load it."""

    @model_validator(mode="after")
    def _one_kind(self) -> "ArmConfig":
        if sum(kind is not None for kind in (self.recipe, self.model, self.of)) != 1:
            raise ValueError("an arm has either a recipe or a model, or is `of` another arm")
        if self.of is not None and self.config:
            raise ValueError("an arm `of` another takes that arm's config and has none of its own")
        return self


class CompareConfig(RunConfig):
    """A comparison of recipes on equal terms."""

    title: str
    """The report's title."""
    arms: tuple[ArmConfig, ...] = Field(min_length=1)
    """What is compared, in the order of the tables."""
    seeds: tuple[int, ...] = Field(default=(0, 1), min_length=1)
    """Training seeds; every recipe runs with each."""
    teacher: str | None = None
    """The arm that is the teacher: tables show ratios to it."""
    differences: tuple[tuple[str, str], ...] = ()
    """Pairs of arms ``[a, b]`` for which ``a - b`` is reported."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How every arm is evaluated."""

    @model_validator(mode="after")
    def _arms_exist(self) -> "CompareConfig":
        names = [arm.name for arm in self.arms]
        if len({slug(name) for name in names}) < len(names):
            raise ValueError("two arms share a name")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is named twice")
        for number, arm in enumerate(self.arms):
            trained = [earlier.name for earlier in self.arms[:number] if earlier.recipe is not None]
            if arm.of is not None and arm.of not in trained:
                raise ValueError(
                    f"arm {arm.name!r} is `of` {arm.of!r}, which is no earlier arm with a recipe"
                )
        for name in [*itertools.chain(*self.differences), *([self.teacher] if self.teacher else [])]:
            if name not in names:
                raise ValueError(f"no arm is called {name!r}; there are {', '.join(names)}")
        return self


def compare(config: CompareConfig, directory: Path, observers: Sequence[Observer] = ()) -> Comparison:
    """Run every arm with every seed, and write ``comparison.json``.

    Runs that name no directory for their teacher's answers share one, so that no run asks what another has
    asked.

    Raises ConfigError, before anything runs, when an arm's config is not valid for its recipe.
    """
    runs = plan(config)
    in_order = dict.fromkeys(run.name for arm in config.arms for run in runs[arm.name])
    places = {name: place for place, name in enumerate(in_order, start=1)}
    with Run.open(directory, config, observers) as whole:
        evaluations: dict[str, list[Evaluation]] = {}
        for arm in config.arms:
            for name, recipe, run_config in runs[arm.name]:
                run_config = sharing(run_config, directory / ANSWERS)
                result = arm.result if recipe else run_config.role
                file = directory / name / "results" / f"{result}.json"
                if not file.exists():
                    whole.say(name, f"run {places[name]} of {len(places)}")
                with (
                    _watching(name, run_config, directory, observers) as watching,
                    Run.open(directory / name, run_config, watching) as run,
                ):
                    if recipe is None:
                        evaluate_model(run_config, run)
                    elif not file.exists():
                        load_recipe(recipe).distill(run_config, run)
                # From the file, so that a comparison that is made again is the same.
                evaluations.setdefault(arm.name, []).append(_result(arm, directory / name, file))
        comparison = _conclude(config, directory, runs, evaluations)
        write_object(directory / "comparison.json", comparison, indent=1)
    return comparison


def plan(config: CompareConfig) -> dict[str, list[PlannedRun]]:
    """Every arm's runs, before anything runs. Raises ConfigError when an arm's config is not valid."""
    runs = {arm.name: _trainings(arm, arm.recipe, config) for arm in config.arms if arm.recipe is not None}
    learning = [run.config for of_arm in runs.values() for run in of_arm]
    for arm in config.arms:
        if arm.model is not None:
            runs[arm.name] = [PlannedRun(slug(arm.name), None, _evaluation(arm, arm.model, config, learning))]
        elif arm.of is not None:
            runs[arm.name] = runs[arm.of]
    return runs


def _result(arm: ArmConfig, run: Path, file: Path) -> Evaluation:
    if not file.exists():
        results = run / "results"
        known = sorted(str(other.relative_to(results))[:-5] for other in results.rglob("*.json"))
        raise ConfigError(
            f"arm {arm.name!r} asks for the result {arm.result!r}, but {run} has only {', '.join(known)}.",
            next_step="Name one of these; `student-self-repair` is made where `self_repair` is set.",
        )
    return read_evaluation(file)


@contextmanager
def _watching(
    name: str, run_config: RunConfig, directory: Path, observers: Sequence[Observer]
) -> Iterator[list[Observer]]:
    """The comparison's observers, and trackers of the run's own, in the comparison's group."""
    values = run_config.model_dump(mode="json")
    own = open_trackers(run_config.execution.trackers, directory / name, values, group=directory)
    try:
        yield [*(partial(_tell, observer, name) for observer in observers), *own]
    finally:
        close_trackers(own)


def _tell(observer: Observer, run: str, event: Event) -> None:
    """Pass an event on under its run's name: an observer sees all runs of the comparison."""
    observer(event.model_copy(update={"stage": f"{run}/{event.stage}"}))


def _trainings(arm: ArmConfig, recipe: str, config: CompareConfig) -> list[PlannedRun]:
    """An arm's run with each seed."""
    model = load_recipe(recipe).Config
    runs = []
    for number, seed in enumerate(config.seeds):
        values = {**arm.config, **_shared(config), "seed": seed}
        if number:  # all seeds train the same shape: its speed and size are measured once
            values["evaluate"] = config.evaluate.model_copy(update={"profile": False})
        runs.append(PlannedRun(f"{slug(arm.name)}/seed-{seed}", recipe, _valid(arm, recipe, model, values)))
    return runs


def _evaluation(arm: ArmConfig, model: str, config: CompareConfig, learning: Sequence[Any]) -> EvaluateModel:
    """The config of an arm that is a model as it stands; ``learning`` are the configs of all that train.

    The teacher is loaded as they load it: with another data type it would have another size and speed, and
    another revision would be another model.
    """
    values: dict[str, Any] = {"role": "student"}
    if arm.name == config.teacher:
        values = {"role": "teacher", **_as_it_teaches(arm, model, learning)}
    values |= {**arm.config, **_shared(config), "model": model, "seed": config.seed}
    if arm.name == config.teacher:  # which drafts for nobody
        values["evaluate"] = config.evaluate.model_copy(update={"draft_for": None})
    return _valid(arm, "the evaluation of a model", EvaluateModel, values)


def _as_it_teaches(arm: ArmConfig, model: str, learning: Sequence[Any]) -> dict[str, Any]:
    """The settings of the teacher in the arms that learn from it, as far as its evaluation has them.

    Raises ConfigError when arms differ in one that the teacher's own arm does not set.
    """
    names = LocalTeacherConfig.model_fields.keys() & EvaluateModel.model_fields.keys() - arm.config.keys()
    used = [
        run_config
        for run_config in learning
        if isinstance(teacher := getattr(run_config, "teacher", None), LocalTeacherConfig)
        and teacher.model == model
    ]
    # A recipe that needs no teacher has one by default: those that are named count first.
    used = [run_config for run_config in used if "teacher" in run_config.model_fields_set] or used
    settings = [_asked(run_config).model_dump(mode="json", include=names) for run_config in used]
    for other in settings[1:]:
        for name, value in other.items():
            if value != settings[0][name]:
                raise ConfigError(
                    f"arms learn from {model} with {name} {settings[0][name]} and {value}: "
                    f"which of them is the arm {arm.name!r}?",
                    next_step=f"Say it in that arm, for example `config: {{{name}: {value}}}`.",
                )
    return settings[0] if settings else {}


def _asked(learning: Any) -> LocalTeacherConfig:
    """The teacher of a recipe's config, asked as its prompts suit it."""
    asking = learning if hasattr(learning, "prompts") else getattr(learning, "examples", None)
    return fitting(learning.teacher, getattr(asking, "prompts", "auto"))


def _shared(config: CompareConfig) -> dict[str, Any]:
    """What is the same in every run."""
    return {"evaluate": config.evaluate, "sandbox": config.sandbox, "execution": config.execution}


def sharing(run_config: Any, answers: Path) -> Any:
    """The config of a run that keeps its teacher's answers there, unless it says where it keeps them. Those
    of two endpoints, which may serve other weights by the same name, are kept apart."""
    usage = getattr(run_config, "teacher_usage", None)
    if not isinstance(usage, TeacherUsage) or usage.answers is not None:
        return run_config
    if (url := getattr(run_config.teacher, "base_url", None)) is not None:
        answers /= fingerprint(str(url))
    return run_config.model_copy(update={"teacher_usage": usage.model_copy(update={"answers": answers})})


def _valid(arm: ArmConfig, what: str, model: type[C], values: dict[str, Any]) -> C:
    said = f"arm {arm.name!r} has an invalid config for {what}: "
    return validated(model, values, said, "Correct the arm's config.")


def _conclude(
    config: CompareConfig,
    directory: Path,
    planned: dict[str, list[PlannedRun]],
    evaluations: dict[str, list[Evaluation]],
) -> Comparison:
    first = next(iter(evaluations.values()))[0]
    for name, of_arm in evaluations.items():
        if {evaluation.data_hash for evaluation in of_arm} != {first.data_hash}:
            raise RunError(
                f"arm {name!r} was evaluated on other tasks than {config.arms[0].name!r}: data changed.",
                next_step="Use another run directory, so that all arms are evaluated on the same tasks.",
            )
    levels = _levels(config.evaluate.tasks.load())
    arms = []
    for arm in config.arms:
        of_arm = evaluations[arm.name]
        runs = tuple(run.name for run in planned[arm.name])
        ids = list(of_arm[0].per_task)
        problems = of_arm[0].problems
        over = partial(interval_over_seeds, groups=[problems[task] for task in ids] if problems else None)
        greedy = [[float(e.greedy_per_task[task]) for task in ids if e.greedy_per_task] for e in of_arm]
        bleus = [e.bleu for e in of_arm if e.bleu is not None]
        arms.append(
            Arm(
                name=arm.name,
                about=arm.about,
                runs=runs,
                result=arm.result,
                pass_at={k: over([rates(e, k, ids) for e in of_arm]) for k in of_arm[0].pass_at},
                greedy=over(greedy) if all(greedy) else None,
                bleu=sum(bleus) / len(bleus) if bleus else None,
                nats_per_byte=_likelihood(of_arm),
                profile=of_arm[0].profile,
                by_difficulty={
                    level: interval_over_seeds([rates(e, 1, ids) for e in of_arm])
                    for level, ids in levels.items()
                },
                accounting=read_accounting(directory / runs[0]),
            )
        )
    return Comparison(
        title=config.title,
        tasks=first.tasks,
        task_count=first.task_count,
        arms=tuple(arms),
        differences=tuple(difference(a, evaluations[a], b, evaluations[b]) for a, b in config.differences),
        teacher=config.teacher,
    )


def _likelihood(of_arm: Sequence[Evaluation]) -> Interval | None:
    """Nats per byte over seeds and the tasks that fit the model."""
    values = [[*evaluation.nats_per_byte_per_task.values()] for evaluation in of_arm]
    return interval_over_seeds(values) if all(values) else None


def _levels(task_set: TaskSet) -> dict[str, set[str]]:
    """Difficulties that are numbers, e.g. ``depth=3``, and the tasks that have them."""
    levels: dict[str, set[str]] = {}
    for task in task_set.tasks:
        for name, value in task.difficulty.items():
            if isinstance(value, int):
                levels.setdefault(f"{name}={value}", set()).add(task.task_id)
    return dict(sorted(levels.items()))


class SweepConfig(RunConfig):
    """A sweep of logit distillation over students, temperatures and alphas."""

    students: tuple[str, ...] = Field(default=("gpt2-44m", "gpt2-202m"), min_length=1)
    """Presets, directories or hub ids."""
    temperatures: tuple[PositiveFloat, ...] = Field(default=(1.0, 2.0, 4.0), min_length=1)
    """Temperatures of the divergence."""
    alphas: tuple[float, ...] = Field(default=(0.1, 0.5, 0.9), min_length=1)
    """Weights of the divergence; the cross-entropy has the rest."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Training seeds."""
    teacher: LocalTeacherConfig = LocalTeacherConfig()
    """The teacher; it is evaluated too, and tables give ratios to it."""
    divergence: DivergenceName = "forward_kl"
    """The divergence of every run."""
    examples: ExamplesConfig = ExamplesConfig()
    """What the students train on."""
    train: TrainConfig = TrainConfig()
    """How the students are trained."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How every model is evaluated."""

    def comparison(self) -> CompareConfig:
        """The sweep as a comparison: the teacher's arm, then one per point of the grid."""
        common = {
            "teacher": self.teacher.model_dump(mode="json"),
            "examples": self.examples.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json"),
        }
        arms = [ArmConfig(name="teacher", model=self.teacher.model)]
        for student, temperature, alpha in itertools.product(self.students, self.temperatures, self.alphas):
            objective = {"divergence": self.divergence, "temperature": temperature, "alpha": alpha}
            name = f"{Path(student).name} T={temperature:g} alpha={alpha:g}"
            arms.append(
                ArmConfig(
                    name=name,
                    recipe="logit_kd",
                    config={**common, "student": student, "objective": objective},
                )
            )
        return CompareConfig(
            title="Logit distillation sweep",
            arms=tuple(arms),
            seeds=self.seeds,
            teacher="teacher",
            evaluate=self.evaluate,
            sandbox=self.sandbox,
            execution=self.execution,
            seed=self.seed,
        )
