"""The tool view: feedback on a program from parser, compiler, linters and execution.

Checks, each from 0 to 1: ``parse``; ``compile``; ``load``, whether it runs and defines its function;
``calls``, the share of the tests' inputs on which it raises nothing, whatever it returns; ``names`` (rules of
pyflakes), ``bugs`` (flake8-bugbear) and ``security`` (bandit), as implemented by ruff; ``complexity``; and
``tests``, the share of the tests that pass. A check for which a language has no tool is missing.
"""

import ast
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from pydantic import Field, NonNegativeFloat, PositiveInt

from codestill.languages import UNPARSABLE
from codestill.recipes.iterkd.views.languages import tools_of
from codestill.sandbox import Program, Sandbox
from codestill.tasks import TaskSet
from codestill.types import Attempt, ExecutionResult, Language, Record, Settings, Task, Test

Check = Literal["parse", "compile", "load", "calls", "names", "bugs", "security", "complexity", "tests"]
BROKEN: tuple[Check, ...] = ("parse", "compile", "load", "calls")
"""A program that fails one of these fails the tool view, whatever its test results."""
_BATCH = 256  # attempts checked together


class Weights(Settings):
    """Weight of each check in the score."""

    parse: NonNegativeFloat = 1
    compile: NonNegativeFloat = 1
    load: NonNegativeFloat = 1
    calls: NonNegativeFloat = 2
    names: NonNegativeFloat = 1
    bugs: NonNegativeFloat = 0.5
    security: NonNegativeFloat = 0.5
    complexity: NonNegativeFloat = 0.5
    tests: NonNegativeFloat = 6


class ToolViewConfig(Settings):
    """Which checks are run, and how they are weighted."""

    weights: Weights = Weights()
    """Weight of each check in the score."""
    complexity: PositiveInt = 10
    """Largest cyclomatic complexity of a function that scores 1; at twice this the check is 0."""
    lint: bool = True
    """Run the linters; they need the extra `feedback`."""


class ToolReport(Record):
    """Results of the tools for one attempt."""

    attempt: str
    """The attempt's key."""
    checks: dict[Check, float]
    findings: tuple[str, ...] = Field(default=())
    """Rule codes and messages of the linters."""

    @property
    def key(self) -> str:
        return self.attempt

    @property
    def broken(self) -> bool:
        """Whether the attempt fails before any expected value is compared."""
        return any(self.checks.get(check, 1.0) < 1.0 for check in BROKEN)

    def score(self, weights: Weights, tests: bool) -> float:
        """Weighted mean of the checks that have a value, with or without ``tests``."""
        weighted = [
            (getattr(weights, check), value)
            for check, value in self.checks.items()
            if tests or check != "tests"
        ]
        total = sum(weight for weight, _ in weighted)
        return sum(weight * value for weight, value in weighted) / total if total else 0.0


assert set(get_args(Check)) == set(Weights.model_fields)


def inspect(
    task_set: TaskSet, sandbox: Sandbox, config: ToolViewConfig, owed: Sequence[Attempt]
) -> Iterator[ToolReport]:
    """Yield a report of each attempt, in order. Raises ConfigError if a tool is missing."""
    tasks = task_set.by_id
    for start in range(0, len(owed), _BATCH):
        batch = owed[start : start + _BATCH]
        batch_tasks = [tasks[attempt.task_id] for attempt in batch]
        programs = [
            task.program(attempt.completion.text) for task, attempt in zip(batch_tasks, batch, strict=True)
        ]
        static: list[tuple[dict[Check, float], tuple[str, ...]]] = [({}, ())] * len(batch)
        languages: set[Language] = {task.language for task in batch_tasks}
        for language in sorted(languages):
            indices = [index for index, task in enumerate(batch_tasks) if task.language == language]
            reports = tools_of(language).static(
                [programs[index] for index in indices], config.complexity, config.lint
            )
            for index, report in zip(indices, reports, strict=True):
                static[index] = report
        blind = [task.model_copy(update={"tests": _without_values(task)}) for task in batch_tasks]
        results = sandbox.run(
            Program.of(task, attempt.completion.text) for task, attempt in zip(blind, batch, strict=True)
        )
        for attempt, task, (checks, findings), result in zip(batch, blind, static, results, strict=True):
            passed = sum(test.verdict == "pass" for test in attempt.result.tests)
            executed = _executed(result, len(task.tests))
            tests: dict[Check, float] = {"tests": passed / len(tasks[attempt.task_id].tests)}
            yield ToolReport(attempt=attempt.key, checks={**checks, **executed, **tests}, findings=findings)


def _without_values(task: Task) -> tuple[Test, ...]:
    """Tests that the function exists, and that each of the tests' calls raises nothing."""
    calls = [call for test in task.tests for call in _calls(test.code, task.entry_point)]
    return (
        Test(code=f"assert callable({task.entry_point})"),
        *(Test(code=call) for call in dict.fromkeys(calls)),
    )


def _calls(code: str, function: str) -> list[str]:
    try:
        return [
            ast.unparse(node)
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function
        ]
    except UNPARSABLE:
        return []


def _executed(result: ExecutionResult, count: int) -> dict[Check, float]:
    passed = [test.verdict == "pass" for test in result.tests] + [False] * (count - len(result.tests))
    calls: dict[Check, float] = {"calls": sum(passed[1:]) / (count - 1)} if count > 1 else {}
    return {"load": float(passed[0]), **calls}
