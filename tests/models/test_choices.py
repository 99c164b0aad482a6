"""A choice between words: one pass, the model's own probabilities, and nothing that the batch decides."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tiny import CPU, tiny_model

from codestill.errors import ModelError
from codestill.models import ChatConfig, Decoding, SamplingConfig
from codestill.models.completer import begun, shares
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.frozen import LocalTeacher
from codestill.types import Request

YES_NO = Decoding(SamplingConfig(), choices=("yes", "no"))
PROMPTS = ("Right?", "Is the program right? Say yes or no.", "def f(x):\n", "Is it?")


@pytest.fixture(scope="module", params=["gpt2", "qwen2"])
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalTeacher:
    place = tiny_model(tmp_path_factory.mktemp("m"), request.param)
    return LocalTeacherConfig(model=str(place), dtype="float32").build(CPU)


def asked(*prompts: str) -> list[Request]:
    return [Request(task_id=f"t/{n}", prompt=prompt) for n, prompt in enumerate(prompts)]


def test_the_choices_have_the_models_own_probabilities(teacher: LocalTeacher):
    """Against a plain pass: the sum over the ids whose text is y, Y, ye, n, No and so on."""
    found = list(teacher.complete(asked(*PROMPTS), YES_NO))
    ids = range(len(teacher.tokenizer))
    texts = ["" if id == 0 else str(teacher.tokenizer.decode([id])).strip().lower() for id in ids]
    for prompt, answer in zip(PROMPTS, found, strict=True):
        tokens_1T = torch.tensor([teacher.codec.prompt(prompt)])
        likely_V = teacher.logits(tokens_1T, torch.ones_like(tokens_1T))[0, -1].softmax(-1)
        want = [
            sum(likely_V[id].item() for id, text in enumerate(texts) if text and word.startswith(text))
            for word in ("yes", "no")
        ]
        assert answer.probabilities == pytest.approx(want, rel=1e-4)
        assert 0 < sum(answer.probabilities) < 1
        assert answer.text == ("yes", "no")[want[1] > want[0]]
        assert (answer.tokens, answer.finish) == (1, "stop")


def test_a_choice_does_not_depend_on_what_else_is_asked(teacher: LocalTeacher):
    together = [one.probabilities for one in teacher.complete(asked(*PROMPTS), YES_NO)]
    alone = [next(iter(teacher.complete(asked(prompt), YES_NO))).probabilities for prompt in PROMPTS]
    assert together == alone


def test_a_prompt_without_room_has_no_choice(teacher: LocalTeacher):
    (answer,) = teacher.complete(asked("x " * 400), YES_NO)
    assert (answer.finish, answer.text, answer.probabilities) == ("prompt_too_long", "", ())


def test_a_word_that_no_token_begins_is_refused(teacher: LocalTeacher):
    same = Decoding(SamplingConfig(), choices=("yes", "yes"))
    with pytest.raises(ModelError, match=r"no token of .* begins 'yes'"):
        list(teacher.complete(asked("Right?"), same))


def test_which_choice_a_token_begins():
    words = ("yes", "no", "none")
    found = {
        token: begun(token, words) for token in (" Yes", "YE", "y", "n", "no", "non", "not", "", " ", "yes.")
    }
    begins = {token: choice for token, choice in found.items() if choice is not None}
    assert begins == {" Yes": 0, "YE": 0, "y": 0, "non": 2}


@given(st.lists(st.tuples(st.sampled_from(["yes", " No", "N", "maybe", ""]), st.floats(0, 1))))
def test_shares_add_up_what_begins_each(first: list[tuple[str, float]]):
    found = shares(first, ("yes", "no"))
    if not any(token.strip().lower() in ("yes", "no", "n") for token, _ in first):
        assert found == ()
    else:
        assert found == (
            sum(share for token, share in first if token == "yes"),
            sum(share for token, share in first if token in (" No", "N")),
        )


def test_a_chat_is_asked_in_its_template(tmp_path: Path):
    place = tiny_model(tmp_path, "qwen2")
    plain = LocalTeacherConfig(model=str(place), dtype="float32").build(CPU)
    plain.tokenizer.chat_template = "{{ messages[0]['content'] }} Then:"
    (in_chat,) = plain.asked_as(ChatConfig(chat=True), "chat").complete(asked("Right?"), YES_NO)
    (spelled,) = plain.complete(asked("Right? Then:"), YES_NO)
    assert in_chat.probabilities == pytest.approx(spelled.probabilities)
