"""The tool view: what parsers, compilers, linters and an execution say of a program.

Checks, each from 0 to 1: ``parse``; ``compile``; ``load``, whether it runs and defines its function;
``calls``, the share of the tests' inputs on which it raises nothing, their expected values not known;
``names`` (rules of pyflakes), ``bugs`` (flake8-bugbear) and ``security`` (bandit), as ruff carries them;
``complexity``; and ``tests``, the share of the tests that pass. A check that a language has no tool for has
no value.
"""

import ast
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from pydantic import Field, NonNegativeFloat, PositiveInt

from codestill.recipes.iterkd.views.languages import tools_of
from codestill.sandbox import Program, Sandbox
from codestill.tasks import TaskSet
from codestill.types import Attempt, ExecutionResult, Language, Record, Settings, Task, Test

Check = Literal["parse", "compile", "load", "calls", "names", "bugs", "security", "complexity", "tests"]
BROKEN: tuple[Check, ...] = ("parse", "compile", "load", "calls")
"""A program that fails one of these is a failure of the tools, whatever its tests say."""
_AT_ONCE = 256


class Weights(Settings):
    """What each check counts in a score."""

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
    """What each check counts."""

    weights: Weights = Weights()
    """Of each check in the score."""
    complexity: PositiveInt = 10
    """Cyclomatic complexity of a function up to which it is fine; at twice this the check is 0."""
    lint: bool = True
    """Run the linters; they need the extra `feedback`."""


class ToolReport(Record):
    """What the tools found in an attempt."""

    attempt: str
    """The attempt's key."""
    checks: dict[Check, float]
    findings: tuple[str, ...] = Field(default=())
    """Codes and messages of the linters."""

    @property
    def key(self) -> str:
        return self.attempt

    @property
    def broken(self) -> bool:
        """Whether it fails before any expected value is compared."""
        return any(self.checks.get(check, 1.0) < 1.0 for check in BROKEN)

    def score(self, weights: Weights, tests: bool) -> float:
        """Weighted mean of the checks that have a value; without the ``tests``, of all others."""
        counted = [
            (getattr(weights, check), value)
            for check, value in self.checks.items()
            if tests or check != "tests"
        ]
        total = sum(weight for weight, _ in counted)
        return sum(weight * value for weight, value in counted) / total if total else 0.0


assert set(get_args(Check)) == set(Weights.model_fields)


def inspect(
    task_set: TaskSet, sandbox: Sandbox, config: ToolViewConfig, owed: Sequence[Attempt]
) -> Iterator[ToolReport]:
    """A report of each attempt, in order. Raises ConfigError where a tool is missing."""
    tasks = {task.task_id: task for task in task_set.tasks}
    for start in range(0, len(owed), _AT_ONCE):
        some = owed[start : start + _AT_ONCE]
        of = [tasks[one.task_id] for one in some]
        texts = [task.prompt + one.completion.text for task, one in zip(of, some, strict=True)]
        static: list[tuple[dict[Check, float], tuple[str, ...]]] = [({}, ())] * len(some)
        spoken: set[Language] = {task.language for task in of}
        for name in sorted(spoken):
            mine = [n for n, task in enumerate(of) if task.language == name]
            found = tools_of(name).static([texts[n] for n in mine], config.complexity, config.lint)
            for n, report in zip(mine, found, strict=True):
                static[n] = report
        blind = [task.model_copy(update={"tests": _without_values(task)}) for task in of]
        bare = sandbox.run(
            Program.of(task, one.completion.text) for task, one in zip(blind, some, strict=True)
        )
        for one, task, (checks, findings), result in zip(some, blind, static, bare, strict=True):
            passed = sum(test.verdict == "pass" for test in one.result.tests)
            executed = _executed(result, len(task.tests))
            tests: dict[Check, float] = {"tests": passed / len(tasks[one.task_id].tests)}
            yield ToolReport(attempt=one.key, checks={**checks, **executed, **tests}, findings=findings)


def _without_values(task: Task) -> tuple[Test, ...]:
    """Tests that the function is there, and that it takes each of the tests' inputs without raising."""
    calls = [call for test in task.tests for call in _calls(test.code, task.entry_point)]
    return (
        Test(code=f"assert callable({task.entry_point})"),
        *(Test(code=call) for call in dict.fromkeys(calls)),
    )


def _calls(code: str, function: str) -> list[str]:
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function
    ]


def _executed(result: ExecutionResult, count: int) -> dict[Check, float]:
    passed = [test.verdict == "pass" for test in result.tests] + [False] * (count - len(result.tests))
    calls: dict[Check, float] = {"calls": sum(passed[1:]) / (count - 1)} if count > 1 else {}
    return {"load": float(passed[0]), **calls}
