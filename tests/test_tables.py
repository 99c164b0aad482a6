"""Results as tables: the same in Python, in a notebook and on the command line."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from codestill import side_by_side
from codestill.browse.rows import Row, Rows, StageRows, Stages
from codestill.cli.tables import print_tables
from codestill.tables import Accounting, Table, Tabular
from codestill.terminal import Terminal
from codestill.types import Arm, Comparison, Difference, Evaluation, Gates, Interval

HALF = Interval(mean=0.5, low=0.25, high=0.75)
EVALUATION = Evaluation(
    model="a <b>model</b>\x1b[2J",
    tasks="mine:test",
    task_count=4,
    subset=True,
    samples_per_task=2,
    temperature=0.8,
    top_p=1.0,
    pass_at={1: HALF, 2: HALF},
    greedy=Interval(mean=0.25, low=0.0, high=0.5),
    per_task={"t/0": (2, 1)},
    verdicts={"pass": 4, "wrong": 4},
    warnings=("hardly a sample is a program",),
    gates=Gates(tasks=4, reference=4, empty=0, pass_body=0),
    data_hash="0",
    prompt_mode="continued",
    stop_rule="python",
    sandbox="tier A",
    versions={},
    seed=0,
)
DIFFERENCE = Difference(a="taught", b="base", metric="pass@1", pairs=8, interval=HALF, p=0.01)
COMPARISON = Comparison(
    title="Logits or text",
    tasks="mine:test",
    task_count=4,
    arms=(
        Arm(name="taught", runs=("a", "b"), pass_at={1: HALF}),
        Arm(name="base", runs=("c",), pass_at={1: HALF}),
    ),
    differences=(DIFFERENCE, DIFFERENCE.model_copy(update={"b": "other", "p": 0.04})),
)


def row(number: int, verdict: str = "wrong", before: str = "") -> Row:
    return Row(
        "attempts", f"t#{number}", "t", verdict, "ValueError: <x>", "    return 1\n", before, "def f():\n"
    )


ROWS = Rows(row(number) for number in range(23))
STAGES = Stages([StageRows("attempts", ROWS, 25), StageRows("examples", Rows([row(0, "")]), 1)])
ACCOUNTING = Accounting({"round-1/teacher_calls": 1234, "money": 0.5, "device": "cpu"})
RESULTS = [EVALUATION, COMPARISON, ROWS, ROWS[0], STAGES, STAGES[0], ACCOUNTING]


class Texts(HTMLParser):
    """Tags, and the texts between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_text_html_and_the_command_line_say_the_same(
    result: Tabular, capsys: pytest.CaptureFixture[str]
) -> None:
    def words(text: str) -> list[str]:
        return text.split()

    html = Texts(result._repr_html_())
    print_tables(result)
    assert words(repr(result)) == words(str(result)) == words(" ".join(html.texts))
    # The command line folds a cell that is too long for it.
    assert sorted(capsys.readouterr().out.replace("\n", " ").split()) == sorted(words(repr(result)))
    assert html.tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "pre"}
    assert "\x1b" not in repr(result) + "".join(html.texts)


def test_an_evaluation_is_a_table_with_its_warnings_and_gates() -> None:
    first, head, scores, *notes = repr(EVALUATION).splitlines()
    assert first == "WARNING: hardly a sample is a program"
    assert re.split(r"  +", head) == ["model", "tasks", "pass@1", "pass@k", "greedy"]
    cells = [
        "a <b>model</b>␛[2J",
        "mine:test",
        "50.0% [25.0, 75.0]",
        "@2 50.0% [25.0, 75.0]",
        "25.0% [0.0, 50.0]",
    ]
    assert re.split(r"  +", scores) == cells
    assert notes == [
        "gates: reference 4/4, empty 0/4, pass body 0/4; sandbox: tier A",
        "SUBSET: 4 tasks only; not a score on mine:test.",
    ]


def test_evaluations_side_by_side_have_a_row_each_and_their_notes_once() -> None:
    text = repr(side_by_side({"before": EVALUATION, "after": EVALUATION.model_copy(update={"warnings": ()})}))
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["model", "before", "after"]
    assert text.count("WARNING") == text.count("gates: ") == 1


def test_a_comparison_ends_with_its_differences_and_their_correction() -> None:
    title, _, taught, base, *sentences = repr(COMPARISON).splitlines()
    assert title == "Logits or text: 4 tasks of mine:test"
    assert (taught.split()[:3], base.split()[:3]) == (["taught", "2", "runs"], ["base", "1", "run"])
    assert sentences[0].startswith("taught - base: +50.0 points [+25.0, +75.0] pass@1")
    assert sentences[2].startswith("Of 2 differences") and len(sentences) == 3


def test_a_table_of_rows_is_short_and_a_row_is_whole() -> None:
    lines = repr(ROWS).splitlines()
    assert len(lines) == 22 and lines[-1] == "and 3 more rows"
    assert repr(Rows()) == "no rows"
    assert repr(ROWS[0]).splitlines() == [
        "attempts  t#0  wrong",
        "ValueError: <x>",
        "def f():",
        "    return 1",
    ]
    repair = repr(row(0, "pass", before="    return 2\n")).splitlines()
    assert repair[-2:] == ["-     return 2", "+     return 1"]


def test_stages_count_their_rows_and_verdicts() -> None:
    attempts, examples = repr(STAGES).splitlines()[1:]
    assert attempts.split() == ["attempts", "23", "of", "25", "wrong", "23"]
    assert examples.split() == ["examples", "1"]


def test_accounting_is_a_mapping_that_shows_itself_as_a_table() -> None:
    assert dict(ACCOUNTING)["money"] == 0.5 and ACCOUNTING | {"steps": 1} != ACCOUNTING
    assert [line.split() for line in repr(ACCOUNTING).splitlines()[1:]] == [
        ["round-1/teacher", "calls", "1,234"],
        ["money", "0.5"],
        ["device", "cpu"],
    ]


def test_no_cell_of_a_text_is_folded() -> None:
    long = "word " * 200
    assert len(repr(Table(("text",), ((long,),))).splitlines()) == 2


def test_records_that_differ_are_told_apart_field_by_field(pytestconfig: pytest.Config) -> None:
    other = EVALUATION.model_copy(update={"seed": 7})
    assert repr(other) == repr(EVALUATION) and other != EVALUATION
    told = pytestconfig.hook.pytest_assertrepr_compare(
        config=pytestconfig, op="==", left=EVALUATION, right=other
    )
    assert ["two records of type Evaluation, in which differ:", "seed: 0 != 7"] in told


def wide(columns: int, cell: str = "x" * 20) -> Table:
    names = tuple(f"column {number}" for number in range(columns))
    row = ("a longer name", *(f"{cell}{n}" for n in range(columns)))
    return Table(("model", *names), (row,), frozenset(names))


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 9])
def test_a_table_stays_within_a_hundred_characters(columns: int) -> None:
    lines = wide(columns).text().splitlines()
    assert max(map(len, lines)) <= 100
    words = " ".join(lines).split()
    assert [word for word in words if word.startswith("xx")] == [f"{'x' * 20}{n}" for n in range(columns)]
    parts = -(-columns // 3)  # three columns of 21 characters fit beside the first
    assert sum(line.startswith("a longer name") for line in lines) == parts
    assert lines.count("") == parts - 1


def test_a_cell_that_is_too_wide_by_itself_divides_no_table() -> None:
    assert wide(2, "y" * 120).text().count("a longer name") == 1


def test_a_table_of_texts_is_not_divided() -> None:
    texts = dataclasses.replace(wide(5), right=frozenset())
    assert texts.text().count("a longer name") == 1


def test_a_narrow_terminal_gets_more_parts_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("codestill.cli.tables.console", Terminal(width=45))
    print_tables(wide(4))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 45 and "…" not in out
    assert out.count("a longer name") == 4
