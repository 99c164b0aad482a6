"""The value codec, and the judge's end of it against whatever a solver may write."""

import collections
import contextlib
import datetime
import decimal
import fractions
import json
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestill.sandbox.inside import remote, wire

CODEC = wire.Codec()

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=())),  # with halves of surrogate pairs
)
hashable = st.recursive(
    st.one_of(
        plain,
        st.complex_numbers(),
        st.binary(),
        st.decimals(allow_nan=False),
        st.fractions(),
        st.dates(),
        st.times(),
        st.datetimes(),
        st.timedeltas(),
        st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    hashable | st.binary().map(bytearray) | st.decimals(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashable, max_size=4),
        st.dictionaries(hashable, inner, max_size=3),
        st.dictionaries(hashable, inner, max_size=3).map(collections.OrderedDict),
        st.dictionaries(hashable, st.integers(), max_size=3).map(collections.Counter),
        st.dictionaries(hashable, inner, max_size=3).map(lambda d: collections.defaultdict(None, d)),
        st.builds(collections.deque, st.lists(inner, max_size=3), st.none() | st.integers(3, 5)),
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.copysign(1, one) == math.copysign(1, other) and one == other) or (
            one != one and other != other
        )
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, decimal.Decimal):
        return str(one) == str(other)
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        left = list(other)
        for item in one:
            found = next((n for n, candidate in enumerate(left) if same(item, candidate)), None)
            if found is None:
                return False
            del left[found]
        return not left
    if isinstance(one, list | tuple | collections.deque):
        lengths = getattr(one, "maxlen", None) == getattr(other, "maxlen", None)
        return lengths and len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(values)
@settings(max_examples=150, deadline=None)
def test_values_come_back_as_they_are(value: Any) -> None:
    assert same(CODEC.loads(CODEC.dumps(value)), value)


@pytest.mark.parametrize(
    "form", ["{0}", "[{0}]", "[(1, -{0})]", "[[{0}], [1.5]]", "{{{0}: {{{0}}}}}", "range({0})"]
)
def test_numbers_of_more_digits_than_python_writes(form: str) -> None:
    value = eval(form.format("10**5000"))
    assert same(CODEC.loads(CODEC.dumps(value)), value)


@pytest.mark.parametrize("kind", ["int8", "uint64", "float32", "float64", "bool", "complex128"])
def test_arrays_come_back_as_they_are(kind: str) -> None:
    numpy = pytest.importorskip("numpy")
    for shape in ((), (0,), (3,), (2, 2)):
        array = numpy.ones(shape, dtype=kind)
        back = CODEC.loads(CODEC.dumps(array))
        assert (back.dtype, back.shape) == (array.dtype, array.shape) and (back == array).all()
    with pytest.raises(TypeError):
        CODEC.dumps(numpy.array([object()]))


class Everything:
    """Equal to everything, and anything else that a comparison may ask for."""

    def __eq__(self, other: object) -> bool:
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__

    def __hash__(self) -> int:
        return 0

    def __len__(self) -> int:
        return 1 << 40

    def __iter__(self) -> Iterator[Any]:
        return iter([Everything()])

    def __getitem__(self, key: object) -> Any:
        return self

    def __repr__(self) -> str:
        return "42"

    __str__ = __repr__

    def __reduce__(self) -> Any:
        return os.abort, ()


@pytest.mark.parametrize(
    "value",
    [
        *(7, 1.5, "x", b"x", [1, 2], (1, 2), {1: 2}, {1}, frozenset([1]), 2j, bytearray(b"x")),
        *(collections.OrderedDict(a=1), collections.Counter("ab")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_arrives_as_what_it_is_made_of(value: Any) -> None:
    kind: Any = type("Made", (Everything, type(value)), {})
    made = kind(value)
    assert same(CODEC.loads(CODEC.dumps([made]))[0], value)


@given(values, values)
@settings(max_examples=150, deadline=None)
def test_one_hash_is_one_value(one: Any, other: Any) -> None:
    first, second = wire.digest(one), wire.digest(other)
    assert first == wire.digest(one)
    if first is not None and first == second:
        assert same(one, other)


class Pretender:
    """A solver that has written its answers in advance, and the judge's end of the channel."""

    def __init__(self, *frames: bytes) -> None:
        self.heard, requests = os.pipe()
        answers, self.says = os.pipe()
        self.judge = remote.Solver(os.getpid(), requests, answers)
        self.descriptors = [self.heard, requests, answers]
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(self.says, False)
            for frame in frames:
                os.write(self.says, frame)
        os.close(self.says)

    def __enter__(self) -> remote.Solver:
        return self.judge

    def __exit__(self, *_: object) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def frame(answer: Any) -> bytes:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return len(body).to_bytes(4, "big") + b"J" + body


_DATA = {
    *(type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range),
    *(decimal.Decimal, fractions.Fraction, collections.deque, collections.OrderedDict, collections.Counter),
    *(collections.defaultdict, datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
    *(type({}.keys()), type({}.values()), type({}.items()), remote.Remote),
}


def is_data(value: Any) -> bool:
    """Of exact types, whose methods are Python's own; a type is one of the built-in ones."""
    if type(value) is type:
        return value.__module__ == "builtins"
    if type(value).__module__ == "numpy":
        return type(value).__name__ == "ndarray" and value.dtype.kind in "biufcS"
    if type(value) not in _DATA:
        return False
    if isinstance(value, dict):
        return all(map(is_data, [*value.keys(), *value.values()]))
    if isinstance(value, list | tuple | set | frozenset | collections.deque | type({}.keys())):
        return all(map(is_data, value))
    return True


def outcome(judge: remote.Solver, *args: Any) -> str:
    """What becomes of a call: data, an exception marked as the candidate's, or no verdict."""
    try:
        value = judge.ask("call", "f", args)
    except BaseException as error:
        return how(judge, error)
    assert is_data(value), value
    return "data"


def how(judge: remote.Solver, error: BaseException) -> str:
    if isinstance(error, remote.FromCandidate):
        return "raised"
    assert error is judge.lost, error  # for good, and nothing else may come up
    return "undecidable" if isinstance(error, remote.Undecidable) else "gone"


tags = st.sampled_from(
    [
        "t",
        "lt",
        "s",
        "z",
        "d",
        "O",
        "C",
        "E",
        "i",
        "b",
        "B",
        "c",
        "r",
        "dk",
        "dv",
        "di",
        "D",
        "F",
        "q",
        "dt",
        "n",
        "h",
        "T",
        "f",
        "p",
        "x",
    ]
) | st.text(max_size=2)
bodies = st.recursive(
    plain
    | st.sampled_from(
        ["ff", "-1", "1e9", "NaN", "sNaN", "<f8", "O", "datetime", "2020-01-01", "os", "system"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(tags, inner, max_size=2),
    max_leaves=10,
)
kinds = st.sampled_from(["ok", "same", "raise", "callback", "ready", "sealing", "other"]) | bodies
replies = st.builds(lambda kind, rest: [kind, *rest], kinds, st.lists(bodies, max_size=4)) | bodies


def written(reply: Any) -> bytes:
    try:
        return frame(reply)
    except ValueError:  # a number of too many digits
        return frame(["ok", None])


@given(
    st.lists(replies.map(written) | st.binary(max_size=40) | st.binary(max_size=40).map(frame), max_size=4)
)
@settings(max_examples=500, deadline=None)
def test_whatever_is_written_the_judge_holds_data_or_gives_up(frames: list[bytes]) -> None:
    with Pretender(*frames) as judge:
        found = {outcome(judge, [1], {2: 3}) for _ in range(3)}
        assert found <= {"data", "raised", "undecidable", "gone"}


@given(st.lists(replies.map(written), max_size=3))
@settings(max_examples=150, deadline=None)
def test_whatever_is_written_first_the_program_is_there_or_not(frames: list[bytes]) -> None:
    with Pretender(*frames) as judge:
        try:
            candidate = judge.hello("f")
        except BaseException as error:
            assert how(judge, error)
            return
        assert candidate is None or type(candidate) is remote.Remote


MALFORMED: dict[str, Any] = {
    "no JSON": b"ok",
    "nothing": b"",
    "no text": b"\xff\xfe",
    "half a value": b'["ok", [1',
    "a number": 5,
    "an object": {},
    "an object of two keys": ["ok", {"t": [], "s": []}],
    "an answer that is a tuple": {"t": ["ok", 1]},
    "no kind": [],
    "no known kind": ["pass", 1],
    "a kind that is a list": [["ok"], 1],
    "no value": ["ok"],
    "ready, later": ["ready", True],
    "an argument that was not passed": ["same", 7],
    "an argument by name": ["same", "x"],
    "changes that are a number": ["ok", 1, 5],
    "an unknown tag": ["ok", {"x": 1}],
    "a set of lists": ["ok", {"s": [[1]]}],
    "a key that is a list": ["ok", {"d": [[[1], 2]]}],
    "half a pair": ["ok", {"d": [[1]]}],
    "no hexadecimal number": ["ok", {"i": "xyz"}],
    "an int of too many digits": b'["ok", ' + b"1" * 5000 + b"]",
    "a range without a step": ["ok", {"r": [1, 2, 0]}],
    "no decimal": ["ok", {"D": "one"}],
    "a fraction of nothing": ["ok", {"F": ["1", "0"]}],
    "a deque of less than nothing": ["ok", {"q": [[], -1]}],
    "no date": ["ok", {"dt": ["date", "tomorrow"]}],
    "another type of dates": ["ok", {"dt": ["tzinfo", "x"]}],
    "an array of objects": ["ok", {"n": ["O", [1]]}],
    "an array of objects, in disguise": ["ok", {"n": ["|O8", [1]]}],
    "a ragged array": ["ok", {"n": ["<f8", [[1], [1, 2]]]}],
    "a function of the system": ["ok", {"T": ["os", "system"]}],
    "a function that is built in": ["ok", {"T": ["builtins", "exec"]}],
    "a function of the tests": ["ok", {"f": 0}],
    "a handle of the judge's": ["ok", {"p": 0}],
    "a handle without properties": ["ok", {"h": [1]}],
    "a handle without a number": ["ok", {"h": ["x", "C", True, False, None]}],
    "a handle without an end": ["ok", {"h": [1e400, "C", True, False, None]}],
    "an exception of nothing": ["raise"],
    "an exception without a class": ["raise", [], "m", 1],
    "an exception whose classes are text": ["raise", "ValueError", "m", 1],
    "depth without end": b'["ok", ' + b"[" * 30_000 + b"]" * 30_000 + b"]",
    "depth of tags without end": b'["ok", ' + b'{"t":[' * 5_000 + b"]}" * 5_000 + b"]",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_answer_makes_no_verdict(name: str) -> None:
    with Pretender(frame(MALFORMED[name]), frame(["ok", 1])) as judge:
        assert outcome(judge, [1]) == "undecidable"
        assert outcome(judge, [1]) == "undecidable"  # the good answer that follows is not taken


@pytest.mark.parametrize(
    ("frames", "ends"),
    [
        ([], "gone"),
        ([b"\0\0"], "gone"),
        ([b"\0\0\0\xffJ[1,"], "gone"),
        ([b"\xff\xff\xff\xffJ"], "undecidable"),
        ([frame(["sealing"])] * 3, "gone"),
        ([frame(["sealing"]), frame(["ok", 1])], "data"),
        ([frame(["raise", [["builtins", "AssertionError"]], "passed", None])], "raised"),
        ([frame(["raise", [["builtins", "SystemExit"]], "0", 10**9])], "raised"),
        ([frame(["raise", [["builtins", "StopIteration"]], "", 1])], "raised"),
        ([frame(["raise", [["os", "system"], ["builtins", "exec"]], "true", {"i": "f" * 9999}])], "raised"),
        ([frame(["raise", [["x" * 9999, "\ud800\0"]], "\ud800\0", -1])], "raised"),
    ],
)
def test_ends(frames: list[bytes], ends: str) -> None:
    with Pretender(*frames) as judge:
        assert outcome(judge) == ends


def test_an_exception_of_the_candidates_ends_no_iteration() -> None:
    stop = frame(["raise", [["__solution__", "Stop"], ["builtins", "StopIteration"]], "", 1])
    with Pretender(frame(["ready", True]), stop, stop) as judge:
        function = judge.hello("f")
        assert function is not None
        with pytest.raises(Exception, match=r"^$") as raised:
            list(map(function, [1, 2, 3]))
        assert isinstance(raised.value, remote.FromCandidate)
        generator = remote.Remote(judge, 1, "generator", identity=True, iterates=True)
        with pytest.raises(StopIteration):  # which was asked for the next item
            next(generator)


def test_answers_in_advance_are_answers_and_no_more() -> None:
    with Pretender(frame(["ok", 1]), frame(["ok", 2])) as judge:
        assert [judge.ask("call", "f"), judge.ask("call", "f")] == [1, 2]
        assert outcome(judge) == "gone"


@pytest.mark.parametrize("number", [1, -2, 99, "0", None, [], 0.5, True and 10**30])
def test_a_callback_that_was_never_given_is_an_error_of_the_candidates(number: Any) -> None:
    pretender = Pretender(frame(["callback", number, [], {"d": []}]), frame(["ok", 7]))
    with pretender as judge:
        assert judge.ask("call", "f", (lambda: "given",)) == 7
        wire.receive(pretender.heard)  # the call
        kind, body = wire.receive(pretender.heard)
        assert kind == b"R" and CODEC.loads(body)[0] == "raise"


@pytest.mark.parametrize(
    "rest", [[], [0], [0, []], [0, 5, {"d": []}], [0, [], 5], [0, [1], {"d": [["x", 1]]}]]
)
def test_a_callback_without_its_arguments_is_an_error_of_the_candidates(rest: list[Any]) -> None:
    called = []
    pretender = Pretender(frame(["callback", *rest]), frame(["ok", 7]))
    with pretender as judge:
        assert judge.ask("call", "f", (lambda: called.append(1),)) == 7
        wire.receive(pretender.heard)
        assert CODEC.loads(wire.receive(pretender.heard)[1])[0] == "raise"
    assert called == []


def test_no_object_of_the_candidates_decides_a_comparison() -> None:
    own = {"h": [0, "Own", False, False, None]}
    for compare in (
        lambda value: value == 1,
        lambda value: value == 1,
        lambda value: value != 1,
        lambda value: value in [1],
        lambda value: [value] == [1],
        lambda value: {"k": value} == {"k": 1},
    ):
        with Pretender(frame(["ok", own]), frame(["ok", True]), frame(["ok", True])) as judge:
            value = judge.ask("call", "f")
            with pytest.raises(remote.Undecidable):
                compare(value)
            assert isinstance(judge.lost, remote.Undecidable)


def test_a_sealed_answer_equals_what_its_hash_is_of_and_nothing_else() -> None:
    long = [1] * 10
    sealed = {"h": [0, "list", False, False, wire.digest(long)]}
    with Pretender(frame(["ok", sealed])) as judge:
        value = judge.ask("call", "f")
        assert value == long and long == value
        for other in (
            [1] * 9,
            [True] * 10,
            [1.0] * 10,
            tuple(long),
            None,
            object(),
            [object()] * 10,
            "1" * 10,
        ):
            assert value != other and other != value


def test_an_answer_for_which_there_is_no_room_makes_no_verdict() -> None:
    """A recursion that ends between a request and its answer must not leave it to the next request."""
    ends = set()

    def down(steps: int) -> None:
        down(steps - 1) if steps else judge.ask("call", "f")

    limit = sys.getrecursionlimit()
    for steps in range(limit - 200, limit):  # one of these has room for the request alone
        pretender = Pretender(*[frame(["ok", number]) for number in range(3)])
        with pretender as judge:
            try:
                down(steps)
                ends.add("answered")
            except (RecursionError, remote.Undecidable) as error:
                ends.add(type(error).__name__)
            os.set_blocking(pretender.heard, False)
            requests = 0
            with contextlib.suppress(BlockingIOError):
                while wire.receive(pretender.heard):
                    requests += 1
            if judge.lost is None:
                assert judge.ask("call", "f") == requests
    assert ends == {"answered", "RecursionError", "Undecidable"}
