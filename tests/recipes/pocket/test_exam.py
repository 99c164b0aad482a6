"""The exam, taken by one who knows everything, and by one who knows nothing."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.support.scripted import Scripted
from tests.support.worlds import DieAt, assert_killed

from codestill.config import RunConfig
from codestill.files.run_files import read_stage
from codestill.pocket.faults import plant_fault
from codestill.pocket.generate import Sketch, cases
from codestill.pocket.skills import (
    LEVELS,
    asked,
    composed,
    read_asked,
    read_sketch,
    sub_functions,
    verdict,
    written_inputs,
)
from codestill.pocket.trial import trial
from codestill.pocket.understand import HEADER
from codestill.recipes.pocket.exam import MEASURES, Exam, ExamConfig, card, examine
from codestill.run import Run
from codestill.sandbox import Sandbox, SandboxConfig
from codestill.types import Completion, Request

COUNT = 12


def player(name: str, answer: Callable[[str, Sketch], str]) -> Scripted:
    """Answers every prompt by a function of the prompt and the sketch of its last header."""

    def answer_to(one: Request) -> str:
        sketch = read_sketch(list(HEADER.finditer(one.prompt))[-1][0])
        assert sketch is not None
        return answer(one.prompt, sketch)

    return Scripted(answer_to, name)


def knows_all(prompt: str, sketch: Sketch) -> str:
    rng = random.Random(prompt)
    last = prompt.rstrip("\n").rpartition("\n")[2].removeprefix("# ")
    if last == "parts":
        return "".join(function.prompt for function in sub_functions(sketch))
    if last in LEVELS:
        found = None
        while found is None:
            found = asked(sketch, last, rng)  # pyright: ignore[reportArgumentType]
        return found[0] + found[1].prompt
    drawn = None
    while drawn is None:
        drawn = cases(sketch, rng)
    if last == "tests":
        return written_inputs(sketch.function, drawn, 8)
    if last == "judge":
        code = prompt.rpartition('"""\n')[2].removesuffix("# judge\n")
        score = sum(test.verdict == "pass" for test in trial(sketch, code, drawn).tests)
        return verdict(sketch, sketch.composition, sketch.constants, score)
    if prompt.count("def ") > 1 and f"{sketch.composition[0]}_of(" in prompt:
        return composed(sketch)
    return sketch.solution()


def sometimes(_: str, sketch: Sketch) -> str:
    """Right for every third task, else wrong in some way."""
    rng = random.Random(sketch.prompt)
    return sketch.solution() if rng.random() < 0.3 else plant_fault(sketch, rng).body


SOME = player("some", sometimes)


def take(
    directory: Path, teacher: Scripted, student: Scripted, *observers: DieAt, taught: Iterable[str] = ()
) -> Exam:
    with (
        Run.open(directory, RunConfig(), observers) as run,
        Sandbox(SandboxConfig(), workers=1) as box,
    ):
        return examine(teacher, student, frozenset(taught), ExamConfig(count=COUNT), box, run)


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    return take(tmp_path_factory.mktemp("perfect"), player("all", knows_all), SOME)


def test_who_knows_all_gets_everything(perfect: Exam) -> None:
    assert {score.measure for score in perfect.scores} == set(MEASURES)
    for score in perfect.scores:
        wanted = 0.0 if score.measure == "compose - solve depth 4" else 1.0
        assert score.value.mean == wanted, score
    assert {len(score.by_depth) for score in perfect.scores} == {0, 1, 2, 3}
    assert [one.score for one in perfect.calibration][-1] == 8
    assert all(one.passed == (one.score == 8) for one in perfect.calibration)
    assert sum(one.programs for one in perfect.calibration) == 2 * COUNT


def test_who_knows_nothing_gets_nothing(tmp_path: Path) -> None:
    exam = take(tmp_path / "run", player("none", lambda *_: ""), SOME)
    for score in exam.scores:
        wanted = 0.5 if score.measure == "judge AUROC" else 0.0
        assert score.value.mean == wanted, score


def test_what_cannot_be_measured_is_left_out(tmp_path: Path) -> None:
    exam = take(
        tmp_path / "run", player("all", knows_all), player("right", lambda _, sketch: sketch.solution())
    )
    assert {"refine", "judge AUROC"} == set(MEASURES) - {score.measure for score in exam.scores}


def test_half_knowledge_is_seen(tmp_path: Path) -> None:
    """Parts in another order are not right, even where they fit; a task from a lesson is not new."""

    def parts_in_reverse(prompt: str, sketch: Sketch) -> str:
        if prompt.endswith("# parts\n"):
            return "".join(reversed([function.prompt for function in sub_functions(sketch)]))
        return knows_all(prompt, sketch)

    directory = tmp_path / "run"
    first = take(directory, player("reversed", parts_in_reverse), SOME)
    assert first["decompose right"].value.mean < 0.2
    assert first["decompose valid"].value.mean < 0.9
    assert first["ask"].value.mean == 1.0
    stage = read_stage(directory, "exam-validation-ask", Completion)
    known = [read_asked(answer.text) for answer in stage]
    again = take(tmp_path / "again", player("all", knows_all), SOME, taught=known)
    assert again["ask"].value.mean == 0.0
    assert again["ask level"].value.mean == 1.0


def die_at(directory: Path, stage: str) -> None:
    take(directory, player("all", knows_all), SOME, DieAt(stage, 2))


@pytest.mark.parametrize("stage", ["solve", "student-sampled", "refine", "ask", "judge"])
def test_a_killed_exam_goes_on(stage: str, tmp_path: Path, perfect: Exam) -> None:
    assert_killed(die_at, tmp_path / "run", f"exam-validation-{stage}")
    assert take(tmp_path / "run", player("all", knows_all), SOME) == perfect


def test_the_card_tells_every_measure_and_the_front_matter(perfect: Exam) -> None:
    text = card("a teacher", "What it is not.", [perfect])
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "What it is not." in text and "# a teacher" in text
    for measure, meaning in MEASURES.items():
        assert f"| {measure} | {meaning} |" in text
    assert "| solve | greedy answers that pass, depth 2 and 3 | 12 | 100.0 [75.8, 100.0] |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows[: len(MEASURES) + 2]}) == 1
