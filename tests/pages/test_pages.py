"""What static pages share: two programs side by side, and the policy that lets one script run."""

import base64
import hashlib
import re
from importlib import resources

import pytest

from codestill.pages import cut, render, side_by_side, templates_of

PROGRAMS = (
    "",
    "    return x\n",
    "    total = 0\n    for x in xs:\n        total += x\n    return total\n",
    "    total = 0\n    for x in xs:\n        total -= x\n\n    return sum(xs)\n",
    "    return sum(xs)\n    return total\n",
)


@pytest.mark.parametrize("before", PROGRAMS)
@pytest.mark.parametrize("after", PROGRAMS)
def test_each_side_holds_its_whole_program(before: str, after: str) -> None:
    pairs = side_by_side(before, after)
    assert [pair.before.text for pair in pairs if pair.before] == before.splitlines()
    assert [pair.after.text for pair in pairs if pair.after] == after.splitlines()
    for pair in pairs:
        same = pair.before is not None and pair.after is not None and pair.before.text == pair.after.text
        assert pair.changed != same


def test_the_characters_that_differ_are_marked() -> None:
    (pair,) = side_by_side("total += x", "total -= x")
    assert pair.before is not None and pair.after is not None
    assert pair.before.runs == (("total ", False), ("+", True), ("= x", False))
    assert pair.after.runs == (("total ", False), ("-", True), ("= x", False))
    (unlike,) = side_by_side("abc", "xyz")
    assert unlike.before is not None and unlike.before.runs == (("abc", False),)


@pytest.mark.parametrize(
    ("package", "script"), [("codestill.report", "report.js"), ("codestill.browse", "rows.js")]
)
def test_the_policy_lets_the_pages_script_alone_run(package: str, script: str) -> None:
    templates = templates_of(package)
    policy, text = str(templates.globals["policy"](script)), str(templates.globals["script"](script))  # type: ignore[operator]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert text == resources.files(package).joinpath(f"templates/{script}").read_text(encoding="utf-8")


def test_a_difference_is_escaped() -> None:
    templates = templates_of("codestill.browse")
    source = '{% from "macros.html.j2" import difference with context %}{{ difference(a, b) }}'
    page = templates.from_string(source).render(a="<b>x\n<i>", b="<b>y\n<i>")
    assert "&lt;b&gt;<del>x</del>" in page and "&lt;b&gt;<ins>y</ins>" in page
    assert not re.search("<b>|<i>", page)
    assert page.count('class="same"') == 1


def test_long_texts_say_what_is_left_out() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcdef", 3) == "abc\n… 3 more characters are not shown"


def test_pages_steer_no_terminal() -> None:
    templates = templates_of("codestill.browse")
    page = render(
        templates, "rows.html.j2", name="a\x1b[31m\u202e", stages=[], rows=[], available=0, verdicts=[]
    )
    assert "\x1b" not in page and "\u202e" not in page
