"""What the pocket teacher can be asked for, in its own compact form, and how its answers are read.

A prompt is Python throughout. It begins with a task's prompt; what is asked for follows from what comes after
it: nothing (solve), code and feedback and the prompt once more (refine), or code and a comment that names the
skill. Helper functions before the task ask for a solution that uses them (compose).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from codestill.pocket.compositions import Composition, compositions, split_of
from codestill.pocket.generate import PARAMETERS, Cases, Sketch
from codestill.pocket.operations import OPERATIONS, Kind
from codestill.pocket.render import Constants, recipe, steps
from codestill.pocket.understand import HEADER, understand

Skill = Literal["solve", "refine", "decompose", "compose", "inputs", "ask", "judge"]
SKILLS: tuple[Skill, ...] = get_args(Skill)
Level = Literal["easier", "same", "harder"]
LEVELS: tuple[Level, ...] = get_args(Level)
MAX_SCORE = 8
WANTED, DONE = "wanted: ", "does: "
_ATTEMPTS = 2000  # a third of the operations fit a place, and most of those pairs are training pairs


def refine_prompt(prompt: str, attempt: str, feedback: str) -> str:
    """Asks for the repair of a failed attempt (a body), given the execution feedback."""
    comments = "".join(f"# {line}\n" for line in feedback.split("\n"))
    return f"{prompt}{_ended(attempt)}{comments}{prompt}"


def compose_prompt(prompt: str, helpers: Sequence[str]) -> str:
    """Asks for a solution that uses the helper functions (whole definitions)."""
    return "".join(f"{_ended(helper)}\n" for helper in helpers) + prompt


def decompose_prompt(prompt: str) -> str:
    """Asks for the sub-functions of a task: headers with descriptions, each a task of its own."""
    return f"{prompt}# parts\n"


def inputs_prompt(prompt: str, code: str) -> str:
    """Asks for calls of the function that would test it."""
    return f"{prompt}{_ended(code)}# tests\n"


def ask_prompt(prompt: str, level: Level) -> str:
    """Asks for another task, easier or harder than this one or the same in depth."""
    return f"{prompt}# {level}\n"


def judge_prompt(prompt: str, code: str) -> str:
    """Asks what the code does, and for a score of 0 to 8."""
    return f"{prompt}{_ended(code)}# judge\n"


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


@dataclass(frozen=True)
class Part:
    """A sub-function of a task: one operation, with a header and a description of its own."""

    sketch: Sketch

    @property
    def prompt(self) -> str:
        return self.sketch.prompt

    @property
    def code(self) -> str:
        return self.sketch.prompt + self.sketch.solution()


def parts(item: Sketch) -> list[Part]:
    """One function for each operation, named after it and described by its step."""
    made = []
    kind = item.source
    functions = part_names(item.composition)
    for function, name, constant in zip(functions, item.composition, item.constants, strict=True):
        parameter = PARAMETERS[kind][0]
        description = recipe((name,), (constant,), parameter)
        made.append(Part(Sketch(kind, (name,), (constant,), function, parameter, description)))
        kind = OPERATIONS[name].gives
    return made


def read_sketch(prompt: str) -> Sketch | None:
    """The sketch that a task's prompt was made from; None where the prompt has not exactly one reading."""
    found = understand(prompt)
    if found is None or len(found[1]) != 1:
        return None
    source, ((composition, constants),) = found
    header = HEADER.fullmatch(prompt)
    assert header is not None
    return Sketch(source, composition, constants, header[1], header[2], header[5])


def held_out(prompt: str) -> bool:
    """Whether a prompt of this world asks, in any of its readings, for a composition kept from training."""
    found = understand(prompt)
    return found is not None and any(split_of(composition) != "train" for composition, _ in found[1])


def part_names(composition: Composition) -> list[str]:
    """Not the operation's own: ``sum`` would hide what it calls. One that comes again has a number."""
    again = [composition[:place].count(name) for place, name in enumerate(composition)]
    return [f"{name}_of{n + 1 if n else ''}" for name, n in zip(composition, again, strict=True)]


def composed(item: Sketch) -> str:
    """The body that calls the functions of ``parts``, one after the other."""
    lines, value = [], item.parameter
    for place, function in enumerate(part_names(item.composition)):
        call = f"{function}({value})"
        if place == len(item.composition) - 1:
            lines.append(f"return {call}")
        else:
            value = "abcd"[place]
            lines.append(f"{value} = {call}")
    return "".join(f"    {line}\n" for line in lines)


def read_parts(answer: str) -> list[str]:
    """The prompts of the sub-functions in an answer to ``decompose_prompt``; empty where it is malformed."""
    found = [f"def {text}" for text in answer.split("def ")[1:]]
    return found if found and all(understand(prompt) for prompt in found) else []


def fits(item: Kind, gives: Kind, prompts: Sequence[str]) -> Composition | None:
    """The operations of sub-functions that lead, in order, from one kind to the other; None where not."""
    kind: Kind = item
    names: list[str] = []
    for prompt in prompts:
        found = understand(prompt)
        if found is None or found[0] != kind or len(found[1]) != 1:
            return None
        ((composition, _),) = found[1]
        names += composition
        kind = OPERATIONS[composition[-1]].gives
    return tuple(names) if kind == gives else None


def written_inputs(function: str, cases: Cases, count: int) -> str:
    """The last ``count`` cases as calls, a line each."""
    return "".join(f"{function}({value!r})\n" for value in cases.inputs[-count:])


def asked(item: Sketch, level: Level, rng: random.Random) -> tuple[str, Sketch] | None:
    """A training task one operation away, told by steps: one left out, exchanged or put in; the other
    operations keep their constants. With it, in words, what is changed. None where there is none."""
    for _ in range(_ATTEMPTS):
        composition, constants = list(item.composition), list(item.constants)
        place = rng.randrange(len(composition) + (level == "harder"))
        operation = rng.choice(list(OPERATIONS.values()))
        constant = rng.choice(operation.constants) if operation.constants else None
        replaced = slice(place, place + (level != "harder"))
        composition[replaced] = [] if level == "easier" else [operation.name]
        constants[replaced] = [] if level == "easier" else [constant]
        found = tuple(composition)
        if found != item.composition and found in _training(len(found), item.source):
            told = recipe(found, tuple(constants), item.parameter)
            change = _change(item, level, place, steps((operation.name,), (constant,)))
            return change, Sketch(item.source, found, tuple(constants), item.function, item.parameter, told)
    return None


def _change(item: Sketch, level: Level, place: int, new: str) -> str:
    """The steps of the task, a line each, with the one that goes, comes instead, or comes in between."""
    lines = _steps(item.composition, item.constants)
    if level == "harder":
        lines.insert(place, f"with {new}")
    else:
        lines[place] = f"without {lines[place]}" if level == "easier" else f"{new}, not {lines[place]}"
    return "".join(f"# {line}\n" for line in lines)


def read_asked(answer: str) -> str:
    """The prompt in an answer to ``ask_prompt``, without the steps that are said before it."""
    lines = answer.split("\n")
    said = next((n for n, line in enumerate(lines) if not line.startswith("# ")), 0)
    return "\n".join(lines[said:])


@cache
def _training(depth: int, source: Kind) -> frozenset[Composition]:
    return frozenset(compositions("train", depth, source)) if depth else frozenset()


def verdict(item: Sketch, composition: Composition, constants: Constants, score: int) -> str:
    """An answer to ``judge_prompt``: the steps that are wanted, those that the code takes, and how many of 8
    cases are right."""
    wanted, done = _steps(item.composition, item.constants), _steps(composition, constants)
    lines = [*(f"{WANTED}{step}" for step in wanted), *(f"{DONE}{step}" for step in done), f"score {score}"]
    return "".join(f"# {line}\n" for line in lines)


def broken(reason: str) -> str:
    """An answer to ``judge_prompt`` about code that does not run."""
    return f"# {reason}\n# score 0\n"


def _steps(composition: Composition, constants: Constants) -> list[str]:
    return [steps((name,), (constant,)) for name, constant in zip(composition, constants, strict=True)]


@dataclass(frozen=True)
class Judgement:
    """An answer to ``judge_prompt``."""

    score: int
    """As it is said: cases of 8 that are right."""
    reasons: tuple[str, ...]
    """The lines before it."""

    @property
    def agreement(self) -> float:
        """Share of the places at which the steps that are wanted and those that are taken are the same."""
        wanted = [one.removeprefix(WANTED) for one in self.reasons if one.startswith(WANTED)]
        done = [one.removeprefix(DONE) for one in self.reasons if one.startswith(DONE)]
        places = max(len(wanted), len(done))
        return sum(a == b for a, b in zip(wanted, done, strict=False)) / places if places else 0.0

    @property
    def rating(self) -> float:
        """0 to 1: the mean of the score, as a share of 8, and of the agreement. A judge that writes two
        different lists of steps says something, whatever score it adds."""
        return (self.score / MAX_SCORE + self.agreement) / 2


def read_judgement(answer: str) -> Judgement | None:
    """What an answer to ``judge_prompt`` says; None where it is malformed or out of range."""
    lines = [line.removeprefix("# ") for line in answer.strip().split("\n")]
    if len(lines) < 2 or not lines[-1].startswith("score ") or not lines[-1][6:].isdigit():
        return None
    score = int(lines[-1][6:])
    return Judgement(score, tuple(lines[:-1])) if score <= MAX_SCORE else None
