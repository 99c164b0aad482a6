"""The candidate, as the tests see it: proxies whose operations run in the solver.

Comparison never does: a proxy equals itself alone, and where its class has an ``__eq__`` of its own the
answer is unknown, not the solver's to give. Arithmetic and ordering are not offered for the same reason.
"""

import marshal
import sys
import time
import weakref

from . import explain, kernel, wire


class Gone(BaseException):
    """The solver ended."""


class Undecidable(BaseException):
    """The split verdict cannot be reached: something that is not data would have to cross."""


class FromCandidate:
    """Marks an exception that the candidate raised."""

    line: int | None = None
    text = ""

    def __str__(self) -> str:
        return self.text  # KeyError would quote it once more


class Remote:
    """A function, class or object of the candidate."""

    def __init__(
        self,
        peer: "Solver",
        target,
        kind: str,
        identity: bool,
        iterates: bool = False,
        seal: str | None = None,
    ) -> None:
        self.__dict__.update(
            _peer=peer, _target=target, _kind=kind, _identity=identity, _iterates=iterates, _seal=seal
        )
        self.__dict__["__name__"] = str(target)

    def __call__(self, *args, **kwargs):
        return self._peer.ask("call", self._target, args, kwargs)

    def __getattr__(self, name):
        if name.startswith("__") and name not in ("__doc__", "__wrapped__"):
            raise AttributeError(name)
        return self._peer.ask("get", self._target, (name,))

    def __reduce_ex__(self, protocol) -> str:
        return self._peer.give_up(f"the tests copy a {self._kind}")

    def __setattr__(self, name, value):
        self._peer.ask("set", self._target, (name, value))

    def __getitem__(self, key):
        return self._peer.ask("item", self._target, (key,))

    def __setitem__(self, key, value):
        self._peer.ask("put", self._target, (key, value))

    def __len__(self):
        return self._checked("len", int)

    def __bool__(self):
        return self._checked("bool", bool)

    def __str__(self):
        return self._checked("str", str)

    def __repr__(self):
        return self._checked("repr", str)

    def __iter__(self):
        return self if self._iterates else self._peer.ask("iter", self._target)

    def __next__(self):
        if not self._iterates:
            raise TypeError(f"{self._kind!r} object is not an iterator")
        return self._peer.ask("next", self._target)

    def __instancecheck__(self, instance):
        return self._checked("isinstance", bool, instance)

    def _checked(self, operation, kind, *args):
        value = self._peer.ask(operation, self._target, args)
        if type(value) is not kind:
            raise TypeError(f"{operation} returned a {type(value).__name__}")
        return value

    def __eq__(self, other):
        if self is other:
            return True
        if self._seal is not None:  # too long to be sent: a hash stands for it
            return wire.digest(other) == self._seal
        if not self._identity:
            self._peer.give_up(f"the tests compare a {self._kind}, whose class defines equality itself")
        return NotImplemented if isinstance(other, Remote) else False

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return id(self)

    def __del__(self):
        if isinstance(self._target, int):
            self._peer.released.append(self._target)

    def cpu_clock(self) -> float:
        """CPU seconds of the solver so far, by the kernel's account."""
        return self._peer.cpu_clock()


class Solver(wire.Codec):
    """The solver's process, as the judge sees it."""

    def __init__(self, pid: int, requests: int, answers: int) -> None:
        self.requests, self.answers = requests, answers
        self.clock = kernel.cpu_clock(pid)
        self.sealing = 0.0
        """CPU seconds that went into hashes of long answers: no work of the candidate's. One that lies about
        it gains on a test's own clock and nothing on the sandbox's."""
        self.remotes: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self.released: list[int] = []
        """Handles that the tests have dropped, for the solver to let go of."""
        self.functions: list = []
        self.seen: dict[bytes, bytes] = {}
        """Requests of the present test and their replies, so that a failure can be explained as it was."""
        self.marshals = True
        """Whether it reads marshal; a program that is not Python reads JSON alone."""
        self.asked = 0
        self.explaining = False
        self.lost: BaseException | None = None
        """Why the verdict cannot come from the tests: set for good, whatever the tests catch."""

    def cpu_clock(self) -> float:
        return time.clock_gettime(self.clock) - self.sealing

    def give_up(self, reason: str):
        lost = self.lost or Undecidable(reason)
        if not self.explaining:
            self.lost = lost
        raise lost

    def hello(self, entry_point: str) -> Remote | None:
        """The entry point, once the program has been executed; raises what the program raised."""
        reply = self._reply()
        if reply[0] == "raise":
            raise self._exception(reply)
        if reply[0] != "ready":
            self.give_up("the answer is not in the form of one")
        return self._remote(entry_point, entry_point, True) if reply[-1] is True else None

    def ask(self, operation: str, target, args=(), kwargs=None):
        """The outcome of an operation in the solver, whose exceptions are raised here."""
        self.asked += 1
        request = (operation, target, tuple(args), kwargs or {})
        body = wire.to_marshal(request) if self.marshals else None
        kind = b"M" if body is not None else b"J"
        if body is None:
            body = self.dumps(request)
        known = self.seen.get(body) if self.explaining else None
        if known is not None:
            return self._outcome(self._parse(known), operation, list(args))
        if self.lost is not None:
            raise self.lost
        try:
            if self.released:
                self._release()
            wire.send(self.requests, kind, body)
        except BrokenPipeError:
            self._gone()
        except wire.TooLarge as error:
            self.give_up(f"an argument is too large: {error}")
        try:
            reply = self._reply(body)
        except (RecursionError, MemoryError):  # which answer is whose cannot be known from here on
            self.lost = self.lost or Undecidable("the tests have no room for an answer")
            raise self.lost from None
        return self._outcome(reply, operation, list(args))

    def _reply(self, request: bytes = b""):
        began: float | None = None
        while True:
            try:
                text = wire.receive(self.answers)[1]
            except EOFError:
                self._gone()
            except wire.TooLarge as error:
                self.give_up(f"the answer is too large: {error}")
            reply = self._parse(text)
            if reply[0] == "sealing":
                began = time.clock_gettime(self.clock)
            elif reply[0] == "callback":
                self._call_back(reply)
            else:
                if began is not None:
                    self.sealing += time.clock_gettime(self.clock) - began
                if len(self.seen) < 1000 and len(request) + len(text) < 1 << 16:
                    self.seen[request] = text
                return reply

    def _parse(self, text: bytes) -> list:
        try:
            reply = self.loads(text)
            if type(reply) is list and reply[0] in ("ok", "same", "raise", "callback", "ready", "sealing"):
                return reply
        except Exception:
            pass
        return self.give_up("the answer is not in the form of one")

    def _call_back(self, reply) -> None:
        try:
            _, number, args, kwargs = reply
            answer = ["ok", self.functions[number](*args, **kwargs)]
        except Exception as error:
            answer = ["raise", [type(error).__name__, str(error)]]
        try:
            wire.send(self.requests, b"R", self.dumps(answer))
        except BrokenPipeError:
            self._gone()

    def _outcome(self, reply: list, operation: str, args: list):
        if reply[0] == "raise":
            raise self._exception(reply, operation)
        try:
            changed = reply[2] if len(reply) > 2 else None
            for argument, after in zip(args, changed or (), strict=False):
                _update(argument, after)
            if reply[0] in ("ok", "same"):
                return args[reply[1]] if reply[0] == "same" else reply[1]
        except (IndexError, TypeError, ValueError):
            pass
        return self.give_up("the answer is not in the form of one")

    def _exception(self, reply: list, operation: str = "") -> BaseException:
        """An exception of the nearest class that the tests know too, marked as the candidate's.

        It ends an iteration only where the tests asked for the next item: raised by a function, it would end
        a ``map`` of the tests' before they have asserted anything.
        """
        try:
            _, kinds, message, line = reply
            kinds = [(str(module), str(name)) for module, name in kinds]
            message, line = str(message), line if type(line) is int and 0 < line < 1 << 31 else None
            first = kinds[0]
        except (TypeError, ValueError, IndexError):
            self.give_up("the answer is not in the form of one")
        title = explain.text(lambda: explain.titled(*first)).replace("\0", "?")
        ends = (StopIteration, StopAsyncIteration) if operation != "next" else ()
        for base in (*map(_known, kinds), Exception):
            if base is not None and not issubclass(base, ends):
                try:
                    properties = {"__module__": "builtins", "line": line, "text": message}
                    return type(title, (FromCandidate, base), properties)(message)  # pyright: ignore
                except Exception:
                    continue  # its constructor wants more than a message
        raise AssertionError("not reached")

    def _gone(self):
        self.lost = self.lost or Gone()
        raise self.lost

    def _release(self) -> None:
        dropped, self.released = self.released, []
        # One that an answer has brought once more meanwhile is still held.
        wire.send(self.requests, b"F", marshal.dumps([n for n in set(dropped) if n not in self.remotes]))

    def _remote(self, target, *properties) -> Remote:
        known = self.remotes.get(target)
        if known is None:
            known = self.remotes[target] = Remote(self, target, *properties)
        return known

    def foreign(self, value):
        if isinstance(value, Remote):
            return {"p": value._target}
        name = self.named(value)
        if name is not None:
            return {"T": name}
        if callable(value) and hasattr(value, "__code__"):
            self.functions.append(value)
            return {"f": len(self.functions) - 1}
        return self.give_up(f"the tests pass a {type(value).__name__}, which is not data")

    def resolve(self, tag: str, body):
        if tag == "h":
            number, kind, identity, iterates, seal = body
            seal = seal if isinstance(seal, str) else None
            return self._remote(int(number), str(kind), identity is True, iterates is True, seal)
        if tag == "T":
            return self.builtin_type(body[1])
        return super().resolve(tag, body)


def _update(argument, after) -> None:
    """Make a container that was passed look as it does after the call."""
    kind = type(argument)
    if kind is not type(after):
        return
    if kind in (list, bytearray):
        argument[:] = after
    elif kind in (dict, set):
        argument.clear()
        argument.update(after)


def _known(kind: tuple[str, str]) -> type[BaseException] | None:
    """An exception class of the standard library, where its module is loaded."""
    module, name = kind
    if module != "builtins" and module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
