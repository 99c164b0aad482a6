"""Values that tests and program both hold: the same verdict as in one process, or none."""

import pprint
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from codestill.sandbox import Program, Sandbox
from codestill.types import Test

WORLD = '''
import collections

KINDS = (list, dict, set, bytearray, collections.deque, collections.OrderedDict, collections.Counter,
         lambda: collections.defaultdict(list))
KEPT = []

def build(kinds, edges):
    """Objects of these kinds, each placed in others: by number, so that one may be in several places."""
    made = [KINDS[kind % len(KINDS)]() for kind in kinds]
    for place, inner, leaf in edges:
        put(made[place % len(made)], made[inner % len(made)], leaf)
    return made

def put(outer, inner, leaf):
    if isinstance(outer, (list, collections.deque)):
        outer.append(inner if leaf % 3 else (leaf, inner))
    elif isinstance(outer, collections.Counter):
        outer[leaf] += 1
    elif isinstance(outer, dict):
        outer[leaf] = inner
    elif isinstance(outer, set):
        outer.add((leaf, str(leaf)))
    else:
        outer.append(leaf % 256)

def found(roots):
    """Every changeable object that can be reached, in order."""
    seen, stack = [], [roots]
    while stack:
        value = stack.pop(0)
        if isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, (list, dict, set, bytearray, collections.deque)):
            if id(value) in map(id, seen):
                continue
            seen.append(value)
            if isinstance(value, dict):
                stack.extend(value.values())
            elif not isinstance(value, (set, bytearray)):
                stack.extend(value)
    return seen

def change(roots, acts):
    """Change objects in place as told; what is kept is changed by later calls, too."""
    answer = None
    for act, one, other, leaf in acts:
        objects = found([*roots, *KEPT])[1:]
        if not objects:
            continue
        first, second = objects[one % len(objects)], objects[other % len(objects)]
        if act == 0:
            put(first, second, leaf)
        elif act == 1:
            first.clear()
        elif act == 2 and first:
            if isinstance(first, set):
                first.remove(min(first))
            else:
                first.popitem() if isinstance(first, dict) else first.pop()
        elif act == 3 and isinstance(first, list):
            first.reverse()
        elif act == 4:
            KEPT.append(first)
        elif act == 5:
            answer = first
        elif act == 6:
            answer = [first, (second, leaf), first]
        elif act == 7:
            answer = list(KEPT)
        elif act == 8 and isinstance(first, list):
            first[:] = [second, [], second]
    return answer

def drawn(value):
    """Types, order, items and identity of all that can be reached, as text."""
    seen, lines, stack = [], [], [value]
    def name(item):
        if isinstance(item, tuple):
            return tuple(map(name, item))
        if not isinstance(item, (list, dict, set, bytearray, collections.deque)):
            return repr(item)
        for number, known in enumerate(seen):
            if id(known) == id(item):
                return number
        seen.append(item)
        stack.append(item)
        return len(seen) - 1
    lines.append(name([value] if not isinstance(value, list) else value))
    while len(stack) > 1:
        item = stack.pop(1)
        parts = ([(name(k), name(v)) for k, v in item.items()] if isinstance(item, dict)
                 else sorted(map(repr, item)) if isinstance(item, set) else [name(part) for part in item])
        lines.append((type(item).__name__, parts))
    return repr(lines)
'''
SOLUTION = WORLD + "\ndef f(*roots, acts, **more):\n    return change([*roots, *more.values()], acts)\n"
CHECK = (
    WORLD
    + '''
def play(call, story):
    """What is seen of a story: after each call, and after what the tests change themselves."""
    kinds, edges, rounds = story
    objects = build(kinds, edges)
    lines = [drawn(objects)]
    answers = []
    for places, acts, own in rounds:
        roots = [objects[place % len(objects)] for place in places]
        answers.append(call(*roots[:2], acts=acts, **{f"more{n}": root for n, root in enumerate(roots[2:])}))
        lines.append(drawn([objects, answers]))
        for one, other, leaf in own:
            put(objects[one % len(objects)], objects[other % len(objects)], leaf)
    return lines

def local(*roots, acts, **more):
    return change([*roots, *more.values()], acts)

def check(stories):
    for story in stories:
        KEPT.clear()
        reset()
        assert play(f, story) == (expected := play(local, story)), (story, expected)
'''
)
RESET = "\ndef reset():\n    KEPT.clear()\n"

small = st.integers(0, 8)
story = st.tuples(
    st.lists(small, min_size=1, max_size=6),
    st.lists(st.tuples(small, small, small), max_size=10),
    st.lists(
        st.tuples(
            st.lists(small, min_size=1, max_size=4),
            st.lists(st.tuples(st.integers(0, 8), small, small, small), max_size=6),
            st.lists(st.tuples(small, small, small), max_size=2),
        ),
        min_size=1,
        max_size=4,
    ),
)


def told(stories: list[Any]) -> Program:
    return Program(
        solution=SOLUTION + RESET,
        entry_point="f",
        test_setup=CHECK,
        tests=(Test(code=f"check({pprint.pformat(stories, width=100_000)})"),),
        cpu_seconds=60,
    )


def tell(sandbox: Sandbox, stories: list[Any]) -> None:
    result = sandbox.execute(told(stories))
    assert result.passed, (result.error, result.tests)


@given(st.lists(story, min_size=20, max_size=30))
@settings(max_examples=5, deadline=None, phases=[Phase.generate])
def test_stories_of_shared_objects_go_as_in_one_process(sandbox: Sandbox, stories: list[Any]) -> None:
    tell(sandbox, stories)


@pytest.mark.slow
@given(st.lists(story, min_size=20, max_size=30))
@settings(max_examples=200, deadline=None, phases=[Phase.generate])
def test_thousands_of_stories_of_shared_objects_go_as_in_one_process(
    sandbox: Sandbox, stories: list[Any]
) -> None:
    tell(sandbox, stories)
