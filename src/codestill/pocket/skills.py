"""The pocket teacher's skills: its compact prompts, and how its answers are parsed.

A prompt is Python throughout. It begins with a task's prompt; what follows selects the skill: nothing
(solve), code and feedback and the prompt once more (refine), or code and a comment that names the skill.
Helper functions before the task call for a solution that uses them (compose).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from codestill.pocket.compositions import Composition, compositions, split_of
from codestill.pocket.generate import PARAMETER_NAMES, Cases, Sketch
from codestill.pocket.operations import OPERATIONS, Kind
from codestill.pocket.render import Constants, recipe, steps
from codestill.pocket.understand import HEADER, understand

Skill = Literal["solve", "refine", "decompose", "compose", "inputs", "ask", "judge"]
SKILLS: tuple[Skill, ...] = get_args(Skill)
Level = Literal["easier", "same", "harder"]
"""How hard a proposed task should be, compared with its seed."""
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
class SubFunction:
    """A sub-function of a task: one operation, with its own header and description."""

    sketch: Sketch

    @property
    def prompt(self) -> str:
        return self.sketch.prompt

    @property
    def code(self) -> str:
        return self.sketch.prompt + self.sketch.solution()


def sub_functions(item: Sketch) -> list[SubFunction]:
    """One function for each operation, named after it and described by its step."""
    functions = []
    kind = item.source
    names = part_names(item.composition)
    for function, name, constant in zip(names, item.composition, item.constants, strict=True):
        parameter = PARAMETER_NAMES[kind][0]
        description = recipe((name,), (constant,), parameter)
        functions.append(SubFunction(Sketch(kind, (name,), (constant,), function, parameter, description)))
        kind = OPERATIONS[name].gives
    return functions


def read_sketch(prompt: str) -> Sketch | None:
    """The sketch that a task's prompt comes from; None unless the prompt has exactly one reading."""
    understood = understand(prompt)
    if understood is None or len(understood[1]) != 1:
        return None
    source, ((composition, constants),) = understood
    header = HEADER.fullmatch(prompt)
    assert header is not None
    return Sketch(source, composition, constants, header[1], header[2], header[5])


def held_out(prompt: str) -> bool:
    """Whether any reading of a pocket prompt is a held-out composition."""
    understood = understand(prompt)
    if understood is None:
        return False
    return any(split_of(composition) != "train" for composition, _ in understood[1])


def part_names(composition: Composition) -> list[str]:
    """Function names that shadow no builtin, as ``sum`` itself would; repeated ones are numbered."""
    again = [composition[:place].count(name) for place, name in enumerate(composition)]
    return [f"{name}_of{n + 1 if n else ''}" for name, n in zip(composition, again, strict=True)]


def composed(item: Sketch) -> str:
    """The body that calls the ``sub_functions``, one after the other."""
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
    prompts = [f"def {text}" for text in answer.split("def ")[1:]]
    return prompts if prompts and all(understand(prompt) for prompt in prompts) else []


def fits(item: Kind, gives: Kind, prompts: Sequence[str]) -> Composition | None:
    """The operations of sub-functions, if these lead in order from one kind to the other; else None."""
    kind: Kind = item
    names: list[str] = []
    for prompt in prompts:
        understood = understand(prompt)
        if understood is None or understood[0] != kind or len(understood[1]) != 1:
            return None
        ((composition, _),) = understood[1]
        names += composition
        kind = OPERATIONS[composition[-1]].gives
    return tuple(names) if kind == gives else None


def written_inputs(function: str, cases: Cases, count: int) -> str:
    """The last ``count`` cases as calls, a line each."""
    return "".join(f"{function}({value!r})\n" for value in cases.inputs[-count:])


def asked(item: Sketch, level: Level, rng: random.Random) -> tuple[str, Sketch] | None:
    """A training task one operation away, described by steps: one removed, exchanged or inserted; the others
    keep their constants. Before it, the change as text. None where there is no such task."""
    for _ in range(_ATTEMPTS):
        composition, constants = list(item.composition), list(item.constants)
        place = rng.randrange(len(composition) + (level == "harder"))
        operation = rng.choice(list(OPERATIONS.values()))
        constant = rng.choice(operation.constants) if operation.constants else None
        replaced = slice(place, place + (level != "harder"))
        composition[replaced] = [] if level == "easier" else [operation.name]
        constants[replaced] = [] if level == "easier" else [constant]
        new = tuple(composition)
        if new != item.composition and new in _training(len(new), item.source):
            text = recipe(new, tuple(constants), item.parameter)
            change = _change(item, level, place, steps((operation.name,), (constant,)))
            return change, Sketch(item.source, new, tuple(constants), item.function, item.parameter, text)
    return None


def _change(item: Sketch, level: Level, place: int, new: str) -> str:
    """The steps of the task, a line each, the removed, replaced or inserted one marked."""
    lines = _steps(item.composition, item.constants)
    if level == "harder":
        lines.insert(place, f"with {new}")
    else:
        lines[place] = f"without {lines[place]}" if level == "easier" else f"{new}, not {lines[place]}"
    return "".join(f"# {line}\n" for line in lines)


def read_asked(answer: str) -> str:
    """The prompt in an answer to ``ask_prompt``, without the steps before it."""
    lines = answer.split("\n")
    start = next((n for n, line in enumerate(lines) if not line.startswith("# ")), 0)
    return "\n".join(lines[start:])


@cache
def _training(depth: int, source: Kind) -> frozenset[Composition]:
    return frozenset(compositions("train", depth, source)) if depth else frozenset()


def verdict(item: Sketch, composition: Composition, constants: Constants, score: int) -> str:
    """An answer to ``judge_prompt``: the task's steps, the code's, and how many of 8 cases pass."""
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
    """The answer's last line: how many of 8 cases pass."""
    reasons: tuple[str, ...]
    """The lines before it."""

    @property
    def agreement(self) -> float:
        """Share of the places at which the task's steps and the code's are the same."""
        wanted = [line.removeprefix(WANTED) for line in self.reasons if line.startswith(WANTED)]
        done = [line.removeprefix(DONE) for line in self.reasons if line.startswith(DONE)]
        places = max(len(wanted), len(done))
        return sum(a == b for a, b in zip(wanted, done, strict=False)) / places if places else 0.0

    @property
    def rating(self) -> float:
        """0 to 1: the mean of the score, as a share of 8, and the agreement. Two different lists of steps are
        evidence of a fault, whatever the score."""
        return (self.score / MAX_SCORE + self.agreement) / 2


def read_judgement(answer: str) -> Judgement | None:
    """The judgement in an answer to ``judge_prompt``; None where it is malformed or out of range."""
    lines = [line.removeprefix("# ") for line in answer.strip().split("\n")]
    if len(lines) < 2 or not lines[-1].startswith("score ") or not lines[-1][6:].isdigit():
        return None
    score = int(lines[-1][6:])
    return Judgement(score, tuple(lines[:-1])) if score <= MAX_SCORE else None
