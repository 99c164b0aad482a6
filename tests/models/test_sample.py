from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny import CODE, tiny_config, tiny_model
from tests.support.token_families import family
from transformers import AutoModelForCausalLM, MambaConfig, MptConfig, XLNetConfig

from codestill.models import ChatConfig, Decoding, Placement
from codestill.models.batch import position_limit
from codestill.models.codec import TextCodec
from codestill.models.pick import pick
from codestill.models.rows import CHECK_EVERY
from codestill.models.settings import SamplingConfig
from codestill.models.student import Student
from codestill.models.tokenizers import encode_prompt
from codestill.types import Completion, Request

LINES = CODE.strip().splitlines()
PROMPTS = ["\n".join(LINES[:count]) for count in (1, 4, 2, 9, 3)]


def requests(samples: int = 1) -> list[Request]:
    return [
        Request(task_id=f"task/{i}", prompt=prompt, sample=sample)
        for i, prompt in enumerate(PROMPTS)
        for sample in range(samples)
    ]


def draw(
    student: Student, wanted: list[Request], seed: int = 0, batch: int = 192, **sampling: float
) -> dict[str, Completion]:
    config = SamplingConfig.model_validate({"max_new_tokens": 24, **sampling})
    placed = replace(student, placement=Placement(decode_batch=batch))
    return {done.key: done for done in placed.complete(wanted, Decoding(config, seed=seed))}


def test_greedy_equals_generate_token_by_token(student: Student) -> None:
    done = draw(student, requests())
    for request in requests():
        prompt = student.tokenizer(request.prompt, return_tensors="pt")
        answer = student.model.generate(**prompt, do_sample=False, max_new_tokens=24, pad_token_id=0)  # pyright: ignore
        new = answer[0, prompt["input_ids"].shape[1] :]
        assert done[request.key].tokens == len(new)
        assert done[request.key].text == student.tokenizer.decode(new, skip_special_tokens=True)
        assert done[request.key].finish == ("stop" if new[-1] == student.codec.end else "length")


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_completion_does_not_depend_on_its_batch(student: Student, top_p: float) -> None:
    wanted = requests(samples=3)
    together = draw(student, wanted, temperature=0.8, top_p=top_p)
    assert draw(student, wanted, temperature=0.8, top_p=top_p, batch=2) == together
    assert draw(student, wanted[::-1], temperature=0.8, top_p=top_p, batch=7) == together
    alone = wanted[4]
    assert draw(student, [alone], temperature=0.8, top_p=top_p)[alone.key] == together[alone.key]


def test_samples_and_seeds_differ_and_repeat(llama: Student) -> None:
    first = draw(llama, requests(samples=4), temperature=1.0)
    texts = [first[f"task/0#{sample}"].text for sample in range(4)]
    assert len(set(texts)) == 4
    assert draw(llama, requests(samples=4), temperature=1.0) == first
    other = draw(llama, requests(samples=4), temperature=1.0, seed=1)
    assert [other[key].text for key in first] != [done.text for done in first.values()]


def test_samples_follow_the_models_distribution(llama: Student) -> None:
    prompt = LINES[0]
    count = 4000
    wanted = [Request(task_id="t", prompt=prompt, sample=sample) for sample in range(count)]
    seen = [
        done.text for done in draw(llama, wanted, batch=count, temperature=0.7, max_new_tokens=1).values()
    ]
    ids = torch.tensor([encode_prompt(llama.tokenizer, prompt)])
    with torch.no_grad():
        expected = (llama.model(ids).logits[0, -1] / 0.7).softmax(-1)
    by_text: dict[str, float] = {}  # some ids decode alike, e.g. half of a character
    for token, probability in enumerate(expected.tolist()):
        text = str(llama.tokenizer.decode([token]))
        by_text[text] = by_text.get(text, 0.0) + probability
    for text, probability in by_text.items():
        error = 5 * (probability * (1 - probability) / count) ** 0.5 + 1 / count
        assert abs(seen.count(text) / count - probability) < error


def test_pick_walks_the_cdf() -> None:
    logits = torch.tensor([[0.2, 0.5, 0.0, 0.3]]).log().repeat(4, 1)
    uniform = torch.tensor([0.01, 0.19, 0.21, 0.999999], dtype=torch.float64)
    assert pick(logits, SamplingConfig(temperature=1), uniform).tolist() == [0, 0, 1, 3]
    # By falling probability: 0.5 (id 1), 0.3 (id 3), 0.2 (id 0); half of the mass is id 1 alone.
    nucleus = SamplingConfig(temperature=1, top_p=0.75)
    assert pick(logits, nucleus, uniform).tolist() == [1, 1, 1, 3]
    assert pick(logits, SamplingConfig(temperature=1, top_p=0.45), uniform).tolist() == [1, 1, 1, 1]
    assert pick(logits, SamplingConfig(temperature=0.01), uniform).tolist() == [1, 1, 1, 1]
    assert pick(logits, SamplingConfig(), None).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("levels", [3, 40, None], ids=["ties", "some ties", "no ties"])
def test_a_nucleus_is_the_same_whether_all_is_sorted_or_the_likeliest(
    levels: int | None, monkeypatch: pytest.MonkeyPatch
):
    """Row by row: rows with narrow and with wide nuclei, alone and together."""
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(60, 300, generator=random) * torch.linspace(0.1, 9, 60)[:, None]
    if levels is not None:
        logits = (logits * levels / 9).round() * 9 / levels
    uniform = torch.rand(60, generator=random, dtype=torch.float64)
    sampling = SamplingConfig(temperature=0.9, top_p=0.9)
    sorted_whole = pick(logits, sampling, uniform)
    monkeypatch.setattr("codestill.models.pick.LIKELIEST", 16)
    assert torch.equal(pick(logits, sampling, uniform), sorted_whole)
    alone = [pick(logits[row : row + 1], sampling, uniform[row : row + 1]) for row in range(60)]
    assert torch.equal(torch.cat(alone), sorted_whole)
    assert len(sorted_whole.unique()) > 20


def test_stop_rule_ends_a_row_and_no_other(llama: Student) -> None:
    free = draw(llama, requests(), max_new_tokens=40)
    victim = max(free.values(), key=lambda done: done.tokens)
    assert victim.tokens == 40
    start = victim.text[:3]
    config = SamplingConfig(max_new_tokens=40)
    held = {
        done.key: done
        for done in llama.complete(requests(), Decoding(config, stopped=lambda text: text.startswith(start)))
    }
    stopped = held[victim.key]
    assert stopped.finish == "stop"
    assert stopped.tokens == CHECK_EVERY
    assert victim.text.startswith(stopped.text)
    others = [key for key in free if not free[key].text.startswith(start)]
    assert others
    assert all(held[key] == free[key] for key in others)


def test_stop_rule_is_asked_at_the_end(llama: Student) -> None:
    few = SamplingConfig(max_new_tokens=3)
    done = list(llama.complete(requests(), Decoding(few, stopped=lambda text: True)))
    assert {completion.finish for completion in done} == {"stop"}


def test_position_limit_ends_a_completion(tmp_path: Path) -> None:
    for kind in ("gpt2", "llama"):
        student = Student.load(tiny_model(tmp_path / kind, kind, positions=64, seed=1), device="cpu")
        prompt = "x" * 50
        length = len(encode_prompt(student.tokenizer, prompt))
        wanted = [Request(task_id="t", prompt=prompt, sample=sample) for sample in range(8)]
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=500)
        done = list(student.complete(wanted, Decoding(sampling)))
        assert max(completion.tokens for completion in done) == 64 - length


def test_too_long_a_prompt_gets_an_empty_answer_and_is_named(
    saved_short: Student, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = [
        Request(task_id=name, prompt="x" * length, sample=sample)
        for name, length in (("fits", 63), ("full", 64), ("long", 900))
        for sample in range(2)
    ]
    done = draw(saved_short, wanted)
    assert done.keys() == {request.key for request in wanted}
    for key, completion in done.items():
        fits = key.startswith("fits")
        assert completion.finish == ("length" if fits else "prompt_too_long")
        assert completion.tokens == (1 if fits else 0)
    assert (
        "2 prompts fill all 64 positions of the model, and their answers are empty: full, long" in caplog.text
    )


def test_a_limit_is_found_under_any_of_its_names() -> None:
    assert position_limit(tiny_config("gpt2", positions=99)) == 99
    assert position_limit(tiny_config("llama", positions=98)) == 98
    assert position_limit(MptConfig(max_seq_len=97)) == 97
    assert position_limit(MambaConfig()) is None
    assert position_limit(XLNetConfig()) is None


def test_a_chat_prompt_is_never_cut(saved_short: Student) -> None:
    saved_short.tokenizer.chat_template = "{{ messages[0].content }}" + "!" * 60
    chatting = saved_short.asked_as(ChatConfig(chat=True), "chat")
    done = draw(chatting, [Request(task_id="a", prompt="x" * 3), Request(task_id="b", prompt="x" * 4)])
    assert [done[key].finish for key in ("a#0", "b#0")] == ["length", "prompt_too_long"]


@pytest.fixture
def saved_short(tmp_path: Path) -> Student:
    return Student.load(tiny_model(tmp_path / "short", "gpt2", positions=64, vocabulary=257), device="cpu")


def test_rows_beyond_the_tokenizer_are_never_drawn(tmp_path: Path) -> None:
    student = Student.load(tiny_model(tmp_path / "wide", "llama", vocab_size=2000), device="cpu")
    sampling = {"temperature": 2.0, "max_new_tokens": 32}
    assert all(done.text for done in draw(student, requests(samples=2), **sampling).values())
    logits = torch.zeros(1, 2000)
    logits[0, 1999] = 9
    assert pick(logits[:, : len(student.tokenizer)], SamplingConfig(), None).item() < len(student.tokenizer)


def test_modes_are_restored(llama: Student) -> None:
    llama.model.train()
    completions = llama.complete(requests(), Decoding(SamplingConfig(max_new_tokens=2)))
    next(completions)
    assert not torch.is_inference_mode_enabled()
    completions.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert llama.model.training


@pytest.mark.parametrize("name", ["chat", "llama-legacy", "slow"])
def test_any_special_token_ends_a_completion_and_is_not_in_its_text(name: str) -> None:
    tokenizer: Any = family(name)
    model: Any = AutoModelForCausalLM.from_config(tiny_config("gpt2", len(tokenizer)))
    student = Student(model, tokenizer, name)
    first, word = student.codec.prompt("f")[-1], TextCodec(tokenizer).text(["x"])[0][-1]
    follows = {first: word}

    def says(module: Any, args: Any, given: Any, output: Any) -> None:
        for row, id in enumerate(given["input_ids"][:, -1].tolist()):
            output.logits[row, -1] = torch.arange(len(tokenizer)) == follows.get(id, word)

    model.register_forward_hook(says, with_kwargs=True)
    assert draw(student, [Request(task_id="t", prompt="f")])["t#0"].tokens == 24
    for control in list(TextCodec(tokenizer).controls)[:6]:
        follows[word] = control
        done = draw(student, [Request(task_id="t", prompt="f")])["t#0"]
        assert (done.text, done.tokens, done.finish) == ("x", 2, "stop"), control


def test_every_end_that_the_generation_config_names_ends_a_completion(llama: Student) -> None:
    llama.model.generation_config.eos_token_id = [7, 9]  # pyright: ignore
    assert llama.stop_ids == {0, 7, 9}


def test_prompts_get_a_bos_and_never_an_eos(llama: Student) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = llama.tokenizer
    plain = tokenizer.encode("def f", add_special_tokens=False)
    assert encode_prompt(tokenizer, "def f") == plain
    assert encode_prompt(tokenizer, "") == [tokenizer.eos_token_id]
    eos = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(  # pyright: ignore
        single=f"{eos} $A {eos}", special_tokens=[(eos, 0)]
    )
    assert encode_prompt(tokenizer, "def f") == [0, *plain]
