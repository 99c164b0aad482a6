"""A teacher's cached rows, read by a student with another tokenizer."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tiny import tiny_tokenizer
from tests.support.token_families import CHATML, changed, family
from tokenizers import AddedToken, normalizers

from codestill.errors import LogitsError, VocabularyError
from codestill.logits import CaptureSpec, LogitCache, LogitWriter, Threshold, finish
from codestill.logits.alignment import ABSENT, align
from codestill.logits.select import select_for
from codestill.losses import Distillation
from codestill.losses.compute import compute
from codestill.models.chat import ChatCodec
from codestill.models.codec import TextCodec
from codestill.models.fingerprints import tokenizer_fingerprint
from codestill.models.settings import ChatConfig
from codestill.models.token_bytes import token_bytes
from codestill.teachers.aligned import AlignedLogits, TokenizerPair
from codestill.teachers.cached import CachedLogits
from codestill.train.batches import Collator, TokenExample, tokenize
from codestill.types import Example

TEMPERATURES = (1.0, 2.0)
CODE = '    total = 10 + 345\n        return "漢字 naïve 🙂"  # done\n'


PIECES = (
    " 345",
    "10",
    "\n    ",
    "return",
    " total",
    "self.items",
    " or []",
    "def f(x):",
    "é",
    "漢字",
    "🙂",
    " ",
)
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text("aeilmst \n(=019é", max_size=12)
)


def rows_of(*completions: str, prompt: str = "def f(x):\n") -> list[Example]:
    return [Example(example_id=text, prompt=prompt, completion=text) for text in completions]


def captured(directory: Path, codec: TextCodec, examples: Sequence[Example], seed: int = 0) -> LogitCache:
    """A cache of a teacher whose logits are random, and lively."""
    vocabulary = max(codec.tokenizer.get_vocab().values()) + 1
    spec = CaptureSpec(
        teacher="t",
        weights="w",
        tokenizer=tokenizer_fingerprint(codec.tokenizer),
        vocabulary=vocabulary,
        temperatures=TEMPERATURES,
        truncation=Threshold(min_probability=1e-3),
    )
    generator = torch.Generator().manual_seed(seed)
    with LogitWriter.open(directory, spec) as writer:
        for one in {row.digest: row for row in tokenize(examples, codec, None)}.values():
            count = len(one.tokens) - one.first_scored
            logits_NV = 4 * torch.randn(count, vocabulary, generator=generator)
            writer.add(one.tokens, one.first_scored, select_for(spec, logits_NV))
    finish(directory)
    return LogitCache.open(directory)


def reader(
    directory: Path,
    student: TextCodec,
    teacher: TextCodec,
    examples: Sequence[Example],
    temperature: float = 2.0,
) -> AlignedLogits:
    pair = TokenizerPair(student, teacher)
    cache = captured(directory, pair.reader, examples)
    rows = zip(tokenize(examples, student, None), tokenize(examples, pair.reader, None), strict=True)
    return AlignedLogits.over(cache, temperature, pair, rows)


def batch_of(examples: Sequence[Example], codec: TextCodec) -> tuple[list[TokenExample], Any]:
    rows = tokenize(examples, codec, None)
    inputs = Collator(0)(list(enumerate(rows)))
    return rows, (inputs["input_ids"], inputs["attention_mask"], inputs["labels"])


STUDENT, TEACHER = TextCodec(tiny_tokenizer(320)), TextCodec(family("gpt2"))


def test_tokens_agree_where_both_cut() -> None:
    found = align([1, 2, 3, 1, 1], [1, 2, 1, 2, 2])
    assert found.rows_N.tolist() == [0, 1, ABSENT, ABSENT, ABSENT]
    assert found.shared_N.tolist() == [True, True, True, False, True]


@given(widths=st.lists(st.integers(1, 4), min_size=1), joins=st.sets(st.integers(0, 60)))
def test_alignment_is_what_comparing_all_spans_gives(widths: list[int], joins: set[int]) -> None:
    ends = np.cumsum(widths).tolist()
    other = np.diff([0, *(end for end in ends[:-1] if end not in joins), ends[-1]]).tolist()
    spans = [list(pairwise([0, *np.cumsum(some).tolist()])) for some in (widths, other)]
    found = align(widths, other)
    wanted = [spans[1].index(span) if span in spans[1] else ABSENT for span in spans[0]]
    assert found.rows_N.tolist() == wanted
    assert found.shared_N.tolist() == [end in {end for _, end in spans[1]} for _, end in spans[0]]


@settings(max_examples=15)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=3),
    exchanged=st.booleans(),
)
def test_every_row_is_a_distribution_over_the_same_event(
    texts: list[str], exchanged: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    student, teacher = (TEACHER, STUDENT) if exchanged else (STUDENT, TEACHER)
    examples = rows_of(*texts)
    logits = reader(tmp_path_factory.mktemp("cache"), student, teacher, examples)
    rows, batch = batch_of(examples, student)
    targets = logits.targets(*batch)
    mass_N = targets.log_probabilities_NK.exp().sum(1) + targets.log_tail_N.exp()
    torch.testing.assert_close(mass_N, torch.ones_like(mass_N), rtol=0, atol=1e-5)

    end = b"\xff the end"
    own, theirs = (token_bytes(codec) | {codec.end: end} for codec in (student, teacher))
    taught = tokenize(examples, teacher, None)
    at = 0
    for ours, other in zip(rows, taught, strict=True):
        kept = logits.cache.targets([other.digest], 2.0)
        wanted = {}
        start = 0
        for number, token in enumerate(other.tokens[other.first_scored :]):
            wanted[start, theirs[token]] = number
            start += len(theirs[token])
        start = 0
        for token in ours.tokens[ours.first_scored :]:
            number = wanted.get((start, own[token]))
            listed = targets.log_probabilities_NK[at] > -torch.inf
            ids, log_p = targets.ids_NK[at][listed].tolist(), targets.log_probabilities_NK[at][listed]
            found = {own[id]: p for id, p in zip(ids, log_p.tolist(), strict=True)}
            if number is None:
                assert not found and targets.log_tail_N[at] == 0
            else:
                source = zip(kept.ids_NK[number], kept.log_probabilities_NK[number], strict=True)
                named = {theirs.get(int(id), b""): float(p) for id, p in source if p > -np.inf}
                assert found == {data: p for data, p in named.items() if data in own.values()}
            start += len(own[token])
            at += 1
    assert at == len(targets.log_tail_N)


def taught(student: TextCodec, teacher: TextCodec, text: str) -> list[bytes]:
    """The student's tokens that get a distribution."""
    pair = TokenizerPair(student, teacher)
    (ours,), (theirs,) = (tokenize(rows_of(text), codec, None) for codec in (student, pair.reader))
    own = token_bytes(student) | {student.end: b"<end>"}
    tokens = ours.tokens[ours.first_scored :]
    return [
        own[token]
        for token, row in zip(tokens, pair.align(ours, theirs).rows_N, strict=True)
        if row != ABSENT
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (" 345", [b"<end>"]),  # one token of the teacher's, four of the student's
        (" n漢🙂", [b" n", *(bytes([byte]) for byte in "漢🙂".encode()), b"<end>"]),
        ("    return total\n", [b"  ", b" ", b" return", b"\n", b"<end>"]),
        ("", [b"<end>"]),
    ],
)
def test_digits_bytes_of_a_character_indentation_and_the_end(text: str, wanted: list[bytes]) -> None:
    assert taught(STUDENT, TEACHER, text) == wanted


def test_indentation_that_one_tokenizer_has_in_one_token() -> None:
    spaces = TextCodec(family("chat"))
    assert taught(STUDENT, spaces, "\n    x") == [b"x", b"<end>"]
    assert taught(spaces, spaces, "\n    x") == [b"\n", b"    ", b"x", b"<end>"]


@pytest.mark.parametrize("name", ["llama-legacy", "llama-first", "unigram"])
def test_sentence_pieces_align_with_bytes(name: str) -> None:
    found = b"".join(taught(TextCodec(family(name)), STUDENT, CODE))
    assert found.endswith(b"<end>") and "漢字".encode() in found and b"total" not in found


def test_a_text_that_one_tokenizer_normalises_is_not_aligned() -> None:
    composing = changed("gpt2")
    composing.backend_tokenizer.normalizer = normalizers.NFC()
    assert taught(STUDENT, TextCodec(composing), "x = 'e\u0301'\n") == []
    assert taught(STUDENT, TextCodec(composing), "x = '\u00e9'\n")


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_same_tokenizer_gives_the_cached_targets_bit_for_bit(temperature: float, tmp_path: Path) -> None:
    examples = rows_of(CODE, "    return 1\n", "")
    aligned = reader(tmp_path, STUDENT, TextCodec(tiny_tokenizer(320)), examples, temperature)
    cached = CachedLogits(aligned.cache, temperature)
    width = aligned.shared_vocabulary(STUDENT.tokenizer, 512)
    assert width == cached.shared_vocabulary(STUDENT.tokenizer, 512)
    _, batch = batch_of(examples, STUDENT)
    for ours, theirs in zip(
        vars(aligned.targets(*batch)).values(), vars(cached.targets(*batch)).values(), strict=True
    ):
        same = torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
        assert same
    agreement = aligned.agreement
    assert (agreement.boundaries, agreement.one_to_one, agreement.untaught) == (1, 1, 0)
    assert agreement.lost == {temperature: 0}


def test_nearly_equal_vocabularies_share_the_rest(tmp_path: Path) -> None:
    """A token more for the teacher: only its mass is lost."""
    more = tiny_tokenizer(320)
    more.add_tokens([AddedToken("unheard")])  # pyright: ignore[reportArgumentType]
    examples = rows_of(CODE, "    return 1\n")
    logits = reader(tmp_path, STUDENT, TextCodec(more), examples)
    assert logits.pair.student_ids.tolist() == [*range(320), ABSENT]
    assert logits.agreement.one_to_one == 1 and 0 < logits.agreement.lost[2.0] < 0.05
    back = TokenizerPair(TextCodec(more), STUDENT)
    assert back.student_ids.tolist() == list(range(320))


def test_positions_without_a_distribution_cost_nothing(tmp_path: Path) -> None:
    examples = rows_of(CODE)
    logits = reader(tmp_path, STUDENT, TEACHER, examples)
    _, batch = batch_of(examples, STUDENT)
    targets = logits.targets(*batch)
    empty_N = torch.isinf(targets.log_probabilities_NK).all(1)
    assert 0 < empty_N.sum() < len(empty_N)
    labels = batch[2]
    student = torch.randn(*labels.shape, 320, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for divergence in ("forward_kl", "reverse_kl", "generalized_jsd", "total_variation"):
        loss = compute(Distillation(divergence=divergence, alpha=1.0), student, labels, targets)
        (gradient,) = torch.autograd.grad(loss.total, student)
        scored = gradient[:, :-1][labels[:, 1:] != -100]
        assert scored[empty_N].abs().max() < 1e-7 and scored[~empty_N].abs().max() > 1e-4


def test_a_row_that_the_teacher_cannot_read_is_learnt_from_its_text_alone(tmp_path: Path) -> None:
    examples = rows_of(CODE, "    return 1\n")
    pair = TokenizerPair(STUDENT, TEACHER)
    cache = captured(tmp_path, pair.reader, examples[:1])
    rows = list(zip(tokenize(examples, STUDENT, None), tokenize(examples, pair.reader, None), strict=True))
    logits = AlignedLogits.over(cache, 2.0, pair, rows)
    assert logits.agreement.untaught == 1 and "1 rows get none of the teacher's" in str(logits.agreement)
    for some in (examples, examples[1:]):
        _, batch = batch_of(some, STUDENT)
        last = logits.targets(*batch)
        assert torch.isinf(last.log_probabilities_NK[-3:]).all() and (last.log_tail_N[-3:] == 0).all()


def test_little_agreement_is_a_warning_that_names_sft(tmp_path: Path) -> None:
    poor = reader(tmp_path / "poor", STUDENT, TEACHER, rows_of("345345" * 5)).agreement
    assert poor.one_to_one < 0.4
    assert poor.warning and "recipe sft" in poor.warning
    good = reader(tmp_path / "good", STUDENT, TEACHER, rows_of("    return x\n")).agreement
    assert good.one_to_one > 0.4 and good.warning is None


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    examples = rows_of(CODE)
    logits = reader(tmp_path, STUDENT, TEACHER, examples)
    for rule in ("renormalise", "drop"):
        with pytest.raises(LogitsError, match=f"the tail rule {rule} cannot be taken with aligned"):
            AlignedLogits(logits.cache, 2.0, rule, pair=logits.pair, places={})
    with pytest.raises(LogitsError, match="cannot serve temperature 3"):
        AlignedLogits(logits.cache, 3.0, pair=logits.pair, places={})
    with pytest.raises(VocabularyError, match="captured with another tokenizer than the teacher's"):
        AlignedLogits(logits.cache, 2.0, pair=TokenizerPair(STUDENT, STUDENT), places={})
    with pytest.raises(VocabularyError, match="another student's tokenizer"):
        logits.shared_vocabulary(TEACHER.tokenizer, 400)
    with pytest.raises(VocabularyError, match="320 ids, but the student has logits for 300"):
        logits.shared_vocabulary(STUDENT.tokenizer, 300)
    assert logits.shared_vocabulary(STUDENT.tokenizer, 512) == 320
    _, batch = batch_of(rows_of("x"), STUDENT)
    with pytest.raises(LogitsError, match="is aligned with sequence"):
        logits.targets(*batch)


# The form of the rows


def chat(tokenizer: Any, **settings: Any) -> ChatCodec:
    return ChatCodec(tokenizer, ChatConfig(chat=True, **settings))


def other_chat() -> Any:
    """Another template, and another end of turn."""
    tokenizer = changed("gpt2")
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<|user|>"), AddedToken("<|done|>")])
    tokenizer.chat_template = CHATML.replace("<|im_start|>", "<|user|>").replace("<|im_end|>", "<|done|>")
    return tokenizer


def read(codec: TextCodec, row: TokenExample) -> tuple[str, str, int]:
    begin = row.first_scored
    prompt = codec.tokenizer.decode(row.tokens[:begin])
    return str(prompt), codec.decode(row.tokens[:begin], row.tokens[begin:-1]), row.tokens[-1]


ANSWER = "```python\ndef f(x):\n    return x\n```"


def test_models_that_chat_read_the_same_message_each_in_its_own_template() -> None:
    student = chat(family("chat"), answer_prefix="```python\n")
    teacher = chat(other_chat(), system_prompt="Be brief.", answer_prefix="Sure: ")
    pair = TokenizerPair(student, teacher)
    given = [Example(example_id="a", prompt="Write f.", completion=ANSWER)]
    (ours,), (theirs,) = (tokenize(given, codec, None) for codec in (student, pair.reader))
    prompt, answer, end = read(pair.reader, theirs)
    assert "<|user|>system\nBe brief." in prompt and "<|user|>user\nWrite f.<|done|>" in prompt
    assert prompt.endswith("<|user|>assistant\n```python\n")
    assert answer == read(student, ours)[1] == ANSWER.removeprefix("```python\n")
    vocabularies = teacher.tokenizer.get_vocab(), student.tokenizer.get_vocab()
    done, turn = vocabularies[0]["<|done|>"], vocabularies[1]["<|im_end|>"]
    assert end == done and ours.tokens[-1] == turn
    assert pair.student_ids[done] == turn
    assert pair.student_ids[vocabularies[0]["<|endoftext|>"]] == ABSENT  # ends a text, not a turn
    assert pair.align(ours, theirs).rows_N[-1] == len(theirs.tokens) - theirs.first_scored - 1


def test_a_student_that_continues_text_has_a_teacher_that_does() -> None:
    teacher = chat(other_chat())
    pair = TokenizerPair(STUDENT, teacher)
    (ours,), (theirs,) = (tokenize(rows_of(CODE), codec, None) for codec in (STUDENT, pair.reader))
    assert read(pair.reader, theirs)[:2] == read(STUDENT, ours)[:2] == ("def f(x):\n", CODE)
    assert pair.align(ours, theirs).rows_N[-1] == ABSENT
    assert not (pair.student_ids == STUDENT.end).any()


def test_a_teacher_that_continues_text_reads_message_and_answer() -> None:
    student = chat(family("chat"), answer_prefix="```python\n")
    pair = TokenizerPair(student, TEACHER)
    given = [Example(example_id="a", prompt="Write f.\n", completion=ANSWER)]
    (ours,), (theirs,) = (tokenize(given, codec, None) for codec in (student, pair.reader))
    prompt, answer, _ = read(pair.reader, theirs)
    assert prompt == "Write f.\n\n```python\n"
    assert answer == read(student, ours)[1] == ANSWER.removeprefix("```python\n")
    found = pair.align(ours, theirs)
    assert found.rows_N[-1] == ABSENT and (found.rows_N != ABSENT).sum() > 5


def test_one_tokenizer_in_two_forms_has_two_ends() -> None:
    """An instruction-tuned model ends turns, its base model texts: their ends are not each other's."""
    tokenizer = changed("chat")
    base = TextCodec(tokenizer)
    assert TokenizerPair(base, base).student_ids.tolist() == list(range(len(tokenizer)))
    ids = TokenizerPair(base, chat(tokenizer)).student_ids
    assert not (ids == base.end).any() and (ids != ABSENT).sum() > 390
