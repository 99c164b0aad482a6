from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny import CPU, save_model, tiny_config, tiny_model, tiny_tokenizer
from tests.support.token_families import FAMILIES, family
from tests.support.worlds import examples, metrics, open_run, student
from transformers import AutoModelForCausalLM, MambaConfig

from codestill.errors import ConfigError
from codestill.losses import CrossEntropy, Distillation
from codestill.losses.batch import IGNORED
from codestill.models import Decoding, SamplingConfig
from codestill.models.student import Student
from codestill.models.tokenizers import decode_completion, encode_prompt
from codestill.teachers.frozen import LocalTeacher
from codestill.train import TrainConfig, fit
from codestill.train.batches import BUCKET, Collator, LengthBatches, TokenExample, tokenize
from codestill.types import Event, Example, Fault, Request

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
    tokens = tokenize(given, model.codec, 512)
    batch = Collator(model.pad_id)(list(enumerate(tokens)))
    assert batch["input_ids"].shape[1] % BUCKET == 0
    assert model.pad_id != model.codec.end
    for row, example in enumerate(given):
        labels = batch["labels"][row]
        targets = labels[labels != IGNORED].tolist()
        assert targets[-1] == model.codec.end
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
    lengths = sorted(len(example.tokens) for example in tokenize(given, model.codec, 512))
    said: list[Event] = []
    with open_run(tmp_path / "run", said.append) as run:
        fit(model, given, CrossEntropy(), TrainConfig(max_steps=1, max_length=lengths[3]), run)
    assert any("2 training examples exceed" in event.message for event in said)
    assert len(metrics(tmp_path / "run")) == 1


@pytest.mark.parametrize("given", [[], [Example(example_id="a", prompt="x = ", completion="1" * 40)]])
def test_no_example_left(given: list[Example], tmp_path: Path) -> None:
    with open_run(tmp_path / "run") as run, pytest.raises(ConfigError, match=r"no training example is left"):
        fit(student(), given, CrossEntropy(), TrainConfig(max_steps=1, max_length=16), run)


CONTROL = '    eos = "<|endoftext|>"\n    return text.split(eos)\n'


@pytest.mark.parametrize("name", FAMILIES)
def test_an_example_ends_once_and_reads_back(name: str) -> None:
    tokenizer: Any = family(name)
    prompt = "def f(text):\n"
    wrong = (Fault(completion="    return '</s>'\n", source="mutation", error="AssertionError"),)
    given = Example(example_id="a", prompt=prompt, completion=CONTROL, faults=wrong)
    (tokens,) = tokenize([given], tokenizer, 4096, faults=True)
    asked = encode_prompt(tokenizer, prompt)
    for ids, text in ((tokens.tokens, CONTROL), (tokens.faults[0], wrong[0].completion)):
        assert ids[: tokens.prompt_length] == asked
        assert ids[-1] == tokenizer.eos_token_id
        assert ids.count(tokenizer.eos_token_id) == 1
        assert decode_completion(tokenizer, asked, ids[len(asked) : -1]) == text


@pytest.mark.parametrize(
    "name", ["llama-legacy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("chat", "unigram"))]
)
def test_what_is_learnt_by_heart_is_what_is_sampled(name: str, tmp_path: Path) -> None:
    tokenizer: Any = family(name)
    given = [
        Example(example_id=f"{i}", prompt=prompt, completion=completion)
        for i, (prompt, completion) in enumerate(
            [
                ("def add(a, b):\n", "    total = a + b\n    return total\n"),
                ('def end():\n    """E."""\n', '    return "<|endoftext|>" + "</s>"\n'),
                ("def same(x):\n    return ", "x  # é\n"),
            ]
        )
    ]
    torch.manual_seed(0)
    config: Any = tiny_config("llama", len(tokenizer))
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    learner = Student(AutoModelForCausalLM.from_config(config), tokenizer, name, placement=CPU)
    steps = TrainConfig(
        max_steps=60,
        checkpoint_steps=60,
        accumulation=1,
        learning_rate=0.02,
        schedule="constant",
        precision="float32",
    )
    with open_run(tmp_path / "run") as run:
        learner = fit(learner, given, CrossEntropy(), steps, run)
    asked = [Request(task_id=example.example_id, prompt=example.prompt) for example in given]
    done = {d.task_id: d.text for d in learner.complete(asked, Decoding(SamplingConfig(max_new_tokens=90)))}
    assert done == {example.example_id: example.completion for example in given}


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_teacher_with_fewer_positions_limits_the_examples(kind: str, tmp_path: Path) -> None:
    teacher = LocalTeacher.load(tiny_model(tmp_path / "teacher", kind, positions=24), device="cpu")
    learner = Student.load(tiny_model(tmp_path / "student", "llama", positions=256), device="cpu")
    short, long = "    return x\n", "    return x\n" * 9
    given = [
        Example(example_id=name, prompt="def f(x):\n", completion=text)
        for name, text in (("short", short), ("long", long))
    ]
    said: list[Event] = []
    one = TrainConfig(max_steps=1)
    with open_run(tmp_path / "run", said.append) as run:
        learner = fit(learner, given, Distillation(), one, run, teacher=teacher, validation=given)
    told = [event.message for event in said if "exceed" in event.message]
    assert told == [
        f"1 {what} examples exceed 24 tokens (the teacher's positions): left out"
        for what in ("training", "validation")
    ]
    with (
        open_run(tmp_path / "none") as run,
        pytest.raises(ConfigError, match=r"none has at most 24 tokens \(the teacher's positions\)"),
    ):
        fit(learner, given[1:], Distillation(), one, run, teacher=teacher)
    with open_run(tmp_path / "text") as run:  # cross-entropy asks no teacher
        fit(learner, given[1:], CrossEntropy(), one, run, teacher=teacher)


@pytest.mark.filterwarnings("ignore")
def test_a_state_space_model_is_trained_by_one(tmp_path: Path) -> None:
    config = MambaConfig(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=4,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    place = save_model(tmp_path / "mamba", config, tiny_tokenizer())
    learner, teacher = Student.load(place, device="cpu"), LocalTeacher.load(place, device="cpu")
    given = [Example(example_id="a", prompt="def f(x):\n", completion="    return x\n")]
    with open_run(tmp_path / "run") as run:
        fit(learner, given, Distillation(), TrainConfig(max_steps=1), run, teacher=teacher)
    (event,) = metrics(tmp_path / "run")
    assert float(event.metrics["divergence"] or 0) == pytest.approx(0, abs=1e-5)
