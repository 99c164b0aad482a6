"""Pocket tasks with unit tests, generated from a seed."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from codestill.errors import TaskError
from codestill.pocket.compositions import SOURCES, Composition, HeldOut, compositions
from codestill.pocket.operations import ANNOTATIONS, OPERATIONS, Kind
from codestill.pocket.render import Constants, body, describe, random_rendering
from codestill.types import Task, Test

_VERBS = (
    "build compute convert create derive extract find get make prepare process resolve run select transform"
)
_OBJECTS = "answer data items number output part result summary target text things value view words"
# Enough names that a task of two operations rarely repeats an earlier one word for word.
FUNCTION_NAMES = tuple(f"{verb}_{thing}" for verb in _VERBS.split() for thing in _OBJECTS.split())
PARAMETER_NAMES: dict[Kind, tuple[str, ...]] = {
    "ints": ("xs", "nums", "values", "numbers", "items", "data", "series", "sequence"),
    "str": ("s", "text", "line", "message", "sentence", "string"),
    "words": ("words", "names", "tokens", "terms", "labels", "entries"),
    "int": ("n", "num", "m", "size", "amount", "limit"),
}
SOURCE_WEIGHTS = {"ints": 5, "str": 3, "words": 2, "int": 2}
WORDS = (
    "apple",
    "Tree",
    "sun",
    "moon",
    "a",
    "to",
    "not",
    "seven",
    "Stone",
    "ant",
    "noon",
    "it",
    "are",
    "ease",
)
TESTS_PER_TASK = 8
_REPEATED = 10_000


@dataclass(frozen=True)
class Sketch:
    """A task without its tests: what it composes, its description, and its function's signature."""

    source: Kind
    composition: Composition
    constants: Constants
    function: str
    parameter: str
    description: str

    @property
    def gives(self) -> Kind:
        return OPERATIONS[self.composition[-1]].gives

    @property
    def removable(self) -> list[int]:
        """Places of the operations that can be removed with the types still fitting."""
        kept = [OPERATIONS[name].takes == OPERATIONS[name].gives for name in self.composition]
        return [place for place, fits in enumerate(kept) if fits] if len(kept) > 1 else []

    def without(self, place: int) -> tuple[Composition, Constants]:
        """The composition and its constants, without one operation."""
        composition = self.composition[:place] + self.composition[place + 1 :]
        return composition, self.constants[:place] + self.constants[place + 1 :]

    @property
    def prompt(self) -> str:
        result = ANNOTATIONS[self.gives]
        header = f"def {self.function}({self.parameter}: {ANNOTATIONS[self.source]}) -> {result}:"
        return f'{header}\n    """{self.description}\n    """\n'

    def solution(self, rng: random.Random | None = None) -> str:
        """The body in a random style; in the plain one (step by step) without ``rng``."""
        if rng is None:
            return body(self.composition, self.constants, self.parameter)
        return body(self.composition, self.constants, self.parameter, *random_rendering(rng))


def sketch(composition: Composition, source: Kind, rng: random.Random) -> Sketch:
    """Give a composition constants, names and a description."""
    constants = tuple(
        rng.choice(OPERATIONS[name].constants) if OPERATIONS[name].constants else None for name in composition
    )
    parameter = rng.choice(PARAMETER_NAMES[source])
    function = rng.choice(FUNCTION_NAMES)
    return Sketch(
        source, composition, constants, function, parameter, describe(composition, constants, parameter, rng)
    )


def sketches(split: HeldOut, depth_weights: dict[int, float], rng: random.Random) -> Iterator[Sketch]:
    """Endless random sketches of a split."""
    depths, weights = list(depth_weights), list(depth_weights.values())
    while True:
        depth = rng.choices(depths, weights)[0]
        source = rng.choices(SOURCES, [SOURCE_WEIGHTS[kind] for kind in SOURCES])[0]
        pool = compositions(split, depth, source)
        if pool:
            yield sketch(rng.choice(pool), source, rng)


def generate(
    split: HeldOut,
    count: int,
    seed: int = 0,
    depths: Sequence[int] = (2, 3),
    distinct: bool | None = None,
    skip: int = 0,
) -> list[Task]:
    """``count`` tasks whose tests distinguish the correct program from its deletion mutants.

    No prompt occurs twice. ``distinct`` gives every task another composition (default: for the held-out
    splits); depths take turns as long as they have compositions left. ``skip`` drops the seed's first tasks:
    a call that starts where another ended gets only new ones. Raises TaskError when there are not enough.
    """
    distinct = split != "train" if distinct is None else distinct
    return [*_generated(split, count, seed, tuple(depths), distinct, skip)]


@lru_cache(maxsize=8)  # a run reads its tasks several times: to compare them, to work on them, to score
def _generated(
    split: HeldOut, count: int, seed: int, depths: tuple[int, ...], distinct: bool, skip: int
) -> tuple[Task, ...]:
    rng = random.Random(f"pocket/{split}/{seed}")
    seen: set[str] = set()
    streams = [
        _unseen(_distinct(split, depth, rng) if distinct else sketches(split, {depth: 1}, rng), seen)
        for depth in depths
    ]
    tasks: list[Task] = []
    turn = 0
    while len(tasks) < skip + count and streams:
        stream = streams[turn % len(streams)]
        made = (_with_tests(item, split, seed, len(tasks), rng) for item in stream)
        task = next(filter(None, made), None)
        if task is None:
            streams.remove(stream)
            continue
        tasks.append(task)
        turn += 1
    if len(tasks) < skip + count:
        what = "distinct compositions" if distinct else "tasks"
        raise TaskError(
            f"pocket: {split} has {len(tasks)} {what} of depth {list(depths)}, not {skip + count}.",
            next_step="Ask for fewer tasks, or for more depths.",
        )
    return tuple(tasks[skip:])


def _unseen(stream: Iterator[Sketch], seen: set[str]) -> Iterator[Sketch]:
    """The sketches whose prompts are new; ends when prompts do nothing but repeat."""
    repeated = 0
    for item in stream:
        repeated = repeated + 1 if item.prompt in seen else 0
        if repeated == _REPEATED:
            return
        if not repeated:
            seen.add(item.prompt)
            yield item


def _distinct(split: HeldOut, depth: int, rng: random.Random) -> Iterator[Sketch]:
    """Every composition of the split once, in random order."""
    pool: list[tuple[Composition, Kind]] = [
        (c, source) for source in SOURCES for c in compositions(split, depth, source)
    ]
    rng.shuffle(pool)
    for composition, source in pool:
        yield sketch(composition, source, rng)


@dataclass(frozen=True)
class Cases:
    """Inputs of a sketch's function, and its outputs."""

    inputs: list[Any]
    outputs: list[Any]


def cases(item: Sketch, rng: random.Random) -> Cases | None:
    """Inputs that distinguish the sketch's program from its deletion mutants; None if the sample does not."""
    inputs = [_edge_input(item.source, edge, rng) for edge in range(3)]
    inputs += [_random_input(item.source, rng) for _ in range(TESTS_PER_TASK - len(inputs))]
    reference = _compiled(item.composition, item.constants, item.parameter)
    outputs = [reference(value) for value in inputs]
    answers = {repr(output) for output in outputs}
    if len(answers) < (2 if item.gives == "bool" else 3):
        return None
    return None if _survives_deletion(item, inputs, outputs) else Cases(inputs, outputs)


def _with_tests(item: Sketch, split: HeldOut, seed: int, index: int, rng: random.Random) -> Task | None:
    drawn = cases(item, rng)
    if drawn is None:
        return None
    return Task(
        task_id=f"pocket/{split}-{seed}/{index}",
        prompt=item.prompt,
        entry_point=item.function,
        reference=item.solution(rng),
        tests=tuple(
            Test(code=f"assert {item.function}({value!r}) == {output!r}")
            for value, output in zip(drawn.inputs, drawn.outputs, strict=True)
        ),
        split=split,
        source="pocket",
        difficulty={
            "depth": len(item.composition),
            "operations": list(item.composition),
            "takes": item.source,
            "gives": item.gives,
        },
    )


def _survives_deletion(item: Sketch, inputs: list[Any], outputs: list[Any]) -> bool:
    """Whether there is an operation whose removal no test notices."""
    for index in item.removable:
        mutant = _compiled(*item.without(index), item.parameter)
        if all(mutant(value) == output for value, output in zip(inputs, outputs, strict=True)):
            return True
    return False


def _compiled(composition: Composition, constants: Constants, parameter: str) -> Callable[[Any], Any]:
    namespace: dict[str, Any] = {}
    exec(f"def f({parameter}):\n{body(composition, constants, parameter)}", namespace)
    return namespace["f"]


def _edge_input(kind: Kind, edge: int, rng: random.Random) -> Any:
    """Empty, single, and with repeats."""
    if kind == "int":
        return (1, rng.choice((10, 100, 20)), rng.choice((11, 22, 33)))[edge]
    if kind == "str":
        return ("", rng.choice("aB3 "), rng.choice(("abab", "Noon noon", "a1 a1")))[edge]
    if kind == "words":
        word = rng.choice(WORDS)
        return ([], [rng.choice(WORDS)], [word, word, rng.choice(WORDS)])[edge]
    number = rng.randint(-5, 9)
    return ([], [rng.randint(-9, 9)], [number, number, rng.randint(0, 9), number])[edge]


def _random_input(kind: Kind, rng: random.Random) -> Any:
    if kind == "int":
        return rng.randint(2, 60) if rng.random() < 0.6 else rng.randint(60, 400)
    if kind == "str":
        return " ".join(rng.choice([*WORDS, "42", "x7", "B52", "OK"]) for _ in range(rng.randint(2, 6)))
    if kind == "words":
        return [rng.choice(WORDS) for _ in range(rng.randint(4, 8))]
    return [
        rng.randint(-9, 15) if rng.random() < 0.8 else rng.randint(-40, 60) for _ in range(rng.randint(4, 10))
    ]
