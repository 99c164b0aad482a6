"""Python in the documentation: complete snippets are executed, of the others the imports."""

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import PAGES, ROOT, blocks, name

from codestill.languages import LANGUAGES
from codestill.losses.table import DIVERGENCES

TABLES: tuple[dict[str, Any], ...] = (DIVERGENCES, LANGUAGES)
# Complete, and yet not for every machine.
NOT_EXECUTED = {
    "gpt-4o-mini": "needs a key and a network",
    "127.0.0.1:8012": "needs a server; tests/serve/test_page.py executes it against one",
    "mbpp:train": "needs MBPP's file",
    "runs/persd": "needs that run; the notebook of reading one executes the same calls",
}


@dataclass(frozen=True)
class Snippet:
    page: str
    number: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"

    @property
    def is_complete(self) -> bool:
        """Whether it defines every name that it uses."""
        tree = ast.parse(self.code)
        known = set(vars(builtins))
        used = set()
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=identifier, ctx=ast.Load()):
                    used.add(identifier)
                case ast.Name(id=identifier) | ast.arg(arg=identifier):
                    known.add(identifier)
                case ast.FunctionDef(name=identifier) | ast.ClassDef(name=identifier):
                    known.add(identifier)
                case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                    known |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
        return used <= known


SNIPPETS = [
    Snippet(name(page), number, text)
    for page in PAGES
    for number, (_, text) in enumerate(one for one in blocks(page) if one[0] == "python")
]
COMPLETE = [one for one in SNIPPETS if one.is_complete and not any(mark in one.code for mark in NOT_EXECUTED)]


@pytest.fixture
def tables() -> Iterator[None]:
    """What a snippet adds to a table goes with it."""
    before = [dict(table) for table in TABLES]
    yield
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("snippet", COMPLETE, ids=str)
def test_a_complete_snippet_runs(snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet.code, str(snippet), "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("snippet", [one for one in SNIPPETS if one not in COMPLETE], ids=str)
def test_the_imports_of_other_snippets_work(snippet: Snippet):
    tree = ast.parse(snippet.code)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(body=list(imports), type_ignores=[]), str(snippet), "exec"), {})


def test_the_recipe_of_the_page_is_the_one_in_examples():
    (code,) = [one.code for one in SNIPPETS if one.page == "docs/recipes.md"]
    assert code == (ROOT / "examples" / "rejection_sampling.py").read_text(encoding="utf-8")


def test_snippets_that_must_be_complete_are():
    pages = {one.page for one in COMPLETE}
    assert {"docs/index.md", "docs/teachers.md", "docs/recipes.md"} <= pages
