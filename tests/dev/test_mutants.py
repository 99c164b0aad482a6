"""The list of deliberate faults cannot rot, and the tool tells a noticed fault from one that survives."""

from pathlib import Path

import pytest
from dev.mutants import ROOT, Fault, problem, read_list, run

FAULTS, PRELOAD = read_list()


def test_there_are_many() -> None:
    assert len(FAULTS) >= 150
    assert not [name for name in PRELOAD if name.startswith("codestill")]  # what is changed is imported anew
    parts = {fault.name.partition(":")[0] for fault in FAULTS}
    assert {"losses", "batches", "scoring", "sandbox", "prompts", "teachers", "run", "logits"} <= parts


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_of_the_list_applies_and_its_tests_are_there(fault: Fault) -> None:
    assert problem(fault) == ""
    assert fault.tests
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists()
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test


def tree(directory: Path, *faults: str) -> Path:
    """A project of one function and one test, with a list of faults."""
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\ntestpaths = ['tests']\n",
        "src/double.py": "def double(x):\n    return 2 * x\n\n\ndef unused(x):\n    return x\n",
        "tests/test_double.py": "from double import double\n\n\ndef test_it():\n    assert double(3) == 6\n",
        "dev/mutants.toml": "\n".join(faults),
    }
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def fault(name: str, before: str, after: str, tests: str = "tests/test_double.py") -> str:
    return (
        f'[[fault]]\nname = "{name}"\nfile = "src/double.py"\n'
        f'before = "{before}"\nafter = "{after}"\ntests = ["{tests}"]\n'
    )


KILLED = fault("a: once", "2 * x", "1 * x")


def test_a_noticed_fault_is_killed_and_the_tree_stays_as_it_was(tmp_path: Path) -> None:
    place = tree(tmp_path, KILLED)
    source = (place / "src/double.py").read_bytes()
    said: list[str] = []
    assert run(place, "*", 1, False, said.append) == 0
    assert said[-1] == "1 of 1 faults are killed."
    assert (place / "src/double.py").read_bytes() == source
    said.clear()
    assert run(place, "*", 1, False, said.append) == 0  # known: nothing is run again
    assert said == ["1 faults, 0 to run", "1 of 1 faults are killed."]
    (place / "tests/test_double.py").write_text("def test_it():\n    assert True\n")
    said.clear()
    assert run(place, "*", 1, False, said.append) == 1  # another tree: it is run, and nothing notices
    assert said[-1] == "SURVIVES  a: once"


@pytest.mark.slow
def test_what_survives_does_not_apply_or_cannot_be_tested_fails_the_run(tmp_path: Path) -> None:
    faults = (
        KILLED,
        fault("b: survives", "    return x\\n", "    return x + 1\\n"),
        fault("c: gone", "3 * x", "1 * x"),
        fault("d: twice", "return", "yield"),
        fault("e: no Python", "2 * x", "2 *"),
        fault("f: does not import", "def double(x)", "def other(x)"),
    )
    said: list[str] = []
    assert run(tree(tmp_path, *faults), "*", 2, False, said.append) == 1
    assert said[-6] == "1 of 6 faults are killed."
    assert sorted(said[-5:]) == [
        "BROKEN    c: gone",
        "BROKEN    d: twice",
        "BROKEN    e: no Python",
        "BROKEN    f: does not import",
        "SURVIVES  b: survives",
    ]


@pytest.mark.slow
def test_tests_that_fail_without_a_fault_are_told(tmp_path: Path) -> None:
    place = tree(tmp_path, KILLED)
    (place / "src/double.py").write_text("def double(x):\n    return 1 + 2 * x\n")
    said: list[str] = []
    assert run(place, "*", 1, False, said.append) == 2
    assert "must pass before" in said[-1]
    assert run(place, "nothing*", 1, False, said.append) == 1  # no fault at all is no success
