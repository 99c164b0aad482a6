"""Prompts are read in passes of a bounded size, which changes no completion."""

from dataclasses import replace
from typing import Any

import pytest
from tests.models.test_sample import PROMPTS, draw, requests
from torch import Tensor, nn

from codestill.models import Decoding, Placement, SamplingConfig, shared
from codestill.models.decode import OwnPrompts, Prompt, WholeTexts, chunks
from codestill.models.shared import SharedPrompts, alike
from codestill.models.student import Student

MEMORIES = {"shared": SharedPrompts, "own": OwnPrompts, "none": WholeTexts}


def test_chunks_hold_every_prompt_once_within_the_budget() -> None:
    prompts = [tuple(range(length)) for length in (3, 40, 7, 7, 1, 25, 12, 30, 2)]
    parts = chunks(prompts, 30)
    assert sorted(prompt for part in parts for prompt in part) == sorted(prompts)
    for part in parts:
        assert len(part) == 1 or len(part) * max(map(len, part)) <= 30
    assert len(parts) < len(prompts)
    assert len(chunks(prompts, 10_000)) == 1


@pytest.mark.parametrize("kind", MEMORIES)
def test_passes_are_bounded_and_change_no_completion(
    student: Student, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "can_share", lambda model: kind == "shared")
    monkeypatch.setattr(shared, "can_cache", lambda model: kind != "none")
    sizes: list[int] = []

    def note(module: nn.Module, args: Any, kwargs: dict[str, Tensor]) -> None:
        rows, length = kwargs["input_ids"].shape
        if length > 1:
            sizes.append(rows * length)

    lengths = [len(student.tokenizer(prompt)["input_ids"]) for prompt in PROMPTS]  # pyright: ignore
    budget, new = max(lengths), 6
    sampling = SamplingConfig(temperature=0.8, max_new_tokens=new)
    hook = student.model.register_forward_pre_hook(note, with_kwargs=True)
    found = []
    for tokens in (budget, 10_000):
        sizes.clear()
        placed = replace(student, placement=Placement(prefill_tokens=tokens))
        found.append({done.key: done for done in placed.complete(requests(2), Decoding(sampling, seed=0))})
        if tokens == budget:
            assert len(sizes) > 1
            assert max(sizes) <= budget + new  # a whole text that is longer stands alone
    hook.remove()
    assert found[0] == found[1]
    assert isinstance(shared.memory_for(student.model, 0, 100), MEMORIES[kind])


def test_the_head_is_applied_to_last_positions_alone(student: Student) -> None:
    widths: set[int] = set()
    head: Any = student.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, inputs, logits: widths.add(logits.shape[1]))
    list(student.complete(requests(2), Decoding(SamplingConfig(max_new_tokens=3))))
    hook.remove()
    assert widths == {1}


def test_prompts_are_divided_where_that_saves_enough() -> None:
    def lengths(prompts: list[Prompt], worth: int) -> list[list[int]]:
        return [[len(prompt) for prompt in prompts[rows]] for rows in alike(prompts, worth)]

    prompts: list[Prompt] = [(0,) * n for n in (90, 88, 50, 48, 47, 10, 9)]
    assert lengths(prompts, 10_000) == [[90, 88, 50, 48, 47, 10, 9]]
    assert lengths(prompts, 50) == [[90, 88], [50, 48, 47], [10, 9]]
    assert lengths(prompts[::-1], 50) == [[9, 10, 47, 48, 50, 88, 90]]
    assert lengths([(0,) * 5] * 3, 0) == [[5, 5, 5]]
    # Samples of one prompt stay together, and count once.
    assert lengths([(0,) * 40, *[(1,) * 10] * 3, (2,) * 10], 60) == [[40], [10, 10, 10, 10]]
    assert lengths([(0,) * 40, *[(1,) * 10] * 3, (2,) * 10], 61) == [[40, 10, 10, 10, 10]]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8}], ids=["greedy", "sampled"])
def test_divided_prompts_change_no_completion(
    student: Student, sampling: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = draw(student, requests(3), **sampling)
    cohorts: set[int] = set()
    step = SharedPrompts.step

    def noted(self: SharedPrompts, tokens_B: Tensor, positions_B: Tensor) -> Tensor:
        cohorts.add(len(self.rest.cohorts))
        return step(self, tokens_B, positions_B)

    monkeypatch.setattr(SharedPrompts, "step", noted)
    monkeypatch.setattr(shared, "WORTH_A_COHORT", 0)
    assert draw(student, requests(3), **sampling) == wanted
    assert draw(student, requests(3), batch=7, **sampling) == wanted
    assert max(cohorts) > 2
