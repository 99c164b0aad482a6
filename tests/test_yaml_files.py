"""YAML of configs: what would silently be read otherwise than it looks is refused, with its line."""

import time

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codestill.files.strict_yaml import MAX_DEPTH, NotYaml, dump_yaml, load_yaml


def nested(depth: int) -> str:
    return "a: " + "[" * depth + "]" * depth


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed: 1\nstudent: x\nseed: 2", "line 3: the key 'seed' was already given in line 1"),
        ("train:\n  epochs: 1\n  epochs: 2", "line 3: the key 'epochs' was already given in line 2"),
        ("arms:\n- {name: a,\n   name: b}", "line 3: the key 'name' was already given in line 2"),
        ("'seed': 1\nseed: 2", "line 2: the key 'seed' was already given"),
        ("1: 2", "line 1: a key must be text, and '1' is not"),
        ("a:\n  on: 2", "line 2: a key must be text, and 'on' is not"),
        ("~: 2", "line 1: a key must be text"),
        ("1.5: 2", "line 1: a key must be text"),
        ("[a, b]: 2", "line 1: a key must be text, and 'this one' is not"),
        ("student: &a\n  model: *a", "line 1: an alias stands for what contains it"),
        ("&a [b, [*a]]", "an alias stands for what contains it"),
        (LAUGHS, "with its aliases it has more than 100,000 values"),
        (nested(MAX_DEPTH + 1), "line 1: it is nested more than 64 levels deep"),
        (nested(600), "nested too deeply|more than 64 levels deep"),  # by how much recursion is allowed
        ('a: "\\ud800"', "line 1: half a surrogate pair"),
        ("a: !!int many", "a value cannot be read|invalid literal"),
        ("a: !!timestamp never", "a value cannot be read"),
        ("a: 2020-99-99", "month must be in"),
    ],
)
def test_what_is_no_config_is_refused_with_its_line(text: str, reason: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=reason):
        load_yaml(text)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "text", ["a: [", "a: b: c", "a: *b", "a\x00: 1", "a: 1\n---\nb: 2", "%YAML 9.9\n", "a: !x 1"]
)
def test_what_is_no_yaml_is_said(text: str) -> None:
    with pytest.raises(NotYaml):
        load_yaml(text)


def test_aliases_merges_and_quoted_keys_are_read() -> None:
    text = "base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}\nagain: *b\n'1': [*b, *b]\n"
    assert load_yaml(text) == yaml.safe_load(text)
    assert load_yaml("") is None and load_yaml("# nothing") is None


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text("abc1.:'# \n", min_size=1)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc1.:'# \n", min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


def back_and_forth(value: object) -> None:
    assert load_yaml(dump_yaml(value)) == value


def read_or_refused(text: str) -> None:
    try:
        value = load_yaml(text)
    except ValueError:
        return
    assert value == yaml.safe_load(text) or value != value or "nan" in text.lower()


SIGNS = "a b : \n [ ] { } &x *x << !!set | > 1 ~ ' \" , ? # % --- \\ \t é \x00 2020-13-01"
PIECES = st.lists(st.sampled_from([*SIGNS.split(" "), " ", "- ", ": "]), max_size=40).map("".join)


@settings(max_examples=50, deadline=None)
@given(VALUES)
@example({"a": "\x85", "b": "é\u2028"})
def test_what_was_dumped_is_read_back(value: object) -> None:
    back_and_forth(value)


@settings(max_examples=200, deadline=None)
@given(PIECES)
@example("a: &x [*x]")
def test_any_text_is_read_as_yaml_or_refused(text: str) -> None:
    read_or_refused(text)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(VALUES)
def test_what_was_dumped_is_read_back_often(value: object) -> None:
    back_and_forth(value)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(PIECES)
def test_any_text_is_read_as_yaml_or_refused_often(text: str) -> None:
    read_or_refused(text)
