"""The table: whose text is scored, and what its teacher reads."""

import pytest
from tests.support.forms import CONTINUES
from tests.support.worlds import tasks

from codestill.errors import ConfigError
from codestill.prompts import CONTINUED, INSTRUCT
from codestill.recipes.opd.recipe import Config
from codestill.recipes.opd.rows import ROWS, RowName, is_on_policy, off_policy_example, on_policy_examples
from codestill.refine import RefineConfig, Refinement
from codestill.types import Attempt, Completion, ExecutionResult, Finish

TASK_SET = tasks(3).load()
FIRST, SECOND, THIRD = TASK_SET.tasks
PASSED = ExecutionResult(verdict="pass")
FAILED = ExecutionResult(verdict="exception", error="ZeroDivisionError: division by zero")
SOLUTIONS = {FIRST.task_id: FIRST.reference, SECOND.task_id: SECOND.reference}


def attempt(task_id: str, text: str, result: ExecutionResult, finish: Finish = "stop") -> Attempt:
    return Attempt(
        completion=Completion(task_id=task_id, sample=0, text=text, raw=text + "\ndef", finish=finish),
        result=result,
    )


ATTEMPTS = [
    attempt(FIRST.task_id, "    return 1 / 0\n", FAILED),
    attempt(SECOND.task_id, "    return 2\n", PASSED, "length"),
    attempt(THIRD.task_id, "", FAILED, "prompt_too_long"),
]
MENDED = "    return 3\n"
REPAIRS = [
    Refinement(
        attempt=ATTEMPTS[0],
        feedback="Wrong",
        completion=Completion(task_id=FIRST.task_id, sample=0, text=MENDED, finish=finish),  # pyright: ignore[reportArgumentType]
        result=result,
    )
    for result, finish in ((PASSED, "stop"), (PASSED, "length"), (FAILED, "stop"))
]
FEEDBACK = RefineConfig().feedback_on(ATTEMPTS[0])


WRITTEN = {0: ATTEMPTS[0].completion.text, 1: ATTEMPTS[1].completion.text}
SHOWN = CONTINUED.to_refine(FIRST, WRITTEN[0], FEEDBACK)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gkd", {0: (WRITTEN[0], ""), 1: (WRITTEN[1], "")}),
        (
            "sdft",
            {
                0: (WRITTEN[0], CONTINUED.to_show(FIRST, FIRST.reference)),
                1: (WRITTEN[1], CONTINUED.to_show(SECOND, SECOND.reference)),
            },
        ),
        ("sdpo", {0: (WRITTEN[0], SHOWN)}),
        ("feedback", {0: (WRITTEN[0], SHOWN)}),
        ("refined", {0: (MENDED, "")}),
    ],
)
def test_each_row_scores_its_text_behind_its_prompt(
    name: RowName, wanted: dict[int, tuple[str, str]]
) -> None:
    made = on_policy_examples(ROWS[name], CONTINUES, TASK_SET, ATTEMPTS, REPAIRS, SOLUTIONS, RefineConfig())
    for number, task in enumerate(TASK_SET.tasks):
        own = made.get(task.task_id, [])
        assert [(e.completion, e.teacher_prompt) for e in own] == [wanted[n] for n in wanted if n == number]
        assert all(example.prompt == task.prompt for example in own)


def test_the_feedback_and_the_solution_are_in_the_teachers_prompt() -> None:
    assert "ZeroDivisionError" in FEEDBACK
    for prompts in (CONTINUED, INSTRUCT):
        assert "division by zero" in prompts.to_refine(FIRST, "    return 1 / 0\n", FEEDBACK)
        assert FIRST.reference.strip() in prompts.to_show(FIRST, FIRST.reference)
    with pytest.raises(ConfigError, match="a solution beside another"):
        CONTINUED.model_copy(update={"show": None}).to_show(FIRST, FIRST.reference)


@pytest.mark.parametrize("name", ROWS)
def test_an_external_teacher_scores_others_text_behind_the_task_alone(name: RowName) -> None:
    row = ROWS[name]
    example = off_policy_example(row, CONTINUES, FIRST, FIRST.reference, "reference")
    assert example.completion == FIRST.reference
    shown = CONTINUED.to_show(FIRST, FIRST.reference)
    assert example.teacher_prompt == (shown if row.teacher == "itself" else "")


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    many = tasks(200).load().tasks
    sets = [{task.task_id for task in many if is_on_policy(task, share, 0)} for share in (0, 0.3, 0.7, 1)]
    assert [len(one) for one in (sets[0], sets[3])] == [0, 200]
    assert sets[1] < sets[2]
    assert 40 < len(sets[1]) < 80


@pytest.mark.parametrize("name", ROWS)
def test_the_divergence_is_the_rows_unless_it_is_given(name: RowName) -> None:
    objective = Config.model_validate({"row": name}).objective
    assert (objective.divergence, objective.temperature, objective.alpha) == (ROWS[name].divergence, 1.0, 1.0)
    given = Config.model_validate(
        {"row": name, "objective": {"divergence": "skew_kl", "skew": 0.2}}
    ).objective
    assert (given.divergence, given.skew, given.temperature) == ("skew_kl", 0.2, 1.0)


def test_a_student_is_not_taught_its_own_attempts() -> None:
    with pytest.raises(ValueError, match="its own attempts"):
        Config.model_validate({"objective": {"alpha": 0.5}})
    for allowed in ({"row": "refined"}, {"on_policy": 0}):
        assert Config.model_validate({"objective": {"alpha": 0.5}} | allowed).objective.alpha == 0.5
    with pytest.raises(ValueError, match="cross-entropy alone"):
        Config.model_validate({"objective": {"alpha": 0}, "on_policy": 0})


def test_only_rows_that_ask_another_model_open_it() -> None:
    opened = {name: Config.model_validate({"row": name}).needs_teacher for name in ROWS}
    assert opened == {"gkd": True, "sdft": False, "sdpo": False, "feedback": True, "refined": True}
    assert Config.model_validate({"row": "sdft", "solutions": "teacher"}).needs_teacher
