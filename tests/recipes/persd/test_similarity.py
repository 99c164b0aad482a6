"""What counts in code and what does not, and the released rows of PERsD against what was measured on them."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codestill import types
from codestill.evaluation import metrics as scoring
from codestill.recipes.persd import similarity as module
from codestill.recipes.persd.similarity import (
    Similarity,
    SimilaritySummary,
    code_tokens,
    similarity,
    summarise,
    token_similarity,
    tree_similarity,
)

PLAIN = """\
def mean(values, start=0):
    if not values:
        return None
    total = start
    for value in values:
        total += value * 1.5e-3
    return f"{total!r:>{10}}" + 'x' if total >= 0x1F else total ** 2
"""
DRESSED = '''\
"""A module."""
def mean(values,start = 0):   # of numbers
  """The mean,
  of values.
  """

  if not values :\r
      return None

  # add them
  total = \\
      start
  for value in values:
          total += value*1.5e-3
  return f"{total!r:>{10}}" + 'x' if total>=0x1F else total**2 # done
'''
BODY = PLAIN.split("\n", 1)[1]
RENAMED = PLAIN.replace("value", "item").replace("'x'", "17")
BROKEN = PLAIN + "x = (1,\n"

codes = st.sampled_from([PLAIN, DRESSED, BODY, RENAMED, BROKEN, "", "pass"]) | st.text(
    "ab1 \n\t\r\"'#\\():=.{}fé\0", max_size=30
)


class TestTokens:
    def test_they_are_what_python_reads(self):
        assert code_tokens("x = a[1:] ** 2  # square\n") == ["x", "=", "a", "[", "1", ":", "]", "**", "2"]
        assert code_tokens("if a:\n    b(rb'\\w', '''c\nd''')") == [
            *("if", "a", ":", "b", "(", "rb'\\w'", ",", "'''c\nd'''", ")")
        ]

    def test_an_f_string_is_one(self):
        assert code_tokens("""é = 'é' + f'{a!r:>{b}} {{}} {f"{c}"}' f'd'""") == [
            *("é", "=", "'é'", "+", """f'{a!r:>{b}} {{}} {f"{c}"}'""", "f'd'")
        ]

    def test_comments_docstrings_and_layout_are_none(self):
        assert code_tokens(DRESSED) == code_tokens(PLAIN)
        assert code_tokens(DRESSED.replace("\n", "\r\n")) == code_tokens(PLAIN)

    def test_only_docstrings_go_among_strings(self):
        assert code_tokens("def é(a='doc'): 'doc' 'more'; return 'é', 'doc'") == code_tokens(
            "def é(a='doc'):; return 'é', 'doc'"
        )
        assert code_tokens("class A:\n    ('doc')\n    x = 'x'\n    'y'") == code_tokens(
            "class A: x = 'x' 'y'"
        )

    @pytest.mark.parametrize("indent", ["  ", "    ", "\t", "          "])
    def test_a_body_is_read_wherever_it_is_indented(self, indent):
        body = "\n" + BODY.replace("    ", indent) + "\ndef other():\n    'doc'\n    return 1\n"
        assert code_tokens(body) == code_tokens(BODY) + code_tokens("def other(): return 1")
        assert code_tokens(f'{indent}"""\n  doc\n{indent}"""\n{indent}await it\n') == ["await", "it"]

    @pytest.mark.parametrize(
        "code", ["", "\n \n", "# x", "    # x\n", "'''doc'''", "    '''doc'''\n    #\n", "\\\n"]
    )
    def test_code_may_have_none(self, code):
        assert code_tokens(code) == []

    @pytest.mark.parametrize("source", [module, scoring, types], ids=lambda source: source.__name__)
    def test_a_syntax_error_changes_no_other_token(self, source):
        code = Path(source.__file__).read_text()
        assert code_tokens(code + "\n)") == [*code_tokens(code), ")"]
        assert code_tokens(DRESSED + "\n)") == [*code_tokens(PLAIN), ")"]

    def test_what_is_not_closed_ends_somewhere(self):
        assert code_tokens("    '''Doc of\n    a body\n") == []
        assert code_tokens("    return '''a\n b") == ["return", "'''a\n b"]
        assert code_tokens("x = 'a\ny = (1\n") == ["x", "=", "'a", "y", "=", "(", "1"]
        assert code_tokens("print total # old\nd = {'a':\n'b'}") == [
            *("print", "total", "d", "=", "{", "'a'", ":", "'b'", "}")
        ]

    @settings(deadline=None)
    @given(codes)
    def test_any_text_is_read_in_order(self, code):
        rest = code.replace("\r\n", "\n").replace("\r", "\n")
        for token in code_tokens(code):
            _, found, rest = rest.partition(token)
            assert found.strip()


class TestSimilarity:
    @settings(deadline=None)
    @given(codes, codes)
    def test_from_0_to_1_and_1_only_for_the_same_tokens(self, a, b):
        assert 0 <= token_similarity(a, b) <= 1
        assert (token_similarity(a, b) == 1) == (code_tokens(a) == code_tokens(b))
        assert token_similarity(a, a) == 1
        trees = tree_similarity(a, b)
        assert trees is None or 0 <= trees <= 1
        assert tree_similarity(a, a) in (1, None)

    def test_it_is_the_shared_part(self):
        assert token_similarity("a = b + c", "a = b - c") == pytest.approx(0.8)
        assert token_similarity("a", "b") == token_similarity("", "b") == 0

    def test_no_token_is_too_common_to_count(self):
        """difflib's automatic junk drops what is frequent in 200 tokens and more: all that code shares."""
        assert token_similarity("x, " * 300, "x, " * 299 + "y, ") == pytest.approx(599 / 600)

    def test_trees_know_no_names_and_no_constants(self):
        assert tree_similarity(PLAIN, RENAMED) == 1 > token_similarity(PLAIN, RENAMED)
        assert tree_similarity(PLAIN, DRESSED) == 1
        assert tree_similarity("    'doc'\n    return x + 1", "return y + 2") == 1
        assert tree_similarity("return x + 1", "return x - 1") == pytest.approx(0.8)
        assert tree_similarity("x", "# nothing") == 0

    def test_trees_need_code_that_parses(self):
        assert tree_similarity(PLAIN, BROKEN) is None is tree_similarity(BROKEN, PLAIN)
        assert tree_similarity(PLAIN, "(" * 1000 + ")" * 1000) is None
        assert tree_similarity(PLAIN, "\0") is None is tree_similarity("\ud800", PLAIN)

    def test_a_deep_tree_is_one_too(self):
        deep = "x" + " + x" * 1500
        assert tree_similarity(deep, "pass") == 0
        assert tree_similarity(deep + "+ x" * 100_000, "pass") is None  # more than Python itself reads

    def test_what_only_newer_pythons_warn_about_is_silent(self, recwarn):
        assert tree_similarity("re.match('\\w')", "re.match('\\d')") == 1
        assert not recwarn.list


ATTEMPT = "    total = 0\n    for x in xs:\n        total += x\n    return totl\n"
NEAR = ATTEMPT.replace("totl", "total / len(xs)")
SOLUTION = "    '''The mean.'''\n    return statistics.mean(xs)\n"


class TestNearness:
    def test_a_repair_is_personal(self):
        found = similarity(ATTEMPT, NEAR, SOLUTION)
        assert found.personal and found.nearer_to_attempt
        assert not (found.copied or found.nearer_to_solution or found.empty)
        assert found == Similarity(
            attempt_tokens=len(code_tokens(ATTEMPT)),
            attempt_refinement=token_similarity(ATTEMPT, NEAR),
            refinement_solution=token_similarity(NEAR, SOLUTION),
            attempt_solution=token_similarity(ATTEMPT, SOLUTION),
            attempt_refinement_tree=tree_similarity(ATTEMPT, NEAR),
            refinement_solution_tree=tree_similarity(NEAR, SOLUTION),
            attempt_solution_tree=tree_similarity(ATTEMPT, SOLUTION),
        )

    def test_a_copy_is_not_whatever_its_comments(self):
        found = similarity(ATTEMPT, "  # now right\n  return statistics.mean( xs )", SOLUTION)
        assert found.copied and found.nearer_to_solution
        assert not (found.personal or found.nearer_to_attempt)

    def test_a_tie_is_on_neither_side(self):
        found = similarity(ATTEMPT, ATTEMPT, ATTEMPT)
        assert found.copied
        assert not (found.nearer_to_attempt or found.nearer_to_solution or found.personal)

    def test_an_attempt_that_does_not_parse_has_no_tree(self):
        found = similarity(ATTEMPT + "    print x\n", NEAR, SOLUTION)
        assert found.personal
        assert found.attempt_refinement_tree is found.attempt_solution_tree is None
        assert found.refinement_solution_tree is not None

    @settings(max_examples=30, deadline=None)
    @given(codes, codes, codes)
    def test_every_three_texts_have_one(self, attempt, refinement, solution):
        found = similarity(attempt, refinement, solution)
        assert Similarity.model_validate_json(found.model_dump_json()) == found
        assert not (found.copied and found.personal)
        assert found.empty == (not code_tokens(attempt))


class TestSummary:
    def test_it_counts_what_has_an_attempt(self):
        copy, repair = similarity(ATTEMPT, SOLUTION, SOLUTION), similarity(ATTEMPT, NEAR, SOLUTION)
        broken = similarity("return (", NEAR, SOLUTION)
        found = summarise([copy, similarity("    # to do\n", SOLUTION, SOLUTION), repair, repair, broken])
        assert (found.count, found.empty) == (4, 1)
        assert found.copied == 0.25 and found.personal == 0.5
        assert found.nearer_to_solution == (1 + broken.nearer_to_solution) / 4
        values = [copy.refinement_solution, *[repair.refinement_solution] * 3]
        assert found.refinement_solution.mean == pytest.approx(sum(values) / 4)
        assert found.refinement_solution.median == repair.refinement_solution
        trees = found.attempt_refinement_tree
        assert trees and trees.count == 3 and trees.median == repair.attempt_refinement_tree
        assert found.refinement_solution_tree and found.refinement_solution_tree.count == 4

    def test_without_trees(self):
        found = summarise([similarity("(", ")", "]")])
        assert found.attempt_refinement_tree is found.attempt_solution_tree is None
        assert SimilaritySummary.model_validate_json(found.model_dump_json()) == found

    @pytest.mark.parametrize("attempts", [[], ["# nothing", ""]])
    def test_it_needs_an_attempt_with_code(self, attempts):
        with pytest.raises(ValueError, match=f"none in {len(attempts)}"):
            summarise(similarity(attempt, NEAR, SOLUTION) for attempt in attempts)


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]


def without_header(code: str, header: str) -> str:
    """Code after the lines of its header; not every attempt in the release has them all."""
    lines = lines_of(code)
    for head in filter(None, lines_of(header)):
        number = next((number for number, line in enumerate(lines) if line), None)
        if number is not None and lines[number] == head:
            lines = lines[number + 1 :]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str, str]]:
    """``(attempt, refinement, solution)`` of every released task that has all three: bodies, no headers."""
    folder = Path(os.environ["CODESTILL_DATA"]) / "persd_release"
    solutions, refinements, attempts = (
        {row["task_id"]: row for row in map(json.loads, (folder / name).read_text().splitlines())}
        for name in (
            "finetuning_data_chatgpt_gold.jsonl",
            "finetuning_data_chatgpt_newgold_rectification_only_.jsonl",
            "finetuning_data_gold_rectification_nochatgpt.jsonl",
        )
    )
    found = []
    for key, row in attempts.items():
        if key in solutions:
            before, _ = row["finetuning_prompt"].split("\nERROR: \n")
            _, _, code = before.split("TASK: \n", 1)[1].split('"""', 2)
            _, _, header = solutions[key]["finetuning_prompt"].split('"""', 2)
            rest = (side[key]["finetuning_completion"] for side in (refinements, solutions))
            found.append((without_header(code, header), *rest))
    return found


@pytest.fixture(scope="module")
def items(rows) -> list[Similarity]:
    return [similarity(*row) for row in rows]


EARLIER = {
    "attempt_refinement": (0.459, 0.431),
    "attempt_solution": (0.365, 0.341),
    "refinement_solution": (0.730, 0.783),
}


@pytest.mark.data
@pytest.mark.timeout(900)
@pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set")
class TestReleasedRows:
    """``EARLIER`` (mean, median) was measured on 2,638 attempts with code, and 600 without, by another lexer.

    146 attempts are a docstring cut off before its end. Here these have no code; there they had, for with
    their words for tokens the rows give the earlier numbers, but for

    - counts: of the 3,243 rows that all three files have, five are not among the earlier ones;
    - the rest: words and single characters in place of Python's tokens were measured to move the means by
      0.003 and the shares by 0.005; five rows of 2,640 move them by at most 0.002.
    """

    def test_a_quarter_is_copied(self, items):
        found = summarise(items)
        assert (found.count, found.empty) == (2494, 749)
        means = {name: getattr(found, name).mean for name in EARLIER}
        assert means == pytest.approx(
            {"attempt_refinement": 0.4862, "attempt_solution": 0.3874, "refinement_solution": 0.7268},
            abs=5e-5,
        )
        shares = (found.copied, found.nearer_to_solution, found.personal)
        assert shares == pytest.approx((0.2498, 0.7137, 0.5670), abs=5e-5)

    def test_docstrings_without_an_end_are_the_difference_to_what_was_measured(self, rows, items):
        cut = [item.empty and row[0].count('"""') % 2 == 1 for item, row in zip(items, rows, strict=True)]
        assert sum(cut) == 146
        found = summarise(
            similarity(row[0].replace('"""', ""), *row[1:]) if is_cut else item
            for row, item, is_cut in zip(rows, items, cut, strict=True)
        )
        assert found.count == pytest.approx(2638, abs=5) and found.empty == pytest.approx(600, abs=5)
        for name, earlier in EARLIER.items():
            average = getattr(found, name)
            assert (average.mean, average.median) == pytest.approx(earlier, abs=0.003), name
        shares = (found.copied, found.nearer_to_solution, found.personal)
        assert shares == pytest.approx((0.260, 0.733, 0.546), abs=0.005)
