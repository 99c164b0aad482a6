"""Two evaluations, task by task."""

from collections.abc import Mapping

import pytest

from codestill.evaluation.metrics import compare_pairs
from codestill.evaluation.pairs import alike, difference, rates
from codestill.types import Evaluation, Gates

PASSED = {f"t/{number}": number % 3 for number in range(12)}


def evaluation(passed: Mapping[str, int], **changes: object) -> Evaluation:
    values = {
        "model": "m",
        "tasks": "mine",
        "task_count": len(passed),
        "subset": False,
        "samples_per_task": 2,
        "temperature": 0.2,
        "top_p": 0.95,
        "pass_at": {},
        "per_task": {task: (2, count) for task, count in passed.items()},
        "verdicts": {},
        "gates": Gates(tasks=len(passed), reference=len(passed), empty=0, pass_body=0),
        "data_hash": "same",
        "prompt_mode": "completion",
        "stop_rule": "function",
        "sandbox": "none",
        "versions": {},
        "seed": 0,
    }
    return Evaluation.model_validate(values | changes)


def test_tasks_are_paired_by_name_however_they_are_ordered() -> None:
    other = {task: 2 - count for task, count in PASSED.items()}
    a, b = evaluation(PASSED), evaluation(other)
    in_a_files_order = evaluation(dict(sorted(other.items())))
    assert list(in_a_files_order.per_task) != list(a.per_task)
    expected = compare_pairs([rates(a, 1)], [rates(b, 1)])
    assert difference("a", [a], "b", [in_a_files_order]).interval == expected.interval
    assert alike(a, in_a_files_order)


def test_one_model_is_paired_with_every_seed() -> None:
    seeds = [evaluation(PASSED), evaluation(dict.fromkeys(PASSED, 2))]
    start = evaluation(dict.fromkeys(PASSED, 0))
    over, under = difference("s", seeds, "m", [start]), difference("m", [start], "s", seeds)
    assert over.by_seed == (0.5, 1.0) and under.by_seed == (-0.5, -1.0)
    assert (over.a, over.b, over.pairs) == ("s", "m", 24)
    with pytest.raises(ValueError, match="no pairs"):
        difference("s", seeds, "m", [start] * 3)


@pytest.mark.parametrize(
    "changes",
    [{"data_hash": "another"}, {"temperature": 0.8}, {"samples_per_task": 5}, {"per_task": {"t/0": (2, 1)}}],
)
def test_other_tasks_or_another_way_of_asking_are_not_alike(changes: dict[str, object]) -> None:
    assert not alike(evaluation(PASSED), evaluation(PASSED, **changes))


def test_rates_are_of_the_tasks_asked_for() -> None:
    assert rates(evaluation(PASSED), 1, ["t/2", "t/0"]) == [1.0, 0.0]
    assert rates(evaluation(PASSED), 2) == [float(count > 0) for count in PASSED.values()]
