"""The forms in which the pocket teacher is asked, and how answers are read."""

import random
from itertools import islice

import pytest

from codestill.pocket import sketches
from codestill.pocket.compositions import split_of
from codestill.pocket.generate import Sketch, cases
from codestill.pocket.operations import OPERATIONS
from codestill.pocket.skills import (
    LEVELS,
    asked,
    broken,
    compose_prompt,
    composed,
    decompose_prompt,
    fits,
    read_asked,
    read_judgement,
    read_parts,
    refine_prompt,
    sub_functions,
    verdict,
    written_inputs,
)
from codestill.pocket.trial import trial
from codestill.pocket.understand import understand
from codestill.synthesis import read_calls


def drawn(count: int, *depths: int):
    return islice(sketches("train", dict.fromkeys(depths, 1.0), random.Random(7)), count)


def test_parts_make_the_whole():
    rng = random.Random(0)
    for sketch in drawn(100, 2, 3, 4):
        helpers = sub_functions(sketch)
        answer = "".join(part.prompt for part in helpers)
        assert read_parts(answer) == [part.prompt for part in helpers]
        gives = OPERATIONS[sketch.composition[-1]].gives
        assert fits(sketch.source, gives, read_parts(answer)) == sketch.composition
        given = cases(sketch, rng)
        if given is not None:
            program = compose_prompt(sketch.prompt, [part.code for part in helpers]) + composed(sketch)
            namespace: dict = {}
            exec(program, namespace)
            assert [namespace[sketch.function](value) for value in given.inputs] == given.outputs


def test_malformed_parts_are_no_parts():
    assert read_parts("") == read_parts("pass") == read_parts("def f(x):\n    pass\n") == []
    (sketch,) = drawn(1, 2)
    first = [function.prompt for function in sub_functions(sketch)][:1]
    assert fits(sketch.source, OPERATIONS[sketch.composition[-1]].gives, first) is None or (
        OPERATIONS[sketch.composition[0]].gives == OPERATIONS[sketch.composition[-1]].gives
    )
    assert decompose_prompt(sketch.prompt).endswith("# parts\n")


@pytest.mark.parametrize("level", LEVELS)
def test_asked_tasks_are_training_tasks_of_the_level(level):
    rng = random.Random(1)
    for sketch in drawn(60, 2, 3):
        answer = asked(sketch, level, rng)
        assert answer is not None
        said, found = answer
        assert read_asked(said + found.prompt) == read_asked(found.prompt) == found.prompt
        steps = [line.removeprefix("# ") for line in said.splitlines()]
        mark = {"easier": "without ", "same": ", not ", "harder": "with "}[level]
        assert sum(mark in f" {step}" for step in steps) >= 1
        if level != "same":
            assert sum(step.startswith(mark) for step in steps) == 1
        assert understand(found.prompt) == (found.source, {(found.composition, found.constants)})
        assert split_of(found.composition) == "train"
        difference = len(found.composition) - len(sketch.composition)
        assert difference == {"easier": -1, "same": 0, "harder": 1}[level]


def test_inputs_are_read_as_calls():
    (sketch,) = drawn(1, 2)
    given = None
    while given is None:
        given = cases(sketch, random.Random(2))
    text = written_inputs(sketch.function, given, 4)
    assert read_calls(sketch.function, text) == text.splitlines()
    assert read_calls("f", "f(1)\ng(2)\nf(x)\nf(\nf([1, 'a'])") == ["f(1)", "f([1, 'a'])"]


def test_judgements_are_read_and_checked():
    item = Sketch("ints", ("even", "square"), (None, None), "f", "xs", "")
    even, square = "keep only the even numbers", "square each number"
    wanted = (f"wanted: {even}", f"wanted: {square}")
    said = {  # composition: score, what it does, agreement
        ("even", "square"): (8, (even, square), 1.0),
        ("even", "negate"): (1, (even, "flip every sign"), 1 / 2),
        ("square",): (2, (square,), 0.0),
        ("square", "even"): (2, (square, even), 0.0),
        ("even", "square", "sum"): (0, (even, square, "add everything up"), 2 / 3),
    }
    for composition, (score, steps, agreement) in said.items():
        found = read_judgement(verdict(item, composition, (None,) * len(composition), score))
        assert found is not None
        assert (found.score, found.reasons) == (score, (*wanted, *(f"does: {step}" for step in steps)))
        assert found.agreement == pytest.approx(agreement)
        assert found.rating == pytest.approx((score / 8 + agreement) / 2)
    stopped = read_judgement(broken("does not parse"))
    assert stopped is not None
    assert (stopped.score, stopped.reasons, stopped.rating) == (0, ("does not parse",), 0.0)
    for answer in ("", "# score 9", "# x\n# score 9\n", "# x\n# score -1\n", "# x\n# score\n"):
        assert read_judgement(answer) is None


def test_a_refine_prompt_holds_the_header_twice():
    (sketch,) = drawn(1, 2)
    given = None
    while given is None:
        given = cases(sketch, random.Random(2))
    result = trial(sketch, "    pass", given)
    prompt = refine_prompt(sketch.prompt, "    pass", f"{result.verdict}\nmore")
    assert prompt == f"{sketch.prompt}    pass\n# wrong\n# more\n{sketch.prompt}"
