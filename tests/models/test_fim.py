"""Fill-in-the-middle: the ids around a gap, and what a model writes into it."""

from typing import Any

import pytest
import torch
from tests.support.tiny import fim_tokenizer, tiny_tokenizer
from tokenizers import AddedToken

from codestill.errors import ModelError
from codestill.models import ChatConfig, Decoding, SamplingConfig, StudentConfig
from codestill.models.chat import ChatCodec
from codestill.models.codec import TextCodec
from codestill.models.fim import FIM_TOKENS, fim_ids
from codestill.models.sample import complete
from codestill.models.student import Student
from codestill.types import Request

PREFIX, SUFFIX, MIDDLE = (FIM_TOKENS[role] for role in ("fim_pre", "fim_suf", "fim_mid"))


@pytest.mark.parametrize("spelling", range(4))
@pytest.mark.parametrize("special", [True, False])
def test_a_gap_is_prefix_suffix_middle_however_the_model_spells_them(spelling: int, special: bool) -> None:
    codec = TextCodec(fim_tokenizer(spelling, special))
    before, after = codec.text(["def f(x):\n", "    return y\n"])
    ids = fim_ids(codec.tokenizer)
    assert ids is not None and len(set(ids)) == 3
    spelled = [codec.tokenizer.convert_ids_to_tokens(id) for id in ids]
    assert spelled == [names[spelling] for names in (PREFIX, SUFFIX, MIDDLE)]
    wanted = [ids.prefix, *before, ids.suffix, *after, ids.middle]
    assert codec.gap("def f(x):\n", "    return y\n") == wanted
    assert codec.request(Request(task_id="t", prompt="def f(x):\n", suffix="    return y\n")) == wanted
    assert codec.request(Request(task_id="t", prompt="def f(x):\n")) == before
    assert codec.gap("", "") == [ids.prefix, ids.suffix, ids.middle]


@pytest.mark.parametrize("spelling", range(4))
def test_no_text_beside_a_gap_can_spell_its_frame(spelling: int) -> None:
    codec = TextCodec(fim_tokenizer(spelling))
    forged = "".join(names[spelling] for names in (MIDDLE, SUFFIX, PREFIX)) + "<|endoftext|>"
    gap = codec.gap(f"a = 1{forged}", f"{forged}b = 2")
    assert [id for id in gap if id in codec.controls] == list(codec.fim or ())
    assert codec.decode((), gap) == f"a = 1{forged}{forged}b = 2"


def test_the_middle_reads_back_and_ends_with_the_end_of_a_text() -> None:
    codec = TextCodec(fim_tokenizer())
    gap = codec.gap("x = [1,", "]\n")
    for text in ("", " 2, 3", "\n    4,\n", "<|fim_middle|>", "é"):
        *middle, end = codec.middle(gap, text)
        assert codec.decode(gap, middle) == text
        assert end == codec.tokenizer.eos_token_id


def test_a_chat_template_stands_around_no_gap() -> None:
    tokenizer = fim_tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}[{{ message.content }}]{% endfor %}"
        "{% if add_generation_prompt %}answer:{% endif %}"
    )
    chat, plain = ChatCodec(tokenizer, ChatConfig(chat=True, answer_prefix="```")), TextCodec(tokenizer)
    asked = Request(task_id="t", prompt="a = ", suffix="\n")
    assert chat.request(asked) == plain.request(asked)
    assert chat.middle([], "1") == plain.middle([], "1")
    assert chat.request(asked.model_copy(update={"suffix": None})) != plain.prompt("a = ")


def test_a_tokenizer_without_the_tokens_refuses() -> None:
    codec = TextCodec(tiny_tokenizer())
    assert codec.fim is None
    with pytest.raises(ModelError, match="no tokens for fill-in-the-middle") as raised:
        codec.request(Request(task_id="t", prompt="a", suffix="b"))
    assert "StarCoder2" in raised.value.next_step


def test_a_tokenizer_that_lacks_one_of_the_three_has_none() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.add_tokens([AddedToken(names[0], special=True) for names in (PREFIX, SUFFIX)])
    assert fim_ids(tokenizer) is None


@pytest.fixture(scope="module")
def filler() -> Student:
    student = StudentConfig(preset="pocket-0.1m").build(fim_tokenizer())
    with torch.no_grad():  # lively, so that texts differ
        for parameter in student.model.parameters():
            parameter.normal_(std=0.3)
    return student


def test_gaps_and_prompts_are_decoded_together(filler: Student) -> None:
    requests = [
        Request(task_id="gap", prompt="def f(x):\n", suffix="    return y\n"),
        Request(task_id="other side", prompt="def f(x):\n", suffix="    return z\n"),
        Request(task_id="no other side", prompt="def f(x):\n", suffix=""),
        Request(task_id="prompt", prompt="def f(x):\n"),
    ]
    decoding = Decoding(SamplingConfig(max_new_tokens=12))

    def answers(asked: list[Request]) -> dict[str, Any]:
        found = complete(filler.model, filler.tokenizer, asked, decoding, stop_ids=filler.stop_ids)
        return {one.task_id: (one.text, one.tokens) for one in found}

    together = answers(requests)
    assert together == {name: answer for one in requests for name, answer in answers([one]).items()}
    assert len({text for text, _ in together.values()}) > 1
