"""How values cross between solver and judge: frames of JSON in which every value is data.

What JSON has no form for is an object with one key, the tag: ``{"t": [1, 2]}`` is a tuple. The receiver
builds exact built-in (or standard library) types from data, so no code of the sender runs in it: a subclass
of ``int`` with an ``__eq__`` of its own arrives as an ``int``. Values that are not data travel as a handle,
which their owner keeps. Requests may use marshal, which is faster and must not be read from a stranger.

Where one object is in two places, or both sides hold it, a frame has two lines: in the first are the objects
that it creates, by number, in the second what they hold and what is said, where ``{"@": 1}`` is object 1.
"""

import builtins
import itertools
import json
import marshal
import os
import re
import sys
from collections import Counter, OrderedDict, defaultdict

from . import forms, sharing

LARGEST = 64 << 20  # bytes of a frame
_HEADER = 5  # a length of four bytes, and the kind
_PLAIN = frozenset((type(None), bool, int, float, str))
_decoder = json.JSONDecoder()
_TUPLES, _LISTS, _SIZED = {tuple}, {list}, {list, tuple, str}
_LONG = 1_000_000  # elements
_DOUBLES, _LARGE = (1 << 53) - 1, re.compile(rb"[0-9]{16}")
BUILTIN_TYPES = {
    kind.__name__: kind
    for kind in (
        *(bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict),
        *(range, object, type, slice, memoryview, type(None)),
        *(
            kind
            for kind in vars(builtins).values()
            if isinstance(kind, type) and issubclass(kind, BaseException)
        ),
    )
}


def _flat(values) -> bool:
    """Whether everything in these sequences is plain."""
    return set(map(type, itertools.chain.from_iterable(values))) <= _PLAIN


class TooLarge(Exception):
    """A frame over the limit."""


def send(descriptor: int, kind: bytes, body: bytes) -> None:
    if len(body) > LARGEST:
        raise TooLarge(f"more than {LARGEST >> 20} MiB")
    frame = len(body).to_bytes(4, "big") + kind + body
    while frame:
        frame = frame[os.write(descriptor, frame) :]


def receive(descriptor: int) -> tuple[bytes, bytes]:
    """The next frame's kind and body. Raises EOFError at the end, TooLarge for one over the limit."""
    head = _exactly(descriptor, _HEADER)
    size = int.from_bytes(head[:4], "big")
    if size > LARGEST:
        raise TooLarge(f"more than {LARGEST >> 20} MiB")
    return head[4:], _exactly(descriptor, size)


def _exactly(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size)
    if len(data) == size:
        return data
    parts = bytearray(data)
    while len(parts) < size:
        more = os.read(descriptor, size - len(parts))
        if not more:
            raise EOFError
        parts += more
    return bytes(parts)


def to_marshal(value) -> bytes | None:
    """Bytes for plain built-in values, None for others. Version 2 gives equal bytes for equal values."""
    try:
        return marshal.dumps(value, 2)
    except ValueError:
        return None


def is_plain(value) -> bool:
    """Whether marshal writes it as what it is: another object that offers its bytes becomes these bytes."""
    if type(value) in (list, tuple) and set(map(type, value)) == _TUPLES and _flat(value):
        return True  # common and long
    return sharing.Survey([value]).marshals


def is_long(value) -> bool:
    """Whether a value is too long to send: more than a million elements, in it or in what it holds."""
    if type(value) not in (list, tuple, set, frozenset):
        return type(value) in (str, bytes) and len(value) > LARGEST // 8
    total = len(value)
    if total > 1000 and set(map(type, value)) <= _SIZED:
        total += sum(map(len, value))
    return total > _LONG


def digest(value) -> str | None:
    """A hash of a value of exact built-in types, None for any other; to name it is to know the value."""
    import hashlib

    if not is_plain(value):
        return None
    total = hashlib.sha256(type(value).__name__.encode())
    items = value if type(value) in (list, tuple) else [value]
    if type(value) in (set, frozenset):  # their order says nothing
        marshalled = [to_marshal(item) or b"" for item in value]
        items = [b"".join(sorted(marshalled))] if all(marshalled) else [object()]
    for item in items:
        data = to_marshal(item)
        if data is None:
            return None
        total.update(data)
    return total.hexdigest()


class Codec:
    """Encodes values as JSON text and back; subclasses say what becomes of values that are not data."""

    def __init__(self, side: str = "") -> None:
        self.side = side
        self.shared = sharing.Shared(1 if side == "judge" else -1)
        self.decoder: json.JSONDecoder | None = None
        self.exact = False
        """Whether integers that a double does not hold are written in hexadecimal, for languages that read
        numbers as doubles."""
        self.references: dict[int, int] | None = None
        """By id, the numbers of the objects that the text that is being written refers to."""
        self.named_tuples = forms.NamedTuples(self.attribute)

    def foreign(self, value) -> object:
        """The form of a value that is not data; Undecidable or TypeError where it has none."""
        raise TypeError(f"a {type(value).__name__} is not data")

    def decayed(self, value, form) -> object:
        """The form of an instance of a subclass, of which the other side gets the built-in part."""
        return form

    def resolve(self, tag: str, body) -> object:
        """The value of a tag that is not data."""
        raise ValueError(f"unknown tag {tag!r}")

    def attribute(self, value, name: str) -> object:
        """What a named tuple of the other side has besides its fields."""
        raise AttributeError(name)

    def dumps(self, value) -> bytes:
        try:
            text = json.dumps(self._encode(value)).encode()
            if self.exact and _LARGE.search(text):
                text = json.dumps(self._encode(value, hexadecimal=_DOUBLES)).encode()
            return text
        except ValueError:  # an int of more digits than Python writes in decimal
            return json.dumps(self._encode(value, hexadecimal=True)).encode()

    def loads(self, text: bytes):
        if b"{" not in text and b"NaN" not in text:
            return _decoder.raw_decode(text.decode())[0]
        if self.decoder is None:
            self.decoder = json.JSONDecoder(object_hook=self._decode, parse_constant=self.constant)
        return self.decoder.decode(text.decode())

    def constant(self, name: str) -> float:
        return float(name)

    def dumps_shared(self, value, objects, changed, **header) -> bytes:
        """A frame of two lines, in which all these objects are referred to by number.

        Those that are new to the other side, and those of ``changed``, are sent with what they hold."""
        known = self.shared.numbers
        new = [item for item in objects if id(item) not in known]
        added = [self.shared.add(item) for item in new]
        self.references = known
        try:
            created = [
                [number, *forms.blank(item, self._encode)] for number, item in zip(added, new, strict=True)
            ]
            lists = {key: [known[id(item)] for item in items] for key, items in header.items()}
            first = json.dumps({"d": [["new", created], *lists.items()]})
            try:
                second = json.dumps([self._fills([*changed, *added], False), self._encode(value)])
            except ValueError:
                second = json.dumps([self._fills([*changed, *added], True), self._encode(value, True)])
        except BaseException:
            self.shared.forget(added)
            raise
        finally:
            self.references = None
        return f"{first}\n{second}".encode()

    def _fills(self, numbers, hexadecimal: bool | int) -> list:
        return [[number, self._contents(self.shared.objects[number], hexadecimal)] for number in numbers]

    def loads_shared(self, text: bytes) -> tuple:
        """What a frame of two lines says, its header, and the numbers that it has filled, and created."""
        first, second = text.split(b"\n")
        header = self.loads(first)
        created = []
        for number, tag, more in header["new"]:
            if type(number) is not int or (number < 0) == (self.shared.step < 0):
                raise forms.Mismatch("no number of the other side's")
            if number in self.shared.objects:
                raise forms.Mismatch("a number twice")
            self.shared.add(forms.from_blank(tag, more), number)
            created.append(number)
        fills, value = self.loads(second)
        for number, items in fills:
            sharing.fill(self.shared.objects[number], bytes.fromhex(items) if type(items) is str else items)
        return value, header, [number for number, _ in fills], created

    def _contents(self, value, hexadecimal: bool | int = False):
        if isinstance(value, dict):
            return self._pairs(value, hexadecimal)
        held = sharing.contents(value)
        return held.hex() if type(held) is bytes else self._items(held, hexadecimal)

    def _encode(self, value, hexadecimal: bool | int = False):
        kind = type(value)
        if kind in _PLAIN:
            if hexadecimal and kind is int and (hexadecimal is True or abs(value) > hexadecimal):
                return {"i": hex(value)}
            return value
        if self.references is not None:
            number = self.references.get(id(value))
            if number is not None:
                return {"@": number}
        if kind is list:
            if not hexadecimal and set(map(type, value)) == _TUPLES and _flat(value):
                return {"lt": value}  # common and long: json writes the tuples as lists
            return self._items(value, hexadecimal)
        if kind is tuple:
            return {"t": self._items(value, hexadecimal)}
        if kind is dict:
            return {"d": self._pairs(value, hexadecimal)}
        return self._rarer(value, hexadecimal)

    def _items(self, values, hexadecimal: bool | int) -> list:
        if not hexadecimal:
            kinds = set(map(type, values))
            if kinds <= _PLAIN or (kinds == _LISTS and self.references is None and _flat(values)):
                return list(values)
        return [self._encode(value, hexadecimal) for value in values]

    def _pairs(self, value, hexadecimal: bool | int) -> list:
        encode = self._encode
        items = OrderedDict.items(value) if isinstance(value, OrderedDict) else dict.items(value)
        return [[encode(key, hexadecimal), encode(item, hexadecimal)] for key, item in items]

    def _rarer(self, value, hexadecimal: bool | int):
        """Other data: the standard library's value types, and subclasses by what they are made of."""
        kind = type(value)
        if kind.__module__ == "numpy":
            form = forms.of_library(value, self._encode)
            return self.foreign(value) if form is None else form
        if isinstance(value, tuple) and forms.has_fields(value):
            items = self._items(list(tuple.__iter__(value)), hexadecimal)
            return {"N": [*self.named_tuples.told(kind), items]}
        for base, form in self._bases(value, hexadecimal):
            return form() if kind is base else self.decayed(value, form())
        for tag, view in (("dk", type({}.keys())), ("dv", type({}.values())), ("di", type({}.items()))):
            if kind is view:
                return {tag: self._items(list(value), hexadecimal)}
        form = forms.of_library(value, lambda item: self._encode(item, hexadecimal))
        return self.foreign(value) if form is None else form

    def _bases(self, value, hexadecimal: bool | int):
        """The built-in type that a value is of, or that its class comes from, and what gives its form."""
        items = self._items
        if isinstance(value, set):
            yield set, lambda: {"s": items(list(set.__iter__(value)), hexadecimal)}
        elif isinstance(value, frozenset):
            yield frozenset, lambda: {"z": items(list(frozenset.__iter__(value)), hexadecimal)}
        elif isinstance(value, OrderedDict | Counter):
            base, tag = (OrderedDict, "O") if isinstance(value, OrderedDict) else (Counter, "C")
            yield base, lambda: {tag: self._pairs(value, hexadecimal)}
        elif isinstance(value, defaultdict):
            pairs = self._pairs(value, hexadecimal)
            yield defaultdict, lambda: {"E": [self._encode(value.default_factory), pairs]}
        elif isinstance(value, dict):
            yield dict, lambda: {"d": self._pairs(value, hexadecimal)}
        elif isinstance(value, int):
            yield bool, lambda: self._encode(int.__int__(value), hexadecimal)
        elif isinstance(value, float):
            yield float, lambda: float.__float__(value)
        elif isinstance(value, str):
            yield str, lambda: str.__str__(value)
        elif isinstance(value, list):
            yield list, lambda: items(list(list.__iter__(value)), hexadecimal)
        elif isinstance(value, tuple):
            yield tuple, lambda: {"t": items(list(tuple.__iter__(value)), hexadecimal)}
        elif isinstance(value, complex):
            yield complex, lambda: {"c": [value.real, value.imag]}
        elif isinstance(value, bytes):
            yield bytes, lambda: {"b": bytes.hex(value)}
        elif isinstance(value, bytearray):
            yield bytearray, lambda: {"B": bytearray.hex(value)}
        elif isinstance(value, range):
            parts = (value.start, value.stop, value.step)
            yield range, lambda: {"r": [self._encode(n, hexadecimal) for n in parts]}

    def _decode(self, form: dict):
        ((tag, body),) = form.items()
        if tag == "@":
            return self.shared.objects[body]
        if tag == "lt":
            return list(map(tuple, body))
        if tag in ("t", "s", "z"):
            return {"t": tuple, "s": set, "z": frozenset}[tag](body)
        if tag == "d":
            return dict(body)
        if tag in ("O", "C"):
            return (OrderedDict if tag == "O" else Counter)(dict(body))
        if tag == "E":
            return defaultdict(body[0], body[1])
        if tag == "i":
            return int(body, 16)
        if tag in ("b", "B"):
            return (bytes if tag == "b" else bytearray).fromhex(body)
        if tag == "c":
            real, imaginary = body
            return complex(float(real), float(imaginary))
        if tag == "r":
            return range(*body)
        if tag == "dk":
            return dict.fromkeys(body).keys()
        if tag == "dv":
            return dict(enumerate(body)).values()
        if tag == "di":
            return dict(body).items()
        if tag == "N":
            return self.named_tuples.made(*body)
        return forms.to_library(tag, body) if tag in forms.TAGS else self.resolve(tag, body)

    @staticmethod
    def named(value) -> list[str] | None:
        """``[module, name]`` of a type or function of the standard library, which the other side has too."""
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if not (isinstance(module, str) and isinstance(name, str) and name.isidentifier()):
            return None
        if module.partition(".")[0] not in sys.stdlib_module_names and module != "builtins":
            return None
        found = getattr(sys.modules.get(module), name, None)
        return [module, name] if found is value else None

    @staticmethod
    def builtin_type(name: str) -> type:
        return BUILTIN_TYPES[name]
