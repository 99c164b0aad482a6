"""Judgements as models write them: what is a score, what only looks like one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codestill.prompts import INSTRUCT
from codestill.prompts.rating import Rating, read_rubric, read_verdict

RUBRIC = INSTRUCT.rubric
NAMES = list(RUBRIC)
RIGHT = (2, 1, 0, 1, 1)


def lines(form: str, points: tuple[float, ...] = RIGHT) -> str:
    """A line of this form for each criterion."""
    return "\n".join(
        form.format(name=name, Name=name.title(), points=point, most=RUBRIC[name])
        for name, point in zip(NAMES, points, strict=True)
    )


FORMS = {
    "plain": lines("{name}: {points}"),
    "capitals and bold": lines("**{Name}**: {points}"),
    "bold around the colon": lines("- **{Name}:** {points}"),
    "equals": lines("{name} = {points}"),
    "of the most": lines("{name}: {points}/{most}"),
    "out of the most": lines("{Name}: {points} out of {most}."),
    "points": lines("* {Name}: {points} points"),
    "with a reason": lines("{name}: {points} - it does what it shall, 0.5 s at most"),
    "with a reason in brackets": lines("{name}: {points} (the 3 cases pass)"),
    "reason first": lines("{Name}: The program handles 3 of 4 inputs. Score: {points}"),
    "reason first, of the most": lines("**{Name}**: It reads well. {points}/{most}"),
    "below the name": lines("### {Name}\n\n{points}/{most}\n"),
    "range and score": lines("{name} (0 to {most}): {points}"),
    "range, then score": lines("{name}: 0 to {most}: {points}"),
    "numbered": "\n".join(f"{n}. {line}" for n, line in enumerate(lines("{Name}: {points}").split("\n"), 1)),
    "table": "| Criterion | Points |\n|---|---|\n" + lines("| {Name} | {points} |"),
    "table with the most": "| Criterion | Max points | Score | Why |\n|:--|--:|--:|---|\n"
    + lines("| **{name}** | {most} | {points} | 2 inputs fail |"),
    "table, of the most, with reasons": "| | Points |\n|---|---|\n" + lines("| {Name} | {points}/{most} |"),
    "json": json.dumps(dict(zip(NAMES, RIGHT, strict=True))),
    "json in a fence": "Here:\n```json\n"
    + json.dumps({name.replace(" ", "_"): point for name, point in zip(NAMES, RIGHT, strict=True)}, indent=1)
    + "\n```\nThe function is fine: basic function holds.",
    "json of objects": json.dumps(
        {"scores": {n: {"points": p, "comment": "1 of 2"} for n, p in zip(NAMES, RIGHT, strict=True)}}
    ),
    "json of strings": json.dumps({n: f"{p}/{RUBRIC[n]}" for n, p in zip(NAMES, RIGHT, strict=True)}),
    "after a thought": f"<think>basic function: 0\n{lines('{name}: 0')}</think>\n{lines('{name}: {points}')}",
    "prose before": f"The basic function is there; requirements are met.\n\n{lines('{name}: {points}')}",
    "points alone": "\n".join(map(str, RIGHT)),
    "points alone, of the most": lines("- {points}/{most}"),
    "a corrected draft": f"{lines('{name}: 0')}\n\nOn second thoughts:\n\n{lines('{name}: {points}')}",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_points(form: str):
    found = read_rubric(FORMS[form], RUBRIC)
    assert found == Rating(dict(zip(NAMES, map(float, RIGHT), strict=True)), 5 / 6)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The program is right.",
        "0\n\n" * 140,
        "2\n1\n0\n1",
        lines("{name}: 0 to {most}"),  # the prompt's own lines
        lines("- {name}: 0-{most}"),
        lines("{name} (0–{most} points)"),
        lines("{name}: good"),
        lines("{name}: 2 lists are joined where the task asks for 3"),
        lines("{name}:"),
        lines("{name}: n/a"),
        "\n".join(lines("{name}: {points}").splitlines()[:-1]),  # cut by the token limit
        f"<think>\n{lines('{name}: {points}')}\n",  # a thought without an end
        json.dumps(dict.fromkeys(NAMES[1:], 1)),
        json.dumps(dict.fromkeys(NAMES)),
        json.dumps(dict.fromkeys(NAMES, "0 to 2")),
        "| Criterion | Range |\n|---|---|\n" + lines("| {name} | 0 to {most} |"),
    ],
)
def test_what_only_looks_like_scores_is_none(answer: str):
    assert read_rubric(answer, RUBRIC) is None


def test_other_scales_count_in_proportion_and_odd_points_are_counted():
    found = read_rubric("a: 8/10\nb: 1/2\nc: ½\nd: 3\ne: -1\nf: 0,5", dict.fromkeys("abcdef", 1))
    assert found is not None
    assert found.points == {"a": 0.8, "b": 0.5, "c": 0.5, "d": 1.0, "e": 0.0, "f": 0.5}
    assert (found.clipped, found.fractions) == (2, 4)
    assert read_rubric("a: 1/0", {"a": 1}) is None


points = st.one_of(st.integers(0, 2), st.sampled_from([0.5, 1.5, 0.25]))


@given(
    st.tuples(*[points] * 5),
    st.sampled_from(
        ["{name}: {points}", "**{Name}**: {points}/{most}", "| {name} | {points} |", "{name} = {points}."]
    ),
    st.text(alphabet=st.characters(exclude_categories=("Nd", "No"), exclude_characters="{}|/"), max_size=40),
    st.permutations(range(5)),
)
def test_points_are_read_in_any_order_behind_any_words(
    given_points: tuple[float, ...], form: str, before: str, order: list[int]
):
    each = lines(form, given_points).split("\n")
    found = read_rubric(f"{before}\n\n" + "\n".join(each[place] for place in order), RUBRIC)
    assert found is not None
    want = {name: min(float(point), RUBRIC[name]) for name, point in zip(NAMES, given_points, strict=True)}
    assert found.points == pytest.approx(want)
    assert found.share == pytest.approx(sum(want.values()) / 6)


@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from([*NAMES, ":", "|", "\n", "2", "/", "0 to 2", "{", '"'])).map("".join)
)
def test_any_answer_gives_points_within_their_range_or_none(answer: str):
    found = read_rubric(answer, RUBRIC)
    if found is not None:
        assert 0 <= found.share <= 1
        assert all(0 <= found.points[name] <= most for name, most in RUBRIC.items())


@pytest.mark.parametrize(
    ("answer", "probabilities", "share"),
    [
        ("Yes.", (), 1.0),
        ("**No**, it fails for an empty list: yes is expected.", (), 0.0),
        ("The program adds up. It fails for 0.\n\nAnswer: no", (), 0.0),
        ("It is fine.\nYes", (), 1.0),
        ("<think>No? No.</think>yes", (), 1.0),
        ("There is no error here.", (), None),
        ("", (), None),
        ("No", (0.3, 0.1), 0.75),
        ("", (0.0, 0.0), None),
    ],
)
def test_a_verdict_is_the_probability_or_the_word(
    answer: str, probabilities: tuple[float, ...], share: float | None
):
    found = read_verdict(answer, probabilities)
    assert (found and found.share) == (share if share is None else pytest.approx(share))
