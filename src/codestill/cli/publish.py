"""``codestill card`` and ``push``: a student for others."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from codestill.cli.console import console


def card(run: Path, /, *, licence: str = "", name: str = "") -> None:
    """Write the model card of RUN's student beside its weights: scores, sources, cost, limits, config.

    Parameters
    ----------
    run
        A run's directory.
    licence
        The one that it is published under, by the hub's name, e.g. `apache-2.0`.
    name
        What it is called there (default: as the run).
    """
    from codestill.report.card import write_card

    console.print(str(write_card(run, licence, name)), highlight=False, soft_wrap=True)


def push(
    run: Path,
    repo: str,
    /,
    *,
    licence: str = "",
    private: Annotated[bool, Parameter(negative="")] = False,
    artefacts: Path | None = None,
) -> None:
    """Upload RUN's student with its card to REPO, `owner/name` on the hub that HF_ENDPOINT names.

    Parameters
    ----------
    run
        A run's directory.
    repo
        Where to; it is made where it is not there.
    licence
        The one that it is published under, by the hub's name, e.g. `apache-2.0`.
    private
        Seen by its owner alone.
    artefacts
        Directory of a `codestill export`, whose artefacts that hold are uploaded, too.
    """
    from codestill.publish import push as push_

    address = push_(run, repo, licence=licence, private=private, artefacts=artefacts)
    console.print(address, highlight=False, soft_wrap=True)
