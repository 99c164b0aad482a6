"""Local weights evaluated: through their chat template, and with prompts that leave them no room."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.tiny import save_model, tiny_config
from tests.support.token_families import changed

from codestill.errors import ModelError
from codestill.evaluation import EvaluateModel, evaluate_model
from codestill.models.chat import ChatCodec
from codestill.models.codec import TextCodec
from codestill.run import Run
from codestill.types import Evaluation, Event

TASKS = [
    {
        "task_id": name,
        "prompt": f'def {name}(x):\n    """{words}"""\n',
        "entry_point": name,
        "reference": "    return x + 1\n",
        "tests": [f"assert {name}(1) == 2"],
    }
    for name, words in (("short", "Add 1."), ("long", "Add 1 to the number, please. " * 9))
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model of 384 positions whose tokenizer has a chat template, and two tasks."""
    tokenizer = changed("chat")
    config = tiny_config("llama", len(tokenizer), positions=384)
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    return save_model(tmp_path / "model", config, tokenizer)


def evaluated(place: Path, said: list[Event] | None = None, **settings: Any) -> Evaluation:
    evaluate = {
        "tasks": {"source": "jsonl", "path": str(place.parent / "tasks.jsonl")},
        "samples_per_task": 1,
        "max_new_tokens": 4,
        "profile": False,
    }
    given = {"model": str(place), "evaluate": evaluate, "execution": {"device": "cpu"}, **settings}
    config = EvaluateModel.model_validate(given)
    with Run.open(
        place.parent / f"run-{len(list(place.parent.iterdir()))}",
        config,
        [([] if said is None else said).append],
    ) as run:
        return evaluate_model(config, run)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the model reads, in order."""
    seen: list[str] = []
    for kind in (TextCodec, ChatCodec):

        def watched(self: TextCodec, prompt: str, encode: Any = kind.prompt) -> list[int]:
            ids = encode(self, prompt)
            seen.append(str(self.tokenizer.decode(ids)))
            return ids

        monkeypatch.setattr(kind, "prompt", watched)
    return seen


@pytest.mark.parametrize(
    ("prompts", "chat", "wraps"),
    [
        ("auto", "auto", True),
        ("auto", False, False),
        ("instruct", "auto", True),
        ("instruct", False, False),
        ("continued", "auto", False),
        ("continued", True, True),
    ],
)
def test_the_chat_template_is_put_around_what_instructs_unless_told_otherwise(
    prompts: str, chat: bool | str, wraps: bool, place: Path, asked: list[str]
) -> None:
    said: list[Event] = []
    found = evaluated(place, said, prompts=prompts, chat=chat)
    assert bool(found.chat) == wraps
    assert found.prompts.startswith(
        "instruct" if prompts == "instruct" or (wraps and prompts == "auto") else "continued"
    )
    assert asked and all(text.startswith("<|im_start|>user\n") == wraps for text in asked)
    assert all(text.endswith("<|im_start|>assistant\n") == wraps for text in asked)
    way = "in the tokenizer's chat template" if wraps else "as texts to continue"
    assert f"the model is asked {way}" in [event.message for event in said]


def test_without_a_template_questions_are_asked_as_they_are_and_a_demand_is_refused(
    place: Path, asked: list[str]
) -> None:
    (place / "chat_template.jinja").unlink()
    assert not evaluated(place, prompts="instruct").chat
    assert not any("<|im_start|>" in text for text in asked)
    asked.clear()
    with pytest.raises(ModelError, match="chat is set, but the tokenizer of model has no chat template"):
        evaluated(place, prompts="instruct", chat=True)
    assert not asked


def test_a_served_model_takes_no_chat_setting() -> None:
    with pytest.raises(ValidationError, match=r"set served\.endpoint"):
        EvaluateModel.model_validate({"model": "big", "served": {"base_url": "http://x/v1"}, "chat": True})


@pytest.mark.parametrize("chat", [False, True])
def test_a_prompt_without_room_is_named_and_the_rest_is_done(chat: bool, place: Path) -> None:
    tasks = [TASKS[0], {**TASKS[1], "prompt": TASKS[1]["prompt"] + "    # more\n" * 60}]
    (place.parent / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    said: list[Event] = []
    found = evaluated(place, said, chat=chat)
    assert found.unfinished["prompt_too_long"] == 1
    assert found.per_task == {"short": (1, 0), "long": (1, 0)}
    told = [event.message for event in said if "no room" in event.message]
    assert told == ["1 of 2 prompts leave model no room, and count as failures: long"]
