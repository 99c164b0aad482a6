"""The solver: the process that holds the untrusted program and answers the judge's requests.

It never sees a test or an expected value: it receives operations (call, attribute, item, ...) with their
arguments, and answers with data. Nothing that it says is believed beyond being the program's answer.
"""

import contextlib
import gc
import marshal
import operator
import os
import resource
import sys
import types

from . import forms, printed, sharing, wire

_ITERATORS = (types.GeneratorType, zip, map, filter, enumerate, reversed)
_COROUTINES = (types.CoroutineType, types.AsyncGeneratorType)
_UNCHANGED = contextlib.nullcontext()
_ALONE = 2  # references to an item of a list that is looked at in that list
_OPERATIONS = {
    "call": operator.call,
    "name": lambda target: target,
    "get": getattr,
    "set": setattr,
    "item": operator.getitem,
    "put": operator.setitem,
    "remove": delattr,
    "drop": operator.delitem,
    "of": lambda _, value, name: getattr(value, name),
    "defines": lambda value, *names: any(map(_defines, [type(value)] * len(names), names)),
    "len": len,
    "bool": bool,
    "isinstance": lambda kind, value: isinstance(value, kind),
    "issubclass": lambda kind, value: issubclass(value, kind),
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
            if len(reply) > wire.LARGEST:
                reply = peer.dumps(["undecidable", f"the answer is larger than {wire.LARGEST >> 20} MiB"])
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
        super().__init__("solver")
        self.namespace = namespace
        self.requests, self.answers = requests, answers
        self.handles: dict[int, object] = {}
        self.numbers: dict[int, int] = {}  # id -> handle
        self.count = 0
        self.functions: dict[int, object] = {}
        """The tests' functions and iterators, as the program has them, by the judge's number."""
        self.given: dict[int, int] = {}
        """The numbers of those, by id."""
        self.thrown: dict[int, tuple] = {}
        """By id, what the tests' functions raised, and the judge's number of it."""
        self.printed = printed.Printed(self.tell_printed)

    def tell_printed(self, place: int, text: str) -> None:
        wire.send(self.answers, b"J", self.dumps(["printed", place, text]))

    def request(self) -> tuple[bytes, bytes]:
        """The next request, once what it no longer needs has been let go."""
        while True:
            kind, body = wire.receive(self.requests)
            if kind == b"C":
                self.printed.wanted = body[0]
            elif kind == b"F":
                handles, shared = marshal.loads(body)
                for number in handles:
                    del self.numbers[id(self.handles.pop(number))]
                self.shared.forget(shared)
            else:
                return kind, body

    def answer(self, kind: bytes, body: bytes) -> bytes:
        """The encoded reply to one request."""
        roots: list = []  # the arguments, then the value: nothing else here may refer to them, see kept()
        mine: list = []
        count, message, survey = 0, None, None
        try:
            if kind == b"J":
                request, mine = self.read(body)
            else:
                request = marshal.loads(body if kind == b"M" else memoryview(body)[8:])
            operation, target, args, kwargs = request
            del request
            roots += args
            count = len(roots)
            roots += kwargs.values()
            if kind == b"N":
                first = int.from_bytes(body[:8], "big")
                survey = sharing.Survey(roots)
                mine = [self.shared.add(item, first + place) for place, item in enumerate(survey.found)]
            if mine:
                self.shared.mark(mine)
            with self.printed if self.printed.wanted else _UNCHANGED:
                roots.append(_OPERATIONS[operation](self.owned(target), *args, **kwargs))
        except BaseException as error:
            message = self.raised(error)
        args = kwargs = None
        try:
            message = message or self.simple(roots, count, mine)
            if message and not self.shared.objects:
                return self.dumps(message)
            return self.reply(message, roots, mine, survey)
        except RecursionError:
            message = ["undecidable", "the answer is nested too deeply"]
        except forms.Mismatch as error:
            message = ["undecidable", str(error)]
        except BaseException as error:
            message = self.raised(error)
        self.shared.forget(mine)
        return self.dumps(message)

    def simple(self, roots: list, count: int, mine: list) -> list | None:
        """The reply where the value is a leaf, an argument, or holds nothing that can be elsewhere, too."""
        for place in range(count):
            if roots[place] is roots[-1]:
                roots.pop()
                return ["same", place]
        if wire.is_long(roots[-1]):
            wire.send(self.answers, b"J", b'["sealing"]')
            return ["ok", Held(roots.pop())]
        if sharing.is_leaf(roots[-1]):
            return ["ok", roots.pop()]
        alone = (
            type(roots[-1]) is list
            and sys.getrefcount(roots[-1]) <= _ALONE
            and len(self.shared.objects) == len(mine)
        )
        if alone and (sharing.are_leaves(roots[-1]) or sharing.lists_apart(roots[-1])):
            return ["ok", roots.pop()]
        return None

    def read(self, body: bytes) -> tuple:
        """A request in JSON, and the numbers of what it brings."""
        if b"\n" not in body:
            return self.loads(body), []
        request, _, filled, created = self.loads_shared(body)
        self.shared.mark(filled)
        return request, created

    def reply(self, message: list | None, roots: list, mine: list, survey) -> bytes:
        """The form of an outcome, with what has changed of that which both sides hold.

        ``roots`` are the arguments, of which there may be a survey, and the value where there is no message
        yet."""
        shared = self.shared
        older = len(shared.objects) > len(mine)
        gone = [shared.objects[number] for number in shared.idle()] if older else []
        changed = shared.changed()
        at = len(roots) - 1
        roots += map(shared.objects.__getitem__, changed)
        if survey is None or older or changed or message is None:
            survey = sharing.Survey(roots)
        for number in mine:
            shared.before.pop(number, None)  # it refers to what the object held
        kept = self.kept(survey, mine)
        if kept:
            gc.collect(1)  # what a function that refers to itself leaves behind
            kept = self.kept(survey, mine)
            kept = sharing.Survey(kept).found if kept else []  # with what they hold
        message = message or ["ok", roots[at]]
        refers = False
        if older:
            others = shared.numbers.keys() - {id(shared.objects[number]) for number in mine}
            refers = not others.isdisjoint(survey.edges)
        if not (changed or kept or gone or survey.tangled or refers):
            with contextlib.suppress(RecursionError):  # the other form does not mind how deeply it is nested
                text = self.dumps(message)
                shared.forget(mine)
                return text
        header = {"kept": kept, "gone": gone}
        if len(shared.objects) > sharing.MOST:
            header |= {"kept": [], "full": []}
        first = shared.next
        text = self.dumps_shared(message, survey.found, changed, **header)
        stays = {shared.numbers[id(item)] for item in header["kept"]}
        shared.forget(shared.numbers[id(item)] for item in gone)
        shared.forget([number for number in (*mine, *range(first, shared.next, -1)) if number not in stays])
        shared.mark(number for number in {*stays, *changed} if number in shared.objects)
        return text

    def kept(self, survey: sharing.Survey, mine: list) -> list:
        """Those of these objects to which the program itself refers, by how many references there are."""
        objects, numbers, edges = self.shared.objects, self.shared.numbers, survey.edges
        found = survey.found + [objects[number] for number in mine if id(objects[number]) not in edges]
        kept = []
        for item in found:
            # The two lists of what was found (one for what no longer is reached), this variable, an argument.
            expected = edges.get(id(item), -1) + 4 + (id(item) in numbers)
            if sys.getrefcount(item) > expected:
                kept.append(item)
        return kept

    def owned(self, target):
        if target is None:
            return None
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
        error_of_tests, number = self.thrown.get(id(error), (None, 0))
        if error_of_tests is error:
            return ["rethrow", number]
        try:
            message = str.__str__(str(error.msg if isinstance(error, SyntaxError) else error))[:2000]
        except BaseException as second:
            message = f"<{type(second).__name__} in str>"
        line = error.lineno if isinstance(error, SyntaxError) else _line(error)
        return ["raise", _kinds(kind), message, line, *self.details(error, message)]

    def details(self, error: BaseException, message: str) -> list:
        """The arguments of an exception, where they are data and not the message, and its attributes."""
        try:
            args = BaseException.args.__get__(error)  # pyright: ignore[reportAttributeAccessIssue]
            held = BaseException.__dict__["__dict__"].__get__(error)
            attributes = {name: held[name] for name in held if not name.startswith("_")}
            args = list(args) if args != (message,) and sharing.are_leaves(args) else None
            if args is None and not attributes:
                return []
            self.dumps([args, attributes])
            return [args, attributes]
        except Exception:
            return []

    def decayed(self, value, form):
        """Told where its class offers more than the built-in part."""
        kind = type(value)
        base = next(base for base in kind.__mro__ if base.__module__ in ("builtins", "collections"))
        if all(name.startswith("_") for name in set(dir(kind)) - set(dir(base))) and not hasattr(
            kind, "__members__"
        ):
            return form
        return {"~": [kind.__name__, form]}

    def foreign(self, value):
        """A value that is not data stays here, and the judge gets a handle."""
        seal = None
        if type(value) is Held:
            value = value.value
            seal = wire.digest(value)
        if id(value) in self.given:
            return {"f": self.given[id(value)]}
        name = self.named(value)
        if name is not None and name[0] == "builtins" and name[1] in wire.BUILTIN_TYPES:
            return {"T": name}
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = self.count
            self.handles[number] = value
            self.count += 1
        kind = type(value)
        if isinstance(value, type) and issubclass(value, BaseException):
            return {"X": [number, _kinds(value)]}
        iterates = isinstance(value, _ITERATORS) or (hasattr(kind, "__next__") and hasattr(kind, "__iter__"))
        properties = [number, kind.__name__, kind.__eq__ is object.__eq__, iterates, seal]
        properties.append(kind.__module__ == "__solution__")
        if name is not None or isinstance(value, _COROUTINES):
            properties.append(f"the program answers with {'.'.join(name) if name else 'a coroutine'} itself")
        return {"h": properties}

    def resolve(self, tag: str, body):
        if tag == "p":
            return self.owned(body)
        if tag == "T":
            module, name = body
            __import__(module)
            return getattr(sys.modules[module], name)
        if tag == "re":
            import re

            return re.compile(*body)
        if tag in ("f", "g"):
            if body not in self.functions:
                function = self.callback(body)
                made = self.functions[body] = function if tag == "f" else _pulled(function)
                self.given[id(made)] = body
            return self.functions[body]
        return super().resolve(tag, body)

    def callback(self, number: int):
        """A function of the tests, to be called there."""

        def callback(*args, **kwargs):
            shared = self.shared
            self.printed.flush()
            message = ["callback", number, list(args), kwargs]
            changed = shared.changed() if shared.objects else []
            roots = [*args, *kwargs.values(), *map(shared.objects.__getitem__, changed)]
            found = [] if sharing.are_leaves(roots) else sharing.Survey(roots).found
            if found or changed:
                wire.send(self.answers, b"J", self.dumps_shared(message, found, changed, kept=found, gone=[]))
                shared.mark()
            else:
                wire.send(self.answers, b"J", self.dumps(message))
            while True:
                kind, body = self.request()
                if kind == b"R":
                    break
                wire.send(self.answers, b"J", self.answer(kind, body))  # that function calls the program
            (outcome, value), created = self.read(body)
            shared.mark(created)
            if outcome == "ok":
                return value
            name, message, place = value
            error = getattr(sys.modules["builtins"], name, Exception)(message)
            self.thrown[id(error)] = error, place
            raise error

        return callback


def _pulled(pull):
    """The items of an iterator of the tests, of which ``pull`` gives the next in a list."""
    while item := pull():
        yield item[0]


def _kinds(kind: type) -> list:
    return [(base.__module__, base.__qualname__) for base in kind.__mro__]


def _defines(kind: type, name: str) -> bool:
    return getattr(kind, name, None) is not getattr(object, name, None)


def _line(error: BaseException) -> int | None:
    """The deepest line of the program in the traceback."""
    line, entry = None, error.__traceback__
    while entry is not None:
        if entry.tb_frame.f_code.co_filename == "<solution>":
            line = entry.tb_lineno
        entry = entry.tb_next
    return line
