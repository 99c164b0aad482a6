"""The solver's process, as the judge sees it: requests go there, and data comes back."""

import copy
import marshal
import re
import sys
import time
import weakref
from _thread import get_ident

from . import explain, kernel, proxy, sharing, wire
from .proxy import FromCandidate, Gone, Remote, Undecidable

__all__ = ["FromCandidate", "Gone", "Remote", "Solver", "Undecidable"]

_KINDS = ("ok", "same", "raise", "rethrow", "callback", "ready", "sealing", "printed", "undecidable")
_NAN = (b"NaN", b"\0\0\0\0\0\0\xf8\x7f", b"\0\0\0\0\0\0\xf8\xff")  # as JSON and marshal have it


class Solver(wire.Codec):
    """The solver's process, as the judge sees it."""

    def __init__(self, pid: int, requests: int, answers: int) -> None:
        super().__init__("judge")
        self.requests, self.answers = requests, answers
        self.clock = kernel.cpu_clock(pid)
        self.sealing = 0.0
        """CPU seconds that went into hashes of long answers: no work of the candidate's. One that lies about
        it gains on a test's own clock and nothing on the sandbox's."""
        self.remotes: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self.released: list[int] = []
        """Handles that the tests have dropped, for the solver to let go of."""
        self.functions: list = []
        self.places: dict[int, int] = {}
        """By id, where a function of the tests is among those."""
        self.errors: list[Exception] = []
        """What the tests' functions raised, where the program called them."""
        self.exceptions = proxy.Exceptions()
        self.seen: dict[bytes | None, object] = {}
        """Requests of the present test and their replies, so that a failure can be explained as it was."""
        self.marshals = True
        """Whether it reads marshal and frames of two lines: what is not Python reads plain JSON alone."""
        self.asked = 0
        self.explaining = self.parsing = False
        self.met_nan = self.nan = False
        """Whether an answer has held what is not a number, and whether the tests name it."""
        self.owns = False
        """Whether an object of a class of the program's own has crossed."""
        self.lost: BaseException | None = None
        """Why the verdict cannot come from the tests: set for good, whatever the tests catch."""
        self.doubts: dict[str, str] = {}
        """What has crossed as less than it was: ``arguments`` that the program may have failed for, and
        ``answers`` that the tests may have refused for that."""
        self.guarded: list[tuple] = []
        """Changeable values of the task's: name, value, and what it is to be."""
        self.thread = get_ident()
        self.streams = [sys.stdout, sys.stderr, sys.stdin]
        self.captured = 0

    def cpu_clock(self) -> float:
        return time.clock_gettime(self.clock) - self.sealing

    def give_up(self, reason: str):
        lost = self.lost or Undecidable(reason)
        if not self.explaining:
            self.lost = lost
        raise lost

    def doubt(self, of: str, reason: str) -> None:
        if not self.explaining:
            self.doubts.setdefault(of, reason)

    def guard(self, name: str, value) -> None:
        """Give up where the tests change a value of the task's, which the program has by itself."""
        self.guarded.append((name, value, copy.deepcopy(value)))

    def hello(self, entry_point: str) -> Remote | None:
        """The entry point, once the program has been executed; raises what the program raised."""
        reply, *_ = self._reply()
        if reply[0] == "raise":
            raise self._exception(reply)
        if reply[0] != "ready":
            self.give_up("the answer is not in the form of one")
        return self._remote(entry_point, entry_point, True) if reply[-1] is True else None

    def ask(self, operation: str, target, args=(), kwargs=None):
        """The outcome of an operation in the solver, whose exceptions are raised here."""
        self.asked += 1
        args, kwargs = tuple(args), kwargs or {}
        request = (operation, target, args, kwargs)
        survey = None
        if kwargs or not sharing.are_leaves(args):
            survey = sharing.Survey([*args, *kwargs.values()])
        key = self._key(request, survey)
        if self.explaining and key in self.seen:
            return self._recall(self.seen[key], operation, args)
        if self.lost is not None:
            raise self.lost
        mine: list[int] = []
        try:
            self._look_around()
            kind, body, mine = self._written(request, survey, key)
            wire.send(self.requests, kind, body)  # pyright: ignore[reportArgumentType]
        except BrokenPipeError:
            self._gone()
        except wire.TooLarge as error:
            self.give_up(f"an argument is too large: {error}")
        try:
            reply, kept, text = self._reply()
        except (RecursionError, MemoryError):  # which answer is whose cannot be known from here on
            self.lost = self.lost or Undecidable("the tests have no room for an answer")
            raise self.lost from None
        if mine:
            self.shared.forget([number for number in mine if number not in kept])
        if self.met_nan and (self.nan or key is None or any(form in key for form in _NAN)):
            self.doubt("answers", "what is not a number equals itself only where it is the same object")
        remembers = key is not None and len(self.seen) < 1000 and len(key) + len(text) < 1 << 16
        remembered = self.seen if remembers else {}
        if b"\n" not in text:
            remembered[key] = text
        value = self._outcome(reply, operation, args)
        remembered.setdefault(key, [value])
        return value

    def _key(self, request: tuple, survey: sharing.Survey | None) -> bytes | None:
        """What a request is known by, and sent as where nothing in it is in two places."""
        if self.marshals and (survey is None or survey.marshals):
            try:
                # Version 2 gives equal bytes for equal values, version 4 leaves one object one.
                return marshal.dumps(request, 4 if survey and survey.tangled else 2)
            except ValueError:
                return None  # it is nested too deeply
        try:
            return self.dumps(request)
        except RecursionError:
            if survey is None:
                raise
            return None if self.marshals else self.give_up("an argument is nested too deeply")

    def _written(self, request: tuple, survey: sharing.Survey | None, key: bytes | None):
        """Kind and body of a request, and the numbers of what is shared for as long as it lasts."""
        if not self.marshals:
            if survey and survey.tangled:
                self.doubt("arguments", "the tests pass one object twice, of which the program gets two")
            return b"J", key, []
        shared = self.shared
        changed = []
        if shared.objects:
            changed = shared.changed()
        if key is not None and not changed:
            if survey is None:
                return b"M", key, []
            if survey.marshals and not any(id(item) in shared.numbers for item in survey.found):
                first = shared.next
                mine = [shared.add(item) for item in survey.found]
                return (b"N", first.to_bytes(8, "big") + key, mine) if mine else (b"M", key, [])
        first = shared.next
        roots = [*request[2], *request[3].values(), *map(shared.objects.__getitem__, changed)]
        try:
            body = self.dumps_shared(request, sharing.Survey(roots).found, changed)
        except RecursionError:
            self.give_up("an argument is nested too deeply")
        shared.mark(changed)
        return b"J", body, list(range(first, shared.next))

    def _look_around(self) -> None:
        """What the program could not see of what the tests have done to their process, and what it prints."""
        if get_ident() != self.thread:
            self.give_up("the tests call the program from another thread")
        stdout, stderr, stdin = self.streams
        if sys.stdin is not stdin or proxy.replaced():
            self.give_up(f"the tests replace {proxy.replaced() or 'standard input'}")
        for name, value, before in self.guarded:
            if value != before:
                self.give_up(f"the tests change {name}, which the program has by itself")
        captured = (sys.stdout is not stdout) | (sys.stderr is not stderr) << 1
        if captured != self.captured:
            if not self.marshals:
                self.give_up("the tests read what the program prints")
            self.captured = captured
            wire.send(self.requests, b"C", bytes([captured]))
        shared = self.shared
        idle = shared.idle() if shared.objects else []
        if self.released or idle:
            dropped, self.released = self.released, []
            # One that an answer has brought once more meanwhile is still held.
            handles = [number for number in set(dropped) if number not in self.remotes]
            wire.send(self.requests, b"F", marshal.dumps((handles, idle)))
            shared.forget(idle)

    def _reply(self) -> tuple[list, set, bytes]:
        """The next reply, the numbers of what stays shared, and its text."""
        began: float | None = None
        while True:
            try:
                text = wire.receive(self.answers)[1]
            except EOFError:
                self._gone()
            except wire.TooLarge as error:
                self.give_up(f"the answer is too large: {error}")
            reply, kept = self._parse(text)
            if reply[0] == "sealing":
                began = time.clock_gettime(self.clock)
            elif reply[0] == "callback":
                self._call_back(reply)
            elif reply[0] == "printed":
                self._print(reply)
            else:
                if began is not None:
                    self.sealing += time.clock_gettime(self.clock) - began
                return reply, kept, text

    def _parse(self, text: bytes) -> tuple[list, set]:
        self.parsing = True
        try:
            kept: set = set()
            if b"\n" in text:
                reply, header, filled, created = self.loads_shared(text)
                if "full" in header:
                    self.doubt("arguments", "the program keeps too many of the tests' objects")
                kept = set(header["kept"])
                self.shared.forget([*header["gone"], *(number for number in created if number not in kept)])
                self.shared.mark({number for number in (*kept, *filled) if number in self.shared.objects})
            else:
                reply = self.loads(text)
            if type(reply) is list and reply[0] in _KINDS:
                return reply, kept
        except Exception:
            pass
        finally:
            self.parsing = False
        return self.give_up("the answer is not in the form of one")

    def _print(self, reply) -> None:
        """What the program has printed, to where the tests have it printed."""
        try:
            _, place, text = reply
            stream = (sys.stdout, sys.stderr)[place]
        except (TypeError, ValueError, IndexError):
            self.give_up("the answer is not in the form of one")
        if stream is not self.streams[place]:
            stream.write(str(text))

    def _call_back(self, reply) -> None:
        shared = self.shared
        shared.mark()
        try:
            _, number, args, kwargs = reply
            if type(number) is not int or number < 0:
                raise IndexError(number)
            answer = ["ok", self.functions[number](*args, **kwargs)]
        except Exception as error:
            self.errors.append(error)
            message = explain.text(lambda: str(error))
            answer = ["raise", [type(error).__name__, message, len(self.errors) - 1]]
        changed = shared.changed() if shared.objects else []
        roots = answer[1:] if answer[0] == "ok" else []
        roots += map(shared.objects.__getitem__, changed)
        try:
            found = [] if sharing.are_leaves(roots) else sharing.Survey(roots).found
            if found or changed:
                body = self.dumps_shared(answer, found, changed)
                shared.mark()
            else:
                body = self.dumps(answer)
            wire.send(self.requests, b"R", body)
        except BrokenPipeError:
            self._gone()
        except (RecursionError, wire.TooLarge):
            self.give_up("what the tests' function returns is too large")

    def _recall(self, known, operation: str, args: tuple):
        if type(known) is bytes:
            return self._outcome(self._parse(known)[0], operation, args)
        return known[0]

    def _outcome(self, reply: list, operation: str, args: tuple):
        kind = reply[0]
        if kind == "raise":
            raise self._exception(reply, operation)
        try:
            if kind == "undecidable":
                self.give_up(str(reply[1])[:200])
            if kind == "rethrow" and type(reply[1]) is int and reply[1] >= 0:
                raise self.errors[reply[1]]
            if self.marshals and len(reply) != 2:
                self.give_up("the answer is not in the form of one")
            if len(reply) > 2:
                if len(sharing.Survey(args).found) > len(args):
                    self.doubt("arguments", "the program changes objects within those that the tests pass")
                for argument, after in zip(args, reply[2], strict=False):
                    sharing.restore(argument, after)
            if kind in ("ok", "same"):
                return args[reply[1]] if kind == "same" else reply[1]
        except (IndexError, TypeError, ValueError):
            if kind == "rethrow" and type(reply[1]) is int and reply[1] < len(self.errors):
                raise
        return self.give_up("the answer is not in the form of one")

    def _exception(self, reply: list, operation: str = "") -> BaseException:
        """An exception of the nearest class that the tests know too, marked as the candidate's."""
        try:
            _, kinds, message, line, *more = reply
            kinds = tuple((str(module), str(name)) for module, name in kinds[:100])
            message, line = str(message), line if type(line) is int and 0 < line < 1 << 31 else None
            args, attributes = more or (None, {})
            args = None if args is None else tuple(args)
            attributes = {str(name): value for name, value in dict(attributes).items()}
            kinds[0]
        except (TypeError, ValueError, IndexError):
            self.give_up("the answer is not in the form of one")
        error = self.exceptions.make(kinds, operation == "next", message, args)
        error.__dict__.update(attributes | {"told_line": line, "told_text": message})
        return error

    def _gone(self):
        self.lost = self.lost or Gone()
        raise self.lost

    def _remote(self, target, *properties) -> Remote:
        known = self.remotes.get(target)
        if known is None:
            known = self.remotes[target] = Remote(self, target, *properties)
        return known

    def attribute(self, value, name: str):
        return self.ask("of", None, (value, name))

    def constant(self, name: str) -> float:
        self.met_nan = self.met_nan or name == "NaN"
        return float(name)

    def decayed(self, value, form):
        self.doubt("arguments", f"the tests pass a {type(value).__name__}, of which the program gets a part")
        return form

    def _rarer(self, value, hexadecimal):
        if type(value) is Remote:
            return {"p": value._target}
        return super()._rarer(value, hexadecimal)

    def foreign(self, value):
        if type(value) is re.Pattern:
            return {"re": [value.pattern, value.flags]}
        if isinstance(value, type) and value in self.exceptions.targets:
            return {"p": self.exceptions.targets[value]}
        name = self.named(value)
        if name is not None:
            return {"T": name}
        calls = isinstance(value, proxy.FUNCTIONS) or type(value).__module__.partition(".")[0] == "numpy"
        if calls and callable(value) and not isinstance(value, type):
            return {"f": self._place(value)}
        if isinstance(value, proxy.ITERATORS):
            return {"g": self._place(value)}
        return self.give_up(f"the tests pass a {type(value).__name__}, which is not data")

    def _place(self, value) -> int:
        """Where among the tests' functions it is; of an iterator, one that gives its next item in a list."""
        place = self.places.get(id(value))
        if place is None:
            place = self.places[id(value)] = len(self.functions)
            self.functions.append(value if callable(value) else proxy.Puller(value))
        return place

    def resolve(self, tag: str, body):
        if tag == "h":
            number, kind, identity, iterates, seal, *more = body
            own, doubt = [*more, None, None][:2]
            if isinstance(doubt, str):
                self.doubt("answers", doubt)
            seal = seal if isinstance(seal, str) else None
            self.owns = self.owns or own is True
            properties = (str(kind), identity is True, iterates is True, seal, own is True)
            return self._remote(int(number), *properties)
        if tag == "T":
            return self.builtin_type(body[1])
        if tag == "X":
            number, kinds = body  # pyright: ignore[reportGeneralTypeIssues]
            kind = self.exceptions.class_of(tuple((str(module), str(name)) for module, name in kinds))
            self.exceptions.targets[kind] = int(number)
            return kind
        if tag == "f" and type(body) is int and body >= 0:
            function = self.functions[body]
            return function.iterator if isinstance(function, proxy.Puller) else function
        if tag == "~":
            name, value = body  # pyright: ignore[reportGeneralTypeIssues]
            self.doubt(
                "answers", f"the program answers with a {str(name)[:100]}, of which the tests get a part"
            )
            return value
        return super().resolve(tag, body)
