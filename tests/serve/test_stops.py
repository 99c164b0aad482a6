from hypothesis import given
from hypothesis import strategies as st

from codestill.serve.stops import Stops

TEXTS = st.text(alphabet="ab\n \tx", max_size=40)


def test_a_text_ends_before_the_first_stop_string() -> None:
    stops = Stops(("\n\n", "def "))
    assert stops.cut("x = 1\n\ndef f") == "x = 1"
    assert stops.cut("adef \n\n") == "a"
    assert stops.cut("x = 1\n") == "x = 1\n" and not stops.ended("x = 1\n")
    assert stops.word("a\n\nb") == "\n\n" and stops.word("ab") == ""


def test_a_text_ends_where_a_line_is_indented_less() -> None:
    stops = Stops(indent=4)
    assert stops.cut("x\n    y\n\n    z\n  w\n    v") == "x\n    y\n\n    z\n"
    assert stops.end("x\n    y") is None
    assert stops.end("x\n  ") is None  # the line may become longer
    assert stops.cut("x\n\ty") == "x\n"


@given(TEXTS, st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3), st.integers(0, 3))
def test_what_is_shown_of_a_growing_text_is_never_taken_back(
    text: str, strings: list[str], indent: int
) -> None:
    stops = Stops(tuple(strings), indent)
    shown = ""
    for length in range(1, len(text) + 1):
        if stops.ended(text[:length]):
            break
        end = max(len(shown), stops.safe(text[:length]))
        shown = text[:end]
        assert stops.cut(text).startswith(shown)
        assert indent or length - end < max(map(len, strings), default=1)
