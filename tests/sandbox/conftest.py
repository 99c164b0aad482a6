from collections.abc import Callable, Iterator

import pytest

from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import Test


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(cpu_seconds=1, memory_megabytes=1024), workers=2) as built:
        yield built


@pytest.fixture(scope="session")
def program() -> Callable[..., Program]:
    def make(solution: str, *tests: str, setup: str = "", cpu_seconds: float | None = None) -> Program:
        return Program(
            solution=solution,
            entry_point="f",
            test_setup=setup,
            tests=tuple(Test(code=test) for test in tests),
            cpu_seconds=cpu_seconds,
        )

    return make
