"""No description can be read two ways."""

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

from codestill.pocket.compositions import SOURCES, Composition, compositions
from codestill.pocket.generate import Sketch, sketch
from codestill.pocket.operations import OPERATIONS, Kind, Operation
from codestill.pocket.render import Constants

Reading = tuple[tuple[str, int | str | None], ...]
SPLITS = ("train", "validation", "test")


def every_composition(copies: dict[int, int], rng: random.Random) -> Iterator[Sketch]:
    """So many sketches of each composition, by depth."""
    for depth, count in copies.items():
        for split in SPLITS:
            for source in SOURCES:
                for composition in compositions(split, depth, source):
                    for _ in range(count):
                        yield sketch(composition, source, rng)


def test_equal_prompts_mean_equal_programs() -> None:
    meanings: defaultdict[str, set[tuple[Composition, Constants]]] = defaultdict(set)
    count = 0
    for item in every_composition({1: 200, 2: 40, 3: 3}, random.Random(0)):
        prompt = item.prompt.removeprefix(f"def {item.function}")
        meanings[prompt].add((item.composition, item.constants))
        count += 1
    assert count > 100_000
    assert len(meanings) < count  # prompts do meet
    assert [prompt for prompt, found in meanings.items() if len(found) > 1] == []


@lru_cache
def patterns(template: str, operation: str) -> re.Pattern[str]:
    """A template with groups ``x`` for the inner phrase and ``k`` for the constant."""
    constants = "|".join(re.escape(str(k)) for k in OPERATIONS[operation].constants)
    text = re.escape(template).replace(r"\{x\}", "(?P<x>.+)")
    return re.compile(text.replace(r"\{k\}", f"(?P<k>{constants})", 1).replace(r"\{k\}", "(?P=k)"))


def matches(template: str, operation: Operation, text: str) -> Iterator[tuple[str, int | str | None]]:
    """The inner phrase and the constant, if ``text`` has the template's form."""
    if found := patterns(template, operation.name).fullmatch(text):
        groups = found.groupdict()
        chosen = {str(k): k for k in operation.constants}
        yield groups.get("x", ""), chosen[groups["k"]] if "k" in groups else None


def readings(phrase: str, gives: Kind, source: Kind, parameter: str) -> list[Reading]:
    """Every way to read a noun phrase; parentheses bind, their absence allows everything."""
    found: list[Reading] = [()] if phrase == parameter and gives == source else []
    for operation in OPERATIONS.values():
        if operation.gives == gives:
            for noun in operation.nouns:
                for inner, constant in matches(noun, operation, phrase):
                    if whole(inner):
                        inner = inner[1:-1]
                    if balanced(inner):
                        found += [
                            (*before, (operation.name, constant))
                            for before in readings(inner, operation.takes, source, parameter)
                        ]
    return found


def balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0


def whole(text: str) -> bool:
    """True when one pair of parentheses holds it all."""
    return text.startswith("(") and text.endswith(")") and balanced(text[1:-1])


def steps_read(steps: list[str], source: Kind) -> list[Reading]:
    """Every way to read a list of steps."""
    found: list[tuple[Kind, Reading]] = [(source, ())]
    for step in steps:
        found = [
            (operation.gives, (*before, (operation.name, constant)))
            for kind, before in found
            for operation in OPERATIONS.values()
            if operation.takes == kind
            for _, constant in matches(operation.step, operation, step)
        ]
    return [reading for _, reading in found]


def test_every_description_reads_one_way_only() -> None:
    rng = random.Random(1)
    phrased = stepped = 0
    every = list(every_composition({1: 20, 2: 2, 3: 1}, rng))
    for item in rng.sample(every, 2500):
        meant = tuple(zip(item.composition, item.constants, strict=True))
        if found := re.fullmatch(r"Start with (\w+): (.+)\. Return the result\.", item.description):
            stepped += 1
            assert found[1] == item.parameter
            assert steps_read(found[2].split(", then "), item.source) == [meant], item.description
        else:
            phrased += 1
            phrase = item.description.removeprefix("Return ").removesuffix(".")
            gives = OPERATIONS[item.composition[-1]].gives
            assert readings(phrase, gives, item.source, item.parameter) == [meant], item.description
    assert phrased > 1000 and stepped > 500
