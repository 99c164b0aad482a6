"""Memory is estimated before it is taken, and a batch that would not fit is lowered."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.models.test_sample import draw, requests
from tests.support.tiny import tiny_starcoder2
from transformers import Gemma3nTextConfig

from codestill.config import RunConfig
from codestill.models import Decoding, Placement, SamplingConfig
from codestill.models.decode import OwnPrompts, WholeTexts, bytes_per_token
from codestill.models.room import USABLE, Estimate, _groups, available_bytes, total_bytes
from codestill.models.shared import SharedPrompts, memory_for
from codestill.models.student import Student
from codestill.run import Run
from codestill.types import Event


class Heard:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.counts: list[tuple[int, int, int]] = []
        self.reads: list[tuple[int, int]] = []
        self.ends = 0

    def message(self, text: str) -> None:
        self.messages.append(text)

    def decoded(self, tokens: int, limit: int, rows: int) -> None:
        self.counts.append((tokens, limit, rows))

    def read(self, prompts: int, total: int) -> None:
        self.reads.append((prompts, total))

    def ended(self) -> None:
        self.ends += 1


def heard(
    student: Student, batch: int = 192, samples: int = 3, watcher: Any = None
) -> tuple[dict[str, Any], Any]:
    watcher = watcher or Heard()
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
    estimate = Estimate(llama.model, memory, samples=False, new_tokens=new)
    stated = estimate.plan(prompts).keys_and_values
    assert taken <= stated <= 1.3 * taken
    config = llama.model.config
    size = config.num_key_value_heads * config.head_dim * config.num_hidden_layers * 2 * 4
    assert bytes_per_token(llama.model) == size


def test_as_many_rows_as_fit(llama: Student) -> None:
    estimate = Estimate(llama.model, OwnPrompts(llama.model, 0, 64), samples=True, new_tokens=8)
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
    monkeypatch.setattr("codestill.models.batch.available_bytes", lambda device: 500_000)
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


@torch.inference_mode()
def test_a_model_that_keeps_no_cache_is_not_passed_with_one(
    llama: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no cache")

    monkeypatch.setattr("codestill.models.decode.forward_last", fail)
    estimate = Estimate(llama.model, WholeTexts(llama.model), samples=False, new_tokens=8)
    assert estimate.plan([(1, 2, 3)]).keys_and_values == 0


@torch.inference_mode()
def test_sizes_that_differ_by_layer_or_are_not_stated(
    llama: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = WholeTexts(llama.model)
    monkeypatch.setattr(llama.model, "config", Gemma3nTextConfig(intermediate_size=[8, 24, 16, 8, 8] * 7))
    estimate = Estimate(llama.model, memory, samples=False, new_tokens=8)
    assert estimate.pass_bytes == (3 * 24 + 6 * llama.model.config.hidden_size) * 4
    monkeypatch.setattr(llama.model, "config", SimpleNamespace(get_text_config=SimpleNamespace))
    assert Estimate(llama.model, memory, samples=False, new_tokens=8).logit_bytes == 0


def test_a_model_with_sliding_windows_reads_all_prompts_in_one_pass(saved_windows: Student) -> None:
    model = saved_windows.model
    memory = memory_for(model, 0, 100, 64)
    assert isinstance(memory, OwnPrompts)
    estimate = Estimate(model, memory, samples=False, new_tokens=8)
    prompts = [tuple(range(start, start + 20)) for start in range(30)]
    assert estimate.plan(prompts).prefill == 30 * 20 * estimate.pass_bytes


@pytest.fixture
def saved_windows(tmp_path: Path) -> Student:
    return Student.load(tiny_starcoder2(tmp_path / "windows", sliding_window=16), device="cpu")


def test_tokens_of_a_call_count_once_however_its_rows_end(llama: Student, tmp_path: Path) -> None:
    events: list[Event] = []
    with Run.open(tmp_path / "run", RunConfig(), [events.append]) as run:
        found, _ = heard(llama, batch=1, watcher=run.watch("answers"))
        again, _ = heard(llama, batch=4, watcher=run.watch("others"))
    assert found == again
    for stage in ("answers", "others"):
        tokens = [int(e.metrics["tokens"] or 0) for e in events if e.stage == stage and "tokens" in e.metrics]
        assert tokens[-1] == sum(done.tokens for done in found.values())
        assert tokens == sorted(tokens)


def test_prompts_are_counted_as_they_are_read(student: Student) -> None:
    placed = replace(student, placement=Placement(decode_batch=192, prefill_tokens=1))
    watcher = Heard()
    list(placed.complete(requests(3), Decoding(SamplingConfig(max_new_tokens=4), watcher=watcher)))
    distinct = len({request.prompt for request in requests(3)})
    assert watcher.reads == [(read, distinct) for read in range(distinct + 1)]
    assert watcher.ends == 1


@pytest.mark.parametrize("batch", [15, 192])
def test_after_running_out_of_memory_half_as_many_rows_go_on(
    student: Student, monkeypatch: pytest.MonkeyPatch, batch: int
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
    found, watcher = heard(student, batch=batch)
    assert found == wanted
    assert watcher.messages == [
        f"out of memory: decoding {rows} rows at a time from now on" for rows in (7, 3)
    ]
    assert watcher.counts[-1][0] == sum(done.tokens for done in found.values())


def test_one_row_that_does_not_fit_is_an_error(llama: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(llama, requests(1), max_new_tokens=2)
    tries: list[int] = []

    def short(self: SharedPrompts, tokens_B: torch.Tensor, *_: Any) -> None:
        tries.append(len(tokens_B))
        raise torch.OutOfMemoryError("not enough")

    monkeypatch.setattr(SharedPrompts, "step", short)
    with pytest.raises(torch.OutOfMemoryError):
        draw(llama, requests(1))
    assert tries == [5, 2, 1]
    with pytest.raises(torch.OutOfMemoryError):
        draw(llama, requests(1)[:1])
    assert tries == [5, 2, 1, 1]


def test_the_limits_of_control_groups_count(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    group = root / "outer" / "inner"
    group.mkdir(parents=True)
    own.write_text("4:memory:/v1\n0::/outer/inner\n")
    for place, limit in ((group, "max"), (group.parent, "5000")):
        (place / "memory.max").write_text(f"{limit}\n")
        (place / "memory.current").write_text("4000\n")
        (place / "memory.stat").write_text("anon 3000\ninactive_file 700\n")
    assert _groups(root, own) == [(5000, 3300)]
    assert _groups(root, tmp_path / "none") == []
    assert 0 < available_bytes(torch.device("cpu")) < total_bytes(torch.device("cpu"))
