"""The commands. Each reads its settings, does its work in a run directory, and prints a table."""

import difflib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from codestill.cli import tables
from codestill.cli.settings import read_settings
from codestill.config import RunConfig
from codestill.configs import CONFIGS, comparisons, recipe_configs
from codestill.errors import ConfigError
from codestill.evaluation import EvaluateConfig
from codestill.launch import carry_out, opened, say_what_is_there
from codestill.run import slug

Rest = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
EVALUATE_EXAMPLES = """codestill evaluate MODEL --tasks humaneval --limit 20

codestill evaluate MODEL --tasks mine.jsonl:test

codestill evaluate MODEL --tasks humaneval --draft-for TEACHER

codestill evaluate --samples FILE --tasks humaneval"""
QUICKSTART = CONFIGS / "quickstart.yaml"
QUICKSTART_BEGINS = """\
Eight runs: the teacher and the base student as they stand, then three students with two seeds each, trained
and evaluated. About five minutes on two idle cores; where it is killed, the same command continues."""


def run(recipe: Rest, /, *options: Rest) -> None:
    """Run a recipe: ``codestill run logit_kd --student gpt2-44m --objective.temperature 2``.

    RECIPE is a bundled recipe or the path of a Python file of your own: ``codestill run --help`` lists the
    bundled ones, ``codestill run RECIPE --help`` the settings of one.
    """
    from codestill.recipes import RECIPES

    if recipe in ("--help", "-h"):
        tables.console.print(
            f"Usage: codestill run RECIPE [OPTIONS]\n\nRECIPE is {', '.join(RECIPES)},\n"
            "or the path of a Python file of your own; codestill run RECIPE --help lists its settings.",
            markup=False,
            highlight=False,
        )
        return
    _run(recipe, f"run {recipe}", options, Path("runs") / Path(recipe).stem)


def _run(recipe: str, command: str, options: Sequence[str], default: Path) -> Path | None:
    """Run a recipe; returns its directory, or None when only help was printed."""
    from codestill.recipes import load_recipe

    settings = recipe_settings(recipe, command, options, default)
    if settings is None:
        return None
    from codestill.report.card import write_card

    directory, config = settings
    carry_out(load_recipe(recipe), config, directory)
    if (directory / "student" / "config.json").is_file():
        write_card(directory)
    if config.execution.trackers:
        _publish(config, directory)
    tables.print_run(directory)
    tables.print_usage(directory)
    return directory


def _publish(config: RunConfig, directory: Path) -> None:
    """Write the report, for the trackers that keep it."""
    from codestill.report import write_report
    from codestill.trackers import publish_report

    publish_report(config.execution.trackers, write_report([directory])[0], directory)


def recipe_settings(
    recipe: str, command: str, options: Sequence[str], default: Path
) -> tuple[Path, Any] | None:
    """The run directory and the config of a recipe; None when only help was printed."""
    from codestill.recipes import load_recipe

    settings = read_settings(load_recipe(recipe).Config, command, options, recipe_configs(recipe))
    return settings and (settings[0] or default, settings[1])


def pocket_train_teacher(*options: Rest) -> None:
    """Train the bundled pocket teacher from scratch, examine it, and write ``bundle/``: weights, model card.

    Takes hours on two cores; killed, the same command continues.
    """
    _pocket("teacher", options)


def pocket_train_base(*options: Rest) -> None:
    """Train a pocket base student from scratch: ``codestill pocket train-base --student pocket-0.4m``."""
    _pocket("base", options)


def _pocket(what: str, options: Sequence[str]) -> None:
    directory = _run(f"pocket_{what}", f"pocket train-{what}", options, Path("runs") / f"pocket-{what}")
    if directory is not None:
        tables.print_exams(directory)
        tables.console.print(f"bundle: {directory / 'bundle'}", highlight=False, soft_wrap=True)


def pocket_exam(*arguments: Rest) -> None:
    """Examine a pocket teacher, every skill on held-out compositions: ``codestill pocket exam MODEL``.

    MODEL is a directory, or ``pocket``, the bundled teacher.
    """
    from codestill.recipes.pocket.teacher import ExamineModel, examine_model

    settings = read_settings(ExamineModel, "pocket exam", model_first(arguments))
    if settings is None:
        return
    directory, config = settings
    directory = directory or Path("runs") / slug(f"exam-{Path(config.model).name}-{config.exam.split}")
    with opened(config, directory) as run:
        examine_model(config, run)
    tables.print_exams(directory)


def evaluate(*arguments: Rest) -> None:
    """Evaluate a model, or a samples file: ``codestill evaluate MODEL --tasks humaneval``.

    MODEL is a directory, GGUF file or hub id, or ``pocket``. ``codestill evaluate --samples FILE --tasks
    humaneval`` scores completions made elsewhere, in HumanEval format. ``codestill evaluate --help`` lists
    settings.
    """
    from codestill.evaluation import ScoreSamples, evaluate_model, score_samples

    settings = evaluate_settings(arguments)
    if settings is None:
        return
    directory, config = settings
    with opened(config, directory) as run:
        if isinstance(config, ScoreSamples):
            score_samples(config, run)
        else:
            evaluate_model(config, run)
    tables.print_run(directory)
    tables.print_usage(directory)


def evaluate_settings(arguments: Sequence[str]) -> tuple[Path, Any] | None:
    """The run directory and the config of an evaluation; None when only help was printed."""
    from codestill.evaluation import EvaluateModel, ScoreSamples

    options = model_first(arguments)
    elsewhere = any(option == "--samples" or option.startswith("--samples=") for option in options)
    kind = ScoreSamples if elsewhere else EvaluateModel
    settings = read_settings(
        kind,
        "evaluate MODEL" if kind is EvaluateModel else "evaluate --samples FILE",
        [evaluate_option(option, kind) for option in options],
        examples=EVALUATE_EXAMPLES,
        short={
            "evaluate.tasks": "tasks",
            "evaluate.tasks.limit": "limit",
            "evaluate.draft_for": "draft-for",
        },
    )
    if settings is None:
        return None
    directory, config = settings
    subject = config.samples.stem if elsewhere else Path(config.model).name
    return directory or Path("runs") / slug(f"evaluate-{subject}-{config.evaluate.tasks.source}"), config


def model_first(arguments: Sequence[str]) -> list[str]:
    """The options, with ``--model`` before a first argument that is none."""
    named = bool(arguments) and not arguments[0].startswith("-")
    return ["--model", *arguments] if named else list(arguments)


def evaluate_option(option: str, kind: type[RunConfig]) -> str:
    """``--tasks`` (or a misspelling of it) as ``--evaluate.tasks``: this command only evaluates."""
    if not option.startswith("--"):
        return option
    name = option[2:].split("=", 1)[0].split(".", 1)[0].replace("-", "_")
    if name in ("limit", "split"):  # of the tasks, which are all that there is to limit
        return f"--evaluate.tasks.{option[2:]}"
    near = difflib.get_close_matches(name, [*kind.model_fields, *EvaluateConfig.model_fields], n=1)
    return f"--evaluate.{option[2:]}" if near and near[0] in EvaluateConfig.model_fields else option


def cache(*arguments: Rest) -> None:
    """Capture a teacher's logits over a task set: ``codestill cache TEACHER TASKS``.

    TEACHER is a directory, a hub id, or ``pocket``; TASKS a task set such as ``mbpp:train``. The cache is
    written to ``logits`` in the run directory; ``codestill cache --help`` lists settings.
    """
    from codestill.capture import CaptureRun, capture_run

    count = next((n for n, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    if count > 2:
        raise ConfigError(
            f"unexpected argument {arguments[2]!r}.", next_step="Give a teacher, a task set, then options."
        )
    named = zip(("--teacher.model", "--examples.tasks"), arguments[:count], strict=False)
    options = [word for pair in named for word in pair] + list(arguments[count:])
    settings = read_settings(CaptureRun, "cache", options)
    if settings is None:
        return
    directory, config = settings
    name = f"cache-{Path(config.teacher.model).name}-{config.examples.tasks.source}"
    directory = directory or Path("runs") / slug(name)
    with opened(config, directory) as run:
        manifest = capture_run(config, run)
    tables.print_cache(directory / "logits", manifest)


def compare(config_file: Rest, /, *options: Rest) -> None:
    """Run a comparison of recipes: arms, seeds and paired differences, from a YAML file or a bundled one."""
    settings = compare_settings([config_file, *options])
    if settings is not None:
        compare_in(*settings)


def compare_settings(arguments: Sequence[str]) -> tuple[Any, Path] | None:
    """The config of a comparison and its directory; None when only help was printed."""
    from codestill.compare import CompareConfig

    first = arguments[0]
    file = [first] if first.startswith("-") else ["--config", first]  # --help, alone
    settings = read_settings(CompareConfig, "compare FILE", [*file, *arguments[1:]], comparisons())
    return settings and (settings[1], settings[0] or Path("runs") / Path(first).stem)


def quickstart(*options: Rest) -> None:
    """Train a small student on reference solutions, on the bundled teacher's verified answers, and on these
    with its logits as well, and compare the three."""
    settings = compare_settings([str(QUICKSTART), *options])
    if settings is None:
        return
    tables.console.print(QUICKSTART_BEGINS, highlight=False)
    compare_in(*settings)


def compare_in(config: Any, directory: Path) -> None:
    """Run a comparison, and print what came of it."""
    from codestill.compare import compare as compare_
    from codestill.progress import ProgressBars
    from codestill.report import write_report
    from codestill.trackers import publish_report

    config.execution.prepare()
    with closing(ProgressBars()) as bars:
        say_what_is_there(directory, bars)
        comparison = compare_(config, directory, [bars])
    page, _ = write_report([directory])
    publish_report(config.execution.trackers, page, directory)
    tables.print_tables(comparison)
    tables.print_usage(directory)
    tables.console.print(f"report: {page}", highlight=False, soft_wrap=True)


def sweep(*options: Rest) -> None:
    """Sweep logit distillation over students, temperatures and alphas, as one resumable comparison."""
    settings = sweep_settings(options)
    if settings is not None:
        compare_in(*settings)


def sweep_settings(options: Sequence[str]) -> tuple[Any, Path] | None:
    """The config of a sweep's comparison and its directory; None when only help was printed."""
    from codestill.compare import SweepConfig

    settings = read_settings(SweepConfig, "sweep", options)
    return settings and (settings[1].comparison(), settings[0] or Path("runs/sweep"))


def report(*runs: Path, output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None) -> None:
    """Write an HTML report (and Markdown) on runs or comparisons.

    Parameters
    ----------
    output
        The page (default: `report.html` in the run's directory; on several, a page beside the first one).
    """
    from codestill.report import write_report

    if not runs:
        raise ConfigError("no run directory is given.", next_step="Give one or more run directories.")
    for path in write_report(list(runs), output):
        tables.console.print(str(path), highlight=False, soft_wrap=True)
