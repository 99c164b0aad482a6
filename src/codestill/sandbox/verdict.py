"""The result of a program, from the judge's records and how the processes ended."""

import json
import re
import signal
from dataclasses import dataclass
from typing import Any

from codestill.sandbox.config import SandboxConfig
from codestill.sandbox.program import Program
from codestill.sandbox.worker import Lost
from codestill.types import ExecutionResult, TestResult, Verdict

WALL_MARGIN_SECONDS = 2.0
JUDGE_ENDED = "the judge ended"
_STORED_OUTPUT = 4000  # characters
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


class Records:
    """The judge's records. Raises Lost where they are malformed: nothing untrusted writes them."""

    def __init__(self, text: bytes) -> None:
        self.tests: list[TestResult] = []
        self.failure: tuple[Verdict, str] | None = None
        self.lost = ""
        self.done = False
        self.memos: list[str] = []
        # A judge that was killed may have left half a line.
        for line in text.decode(errors="replace").split("\n")[:-1]:
            try:
                self._add(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise Lost(f"a record is damaged: {error}") from error

    def _add(self, record: dict[str, Any]) -> None:
        kind = record["k"]
        if kind == "failed":
            message = stable(record["m"])
            error = f"{record['t']}: {message}" if message else record["t"]
            self.failure, self.lost = (record["v"], error), record["why"]
        elif kind == "test":
            self.tests.append(
                TestResult(
                    verdict=record["v"],
                    error_type=record.get("t", ""),
                    message=stable(record.get("m", "")),
                    line=record.get("line"),
                )
            )
        elif kind == "detail":
            call, actual, expected = map(stable, record["values"])
            update = {"call": call, "actual": actual, "expected": expected}
            self.tests[-1] = self.tests[-1].model_copy(update=update)
        elif kind == "lost":
            self.lost = record["why"]
        elif kind == "memos":
            self.memos = record["texts"]
        elif kind == "done":
            self.done = True


@dataclass(frozen=True)
class Outcome:
    """Everything known once a program has ended."""

    answer: dict[str, Any]
    """The zygote's answer: how the program ended, and each process's status, CPU seconds and memory."""
    records: Records
    output: bytes
    """The beginning of standard output and error."""
    output_bytes: int
    wall_seconds: float


def execution_result(
    config: SandboxConfig, sandbox: str, program: Program, outcome: Outcome
) -> ExecutionResult:
    """The result of a program. Raises Lost where the judge itself failed."""
    answer, records = outcome.answer, outcome.records
    cpu_limit = program.cpu_seconds or config.cpu_seconds
    verdict, error = _ending(config, cpu_limit, answer, records, outcome.output_bytes)
    if verdict == "output_limit":  # how many tests ran by then depends on timing
        records.tests.clear()
    failed = next((test for test in records.tests if test.verdict != "pass"), None)
    if failed is not None:  # the first failure decides
        verdict = failed.verdict
        if verdict == "undecidable":
            error = error or failed.message
    if verdict == "pass" and len(records.tests) != len(program.tests):
        raise Lost(f"the judge reports {len(records.tests)} tests of {len(program.tests)}")
    usages = [answer[role] for role in ("solver", "judge") if role in answer]
    return ExecutionResult(
        verdict=verdict,
        tests=tuple(records.tests),
        error=error,
        output=stable(outcome.output.decode(errors="replace"))[:_STORED_OUTPUT],
        sandbox=sandbox,
        cpu_seconds=sum(usage[1] for usage in usages),
        wall_seconds=outcome.wall_seconds,
        peak_megabytes=usages[0][2] / 1024,
    )


def _ending(
    config: SandboxConfig, limit: float, answer: dict[str, Any], records: Records, output_bytes: int
) -> tuple[Verdict, str]:
    """How the program as a whole ended; ``pass`` when it ran through all its tests."""
    judge, solver = answer["judge"], answer.get("solver", answer["judge"])
    if output_bytes > config.output_kilobytes * 1000:
        return "output_limit", f"more than {config.output_kilobytes} kB of output"
    if answer["ended"] == "cpu" or -signal.SIGXCPU in (judge[0], solver[0]) or solver[1] >= limit:
        return "cpu_timeout", f"more than {limit:g} s of CPU time"
    if answer["ended"] == "wall":
        return "wall_timeout", f"more than {wall_limit(config, limit):g} s of wall time"
    if records.lost.startswith("undecidable"):
        return "undecidable", records.lost.removeprefix("undecidable: ")
    if records.failure is not None and not records.lost:
        return records.failure
    if records.done and not records.lost:
        return "pass", ""
    if not records.lost and "solver" in answer:
        # Nothing that a program sends should crash the judge; what does is neither pass nor wrong.
        return "undecidable", f"{JUDGE_ENDED} with status {judge[0]}"
    status, cut_off = solver[0], solver[3]
    if cut_off:
        return "exception", "the program closed the channel for its answers"
    if status < 0:
        return "killed", f"killed by {signal.Signals(-status).name}"
    return "exception", f"SystemExit: the process left with status {status} before its tests ended"


def wall_limit(config: SandboxConfig, cpu_limit: float) -> float:
    """Wall-clock limit for a limit of CPU seconds, in seconds."""
    return cpu_limit * config.wall_factor + WALL_MARGIN_SECONDS


def stable(text: str) -> str:
    """The text without memory addresses, which differ between runs."""
    return _ADDRESS.sub("at 0x...", text)
