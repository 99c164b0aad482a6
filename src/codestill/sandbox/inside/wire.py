"""How values cross between solver and judge: frames of JSON in which every value is data.

What JSON has no form for is an object with one key, the tag: ``{"t": [1, 2]}`` is a tuple. The receiver
builds exact built-in (or standard library) types from data, so no code of the sender runs in it: a subclass
of ``int`` with an ``__eq__`` of its own arrives as an ``int``. Values that are not data travel as a handle,
which their owner keeps. Requests may use marshal, which is faster and must not be read from a stranger.
"""

import itertools
import json
import marshal
import os
import re
import sys

LARGEST = 64 << 20  # bytes of a frame
_HEADER = 5  # a length of four bytes, and the kind
_PLAIN = frozenset((type(None), bool, int, float, str))
_decoder = json.JSONDecoder()
_TUPLES, _LISTS, _SIZED = {tuple}, {list}, {list, tuple, str}
_LONG = 1_000_000  # elements
_SAFE_DTYPE = re.compile(r"[<>|=]?[biufc?][0-9]{0,2}")
_BUILTIN_TYPES = {
    kind.__name__: kind
    for kind in (
        *(bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict),
        *(range, object, type, slice, memoryview, type(None)),
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

    def foreign(self, value) -> object:
        """The form of a value that is not data; Undecidable or TypeError where it has none."""
        raise TypeError(f"a {type(value).__name__} is not data")

    def resolve(self, tag: str, body) -> object:
        """The value of a tag that is not data."""
        raise ValueError(f"unknown tag {tag!r}")

    def dumps(self, value) -> bytes:
        try:
            return json.dumps(self._encode(value)).encode()
        except ValueError:  # an int of more digits than Python writes in decimal
            return json.dumps(self._encode(value, hexadecimal=True)).encode()

    def loads(self, text: bytes):
        if b"{" in text:
            return json.loads(text, object_hook=self._decode)
        return _decoder.raw_decode(text.decode())[0]

    def _encode(self, value, hexadecimal: bool = False):
        kind = type(value)
        if kind in _PLAIN:
            return {"i": hex(value)} if hexadecimal and kind is int else value
        if kind is list:
            if not hexadecimal and set(map(type, value)) == _TUPLES and _flat(value):
                return {"lt": value}  # common and long: json writes the tuples as lists
            return self._items(value, hexadecimal)
        if kind is tuple:
            return {"t": self._items(value, hexadecimal)}
        if kind is dict:
            return {"d": self._pairs(value, hexadecimal)}
        return self._rarer(value, hexadecimal)

    def _items(self, values, hexadecimal: bool) -> list:
        if not hexadecimal:
            kinds = set(map(type, values))
            if kinds <= _PLAIN or (kinds == _LISTS and _flat(values)):
                return list(values)
        return [self._encode(value, hexadecimal) for value in values]

    def _pairs(self, value, hexadecimal: bool) -> list:
        encode = self._encode
        return [[encode(key, hexadecimal), encode(item, hexadecimal)] for key, item in dict.items(value)]

    def _rarer(self, value, hexadecimal: bool):
        """Other data: the standard library's value types, and subclasses by what they are made of."""
        if isinstance(value, set | frozenset):
            tag, items = ("s", set.__iter__) if isinstance(value, set) else ("z", frozenset.__iter__)
            return {tag: self._items(list(items(value)), hexadecimal)}  # pyright: ignore[reportArgumentType]
        if isinstance(value, dict):
            collections = sys.modules["collections"]
            tags = {collections.OrderedDict: "O", collections.Counter: "C", collections.defaultdict: "E"}
            tag = next((tag for kind, tag in tags.items() if isinstance(value, kind)), "d")
            return {tag: self._pairs(value, hexadecimal)}
        if isinstance(value, bool | int):
            return self._encode(int.__int__(value), hexadecimal)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, list):
            return self._items(list(list.__iter__(value)), hexadecimal)
        if isinstance(value, tuple):
            return {"t": self._items(list(tuple.__iter__(value)), hexadecimal)}
        if isinstance(value, complex):
            return {"c": [value.real, value.imag]}
        if isinstance(value, bytes | bytearray):
            return {"b" if isinstance(value, bytes) else "B": bytes(value).hex()}
        if isinstance(value, range):
            return {"r": [self._encode(n, hexadecimal) for n in (value.start, value.stop, value.step)]}
        for tag, kind in (("dk", type({}.keys())), ("dv", type({}.values())), ("di", type({}.items()))):
            if type(value) is kind:
                return {tag: self._items(list(value), hexadecimal)}
        return self._from_library(value, hexadecimal)

    def _from_library(self, value, hexadecimal: bool):
        kind, module = type(value).__name__, type(value).__module__
        if module in ("decimal", "fractions", "collections", "datetime"):
            if kind == "Decimal":
                return {"D": str(value)}
            if kind == "Fraction":
                return {"F": [hex(value.numerator), hex(value.denominator)]}
            if kind == "deque":
                return {"q": [self._items(list(value), hexadecimal), value.maxlen]}
            if kind == "timedelta":
                return {"dt": [kind, [value.days, value.seconds, value.microseconds]]}
            if kind in ("datetime", "date", "time") and getattr(value, "tzinfo", None) is None:
                return {"dt": [kind, value.isoformat()]}
        if module == "numpy":
            numpy = sys.modules["numpy"]
            if isinstance(value, numpy.generic) and _SAFE_DTYPE.fullmatch(value.dtype.str):
                return self._encode(value.item(), hexadecimal)
            if isinstance(value, numpy.ndarray) and _SAFE_DTYPE.fullmatch(value.dtype.str):
                return {"n": [value.dtype.str, self._encode(value.tolist(), hexadecimal)]}
        return self.foreign(value)

    def _decode(self, form: dict):
        ((tag, body),) = form.items()
        if tag == "lt":
            return list(map(tuple, body))
        if tag in ("t", "s", "z"):
            return {"t": tuple, "s": set, "z": frozenset}[tag](body)
        if tag in ("d", "O", "C", "E"):
            return self._dictionary(tag, dict(body))
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
        if tag in ("D", "F", "q", "dt", "n"):
            return self._to_library(tag, body)
        return self.resolve(tag, body)

    @staticmethod
    def _dictionary(tag: str, items: dict):
        if tag == "d":
            return items
        import collections

        if tag == "E":
            return collections.defaultdict(None, items)
        return collections.OrderedDict(items) if tag == "O" else collections.Counter(items)

    @staticmethod
    def _to_library(tag: str, body):
        if tag == "D":
            import decimal

            return decimal.Decimal(body)
        if tag == "F":
            import fractions

            return fractions.Fraction(*(int(number, 16) for number in body))
        if tag == "q":
            import collections

            return collections.deque(body[0], body[1])
        if tag == "dt":
            import datetime

            kind, value = body
            if kind == "timedelta":
                return datetime.timedelta(*value)
            return {"datetime": datetime.datetime, "date": datetime.date, "time": datetime.time}[
                kind
            ].fromisoformat(value)
        import numpy

        dtype, items = body
        if not _SAFE_DTYPE.fullmatch(dtype):
            raise ValueError("not a type of numbers")
        return numpy.array(items, dtype=dtype)

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
        return _BUILTIN_TYPES[name]
