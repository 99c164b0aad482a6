"""What the pocket teacher can be asked for, in its own compact form, and how its answers are read.

A prompt is Python throughout. It begins with a task's prompt; what is asked for follows from what comes after
it: nothing (solve), code and feedback and the prompt once more (refine), or code and a comment that names the
skill. Helper functions before the task ask for a solution that uses them (compose).
"""

import ast
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Literal, get_args

from codestill.pocket.compositions import Composition, compositions
from codestill.pocket.generate import PARAMETERS, Cases, Sketch
from codestill.pocket.operations import OPERATIONS, Kind
from codestill.pocket.render import Constants, recipe, steps
from codestill.pocket.understand import HEADER, understand

Skill = Literal["solve", "refine", "decompose", "compose", "inputs", "ask", "judge"]
SKILLS: tuple[Skill, ...] = get_args(Skill)
Level = Literal["easier", "same", "harder"]
LEVELS: tuple[Level, ...] = get_args(Level)
MAX_SCORE = 8
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


def read_inputs(function: str, answer: str) -> list[str]:
    """The calls of ``function`` with literal arguments in an answer to ``inputs_prompt``."""
    found = []
    for line in answer.splitlines():
        try:
            call = ast.parse(line.strip(), mode="eval").body
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == function:
                [ast.literal_eval(argument) for argument in call.args]
                found.append(line.strip())
        except (SyntaxError, ValueError):
            continue
    return found


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
    old = [*_steps(item.composition, item.constants), "the end"][place]
    said = {"easier": f"without {old}", "same": f"{new}, not {old}", "harder": f"{new}, before {old}"}
    return f"# {said[level]}\n"


def read_asked(answer: str) -> str:
    """The prompt in an answer to ``ask_prompt``, without the change that is said before it."""
    change, _, prompt = answer.partition("\n")
    return prompt if change.startswith("# ") else answer


@cache
def _training(depth: int, source: Kind) -> frozenset[Composition]:
    return frozenset(compositions("train", depth, source)) if depth else frozenset()


def verdict(item: Sketch, composition: Composition, constants: Constants, score: int) -> str:
    """An answer to ``judge_prompt``: each step that the code takes, with what is wanted where that is another
    thing, and how many of 8 cases are right. The code comes first: who says first what is wanted tends to
    find it."""
    wanted, done = _steps(item.composition, item.constants), _steps(composition, constants)
    lines = [
        other if one == other else f"{other}, not {one or 'wanted'}" if other else f"nothing, not {one}"
        for one, other in zip_longest(wanted, done)
    ]
    return "".join(f"# {line}\n" for line in [*lines, f"score {score}"])


def broken(reason: str) -> str:
    """An answer to ``judge_prompt`` about code that does not run."""
    return f"# {reason}\n# score 0\n"


def _steps(composition: Composition, constants: Constants) -> list[str]:
    return [steps((name,), (constant,)) for name, constant in zip(composition, constants, strict=True)]


def read_score(answer: str) -> tuple[int, str] | None:
    """Score and reason of an answer to ``judge_prompt``; None where it is malformed or out of range."""
    lines = [line.removeprefix("# ") for line in answer.strip().split("\n")]
    if len(lines) < 2 or not lines[-1].startswith("score ") or not lines[-1][6:].isdigit():
        return None
    score = int(lines[-1][6:])
    return (score, "; ".join(lines[:-1])) if score <= MAX_SCORE else None
