"""A teacher with a prompt of its own: it reads the student's completion, and is read where the student is."""

from pathlib import Path

import pytest
import torch
from tests.support.tiny import CPU
from tests.support.worlds import examples, open_run, student

from codestill.capture import CaptureConfig, capture
from codestill.errors import ConfigError, LogitsError
from codestill.logits import Threshold
from codestill.losses.batch import Positions
from codestill.losses.targets import LinearTeacher
from codestill.matmul import matmul
from codestill.teachers import LocalTeacherConfig
from codestill.teachers.cached import CachedLogits
from codestill.teachers.frozen import LocalTeacher
from codestill.train.batches import TEACHERS_POSITIONS, Collator, tokenize, tokenize_within
from codestill.train.live import live_targets
from codestill.types import Example


@pytest.fixture(scope="module")
def teacher() -> LocalTeacher:
    return LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)


def shown(count: int = 3) -> list[Example]:
    """Examples of which the second has no prompt for the teacher, the others have two lengths of it."""
    given = examples(count)
    prompts = [f"{one.prompt}{one.completion}\n{one.prompt}" for one in given]
    prompts[1] = ""
    prompts[2] = "# short\n" + given[2].prompt
    return [one.model_copy(update={"teacher_prompt": p}) for one, p in zip(given, prompts, strict=True)]


def test_the_teacher_reads_the_same_ids_behind_its_own_prompt(teacher: LocalTeacher) -> None:
    given = shown()
    plain = tokenize(examples(3), teacher.codec, None)
    for one, without, tokens in zip(given, plain, tokenize(given, teacher.codec, None), strict=True):
        assert tokens.tokens == without.tokens
        assert tokens.digest == without.digest
        taught = tokens.as_taught
        assert taught.tokens[taught.prompt_length :] == tokens.tokens[tokens.prompt_length :]
        wanted = teacher.codec.prompt(one.teacher_prompt or one.prompt)
        assert taught.tokens[: taught.prompt_length] == wanted


@pytest.mark.parametrize("hidden", [True, False])
def test_its_logits_stand_where_the_student_predicts_the_same_tokens(
    hidden: bool, teacher: LocalTeacher
) -> None:
    tokens = tokenize(shown(), teacher.codec, None)
    inputs = Collator(teacher.pad_id)(list(enumerate(tokens)))
    found = live_targets(teacher, inputs, hidden)
    assert isinstance(found, LinearTeacher) == hidden
    logits_BTV = matmul(found.hidden_BTD, found.head_VD.T) if isinstance(found, LinearTeacher) else found
    positions = Positions.of(inputs["labels"], teacher.vocabulary_size)
    logits_NV = logits_BTV[positions.rows, positions.columns]
    alone, plain = [], []
    for one in tokens:
        for wanted, read in ((alone, one.as_taught), (plain, one)):
            ids = torch.tensor([read.tokens])
            whole_TV = teacher.logits(ids, torch.ones_like(ids))[0]
            wanted.append(whole_TV[read.first_scored - 1 : -1])
    torch.testing.assert_close(logits_NV, torch.cat(alone), rtol=1e-4, atol=1e-4)
    # Behind the task alone they are others, except where the teacher has no prompt of its own.
    apart = (logits_NV - torch.cat(plain)).abs().amax(dim=-1).split([len(rows) for rows in plain])
    assert apart[0].max() > 0.1 and apart[2].max() > 0.1
    assert apart[1].max() < 1e-3


def test_a_batch_without_such_prompts_is_what_it_was(teacher: LocalTeacher) -> None:
    inputs = Collator(teacher.pad_id)(list(enumerate(tokenize(examples(2), teacher.codec, None))))
    assert not [name for name in inputs if name.startswith("teacher_")]


def test_a_cache_holds_what_the_teacher_says_behind_its_own_prompt(
    teacher: LocalTeacher, tmp_path: Path
) -> None:
    given, learner = shown(), student()
    config = CaptureConfig(truncation=Threshold(min_probability=1e-7))
    with open_run(tmp_path / "run") as run:
        cache = capture(given, teacher, (1.0,), config, tmp_path / "logits", run, learner.codec)
        inputs = Collator(teacher.pad_id)(list(enumerate(tokenize(given, learner.codec, None))))
        read = (inputs[name] for name in ("input_ids", "attention_mask", "labels"))
        targets = CachedLogits(cache, 1.0).targets(*read)
        live_BTV = live_targets(teacher, inputs, hidden=False)
        assert isinstance(live_BTV, torch.Tensor)
        positions = Positions.of(inputs["labels"], teacher.vocabulary_size)
        wanted_NV = live_BTV[positions.rows, positions.columns].log_softmax(dim=-1)
        best_N = targets.log_probabilities_NK.argmax(dim=-1, keepdim=True)
        ids_N1 = targets.ids_NK.gather(1, best_N).long()
        torch.testing.assert_close(
            targets.log_probabilities_NK.gather(1, best_N).float(),
            wanted_NV.gather(1, ids_N1),
            rtol=0,
            atol=0.02,
        )
        other = given[0].model_copy(update={"example_id": "other", "teacher_prompt": "# else\n"})
        with pytest.raises(LogitsError, match="differ in the teacher's prompt alone"):
            capture([*given, other], teacher, (1.0,), config, tmp_path / "more", run, learner.codec)


def test_the_teachers_own_prompt_must_fit_its_positions(teacher: LocalTeacher) -> None:
    given = shown()
    lengths = [len(one.as_taught.tokens) for one in tokenize(given, teacher.codec, None)]
    limits = {"train.max_length": 512, TEACHERS_POSITIONS: max(lengths) - 1}
    kept, said = tokenize_within(limits, given, teacher.codec)
    assert len(kept) == 2
    assert "or" in said and "behind the teacher's own prompt" in said
    with pytest.raises(ConfigError, match="behind the teacher's own prompt"):
        tokenize_within(limits, given[:1], teacher.codec)
