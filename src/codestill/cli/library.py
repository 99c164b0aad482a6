"""``codestill library``: a function library, looked at."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from codestill.cli.tables import console
from codestill.errors import ConfigError
from codestill.recipes.amr_evol.library import Function, read_library


def ls(directory: Path, *, limit: Annotated[int, Parameter(help="At most so many.")] = 50) -> None:
    """List the functions of a library, in the order in which they entered.

    DIRECTORY is a run of amr_evol, or the library itself.
    """
    library = read_library(directory)
    table = Table("key", "signature", "description", "tests", "from", box=None, pad_edge=False)
    for one in library.functions[:limit]:
        said = one.description.split("\n")[0]
        table.add_row(one.key, escape(one.signature), escape(said), str(len(one.tests)), one.origin)
    console.print(table)
    if len(library) > limit:
        console.print(f"{len(library) - limit:,} more: --limit {len(library)}", highlight=False)


def show(directory: Path, name: str) -> None:
    """Show a function by its key, or all of a name: code, tests, and where it comes from."""
    found = [one for one in read_library(directory).functions if name in (one.key, one.name)]
    if not found:
        raise ConfigError(
            f"the library has no function {name!r}.",
            next_step=f"List them: codestill library ls {directory}",
        )
    for one in found:
        console.print(f"{one.key}, from {one.origin}", highlight=False)
        console.print(Syntax(one.code, "python", background_color="default"))
        console.print(Syntax("\n".join(one.tests), "python", background_color="default"))


def search(
    directory: Path,
    words: str,
    *,
    signature: Annotated[str, Parameter(help="Its signature, e.g. '(xs: list[int]) -> int'.")] = "()",
    name: Annotated[str, Parameter(help="Its name.")] = "",
    k: Annotated[int, Parameter(help="How many.")] = 5,
) -> None:
    """Search a library for a function that does what WORDS say."""
    query = Function(name=name, signature=signature, description=words)
    table = Table("cosine", "key", "signature", "description", box=None, pad_edge=False)
    for hit in read_library(directory).search([query], k)[0]:
        one = hit.function
        said = one.description.split("\n")[0]
        table.add_row(f"{hit.cosine:.3f}", one.key, escape(one.signature), escape(said))
    console.print(table)


def stats(directory: Path) -> None:
    """Say how large a library is and, of a finished run, how it grew and how often it was of use."""
    from codestill.recipes.amr_evol.growth import read_growth

    library = read_library(directory)
    names = Counter(one.name for one in library.functions)
    size = sum(path.stat().st_size for path in library.directory.iterdir())
    tests, per_function = sum(len(one.tests) for one in library.functions), size / max(len(library), 1)
    how = library.spec
    console.print(
        f"{library.directory}: {len(library):,} functions of {len(names):,} names, {tests:,} tests, "
        f"{per_function:,.0f} bytes each; {how.embedder.type} of {', '.join(how.parts)}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("wave", "functions", "modules", "found", "hit rate", "added", box=None, pad_edge=False)
    waves = read_growth(library)
    for one in waves:
        hits = f"{100 * one.hit_rate:.0f}%"
        table.add_row(*map(str, (one.wave, one.functions, one.modules, one.found, hits, one.added)))
    if waves:
        console.print(table)
