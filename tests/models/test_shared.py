"""A prompt's keys and values held once for its samples: the same tokens, and other models as they were."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_sample import PROMPTS, draw, requests
from tests.support.tiny import save_model, tiny_config, tiny_tokenizer
from transformers import (
    Gemma2Config,
    JambaConfig,
    MambaConfig,
    OpenAIGPTConfig,
    PreTrainedModel,
    RwkvConfig,
)

from codestill.errors import ModelError
from codestill.models import cohorts, shared
from codestill.models.decode import OwnPrompts, WholeTexts
from codestill.models.profile import _time_once
from codestill.models.shared import SHARED, SharedPrompts, can_share, memory_for
from codestill.models.student import Student
from codestill.models.tokenizers import encode_prompt
from codestill.teachers.frozen import LocalTeacher


def made(directory: Path, kind: str, **changes: Any) -> Student:
    return Student.load(
        save_model(directory, tiny_config(kind, **changes), tiny_tokenizer(), 1), device="cpu"
    )


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.95}], ids=["greedy", "sampled"])
def test_samples_are_those_of_rows_with_prompts_of_their_own(
    student: Student, sampling: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_share(student.model)
    before = student.model.config._attn_implementation
    wanted = requests(samples=6)
    found = draw(student, wanted, batch=8, **sampling)
    assert student.model.config._attn_implementation == before
    monkeypatch.setattr(shared, "can_share", lambda model: False)
    assert draw(student, wanted, batch=8, **sampling) == found


def test_a_prompt_is_read_once_however_many_samples_wait(
    llama: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, ...]] = []

    def count(model: PreTrainedModel, prompts: list[tuple[int, ...]], pad: int) -> Any:
        read.extend(prompts)
        return prefill(model, prompts, pad)

    assert can_share(llama.model)
    prefill = cohorts.prefill
    monkeypatch.setattr(cohorts, "prefill", count)
    draw(llama, requests(samples=9), temperature=1.0, batch=4)
    assert sorted(read) == sorted(tuple(encode_prompt(llama.tokenizer, prompt)) for prompt in PROMPTS)


def test_logits_are_those_of_a_plain_pass_while_rows_come_and_go(llama: Student) -> None:
    a, b, c = ((5, 6, 7, 8), (9, 3), (4, 4, 4, 2, 7, 7))
    memory = SharedPrompts(llama.model, 0)
    texts = [list(prompt) for prompt in (a, a, b)]
    logits, last = memory.add([a, a, b])
    position = last
    random = torch.Generator().manual_seed(0)

    def advance() -> None:
        nonlocal logits, position
        tokens = torch.randint(1, 300, (len(texts),), generator=random)
        position = position + 1
        logits = memory.step(tokens, position)
        for text, token in zip(texts, tokens.tolist(), strict=True):
            text.append(token)

    def check() -> None:
        for text, row in zip(texts, logits, strict=True):
            plain = llama.model(torch.tensor([text])).logits[0, -1]
            torch.testing.assert_close(row, plain, rtol=1e-4, atol=1e-4)

    with torch.inference_mode():
        check()
        for _ in range(3):
            advance()
        check()
        new_logits, last = memory.add([c, a])
        texts += [list(c), list(a)]
        logits, position = torch.cat([logits, new_logits]), torch.cat([position, last])
        check()
        advance()
        check()
        alive = torch.tensor([0, 3])
        memory.keep(alive)
        texts, position = [texts[0], texts[3]], position[alive]
        assert set(memory.prompts) == {a, c}
        advance()
        check()
        memory.keep(torch.tensor([], dtype=torch.long))
        logits, position = memory.add([b, a, b])
        memory.keep(torch.tensor([1, 2]))  # one goes before its first token is read
        texts, logits, position = [list(a), list(b)], logits[1:], position[1:]
        check()
        advance()
        check()


def test_a_model_with_another_attention_keeps_its_own(tmp_path: Path) -> None:
    config = Gemma2Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    config._attn_implementation = "eager"
    student = Student.load(save_model(tmp_path, config, tiny_tokenizer()), device="cpu")
    before = student.model.config._attn_implementation
    assert not can_share(student.model)
    assert student.model.config._attn_implementation == before
    assert isinstance(memory_for(student.model, 0, 10), OwnPrompts)
    assert draw(student, requests(samples=2))


def test_a_window_that_sequences_exceed_is_respected(tmp_path: Path) -> None:
    student = made(tmp_path / "narrow", "starcoder2", sliding_window=16, num_hidden_layers=1)
    wide = made(tmp_path / "wide", "starcoder2", sliding_window=64)
    assert isinstance(memory_for(student.model, 0, 17), OwnPrompts)
    assert isinstance(memory_for(wide.model, 0, 64), SharedPrompts)
    prompt = student.tokenizer(PROMPTS[3], return_tensors="pt")
    answer = student.model.generate(**prompt, do_sample=False, max_new_tokens=24, pad_token_id=0)  # pyright: ignore
    text = student.tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert draw(student, requests())["task/3#0"].text == text


def test_attention_of_other_callers_is_refused(llama: Student) -> None:
    llama.model.config._attn_implementation = SHARED
    with pytest.raises(NotImplementedError):
        llama.model(torch.tensor([[1, 2]]))


def test_rows_may_end_before_their_first_token_is_kept(llama: Student) -> None:
    prompts: list[tuple[int, ...]] = [tuple(encode_prompt(llama.tokenizer, text)) for text in PROMPTS[:2]]
    found = []
    for memory in (OwnPrompts(llama.model, 0), SharedPrompts(llama.model, 0)):
        _, last_B = memory.add([prompts[i] for i in (0, 1, 0)])
        alive = torch.tensor([0, 2])
        memory.keep(alive)
        with torch.inference_mode():
            found.append(memory.step(torch.tensor([4, 7]), last_B[alive] + 1))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


OTHERS = {
    "mamba": lambda shared: MambaConfig(**shared, state_size=4),
    "rwkv": lambda shared: RwkvConfig(**shared, attention_hidden_size=32, context_length=128),
    "jamba": lambda shared: JambaConfig(
        **shared,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        mamba_d_state=4,
        num_experts=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        use_mamba_kernels=False,
    ),
    "openai-gpt": lambda shared: OpenAIGPTConfig(vocab_size=320, n_embd=32, n_layer=2, n_head=4),
}


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Student:
    """A model without keys and values of the usual kind."""
    shared = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2}
    config = OTHERS[request.param]({**shared, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0})
    return Student.load(save_model(tmp_path / "other", config, tiny_tokenizer()), device="cpu")


@pytest.mark.filterwarnings("ignore")
def test_models_without_keys_and_values_are_sampled_all_the_same(
    other: Student, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(memory_for(other.model, 0, 10), WholeTexts)
    found = draw(other, requests(samples=2), batch=4, max_new_tokens=6)
    assert caplog.text.count("keep no keys and values that can be shared out") == 1
    for key, done in found.items():
        text = PROMPTS[int(key[5])]
        ids = encode_prompt(other.tokenizer, text)
        new: list[int] = []
        with torch.inference_mode():
            while len(new) < 6 and other.codec.end not in new:
                logits = other.model(torch.tensor([[*ids, *new]]), use_cache=False).logits
                new.append(int(logits[0, -1].argmax()))
        assert done.tokens == len(new)
        assert done.text == other.tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.filterwarnings("ignore")
def test_models_without_keys_and_values_are_timed_and_teach(other: Student) -> None:
    _time_once(other.model, 5, 4)
    teacher = LocalTeacher(other.model, other.tokenizer, "other")
    ids = torch.tensor([[3, 4, 5, 6, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        plain = other.model(ids[:, :4], use_cache=False).logits
    torch.testing.assert_close(teacher.logits(ids, mask)[:, :4], plain, rtol=1e-4, atol=1e-4)
    linear = teacher.linear(ids, mask)
    if linear is not None:
        torch.testing.assert_close((linear.hidden_BTD @ linear.head_VD.T)[:, :4], plain, rtol=1e-4, atol=1e-4)


def test_a_model_that_fails_however_it_is_run_is_refused_by_name(
    llama: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise TypeError("no such argument")

    monkeypatch.setattr(type(llama.model), "forward", fails)
    with pytest.raises(ModelError, match=r"type llama cannot be sampled from: .* no such argument"):
        memory_for(llama.model, 0, 10)


@torch.inference_mode()
def test_texts_of_mixed_lengths_keep_their_order(llama: Student) -> None:
    prompts = [(5,), (6, 7), (8, 9, 10), (11,), (12, 13)]
    logits, _ = WholeTexts(llama.model).add(prompts)
    for prompt, row in zip(prompts, logits, strict=True):
        torch.testing.assert_close(row, llama.model(torch.tensor([prompt])).logits[0, -1])
