"""What each lesson shows: programs, failures with their repairs, and answers in the form that is read."""

import random
from itertools import islice

import pytest

from codestill.pocket import sketches
from codestill.pocket.compositions import split_of
from codestill.pocket.faults import plant_fault
from codestill.pocket.lessons import INPUTS, lessons
from codestill.pocket.skills import (
    SKILLS,
    Skill,
    read_asked,
    read_judgement,
    read_parts,
    read_sketch,
)
from codestill.pocket.understand import HEADER, understand
from codestill.sandbox.feedback import feedback
from codestill.synthesis import read_calls
from codestill.types import Example


def drawn(skill: Skill, count: int = 60) -> list[Example]:
    return list(islice(lessons("train", {skill: 1.0}, 0.75, feedback, random.Random(3)), count))


@pytest.mark.parametrize("skill", SKILLS)
def test_lessons_repeat_by_seed_and_name_their_skill(skill):
    assert drawn(skill, 5) == drawn(skill, 5)
    assert {made.source for made in drawn(skill, 5)} == {f"grammar: {skill}"}


@pytest.mark.parametrize("skill", ["solve", "refine", "compose"])
def test_completions_are_programs(skill):
    for made in drawn(skill):
        program = made.prompt + made.completion
        if skill == "refine":  # what follows the last line of feedback
            program = program.rpartition("# ")[2].partition("\n")[2]
        namespace: dict = {}
        exec(compile(program, "<lesson>", "exec"), namespace)
        assert any(callable(value) for name, value in namespace.items() if name != "__builtins__")


def test_a_refine_prompt_shows_a_failure():
    for made in drawn("refine"):
        assert any(word in made.prompt for word in ("Error", "EXPECTED"))
        header = made.prompt.partition("\n")[0]
        assert made.prompt.count(header) == 2


def test_answers_of_the_other_skills_are_read():
    for made in drawn("decompose"):
        assert len(read_parts(made.completion)) >= 2
    for made in drawn("inputs"):
        function = made.prompt.partition("(")[0].removeprefix("def ")
        calls = made.completion.splitlines()
        assert len(calls) == INPUTS and read_calls(function, made.completion) == list(dict.fromkeys(calls))
    for made in drawn("ask"):
        assert understand(read_asked(made.completion)) is not None
    scores = [read_judgement(made.completion) for made in drawn("judge", 200)]
    assert all(scores)
    right = sum(one is not None and one.score == 8 for one in scores)
    assert 60 < right < 120  # two in five are right, and a few faults make no difference


def held_out(composition: tuple[str, ...]) -> bool:
    return split_of(composition) != "train"


@pytest.mark.parametrize("skill", SKILLS)
def test_no_lesson_holds_a_held_out_composition(skill):
    """Neither as a task, nor as code that is repaired or judged."""
    for made in drawn(skill, 300):
        for found in HEADER.finditer(made.prompt + made.completion):
            sketch = read_sketch(found[0])
            assert sketch is not None and not held_out(sketch.composition), found[0]


def test_no_fault_of_a_training_task_is_a_held_out_composition():
    rng = random.Random(5)
    faults = [plant_fault(sketch, rng) for sketch in islice(sketches("train", {2: 1.0, 3: 2.0}, rng), 2000)]
    assert not [made for made in faults if held_out(made.composition)]
    kinds = {"exchanged", "left out", "moved", "constant", "another", "careless"}
    assert {made.kind for made in faults} == kinds | {"name", "return", "syntax"}
    away = [plant_fault(sketch, rng) for sketch in islice(sketches("test", {3: 1.0}, rng), 300)]
    assert {split_of(made.composition) for made in away} == {"train", "test"}
