"""``codestill new`` and ``check``: recipes, task families and divergences of one's own."""

from pathlib import Path

from rich.text import Text

from codestill.cli.console import console
from codestill.errors import Failure
from codestill.extend import Kind, check, new


def make(kind: Kind, name: str) -> None:
    """Write NAME.py, a working recipe, task family (`tasks`) or divergence to change.

    Parameters
    ----------
    kind
        `recipe`, `tasks` or `divergence`.
    name
        Of the file, and of what it defines.
    """
    path = new(kind, name)
    console.print(f"{path}: now  codestill check {path}", highlight=False, soft_wrap=True)


def prove(file: Path, /) -> None:
    """Check what FILE defines.

    A recipe runs on tiny data: it must resume to the same bytes wherever it is killed, pay no call twice, and
    evaluate behind gates. Of a task family references must pass, and nothing be trained on that is held out.
    Of a divergence value and derivative must agree.

    Parameters
    ----------
    file
        A Python file; its code is executed.
    """
    failed = 0
    for finding in check(file):
        failed += not finding.holds
        line = Text("ok    " if finding.holds else "FAILS ", style="green" if finding.holds else "bold red")
        line.append(f"{finding.subject}: {finding.what}", style="default")
        if finding.detail:
            line.append(f"  ({finding.detail})", style="dim")
        console.print(line, soft_wrap=True)
    if failed:
        raise Failure(f"{failed} of these do not hold.", next_step="Correct the file, and check it again.")
