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
library = App(name="library", help="Inspect the function library of an amr_evol run.")
pocket = App(name="pocket", help="Train and examine the bundled pocket models.")

DISK_FULL = ("the disk is full.", "Free some space; the same command continues.")

# In the order of work. Import paths, so that a command's module is loaded only when it is called; those of
# `commands` print their own help, as their settings depend on their first argument.
COMMANDS = "codestill.cli.commands"
_IN_ORDER: tuple[tuple[str, str | App, str], ...] = (
    (
        "quickstart",
        f"{COMMANDS}:quickstart",
        "Distil the bundled teacher: what its answers teach, and what its logits add.",
    ),
    (
        "doctor",
        "codestill.cli.machine:doctor",
        "Show versions and devices; --sandbox tests the isolation.",
    ),
    ("tasks", tasks, ""),
    ("students", "codestill.cli.models:students", "List student presets with exact parameter counts."),
    (
        "evaluate",
        f"{COMMANDS}:evaluate",
        "Evaluate a model or a samples file: codestill evaluate MODEL --tasks humaneval --limit 20",
    ),
    (
        "distil",
        "codestill.cli.plan:distil",
        "Choose a recipe and run it: codestill distil TEACHER STUDENT --tasks FILE",
    ),
    (
        "plan",
        "codestill.cli.plan:plan",
        "Forecast time, calls, money, memory and disk: codestill plan run persd ...",
    ),
    ("run", f"{COMMANDS}:run", "Run a recipe: codestill run logit_kd --student gpt2-44m"),
    (
        "cache",
        f"{COMMANDS}:cache",
        "Capture a teacher's logits over a task set: codestill cache TEACHER TASKS",
    ),
    ("compare", f"{COMMANDS}:compare", "Run a comparison of recipes from a YAML file."),
    ("sweep", f"{COMMANDS}:sweep", "Sweep logit distillation over students, temperatures and alphas."),
    ("runs", "codestill.cli.browse:runs", "List runs with their state, score and age."),
    (
        "show",
        "codestill.cli.browse:show",
        "Show the rows of a run's stages: codestill show RUN --stage attempts --verdict failing",
    ),
    ("report", f"{COMMANDS}:report", "Write an HTML report on runs or comparisons."),
    (
        "data",
        "codestill.cli.browse:data",
        "Write a run's training examples as a dataset: codestill data RUN --to messages",
    ),
    (
        "export",
        "codestill.cli.export:export",
        "Write what a small machine runs, and prove it is the student: codestill export RUN --to gguf:q8_0",
    ),
    (
        "serve",
        "codestill.cli.serve:serve",
        "Serve a student to editors and programs: codestill serve RUN",
    ),
    ("card", "codestill.cli.publish:card", "Write a student's model card: codestill card RUN"),
    ("push", "codestill.cli.publish:push", "Upload a student with its card: codestill push RUN owner/name"),
    ("library", library, ""),
    ("new", "codestill.cli.extend:make", "Write a recipe, task family or divergence to change."),
    ("check", "codestill.cli.extend:prove", "Check a recipe, task family or divergence of your own."),
    ("pocket", pocket, ""),
)
_OWN_HELP = {
    "quickstart",
    "evaluate",
    "export",
    "serve",
    "distil",
    "plan",
    "run",
    "cache",
    "compare",
    "sweep",
}
for place, (name, command, text) in enumerate(_IN_ORDER):
    if isinstance(command, App):
        command.sort_key = place
        app.command(command)
    else:
        flags = [] if name in _OWN_HELP else ["--help", "-h"]
        app.command(command, name=name, help=text, help_flags=flags, sort_key=place)
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
