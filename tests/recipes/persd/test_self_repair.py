"""Multi-step inference: a model repairs its own answers, and hidden tests never reach it."""

from collections.abc import Iterator

import pytest
from tests.support.scripted import Scripted

from codestill.config import RunConfig
from codestill.evaluation import EvaluateConfig, evaluate
from codestill.models import Decoding, SamplingConfig
from codestill.recipes.persd.self_repair import GENERIC, SelfRepair, SelfRepairConfig, shown, visible_tasks
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.tasks import TasksConfig, TaskSet, write_tasks
from codestill.types import Request, Task

HIDDEN = "4711"  # stands in hidden tests and nowhere else
TASKS = [
    Task(
        task_id=name,
        prompt=f'def {name}(x):\n    """Twice x.\n\n    >>> {name}(3)\n    6\n    """\n',
        entry_point=name,
        reference="    return 2 * x\n",
        tests=(f"assert {name}(3) == 6", f"assert {name}({HIDDEN}) == 2 * {HIDDEN}"),  # pyright: ignore
    )
    for name in ("first", "second", "third")
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), 1) as box:
        yield box


@pytest.fixture
def task_set(tmp_path) -> TaskSet:
    write_tasks(tmp_path / "t.jsonl", TASKS)
    return TasksConfig.model_validate(str(tmp_path / "t.jsonl")).load()


def saying(**texts: list[str]) -> Scripted:
    """A model that says, for each task, one text after the other."""
    left = {name: iter(given) for name, given in texts.items()}
    return Scripted(lambda one: next(left[one.task_id]))


RIGHT, WRONG, WORSE = "    return 2 * x\n", "    return x + 1\n", "    return y\n"


def answers(model: Scripted, task_set: TaskSet, sandbox: Sandbox, **options) -> dict[str, str]:
    config = SelfRepairConfig(**options)
    stepper = SelfRepair(model, visible_tasks(task_set, config), sandbox, config)
    asked = [Request(task_id=task.task_id, prompt=task.prompt) for task in task_set.tasks]
    return {one.task_id: one.text for one in stepper.complete(asked, Decoding(SamplingConfig()))}


def test_repairs_follow_each_other_until_the_visible_tests_pass(task_set: TaskSet, sandbox: Sandbox):
    model = saying(first=[RIGHT], second=[WRONG, RIGHT], third=[WRONG, WORSE, WRONG, RIGHT])
    found = answers(model, task_set, sandbox)
    assert found == {"first": RIGHT, "second": RIGHT, "third": WRONG}  # two repairs, no third
    of_third = [prompt for prompt in model.prompts if "third" in prompt]
    assert len(of_third) == 3
    assert WRONG in of_third[1] and "OUTPUT: 4" in of_third[1] and "EXPECTED: 6" in of_third[1]
    assert WORSE in of_third[2] and "NameError" in of_third[2] and WRONG not in of_third[2]
    assert all(prompt.endswith(TASKS[2].prompt) for prompt in of_third)


def test_an_evaluation_states_how_the_weights_were_quantised(
    task_set: TaskSet, sandbox: Sandbox, tmp_path
) -> None:
    class Quantised(Scripted):
        quantization = "Q4_K_M"

    config = SelfRepairConfig()
    settings = EvaluateConfig.model_validate({"tasks": str(tmp_path / "t.jsonl"), "samples_per_task": 0})
    for model, label in ((Quantised, "Q4_K_M"), (Scripted, None)):
        stepper = SelfRepair(model(lambda _: RIGHT), visible_tasks(task_set, config), sandbox, config)
        with Run.open(tmp_path / str(label), RunConfig()) as run:
            assert evaluate(stepper, "student", settings, sandbox, run).quantization == label


def test_hidden_tests_cannot_reach_a_prompt(task_set: TaskSet, sandbox: Sandbox):
    """Nor can what they show: an answer that fails hidden tests alone is not repaired."""
    only_visible = "    return 6\n"
    model = saying(first=[only_visible], second=[WRONG, WORSE, WRONG], third=[WORSE, WORSE, WORSE])
    for task in visible_tasks(task_set, SelfRepairConfig()).tasks:
        assert HIDDEN not in task.model_dump_json()
        assert not task.reference
    assert answers(model, task_set, sandbox)["first"] == only_visible
    assert len(model.prompts) == 7
    assert not [prompt for prompt in model.prompts if HIDDEN in prompt]


def test_where_the_first_tests_are_visible_the_others_are_not(task_set: TaskSet, sandbox: Sandbox):
    seen = visible_tasks(task_set, SelfRepairConfig(visible="first", visible_tests=1)).tasks
    assert [task.tests for task in seen] == [task.tests[:1] for task in TASKS]
    only_visible = "    return 6\n"
    model = saying(first=[only_visible], second=[WRONG, WORSE, WRONG], third=[WORSE, RIGHT])
    found = answers(model, task_set, sandbox, visible="first", visible_tests=1)
    assert found == {"first": only_visible, "second": WRONG, "third": RIGHT}
    assert not [prompt for prompt in model.prompts if HIDDEN in prompt]


@pytest.mark.parametrize(
    ("kind", "said"), [("generic", f"# {GENERIC}\n"), ("none", ""), ("execution", "# AssertionError\n")]
)
def test_what_it_is_told(kind: str, said: str, task_set: TaskSet, sandbox: Sandbox):
    model = saying(first=[WRONG, RIGHT], second=[RIGHT], third=[RIGHT])
    answers(model, task_set, sandbox, feedback=kind)
    told = model.prompts[-1].removeprefix(TASKS[0].prompt + WRONG).removesuffix(TASKS[0].prompt)
    assert told.startswith(said)
    assert ("AssertionError" in told) == (kind == "execution")


def test_an_editor_repairs_what_another_wrote(task_set: TaskSet, sandbox: Sandbox):
    model = saying(first=[WRONG], second=[RIGHT], third=[RIGHT])
    editor = saying(first=[RIGHT], second=[], third=[])
    config = SelfRepairConfig()
    stepper = SelfRepair(model, visible_tasks(task_set, config), sandbox, config, editor)
    asked = [Request(task_id=task.task_id, prompt=task.prompt) for task in task_set.tasks]
    assert {one.text for one in stepper.complete(asked, Decoding(SamplingConfig()))} == {RIGHT}
    assert len(editor.prompts) == 1


def test_an_evaluation_scores_it_by_all_tests(task_set: TaskSet, sandbox: Sandbox, tmp_path):
    model = saying(first=["    return 6\n"] * 9, second=[WRONG, RIGHT] * 9, third=[RIGHT] * 9)
    config = SelfRepairConfig()
    stepper = SelfRepair(model, visible_tasks(task_set, config), sandbox, config)
    settings = EvaluateConfig.model_validate(
        {"tasks": str(tmp_path / "t.jsonl"), "samples_per_task": 1, "greedy": False, "profile": False}
    )
    with Run.open(tmp_path / "run", RunConfig()) as run:
        found = evaluate(stepper, "student", settings, sandbox, run)
    assert found.per_task == {"first": (1, 0), "second": (1, 1), "third": (1, 1)}


def test_tests_are_found_in_prompts():
    mbpp = TASKS[0].model_copy(update={"prompt": f'"""Twice x.\n{TASKS[0].tests[0].code}\n"""\n'})
    assert [test.code for test in shown(mbpp)] == ["assert first(3) == 6"]
    assert [test.code for test in shown(TASKS[0])] == ["assert first(3) == 6"]
    examples = ">>> f(1) + 1\n    2\n    >>> f(2)\n    <object>\n    >>> f('a')\n    'b'\n"
    odd = f'def f(x):\n    """\n    {examples}    """\n'
    found = shown(TASKS[0].model_copy(update={"prompt": odd}))
    assert [test.code for test in found] == ["assert f('a') == 'b'"]


def test_tasks_that_show_no_test_keep_their_first_answer(task_set: TaskSet, sandbox: Sandbox):
    bare = [task.model_copy(update={"prompt": f"def {task.task_id}(x):\n"}) for task in TASKS]
    plain = TaskSet("t", tuple(bare), "test", "zero-shot", task_set.stop)
    model = saying(first=[WRONG], second=[WRONG], third=[WRONG])
    assert set(answers(model, plain, sandbox).values()) == {WRONG}
    model = saying(first=[WRONG, RIGHT], second=[WRONG, RIGHT], third=[RIGHT])
    assert set(answers(model, plain, sandbox, visible="first", visible_tests=1).values()) == {RIGHT}
