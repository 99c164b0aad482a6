"""MBPP (Austin et al. 2021, arXiv 2108.07732): the full and the sanitized set, zero-shot and few-shot."""

import ast
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import AliasChoices, Field

from codestill.errors import TaskError
from codestill.languages import bound_names
from codestill.tasks.rows import FieldError, LocatedRows, Row, parse_python
from codestill.types import Split, Task, Test

SPLITS: Mapping[Split, range] = MappingProxyType(
    {
        "prompt": range(1, 11),
        "test": range(11, 511),
        "validation": range(511, 601),
        "train": range(601, 975),
    }
)
"""Task ids of the paper's splits; the sanitized set is split by the same ids."""

SHOT_IDS = (2, 3, 4)
"""The examples in the paper's few-shot prompt (section 3)."""


class MbppRow(Row):
    """A row of ``mbpp.jsonl`` or ``sanitized-mbpp.json``.

    The task's prompt is zero-shot: a docstring with the description and the first assertion, which
    gives the function's name (InCoder, bigcode-evaluation-harness, EvalPlus).
    """

    reference_field: ClassVar[str] = "code"
    source: ClassVar[str] = "mbpp"

    task_id: int
    text: str = Field(validation_alias=AliasChoices("text", "prompt"))
    code: str
    test_list: tuple[str, ...] = Field(min_length=1)
    test_setup_code: str = ""
    test_imports: tuple[str, ...] = ()

    def task(self) -> Task:
        return Task(
            task_id=f"Mbpp/{self.task_id}",
            prompt=f'"""\n{self.text.strip()}\n{self.test_list[0].strip()}\n"""\n',
            entry_point=self.entry_point(),
            reference=self.solution(),
            test_setup="\n".join([*self.test_imports, self.test_setup_code.replace("\r\n", "\n")]).strip(),
            tests=self.tests(),
            split=self.split(),
            source=self.source,
        )

    def solution(self) -> str:
        return self.code.replace("\r\n", "\n").rstrip("\n") + "\n"

    def tests(self) -> tuple[Test, ...]:
        return tuple(Test(code=test.replace("\r\n", "\n")) for test in self.test_list)

    def split(self) -> Split:
        for split, ids in SPLITS.items():
            if self.task_id in ids:
                return split
        raise FieldError("task_id", f"{self.task_id} is not an MBPP id (1 to 974)")

    def entry_point(self) -> str:
        """The first function of the reference that the first assertion calls."""
        body = parse_python(self.solution(), "code").body
        own = bound_names(node for node in body if not isinstance(node, ast.Import | ast.ImportFrom))
        defined = own or bound_names(body)
        called = [
            node.func
            for node in ast.walk(parse_python(self.test_list[0], "test_list"))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in defined
        ]
        if not called:
            raise FieldError("test_list", "its first assertion calls nothing that `code` defines")
        return min(called, key=lambda name: (name.lineno, name.col_offset)).id

    def statement(self) -> str:
        """Description and every assertion, as the few-shot prompt shows a task."""
        tests = "\n".join(test.replace("\r\n", "\n").strip() for test in self.test_list)
        return f"Task: {self.text.strip()}\nTests:\n{tests}"


class SanitizedRow(MbppRow):
    source: ClassVar[str] = "mbpp-sanitized"


class MbppPlusHubRow(MbppRow):
    """A row of ``evalplus/mbppplus``: MBPP's assertions, and EvalPlus's as one program."""

    source: ClassVar[str] = "mbpp-plus"

    test: str

    def tests(self) -> tuple[Test, ...]:
        return (*super().tests(), Test(code=self.test, group="plus"))

    def split(self) -> Split:
        return "test"


def few_shot(tasks: list[Task], rows: LocatedRows) -> list[Task]:
    """The same tasks under the paper's 3-shot prompt, laid out so that it stays valid Python.

    Examples and task form one docstring, with each solution between ``[BEGIN]`` and ``[DONE]`` as in the
    paper; it closes after the last ``[BEGIN]``. So the completion is a program of its own and can call
    nothing of the examples.

    Raises TaskError where an example is missing from ``rows``.
    """
    known = {row["task_id"]: MbppRow.model_validate(row) for _, row in rows}
    missing = [task_id for task_id in SHOT_IDS if task_id not in known]
    if missing:
        raise TaskError(
            f"The few-shot prompt shows MBPP tasks 2, 3 and 4; the file lacks {missing}.",
            next_step="Use the full file, or prompt_mode zero-shot.",
        )
    prompted = []
    for task in tasks:
        row = known[int(task.task_id.removeprefix("Mbpp/"))]
        shots = [known[task_id] for task_id in SHOT_IDS if task_id != row.task_id]
        examples = "".join(
            f"{shot.statement()}\n[BEGIN]\n{shot.solution().strip()}\n[DONE]\n\n" for shot in shots
        )
        prompt = f'"""\n{examples}{row.statement()}\n[BEGIN]\n"""\n'
        prompted.append(task.model_copy(update={"prompt": prompt}))
    return prompted
