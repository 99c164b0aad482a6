"""codestill library: a library on disk, looked at."""

from pathlib import Path

from tests.cli.conftest import Codestill, assert_refused

from codestill.files.serialize import write_jsonl
from codestill.recipes.amr_evol.library import Library, read_functions

PROGRAM = '''\
def total(xs: list[int]) -> int:
    """Return the sum of [all] numbers."""
    return sum(xs)


def largest(xs: list[int]) -> int:
    """Return the largest number."""
    return max(xs)
'''


def test_a_library_is_listed_shown_searched_and_counted(codestill: Codestill, tmp_path: Path) -> None:
    library = Library(tmp_path / "run" / "library")
    found = [one.model_copy(update={"tests": ("assert 1 == 1",)}) for one in read_functions(PROGRAM, "here")]
    library.add("seed", found)
    listed = codestill("library", "ls", "run")
    assert listed.code == 0
    assert found[0].key in listed.out and "(xs: list[int]) -> int" in listed.out and "[all]" in listed.out
    assert "1 more" in codestill("library", "ls", "run/library", "--limit", "1").out
    shown = codestill("library", "show", "run", "largest")
    assert "return max(xs)" in shown.out and "assert 1 == 1" in shown.out and "from here" in shown.out
    assert codestill("library", "show", "run", found[1].key).out == shown.out
    rows = codestill("library", "search", "run", "the largest number").out.splitlines()
    assert "largest" in rows[1] and "total" in rows[2]
    assert "2 functions of 2 names, 2 tests" in codestill("library", "stats", "run").out
    wave = {"wave": 1, "functions": 2, "modules": 8, "found": 6, "added": 3}
    write_jsonl(tmp_path / "run" / "library" / "growth.jsonl", [wave])
    assert codestill("library", "stats", "run").out.splitlines()[-1].split() == [
        "1",
        "2",
        "8",
        "6",
        "75%",
        "3",
    ]


def test_what_is_not_there_is_said(codestill: Codestill, tmp_path: Path) -> None:
    assert_refused(codestill("library", "ls", "nowhere"), "no function library", "library.json")
    assert_refused(codestill("library", "stats", tmp_path), "no function library")
    Library(tmp_path / "empty")
    assert codestill("library", "ls", "empty").code == 0
    assert codestill("library", "search", "empty", "anything").code == 0
    assert_refused(codestill("library", "show", "empty", "f"), "no function 'f'", "codestill library ls")
