"""Prompts read back, and programs that are wrong in known ways."""

import random
from itertools import islice

import pytest

from codestill.pocket import generate, sketches
from codestill.pocket.compositions import HeldOut
from codestill.pocket.faults import plant_fault
from codestill.pocket.generate import Sketch, cases
from codestill.pocket.trial import trial
from codestill.pocket.understand import understand
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import Task, Test

SPLITS: tuple[HeldOut, ...] = ("train", "validation", "test")


@pytest.mark.parametrize("split", SPLITS)
def test_a_prompt_means_what_it_was_made_from_and_nothing_else(split):
    depths = {2: 1.0, 3: 1.0, 4: 1.0} | ({1: 1.0} if split == "train" else {})
    for sketch in islice(sketches(split, depths, random.Random(split)), 1500):
        assert understand(sketch.prompt) == (sketch.source, {(sketch.composition, sketch.constants)}), sketch


@pytest.mark.parametrize(
    "prompt",
    [
        'def f(xs: list[int]) -> int:\n    """Return the fun of xs.\n    """\n',
        'def f(xs: list[int]) -> int:\n    """Return the squares of xs.\n    """\n',  # gives a list
        'def f(xs: str) -> list[int]:\n    """Return the squares of xs.\n    """\n',  # takes a list
        'def f(xs: list[int]) -> list[int]:\n    """Return the squares of ys.\n    """\n',
        'def f(xs: list[int]) -> list[int]:\n    """Return xs.\n    """\n',
        'def f(xs: list[int]) -> list[int]:\n    """Return the first 99 elements of xs.\n    """\n',
        "def f(xs):\n    pass\n",
    ],
)
def test_what_is_no_task_of_this_world_has_no_reading(prompt):
    assert understand(prompt) is None


def test_an_ambiguous_phrase_has_two_readings():
    prompt = 'def f(xs: list[int]) -> list[int]:\n    """Return the first 3 elements of xs sorted in '
    prompt += 'ascending order.\n    """\n'
    found = understand(prompt)
    assert found is not None
    assert found[1] == {(("take", "ascending"), (3, None)), (("ascending", "take"), (None, 3))}


def sketch_of(task: Task) -> Sketch:
    found = understand(task.prompt)
    assert found is not None
    source, readings = found
    ((composition, constants),) = readings
    parameter = task.prompt.split("(")[1].split(":")[0]
    return Sketch(source, composition, constants, task.entry_point, parameter, "")


def test_faults_fail_and_come_in_every_kind():
    rng = random.Random(0)
    tasks = generate("train", 150, seed=5)
    faults = [plant_fault(sketch_of(task), rng) for task in tasks]
    with Sandbox(SandboxConfig(cpu_seconds=2)) as sandbox:
        programs = (Program.of(task, wrong.body) for task, wrong in zip(tasks, faults, strict=True))
        verdicts = [result.verdict for result in sandbox.run(programs)]
    assert len({wrong.kind for wrong in faults}) == 9
    assert verdicts.count("pass") < 0.1 * len(tasks)  # an exchange can make no difference to eight inputs
    assert verdicts.count("wrong") > 0.6 * len(tasks)
    for wrong, verdict in zip(faults, verdicts, strict=True):
        if wrong.kind == "syntax":
            assert verdict == "exception", wrong
        if wrong.kind == "name":  # an empty list may end before the name is read
            assert verdict in ("exception", "wrong"), wrong


def test_a_trial_says_what_the_sandbox_says():
    rng = random.Random(1)
    programs, expected = [], []
    for sketch in islice(sketches("train", {1: 1.0, 2: 1.0, 3: 1.0}, rng), 80):
        drawn = cases(sketch, rng)
        if drawn is None:
            continue
        for text in (sketch.solution(), plant_fault(sketch, rng).body):
            tests = [
                Test(code=f"assert {sketch.function}({value!r}) == {output!r}")
                for value, output in zip(drawn.inputs, drawn.outputs, strict=True)
            ]
            program = Program(solution=sketch.prompt + text, entry_point=sketch.function, tests=tuple(tests))
            programs.append(program)
            expected.append(trial(sketch, text, drawn))
    with Sandbox(SandboxConfig(cpu_seconds=2)) as sandbox:
        for result, tried in zip(sandbox.run(programs), expected, strict=True):
            assert tried == result.model_copy(update=dict.fromkeys(("sandbox",), "")).model_copy(
                update={"cpu_seconds": 0.0, "wall_seconds": 0.0, "peak_megabytes": 0.0}
            )
