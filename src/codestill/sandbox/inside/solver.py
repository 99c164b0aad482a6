"""The solver: the process that holds the untrusted program and answers the judge's requests.

It never sees a test or an expected value: it receives operations (call, attribute, item, ...) with their
arguments, and answers with data. Nothing that it says is believed beyond being the program's answer.
"""

import contextlib
import marshal
import operator
import os
import resource
import sys
import types

from . import wire

_ITERATORS = (types.GeneratorType, zip, map, filter, enumerate, reversed)
_CHANGEABLE = (list, dict, set, bytearray)
_OPERATIONS = {
    "call": operator.call,
    "name": lambda target: target,
    "get": getattr,
    "set": setattr,
    "item": operator.getitem,
    "put": operator.setitem,
    "len": len,
    "bool": bool,
    "isinstance": lambda kind, value: isinstance(value, kind),
    "iter": iter,
    "next": next,
    "str": str,
    "repr": repr,
}


def solve(source: str, entry_point: str, path: list[str], requests: int, answers: int) -> None:
    """Execute the program, then serve requests until the judge hangs up."""
    flush, leave = sys.stdout.flush, os._exit
    program = make_module()
    sys.path += path
    peer = Judge(program.__dict__, requests, answers)
    try:
        exec(compile(source, "<solution>", "exec", dont_inherit=True), program.__dict__)
        answer = ["ready", entry_point in program.__dict__]
    except BaseException as error:
        answer = peer.raised(error)
    quietly(flush)
    try:
        wire.send(answers, b"J", peer.dumps(answer))
        while answer[0] == "ready":
            reply = peer.answer(*peer.request())
            quietly(flush)
            wire.send(answers, b"J", reply)
    except (EOFError, BrokenPipeError):
        quietly(flush)
    leave(0)


class Held:
    """A value that is too long to send: it stays here, and a hash of it goes."""

    def __init__(self, value) -> None:
        self.value = value


def make_module() -> types.ModuleType:
    """The program's module.

    It is not ``__main__``, so that an ``if __name__ == "__main__"`` block, which may read input or print,
    does not run; but it stands in sys.modules under both names, so that ``import __main__``, pickle and
    dataclasses meet the program.
    """
    module = types.ModuleType("__solution__")
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__solution__"] = sys.modules["__main__"] = module
    return module


def quietly(flush) -> None:
    with contextlib.suppress(OSError, ValueError):  # the program closed it, or prints over the limit
        flush()


class Judge(wire.Codec):
    """The judge, as the solver sees it."""

    def __init__(self, namespace: dict, requests: int, answers: int) -> None:
        self.namespace = namespace
        self.requests, self.answers = requests, answers
        self.handles: dict[int, object] = {}
        self.numbers: dict[int, int] = {}  # id -> handle
        self.count = 0

    def request(self) -> tuple[bytes, bytes]:
        """The next request, once what it no longer needs has been let go."""
        while True:
            kind, body = wire.receive(self.requests)
            if kind != b"F":
                return kind, body
            for number in marshal.loads(body):
                del self.numbers[id(self.handles.pop(number))]

    def answer(self, kind: bytes, body: bytes) -> bytes:
        """The encoded reply to one request."""
        try:
            request = marshal.loads(body) if kind == b"M" else self.loads(body)
            operation, target, args, kwargs = request
            value = _OPERATIONS[operation](self.owned(target), *args, **kwargs)
            if operation != "call":
                return self.dumps(["ok", value])
            if wire.is_long(value):
                wire.send(self.answers, b"J", b'["sealing"]')
                return self.dumps(["ok", Held(value)])
            changed = self.changes(kind, body, request)
            for place, argument in enumerate(args):
                if value is argument and isinstance(argument, _CHANGEABLE):
                    return self.dumps(["same", place, changed])
            return self.dumps(["ok", value, changed] if changed else ["ok", value])
        except BaseException as error:
            return self.dumps(self.raised(error))

    def changes(self, kind: bytes, body: bytes, request) -> list | None:
        """The arguments after the call where the call changed them, else None."""
        _, _, args, _ = request
        if not any(isinstance(argument, _CHANGEABLE) for argument in args):
            return None
        if kind == b"M" and wire.to_marshal(request) == body:
            return None
        if kind != b"M" and self.dumps(list(args)) == self.dumps(list(self.loads(body)[2])):
            return None
        return list(args)

    def owned(self, target):
        if isinstance(target, int):
            return self.handles[target]
        if target in self.namespace:
            return self.namespace[target]
        raise NameError(f"name {target!r} is not defined")

    def raised(self, error: BaseException) -> list:
        """The form of an exception: the names of its class and bases, its message, the line."""
        if isinstance(error, MemoryError):
            error.__traceback__ = None
            with contextlib.suppress(OSError, ValueError):  # a reserve, so that this can be told
                _, hard = resource.getrlimit(resource.RLIMIT_AS)
                resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        kind = type(error)
        try:
            message = str.__str__(str(error.msg if isinstance(error, SyntaxError) else error))[:2000]
        except BaseException as second:
            message = f"<{type(second).__name__} in str>"
        line = error.lineno if isinstance(error, SyntaxError) else _line(error)
        return ["raise", [(base.__module__, base.__qualname__) for base in kind.__mro__], message, line]

    def foreign(self, value):
        """A value that is not data stays here, and the judge gets a handle."""
        seal = None
        if type(value) is Held:
            value = value.value
            seal = wire.digest(value)
        name = self.named(value) if isinstance(value, type) else None
        if name is not None and name[0] == "builtins":
            return {"T": name}
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = self.count
            self.handles[number] = value
            self.count += 1
        kind = type(value)
        iterates = isinstance(value, _ITERATORS) or (hasattr(kind, "__next__") and hasattr(kind, "__iter__"))
        return {"h": [number, kind.__name__, kind.__eq__ is object.__eq__, iterates, seal]}

    def resolve(self, tag: str, body):
        if tag == "p":
            return self.owned(body)
        if tag == "T":
            module, name = body
            __import__(module)
            return getattr(sys.modules[module], name)
        if tag == "f":
            return self.callback(body)
        return super().resolve(tag, body)

    def callback(self, number: int):
        """A function of the tests, to be called there."""

        def callback(*args, **kwargs):
            wire.send(self.answers, b"J", self.dumps(["callback", number, list(args), kwargs]))
            while True:
                kind, body = self.request()
                if kind == b"R":
                    break
                wire.send(self.answers, b"J", self.answer(kind, body))  # that function calls the program
            outcome, value = self.loads(body)
            if outcome == "ok":
                return value
            name, message = value
            raise getattr(sys.modules["builtins"], name, Exception)(message)

        return callback


def _line(error: BaseException) -> int | None:
    """The deepest line of the program in the traceback."""
    line, entry = None, error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code.co_filename == "<solution>":
            line = entry.tb_lineno
        entry = entry.tb_next
    return line
