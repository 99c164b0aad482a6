"""Where the tokens of an answer are those of what is trained on."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from codestill.logits.matching import match, shared_runs

PROGRAM = b"def f(x):\n    y = 2 * x\n    return y"


def cut(text: bytes, size: int) -> list[bytes]:
    """Tokens of that many bytes."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def places(
    trained: Sequence[bytes], generated: Sequence[bytes], answer: bytes
) -> tuple[list[int], int | None]:
    found = match(trained, generated, answer)
    assert found is not None
    return found[0].tolist(), found[1]


def test_the_same_text_is_matched_token_by_token() -> None:
    tokens = cut(PROGRAM, 3)
    assert places(tokens, [*tokens, b""], PROGRAM) == ([*range(len(tokens))], len(tokens))
    assert places(tokens, tokens, PROGRAM) == ([*range(len(tokens))], None)  # no end is listed


def test_tokens_that_are_cut_otherwise_are_not_matched() -> None:
    assert places([b"ab", b"c", b"d"], [b"a", b"bc", b"d", b""], b"abcd") == ([-1, -1, 2], 3)


def test_a_program_is_found_in_its_answer() -> None:
    answer = b"Sure:\n```python\n" + PROGRAM + b"\n```\nIt doubles."
    form = b"```python\n" + PROGRAM + b"\n```"
    generated = cut(answer, 1)
    found, end = places(cut(form, 1), [*generated, b""], answer)
    assert found == [*range(6, 6 + len(form))] and end is None  # the answer goes on
    assert b"".join(generated[place] for place in found) == form


def test_a_docstring_that_the_answer_lacks_teaches_nothing() -> None:
    header, body = PROGRAM.split(b"\n", 1)
    trained = header + b'\n    """Twice x."""\n' + body
    found, end = places(cut(trained, 1), [*cut(PROGRAM, 1), b""], PROGRAM)
    inside = [number for number, place in enumerate(found) if place == -1]
    assert trained[inside[0] : inside[-1] + 1] == b'    """Twice x."""\n'
    assert end == len(PROGRAM)


def test_a_thought_before_and_control_tokens_behind_are_no_text() -> None:
    tokens = cut(PROGRAM, 4)
    generated = [b"<think>", b"hm, ", *tokens, b"", b""]
    assert places(tokens, generated, PROGRAM) == ([*range(2, 2 + len(tokens))], 2 + len(tokens))


@pytest.mark.parametrize(("generated", "answer"), [([b"ab"], b"abc"), ([b"abd"], b"abc"), ([], b"")])
def test_tokens_that_do_not_spell_the_answer_match_nothing(generated: list[bytes], answer: bytes) -> None:
    assert match([b"abc"], generated, answer) is None


@pytest.mark.parametrize("seed", range(20))
def test_shared_runs_are_the_same_bytes_in_order(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ours, theirs = (b"".join(generator.choice([b"a", b"b\n", b"\n", b"cc"], size)) for size in (20, 25))
    runs = shared_runs(ours, theirs)
    for run in runs:
        assert ours[run.start :][: run.length] == theirs[run.answered :][: run.length]
        assert run.length > 0
    for one, other in pairwise(runs):
        assert one.start + one.length <= other.start and one.answered + one.length <= other.answered
