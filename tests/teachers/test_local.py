from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.support.tiny import CODE, CPU, tiny_gpt2, tiny_llama
from transformers import T5Config, T5ForConditionalGeneration

from codestill.errors import ModelError
from codestill.models import Completer, Decoding, SamplingConfig, StudentConfig
from codestill.models.student import Student
from codestill.teachers import LocalTeacherConfig, LogitTeacher
from codestill.teachers.frozen import LocalTeacher
from codestill.types import Request


@pytest.fixture
def teacher(tmp_path: Path) -> LocalTeacher:
    config = LocalTeacherConfig(model=str(tiny_llama(tmp_path / "teacher")), dtype="float32")
    return config.build(placement=CPU)


def test_config_defaults_and_string() -> None:
    assert LocalTeacherConfig().model == "bigcode/starcoder2-3b"
    assert LocalTeacherConfig().dtype == "bfloat16"
    assert LocalTeacherConfig.model_validate("pocket").model == "pocket"


def test_is_a_frozen_teacher_of_text_and_logits(teacher: LocalTeacher) -> None:
    assert isinstance(teacher, Completer)
    assert isinstance(teacher, LogitTeacher)
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert teacher.name == "teacher"


def test_completes_like_a_student(teacher: LocalTeacher, tmp_path: Path) -> None:
    wanted = [Request(task_id="t", prompt=CODE[:30], sample=sample) for sample in range(3)]
    sampling = SamplingConfig(temperature=0.8, max_new_tokens=12)
    student = Student.load(tmp_path / "teacher", device="cpu")
    assert list(teacher.complete(wanted, Decoding(sampling, seed=4))) == list(
        student.complete(wanted, Decoding(sampling, seed=4))
    )


def test_a_chat_template_is_put_around_what_it_is_asked(tmp_path: Path) -> None:
    place = tiny_llama(tmp_path / "teacher")
    config = LocalTeacherConfig(model=str(place), dtype="float32", chat=True)
    with pytest.raises(ModelError, match="has no chat template"):
        config.build(placement=CPU)
    plain = LocalTeacherConfig(model=str(place), dtype="float32").build(placement=CPU)
    template = "{% for m in messages %}# {{ m.role }}: {{ m.content }}\n{% endfor %}# assistant:"
    plain.tokenizer.chat_template = template
    plain.tokenizer.save_pretrained(str(place))
    teacher = config.build(placement=CPU)
    sampling = SamplingConfig(max_new_tokens=8)
    (said,) = teacher.complete([Request(task_id="t", prompt="add")], Decoding(sampling))
    (wanted,) = plain.complete([Request(task_id="t", prompt="# user: add\n# assistant:")], Decoding(sampling))
    assert said == wanted
    assert teacher.identity != plain.identity


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2], ids=["rotary", "absolute"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_do_not_depend_on_padding(make: Callable[[Path], Path], side: str, tmp_path: Path) -> None:
    """Nor on whether a model's positions are relative, as rotary ones are, or absolute."""
    teacher = LocalTeacherConfig(model=str(make(tmp_path / "made")), dtype="float32").build(placement=CPU)
    ids = torch.tensor([teacher.tokenizer.encode(CODE[:40])])
    length, pads = ids.shape[1], 5
    with torch.no_grad():
        expected = teacher.model(ids).logits
    zeros = torch.zeros(1, pads, dtype=torch.long)
    order = [zeros, ids] if side == "left" else [ids, zeros]
    mask = [zeros, torch.ones_like(ids)] if side == "left" else [torch.ones_like(ids), zeros]
    logits = teacher.logits(torch.cat(order, 1), torch.cat(mask, 1))
    assert logits.shape == (1, length + pads, teacher.vocabulary_size)
    kept = logits[:, pads:] if side == "left" else logits[:, :length]
    torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-4)


def test_logits_serve_a_students_backward_pass(teacher: LocalTeacher) -> None:
    student = StudentConfig(preset="pocket-0.1m").build(teacher.tokenizer, placement=CPU)
    ids = torch.tensor([teacher.tokenizer.encode(CODE[:40])])
    wanted = teacher.logits(ids, torch.ones_like(ids))
    width = teacher.vocabulary_size
    (student.model(ids).logits[..., :width] * wanted).sum().backward()
    assert all(parameter.grad is not None for parameter in student.model.parameters())


def test_other_kinds_and_missing_ones_are_refused(tmp_path: Path) -> None:
    t5 = tmp_path / "t5"
    T5ForConditionalGeneration(T5Config(vocab_size=320, d_model=16, d_ff=32, num_layers=1)).save_pretrained(
        t5
    )
    with pytest.raises(ModelError, match="not a causal language model"):
        LocalTeacherConfig(model=str(t5)).build(placement=CPU)
    with pytest.raises(ModelError, match="does not exist"):
        LocalTeacherConfig(model=str(tmp_path / "none")).build(placement=CPU)
    empty = tiny_gpt2(tmp_path / "empty")
    (empty / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        LocalTeacherConfig(model=str(empty)).build(placement=CPU)
