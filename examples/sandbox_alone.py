"""The sandbox without models: programs in, verdicts and feedback out. Needs no torch.

python examples/sandbox_alone.py
"""

from codestill.sandbox import Program, Sandbox, SandboxConfig, feedback
from codestill.types import Test

TESTS = (Test(code="assert mean([1, 2, 3]) == 2"), Test(code="assert mean([]) == 0"))
SOLUTIONS = {
    "correct": "def mean(xs):\n    return sum(xs) / len(xs) if xs else 0\n",
    "faulty": "def mean(xs):\n    return sum(xs) / len(xs)\n",
    "endless": "def mean(xs):\n    while True:\n        pass\n",
    "cheating": "class Yes:\n    def __eq__(self, other):\n        return True\n\n\n"
    "def mean(xs):\n    return Yes()\n",
}


def main() -> None:
    programs = [Program(solution=code, entry_point="mean", tests=TESTS) for code in SOLUTIONS.values()]
    with Sandbox(SandboxConfig(cpu_seconds=1)) as sandbox:
        print(sandbox.description)
        for name, result in zip(SOLUTIONS, sandbox.run(programs), strict=True):
            print(f"{name}: {result.verdict}")
            if not result.passed:
                print("    " + feedback(result).replace("\n", "\n    "))


if __name__ == "__main__":
    main()
