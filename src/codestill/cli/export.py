"""``codestill export``: a trained student as a file that a small machine runs."""

from pathlib import Path

from codestill.cli import tables
from codestill.cli.commands import Rest, evaluate_option, model_first
from codestill.cli.settings import read_settings
from codestill.errors import ExportError
from codestill.launch import opened
from codestill.run import slug

EXAMPLES = """codestill export runs/kd --to gguf:q8_0

codestill export runs/kd --to gguf:q8_0,openvino:int8,ollama --tasks mbpp:test --limit 100"""


def export(*arguments: Rest) -> None:
    """Write what a small machine runs, and prove it is the student: ``codestill export RUN --to gguf:q8_0``.

    RUN is a run, whose student is exported, or a saved model. The artefact runs in its own program: it is
    compared with the student token by token, evaluated on the same tasks and timed; one that lost more than
    the tolerance is refused.
    """
    from codestill.export import ExportConfig, read_exports
    from codestill.export import export as export_

    settings = read_settings(
        ExportConfig,
        "export RUN",
        [evaluate_option(option, ExportConfig) for option in model_first(arguments)],
        examples=EXAMPLES,
        short={"evaluate.tasks": "tasks", "evaluate.tasks.limit": "limit"},
    )
    if settings is None:
        return
    directory, config = settings
    directory = directory or Path("runs") / slug(f"export-{Path(config.model).resolve().stem}")
    try:
        with opened(config, directory) as run:
            export_(config, run)
    except ExportError:
        tables.print_tables(read_exports(directory))
        raise
    tables.print_run(directory)
    tables.print_tables(read_exports(directory))
    tables.console.print(f"artefacts: {directory / 'artefacts'}", highlight=False, soft_wrap=True)
