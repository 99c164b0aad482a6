"""The commands that decide and forecast before anything runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codestill.browse.usage import forecast_table
from codestill.cli import tables
from codestill.cli.commands import (
    Rest,
    compare_in,
    compare_settings,
    evaluate_settings,
    recipe_settings,
    sweep_settings,
)
from codestill.cli.settings import read_settings
from codestill.errors import ConfigError
from codestill.run import slug

EXAMPLES = """codestill distil qwen-7b.gguf qwen-0.5b.gguf --tasks mine.jsonl

codestill distil http://localhost:8000/v1 qwen-0.5b.gguf --tasks mine.jsonl --held-out theirs.jsonl

codestill distil pocket pocket-base --tasks pocket"""
PLANNED = ("run", "compare", "sweep", "distil", "evaluate", "quickstart")


def distil(*arguments: Rest) -> None:
    """Teach a student what a teacher knows: ``codestill distil TEACHER STUDENT --tasks FILE``.

    TEACHER is a directory, GGUF file, hub id or the URL of an OpenAI-compatible endpoint, STUDENT a model or
    a preset. A recipe is chosen and run; the student is evaluated before and after, on tasks held out.
    """
    settings = _distil_settings(arguments)
    if settings is None:
        return
    comparison, directory = settings
    compare_in(comparison, directory)
    file = directory / "config.yaml"
    _say(f"again, or with other settings: codestill compare {file} --run-dir {directory}")


def _distil_settings(arguments: Sequence[str]) -> tuple[Any, Path] | None:
    """The comparison that was chosen, and its directory; None when only help was printed."""
    from codestill.planning import DistilConfig, choose

    if not arguments:
        raise ConfigError(
            "no teacher, student and tasks are given.",
            next_step="codestill distil TEACHER STUDENT --tasks FILE",
        )
    options = _models_first(arguments)
    settings = read_settings(DistilConfig, "distil TEACHER STUDENT --tasks FILE", options, examples=EXAMPLES)
    if settings is None:
        return None
    directory, config = settings
    config = config.asked()
    directory = directory or Path("runs") / slug(config.name)
    choice = choose(config, directory)
    for reason in choice.reasons:
        _say(reason)
    choice.begin(directory)
    return choice.comparison, directory


def plan(*arguments: Rest) -> None:
    """Forecast what a command will take: ``codestill plan run persd --student MODEL ...``.

    Give the words of ``run``, ``compare``, ``sweep``, ``distil``, ``evaluate`` or ``quickstart``. Two trial
    runs on a few of the tasks are made and thrown away, except for the teacher's answers, which the run will
    find. A run that is expected to exceed its budget is refused.
    """
    from codestill.files.run_files import FORECAST
    from codestill.files.serialize import write_object
    from codestill.planning import answers_of_trials, forecast, forecast_comparison, require_affordable

    if not arguments or arguments[0] in ("--help", "-h"):
        _say(
            f"Usage: codestill plan {'|'.join(PLANNED)} ...\n\nForecasts time, the teacher's calls, tokens "
            "and money, memory and disk of that command, by two trial runs on a few of its tasks."
        )
        return
    command, *words = arguments
    if command in ("run", "evaluate"):
        settings = _single(command, words)
        if settings is None:
            return
        recipe, directory, config = settings
        usage = getattr(config, "teacher_usage", None)
        kept = usage.answers if usage and usage.answers else directory / "answers"
        with answers_of_trials(kept) as answers:
            expected = forecast(recipe, config, answers, tell=_tell)
    else:
        comparison = _several(command, words)
        if comparison is None:
            return
        config, directory = comparison
        usage = None
        expected = forecast_comparison(config, directory, tell=_tell)
    directory.mkdir(parents=True, exist_ok=True)
    write_object(directory / FORECAST, expected)
    tables.print_tables(forecast_table(expected))
    if usage is not None:
        require_affordable(expected, usage.budget)


def _single(command: str, words: Sequence[str]) -> tuple[str | None, Path, Any] | None:
    """The recipe, directory and config of one run, the recipe None for an evaluation."""
    if command == "evaluate":
        evaluation = evaluate_settings(words)
        return evaluation and (None, *evaluation)
    if not words:
        raise ConfigError("no recipe is given.", next_step="codestill plan run RECIPE ...")
    recipe = words[0]
    settings = recipe_settings(recipe, f"plan run {recipe}", words[1:], Path("runs") / Path(recipe).stem)
    return settings and (recipe, *settings)


def _several(command: str, words: Sequence[str]) -> tuple[Any, Path] | None:
    """The config and directory of a comparison."""
    if command == "compare":
        if not words:
            raise ConfigError("no file is given.", next_step="codestill plan compare FILE")
        return compare_settings(words)
    if command == "quickstart":
        return compare_settings(["quickstart", *words])
    if command == "sweep":
        return sweep_settings(words)
    if command == "distil":
        return _distil_settings(words)
    raise ConfigError(
        f"{command!r} is no command whose cost can be forecast.", next_step=f"Plan {', '.join(PLANNED)}."
    )


def _models_first(arguments: Sequence[str]) -> list[str]:
    """The options, with the teacher's and the student's before the first arguments that are none."""
    count = next((n for n, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    if count > 2:
        raise ConfigError(
            f"unexpected argument {arguments[2]!r}.",
            next_step="Give a teacher, a student, then options; the tasks follow --tasks.",
        )
    options = list(arguments[count:])
    if count == 2:
        options = ["--student", arguments[1], *options]
    if count:
        url = arguments[0].startswith(("http://", "https://"))
        teacher = ["--teacher.type", "api", "--teacher.base-url"] if url else ["--teacher.model"]
        options = [*teacher, arguments[0], *options]
    return options


def _say(text: str) -> None:
    tables.console.print(text, highlight=False, soft_wrap=True, markup=False)


def _tell(line: str) -> None:
    """Progress, which is no result."""
    from codestill.terminal import Terminal

    Terminal(stderr=True).print(line, highlight=False, soft_wrap=True)
