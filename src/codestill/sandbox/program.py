"""The unit of execution: a solution with its tests."""

import ast
import warnings
from functools import lru_cache

from codestill.languages import LANGUAGES, UNPARSABLE
from codestill.types import Language, Record, Task, Test


class Program(Record):
    """Source under test, and the tests that judge it: ``test_setup``, then each test.

    The tests are Python whatever the language of the solution: values cross as data, so that
    ``assert f([1]) == 2`` also judges a JavaScript function. They run in a namespace of their own, in which
    ``entry_point`` is the solution's function. A name that neither they nor ``support`` define is looked up
    in the solution.
    """

    solution: str
    entry_point: str
    test_setup: str = ""
    tests: tuple[Test, ...]
    cpu_seconds: float | None = None
    """CPU limit of this program; None: the sandbox's."""
    support: str = ""
    """Trusted source for names that the tests use: the task's own imports and helper functions."""
    support_names: tuple[str, ...] = ()
    """The names that ``support`` defines."""
    language: Language = "python"
    """Language of the solution."""

    def __repr__(self) -> str:
        name, tests = self.entry_point[:40], len(self.tests)
        return f"<Program of {name} in {self.language}: {tests} tests, solution {self.solution[:60]!r}>"

    __str__ = __repr__

    @classmethod
    def of(cls, task: Task, completion: str) -> "Program":
        """The program of a task's prompt and a completion, with the task's tests."""
        support, names = "", ()
        if LANGUAGES[task.language].is_python:
            support, names = _support(task.prompt, task.reference, task.entry_point)
        return cls(
            solution=task.prompt + completion,
            entry_point=task.entry_point,
            test_setup=task.test_setup,
            tests=task.tests,
            cpu_seconds=task.cpu_seconds,
            support=support,
            support_names=names,
            language=task.language,
        )


@lru_cache(maxsize=4096)
def _support(prompt: str, reference: str, entry_point: str) -> tuple[str, tuple[str, ...]]:
    """Source of what tests may use besides the candidate, trusted, so that no completion can replace it.

    The imports of prompt and reference, and the complete functions of the prompt: HumanEval/32's tests call
    the prompt's ``poly``. Classes stay the candidate's, since its functions must recognise their instances.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # published solutions hold "\w" in plain strings
            module = ast.parse(prompt + reference)
    except UNPARSABLE:
        return "", ()
    length = len(prompt.splitlines())
    kept, names = [], []
    for node in module.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
            if "*" in bound or getattr(node, "module", "") == "__future__":
                continue
        elif (
            isinstance(node, ast.FunctionDef)
            and (node.end_lineno or 0) <= length
            and node.name != entry_point
        ):
            bound = [node.name]
        else:
            continue
        try:
            kept.append(ast.unparse(node))
        except RecursionError:
            continue
        names += bound
    return "\n".join(kept), tuple(dict.fromkeys(names))
