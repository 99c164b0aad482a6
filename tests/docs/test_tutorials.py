"""The tutorials' commands, executed in their order, on fewer tasks."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks, commands
from tests.docs.test_commands import TITLED
from tests.serve.test_process import process
from tests.support.server import served
from tests.support.worlds import fim_student

from codestill.cli import main
from codestill.pocket import bundled_directory
from codestill.tasks import write_tasks
from codestill.types import Task

PLACE = ROOT / "docs" / "tutorials"
COUNT = re.compile(r"--(\S+\.)?count")
QUICK = (
    "--train.max-steps=2",
    "--evaluate.samples-per-task=1",
    "--evaluate.profile=false",
    "--execution.threads=1",
)


def small(arguments: tuple[str, ...]) -> list[str]:
    """The same command on at most six tasks, and few steps."""
    words = [*arguments]
    for place, word in enumerate(words[:-1]):
        if COUNT.fullmatch(word):
            words[place + 1] = str(min(6, int(words[place + 1])))
    if "distil" in words:
        return [*words, *QUICK, "--evaluate.max-new-tokens=16"]
    if words[0] == "run":
        return [*words, *QUICK, "--evaluate.tasks.count=4", "--evaluate.max-new-tokens=16"]
    if words[0] in ("evaluate", "export"):
        return [*words, "--evaluate.max-new-tokens=16", *(QUICK[2:3] if words[0] == "evaluate" else ())]
    return words


def follow(page: str, *more: str, **instead: str) -> Iterator[str]:
    """Do what the page says, where one stands; yields each command line that ended well. ``instead``: words
    that stand for something that a reader has; ``more`` options."""
    text = (PLACE / f"{page}.md").read_text(encoding="utf-8")
    for name, content in TITLED.findall(text):
        Path(name).write_text(content, encoding="utf-8")
    for command in commands(PLACE / f"{page}.md"):
        if "--run-dir" not in command.arguments and command.arguments[0] in ("distil", "run"):
            continue  # named in a sentence
        if command.arguments[0] == "serve":
            continue  # it goes on until it is stopped
        words = [*(instead.get(word, word) for word in small(command.arguments)), *more]
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert not ended.value.code, words
        yield " ".join(command.arguments)


@pytest.fixture(autouse=True)
def in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_first_student_and_its_report() -> None:
    done = [*follow("first-student")]
    assert done[0].startswith("distil pocket pocket-base")
    assert Path("runs/first/after/seed-0/student/model.safetensors").exists()
    assert Path("runs/first/report.html").exists()
    done = [*follow("reading-a-report")]
    assert any(line.startswith("show runs/first/after/seed-0 --stage answers") for line in done)
    assert any(line.startswith("data ") for line in done)


@pytest.mark.slow
def test_own_tasks() -> None:
    done = [*follow("own-tasks")]
    assert [line.split()[0] for line in done] == ["tasks", "plan", "distil"]
    assert len(Path("runs/mine/given/test.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_served_teacher(tmp_path: Path) -> None:
    """transformers' own server, of the bundled teacher; the tasks are those of the page before."""
    list(follow("own-tasks"))
    with served(bundled_directory("pocket"), tmp_path / "server") as url:
        reader = {
            "http://localhost:8000/v1": url,
            "Qwen/Qwen2.5-Coder-1.5B-Instruct": str(bundled_directory("pocket")),
            "Qwen/Qwen2.5-Coder-0.5B-Instruct": "pocket-base",
        }
        done = [*follow("served-teacher", "--teacher.endpoint", "completions", **reader)]
    assert len(done) == 1 and Path("runs/served/after/seed-0/ledger.jsonl").exists()


@pytest.mark.slow
def test_a_recipe_of_ones_own() -> None:
    done = [*follow("extending")]
    assert [line.split()[0] for line in done] == ["new", "check", "run", "report"]
    assert Path("runs/own/report.html").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_student_in_an_editor(tmp_path: Path) -> None:
    """Up to what an editor does itself. A model with gaps in its tokenizer stands for the published ones."""
    model = fim_student(tmp_path / "tokenizer").save(tmp_path / "model")
    gap = {
        "entry_point": "f",
        "tests": ("assert f(2) == 3",),
        "prompt": "def f(x):\n",
        "suffix": "    return y\n",
    }
    write_tasks(tmp_path / "gaps.jsonl", [Task(task_id="gap", reference="    y = x + 1\n", **gap)])  # type: ignore[arg-type]
    reader = {
        "bigcode/starcoder2-3b": str(model),
        "Qwen/Qwen2.5-Coder-0.5B-Instruct": str(model),
        "mbpp:train": "pocket:train",
        "humaneval": "pocket",
        "humaneval-infilling": str(tmp_path / "gaps.jsonl"),
        "gguf:q8_0": "onnx",
        "20": "2",
    }
    done = [*follow("editor", **reader)]
    assert [line.split()[0] for line in done] == ["run", "run", "evaluate", "export"]
    page = PLACE / "editor.md"
    (request,) = [text for language, text in blocks(page) if language == "sh"]
    with process(Path("runs/editor"), tmp_path / "serve.log") as (url, _):
        answer = json.loads(
            subprocess.check_output(["sh", "-c", request.replace("http://127.0.0.1:8012", url)])
        )
        assert answer["tokens_predicted"] > 0 and "content" in answer
        assert "/infill" in (tmp_path / "serve.log").read_text()
