"""Training to fill in the middle."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.tiny import CPU, fim_tokenizer
from tests.support.worlds import examples, fim_student, open_run, student

from codestill.errors import ConfigError
from codestill.losses import CrossEntropy
from codestill.models import StudentConfig
from codestill.models.saved import read_saved_form
from codestill.models.student import Student
from codestill.train import TrainConfig, fit, require_ready
from codestill.train.batches import tokenize
from codestill.train.gaps import with_gaps
from codestill.train.likelihood import nats
from codestill.types import Example, Fault


def test_a_gap_and_its_sides_are_the_text_that_they_were() -> None:
    given = examples(60)
    for share in (0.0, 0.5, 1.0):
        made = with_gaps(given, share, seed=1, chats=False)
        gaps = [(a, b) for a, b in zip(given, made, strict=True) if b.suffix is not None]
        assert abs(len(gaps) / len(given) - share) <= 0.2 * (0 < share < 1)
        for before, after in gaps:
            text = after.prompt + after.completion + (after.suffix or "")
            assert text == before.prompt + before.completion
            assert after.prompt.startswith(before.prompt) and after.completion
            assert (
                after.model_copy(
                    update={"prompt": before.prompt, "completion": before.completion, "suffix": None}
                )
                == before
            )
        assert with_gaps(made, share, seed=1, chats=False) == made


def test_half_of_the_gaps_take_whole_lines() -> None:
    made = with_gaps(examples(200), 1.0, seed=0, chats=False)
    whole = sum(gap.prompt.endswith("\n") and gap.completion.endswith("\n") for gap in made)
    assert 0.4 < whole / len(made) < 0.65


def test_of_a_chat_answer_the_program_is_what_has_a_gap() -> None:
    answer = "It adds.\n\n```python\ndef f(x):\n    return x + 1\n```"
    (gap,) = with_gaps([Example(example_id="a", prompt="Write f.", completion=answer)], 1.0, 0, chats=True)
    assert gap.prompt + gap.completion + (gap.suffix or "") == "def f(x):\n    return x + 1\n"
    (same,) = with_gaps([Example(example_id="a", prompt="Write f.", completion="No.")], 1.0, 0, chats=True)
    assert same.suffix is None


@pytest.mark.parametrize(
    "update",
    [
        {"faults": (Fault(completion="x", source="student", error=""),)},
        {"teacher_prompt": "another"},
        {"kept": "abc"},
        {"suffix": "there is one"},
    ],
)
def test_what_depends_on_its_prompt_stays_as_it_is(update: dict[str, object]) -> None:
    (one,) = examples(1)
    one = one.model_copy(update=update)
    assert with_gaps([one], 1.0, 0, chats=False) == [one]


def test_a_gaps_middle_is_the_only_target() -> None:
    given = StudentConfig(preset="pocket-0.1m").build(fim_tokenizer(), placement=CPU)
    gap = Example(example_id="a", prompt="x = [", completion="1, 2", suffix="]\n")
    (tokens,) = tokenize([gap], given.codec, None)
    assert tokens.tokens[: tokens.first_scored] == given.codec.gap("x = [", "]\n")
    assert given.codec.decode((), tokens.tokens[tokens.first_scored : -1]) == "1, 2"
    assert tokens.tokens[-1] == given.tokenizer.eos_token_id
    assert not tokenize([gap], given.codec, len(tokens.tokens) - 1)


def trained(directory: Path, fim: float) -> Student:
    given = replace(fim_student(directory.with_suffix(".tokenizer")), fills_gaps=False)
    assert "not trained to fill" in given.unfit_for_gaps
    config = TrainConfig(max_steps=30, learning_rate=2e-3, accumulation=1, fim=fim)
    with open_run(directory) as run:
        return fit(given, examples(60), CrossEntropy(), config, run)


def test_a_student_learns_to_fill_what_it_was_trained_to_fill(tmp_path: Path) -> None:
    learnt, never = trained(tmp_path / "gaps", 0.7), trained(tmp_path / "none", 0.0)
    other = with_gaps(examples(20, "validation"), 1.0, 0, chats=False)
    scores = [sum(nats(model, other).values()) for model in (learnt, never)]
    assert scores[0] < 0.9 * scores[1], scores
    assert learnt.fills_gaps is True and not learnt.unfit_for_gaps
    assert never.fills_gaps is False and never.unfit_for_gaps
    said = [read_saved_form(tmp_path / name / "student") for name in ("gaps", "none")]
    assert [form and form.fills_gaps for form in said] == [True, False]


def test_a_tokenizer_without_the_tokens_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    with open_run(tmp_path) as run, pytest.raises(ConfigError, match=r"train\.fim is 0\.5") as raised:
        require_ready(student(), TrainConfig(fim=0.5), run)
    assert "--student.tokenizer" in raised.value.next_step
    with open_run(tmp_path) as run, pytest.raises(ConfigError, match=r"train\.fim is 0\.5"):
        fit(student(), examples(2), CrossEntropy(), TrainConfig(fim=0.5), run)


def test_a_model_of_others_is_not_judged(tmp_path: Path) -> None:
    assert student("pocket-base").fills_gaps is None
