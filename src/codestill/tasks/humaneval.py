"""HumanEval (Chen et al. 2021, arXiv 2107.03374), as published by openai/human-eval."""

from typing import ClassVar

from codestill.tasks.rows import Row
from codestill.types import Task, Test


class HumanEvalRow(Row):
    """A row of ``HumanEval.jsonl``; the prompt is kept byte for byte, including its last newline."""

    reference_field: ClassVar[str] = "canonical_solution"
    source: ClassVar[str] = "humaneval"
    group: ClassVar[str] = "base"

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str
    """Defines ``check(candidate)`` and does not call it."""

    def task(self) -> Task:
        return Task(
            task_id=self.task_id,
            prompt=self.prompt,
            entry_point=self.entry_point,
            reference=self.canonical_solution,
            test_setup=self.test,
            tests=(Test(code=f"check({self.entry_point})", group=self.group),),
            source=self.source,
        )


class HumanEvalPlusHubRow(HumanEvalRow):
    """A row of ``evalplus/humanevalplus``: base and plus inputs are one ``check`` program."""

    source: ClassVar[str] = "humaneval-plus"
    group: ClassVar[str] = "plus"
