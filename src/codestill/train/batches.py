"""Examples to token batches of similar length."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase

from codestill.errors import ConfigError
from codestill.logits import digest
from codestill.losses.batch import IGNORED
from codestill.models.codec import TextCodec
from codestill.types import Example

TEACHERS_POSITIONS = "the teacher's positions"
"""The name of that limit in :func:`tokenize_within`."""
BUCKET = 8
"""Lengths are rounded up to a multiple of this: fewer shapes, and a budget that holds in every epoch."""


@dataclass(frozen=True)
class TokenExample:
    """Token ids of prompt, completion and end of sequence, and where the completion begins."""

    tokens: list[int]
    prompt_length: int
    example_id: str
    faults: tuple[list[int], ...] = ()
    """Token ids of the same prompt with completions that fail."""
    before: tuple[float, ...] = ()
    """Scores of it and of each fault before training, where the objective compares with them."""
    teacher_prompt: tuple[int, ...] = ()
    """Ids that a teacher of logits reads in the prompt's place; none for the prompt itself."""

    @property
    def first_scored(self) -> int:
        """Index of the first token that is a target: nothing predicts a sequence's first token."""
        return max(self.prompt_length, 1)

    @property
    def as_taught(self) -> "TokenExample":
        """The example as a teacher of logits reads it: the same completion, behind the teacher's prompt."""
        if not self.teacher_prompt:
            return self
        completion = self.tokens[self.prompt_length :]
        return TokenExample([*self.teacher_prompt, *completion], len(self.teacher_prompt), self.example_id)

    @cached_property
    def digest(self) -> str:
        """Its name in a logit cache: of what the student reads, whatever prompt the teacher has."""
        return digest(self.tokens, self.first_scored)


class TokenData(NamedTuple):
    """The examples of one training."""

    training: list[TokenExample]
    validation: list[TokenExample]


def tokenize(
    examples: Sequence[Example],
    codec: TextCodec | PreTrainedTokenizerBase,
    max_length: int | None,
    faults: bool = False,
) -> list[TokenExample]:
    """Tokens of every example of at most ``max_length`` tokens (None: any number), in order; with its
    ``faults`` of that length.

    A prompt has the ids that it has at inference, where only the prompt is known; the completion's are those
    that follow in the ids of the whole text (:meth:`codestill.models.codec.TextCodec.examples`). A tokenizer
    stands for the codec of a model that continues text.
    """
    codec = codec if isinstance(codec, TextCodec) else TextCodec(codec)
    pairs = [
        (example.prompt, completion)
        for example in examples
        if example.suffix is None
        for completion in (example.completion, *_faulty(example, faults))
    ]
    encoded = iter(codec.examples(pairs))
    tokenized = []
    for example in examples:
        if example.suffix is not None:
            gap = codec.gap(example.prompt, example.suffix)
            tokens = [*gap, *codec.middle(gap, example.completion)]
            if max_length is None or len(tokens) <= max_length:
                tokenized.append(TokenExample(tokens, len(gap), example.example_id))
            continue
        count = 1 + len(_faulty(example, faults))
        (prompt, completion), *others = islice(encoded, count)
        tokens = [*prompt, *completion, codec.end]
        wrong = ([*prompt, *other, codec.end] for _, other in others)
        kept = tuple(ids for ids in wrong if max_length is None or len(ids) <= max_length)
        if max_length is None or len(tokens) <= max_length:
            taught = tuple(codec.prompt(example.teacher_prompt)) if example.teacher_prompt else ()
            tokenized.append(
                TokenExample(tokens, len(prompt), example.example_id, kept, teacher_prompt=taught)
            )
    return tokenized


def _faulty(example: Example, wanted: bool) -> list[str]:
    return [fault.completion for fault in example.faults] if wanted else []


def tokenize_within(
    limits: Mapping[str, int | None],
    examples: Sequence[Example],
    codec: TextCodec,
    faults: bool = False,
    what: str = "example",
) -> tuple[list[TokenExample], str]:
    """As :func:`tokenize`, within the least of named limits (None is none), and what to say of the examples
    that exceed it; empty when none does. An example whose teacher has a prompt of its own must fit the
    teacher's positions behind that one, too. Raises ConfigError when all exceed a limit."""
    limit, reason = min((limit, reason) for reason, limit in limits.items() if limit is not None)
    positions = limits.get(TEACHERS_POSITIONS)
    tokenized = [
        example
        for example in tokenize(examples, codec, limit, faults)
        if positions is None or len(example.as_taught.tokens) <= positions
    ]
    if not tokenized:
        raise ConfigError(
            f"no {what} is left: of {len(examples)} given, none has at most {limit} tokens ({reason})"
            f"{_behind(examples, positions)}.",
            next_step="Give more or shorter examples, or raise that limit; a model's positions come with it, "
            "and another model has others.",
        )
    too_long = len(examples) - len(tokenized)
    said = f"{too_long} {what}s exceed {limit} tokens ({reason}){_behind(examples, positions)}: left out"
    return tokenized, said if too_long else ""


def _behind(examples: Sequence[Example], positions: int | None) -> str:
    """What else limits examples whose teacher has a prompt of its own."""
    own = positions is not None and any(example.teacher_prompt for example in examples)
    return f" or {positions} behind the teacher's own prompt ({TEACHERS_POSITIONS})" if own else ""


@dataclass(frozen=True)
class Collator:
    """Pads a batch on the right; labels are -100 on prompt and pads.

    The label of position 0, which nothing predicts, is -100, too. An empty batch becomes a row without a
    target.

    With ``contrast`` the faulty programs of the batch follow its correct ones: ``group`` is the row of each
    row's correct program, ``fault_labels`` are the labels of faulty ones, and ``groups`` counts correct
    ones that have any. Faulty programs count in no token budget: without ``contrast``, a batch has the same
    correct programs.

    Where a teacher of logits has a prompt of its own for any of them, what it reads is the same batch with
    ``teacher_`` before its names.
    """

    pad_id: int
    contrast: bool = False

    def __call__(self, batch: Sequence[tuple[int, TokenExample]]) -> dict[str, Tensor]:
        examples = [example for _, example in batch]
        faulty = [(row, ids) for row, example in enumerate(examples) for ids in example.faults]
        rows = [
            *(example.tokens for example in examples),
            *(ids for _, ids in (faulty if self.contrast else [])),
        ]
        shape = max(len(rows), 1), _bucket(max(map(len, rows), default=1))
        tokens_BT = torch.full(shape, self.pad_id)
        labels_BT, fault_labels_BT = torch.full(shape, IGNORED), torch.full(shape, IGNORED)
        mask_BT = torch.zeros(shape, dtype=torch.long)
        mask_BT[:, 0] = 1  # a row that attends to nothing would give NaN
        group_B = torch.arange(shape[0])
        for row, ids in enumerate(rows):
            correct = row < len(examples)
            group_B[row] = row if correct else faulty[row - len(examples)][0]
            tokens_BT[row, : len(ids)] = torch.tensor(ids)
            mask_BT[row, : len(ids)] = 1
            scored = slice(examples[int(group_B[row])].first_scored, len(ids))
            (labels_BT if correct else fault_labels_BT)[row, scored] = tokens_BT[row, scored]
        collated = {
            "input_ids": tokens_BT,
            "attention_mask": mask_BT,
            "labels": labels_BT,
            "example_index": torch.tensor([index for index, _ in batch]),
        }
        if self.contrast:
            groups = torch.tensor(len({row for row, _ in faulty}))
            collated |= {"fault_labels": fault_labels_BT, "group": group_B, "groups": groups}
            before = [e.before[0] for e in examples if e.before] + [x for e in examples for x in e.before[1:]]
            collated |= {"before": torch.tensor(before)} if before else {}
        if any(example.teacher_prompt for example in examples):
            taught = Collator(self.pad_id)([(index, example.as_taught) for index, example in batch])
            collated |= {
                f"teacher_{name}": taught[name] for name in ("input_ids", "attention_mask", "labels")
            }
        return collated


class Examples(torch.utils.data.Dataset[tuple[int, TokenExample]]):
    """Indexed examples, so that a bad batch can be named."""

    def __init__(self, examples: Sequence[TokenExample]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[int, TokenExample]:
        return index, self.examples[index]


class LengthBatches(Sampler[list[int]]):
    """Batches of at most ``batch_tokens`` padded tokens, of examples of similar length.

    Epochs differ in which examples of a length come together and in the order of batches, by
    ``seed`` and epoch alone (None: no shuffling); their number of batches is the same, which resuming
    relies on. Each of ``world`` ranks takes every ``world``-th batch; all take the same number, the last of
    which may be empty.
    """

    def __init__(
        self, lengths: Sequence[int], batch_tokens: int, seed: int | None, *, rank: int = 0, world: int = 1
    ) -> None:
        self.lengths = [_bucket(length) for length in lengths]
        self.seed, self.epoch = seed, 0
        self.rank, self.world = rank, world
        self.bounds = list(_bounds(sorted(self.lengths), batch_tokens))
        # Attributes that transformers.Trainer expects of a loader; real batch sizes vary.
        self.batch_size, self.drop_last = 1, False

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.bounds) // self.world)

    def __iter__(self) -> Iterator[list[int]]:
        count = len(self.lengths)
        noise, turns = list(range(count)), list(range(len(self.bounds)))
        if self.seed is not None:
            generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
            noise = torch.randperm(count, generator=generator).tolist()
            turns = torch.randperm(len(turns), generator=generator).tolist()
        order = sorted(range(count), key=lambda index: (self.lengths[index], noise[index]))
        batches = [order[start:end] for start, end in (self.bounds[turn] for turn in turns)]
        batches += [[]] * (-len(batches) % self.world)
        return iter(batches[self.rank :: self.world])


def _bucket(length: int) -> int:
    return -(-length // BUCKET) * BUCKET


def _bounds(lengths: Sequence[int], batch_tokens: int) -> Iterator[tuple[int, int]]:
    """Slices of ascending ``lengths`` whose padded size stays within the budget."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end - start + 1) * lengths[end] > batch_tokens:
            yield start, end
            start = end
