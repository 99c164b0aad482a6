"""The unit of execution: a solution together with its tests."""

from codestill.types import Record, Task, Test


class Program(Record):
    """Python source under test: the solution, then ``test_setup``, then each test, in one namespace."""

    solution: str
    entry_point: str
    """Name of the function under test; used to show the failing call, not to decide."""
    test_setup: str = ""
    tests: tuple[Test, ...]
    cpu_seconds: float | None = None
    """CPU limit of its own; None takes the sandbox's."""

    @classmethod
    def of(cls, task: Task, completion: str) -> "Program":
        """The task's prompt and the completion as one program, with the task's tests."""
        return cls(
            solution=task.prompt + completion,
            entry_point=task.entry_point,
            test_setup=task.test_setup,
            tests=task.tests,
            cpu_seconds=task.cpu_seconds,
        )
