"""Forms of values of the standard library and NumPy: made of data alone, and rebuilt as exactly that type."""

import array
import collections
import sys

from . import sharing

_NUMBERS = frozenset("bBhHiIlLqQfd")  # array's types, but for texts


class Mismatch(ValueError):
    """A form of something that is not what it says."""


def of_library(value, encode):
    """The form of a value, by whose parts ``encode`` gives theirs; None for any that is not known here."""
    kind, module = type(value).__name__, type(value).__module__
    if module in ("decimal", "fractions", "collections", "datetime"):
        if kind == "Decimal":
            return {"D": str(value)}
        if kind == "Fraction":
            return {"F": [hex(value.numerator), hex(value.denominator)]}
        if kind == "deque":
            return {"q": [[encode(item) for item in list(value)], value.maxlen]}
        return _of_time(value, kind)
    if type(value) is array.array and value.typecode in _NUMBERS:
        return {"a": [value.typecode, value.tobytes().hex()]}
    if type(value) is slice:
        return {"sl": [encode(part) for part in (value.start, value.stop, value.step)]}
    if value is Ellipsis or value is NotImplemented:
        return {"k": str(value)}
    return _of_numpy(value) if module == "numpy" else None


def _of_numpy(value):
    if sharing.is_array(value):
        return {"n": [value.dtype.str, list(value.shape), value.tobytes().hex()]}
    generic = isinstance(value, sys.modules["numpy"].generic)
    if generic and sharing.SAFE_DTYPE.fullmatch(value.dtype.str):
        return {"ns": [value.dtype.str, value.tobytes().hex()]}
    return None


def _of_time(value, kind: str):
    import datetime

    if kind == "timedelta":
        return {"dt": [kind, [value.days, value.seconds, value.microseconds]]}
    if kind == "timezone":
        offset = value.utcoffset(None)
        if value == datetime.timezone(offset) and str(value) == str(datetime.timezone(offset)):
            return {"dt": [kind, [offset.days, offset.seconds, offset.microseconds]]}
    if kind in ("datetime", "time"):
        zone = None if value.tzinfo is None else _of_time(value.tzinfo, type(value.tzinfo).__name__)
        if value.tzinfo is None or (type(value.tzinfo) is datetime.timezone and zone is not None):
            naive = value.replace(tzinfo=None)
            return {"dt": [kind, [naive.isoformat(), zone and zone["dt"][1], value.fold]]}
    if kind == "date":
        return {"dt": [kind, value.isoformat()]}
    return None


def to_library(tag: str, body):
    """The value of a form. Raises Mismatch, or another exception, where it is none."""
    if tag == "D":
        import decimal

        return decimal.Decimal(body)
    if tag == "F":
        import fractions

        return fractions.Fraction(*(int(number, 16) for number in body))
    if tag == "q":
        return collections.deque(body[0], body[1])
    if tag == "a":
        return _array(body[0], bytes.fromhex(body[1]))
    if tag == "sl":
        return slice(*body)
    if tag == "k":
        return {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}[body]
    if tag == "n":
        dtype, shape, data = body
        if not all(type(length) is int and length >= 0 for length in shape):
            raise Mismatch("no shape")
        return sharing.array_of(dtype, shape, bytes.fromhex(data))
    if tag == "ns":
        return sharing.array_of(body[0], (1,), bytes.fromhex(body[1]))[0]
    return _to_time(*body)


def _array(typecode: str, data: bytes) -> array.array:
    if typecode not in _NUMBERS:
        raise Mismatch("not a type of numbers")
    return array.array(typecode, data)


def _to_time(kind: str, body):
    import datetime

    if kind == "timedelta":
        return datetime.timedelta(*body)
    if kind == "timezone":
        return datetime.timezone(datetime.timedelta(*body))
    if kind == "date":
        return datetime.date.fromisoformat(body)
    text, zone, fold = body
    made = {"datetime": datetime.datetime, "time": datetime.time}[kind].fromisoformat(text)
    return made.replace(fold=fold, tzinfo=None if zone is None else _to_time("timezone", zone))


TAGS = frozenset(("D", "F", "q", "a", "sl", "k", "n", "ns", "dt"))
CREATED = frozenset(("l", "d", "s", "B", "q", "E", "O", "C", "a", "n"))


def blank(value, encode):
    """What an empty object like this one is made from: ``[tag, more]``."""
    kind = type(value).__name__
    tag = {"list": "l", "dict": "d", "set": "s", "bytearray": "B", "OrderedDict": "O", "Counter": "C"}.get(
        kind
    )
    if tag is not None:
        return [tag, None]
    if kind == "deque":
        return ["q", value.maxlen]
    if kind == "defaultdict":
        return ["E", encode(value.default_factory)]
    if kind == "array":
        if value.typecode not in _NUMBERS:
            raise Mismatch("an array of characters is not data")
        return ["a", value.typecode]
    return ["n", [value.dtype.str, list(value.shape)]]


def from_blank(tag: str, more):
    """The empty object. Raises Mismatch, or another exception, where there is no such one."""
    simple = {"l": list, "d": dict, "s": set, "B": bytearray}
    simple |= {"O": collections.OrderedDict, "C": collections.Counter}
    if tag in simple:
        return simple[tag]()
    if tag == "q":
        return collections.deque(maxlen=more)
    if tag == "E":
        return collections.defaultdict(more)
    if tag == "a":
        return _array(more, b"")
    if tag != "n":
        raise Mismatch(f"no object {tag!r}")
    dtype, shape = more
    if not all(type(length) is int and 0 <= length < 1 << 31 for length in shape):
        raise Mismatch("no shape")
    import numpy

    if not sharing.SAFE_DTYPE.fullmatch(dtype):
        raise Mismatch("not a type of numbers")
    return numpy.zeros(shape, dtype)


class NamedTuples:
    """The classes of named tuples: each side makes those of the other again, by name and fields."""

    def __init__(self, attribute) -> None:
        self.attribute = attribute
        """Called for what a named tuple of the other side has besides its fields."""
        self.own: list[type] = []
        """This side's, whose place here stands for them."""
        self.others: dict[tuple, type] = {}
        """By place, name and fields, the other side's."""

    def told(self, kind: type) -> list:
        """Whose it is, its place there, name and fields."""
        for (place, name, *fields), made in self.others.items():
            if made is kind:
                return ["yours", place, name, fields]
        if kind not in self.own:
            self.own.append(kind)
        return ["mine", self.own.index(kind), kind.__name__, list(kind._fields)]  # pyright: ignore

    def made(self, whose, place, name, fields, items):
        if type(place) is not int or place < 0:
            raise Mismatch("no place")
        key = (place, name, *fields)
        kind = self.own[place] if whose == "yours" else self.others.get(key)
        if kind is None:
            kind = self.others[key] = self._made(name, fields)
        if len(items) != len(kind._fields):  # pyright: ignore[reportAttributeAccessIssue]
            raise Mismatch("not as many items as fields")
        return tuple.__new__(kind, items)

    def _made(self, name, fields) -> type:
        attribute = self.attribute

        def found(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return attribute(self, name)

        base = collections.namedtuple(name, fields)
        return type(base.__name__, (base,), {"__slots__": (), "__getattr__": found})


def has_fields(value) -> bool:
    """Whether a tuple's items have names."""
    fields = getattr(type(value), "_fields", None)
    if type(fields) is not tuple or not all(type(name) is str for name in fields):
        return False
    return len(fields) == tuple.__len__(value)
