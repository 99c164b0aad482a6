"""The candidate's functions, classes, objects and exceptions, as the tests see them.

Operations of a proxy run in the solver. Comparison never does: a proxy equals itself alone, and where its
class has an ``__eq__`` of its own the answer is unknown, not the solver's to give. Nor do arithmetic and
ordering, for the same reason: where the class has them, the verdict cannot be reached.
"""

import builtins
import functools
import operator
import sys
import types

from . import explain, wire


class Gone(BaseException):
    """The solver ended."""


class Undecidable(BaseException):
    """The split verdict cannot be reached: something that is not data would have to cross."""


class FromCandidate:
    """Marks an exception that the candidate raised."""

    told_line: int | None = None
    told_text: str | None = None

    def __str__(self) -> str:  # KeyError would quote it once more
        return super().__str__() if self.told_text is None else self.told_text


_SPECIAL = frozenset(
    (
        *("__doc__", "__wrapped__", "__name__", "__qualname__", "__defaults__", "__kwdefaults__"),
        *("__annotations__", "__bases__"),
    )
)
_OPERATORS = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift"),
    *("and", "xor", "or"),
)
_PART = 100_000  # items
_ORDER = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_OTHERS = (
    *("neg", "pos", "abs", "invert", "int", "float", "complex", "index", "round", "trunc", "floor", "ceil"),
    *("enter", "exit", "await", "aiter", "anext", "aenter", "aexit", "reversed", "format"),
)


class Remote:
    """A function, class or object of the candidate."""

    def __init__(
        self,
        peer,
        target,
        kind: str,
        identity: bool,
        iterates: bool = False,
        seal: str | None = None,
        own: bool = False,
    ) -> None:
        self.__dict__.update(
            _peer=peer,
            _target=target,
            _kind=kind,
            _identity=identity,
            _iterates=iterates,
            _seal=seal,
            _own=own,
        )

    @property
    def __class__(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.__dict__.get("_seal") is not None:
            self._peer.give_up(f"the tests ask whether a {self._kind} too long to be sent is one")
        return Remote

    def __call__(self, *args, **kwargs):
        return self._peer.ask("call", self._target, args, kwargs)

    def __getattr__(self, name):
        if name.startswith("__") and (name not in _SPECIAL or not self._peer.marshals):
            raise AttributeError(name)
        return self._peer.ask("get", self._target, (name,))

    def __reduce_ex__(self, protocol) -> str:
        return self._peer.give_up(f"the tests copy a {self._kind}")

    def __mro_entries__(self, bases) -> tuple:
        return self._peer.give_up("the tests derive a class from one of the program's")

    def __setattr__(self, name, value):
        self._peer.ask("set", self._target, (name, value))

    def __delattr__(self, name):
        self._peer.ask("remove", self._target, (name,))

    def __getitem__(self, key):
        return self._peer.ask("item", self._target, (key,))

    def __setitem__(self, key, value):
        self._peer.ask("put", self._target, (key, value))

    def __delitem__(self, key):
        self._peer.ask("drop", self._target, (key,))

    def __contains__(self, value):
        self._unless("__contains__")
        return any(item is value or item == value for item in self)

    def __len__(self):
        return self._checked("len", int)

    def __bool__(self):
        return self._checked("bool", bool)

    def __str__(self):
        return self._checked("str", str)

    def __repr__(self):
        return self._checked("repr", str)

    def __iter__(self):
        if self._seal is not None and self._kind in ("list", "tuple", "str", "bytes"):
            return self._parts()
        return self if self._iterates else self._peer.ask("iter", self._target)

    def _parts(self):
        """The items of what is too long to be sent at once."""
        for start in range(0, len(self), _PART):
            yield from self[start : start + _PART]

    def __next__(self):
        if not self._iterates:
            raise TypeError(f"{self._kind!r} object is not an iterator")
        return self._peer.ask("next", self._target)

    def __instancecheck__(self, instance):
        return self._checked("isinstance", bool, instance)

    def __subclasscheck__(self, kind):
        return self._checked("issubclass", bool, kind)

    def _checked(self, operation, kind, *args):
        value = self._peer.ask(operation, self._target, args)
        if type(value) is not kind:
            raise TypeError(f"{operation} returned a {type(value).__name__}")
        return value

    def _unless(self, *methods):
        """Give up where its class has one of these methods, which only the program could carry out."""
        if self._checked("defines", bool, *methods):
            self._peer.give_up(f"the tests use {methods[0]} of a {self._kind}")

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
        if not self._identity and not self._peer.parsing:
            self._peer.give_up(f"the tests look up a {self._kind}, whose class defines equality itself")
        return id(self)

    def __del__(self):
        if isinstance(self._target, int):
            self._peer.released.append(self._target)

    def cpu_clock(self) -> float:
        """CPU seconds of the solver so far, by the kernel's account."""
        return self._peer.cpu_clock()


def _operator(*methods: str):
    def operate(self, *_):
        self._unless(*methods)
        return NotImplemented

    return operate


def _other(method: str):
    def operate(self, *args):
        self._unless(method)
        name = method.strip("_")
        if name == "format" and args == ("",):
            return str(self)
        if name == "reversed":
            return (self[place] for place in reversed(range(len(self))))
        raise TypeError(f"{name} is nothing that {self._kind!r} objects have")

    return operate


Remote.__doc__ = property(lambda self: self.__getattr__("__doc__"))  # pyright: ignore[reportAttributeAccessIssue]
for _name in _OPERATORS:
    setattr(Remote, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(Remote, f"__r{_name}__", _operator(f"__r{_name}__"))
    setattr(Remote, f"__i{_name}__", _operator(f"__i{_name}__", f"__{_name}__"))
for _name, _mirrored in _ORDER.items():
    setattr(Remote, f"__{_name}__", _operator(f"__{_name}__"))
for _name in _OTHERS:
    setattr(Remote, f"__{_name}__", _other(f"__{_name}__"))


_ENDS = (StopIteration, StopAsyncIteration)


class Exceptions:
    """The classes of the candidate's exceptions, as the tests catch them."""

    def __init__(self) -> None:
        self.made: dict[tuple, type] = {}
        self.targets: dict[type, int] = {}
        """The handles of those that the tests know by name."""

    def make(self, kinds: tuple, ends: bool, message: str, args: tuple | None) -> BaseException:
        """One with these arguments, or with this message where it has none that are data."""
        for attempt in (args, (message,)):
            if attempt is not None:
                try:
                    return self.class_of(kinds, ends)(*attempt)
                except Exception:
                    continue  # its constructor wants something else
        title = self.class_of(kinds, ends).__name__
        bases = (self.class_of((kind,), ends) for kind in kinds[1:] if _known(kind))
        for base in (*bases, Exception):
            marks = (base,) if issubclass(base, FromCandidate) else (FromCandidate, base)
            try:
                return type(title, marks, {"__module__": "builtins"})(message)
            except Exception:
                continue
        raise AssertionError("not reached")

    def class_of(self, kinds: tuple, ends: bool = True) -> type[BaseException]:
        """That of the nearest class that the tests know too, marked as the candidate's.

        ``kinds`` are names of module and class, of the class and its bases. Without ``ends`` it ends no
        iteration: raised by a function, it would end a ``map`` of the tests before they have asserted
        anything."""
        ends = ends or not any(issubclass(_known(kind) or Exception, _ENDS) for kind in kinds)
        found = self.made.get((kinds, ends))
        if found is None:
            known = _known(kinds[0]) if kinds else Exception
            stops = known is not None and issubclass(known, _ENDS) and not ends
            if known is not None and not stops:
                base = known
            else:
                base = self.class_of(kinds[1:], ends) if len(kinds) > 1 else Exception
            marks = (base,) if issubclass(base, FromCandidate) else (FromCandidate, base)
            first = kinds[0] if kinds else ("builtins", "Exception")
            title = explain.text(lambda: explain.titled(*first)).replace("\0", "?")
            found = self.made[kinds, ends] = type(title, marks, {"__module__": "builtins"})
        return found


def _known(kind: tuple[str, str]) -> type[BaseException] | None:
    """An exception class of the standard library, where its module is loaded."""
    module, name = kind
    if module != "builtins" and module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def replaced() -> str:
    """Which of the functions that read and write the tests have replaced; the program has its own."""
    if (_NOW["input"], _NOW["open"], _NOW["print"]) == _USUAL:
        return ""
    return next(
        name
        for name, usual in zip(("input", "open", "print"), _USUAL, strict=True)
        if _NOW[name] is not usual
    )


_NOW = builtins.__dict__
_USUAL = (_NOW["input"], _NOW["open"], _NOW["print"])


FUNCTIONS = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial, type("".join)),
    *(operator.itemgetter, operator.attrgetter, operator.methodcaller, types.MethodWrapperType),
    *(types.MethodDescriptorType, types.WrapperDescriptorType),
)
"""Types of functions of the tests that the program may call, and nothing else."""
ITERATORS = (
    *(types.GeneratorType, zip, map, filter, enumerate, reversed),
    *map(type, map(iter, ([], (), "", b"", {}, set(), range(0), {}.values(), {}.items()))),
)


class Puller:
    """Gives an iterator's next item in a list, an empty one at its end."""

    def __init__(self, iterator) -> None:
        self.iterator = iterator

    def __call__(self) -> list:
        for item in self.iterator:
            return [item]
        return []
