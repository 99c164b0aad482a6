"""The Modelfile asks as the tokenizer's own template does."""

from typing import Any

import pytest
from tests.support.tiny import tiny_tokenizer

from codestill.errors import ModelError
from codestill.export.ollama import ChatTemplate, modelfile
from codestill.models.saved import SavedForm

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]


def tokenizer(template: str | None, *more: str) -> Any:
    found = tiny_tokenizer()
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *more]})
    found.chat_template = template
    return found


def test_pieces_are_those_of_the_template() -> None:
    found = ChatTemplate.of(tokenizer(CHATML))
    assert found.without_system == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    assert found.before_answer == "<|im_end|>\n<|im_start|>assistant\n"
    assert found.between == "<|im_end|>\n<|im_start|>user\n" and found.end == "<|im_end|>"
    assert found.in_go == (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n<|im_start|>user\n{{ else }}"
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{{ end }}{{ $asked := false }}"
        '{{ range .Messages }}{{ if eq .Role "user" }}{{ if $asked }}<|im_end|>\n<|im_start|>user\n{{ end }}'
        "{{ .Content }}<|im_end|>\n<|im_start|>assistant\n{{ $asked = true }}"
        '{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}{{ end }}'
    )


def test_a_conversation_reads_as_the_template_makes_it() -> None:
    known = tokenizer(CHATML)
    found = ChatTemplate.of(known)
    talk = [
        ("system", "S"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
        ("user", "e"),
    ]
    for messages in (talk, talk[1:], talk[1:2]):
        said = [{"role": role, "content": text} for role, text in messages]
        expected = known.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        assert found.applied(messages) == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (CHATML.replace("{{ m['content'] }}", "{{ m['content'] | upper }}"), "changes or repeats"),
        (CHATML.replace("{% endfor %}", "{{ loop.index }}{% endfor %}"), "more than its turns"),
    ],
)
def test_a_template_that_does_more_is_refused(template: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        ChatTemplate.of(tokenizer(template))


def test_a_model_that_continues_is_not_put_into_a_template() -> None:
    for known, continues in ((tokenizer(None), False), (tokenizer(CHATML), True)):
        text = modelfile(known, SavedForm(chat=False if continues else "auto"), 256)
        assert 'TEMPLATE """{{ .Prompt }}"""' in text and "PARAMETER num_ctx 256\n" in text
        assert f'PARAMETER stop "{known.eos_token}"' in text and "im_end" not in text


def test_a_gap_is_asked_for_with_the_tokens_of_the_tokenizer() -> None:
    text = modelfile(tokenizer(CHATML, *FIM), SavedForm(), 256, "Free.\n")
    assert (
        '"""{{ if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>{{ else }}'
        in text
    )
    assert 'PARAMETER stop "<|im_end|>"' in text and 'PARAMETER stop "<|fim_prefix|>"' in text
    assert text.endswith('LICENSE """Free."""\n')
    untrained = modelfile(tokenizer(CHATML, *FIM), SavedForm(fills_gaps=False), 256)
    assert ".Suffix" not in untrained and ".Suffix" in modelfile(
        tokenizer(CHATML, *FIM), SavedForm(fills_gaps=True), 256
    )


def test_what_cannot_be_quoted_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot stand in a Modelfile"):
        modelfile(tokenizer(None), SavedForm(), 256, 'A licence with """ in it.')
