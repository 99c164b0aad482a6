"""Training tasks that evaluation tasks repeat: what each view finds, and what it leaves alone."""

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from codestill.embeddings import SentenceEmbedderConfig
from codestill.errors import ConfigError, TaskError
from codestill.tasks import STOP_RULES, TasksConfig, TaskSet, alike
from codestill.tasks.alike import description
from codestill.tasks.decontaminate import DecontaminateConfig, Decontamination, decontaminate
from codestill.types import Task

from .test_files import MBPP, write

LEXICAL = DecontaminateConfig(neighbours=0)


def but(config: DecontaminateConfig, **settings) -> DecontaminateConfig:
    return config.model_copy(update=settings)


def made(task_id: str, text: str = "", reference: str = "", **fields) -> Task:
    """A task in MBPP's form; without a text or a reference, one that no other task has."""
    text = text or f"unlike{task_id}"
    reference = reference or f"def f(x):\n    return x, {task_id!r}\n"
    values = {"prompt": f'"""\n{text}\nassert f(1) == 1\n"""\n', "entry_point": f"f_{task_id}"} | fields
    return Task(task_id=task_id, reference=reference, tests=("assert f(1) == 1",), **values)  # pyright: ignore[reportArgumentType]


def held_out(*tasks: Task, name: str = "eval") -> TaskSet:
    return TaskSet(name, tasks, "test", "zero-shot", STOP_RULES["none"])


def views(result: Decontamination) -> dict[tuple[str, str, str], float]:
    """Scores of the matches, by training task, evaluation task and view."""
    matches = (one for one in result.found if one.removed)
    return {(one.task_id, one.against_id, one.view): round(one.score, 3) for one in matches}


def matched(train: str, evaluation: str, view: str, config: DecontaminateConfig = LEXICAL) -> bool:
    """Whether ``view`` removes a training task with one text for an evaluation task with the other."""
    result = decontaminate([made("t", train)], [held_out(made("e", evaluation))], config)
    return ("t", "e", view) in views(result)


DOCTESTS = '''
    """ Sum of xs,
    from first to last.
    >>> f([1,
    ... 2])
    3

    Never None.
    """
'''


@pytest.mark.parametrize(
    ("prompt", "prose"),
    [
        ('"""\nWrite a function to add.\nassert add(1, 2) == 3\n"""\n', "Write a function to add."),
        (
            "from typing import List\nimport math\n\ndef f(xs: List[int], key=(1, 2)) -> int:" + DOCTESTS,
            "Sum of xs, from first to last. Never None.",
        ),
        (
            "@cache\nasync def f(\n    x: int,\n    y: int = 0,\n) -> int:\n    r'''Add\n    \\n.'''\n",
            "Add \\n.",
        ),
        ("class A(B):\n    '''class of its own: see below'''\n", "class of its own: see below"),
        ("# Reverse the words.\ndef f(s):\n", "# Reverse the words."),
        ("def f(x):\n", ""),
    ],
)
def test_description(prompt: str, prose: str) -> None:
    assert description(made("t", prompt=prompt)) == prose


def test_few_shot_prompts_are_read_without_their_examples(tmp_path: Path) -> None:
    rows = [{**MBPP, "task_id": n, "text": f"Task number {n}."} for n in (2, 3, 4, 11)]
    config = TasksConfig(source="mbpp", path=write(tmp_path / "m.jsonl", *rows), prompt_mode="few-shot")
    assert [description(task) for task in config.load().tasks] == ["Task number 11."]


def test_exact_descriptions_whatever_their_form() -> None:
    train = [
        made("same", "Write a Python function to find the LARGEST item of a list!"),
        made("other", "Write a Python function to find the longest run in a list!"),
    ]
    prompt = 'def f(xs):\n    """Find the\n    largest item of a list.\n    >>> f([1])\n    1\n    """\n'
    evaluation = made("e", prompt=prompt, reference="    return max(xs)\n")
    result = decontaminate(train, [held_out(evaluation)], LEXICAL)
    assert result.kept == ("other",)
    assert views(result) == {("same", "e", view): 1.0 for view in ("exact", "ngram", "jaccard")}
    assert [one.alike for one in result.found] == ["description"] * 3


SOLUTION = "def total(xs):\n    s = 0\n    for x in xs:\n        s += x * 2\n    return s\n"
DRESSED = '''
import math

def total(xs: list[int]) -> int:
  """Sum."""
  s: int = 0  # start
  for x in xs: s += x*2
  return (s)
'''


@pytest.mark.parametrize(
    ("reference", "same"),
    [
        (SOLUTION.replace("total", "add").replace("xs", "numbers").replace("x ", "n "), True),
        (DRESSED, True),
        (SOLUTION.replace("*", "+"), False),
        (SOLUTION.replace("2", "3"), False),
        (SOLUTION.replace("return s", "return xs"), False),
        (SOLUTION.replace("in xs", "in sorted(xs)"), False),
    ],
)
def test_exact_solutions_whatever_their_names(reference: str, same: bool) -> None:
    train, evaluation = made("t", reference=reference), made("e", reference=SOLUTION)
    result = decontaminate([train], [held_out(evaluation)], LEXICAL)
    assert [(one.view, one.alike) for one in result.found] == [("exact", "reference")] * same


def test_a_body_after_a_header_is_the_same_solution() -> None:
    body = made("e", prompt='def double(n: int):\n    """Twice."""\n', reference="    return 2 * n\n")
    whole = made("t", reference="def f(x):\n    return 2 * x\n")
    assert decontaminate([whole], [held_out(body)], LEXICAL).removed == ("t",)


def test_comprehensions_have_names_of_their_own() -> None:
    train = made("t", reference="def f(a):\n    return [b + 1 for b in a]\n")
    same = made("e", reference="def g(x):\n    return [y + 1 for y in x]\n")
    other = made("o", reference="def g(x):\n    return [x + 1 for y in x]\n")
    found = decontaminate([train], [held_out(same, other)], LEXICAL).found
    assert [one.against_id for one in found] == ["e"]


def test_references_that_do_not_parse_are_compared_as_text() -> None:
    train = [made("t", reference="def f(:\n  pass"), made("u", reference="def f(:\n  return")]
    result = decontaminate(train, [held_out(made("e", reference="def f(:\n    pass\n"))], LEXICAL)
    assert result.removed == ("t",)


def test_a_rewritten_task_is_known_by_id_and_entry_point() -> None:
    train = [
        made("Mbpp/1", "sum of a list", entry_point="list_Sum"),
        made("2", "count the words", entry_point="f"),
    ]
    evaluation = held_out(
        made("Mbpp/1", "given numbers, add all of them", "list_sum = sum", entry_point="list_sum"),
        made("2", "largest prime below n", "g = 2", entry_point="g"),
    )
    result = decontaminate(train, [evaluation], LEXICAL)
    assert [(one.task_id, one.view, one.alike) for one in result.found] == [("Mbpp/1", "exact", "id")]


def test_header_only_prompts_say_nothing() -> None:
    train, evaluation = (made(name, prompt="def f(x):\n") for name in ("t", "e"))
    result = decontaminate([train], [held_out(evaluation)], DecontaminateConfig())
    assert (result.kept, result.found) == (("t",), ())


WORDS = "one two three four five six seven eight nine ten eleven twelve"  # five 8-grams


@pytest.mark.parametrize(
    ("evaluation", "share"),
    [
        ("zero " + WORDS + " thirteen", 1.0),
        (WORDS.replace("twelve", "dozen"), 0.8),
        (WORDS.replace("eleven twelve", "and more"), 0.6),
        (WORDS.replace("ten eleven twelve", "and so on"), 0.4),
        (" ".join(reversed(WORDS.split())), 0.0),
    ],
)
def test_ngrams(evaluation: str, share: float) -> None:
    found = views(decontaminate([made("t", WORDS)], [held_out(made("e", evaluation))], LEXICAL))
    assert found.get(("t", "e", "ngram"), 0.0) == (share if share >= 0.5 else 0.0)
    assert matched(WORDS, evaluation, "ngram", but(LEXICAL, ngram_share=0.6)) == (share >= 0.6)
    assert matched(WORDS, evaluation, "ngram", but(LEXICAL, ngram_share=0.3)) == (share > 0)
    assert matched(WORDS, evaluation, "ngram", but(LEXICAL, ngram_words=12)) == (share == 1)


def test_ngrams_are_of_one_evaluation_task() -> None:
    halves = [made("a", " ".join(WORDS.split()[:9])), made("b", " ".join(WORDS.split()[3:]))]
    result = decontaminate([made("t", WORDS)], [held_out(*halves)], LEXICAL)
    assert [name for name in views(result) if name[2] == "ngram"] == []


def test_a_short_description_is_one_ngram() -> None:
    assert matched("reverse a string", "take care to reverse a string twice", "ngram")
    assert not matched("reverse a string", "reverse the string and a list", "ngram")
    assert not matched("reverse a string of words twice", "reverse a string", "ngram")


def test_jaccard() -> None:
    assert matched("a b c d", "d c b a e", "jaccard")  # 4 of 5: at the threshold
    assert not matched("a b c", "c b a e", "jaccard")
    assert matched("a b c", "c b a e", "jaccard", but(LEXICAL, jaccard=0.75))
    words = " ".join(f"w{number}" for number in range(31))
    assert not matched(words, words + " more", "jaccard")  # too long: n-grams are asked
    assert matched(words, words + " more", "jaccard", but(LEXICAL, jaccard_words=31))


@pytest.mark.parametrize("least", [0.2, 0.5, 0.75, 0.8, 1.0])
def test_jaccard_finds_what_all_pairs_show(least: float) -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcdefgh", k=rng.randint(1, 9))) for _ in range(120)]
    train = [made(str(number), text) for number, text in enumerate(texts[:60])]
    evaluation = [made(str(number), text) for number, text in enumerate(texts[60:], 60)]
    expected = {
        (one.task_id, other.task_id)
        for one in train
        for other in evaluation
        if (a := set(description(one).split())) and (b := set(description(other).split()))
        if len(a & b) / len(a | b) >= least
    }
    config = but(LEXICAL, jaccard=least)
    found = views(decontaminate(train, [held_out(*evaluation)], config))
    assert {(t, e) for t, e, view in found if view == "jaccard"} == expected


NEAR = DecontaminateConfig(ngram_share=1.0, jaccard=1.0, cosine=0.6)
ASKED = "largest prime factor of the number"


def test_neighbours() -> None:
    train = [
        made("far", "reverse every word of the sentence"),
        made("near", "the number and its largest prime factor"),
        made("nearer", "largest prime factor of one number"),
    ]
    result = decontaminate(train, [held_out(made("e", ASKED))], NEAR)
    scores = {(one.task_id, one.view): one.score for one in result.found}
    assert list(scores) == [("near", "neighbour"), ("nearer", "neighbour")]
    assert 0.6 < scores["near", "neighbour"] < scores["nearer", "neighbour"] < 1
    assert result.kept == ("far",)
    fewer = decontaminate(train, [held_out(made("e", ASKED))], but(NEAR, neighbours=1))
    assert fewer.removed == ("nearer",)


def test_neighbours_by_meaning(minilm: SentenceEmbedderConfig) -> None:
    train = [
        made("far", "reverse every word of the sentence"),
        made("near", "greatest prime that divides the integer"),
    ]
    said = decontaminate(train, [held_out(made("e", ASKED))], but(NEAR, embedder=minilm))
    assert said.removed == ("near",)
    assert decontaminate(train, [held_out(made("e", ASKED))], NEAR).removed == ()


def test_only_the_nearest_of_those_below_the_threshold_is_shown() -> None:
    train = [
        made("near", "the number and its largest prime factor"),
        made("nearer", "largest prime factor of one number"),
    ]
    evaluation = held_out(made("e", ASKED), made("alone", "reverse every word of one sentence"))
    result = decontaminate(train, [evaluation], but(NEAR, cosine=0.99))
    assert [(one.task_id, one.against_id, one.removed) for one in result.found] == [("nearer", "e", False)]
    assert result.kept == ("near", "nearer")
    removed = decontaminate(train, [evaluation], NEAR)
    assert all(one.removed for one in removed.found)  # the match shows what is nearest
    solved = (
        [made("t", "largest prime factor of one number", SOLUTION)],
        [held_out(made("e", ASKED, SOLUTION))],
    )
    (overlap,) = decontaminate(*solved, but(NEAR, cosine=0.99)).found
    assert overlap.view == "exact"  # a pair that was found needs no look


def test_a_judge_decides_on_neighbours() -> None:
    train = [
        made("same", ASKED),
        made("near", "the number and its largest prime factor"),
        made("nearer", "largest prime factor of one number"),
    ]
    asked: list[tuple[str, str]] = []

    def judge(task: Task, evaluation: Task) -> bool:
        asked.append((task.task_id, evaluation.task_id))
        return task.task_id == "near"

    config = but(NEAR, cosine=0.3)
    result = decontaminate(train, [held_out(made("e", ASKED))], config, judge)
    assert asked == [("nearer", "e"), ("near", "e")]  # an exact match needs no judgement
    assert result.kept == ("nearer",)
    neighbours = {one.task_id: one.removed for one in result.found if one.view == "neighbour"}
    assert neighbours == {"same": True, "near": True, "nearer": False}


def test_a_low_cosine_lets_the_judge_see_all_neighbours() -> None:
    train = [made(str(number), f"the n{number}") for number in range(80)]
    asked: list[str] = []
    config = DecontaminateConfig(cosine=1e-6)
    evaluation = held_out(made("e", "the end"))
    result = decontaminate(train, [evaluation], config, lambda task, _: bool(asked.append(task.task_id)))
    assert asked == ["0", "1", "2", "3", "4"]  # equal cosines: in the order of the tasks
    assert len(result.kept) == 80
    assert len(result.found) == 5


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS.split(), k=rng.randint(1, 6))) for _ in range(40)]
    train = [made(f"t{number}", text) for number, text in enumerate(texts[:25])]
    evaluation = held_out(*(made(f"e{number}", text) for number, text in enumerate(texts[25:])))
    whole = decontaminate(train, [evaluation], NEAR)
    assert any(one.view == "neighbour" for one in whole.found)
    monkeypatch.setattr(alike, "BLOCK", 4)
    assert decontaminate(train, [evaluation], NEAR) == whole


def test_order() -> None:
    train = [made("b", WORDS), made("c"), made("a", ASKED)]
    sets = [
        held_out(made("y", ASKED), made("x", WORDS), name="second"),
        held_out(made("w", WORDS), name="first"),
    ]
    result = decontaminate(train, sets, DecontaminateConfig())
    places = [(one.task_id, one.against, one.against_id, one.view) for one in result.found]
    every = ("exact", "ngram", "jaccard", "neighbour")
    assert places == [
        *(("b", "second", "x", view) for view in every),
        *(("b", "first", "w", view) for view in every),
        *(("a", "second", "y", view) for view in every),
    ]
    assert (result.kept, result.removed, result.against) == (("c",), ("b", "a"), ("second", "first"))
    assert Decontamination.model_validate_json(result.model_dump_json()) == result


PROGRAM = f"""
import random, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.tasks.test_decontaminate import NEAR, WORDS, decontaminate, held_out, made
rng = random.Random(2)
texts = [" ".join(rng.choices(WORDS.split(), k=rng.randint(1, 6))) for _ in range(80)]
tasks = [made(str(number), text) for number, text in enumerate(texts)]
print(decontaminate(tasks[:50], [held_out(*tasks[50:])], NEAR).model_dump_json())
"""


def test_another_process_finds_the_same() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert Decontamination.model_validate_json(outputs.pop()).found


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(ConfigError, match="scikit-learn") as caught:
        decontaminate([made("t", WORDS)], [held_out(made("e", WORDS))], DecontaminateConfig())
    assert "pip install 'codestill[retrieval]'" in caught.value.next_step
    assert decontaminate([made("t", WORDS)], [held_out(made("e", WORDS))], LEXICAL).removed == ("t",)


def test_the_import_is_light() -> None:
    code = "import sys, codestill.tasks.decontaminate; print({'sklearn', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_names_must_differ() -> None:
    with pytest.raises(TaskError, match="2 training tasks have the id 't'"):
        decontaminate([made("t"), made("t", "other")], [], LEXICAL)
    with pytest.raises(TaskError, match="2 evaluation sets have the name 'eval'"):
        decontaminate([made("t")], [held_out(made("a")), held_out(made("b"))], LEXICAL)


@pytest.mark.parametrize(
    ("tasks", "sets"),
    [
        ([], [held_out(made("e", WORDS))]),
        ([made("t", WORDS)], []),
        ([made("t", WORDS)], [held_out()]),
        ([], []),
        ([made("t", "...")], [held_out(made("e", "?!"))]),
    ],
)
def test_nothing_to_find(tasks: list[Task], sets: list[TaskSet]) -> None:
    result = decontaminate(tasks, sets, DecontaminateConfig())
    assert (len(result.kept), result.found) == (len(tasks), ())
    assert result.report().startswith(f"{len(tasks)} training tasks: 0 removed, {len(tasks)} kept\n")


def test_report() -> None:
    train = [
        made("a", WORDS),
        made("b", "the largest prime factor of a number"),
        made("c", "the words of a text", SOLUTION),
    ]
    sets = [
        held_out(made("e", WORDS), made("f", ASKED), made("h", "the words of a book"), name="first"),
        held_out(made("g", "twice the sum", SOLUTION), name="second"),
    ]
    result = decontaminate(train, sets, DecontaminateConfig(jaccard=1.0, cosine=0.99))
    (near,) = (one.score for one in result.found if one.against_id == "f")
    assert 0.5 < near < 0.99
    assert [one.task_id for one in result.found if one.against_id == "h"] == ["c"]  # removed: none to check
    assert (
        result.report(limit=1)
        == f"""\
3 training tasks: 2 removed, 1 kept
pairs of tasks  exact  ngram  jaccard  neighbour  to check  tasks removed
first               1      1        1          1         1              1
second              1      0        0          0         0              1

removed: 2, the first 1
  a: {WORDS}
    e: {WORDS}
      first: exact description, ngram 1.00, jaccard 1.00, neighbour 1.00

kept, to be checked by eye: 1
  b: the largest prime factor of a number
    f: {ASKED}
      first: neighbour {near:.2f}
"""
    )
    solution = "  c: the words of a text\n    g: twice the sum\n      second: exact reference\n"
    assert solution in result.report(limit=2)
    long = decontaminate([made("t", "word " * 100)], [held_out(made("e", "word " * 100))], LEXICAL)
    assert max(map(len, long.report().splitlines())) <= 100


@pytest.mark.parametrize("setting", [{"jaccard": 0}, {"ngram_share": 1.5}, {"neighbours": -1}, {"ngrams": 8}])
def test_refused_configs(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        DecontaminateConfig.model_validate(setting)


def load(spec: str) -> TaskSet:
    return TasksConfig.model_validate(spec).load()


def ids(numbers: str) -> set[str]:
    return {f"Mbpp/{number}" for number in numbers.split()}


SAME_TASK = ids("602 608 632 649 653 658 666 673 676 704 708 759 800 841 842 872 896 917 922 924 928 952 970")
"""The same task in other words, or with another way to do it (`by using regex`)."""
SAME_SOLUTION = ids("703 716 789 792 960")
"""Another task with the same program: a rhombus' perimeter and a square's, tilings and Fibonacci numbers."""
SIBLINGS = ids(
    "606 626 634 655 657 664 683 697 719 731 732 733 743 762 763 770 777 784 787 793 807 820 821 837 866 870 "
    "881 933 945 954 964 965 974"
)
"""Another task: one word differs and changes what is asked (first and last, even and odd, to and from)."""


@pytest.mark.data
@pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set")
def test_mbpp() -> None:
    """Every removed pair was read: 23 of the 61 tasks are duplicates, 5 more have the solution, and 33 are
    siblings. Duplicates and siblings by view: exact 14 and 0, n-gram 11 and 6, Jaccard 11 and 30, neighbour
    15 and 23."""
    sets = [load("mbpp:test"), load("humaneval")]
    result = decontaminate(load("mbpp:train").tasks, sets, DecontaminateConfig())
    assert set(result.removed) == SAME_TASK | SAME_SOLUTION | SIBLINGS
    assert (len(result.removed), len(result.kept)) == (61, 313)
    matches = Counter((one.against, one.view) for one in result.found if one.removed)
    assert matches == {
        ("mbpp:test/zero-shot", "exact"): 18,
        ("mbpp:test/zero-shot", "ngram"): 18,
        ("mbpp:test/zero-shot", "jaccard"): 52,
        ("mbpp:test/zero-shot", "neighbour"): 43,
        ("humaneval:test", "exact"): 2,
    }
    removed_by = {(one.task_id, one.view) for one in result.found if one.removed}
    seen = Counter((view, task_id in SIBLINGS) for task_id, view in removed_by)
    assert (seen["exact", False], seen["exact", True]) == (14 + len(SAME_SOLUTION), 0)
    assert (seen["ngram", False], seen["ngram", True]) == (11, 6)
    assert (seen["jaccard", False], seen["jaccard", True]) == (11, 30)
    assert (seen["neighbour", False], seen["neighbour", True]) == (15, 23)
    # What words do not show: the length of a string and the gcd are HumanEval's tasks too.
    near = {(one.task_id, one.against_id): one for one in result.found if one.against == "humaneval:test"}
    assert not near["Mbpp/813", "HumanEval/23"].removed
    assert not near["Mbpp/687", "HumanEval/13"].removed


@pytest.mark.data
@pytest.mark.skipif("CODESTILL_DATA" not in os.environ, reason="CODESTILL_DATA is not set")
def test_the_sanitized_set_is_known_by_its_ids() -> None:
    """It has 120 tasks of the training range. It rewrote 11 so far that no view of the text shows them."""
    train, clean = load("mbpp:train").tasks, load("mbpp-sanitized:train")
    result = decontaminate(train, [clean], DecontaminateConfig())
    assert {task.task_id for task in clean.tasks} <= set(result.removed)
    others = {one.task_id for one in result.found if one.removed and one.alike != "id"}
    assert set(result.removed) - others == ids("607 620 626 627 628 629 643 721 756 781 799")
