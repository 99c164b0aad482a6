"""OpenAI's client, and the same tokens as the student's own ``complete``."""

from typing import Any

import pytest
import torch
from tests.serve.conftest import Served

from codestill.models import Decoding, SamplingConfig
from codestill.models.student import Student
from codestill.serve.service import TASK
from codestill.types import Completion, Request

PROMPT = 'def add(first, second):\n    """Return the sum of two numbers."""\n'


def completed(
    student: Student, prompt: str, count: int = 1, seed: int = 0, **sampling: Any
) -> list[Completion]:
    """What ``complete`` answers."""
    asked = [Request(task_id=TASK, prompt=prompt, sample=sample) for sample in range(count)]
    decoding = Decoding(SamplingConfig(**sampling), seed=seed)
    return sorted(student.complete(asked, decoding), key=lambda one: one.sample)


def own(student: Student, prompt: str, count: int = 1, seed: int = 0, **sampling: Any) -> list[str]:
    """Its texts."""
    return [one.text for one in completed(student, prompt, count, seed, **sampling)]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8}, {"temperature": 1.1, "top_p": 0.8}])
def test_an_answer_is_that_of_complete(
    sampling: dict[str, float], served: Served, continuing: Student
) -> None:
    seed = 7 if sampling else 0
    answer = served.client.completions.create(
        model="tiny", prompt=PROMPT, max_tokens=24, n=3, seed=seed, **{"temperature": 0, **sampling}
    )
    expected = completed(continuing, PROMPT, 3, seed, max_new_tokens=24, **sampling)
    assert [choice.text for choice in answer.choices] == [one.text for one in expected]
    assert [choice.finish_reason for choice in answer.choices] == [one.finish for one in expected]
    assert len({one.text for one in expected}) == (3 if sampling else 1)
    assert answer.usage and answer.usage.completion_tokens == sum(one.tokens for one in expected)


def test_prompts_of_text_and_of_ids_give_the_same(served: Served, continuing: Student) -> None:
    ids = continuing.codec.prompt(PROMPT)
    asked: list[Any] = [PROMPT, ids, [PROMPT, "class"], [ids, continuing.codec.prompt("class")]]
    texts = [
        [one.text for one in served.client.completions.create(model="tiny", prompt=p, max_tokens=9).choices]
        for p in asked
    ]
    assert texts[0] == texts[1] and texts[2] == texts[3] and texts[2][0] == texts[0][0]


def test_without_a_seed_samples_differ(served: Served) -> None:
    ask = {"model": "tiny", "prompt": PROMPT, "max_tokens": 24, "temperature": 1.0}
    texts = {served.client.completions.create(**ask).choices[0].text for _ in range(3)}
    assert len(texts) == 3


@pytest.mark.parametrize("stop", [[], ["e"], ["s", "zz"], ["\n"]])
def test_the_parts_of_a_stream_are_the_whole(stop: list[str], served: Served, continuing: Student) -> None:
    ask: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 40, "stop": stop, "n": 2}
    ask |= {"temperature": 1.0, "seed": 5, "logprobs": 1}
    whole = served.client.completions.create(**ask)
    texts, tokens, reasons, counted = ["", ""], [[], []], ["", ""], 0
    for chunk in served.client.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        counted = chunk.usage.completion_tokens if chunk.usage else counted
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
            tokens[choice.index] += (choice.logprobs and choice.logprobs.tokens) or []
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert tokens == [choice.logprobs and choice.logprobs.tokens for choice in whole.choices]
    full = own(continuing, PROMPT, 2, 5, max_new_tokens=40, temperature=1.0)
    cuts = [min((t.find(s) for s in stop if s in t), default=len(t)) for t in full]
    assert texts == [text[:cut] for text, cut in zip(full, cuts, strict=True)]
    assert (counted == 80) == (not stop)


def test_log_probabilities_are_the_models_own(served: Served, continuing: Student) -> None:
    ask: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "logprobs": 3, "seed": 2}
    more = {"return_token_ids": True}
    answer = served.client.completions.create(**ask, temperature=1.0, extra_body=more).choices[0]
    found: Any = answer.logprobs
    extra: Any = answer.model_extra
    ids, prompt = extra["token_ids"], extra["prompt_token_ids"]
    assert prompt == continuing.codec.prompt(PROMPT) and found.token_ids == ids and len(ids) == 6
    with torch.no_grad():
        logits = continuing.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    log_p = logits.log_softmax(-1)
    assert found.token_logprobs == pytest.approx(log_p[range(6), ids].tolist(), abs=1e-4)
    for listed, row in zip(found.top_logprobs, log_p, strict=True):
        assert sorted(listed.values()) == pytest.approx(sorted(row.topk(3).values.tolist()), abs=1e-4)
    text = continuing.codec.decode(prompt, ids)
    assert answer.text == text
    for token, start in zip(found.tokens, found.text_offset, strict=True):
        broken = "\ufffd" in text[: start + 1]  # bytes that are no text have no place in it
        assert broken or token.startswith("bytes:") or text[start:].startswith(token)
    named = served.client.completions.create(
        **ask, temperature=1.0, extra_body={"return_tokens_as_token_ids": True}
    )
    assert named.choices[0].logprobs and named.choices[0].logprobs.tokens == [f"token_id:{i}" for i in ids]


def test_an_echo_has_the_prompts_log_probabilities(served: Served, continuing: Student) -> None:
    answer = served.client.completions.create(
        model="tiny", prompt=PROMPT, max_tokens=0, echo=True, logprobs=1
    ).choices[0]
    ids = continuing.codec.prompt(PROMPT)
    with torch.no_grad():
        log_p = continuing.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert answer.text == PROMPT and answer.logprobs and answer.logprobs.token_logprobs
    first, *others = answer.logprobs.token_logprobs
    expected = [float(log_p[place, id]) for place, id in enumerate(ids[1:])]
    assert first is None and others == pytest.approx(expected, abs=1e-4)


def test_a_long_prompt_is_scored_in_pieces_as_it_is_whole(
    continuing: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codestill.serve import scoring

    ids = continuing.codec.prompt(PROMPT * 3)
    with torch.no_grad():
        whole = scoring.score(continuing, ids, 4)
        monkeypatch.setattr(scoring, "CHUNK", 16)
        pieces = scoring.score(continuing, ids, 4)
    assert whole[0] is None and len(whole) == len(ids) == len(pieces)
    for a, b in zip(whole[1:], pieces[1:], strict=True):
        assert a and b and [id for id, _ in a] == [id for id, _ in b]
        assert [p for _, p in a] == pytest.approx([p for _, p in b], abs=1e-4)


def test_text_never_spells_a_control_token(served: Served, continuing: Student) -> None:
    spelled = served.client.completions.create(
        model="tiny", prompt="x<|endoftext|>", max_tokens=1, extra_body={"return_token_ids": True}
    ).choices[0]
    ids: Any = (spelled.model_extra or {})["prompt_token_ids"]
    assert not set(ids) & set(continuing.codec.controls)


def test_models_are_listed(served: Served) -> None:
    (model,) = served.client.models.list().data
    assert model.id == "tiny" and served.client.models.retrieve("tiny").id == "tiny"
