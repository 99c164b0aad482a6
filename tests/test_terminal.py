"""What is printed is shown, and steers no terminal."""

import io
import json
from pathlib import Path

import pytest
from rich.syntax import Syntax
from rich.table import Table

from codestill.cli import main
from codestill.progress import ProgressBars
from codestill.terminal import Terminal, printable
from codestill.types import Event

EVIL = "\x1b]0;title\x07\x1b[31m\x9b2J\x08\x7f\u202e\u2066\u200f\u2028\ud800[red][/]:smile:"
STEERS = [
    chr(code)
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), 0x202E, 0x2066, 0x200F, 0x2028)
    if code not in (9, 10)
]


def harmless(text: str) -> bool:
    return not any(sign in text for sign in STEERS) and text.encode() is not None


def test_signs_that_steer_become_visible_and_the_rest_stays() -> None:
    assert printable("\x1b[31m\x07") == "␛[31m␇"
    assert printable("a\tb\né 𝄞 中\u200d") == "a\tb\né 𝄞 中\u200d"
    assert harmless(printable(EVIL + "".join(STEERS)))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_shows_text_tables_and_code_as_they_stand(terminal: bool) -> None:
    out = io.StringIO()
    console = Terminal(file=out, width=200, force_terminal=terminal, color_system=None)
    console.print(EVIL)
    console.print(f"a {EVIL}", highlight=False, soft_wrap=True)
    table = Table(EVIL)
    table.add_row(EVIL)
    console.print(table)
    console.print(Syntax(f"x = 1  # {EVIL}", "python", background_color="default"))
    assert harmless(out.getvalue()), out.getvalue()
    assert out.getvalue().count("[red][/]:smile:") == 5


def test_progress_shows_names_and_messages_as_they_stand() -> None:
    out = io.StringIO()
    bars = ProgressBars(Terminal(file=out, width=200))
    bars(Event(stage=f"s{EVIL}", kind="progress", done=1, total=2))
    bars(Event(stage=f"s{EVIL}", kind="progress", done=2, total=2))
    bars(Event(stage=f"s{EVIL}", kind="message", message=EVIL))
    bars.close()
    assert harmless(out.getvalue())
    assert out.getvalue().count("[red][/]:smile:") == 3


def test_a_bar_on_a_terminal_shows_its_name_as_it_stands() -> None:
    out = io.StringIO()
    bars = ProgressBars(Terminal(file=out, width=200, force_terminal=True, color_system=None))
    bars(Event(stage="s\x1b]0;title[red][/]", kind="progress", done=1, total=2))
    bars.bars.refresh()
    bars.close()
    assert "s␛]0;title[red][/" in out.getvalue() and "\x1b]" not in out.getvalue()


def test_task_ids_and_errors_cannot_steer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = {
        "task_id": "a\x1b]0;title\x1b[31m[/]",
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "reference": "    return x  # \u202e\n",
        "tests": ["assert f(1) == 1"],
    }
    Path("t.jsonl").write_text(json.dumps(row) + "\n")
    for arguments in (["tasks", "show", "t.jsonl"], ["tasks", "show", "t.jsonl", row["task_id"]]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    with pytest.raises(SystemExit):
        main(["tasks", "show", "t.jsonl", "\x1b[2Jnone"])
    shown = capsys.readouterr()
    assert harmless(shown.out) and "a␛]0;title␛[31m[/]" in shown.out
    assert harmless(shown.err) and "[2Jnone" in shown.err
