"""The judge: the process that runs the task's own tests, with the candidate behind a proxy.

It holds no untrusted object: what the candidate answers has been rebuilt from data (``wire.py``), so an
assertion means what it says. Its records, one JSON object a line, go to a file that only it writes:
``failed`` (the program could not be executed), ``test`` (one for each), ``memos``, ``done``.
"""

import _socket
import builtins
import json
import marshal
import os
import re
import sys

from . import explain, kernel, sharing, wire
from .remote import FromCandidate, Gone, Remote, Solver, Undecidable
from .solver import make_module, quietly

SETUP = "<test_setup>"
GONE, LOST = 3, 4  # status where the solver ended, and where it says nothing that can be judged


class Tests:
    """The tests of one task, and the namespace in which they run."""

    def __init__(self, payload: dict, report: int) -> None:
        self.payload, self.report = payload, report
        self.codes = [marshal.loads(code) if code else None for code in payload["codes"]]
        self.sources = {SETUP: payload["test_setup"]}
        self.sources.update((f"<test {index}>", test) for index, test in enumerate(payload["tests"]))
        self.namespace: dict = {"__name__": "__tests__"}
        self.solver: Solver | None = None

    def record(self, **fields) -> None:
        line = (json.dumps(fields) + "\n").encode()
        while line:
            line = line[os.write(self.report, line) :]

    def execute(self, index: int, filename: str) -> tuple[BaseException, list, bool] | None:
        """Run the set-up (0) or a test (from 1).

        None, or what it raised, the traceback entries in test code, and whether it was raised by the tests.
        """
        try:
            code = self.codes[index] or compile(self.sources[filename], filename, "exec", dont_inherit=True)
            exec(code, self.namespace)
        except BaseException as error:
            own, entry = [], error.__traceback__
            while entry is not None:
                if entry.tb_frame.f_code.co_filename in self.sources:
                    own.append(entry)
                entry = entry.tb_next
            entries = [entry for entry in own if entry.tb_frame.f_code.co_filename != "<solution>"]
            return error, entries, bool(entries) and own[-1] is entries[-1]
        return None

    def fail(self, error: BaseException, where: str = "") -> None:
        kind, message = explain.describe(error)
        verdict = self.verdict(error, in_test=False)
        doubt = self.doubt(error)
        if doubt and not self.lost:
            verdict, where, kind, message = "undecidable", "", doubt, ""
        self.record(k="failed", v=verdict, t=where + kind, m=message, why=self.lost)

    @property
    def lost(self) -> str:
        """Why the tests decide nothing: the solver ended, or an answer that is not data; else empty."""
        lost = self.solver.lost if self.solver else None
        if isinstance(lost, Undecidable):
            return f"undecidable: {lost}"
        return "gone" if lost is not None else ""

    def doubt(self, error: BaseException) -> str:
        """Why a failure may be none of the program's, where something crossed as less than it was."""
        solver = self.solver
        if solver is None or isinstance(error, MemoryError):
            return ""
        found = solver.doubts.get("arguments") or self.payload["doubt"]
        if not found and not isinstance(error, FromCandidate):
            found = solver.doubts.get("answers", "")
            if not found and solver.owns and "type" in self.namespace["__builtins__"]:
                found = "the tests ask for the type of an object of the program's"
        return found

    def verdict(self, error: BaseException, in_test: bool) -> str:
        if isinstance(error, MemoryError):
            return "memory"
        if isinstance(error, FromCandidate) or not in_test:
            return "exception"
        if isinstance(error, TimeoutError):
            return "cpu_timeout"  # tests that time each call say so with it
        return "wrong" if isinstance(error, AssertionError) else "exception"

    def run(self, candidate) -> None:
        """The set-up, then every test, each recorded; stops where the solver is lost."""
        outcome = self.execute(0, SETUP)
        if outcome is not None or self.lost:
            self.fail(outcome[0] if outcome else Gone(), "test set-up: ")
            return
        if candidate is not None:
            self.namespace.setdefault(self.payload["entry_point"], candidate)
        for index in range(len(self.payload["tests"])):
            if self.solver:
                self.solver.seen.clear()
            outcome = self.execute(index + 1, f"<test {index}>")
            lost = self.lost  # tests may have caught it
            if lost:
                self.record(k="lost", i=index, why=lost)
                break
            if outcome is None:
                self.record(k="test", i=index, v="pass")
            else:
                self.record_failure(index, *outcome)
        self.record(k="done")

    def record_failure(self, index: int, error: BaseException, entries: list, in_test: bool) -> None:
        verdict = self.verdict(error, in_test)
        doubt = self.doubt(error)
        if doubt:
            self.record(k="test", i=index, v="undecidable", m=doubt)
            return
        kind, message = explain.describe(error)
        line = error.told_line if isinstance(error, FromCandidate) else None
        self.record(k="test", i=index, v=verdict, t=kind, m=message, line=line)
        if self.solver:
            self.solver.explaining = True
        try:
            known = getattr(error, "explained", None)  # tests that compare for themselves say it
            if known is None and entries:
                direct = verdict == "wrong" and entries[-1].tb_next is None
                name = self.payload["entry_point"]
                known = explain.explain(entries, self.sources, self.namespace.get(name), name, direct)
            if known is not None:
                self.record(k="detail", i=index, values=known)
        except (Gone, Undecidable, RecursionError, MemoryError):
            pass  # an explanation that cannot be had
        if self.solver:
            self.solver.explaining = False


class Names(dict):
    """The tests' builtins. A name that nothing trusted defines is looked up in the candidate."""

    def __init__(self, tests: Tests, solver: Solver) -> None:
        # The interpreter itself looks these up, without asking __missing__. The others are copied when they
        # are used: each that is touched is a page of memory copied.
        super().__init__(__import__=__import__, __build_class__=__build_class__)
        self.tests, self.solver = tests, solver
        self.support: dict | None = None

    def __missing__(self, name: str):
        trusted = self.tests.payload["support_names"]
        if name in trusted or "*" in trusted:
            found = self.of_task()
            if name in found and self.is_trusted(name, found[name]):
                value = self[name] = found[name]
                return value
        if name in builtins.__dict__:
            value = self[name] = builtins.__dict__[name]
            return value
        try:
            return self.solver.ask("name", name)  # each time: the program may give it another value
        except NameError:
            raise KeyError(name) from None

    def of_task(self) -> dict:
        """What the task's own text defines for its tests."""
        if self.support is None:
            self.support = {"__name__": "__support__", "__builtins__": self}
            exec(compile(self.tests.payload["support"], "<support>", "exec", dont_inherit=True), self.support)
        return self.support

    def is_trusted(self, name: str, value) -> bool:
        """Whether the task's value stands for the candidate's, too: an object that is not data does not."""
        kind = type(value)
        changeable = False
        if kind.__module__ != "__support__" and not callable(value) and kind not in (type(sys), re.Pattern):
            try:
                wire.Codec().dumps(value)
            except (TypeError, RecursionError):
                return False
            changeable = bool(sharing.Survey([value]).found)
        if changeable or name in self.tests.payload["reference_names"]:
            self.compare(name, value, changeable)
        return True

    def compare(self, name: str, value, changeable: bool) -> None:
        """Have it noted where the candidate has something else by the name, or the tests change this."""
        try:
            candidates = self.solver.ask("name", name)
            differs = type(candidates) is Remote or candidates != value
        except Exception:  # it has nothing by that name
            differs = changeable
        if differs:
            self.solver.doubt("answers", f"the program's {name} is not the task's")
        if changeable:
            self.solver.guard(name, value)


def serve(zygote: _socket.socket) -> None:
    """Judge the programs that the zygote tells of, each by its own tests; end where a solver was lost."""
    while True:
        packet, descriptors = kernel.receive(zygote, 64)
        if not packet:
            os._exit(0)
        solver, size = map(int, packet.split())
        tests, report, requests, answers = descriptors
        lost = run(marshal.loads(os.pread(tests, size, 0)), report, Solver(solver, requests, answers))
        for descriptor in descriptors:
            os.close(descriptor)
        zygote.send(b"%d" % {"": 0, "gone": GONE}.get(lost, LOST))
        if lost:
            os._exit(0)


def run(payload: dict, report: int, solver: Solver) -> str:
    """Record what the tests say of the solver's program; returns why they say nothing, or an empty text."""
    tests = Tests(payload, report)
    tests.solver = solver
    solver.marshals, solver.nan = payload["marshals"], payload["nan"]
    solver.exact = not solver.marshals
    names = Names(tests, solver)
    names["__memo__"] = Memo(tests)
    tests.namespace["__builtins__"] = names
    try:
        candidate = solver.hello(payload["entry_point"])
    except BaseException as error:
        tests.fail(error)
    else:
        tests.run(candidate)
    return tests.lost


class Memo:
    """``__memo__(compute)`` in tests: the value computed once for the task, by tests alone, and kept.

    Where the candidate was asked for anything meanwhile it is not kept, nor what is computed after it: kept
    are the values of the first calls, without a gap. ``compute`` takes no argument and returns text; its
    source stands for its meaning through the task's own set-up, of which the kept value's name is made.
    """

    def __init__(self, tests: Tests) -> None:
        self.tests = tests
        self.count = 0

    def __call__(self, compute) -> str:
        number, self.count = self.count, self.count + 1
        known = self.tests.payload["memos"]
        if number < len(known):
            return known[number]
        solver = self.tests.solver
        asked = solver.asked if solver else 0
        text = compute()
        if solver and solver.asked == asked and number == len(known):
            known.append(text)
            self.tests.record(k="memos", texts=known)
        return text


def judge_in_process(source: str, payload: dict, report: int, path: list[str]) -> None:
    """The verdict of tests that share the program's process: a program made to cheat can fake it."""
    tests = Tests(payload, report)
    sys.path += path
    module = make_module()
    tests.namespace = module.__dict__
    tests.sources["<solution>"] = source
    builtins.__dict__["__memo__"] = lambda compute: compute()
    try:
        exec(compile(source, "<solution>", "exec", dont_inherit=True), tests.namespace)
    except BaseException as error:
        tests.fail(error)
    else:
        tests.run(None)
    quietly(sys.stdout.flush)
    os._exit(0)
