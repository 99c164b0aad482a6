"""The table of languages: validated names, entries that fit together, what depends on them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from codestill.errors import ConfigError, SandboxUnavailable, TaskError
from codestill.languages import LANGUAGES, LanguageSpec, add_language
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.sandbox.sandbox import require_runtime
from codestill.tasks import STOP_RULES, TasksConfig, pass_body, write_tasks
from codestill.types import Task

TASK = Task.model_validate(
    {
        "task_id": "t/0",
        "prompt": "def f(x):\n" + "    # a long comment\n" * 100,
        "entry_point": "f",
        "reference": "    return x\n",
        "tests": ["assert f(1) == 1"],
    }
)


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[LanguageSpec]:
    """A language whose interpreter is a shell."""
    runner = tmp_path / "runner.sh"
    runner.write_text("exit 3\n")
    spec = LanguageSpec(
        name="shell",
        stub=lambda prompt, entry_point, reference: f"{entry_point}() {{ :; }}\n",
        interpreter="sh",
        install="Install a shell.",
        runner=runner,
        arguments=("-c", "{runner}"),
        stop=("\n#",),
    )
    add_language(spec)
    yield spec
    LANGUAGES.pop("shell", None)


def in_shell(**fields: object) -> Task:
    return Task.model_validate(TASK.model_dump() | {"language": "shell", **fields})


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'javascript'"):
        Task.model_validate(TASK.model_dump() | {"language": "javascrpt"})
    with pytest.raises(ValidationError, match="known are python and javascript"):
        Task.model_validate(TASK.model_dump() | {"language": "cobol"})


def test_a_file_with_an_unknown_language_names_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    write_tasks(path, [TASK])
    path.write_text(path.read_text().replace('"prompt"', '"language":"cobol","prompt"'))
    with pytest.raises(TaskError, match=r"mine.jsonl:1: field 'language': .*no language 'cobol'"):
        TasksConfig.model_validate(str(path)).load()


def test_an_added_language_has_stub_stop_rule_and_no_syntax_check(echo: LanguageSpec, tmp_path: Path) -> None:
    task = in_shell(prompt="# not Python {", reference="f() { echo; }\n")
    assert pass_body(task) == "f() { :; }\n"
    write_tasks(tmp_path / "mine.jsonl", [task])
    settings = {"source": "jsonl", "path": tmp_path / "mine.jsonl"}
    with pytest.raises(TaskError) as refused:
        TasksConfig.model_validate(settings).load()
    assert refused.value.next_step == "Set tasks.stop to shell, or to none."
    loaded = TasksConfig.model_validate({**settings, "stop": "shell"}).load()
    assert loaded.stop.strings == ("\n#",) and loaded.tasks == (task,)


def test_a_stop_rule_that_nothing_has_is_refused() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'evalplus'"):
        TasksConfig.model_validate({"source": "mbpp", "stop": "evalpuls"})
    assert {"definitions", "none"} <= set(STOP_RULES)


def test_a_runner_that_says_nothing_is_no_pass(echo: LanguageSpec) -> None:
    with Sandbox(SandboxConfig(), 1) as sandbox:
        result = sandbox.execute(Program.of(in_shell(), "x"))
    assert result.verdict == "exception" and "status 3" in result.error


def test_a_language_added_after_the_sandbox_was_built_is_refused(echo: LanguageSpec) -> None:
    LANGUAGES.pop("shell")
    with Sandbox(SandboxConfig(), 1) as sandbox:
        add_language(echo)
        with pytest.raises(SandboxUnavailable, match="not there when this sandbox started"):
            sandbox.execute(Program.of(in_shell(), "x"))


def test_a_missing_interpreter_says_what_to_install(echo: LanguageSpec) -> None:
    LANGUAGES["shell"] = dataclasses.replace(echo, interpreter="no-such-interpreter")
    with pytest.raises(SandboxUnavailable, match="no-such-interpreter is not installed") as refused:
        require_runtime("shell", SandboxConfig())
    assert refused.value.next_step == "Install a shell."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "python"}, "already"),
        ({"name": "other", "interpreter": ""}, "needs an interpreter"),
        ({"name": "other", "arguments": ("-c",)}, "among its arguments"),
        ({"name": "other", "runner": Path("no/runner")}, "is not a file"),
    ],
)
def test_entries_that_cannot_work_are_refused(echo: LanguageSpec, change: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        add_language(dataclasses.replace(echo, **change))
    assert set(LANGUAGES) == {"python", "javascript", "shell"}


def test_the_same_language_may_be_added_twice(echo: LanguageSpec) -> None:
    add_language(dataclasses.replace(echo, stub=lambda *_: "another function object"))
    assert LANGUAGES["shell"].stub("", "f", "") == "another function object"


def test_tasks_programs_and_sandboxes_are_short_in_print() -> None:
    program = Program.of(TASK, TASK.reference)
    with Sandbox(SandboxConfig(), 1) as sandbox:
        assert repr(sandbox).startswith("<Sandbox of 1 workers: split verdict, tier ")
        shown = [repr(TASK), str(TASK), repr(program), repr(sandbox)]
    assert all(len(text) <= 300 for text in shown)
    assert "'t/0'" in shown[0] and "1 tests in python" in shown[0] and "def f(x)" in shown[2]
