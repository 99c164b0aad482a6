"""``codestill library``: inspect a function library."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.syntax import Syntax
from rich.table import Table

from codestill.cli.console import console
from codestill.errors import ConfigError
from codestill.recipes.amr_evol.library import Function, read_library


def ls(directory: Path, *, limit: Annotated[int, Parameter(help="Show at most this many.")] = 50) -> None:
    """List a library's functions, in the order they were added.

    DIRECTORY is a run of amr_evol, or the library itself.
    """
    library = read_library(directory)
    table = Table("key", "signature", "description", "tests", "from", box=None, pad_edge=False)
    for function in library.functions[:limit]:
        count = str(len(function.tests))
        table.add_row(function.key, function.signature, _summary(function), count, function.origin)
    console.print(table)
    if len(library) > limit:
        console.print(f"{len(library) - limit:,} more: --limit {len(library)}", highlight=False)


def show(directory: Path, name: str) -> None:
    """Show the function with a key, or all functions with a name: code, tests and origin."""
    named = [
        function for function in read_library(directory).functions if name in (function.key, function.name)
    ]
    if not named:
        raise ConfigError(
            f"the library has no function {name!r}.",
            next_step=f"List them: codestill library ls {directory}",
        )
    for function in named:
        console.print(f"{function.key}, from {function.origin}", highlight=False)
        console.print(Syntax(function.code, "python", background_color="default"))
        console.print(Syntax("\n".join(function.tests), "python", background_color="default"))


def search(
    directory: Path,
    words: str,
    *,
    signature: Annotated[
        str, Parameter(help="The function's signature, e.g. '(xs: list[int]) -> int'.")
    ] = "()",
    name: Annotated[str, Parameter(help="The function's name.")] = "",
    k: Annotated[int, Parameter(help="Number of results.")] = 5,
) -> None:
    """Search a library for functions that do what WORDS describe."""
    query = Function(name=name, signature=signature, description=words)
    table = Table("cosine", "key", "signature", "description", box=None, pad_edge=False)
    for hit in read_library(directory).search([query], k)[0]:
        found = hit.function
        table.add_row(f"{hit.cosine:.3f}", found.key, found.signature, _summary(found))
    console.print(table)


def stats(directory: Path) -> None:
    """Show a library's size and, for a finished run, how it grew and how often a search hit."""
    from codestill.recipes.amr_evol.growth import read_growth

    library = read_library(directory)
    names = Counter(function.name for function in library.functions)
    size = sum(path.stat().st_size for path in library.directory.iterdir())
    tests, per_function = sum(len(f.tests) for f in library.functions), size / max(len(library), 1)
    spec = library.spec
    console.print(
        f"{library.directory}: {len(library):,} functions of {len(names):,} names, {tests:,} tests, "
        f"{per_function:,.0f} bytes each; {spec.embedder.type} of {', '.join(spec.parts)}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("wave", "functions", "modules", "found", "hit rate", "added", box=None, pad_edge=False)
    waves = read_growth(library)
    for wave in waves:
        hits = f"{100 * wave.hit_rate:.0f}%"
        table.add_row(*map(str, (wave.wave, wave.functions, wave.modules, wave.found, hits, wave.added)))
    if waves:
        console.print(table)


def _summary(function: Function) -> str:
    return function.description.split("\n")[0]
