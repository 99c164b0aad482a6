"""Tasks that a teacher makes: what is kept, what is dropped and why, and where their tests come from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.scripted import Scripted, teaching_by
from tests.support.tiny import CPU

from codestill.config import RunConfig
from codestill.errors import ConfigError, TaskError
from codestill.files.run_files import read_accounting
from codestill.prompts import CONTINUED, INSTRUCT, Prompts
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.synthesis import (
    Admission,
    SynthesisConfig,
    function_name,
    is_literal,
    read_calls,
    read_values,
    rouge_l,
    synthesise,
    words,
)
from codestill.tasks import TasksConfig, TaskSet
from codestill.teachers import LocalTeacherConfig
from codestill.types import Request


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), 1) as box:
        yield box


def seeds(count: int = 6) -> TaskSet:
    settings = {"source": "pocket", "split": "train", "count": count, "depths": [2]}
    return TasksConfig.model_validate(settings).load()


def table(rows: list[tuple[str, str, str]]) -> Scripted:
    """Answers each kind of question, by task number."""

    def answer(one: Request) -> str:
        kind = 0 if "Invent" in one.prompt else 2 if "five assertions" in one.prompt else 1
        return rows[int(one.task_id.rpartition("/")[2])][kind]

    return Scripted(answer)


def block(code: str) -> str:
    return f"Gladly.\n\n```python\n{code}\n```\n"


def header(name: str, said: str, arguments: str = "xs: list[int]") -> str:
    return f'def {name}({arguments}) -> int:\n    """{said}"""'


def answered(header_: str, body: str, *calls: str) -> tuple[str, str, str]:
    return block(header_), block(f"{header_}\n{body}"), "\n".join(calls)


GOOD = answered(
    header("longest_run", "Length of the longest run of equal neighbours."),
    "    best = run = 0\n    for a, b in zip(xs, xs[1:]):\n        run = run + 1 if a == b else 0\n"
    "        best = max(best, run + 1)\n    return best",
    "longest_run([1, 1, 2])",
    "- `longest_run([])`",
    "longest_run([3, 3, 3])",
    "longest_run([3, 3, 3])",
    "longest_run(input())",
    "other([1])",
)
UNSTABLE = answered(
    header("chance", "A number that nobody can say in advance, from any list."),
    "    import random\n    return random.random()",
    "chance([1])",
    "chance([2])",
    "chance([3])",
)
OBJECT = answered(
    header("thing", "Some object made out of the whole list of numbers."),
    "    return object()",
    "thing([1])",
    "thing([2])",
    "thing([3])",
)
RAISING = answered(
    header("first_of", "Take the element that stands first in the given list."),
    "    return xs[0]",
    "first_of([1])",
    "first_of([])",
    "first_of([2])",
    "first_of([7, 2])",
)
SAME_VALUE = answered(
    header("nothing_at_all", "Always answer with zero, whatever numbers are handed over."),
    "    return 0",
    "nothing_at_all([1])",
    "nothing_at_all([2])",
    "nothing_at_all([3])",
)


def made(
    rows: list[tuple[str, str, str]], directory: Path, sandbox: Sandbox, **options
) -> tuple[TaskSet, dict]:
    config = SynthesisConfig(proposals=len(rows), **options)
    with Run.open(directory, RunConfig()) as run:
        found = synthesise(seeds(), teaching_by(table(rows), INSTRUCT, sandbox, run), config)

    return found, read_accounting(directory)


def test_what_becomes_a_task_and_what_is_dropped(tmp_path: Path, sandbox: Sandbox):
    unreadable = (block("x = 1"), "", "")
    short = answered(header("f", "Too short."), "    return 1", "f([1])")
    again = answered(
        header("run_length", "The length of the longest run of equal neighbours."), "    return 1"
    )
    unsolved = (GOOD[0].replace("longest run", "very first and only stretch"), "I do not know.", "")
    rows = [GOOD, unreadable, short, again, unsolved, UNSTABLE, OBJECT, RAISING, SAME_VALUE]
    found, account = made(rows, tmp_path / "run", sandbox)
    assert [(task.task_id, task.entry_point) for task in found.tasks] == [
        ("made/0", "longest_run"),
        ("made/7", "first_of"),
    ]
    assert [test.code for test in found.tasks[0].tests] == [
        "assert longest_run([1, 1, 2]) == 2",
        "assert longest_run([]) == 0",
        "assert longest_run([3, 3, 3]) == 3",
    ]
    assert [test.code.partition("(")[2] for test in found.tasks[1].tests] == [
        "[1]) == 1",
        "[2]) == 2",
        "[7, 2]) == 7",
    ]
    assert found.split == "train"
    assert account == {
        "proposals": 9,
        "tasks_made": 2,
        "question_tokens": 0,
        "dropped_unreadable": 1,
        "dropped_length": 1,
        "dropped_known": 1,
        "dropped_held_out": 0,
        "dropped_unsolved": 1,
        "dropped_too_few_tests": 3,
    }


def test_a_solution_that_the_token_limit_cut_makes_no_task(tmp_path: Path, sandbox: Sandbox) -> None:
    def cut(one: Request) -> bool:
        solves = "Invent" not in one.prompt and "five assertions" not in one.prompt
        return solves and one.task_id == "made/1"

    teacher = Scripted(table([GOOD, RAISING]).answer, cut=cut)
    with Run.open(tmp_path / "run", RunConfig()) as run:
        found = synthesise(
            seeds(), teaching_by(teacher, INSTRUCT, sandbox, run), SynthesisConfig(proposals=2)
        )
    assert [task.task_id for task in found.tasks] == ["made/0"]


def test_what_may_not_be_trained_on_is_dropped_before_it_is_solved(tmp_path: Path, sandbox: Sandbox):
    teacher = table([GOOD, RAISING])
    admission = Admission(allowed=lambda prompt: "longest_run" not in prompt)
    with Run.open(tmp_path / "run", RunConfig()) as run:
        teaching = teaching_by(teacher, INSTRUCT, sandbox, run)
        found = synthesise(seeds(), teaching, SynthesisConfig(proposals=2), admission)
        assert run.accounting["dropped_held_out"] == 1
    assert [task.entry_point for task in found.tasks] == ["first_of"]
    assert not [prompt for prompt in teacher.prompts if "longest_run" in prompt]


def test_nothing_left_says_where_it_went(tmp_path: Path, sandbox: Sandbox):
    with pytest.raises(TaskError, match="none of 2 proposals became a task: 1 unreadable, 1 too few tests"):
        made([("no", "", ""), UNSTABLE], tmp_path / "run", sandbox)


def test_finished_stages_are_not_asked_for_again(tmp_path: Path, sandbox: Sandbox):
    first, _ = made([GOOD], tmp_path / "run", sandbox)
    config = SynthesisConfig(proposals=1)
    silent = table([])
    with Run.open(tmp_path / "run", RunConfig()) as run:
        again = synthesise(seeds(), teaching_by(silent, INSTRUCT, sandbox, run), config)
    assert again.tasks == first.tasks
    assert not silent.prompts


def test_the_pocket_teacher_makes_tasks_of_its_world(tmp_path: Path, sandbox: Sandbox):
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    config = SynthesisConfig(proposals=12, novelty=1.0)
    with Run.open(tmp_path / "run", RunConfig()) as run:
        found = synthesise(seeds(12), teaching_by(teacher, CONTINUED, sandbox, run), config)
    assert len(found) >= 4
    known = {task.prompt for task in seeds(12).tasks}
    for task in found.tasks:
        assert task.prompt not in known
        assert len(task.tests) >= 3


def test_prompts_without_a_form_for_tasks_are_refused(tmp_path: Path, sandbox: Sandbox):
    mine = Prompts(version="mine", answers="continuation", solve="{{ prompt }}", refine="")
    with (
        Run.open(tmp_path / "run", RunConfig()) as run,
        pytest.raises(ConfigError, match="mine cannot ask for tasks"),
    ):
        synthesise(seeds(), teaching_by(table([]), mine, sandbox, run), SynthesisConfig(proposals=1))


def test_rouge_l_is_the_longest_common_subsequence():
    a, b = ["the", "cat", "sat", "on", "the", "mat"], ["the", "cat", "lay", "on", "a", "mat"]
    assert rouge_l(a, b) == pytest.approx(2 * 4 / 12)
    assert rouge_l(a, a) == 1
    assert rouge_l(a, []) == 0
    assert rouge_l(a, b, above=0.9) == 0


def test_words_are_those_of_the_description():
    assert words('def f(x):\n    """Say "Hello", twice."""\n') == ["say", "hello", "twice"]


def test_calls_are_read_with_literal_arguments_alone():
    text = "f(1)\n* f(2)\n`f(3)`\nf(x)\nf(-4, y=[5])\ng(1)\nf(1)\nf(6) == 6\n"
    assert read_calls("f", text) == ["f(1)", "f(2)", "f(3)", "f(-4, y=[5])", "f(6)"]


FOUND = [("f(1)", "2"), ("f([1, 2], 'a)b')", "{'a': 1}"), ("f(-1.5)", "None")]


@pytest.mark.parametrize(
    "answer",
    [
        "assert f(1) == 2\nassert f([1, 2], 'a)b') == {'a': 1}\nassert f(-1.5) is None",
        "1. `f(1) -> 2`\n2) f([1,2], \"a)b\") → {'a': 1}  # why\n- **f(-1.5)** => None",
        "```python\nassert f(1) == 2, 'f(3) == 4'\nassert (f([1, 2],\n    'a)b') == {\n  'a': 1})\n"
        "assert f(-1.5) == None\n```",
        "<think>assert f(0) == 0</think>\n* assert f(1) == 2.\n* assert f([1, 2], 'a)b') == {'a': 1};\n"
        "* assert f(-1.5) == None",
        ">>> f(1) == 2\n>>> f([1, 2], 'a)b') == {'a': 1} # yes\n>>> f(-1.5) == None\nassert f(1) == 3\n",
    ],
)
def test_values_are_read_as_models_write_them(answer: str):
    found = read_values("f", answer)
    assert [one for one in found if one[0] != "f(3)"] == FOUND
    assert [call for call in read_calls("f", answer) if call != "f(3)"] == [call for call, _ in FOUND]


@pytest.mark.parametrize(
    "line",
    ["assert f(1) == 2 + 3", "assert not f(1) == 2", "assert sorted(f(1)) == [2]", "assert f(1) != 2",
     "assert f(1) is not None", "assert f(1) == x", "assert f(1) == 2 or True", "f(1) returns 2", "f(1)"],
)  # fmt: skip
def test_a_value_is_only_what_is_said_of_the_call_itself(line: str):
    assert read_values("f", line) == []
    assert read_calls("f", line) == ["f(1)"]


@pytest.mark.parametrize(
    "line",
    ["f(x)", "g(1)", "x.f(1)", "ff(1)", "f(1", "f([1)]", "f(g(1))", "def f(1): pass", "    return f(1)",
     "<think>f(1)", "f('a)"],
)  # fmt: skip
def test_what_is_no_call_with_literals(line: str):
    assert read_calls("f", line) == []


@given(st.text(alphabet="f(1)[]{}'\"=-> \n#,x", max_size=60))
def test_any_answer_gives_calls_that_can_be_called(answer: str):
    for call, value in read_values("f", answer):
        assert is_literal(value)
        assert call in read_calls("f", answer)
    for call in read_calls("f", answer):
        assert eval(call, {"f": lambda *given, **named: 0}) == 0


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ('"""\nHalve it.\nassert half(4) == 2\n"""\n', "half"),
        ('"""\nAll of it.\nassert set(every(4)) == set((2,))\n"""\n', "every"),
        ('"""\nHalve it.\n"""\n', None),
        ('"""\nHalve it.\nassert half(4 == 2\n"""\n', None),
        ('x = 1\n"""\nassert half(4) == 2\n"""\n', None),
    ],
)
def test_a_stated_task_is_named_by_its_assertion(prompt: str, name: str | None):
    assert function_name(prompt) == name
