"""A teacher's logits captured once: training from them, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.tiny import CPU, save_model, tiny_config, tiny_gpt2, tiny_model
from tests.support.token_families import family
from tests.support.worlds import examples, metrics, open_run, student, weights

from codestill.capture import CaptureConfig, CaptureRun, capture, capture_run, open_cache
from codestill.errors import ConfigError, LogitsError, VocabularyError
from codestill.logits import FixedK, LogitCache, Threshold
from codestill.losses import Distillation
from codestill.models.student import Student
from codestill.models.tokenizers import decode_completion, encode_prompt
from codestill.recipes import logit_kd
from codestill.run import Run
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.cached import CachedLogits
from codestill.teachers.frozen import LocalTeacher
from codestill.train import TrainConfig, fit
from codestill.train.batches import tokenize
from codestill.types import Event, Example

STEPS = TrainConfig(max_steps=3, batch_tokens=400, accumulation=1, precision="float32")


@pytest.fixture(scope="module")
def teacher() -> LocalTeacher:
    return LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)


@pytest.fixture(scope="module")
def cache(teacher: LocalTeacher, tmp_path_factory: pytest.TempPathFactory) -> LogitCache:
    root = tmp_path_factory.mktemp("cache")
    config = CaptureConfig(truncation=Threshold(min_probability=1e-7), tail_samples=4)
    with open_run(root / "run") as run:
        given = [*examples(8), *examples(2, "validation")]
        return capture(given, teacher, (1.0, 2.0), config, root / "logits", run)


@pytest.mark.parametrize("divergence", ["forward_kl", "generalized_jsd"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_trains_as_with_the_teacher(
    divergence: str, temperature: float, teacher: LocalTeacher, cache: LogitCache, tmp_path: Path
) -> None:
    """As near as the 256 most likely tokens of 1,024 and the mass of the others allow."""
    objective = Distillation.model_validate({"divergence": divergence, "temperature": temperature})
    sources = {"live": teacher, "cached": CachedLogits(cache, temperature)}
    terms = {}
    for name, source in sources.items():
        with open_run(tmp_path / name) as run:
            fit(
                student(),
                examples(8),
                objective,
                STEPS,
                run,
                teacher=source,
                validation=examples(2, "validation"),
            )
        stages = [*metrics(tmp_path / name), *metrics(tmp_path / name, "validation")]
        terms[name] = [event.metrics[term] for event in stages for term in ("cross_entropy", "divergence")]
    assert len(terms["live"]) >= 8
    assert terms["cached"] == pytest.approx(terms["live"], rel=0.02)


def test_every_rule_trains(cache: LogitCache, tmp_path: Path) -> None:
    for rule in ("bucket", "renormalise", "drop", "sampled"):
        with open_run(tmp_path / rule) as run:
            fit(student(), examples(4), Distillation(), STEPS, run, teacher=CachedLogits(cache, 2.0, rule))
        first, *_, last = (float(event.metrics["loss"] or 0) for event in metrics(tmp_path / rule))
        assert last < first


def test_a_finished_cache_is_read_and_not_made_again(
    teacher: LocalTeacher, cache: LogitCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("logits", "linear"):
        monkeypatch.setattr(LocalTeacher, name, lambda *_: pytest.fail("the teacher is asked again"))
    with open_run(tmp_path) as run:
        found = capture(examples(3), teacher, (2.0,), CaptureConfig(), cache.directory, run)
    assert found.manifest == cache.manifest
    said = (tmp_path / "accounting.json").read_text()
    assert "logits_bytes_per_token" in said and "logits_error_T2" in said


def test_error_is_measured_at_every_temperature_and_rule(cache: LogitCache) -> None:
    measured = {(one.temperature, one.rule): one for one in cache.manifest.error}
    assert set(measured) == {(t, r) for t in (1.0, 2.0) for r in ("bucket", "renormalise", "drop", "sampled")}
    assert 0 < measured[1.0, "bucket"].gradient_error < 0.01
    assert measured[2.0, "bucket"].gradient_error < measured[2.0, "renormalise"].gradient_error


def test_other_examples_another_teacher_and_another_tokenizer_are_refused(
    teacher: LocalTeacher, cache: LogitCache, tmp_path: Path
) -> None:
    config = CaptureConfig()
    with open_run(tmp_path / "run") as run:
        with pytest.raises(LogitsError, match="lacks 2 of 10 examples: pocket/train-0/8, pocket/train-0/9"):
            capture(examples(10), teacher, (2.0,), config, cache.directory, run)
        with pytest.raises(
            LogitsError, match=r"temperatures: the cache has \[1\.0, 2\.0\], expected \[3\.0\]"
        ):
            capture(examples(8), teacher, (3.0,), config, cache.directory, run)
        other = LocalTeacherConfig(model="pocket-base-0.1m", dtype="float32").build(CPU)
        with pytest.raises(LogitsError, match="weights: the cache has"):
            capture(examples(8), other, (2.0,), config, cache.directory, run)
        stranger = Student.load(tiny_gpt2(tmp_path / "stranger", positions=512))
        with pytest.raises(VocabularyError, match="was captured with the tokenizer"):
            fit(stranger, examples(8), Distillation(), STEPS, run, teacher=CachedLogits(cache, 2.0))
        with pytest.raises(LogitsError, match="does not hold sequence"):
            fit(student(), examples(10), Distillation(), STEPS, run, teacher=CachedLogits(cache, 2.0))


def test_the_teachers_own_product_is_what_is_captured(teacher: LocalTeacher, tmp_path: Path) -> None:
    """Every probability of a row of exactly 256, against the whole softmax."""
    with open_run(tmp_path / "run") as run:
        config = CaptureConfig(truncation=FixedK(k=256))
        made = capture(examples(2), teacher, (1.0,), config, tmp_path / "logits", run)
    for name in made:
        tokens, prompt_length = made.tokens(name)
        with torch.no_grad():
            log_p = teacher.model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        rows = made.targets([name], 1.0)
        wanted = log_p[prompt_length - 1 : -1].gather(1, torch.from_numpy(rows.ids_NK))
        likely = wanted > -7
        assert likely.sum() > len(rows)
        torch.testing.assert_close(
            torch.from_numpy(rows.log_probabilities_NK)[likely], wanted[likely], rtol=0, atol=0.1
        )


def test_a_finished_cache_trains_without_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {"source": "pocket", "split": "train", "count": 4, "depths": [1, 2]}
    settings = {
        "teacher": {"model": "pocket", "dtype": "float32"},
        "student": "pocket-0.1m",
        "teacher_logits": "cached",
        "cache": {"directory": tmp_path / "logits"},
        "examples": {"tasks": tasks, "validation": None},
        "train": STEPS.model_dump(),
        "evaluate": {
            "tasks": tasks | {"split": "test", "depths": [2]},
            "samples_per_task": 1,
            "max_new_tokens": 8,
            "profile": False,
        },
        "execution": {"device": "cpu"},
    }
    config = logit_kd.Config.model_validate(settings)
    for name in ("with", "without"):
        with Run.open(tmp_path / name, config) as run:
            logit_kd.distill(config, run)
        monkeypatch.setattr(LocalTeacher, "load", lambda *_, **__: pytest.fail("the teacher is loaded"))
    assert weights(tmp_path / "with") == weights(tmp_path / "without")
    more = settings | {"examples": {"tasks": tasks | {"count": 5}, "validation": None}}
    config = logit_kd.Config.model_validate(more)
    with (
        Run.open(tmp_path / "more", config) as run,
        pytest.raises(LogitsError, match="lacks 1 of 5 examples"),
    ):
        logit_kd.distill(config, run)


def test_two_processes_capture_what_one_does(tmp_path: Path) -> None:
    config = CaptureRun.model_validate(
        {
            "teacher": {"model": "pocket", "dtype": "float32"},
            "examples": {
                "tasks": {"source": "pocket", "split": "train", "count": 8, "depths": [2]},
                "validation": None,
            },
            "execution": {"device": "cpu", "threads": 1, "capture_batch_tokens": 150},
        }
    )
    for processes in (1, 2):
        changed = config.model_copy(update={"processes": processes})
        with Run.open(tmp_path / str(processes), changed) as run:
            capture_run(changed, run)
    one, two = (LogitCache.open(tmp_path / name / "logits") for name in ("1", "2"))
    assert {shard.name for shard in two.manifest.shards} == {"part-000-00000.logits", "part-001-00000.logits"}
    assert one.manifest.data == two.manifest.data and one.manifest.error == two.manifest.error
    names = sorted(one)
    for theirs, ours in zip(*(vars(cache.targets(names, 2.0)).values() for cache in (one, two)), strict=True):
        np.testing.assert_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_examples_beyond_the_teachers_positions_are_left_out_of_cache_and_training(
    kind: str, tmp_path: Path
) -> None:
    short_teacher = LocalTeacher.load(tiny_model(tmp_path / kind, kind, positions=24), device="cpu")
    given = [
        Example(example_id=str(lines), prompt="def f(x):\n", completion="    return x\n" * lines)
        for lines in (1, 2, 9)
    ]
    said: list[Event] = []
    config = CaptureConfig(truncation=Threshold(min_probability=1e-7))
    with open_run(tmp_path / "run", said.append) as run:
        made = capture(given, short_teacher, (1.0,), config, tmp_path / "logits", run)
        assert "1 examples exceed 24 tokens (the teacher's positions): left out" in [e.message for e in said]
        assert made.manifest.positions == 24 and made.manifest.sequences == 2
        again = open_cache(tmp_path / "logits", given, short_teacher.codec, (1.0,), config, run)
        learner = Student.load(tiny_model(tmp_path / "student", "llama", positions=256), device="cpu")
        fit(learner, given, Distillation(temperature=1.0), STEPS, run, teacher=CachedLogits(again, 1.0))
    assert len(metrics(tmp_path / "run")) == 3
    with (
        open_run(tmp_path / "none") as run,
        pytest.raises(ConfigError, match=r"none has at most 24 tokens \(the teacher's positions\)"),
    ):
        capture(given[2:], short_teacher, (1.0,), config, tmp_path / "other", run)


def test_a_cache_holds_the_ids_that_are_trained(tmp_path: Path) -> None:
    """With a tokenizer that puts a space before texts, and code that spells special tokens."""
    tokenizer: Any = family("llama-legacy")
    config = tiny_config("llama", len(tokenizer), bos_token_id=1, eos_token_id=2)
    made = LocalTeacher.load(save_model(tmp_path / "teacher", config, tokenizer), device="cpu")
    code = '    return "</s><s>" + x\n'
    given = [Example(example_id="a", prompt="def f(x):\n", completion=code)]
    with open_run(tmp_path / "run") as run:
        cache = capture(given, made, (1.0,), CaptureConfig(), tmp_path / "logits", run)
    (name,) = cache
    tokens, prompt_length = cache.tokens(name)
    prompt = encode_prompt(made.tokenizer, "def f(x):\n")
    assert list(tokens[:prompt_length]) == prompt
    assert decode_completion(made.tokenizer, prompt, list(tokens[prompt_length:-1])) == code
    (trained,) = tokenize(given, made.codec, 512)
    assert list(tokens) == trained.tokens
