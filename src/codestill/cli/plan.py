"""The command that chooses a recipe."""

from collections.abc import Sequence
from pathlib import Path

from codestill.cli import tables
from codestill.cli.commands import Rest, compare_in
from codestill.cli.settings import read_settings
from codestill.errors import ConfigError
from codestill.run import slug

EXAMPLES = """codestill distil qwen-7b.gguf qwen-0.5b.gguf --tasks mine.jsonl

codestill distil http://localhost:8000/v1 qwen-0.5b.gguf --tasks mine.jsonl --held-out theirs.jsonl

codestill distil pocket pocket-base --tasks pocket"""


def distil(*arguments: Rest) -> None:
    """Teach a student what a teacher knows: ``codestill distil TEACHER STUDENT --tasks FILE``.

    TEACHER is a directory, GGUF file, hub id or the URL of an OpenAI-compatible endpoint, STUDENT a model or
    a preset. A recipe is chosen and run; the student is evaluated before and after, on tasks held out.
    """
    from codestill.planning import DistilConfig, choose

    if not arguments:
        raise ConfigError(
            "no teacher, student and tasks are given.",
            next_step="codestill distil TEACHER STUDENT --tasks FILE",
        )
    options = _models_first(arguments)
    settings = read_settings(DistilConfig, "distil TEACHER STUDENT --tasks FILE", options, examples=EXAMPLES)
    if settings is None:
        return
    directory, config = settings
    config = config.asked()
    directory = directory or Path("runs") / slug(config.name)
    choice = choose(config, directory)
    for reason in choice.reasons:
        tables.console.print(reason, highlight=False, soft_wrap=True, markup=False)
    choice.begin(directory)
    compare_in(choice.comparison, directory)
    tables.console.print(
        f"again, or with other settings: codestill compare {directory / 'config.yaml'} --run-dir {directory}",
        highlight=False,
        soft_wrap=True,
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
