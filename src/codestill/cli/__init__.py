"""The command line. Nothing heavy is imported before a command needs it."""

import errno
import io
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from pydantic import ValidationError

from codestill.errors import CodestillError
from codestill.terminal import printable
from codestill.version import __version__

app = App(
    name="codestill",
    version=__version__,
    help="Distil code language models into small students, proved by executing unit tests.",
    suppress_keyboard_interrupt=False,
)
tasks = App(name="tasks", help="List, show and check task sets.")
pocket = App(name="pocket", help="Train and examine the bundled pocket models.")
library = App(name="library", help="Inspect the function library of an amr_evol run.")
app.command(tasks)
app.command(library)
app.command(pocket)

DISK_FULL = ("the disk is full.", "Free some space; the same command continues.")

# Import paths, so that a command's module is loaded only when it is called. Commands whose settings depend on
# their first argument print their own help.
COMMANDS = "codestill.cli.commands"
for name, text in {
    "run": "Run a recipe: codestill run logit_kd --student gpt2-44m",
    "evaluate": "Evaluate a model or a samples file: codestill evaluate MODEL --tasks humaneval",
    "cache": "Capture a teacher's logits over a task set: codestill cache TEACHER TASKS",
    "compare": "Run a comparison of recipes from a YAML file.",
    "sweep": "Sweep logit distillation over students, temperatures and alphas.",
    "quickstart": "Distil the bundled teacher: what its answers teach, and what its logits add.",
}.items():
    app.command(f"{COMMANDS}:{name}", name=name, help=text, help_flags=[])
app.command(f"{COMMANDS}:report", name="report", help="Write an HTML report on runs or comparisons.")
for name, text in {
    "runs": "List runs with their state, score and age.",
    "show": "Show the rows of a run's stages: codestill show RUN --stage attempts --verdict failing",
    "data": "Write a run's training examples as a dataset: codestill data RUN --to messages",
}.items():
    app.command(f"codestill.cli.browse:{name}", name=name, help=text)
app.command(
    "codestill.cli.extend:make", name="new", help="Write a recipe, task family or divergence to change."
)
app.command(
    "codestill.cli.extend:prove", name="check", help="Check a recipe, task family or divergence of your own."
)
app.command(
    "codestill.cli.models:students", name="students", help="List student presets with exact parameter counts."
)
app.command(
    f"{COMMANDS}:doctor", name="doctor", help="Show versions and devices; --sandbox tests the isolation."
)
for name, text in {
    "ls": "List the task families.",
    "show": "Show a task set, or one task of it.",
    "check": "Check that known answers get the correct verdicts.",
}.items():
    tasks.command(f"codestill.cli.tasks:{name}", name=name, help=text)
for name, text in {
    "ls": "List a library's functions.",
    "show": "Show a function: its code, its tests and its origin.",
    "search": "Search a library: codestill library search RUN 'sum of squares'",
    "stats": "Show a library's size and growth.",
}.items():
    library.command(f"codestill.cli.library:{name}", name=name, help=text)
for name, text in {
    "train-teacher": "Train the pocket teacher from scratch, examine it, and write its bundle.",
    "train-base": "Train a pocket base student from scratch.",
    "exam": "Examine a pocket teacher: codestill pocket exam pocket",
}.items():
    attribute = f"pocket_{name.replace('-', '_')}"
    pocket.command(f"{COMMANDS}:{attribute}", name=name, help=text, help_flags=[])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the exit code is 2 for a mistake of the user's and 1 for a failure."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a stand-in of a notebook or a test
            stream.reconfigure(errors="backslashreplace")  # for what the terminal's encoding lacks
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return 0
    except CycloptsError as error:
        return _fail(_option_problem(error), "See the command's --help.", 2)
    except ValidationError as error:
        return _fail(f"the config is not valid:\n  {_problems(error)}", "Correct these values.", 2)
    except CodestillError as error:
        return _fail(error.message, error.next_step, error.exit_code)
    except KeyboardInterrupt:
        return _fail("stopped.", "Nothing finished is lost: the same command continues.", 130)
    except OSError as error:
        if _disk_is_full(error):
            return _fail(*DISK_FULL, 2)
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and error.filename:
            return _fail(f"{error.filename}: {error.strerror}.", "Choose a writable directory.", 2)
        raise
    except Exception as error:
        if _disk_is_full(error):
            return _fail(*DISK_FULL, 2)
        raise


def _disk_is_full(error: Exception) -> bool:
    """Whether it is the OSError, or what safetensors and ``torch.save`` raise instead."""
    messages = ("No space left on", "unexpected pos")
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return full or any(message in str(error) for message in messages)


def _fail(message: str, next_step: str, code: int) -> int:
    print(printable(f"codestill: {message}\n  {next_step}"), file=sys.stderr)
    return code


def _option_problem(error: CycloptsError) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__cause__
    return f"the config is not valid:\n  {_problems(cause)}" if cause else str(error)


def _problems(error: ValidationError) -> str:
    from codestill.config import problems

    return problems(error)
