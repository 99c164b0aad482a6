"""The unit of execution: a solution with its tests."""

from codestill.languages import LANGUAGES
from codestill.sandbox.support import Support, support
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
    """Trusted source for names that the tests use: the task's own imports, constants and helper functions."""
    support_names: tuple[str, ...] = ()
    """The names that ``support`` defines; ``*`` among them stands for those of a star import."""
    reference_names: tuple[str, ...] = ()
    """Those that the reference alone defines: where a program has its own, no failure is certain to be its
    own."""
    language: Language = "python"
    """Language of the solution."""

    def __repr__(self) -> str:
        name, tests = self.entry_point[:40], len(self.tests)
        return f"<Program of {name} in {self.language}: {tests} tests, solution {self.solution[:60]!r}>"

    __str__ = __repr__

    @classmethod
    def of(cls, task: Task, completion: str) -> "Program":
        """The program of a task's prompt and a completion, with the task's tests."""
        trusted = Support()
        if LANGUAGES[task.language].is_python:
            trusted = support(task.prompt, task.reference, task.entry_point, task.test_setup, task.tests)
        return cls(
            solution=task.program(completion),
            entry_point=task.entry_point,
            test_setup=task.test_setup,
            tests=task.tests,
            cpu_seconds=task.cpu_seconds,
            support=trusted.source,
            support_names=trusted.names,
            reference_names=trusted.of_reference,
            language=task.language,
        )
