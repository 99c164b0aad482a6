"""Training examples for every skill, generated from the grammar.

Each starts from a task of the requested split and is correct by construction: repairs and solutions are the
reference, wrong code is executed on the task's cases, sub-functions are the task's own operations, and a new
task is one of the grammar's training tasks.
"""

import random
from collections.abc import Callable, Iterator, Mapping

from codestill.pocket.compositions import HeldOut
from codestill.pocket.faults import PlantedFault, plant_fault
from codestill.pocket.generate import Cases, Sketch, cases, sketches
from codestill.pocket.render import body, random_rendering
from codestill.pocket.skills import (
    LEVELS,
    MAX_SCORE,
    SKILLS,
    ask_prompt,
    asked,
    broken,
    compose_prompt,
    composed,
    decompose_prompt,
    inputs_prompt,
    judge_prompt,
    refine_prompt,
    sub_functions,
    verdict,
    written_inputs,
)
from codestill.pocket.trial import trial
from codestill.types import Example, ExecutionResult

Lesson = tuple[str, str]
"""Prompt and completion."""

DEPTHS: Mapping[str, dict[int, float]] = {
    "solve": {1: 1.0, 2: 4.0, 3: 5.0},
    "refine": {1: 0.5, 2: 4.0, 3: 5.0},
    "decompose": {2: 3.0, 3: 4.0, 4: 3.0},
    "compose": {2: 2.0, 3: 4.0, 4: 4.0},
    "inputs": {1: 1.0, 2: 2.0, 3: 2.0},
    "ask": {1: 1.0, 2: 3.0, 3: 3.0},
    "judge": {1: 0.5, 2: 4.0, 3: 5.0},
}
INPUTS = 4
"""Calls in an answer to a prompt for test inputs."""


def lessons(
    split: HeldOut,
    shares: Mapping[str, float],
    plain_share: float,
    feedback: Callable[[ExecutionResult], str],
    rng: random.Random,
) -> Iterator[Example]:
    """Endless examples from tasks of a split, each skill by its share.

    ``feedback`` turns a failed result into text. ``plain_share`` of the solutions are in the plain style, the
    others each in a random one."""
    streams = {skill: sketches(split, DEPTHS[skill], rng) for skill in SKILLS}
    skills, weights = list(shares), list(shares.values())
    index = 0
    while True:
        skill = rng.choices(skills, weights)[0]
        lesson = None
        while lesson is None:
            lesson = _MAKERS[skill](next(streams[skill]), plain_share, feedback, rng)
        yield Example(
            example_id=f"pocket/{skill}/{index}",
            prompt=lesson[0],
            completion=lesson[1],
            source=f"grammar: {skill}",
        )
        index += 1


def _solution(item: Sketch, plain_share: float, rng: random.Random) -> str:
    return item.solution(None if rng.random() < plain_share else rng)


def _solve(item: Sketch, plain: float, _: object, rng: random.Random) -> Lesson:
    return item.prompt, _solution(item, plain, rng)


def _refine(item: Sketch, _: float, feedback: Callable, rng: random.Random) -> Lesson | None:
    """The repair keeps the attempt's style, names and correct operations."""
    drawn = cases(item, rng)
    wrong = plant_fault(item, rng)
    result = trial(item, wrong.body, drawn) if drawn else None
    if result is None or result.passed:
        return None
    repaired = body(item.composition, item.constants, item.parameter, *wrong.rendering)
    return refine_prompt(item.prompt, wrong.body, feedback(result)), repaired


def _decompose(item: Sketch, _: float, __: object, ___: random.Random) -> Lesson:
    return decompose_prompt(item.prompt), "".join(function.prompt for function in sub_functions(item))


def _compose(item: Sketch, _: float, __: object, ___: random.Random) -> Lesson:
    return compose_prompt(item.prompt, [function.code for function in sub_functions(item)]), composed(item)


def _inputs(item: Sketch, plain: float, _: object, rng: random.Random) -> Lesson | None:
    drawn = cases(item, rng)
    if drawn is None:
        return None
    prompt = inputs_prompt(item.prompt, _solution(item, plain, rng))
    return prompt, written_inputs(item.function, drawn, INPUTS)


def _ask(item: Sketch, _: float, __: object, rng: random.Random) -> Lesson | None:
    level = rng.choice(LEVELS)
    answer = asked(item, level, rng)
    return None if answer is None else (ask_prompt(item.prompt, level), answer[0] + answer[1].prompt)


def _judge(item: Sketch, _: float, __: object, rng: random.Random) -> Lesson | None:
    drawn = cases(item, rng)
    if drawn is None:
        return None
    if rng.random() < 0.4:
        correct = body(item.composition, item.constants, item.parameter, *random_rendering(rng))
        return judge_prompt(item.prompt, correct), verdict(item, item.composition, item.constants, MAX_SCORE)
    wrong = plant_fault(item, rng)
    return judge_prompt(item.prompt, wrong.body), _judged(item, wrong, drawn)


def _judged(item: Sketch, wrong: PlantedFault, drawn: Cases) -> str:
    result = trial(item, wrong.body, drawn)
    if result.error:
        return broken("does not parse")
    if {test.error_type for test in result.tests} & {"NameError", "UnboundLocalError"}:
        return broken("uses a name that is not there")
    if wrong.kind == "return":
        return broken("returns nothing")
    score = sum(test.verdict == "pass" for test in result.tests)
    return verdict(item, wrong.composition, wrong.constants, score)


_MAKERS: dict[str, Callable[[Sketch, float, Callable, random.Random], Lesson | None]] = {
    "solve": _solve,
    "refine": _refine,
    "decompose": _decompose,
    "compose": _compose,
    "inputs": _inputs,
    "ask": _ask,
    "judge": _judge,
}
