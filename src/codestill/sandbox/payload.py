"""The inputs of solver and judge: bytes that each of them reads itself, and the zygote never does."""

import hashlib
import json
import marshal
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from types import CodeType

from codestill.files.cache import cache_directory
from codestill.files.serialize import sweep, write_atomic
from codestill.languages import LANGUAGES
from codestill.sandbox.doubts import doubt, names_in
from codestill.sandbox.program import Program
from codestill.sandbox.reuse import leaves_no_trace

_KEPT_BYTES = 64 << 20  # of compiled tests
_MEMO = "__memo__"


def solution(program: Program) -> bytes:
    """The solver's input: marshal for Python, JSON for other languages."""
    content = program.solution, program.entry_point
    return marshal.dumps(content) if LANGUAGES[program.language].is_python else json.dumps(content).encode()


class Tests:
    """The judge's input, compiled once per task, with the values that its tests have computed.

    A test calls ``__memo__(compute)`` for text that is expensive and the same for every program, such as a
    reference's outputs. It is kept on disk under a hash of Python's version and the tests, so it is computed
    once. Thread-safe and process-safe."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache or cache_directory("expected")
        sweep(self.cache)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[object, ...], tuple[bytes, bool]] = OrderedDict()
        self._bytes = 0

    def payload(self, program: Program) -> tuple[bytes, bool]:
        """The judge's input for a program's task, and whether its tests leave no trace in the judge."""
        key = _key(program)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        built = self._build(program)
        with self._lock:
            if key not in self._known:
                self._known[key] = built
                self._bytes += len(built[0])
            while self._bytes > _KEPT_BYTES and len(self._known) > 1:
                self._bytes -= len(self._known.popitem(last=False)[1][0])
        return built

    def learn(self, program: Program, memos: list[str]) -> None:
        """Keep the values that the judge has computed for a task."""
        path = self._path(program)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps({"sha256": _sha256(memos), "memos": memos}))
        except OSError:
            return  # works without a cache
        with self._lock:
            self._bytes -= len(self._known.pop(_key(program), (b"", False))[0])

    def _build(self, program: Program) -> tuple[bytes, bool]:
        tests = [test.code for test in program.tests]
        names = ["<test_setup>", *(f"<test {index}>" for index in range(len(tests)))]
        codes = [_compiled(*pair) for pair in zip([program.test_setup, *tests], names, strict=True)]
        content = {
            "entry_point": program.entry_point,
            "test_setup": program.test_setup,
            "tests": tests,
            "codes": [marshal.dumps(code) if code else None for code in codes],
            "support": program.support,
            "support_names": list(program.support_names),
            "reference_names": list(program.reference_names),
            "memos": self._memos(program),
            "doubt": doubt(codes),
            "nan": any("nan" in names_in(code) for code in codes if code),
            "marshals": LANGUAGES[program.language].is_python,
        }
        return marshal.dumps(content), leaves_no_trace([*codes, _compiled(program.support, "<support>")])

    def _memos(self, program: Program) -> list[str]:
        if _MEMO not in program.test_setup:
            return []
        try:
            stored = json.loads(self._path(program).read_text(encoding="utf-8"))
            return stored["memos"] if stored["sha256"] == _sha256(stored["memos"]) else []
        except (OSError, ValueError, TypeError, KeyError):  # a damaged file: compute the values again
            return []

    def _path(self, program: Program) -> Path:
        tests = [test.code for test in program.tests]
        return self.cache / f"{_sha256([sys.version, program.test_setup, tests, program.support])}.json"


def _key(program: Program) -> tuple[object, ...]:
    return program.entry_point, program.test_setup, program.tests, program.support, program.language


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _compiled(source: str, name: str) -> CodeType | None:
    """None for source that does not compile: the judge reports the error as the test's."""
    try:
        return compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
