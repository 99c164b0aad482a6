"""Every command line that the documentation shows is one that the command line takes."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import COMMANDS, ROOT, Command, blocks

from codestill.cli import app, commands, export, main, plan, serve

# Commands that do nothing else are parsed by cyclopts alone; the others read settings first.
PLAIN = [
    "report",
    "runs",
    "show",
    "data",
    "card",
    "push",
    "students",
    "doctor",
    "tasks",
    "library",
    "new",
    "check",
    "plan",
]
# Offline, and done in seconds.
EXECUTED = (
    ("students",),
    ("doctor",),
    ("tasks", "ls"),
    ("tasks", "show", "pocket:test"),
    ("tasks", "check", "examples/tasks.jsonl"),
)

TITLED = re.compile(r'^```\w+ title="(\S+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)

SHOWN = {command.arguments: command for command in COMMANDS}  # each once, however many pages show it
RUN = [command for arguments, command in SHOWN.items() if arguments in EXECUTED or arguments[-1] == "--help"]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands read their settings, whose names this collects, and stop there."""
    parsed = []
    read = commands.read_settings

    def only_read(model: Any, command: str, arguments: Any, *bundled: Any, **shown: Any) -> None:
        read(model, command, arguments, *bundled, **shown)
        parsed.append(command)

    for module in (commands, export, plan, serve):
        monkeypatch.setattr(module, "read_settings", only_read)
    return parsed


def stand(command: Command, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its reader stands: at the root, or in a directory with the files that the page shows."""
    files = TITLED.findall((ROOT / command.page).read_text(encoding="utf-8"))
    for name, text in files:
        (directory / name).write_text(text, encoding="utf-8")
        sys.modules.pop(Path(name).stem, None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(directory if files else ROOT)


def with_config(command: Command, directory: Path) -> list[str]:
    """The arguments; a ``--config`` file that does not exist is the YAML block on the same page. A name
    without an ending is a bundled config."""
    arguments = list(command.arguments)
    for place in [number + 1 for number, word in enumerate(arguments) if word == "--config"]:
        if arguments[place].endswith(".yaml") and not (ROOT / arguments[place]).exists():
            (text,) = [text for language, text in blocks(ROOT / command.page) if language == "yaml"]
            path = directory / arguments[place]
            path.write_text(text, encoding="utf-8")
            arguments[place] = str(path)
    return arguments


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 40


# Those of the tutorials are executed in their order: see test_tutorials.py.
PARSED = [c for c in SHOWN.values() if c not in RUN and not c.page.startswith("docs/tutorials/")]


@pytest.mark.parametrize("command", PARSED, ids=str)
def test_a_command_of_the_documentation_is_parsed(
    command: Command, reader: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stand(command, tmp_path, monkeypatch)
    arguments = with_config(command, tmp_path)
    if arguments[0] in PLAIN:
        app.parse_args(arguments, exit_on_error=False, print_error=False)
    else:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        assert len(reader) == 1


@pytest.mark.parametrize("command", RUN, ids=str)
def test_a_command_that_needs_no_data_runs(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    stand(command, tmp_path, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        main(command.arguments)
    assert not ended.value.code
    assert capsys.readouterr().out.strip()


def test_every_command_to_execute_is_shown_somewhere():
    assert set(EXECUTED) <= set(SHOWN)
