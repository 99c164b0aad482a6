from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.worlds import examples, metrics, open_run, student

from codestill.errors import ConfigError
from codestill.losses import CrossEntropy
from codestill.losses.batch import IGNORED
from codestill.train import TrainConfig, fit
from codestill.train.batches import BUCKET, Collator, LengthBatches, TokenExample, tokenize
from codestill.types import Event, Example

lengths_and_budgets = given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=40),
    budget=st.integers(8, 400),
    world=st.integers(1, 3),
    seed=st.integers(0, 5),
)


@settings(max_examples=50, deadline=None)
@lengths_and_budgets
def test_every_epoch_covers_every_example_once_within_the_budget(
    lengths: list[int], budget: int, world: int, seed: int
) -> None:
    ranks = [LengthBatches(lengths, budget, seed, rank=rank, world=world) for rank in range(world)]
    for epoch in (0, 1, 5):
        seen: Counter[int] = Counter()
        for batches in ranks:
            batches.set_epoch(epoch)
            made = list(batches)
            assert len(made) == len(batches) == len(ranks[0])
            for batch in made:
                width = max((-(-lengths[index] // BUCKET) * BUCKET for index in batch), default=0)
                assert width * len(batch) <= budget or len(batch) == 1
                seen.update(batch)
        assert seen == Counter(range(len(lengths)))


def test_ranks_share_out_the_batches_of_one_process() -> None:
    lengths = list(range(1, 60))
    alone = list(LengthBatches(lengths, 200, 3))
    shares = [list(LengthBatches(lengths, 200, 3, rank=rank, world=2)) for rank in range(2)]
    together = [batch for pair in zip(*shares, strict=True) for batch in pair]
    assert together[: len(alone)] == alone
    assert together[len(alone) :] in ([], [[]])


def test_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = [8] * 50

    def order(seed: int, epoch: int) -> list[list[int]]:
        batches = LengthBatches(lengths, 32, seed)
        list(batches)  # an epoch read before must leave no trace
        batches.set_epoch(epoch)
        return list(batches)

    assert order(0, 1) == order(0, 1)
    assert len({str(order(seed, epoch)) for seed in range(2) for epoch in range(2)}) == 4


def test_without_a_seed_batches_follow_length() -> None:
    assert list(LengthBatches([30, 8, 16, 8], 16, None)) == [[1, 3], [2], [0]]


def test_targets_are_the_completion_and_its_end() -> None:
    model = student()
    given = examples(3)
    tokens = tokenize(given, model.tokenizer, 512)
    batch = Collator(model.pad_id)(list(enumerate(tokens)))
    assert batch["input_ids"].shape[1] % BUCKET == 0
    assert model.pad_id != model.eos_id
    for row, example in enumerate(given):
        labels = batch["labels"][row]
        targets = labels[labels != IGNORED].tolist()
        assert targets[-1] == model.eos_id
        assert model.tokenizer.decode(targets[:-1]) == example.completion
        read = batch["input_ids"][row][batch["attention_mask"][row] == 1].tolist()
        assert model.tokenizer.decode(read[:-1]) == example.prompt + example.completion
        after = int(batch["attention_mask"][row].sum())
        assert (batch["input_ids"][row, after:] == model.pad_id).all()
        assert (labels[after:] == IGNORED).all()


def test_end_is_a_target_where_it_also_pads() -> None:
    batch = Collator(0)([(0, TokenExample([5, 6, 0], 1, "a")), (1, TokenExample([5] * 9, 8, "b"))])
    assert batch["labels"][0].tolist() == [IGNORED, 6, 0] + [IGNORED] * 13
    assert batch["labels"][1].tolist() == [IGNORED] * 8 + [5] + [IGNORED] * 7


def test_first_token_is_no_target() -> None:
    """Nothing predicts it, so it must not count as one either."""
    batch = Collator(0)([(0, TokenExample([5, 6, 7], 0, "a"))])
    assert batch["labels"][0, :3].tolist() == [IGNORED, 6, 7]


def test_empty_batch_has_no_target() -> None:
    batch = Collator(0)([])
    assert batch["input_ids"].shape == (1, BUCKET)
    assert (batch["labels"] == IGNORED).all()
    assert batch["attention_mask"].any(dim=1).all()
    assert len(batch["example_index"]) == 0


def test_long_examples_are_left_out_and_said(tmp_path: Path) -> None:
    model = student()
    given = examples(6)
    lengths = sorted(len(example.tokens) for example in tokenize(given, model.tokenizer, 512))
    said: list[Event] = []
    with open_run(tmp_path / "run", said.append) as run:
        fit(model, given, CrossEntropy(), TrainConfig(max_steps=1, max_length=lengths[3]), run)
    assert any("2 training examples exceed" in event.message for event in said)
    assert len(metrics(tmp_path / "run")) == 1


@pytest.mark.parametrize("given", [[], [Example(example_id="a", prompt="x = ", completion="1" * 40)]])
def test_no_example_left(given: list[Example], tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run, pytest.raises(ConfigError, match=r"no training example is left"):
        fit(student(), given, CrossEntropy(), TrainConfig(max_steps=1, max_length=16), run)
