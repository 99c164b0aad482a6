"""``codestill serve``: a student behind OpenAI's API."""

from codestill.cli.commands import Rest, model_first
from codestill.cli.console import console
from codestill.cli.settings import read_settings

EXAMPLES = """codestill serve runs/kd

codestill serve runs/kd --port 8080 --sampling.temperature 0.2

codestill serve student-q8_0.gguf --engine codestill"""


def serve(*arguments: Rest) -> None:
    """Serve a student to editors and programs: ``codestill serve RUN``.

    MODEL is a run, whose student is served, or a saved model's directory, GGUF file or hub id. Configuration
    for Continue, llama.vim and llama.vscode is printed.
    """
    from codestill.serve import ServeConfig
    from codestill.serve import serve as serve_

    settings = read_settings(
        ServeConfig, "serve MODEL", model_first(arguments), examples=EXAMPLES, in_directory=False
    )
    if settings is not None:
        serve_(settings[1], _say)


def _say(text: str) -> None:
    """Copied from a terminal, a line must be whole."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
