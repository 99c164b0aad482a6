"""``codestill doctor``: what this machine offers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from codestill.cli.console import console
from codestill.errors import ConfigError, SandboxError

if TYPE_CHECKING:
    from codestill.doctor import Availability, Probed


def doctor(
    *,
    sandbox: Annotated[bool, Parameter(negative="")] = False,
    teacher: str | None = None,
    student: str | None = None,
    tasks: str = "humaneval",
) -> None:
    """Show versions, devices and caches, and whether programs can be executed safely here.

    Parameters
    ----------
    sandbox
        Test every isolation layer and tier, and run harmless programs that try to break out. Exits with 0
        when all are contained, 1 when one is not, 2 when this machine has no sandbox.
    teacher
        Instead, with a student, say how well their tokenizers agree: a directory, GGUF file or hub id.
    student
        Likewise.
    tasks
        The tasks whose reference solutions the tokenizers are compared on.
    """
    from codestill import doctor as examine
    from codestill.sandbox import Sandbox

    if teacher and student:
        return _print_pairs(examine.compare_tokenizers(teacher, student, tasks))
    if teacher or student:
        raise ConfigError(
            f"doctor was given a {'teacher' if teacher else 'student'} alone.",
            next_step="Give --teacher and --student, whose tokenizers are then compared.",
        )
    if not sandbox:
        return _print_pairs([*examine.machine(), ("sandbox", examine.sandbox_in_short())])
    _print_findings("layer", examine.layers())
    _print_findings("tier", examine.tiers())
    with examine.planted() as bait, Sandbox(examine.CONFIG, workers=1) as best:
        probes = list(examine.probe(best, bait))
    _print_probes(probes)
    failed = [probed.name for probed in probes if not probed.as_expected]
    if failed:
        raise SandboxError(
            f"{len(failed)} of {len(probes)} programs did not end as expected ({', '.join(failed)}), in "
            f"{best.isolation}.",
            next_step="Fix the layers above, or execute programs inside a container or virtual machine that "
            "holds nothing of value (docs/sandbox.md).",
        )
    console.print(f"{best.isolation}: all {len(probes) - 1} hostile programs are contained.", highlight=False)
    return None


def _print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and their values, aligned."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        console.print(f"{name:{width}}  {value}", highlight=False, soft_wrap=True, markup=False)


def _print_findings(title: str, findings: "Sequence[Availability]") -> None:
    """Layers or tiers: which work, and why the others do not."""
    _print_plain(
        [
            (f"{title} {found.name}", "works" if found.works else "UNAVAILABLE", found.detail)
            for found in findings
        ]
    )


def _print_probes(probes: "Sequence[Probed]") -> None:
    """How each program that tried to break out ended."""
    _print_plain([(probed.name, probed.outcome, probed.detail) for probed in probes])


def _print_plain(rows: Sequence[tuple[str, str, str]]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()
