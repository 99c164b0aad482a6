"""Students and teachers that cannot do what a command asks."""

from pathlib import Path

import pytest
from tests.cli.conftest import Codestill, assert_refused
from tests.support.gguf_files import write_gguf
from tests.support.tiny import tiny_model, tiny_tokenizer
from transformers import BertConfig, BertForMaskedLM

from codestill.evaluation import read_evaluation

TASKS = ("--evaluate.tasks", "tasks.jsonl", "--examples.tasks")
LOGITS = ("run", "logit_kd", *TASKS, "train.jsonl:train")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two causal models that differ in their tokenizers, an encoder, and directories that are no model."""
    root = tmp_path_factory.mktemp("models")
    tiny_model(root / "wide", "gpt2", vocabulary=320)
    tiny_model(root / "narrow", "gpt2", vocabulary=300)
    BertForMaskedLM(
        BertConfig(
            vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
        )
    ).save_pretrained(root / "encoder")
    tiny_tokenizer().save_pretrained(str(root / "encoder"))
    (root / "empty").mkdir()
    (root / "file").touch()
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{")
    return root


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere", "does not exist"),
        ("empty", "holds no config.json"),
        ("file", "is a file"),
        ("broken", "broken"),
        ("encoder", "not a causal language model but BertForMaskedLM"),
    ],
)
def test_a_model_directory_that_is_none(codestill: Codestill, models: Path, name: str, part: str) -> None:
    evaluate = codestill("evaluate", models / name, "--tasks", "tasks.jsonl", "--run-dir", "run")
    assert_refused(evaluate, name, part)
    student = codestill("run", "sft", "--student", models / name, *TASKS, "train.jsonl:train")
    assert_refused(student, name, part)
    teacher = codestill(*LOGITS, "--student", models / "wide", "--teacher", models / name)
    assert_refused(teacher, name, part)


def test_logits_need_one_vocabulary(codestill: Codestill, models: Path) -> None:
    outcome = codestill(*LOGITS, "--student", models / "narrow", "--teacher", models / "wide")
    assert_refused(outcome, "disagree on", "is no token for the student", "train on the teacher's text")
    assert not Path("runs/logit_kd/student").exists()


def test_a_teacher_behind_an_endpoint_has_no_logits(codestill: Codestill) -> None:
    Path("mine.yaml").write_text("teacher: {type: api, model: gpt-5}\n")
    assert_refused(codestill(*LOGITS, "--config", "mine.yaml"), "an endpoint teaches", "teacher.logprobs")
    assert not Path("runs").exists()


@pytest.mark.parametrize("tasks", ["tasks.jsonl", "pocket:test"])
def test_training_on_a_test_split_is_refused(codestill: Codestill, models: Path, tasks: str) -> None:
    outcome = codestill("run", "sft", "--student", models / "wide", *TASKS, tasks)
    assert_refused(outcome, "test tasks", "allow_test_split")
    assert not Path("runs/sft/student").exists()


def test_a_hub_model_without_the_hub(codestill: Codestill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outcome = codestill("evaluate", "nobody/nothing", "--tasks", "tasks.jsonl", "--run-dir", "run")
    assert_refused(outcome, "nobody/nothing is not a directory here", "HF_HUB_OFFLINE")


def test_a_gguf_file_is_evaluated_under_its_name(
    codestill: Codestill, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tiny_model(tmp_path / "source", "llama")
    write_gguf(source, tmp_path / "small.gguf", "Q8_0")
    short = ("--evaluate.samples-per-task", "1", "--evaluate.max-new-tokens", "4", "--evaluate.no-profile")
    done = codestill("evaluate", "small.gguf", "--tasks", "tasks.jsonl", *short, "--run-dir", "run")
    assert done.code == 0, done.err
    assert "small.gguf: Q8_0 weights, dequantised" in done.out
    result = read_evaluation(Path("run/results/student.json"))
    assert (result.model, result.quantization) == ("small.gguf", "Q8_0")
    assert codestill("report", "run").code == 0
    assert "small.gguf, Q8_0" in Path("run/report.html").read_text()


def test_a_damaged_gguf_file(codestill: Codestill, models: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\3\0\0\0")
    evaluate = codestill("evaluate", "cut.gguf", "--tasks", "tasks.jsonl", "--run-dir", "run")
    assert_refused(evaluate, "cut.gguf", "cut short, damaged")
    student = codestill("run", "sft", "--student", "cut.gguf", *TASKS, "train.jsonl:train")
    assert_refused(student, "cut.gguf", "cut short, damaged")
    teacher = codestill(*LOGITS, "--student", models / "wide", "--teacher.model", "cut.gguf")
    assert_refused(teacher, "cut.gguf", "cut short, damaged")
