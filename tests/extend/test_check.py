"""What ``codestill new`` writes passes ``codestill check``, and what is broken does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from codestill.cli import main
from codestill.errors import ConfigError
from codestill.extend import Finding, Kind, check, new, recipe
from codestill.losses import DIVERGENCES


def broken(found: list[Finding]) -> list[str]:
    return [finding.what for finding in found if not finding.holds]


def changed(path: Path, old: str, fresh: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, fresh), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def own_table() -> Iterator[None]:
    """Divergences that a test adds are gone after it."""
    before = dict(DIVERGENCES)
    yield
    DIVERGENCES.clear()
    DIVERGENCES.update(before)


@pytest.mark.parametrize("kind", ["tasks", "divergence"])
def test_what_is_written_passes(kind: Kind, tmp_path: Path) -> None:
    found = list(check(new(kind, "of_mine", tmp_path)))
    assert len(found) >= 4 and broken(found) == []


@pytest.mark.parametrize(
    ("old", "fresh", "what"),
    [
        ("(q - root) / 2", "(q + root) / 2", "gives q df/dq as its second value"),
        ("(p + q) / 2 - root,", "(p + q) / 2 - root + 0.1,", "is 0 between equals"),
        ("(p + q) / 2 - root,", "root - (p + q) / 2,", "is never negative"),
        ("root = (p * q).sqrt()", "root = p * (q / p).sqrt()", "gives numbers where a probability is 0"),
    ],
)
def test_a_wrong_divergence_fails(old: str, fresh: str, what: str, tmp_path: Path) -> None:
    found = list(check(changed(new("divergence", "of_mine", tmp_path), old, fresh)))
    assert what in broken(found)


@pytest.mark.parametrize(
    ("old", "fresh", "what"),
    [
        ("2 * number + (selection", "number + 0 * (selection", "no training task is held out"),
        ("% 2 == 0", "% 2 == 1", "what is held out is not trainable"),
        (
            "2 * number + (selection",
            "2 * number - 39 * round + (selection",
            "a later round has no task that is held out",
        ),
        ("return 2 * x + {number}", "return 2 * x", "train: references pass, empty answers do not"),
    ],
)
def test_a_wrong_family_fails(old: str, fresh: str, what: str, tmp_path: Path) -> None:
    found = list(check(changed(new("tasks", "of_mine", tmp_path), old, fresh)))
    assert what in broken(found)


def test_the_recipe_that_is_written_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "_KILLED_AT", (0.5,))
    found = list(check(new("recipe", "of_mine", tmp_path)))
    assert len(found) == 6 and broken(found) == []


@pytest.mark.slow
def test_a_recipe_that_forgets_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts its starts, explains one setting less, and is not evaluated."""
    monkeypatch.setattr(recipe, "_KILLED_AT", (0.95,))
    path = new("recipe", "of_mine", tmp_path)
    changed(path, "run.account(tasks=len(tasks)", "run.account(starts=run.accounting.get('starts', 0) + 1")
    changed(path, "        evaluate(student, ", "        lambda: evaluate(student, ")
    changed(path, '    """The model that learns."""\n', "")
    found = broken(list(check(path)))
    assert found[:2] == ["every setting has help", "evaluates behind gates"]
    assert any("goes on to the same bytes" in what for what in found)


@pytest.mark.slow
def test_a_recipe_that_pays_twice_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "_KILLED_AT", (0.7,))
    path = new("recipe", "of_mine", tmp_path)
    twice = (
        "        for kept in ('answers/*/*.json', 'stages/answers*'):\n"
        "            [path.unlink() for path in run.directory.glob(kept)]\n"
        "        # A stage keeps each record"
    )
    changed(path, "        # A stage keeps each record", twice)
    found = broken(list(check(path)))
    assert any("pays no call twice" in what for what in found)


@pytest.mark.parametrize("name", ["2fast", "a-b", "class", ""])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no name in Python"):
        new("recipe", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("precious")
    with pytest.raises(ConfigError, match="there already"):
        new("tasks", "mine", tmp_path)
    assert (tmp_path / "mine.py").read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "said"),
    [("x = 1\n", "defines no recipe"), ("1 / 0\n", "ZeroDivisionError"), (None, "no Python file")],
)
def test_what_cannot_be_checked_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        list(check(path))


def test_the_commands_say_what_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, code in (("new divergence mine", 0), ("check mine.py", 0)):
        with pytest.raises(SystemExit) as ended:
            main(arguments.split())
        assert ended.value.code == code
    assert "ok    mine: is 0 between equals" in capsys.readouterr().out
    changed(Path("mine.py"), "(q - root) / 2", "q - root")
    with pytest.raises(SystemExit) as ended:
        main(["check", "mine.py"])
    captured = capsys.readouterr()
    assert ended.value.code == 1 and "FAILS mine: gives q df/dq" in captured.out
    assert "1 of these do not hold" in captured.err
