"""The trusted end of the report channel: what ``harness.py`` writes, and nothing else, is believed."""

import re
import secrets
from dataclasses import dataclass, field

from codestill.types import TestResult, Verdict

_RECORD_BYTES = 40_000  # more than any record: four fields of 2000 characters
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
_TEST_VERDICTS: dict[str, Verdict] = {
    "pass": "pass",
    "wrong": "wrong",
    "exception": "exception",
    "memory": "memory",
    "early_exit": "early_exit",
}


@dataclass
class Report:
    """Parses the report channel; ``broken`` once a record is not the harness's."""

    secret: bytes
    buffer: bytearray = field(default_factory=bytearray)
    started: bool = False
    done: bool = False
    broken: bool = False
    failure: tuple[Verdict, str] | None = None
    missing: tuple[str, int] | None = None
    tests: list[TestResult] = field(default_factory=list)

    def feed(self, data: bytes) -> None:
        self.buffer += data
        while not (self.done or self.broken) and len(self.buffer) >= 4:
            size = int.from_bytes(self.buffer[:4], "big")
            if size > _RECORD_BYTES:
                self.broken = True
            elif len(self.buffer) < 4 + size:
                return
            else:
                body = bytes(self.buffer[4 : 4 + size])
                del self.buffer[: 4 + size]
                try:
                    self._record(body)
                except (ValueError, KeyError, IndexError):
                    self.broken = True

    def _record(self, body: bytes) -> None:
        if not secrets.compare_digest(body[: len(self.secret)], self.secret):
            raise ValueError("not the secret")
        kind, *fields = stable(body[len(self.secret) :].decode()).split("\0")
        if kind == "started":
            self.started = True
        elif kind == "unavailable":
            self.missing, self.done = (fields[0], int(fields[1])), True
        elif kind == "failed":
            self.failure, self.done = (_TEST_VERDICTS[fields[0]], fields[1]), True
        elif kind == "test" and int(fields[0]) == len(self.tests):
            verdict, error_type, message = fields[1:]
            self.tests.append(
                TestResult(verdict=_TEST_VERDICTS[verdict], error_type=error_type, message=message)
            )
        elif kind == "detail" and int(fields[0]) == len(self.tests) - 1:
            call, actual, expected = fields[1:]
            update = {"call": call, "actual": actual, "expected": expected}
            self.tests[-1] = self.tests[-1].model_copy(update=update)
        elif kind == "done":
            self.done = True
        else:
            raise ValueError(kind)


def stable(text: str) -> str:
    """Without memory addresses, which differ from run to run."""
    return _ADDRESS.sub("at 0x...", text)
