"""Memory is estimated before it is taken, and a batch that would not fit is lowered."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_sample import draw, requests

from codestill.models import Decoding, Placement, SamplingConfig, sample
from codestill.models.decode import bytes_per_token
from codestill.models.room import USABLE, Estimate, _left_in_groups, available_bytes
from codestill.models.shared import SharedPrompts
from codestill.models.student import Student


class Heard:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.counts: list[tuple[int, int, int]] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def decoded(self, tokens: int, limit: int, rows: int) -> None:
        self.counts.append((tokens, limit, rows))


def heard(student: Student, batch: int = 192, samples: int = 3) -> tuple[dict[str, Any], Heard]:
    watcher = Heard()
    decoding = Decoding(SamplingConfig(temperature=0.8, max_new_tokens=24), watcher=watcher)
    placed = replace(student, placement=Placement(decode_batch=batch))
    done = list(placed.complete(requests(samples), decoding))
    found = {completion.key: completion for completion in done}
    assert len(found) == len(done)
    return found, watcher


@torch.inference_mode()
def test_keys_and_values_take_what_is_estimated(llama: Student) -> None:
    prompts: list[tuple[int, ...]] = [(1, 2, 3), (1, 2, 3), (4, 5, 6, 7, 8)]
    memory, new = SharedPrompts(llama.model, 0), 40
    _, last = memory.add(prompts)
    for step in range(1, new + 1):
        memory.step(torch.tensor([1, 2, 3]), last + step)
    (cohort,) = memory.rest.cohorts
    held = [*cohort.read.keys_GHPD, *cohort.read.values_GHPD]
    held += [*cohort.later.keys_BHTD, *cohort.later.values_BHTD]
    taken = sum(tensor.numel() * tensor.element_size() for tensor in held)
    estimate = Estimate(llama.model, shares=True, samples=False, new_tokens=new, prefill_tokens=100)
    stated = estimate.plan(prompts).keys_and_values
    assert taken <= stated <= 1.3 * taken
    config = llama.model.config
    size = config.num_key_value_heads * config.head_dim * config.num_hidden_layers * 2 * 4
    assert bytes_per_token(llama.model) == size


def test_as_many_rows_as_fit(llama: Student) -> None:
    estimate = Estimate(llama.model, shares=False, samples=True, new_tokens=8, prefill_tokens=64)
    prompts = [tuple(range(length)) for length in range(40, 10, -1)]
    need = estimate.plan(prompts[:7]).total
    assert estimate.fitting(prompts, 20, int(need / USABLE) + 1).rows == 7
    assert estimate.fitting(prompts, 5, int(need / USABLE) + 1).rows == 5
    assert estimate.fitting(prompts, 192, 10**12).rows == len(prompts)
    assert estimate.fitting(prompts, 192, 0).rows == 1


def test_a_batch_that_would_not_fit_is_lowered_and_said_once(
    llama: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, before = heard(llama)
    assert before.messages == []  # a small one that fits is not worth a line
    monkeypatch.setattr(sample, "available_bytes", lambda device: 500_000)
    found, watcher = heard(llama)
    assert found == wanted
    (message,) = watcher.messages
    assert "rows at a time instead of 15, for more would not fit" in message
    rows = int(message.split()[1])
    assert 1 <= rows < 15
    assert max(rows for _, _, rows in watcher.counts) <= rows
    assert watcher.counts[-1][0] == sum(done.tokens for done in found.values())
    assert watcher.counts[-1][2] == 0
    assert {limit for _, limit, _ in watcher.counts} == {15 * 24}


def test_after_running_out_of_memory_half_as_many_rows_go_on(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, _ = heard(student)
    step = SharedPrompts.step
    steps: list[int] = []

    def short(self: SharedPrompts, tokens_B: torch.Tensor, positions_B: torch.Tensor) -> torch.Tensor:
        steps.append(len(tokens_B))
        if len(steps) > 5 and len(tokens_B) > 4:
            raise torch.OutOfMemoryError("not enough")
        return step(self, tokens_B, positions_B)

    monkeypatch.setattr(SharedPrompts, "step", short)
    found, watcher = heard(student, batch=15)
    assert found == wanted
    assert watcher.messages == [
        f"out of memory: decoding {rows} rows at a time from now on" for rows in (7, 3)
    ]
    assert watcher.counts[-1][0] == sum(done.tokens for done in found.values())


def test_one_row_that_does_not_fit_is_an_error(llama: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(llama, requests(1), max_new_tokens=2)

    def short(*_: Any) -> None:
        raise torch.OutOfMemoryError("not enough")

    monkeypatch.setattr(SharedPrompts, "step", short)
    with pytest.raises(torch.OutOfMemoryError):
        draw(llama, requests(1))


def test_the_limits_of_control_groups_count(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    group = root / "outer" / "inner"
    group.mkdir(parents=True)
    own.write_text("4:memory:/v1\n0::/outer/inner\n")
    for place, limit in ((group, "max"), (group.parent, "5000")):
        (place / "memory.max").write_text(f"{limit}\n")
        (place / "memory.current").write_text("4000\n")
        (place / "memory.stat").write_text("anon 3000\ninactive_file 700\n")
    assert _left_in_groups(root, own) == [1700]
    assert _left_in_groups(root, tmp_path / "none") == []
    assert available_bytes(torch.device("cpu")) > 0
