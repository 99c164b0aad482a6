"""The commands. Each reads its settings, does its work in a run directory, and prints a table."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from codestill.cli import tables
from codestill.cli.settings import read_settings
from codestill.config import RunConfig
from codestill.errors import ConfigError, GateError, SandboxError
from codestill.evaluation import EvaluateConfig
from codestill.run import Observer, Run, slug
from codestill.tasks import TasksConfig, TaskSet

Rest = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
QUICKSTART = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


@contextmanager
def observers(config: RunConfig, directory: Path) -> Iterator[list[Observer]]:
    """A progress bar, and the trackers that the config names; closed at the end."""
    from codestill.trackers import ProgressBars, close_trackers, open_trackers

    config.execution.prepare()
    made = open_trackers(config.execution.trackers, directory, config.model_dump(mode="json"))
    made.append(ProgressBars())
    try:
        yield made
    finally:
        close_trackers(made)


def run(recipe: Rest, /, *options: Rest) -> None:
    """Run a recipe: ``codestill run logit_kd --student gpt2-44m --objective.temperature 2``.

    RECIPE is sft, logit_kd, pocket_teacher, pocket_base, or the path of a Python file of your own;
    ``codestill run RECIPE --help`` lists its settings.
    """
    from codestill.recipes import RECIPES

    if recipe in ("--help", "-h"):
        tables.console.print(
            f"Usage: codestill run RECIPE [OPTIONS]\n\nRECIPE is {', '.join(RECIPES)}, or the path of "
            "a Python file of your own;\ncodestill run RECIPE --help lists its settings.",
            markup=False,
            highlight=False,
        )
        return
    _run(recipe, f"run {recipe}", options, Path("runs") / Path(recipe).stem)


def _run(recipe: str, command: str, options: Sequence[str], default: Path) -> Path | None:
    """Run a recipe; its directory, or None where help was asked for."""
    from codestill.recipes import load_recipe

    module = load_recipe(recipe)
    settings = read_settings(module.Config, command, options)
    if settings is None:
        return None
    directory, config = settings
    directory = directory or default
    with observers(config, directory) as watching, Run.open(directory, config, watching) as opened:
        module.distill(config, opened)
    tables.print_runs([directory])
    return directory


def pocket_train_teacher(*options: Rest) -> None:
    """Train the bundled pocket teacher anew, examine it, and write ``bundle/``: weights and model card.

    Takes hours on two cores. Killed, it continues.
    """
    _pocket("teacher", options)


def pocket_train_base(*options: Rest) -> None:
    """Train a pocket base student anew: ``codestill pocket train-base --student pocket-0.4m``."""
    _pocket("base", options)


def _pocket(what: str, options: Sequence[str]) -> None:
    directory = _run(f"pocket_{what}", f"pocket train-{what}", options, Path("runs") / f"pocket-{what}")
    if directory is not None:
        tables.print_exams(directory)
        tables.console.print(f"bundle: {directory / 'bundle'}", highlight=False, soft_wrap=True)


def pocket_exam(*arguments: Rest) -> None:
    """Examine a pocket teacher, every skill on held-out compositions: ``codestill pocket exam MODEL``.

    MODEL is ``pocket``, the bundled one, or a directory.
    """
    from codestill.recipes.pocket.teacher import ExamineModel, examine_model

    given = list(arguments)
    if given and not given[0].startswith("-"):
        given.insert(0, "--model")
    settings = read_settings(ExamineModel, "pocket exam", given)
    if settings is None:
        return
    directory, config = settings
    directory = directory or Path("runs") / slug(f"exam-{Path(config.model).name}-{config.exam.split}")
    with observers(config, directory) as watching, Run.open(directory, config, watching) as opened:
        examine_model(config, opened)
    tables.print_exams(directory)


def evaluate(*arguments: Rest) -> None:
    """Evaluate a model, or a samples file: ``codestill evaluate MODEL --tasks humaneval``.

    MODEL is a directory or hub id, or ``pocket``. ``codestill evaluate --samples FILE --tasks humaneval``
    scores HumanEval-format completions made elsewhere. ``codestill evaluate MODEL --help`` lists settings.
    """
    from codestill.evaluation import EvaluateModel, ScoreSamples, evaluate_model, score_samples

    given = list(arguments)
    if given and not given[0].startswith("-"):
        given.insert(0, "--model")
    elsewhere = any(option == "--samples" or option.startswith("--samples=") for option in given)
    kind = ScoreSamples if elsewhere else EvaluateModel
    settings = read_settings(kind, "evaluate", [_evaluate_option(option, kind) for option in given])
    if settings is None:
        return
    directory, config = settings
    subject = config.samples.stem if elsewhere else Path(config.model).name
    directory = directory or Path("runs") / slug(f"evaluate-{subject}-{config.evaluate.tasks.source}")
    with observers(config, directory) as watching, Run.open(directory, config, watching) as opened:
        score_samples(config, opened) if elsewhere else evaluate_model(config, opened)
    tables.print_runs([directory])


def _evaluate_option(option: str, kind: type[RunConfig]) -> str:
    """``--tasks`` (and its misspellings) for ``--evaluate.tasks``: here everything is about evaluation."""
    if not option.startswith("--"):
        return option
    name = option[2:].split("=", 1)[0].split(".", 1)[0].replace("-", "_")
    near = difflib.get_close_matches(name, [*kind.model_fields, *EvaluateConfig.model_fields], n=1)
    return f"--evaluate.{option[2:]}" if near and near[0] in EvaluateConfig.model_fields else option


def cache(*arguments: Rest) -> None:
    """Capture a teacher's logits over a task set: ``codestill cache TEACHER TASKS``.

    TEACHER is a directory or hub id, or ``pocket``; TASKS a task set such as ``mbpp:train``. The cache lies
    in the run directory, in ``logits``; ``codestill cache --help`` lists settings.
    """
    from codestill.capture import CaptureRun, capture_run

    given = list(arguments)
    options = next((n for n, one in enumerate(given) if one.startswith("-")), len(given))
    if options > 2:
        raise ConfigError(f"{given[2]!r} is one name too many.", next_step="Give a teacher and a task set.")
    named = zip(("--teacher.model", "--examples.tasks"), given[:options], strict=False)
    given = [part for pair in named for part in pair] + given[options:]
    settings = read_settings(CaptureRun, "cache", given)
    if settings is None:
        return
    directory, config = settings
    name = f"cache-{Path(config.teacher.model).name}-{config.examples.tasks.source}"
    directory = directory or Path("runs") / slug(name)
    with observers(config, directory) as watching, Run.open(directory, config, watching) as opened:
        manifest = capture_run(config, opened)
    tables.print_cache(directory / "logits", manifest)


def compare(config_file: Rest, /, *options: Rest) -> None:
    """Run a comparison of recipes: arms, seeds and paired differences, from a YAML file."""
    from codestill.compare import CompareConfig

    given = [config_file] if config_file.startswith("-") else ["--config", config_file]  # --help, alone
    settings = read_settings(CompareConfig, "compare FILE", [*given, *options])
    if settings is None:
        return
    directory, config = settings
    _compare(config, directory or Path("runs") / Path(config_file).stem)


def quickstart(*options: Rest) -> None:
    """Distil the bundled teacher into a small student, and compare it with one trained on raw data."""
    compare(str(QUICKSTART), *options)


def _compare(config: Any, directory: Path) -> None:
    from codestill.compare import compare as compare_
    from codestill.report import write_report

    with observers(config, directory) as watching:
        comparison = compare_(config, directory, watching)
    page, _ = write_report([directory])
    tables.print_comparison(comparison)
    tables.console.print(f"report: {page}", highlight=False, soft_wrap=True)


def sweep(*options: Rest) -> None:
    """Sweep logit distillation over students, temperatures and alphas, as one resumable comparison."""
    from codestill.compare import SweepConfig

    settings = read_settings(SweepConfig, "sweep", options)
    if settings is None:
        return
    directory, config = settings
    _compare(config.comparison(), directory or Path("runs/sweep"))


def report(*runs: Path) -> None:
    """Write one HTML page (and Markdown) about runs or comparisons; it lies in the first one."""
    from codestill.report import write_report

    if not runs:
        raise ConfigError("no run is named.", next_step="Give one or more run directories.")
    for path in write_report(list(runs)):
        tables.console.print(str(path), highlight=False, soft_wrap=True)


def students() -> None:
    """List the student presets with exact parameter counts and sizes."""
    from codestill.models import preset_table

    tables.print_students(preset_table())


def doctor(*, sandbox: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Say what this machine offers, and try the sandbox's layers.

    Parameters
    ----------
    sandbox
        Try every isolation layer and tier, and run harmless programs that try to get out. Exits with 0 when
        all are contained, 1 when one is not, 2 when this machine has no sandbox.
    """
    from codestill import doctor as examine
    from codestill.sandbox import Sandbox

    if not sandbox:
        return tables.print_pairs([*examine.machine(), ("sandbox", examine.sandbox_in_short())])
    tables.print_findings("layer", examine.layers())
    tables.print_findings("tier", examine.tiers())
    with examine.planted() as bait, Sandbox(examine.CONFIG, workers=1) as built:
        probes = list(examine.probe(built, bait))
    tables.print_probes(probes)
    out = [one.name for one in probes if not one.right]
    if out:
        raise SandboxError(
            f"{len(out)} of {len(probes)} programs did not end as they must ({', '.join(out)}), in "
            f"{built.isolation}.",
            next_step="Mend the layers above, or execute programs inside a container or virtual machine that "
            "holds nothing of value (docs/sandbox.md).",
        )
    tables.console.print(
        f"{built.isolation}: all {len(probes) - 1} hostile programs are contained.", highlight=False
    )
    return None


def tasks_ls() -> None:
    """List the task families, their splits, and the local files that were found."""
    tables.print_families()


def tasks_show(tasks: str, task_id: str | None = None) -> None:
    """Show a task set, or one of its tasks: ``codestill tasks show mbpp:train 601``."""
    task_set = _whole_tasks(tasks)
    if task_id is None:
        return tables.print_task_set(task_set)
    shown = next(
        (task for task in task_set if task_id in (task.task_id, task.task_id.rsplit("/", 1)[-1])), None
    )
    if shown is None:
        raise ConfigError(
            f"{task_set.name} has no task {task_id!r}.", next_step="List them without a task id."
        )
    tables.print_task(shown)
    return None


def _whole_tasks(tasks: str) -> TaskSet:
    """The tasks, in any language: nothing is generated, so no stop rule has to suit them."""
    return TasksConfig.model_validate(tasks).model_copy(update={"stop": "none"}).load()


def tasks_check(tasks: str) -> None:
    """Check a task set: references must pass, an empty completion and a bare ``pass`` must not."""
    from codestill.evaluation import known_answers
    from codestill.sandbox import Sandbox, SandboxConfig
    from codestill.trackers import ProgressBars
    from codestill.types import Event

    task_set = _whole_tasks(tasks)
    with Sandbox(SandboxConfig()) as sandbox, closing(ProgressBars()) as bars:

        def progress(done: int, total: int) -> None:
            bars(Event(stage="gates", kind="progress", done=done, total=total))

        report = known_answers(task_set, sandbox, progress)
    tables.print_tasks_report(report)
    if not report.holds:
        raise GateError(
            f"{len(report.findings)} known answers got the wrong verdict: a score here would be a lie.",
            next_step="Correct these tasks' tests or references, or name them in evaluate.known_broken.",
        )
