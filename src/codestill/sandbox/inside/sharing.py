"""Changeable objects that both processes hold a copy of: what one side changes in place, the other sees.

Each has a number. Those of a call are its arguments' lists, dicts, sets and the like, at whatever depth, and
are forgotten when it ends; those that the program still refers to afterwards are kept, so that a list that
it stores, or answers with twice, is one list for the tests too. Changes are found by comparing an object's
items with those that it had when both sides last agreed, by identity, which runs none of the program's code.
"""

import array
import operator
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable

_LEAVES = frozenset((type(None), bool, int, float, str, bytes, complex))
_DICTS = frozenset((dict, defaultdict, OrderedDict, Counter))
_BUFFERS = frozenset((bytearray, array.array))
CHANGEABLE = _DICTS | _BUFFERS | {list, set, deque}
_MARSHALLED = frozenset((list, dict, set))
SAFE_DTYPE = re.compile(
    r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU][0-9]{1,4}|[mM]8(\[[0-9]{0,6}[a-zA-Z]{1,2}\])?)"
)
"""Types of arrays that are rebuilt from bytes: every pattern of bits is a value, and none is an object."""
MOST = 2000  # objects kept
_ALONE = max(map(sys.getrefcount, [[], []]))  # of an item to which its list alone refers


def is_array(value) -> bool:
    """Whether it is NumPy's own array, and no subclass, of numbers, texts or times."""
    kind = type(value)
    if kind.__name__ != "ndarray" or kind is not getattr(sys.modules.get("numpy"), "ndarray", None):
        return False
    return SAFE_DTYPE.fullmatch(value.dtype.str) is not None


def is_leaf(value) -> bool:
    return type(value) in _LEAVES


def are_leaves(values) -> bool:
    return set(map(type, values)) <= _LEAVES


def lists_apart(value) -> bool:
    """Whether this is a list of lists of leaves that are in no other place."""
    return (
        set(map(type, value)) == {list}
        and max(map(sys.getrefcount, value)) <= _ALONE
        and all(map(are_leaves, value))
    )


class Survey:
    """The changeable objects within values, in an order that their structure alone decides."""

    __slots__ = ("edges", "found", "marshals", "tangled")

    def __init__(self, roots) -> None:
        self.found: list = []
        self.edges: dict[int, int] = {}
        """By id, how many places within the values refer to an object."""
        self.tangled = False
        """Whether one of them is in two places."""
        self.marshals = True
        """Whether everything is of the types that marshal writes as what they are."""
        passed: set[int] = set()
        stack: list[Iterable] = [roots]
        while stack:
            for item in stack.pop():
                kind = type(item)
                if kind in _LEAVES:
                    continue
                if kind in CHANGEABLE or is_array(item):
                    self._changeable(item, kind, stack)
                elif issubclass(kind, tuple):
                    self.marshals = self.marshals and kind is tuple
                    if are_leaves(item):
                        continue
                    if id(item) in passed:
                        self.tangled = True
                    else:
                        passed.add(id(item))
                        stack.append(tuple.__iter__(item))
                elif kind is frozenset:
                    if not are_leaves(item):
                        stack.append(item)
                else:
                    self.marshals = False

    def _changeable(self, item, kind, stack: list) -> None:
        identity = id(item)
        if identity in self.edges:
            self.edges[identity] += 1
            self.tangled = True
            return
        self.edges[identity] = 1
        self.found.append(item)
        self.marshals = self.marshals and kind in _MARSHALLED
        if kind in _DICTS:
            for part in (list(item), item.values()):
                if not are_leaves(part):
                    stack.append(part)
        elif kind in (list, set, deque) and not are_leaves(item):
            stack.append(item)


def contents(value):
    """What an object holds now: a list of its items (of keys, then values), or the bytes of a buffer."""
    if type(value) is OrderedDict:  # its order is another than that which dict knows
        return [*value.keys(), *value.values()]
    if type(value) in _DICTS:
        return [*dict.keys(value), *dict.values(value)]
    if type(value) in _BUFFERS:
        return bytes(value)
    return list(value) if type(value) in CHANGEABLE else value.tobytes()


def _differs(value, before) -> bool:
    now = contents(value)
    if type(now) is bytes:
        return now != before
    return len(now) != len(before) or not all(map(operator.is_, now, before))


def fill(value, items) -> None:
    """Make an object hold these: items, pairs of a dict, or the bytes of a buffer."""
    kind = type(value)
    if kind in (list, bytearray):
        value[:] = items
    elif kind in _DICTS:
        value.clear()
        for key, item in items:
            dict.__setitem__(value, key, item) if kind is not OrderedDict else value.__setitem__(key, item)
    elif kind in (set, deque):
        value.clear()
        value.extend(items) if kind is deque else value.update(items)
    elif kind is array.array:
        value[:] = array.array(value.typecode, items)
    else:
        value[...] = array_of(value.dtype.str, value.shape, items)


def array_of(dtype: str, shape, data: bytes):
    """The array of these bytes, in C's order. Raises ValueError where they are none."""
    import numpy

    if not SAFE_DTYPE.fullmatch(dtype):
        raise ValueError("not a type of numbers")
    if dtype.endswith("b1"):
        return (numpy.frombuffer(data, "u1") != 0).reshape(shape)
    return numpy.frombuffer(bytearray(data), dtype).reshape(shape)


class Shared:
    """The numbered objects of one side. The judge counts up from 0, the solver down from -1."""

    def __init__(self, step: int) -> None:
        self.objects: dict[int, object] = {}
        self.numbers: dict[int, int] = {}  # id -> number
        self.before: dict[int, object] = {}
        """What each held when both sides last agreed."""
        self.next, self.step = min(0, step), step
        self.patience = 16

    def add(self, value, number: int | None = None) -> int:
        """The number of an object, which it gets now unless it has one."""
        if number is None:
            number = self.numbers.get(id(value))
            if number is not None:
                return number
            number = self.next
            self.next += self.step
        self.objects[number] = value
        self.numbers[id(value)] = number
        return number

    def mark(self, numbers=None) -> None:
        """Both sides agree on these, or on all."""
        for number in self.objects if numbers is None else numbers:
            self.before[number] = contents(self.objects[number])

    def changed(self) -> list[int]:
        return [number for number, before in self.before.items() if _differs(self.objects[number], before)]

    def forget(self, numbers) -> None:
        for number in numbers:
            value = self.objects.pop(number, None)
            if value is not None and self.numbers.get(id(value)) == number:
                del self.numbers[id(value)]
            self.before.pop(number, None)

    def idle(self) -> list[int]:
        """Numbers of objects to which nothing but this table refers; looked for where it has grown."""
        if len(self.objects) < self.patience:
            return []
        held: Counter = Counter()
        value = None
        for number, value in self.objects.items():
            for items in (contents(value), self.before.get(number, ())):
                if type(items) is list:
                    held.update(filter(self.numbers.__contains__, map(id, items)))
        items = value = None
        found = []
        for number in list(self.objects):
            value = self.objects[number]
            table, variable, argument = 1, 1, 1
            if sys.getrefcount(value) <= held[id(value)] + table + variable + argument:
                found.append(number)
        rest = [self.objects[number] for number in self.objects.keys() - set(found)]
        reached = Survey(rest).edges
        found = [number for number in found if id(self.objects[number]) not in reached]
        self.patience = max(16, 2 * (len(self.objects) - len(found)))
        return found


def restore(argument, after) -> None:
    """Make a container look as it does after a call, and those within it that are in the same place."""
    kind = type(argument)
    if kind is not type(after):
        return
    if kind in (list, dict):
        places = range(min(len(argument), len(after))) if kind is list else argument.keys() & after.keys()
        for place in places:
            old, new = argument[place], after[place]
            if type(old) is type(new) and type(old) in (list, dict, set):
                restore(old, new)
                after[place] = old
        argument.clear()
        argument.extend(after) if kind is list else argument.update(after)
    elif kind in (set, bytearray):
        argument.clear()
        argument.update(after) if kind is set else argument.extend(after)
