"""HumanEval+ and MBPP+ in EvalPlus's own format (Liu et al. 2023, arXiv 2305.01210).

A row has inputs and no outputs: the reference computes the expected values when the tests run. It becomes
two tests, ``base`` and ``plus``; passing both is what EvalPlus calls a plus pass.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from codestill.tasks.rows import FieldError, Row
from codestill.types import Task, Test

_SLOW_REFERENCES = {
    "HumanEval/15": 4.5,
    "HumanEval/36": 2.3,
    "HumanEval/59": 2.3,
    "HumanEval/83": 1.6,
    "HumanEval/94": 1.8,
    "HumanEval/130": 2.1,
    "HumanEval/139": 5.2,
    "Mbpp/84": 1.6,
    "Mbpp/123": 3.8,
    "Mbpp/255": 2.8,
    "Mbpp/271": 4.6,
    "Mbpp/300": 1.6,
    "Mbpp/389": 1.8,
    "Mbpp/392": 7.0,
    "Mbpp/583": 1.1,
    "Mbpp/589": 1.8,
    "Mbpp/592": 2.4,
    "Mbpp/599": 29.4,
    "Mbpp/603": 3.8,
}
"""CPU seconds that a reference takes for all inputs, where it is more than 1 (v0.1.10 and v0.2.0)."""


def cpu_seconds(task_id: str) -> float:
    """10 s, plus five times what the reference takes: once for itself and four times for the candidate.

    This only stops endless programs; the judge applies EvalPlus's own limit to each input.
    """
    return 10 + 5 * _SLOW_REFERENCES.get(task_id, 0)


Inputs = Annotated[
    tuple[list[Any], ...],
    # Mbpp/793 of v0.2.0 has {} for no inputs.
    BeforeValidator(lambda value: () if value == {} else value),
]


class EvalPlusRow(Row):
    reference_field: ClassVar[str] = "canonical_solution"
    source: ClassVar[str]

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    base_input: Inputs
    plus_input: Inputs
    atol: float = Field(ge=0, allow_inf_nan=False)

    def task(self) -> Task:
        if not self.base_input:
            raise FieldError("base_input", "there is no input")
        compared = {
            "reference": self.prompt + self.canonical_solution,
            "entry_point": self.entry_point,
            "inputs": json.dumps({"base": self.base_input, "plus": self.plus_input}, separators=(",", ":")),
            "shape": self.shape(),
            "oracle": self.oracle(),
            "tolerance": self.atol,
        }
        # In a namespace of its own, so that neither the judge nor the reference sees the candidate's names.
        setup = (
            "import builtins as _builtins\n"
            '_evalplus = {"__name__": "evalplus", "__builtins__": _builtins}\n'
            f"exec({_judge_source()!r}, _evalplus)\n"
            f'_evalplus_check = _evalplus["make_check"]({compared!r}, __memo__)\n'
        )
        return Task(
            task_id=self.task_id,
            prompt=self.prompt,
            entry_point=self.entry_point,
            reference=self.canonical_solution,
            test_setup=setup,
            tests=tuple(
                Test(code=f'_evalplus_check({self.entry_point}, "{group}")', group=group)
                for group in ("base", "plus")
            ),
            cpu_seconds=cpu_seconds(self.task_id),
            source=self.source,
        )

    def shape(self) -> str:
        return "json"

    def oracle(self) -> str:
        return "equal"


@cache
def _judge_source() -> str:
    return Path(__file__).with_name("plus_judge.py").read_text(encoding="utf-8")


class HumanEvalPlusRow(EvalPlusRow):
    source: ClassVar[str] = "humaneval-plus"

    def oracle(self) -> str:
        return "root" if self.entry_point == "find_zero" else "equal"


_SHAPES: dict[str, tuple[int, ...]] = {
    "tuples": (
        *(2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424),
        *(429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809),
    ),
    "lists-of-tuples": (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    "first-list-of-tuples": (75, 413, 444, 753),
    "second-tuple": (106, 750),
    "first-list-of-sets": (115,),
    "float-complex": (124,),
    "first-tuple": (250, 307, 405, 446, 617, 720, 763, 808),
    "tuples-of-tuples": (259, 278, 401, 445),
    "first-dict-of-tuples": (722,),
    "complex": (252,),
    "nested-tuples": (580, 615, 791),
}
"""The Python types of MBPP+ arguments, which its JSON lost; by MBPP id, as EvalPlus restores them."""

_SHAPE_OF = {task_id: shape for shape, ids in _SHAPES.items() for task_id in ids}

_ORACLES: dict[str, tuple[str, ...]] = {
    "set": (
        "similar_elements",
        "find_char_long",
        "common_in_nested_lists",
        "extract_singly",
        "larg_nnum",
        "intersection_array",
        "find_dissimilar",
        "Diff",
    ),
    "match": ("check_str", "text_match_three", "text_starta_endb"),
    "anything": ("are_equivalent",),
    "or-zero": ("sum_div",),
    "pyramid-surface": ("surface_Area",),
    "digit-distance": ("digit_distance_nums",),
}
_ORACLE_OF = {entry_point: oracle for oracle, names in _ORACLES.items() for entry_point in names}


class MbppPlusRow(EvalPlusRow):
    source: ClassVar[str] = "mbpp-plus"

    def shape(self) -> str:
        number = self.task_id.removeprefix("Mbpp/")
        if not number.isdigit():
            raise FieldError("task_id", f"{self.task_id!r} is not of the form Mbpp/<number>")
        return _SHAPE_OF.get(int(number), "json")

    def oracle(self) -> str:
        return _ORACLE_OF.get(self.entry_point, "equal")
