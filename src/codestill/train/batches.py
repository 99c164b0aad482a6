"""Examples to token batches of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase

from codestill.losses.compute import IGNORED
from codestill.models.tokenizers import encode_prompt
from codestill.types import Example

BUCKET = 8
"""Lengths are rounded up to a multiple of this: fewer shapes, and a budget that holds in every epoch."""


@dataclass(frozen=True)
class TokenExample:
    """Token ids of prompt, completion and end of sequence, and where the completion begins."""

    tokens: list[int]
    prompt_length: int
    example_id: str


def tokenize(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[TokenExample]:
    """Tokens of every example of at most ``max_length`` tokens, in order.

    Prompt and completion are encoded apart, as they are at inference, where only the prompt is known.
    """
    if not examples:
        return []
    prompts = [encode_prompt(tokenizer, example.prompt) for example in examples]
    completions = tokenizer([e.completion for e in examples], add_special_tokens=False)["input_ids"]
    made = []
    for example, prompt, completion in zip(examples, prompts, completions, strict=True):
        tokens = [*prompt, *completion, tokenizer.eos_token_id]
        if len(tokens) <= max_length:
            made.append(TokenExample(tokens, len(prompt), example.example_id))
    return made


@dataclass(frozen=True)
class Collator:
    """Pads a batch on the right; labels are -100 on prompt and pads."""

    pad_id: int

    def __call__(self, batch: Sequence[tuple[int, TokenExample]]) -> dict[str, Tensor]:
        width = _bucket(max(len(example.tokens) for _, example in batch))
        tokens_BT = torch.full((len(batch), width), self.pad_id)
        labels_BT = torch.full((len(batch), width), IGNORED)
        mask_BT = torch.zeros((len(batch), width), dtype=torch.long)
        for row, (_, example) in enumerate(batch):
            length = len(example.tokens)
            tokens_BT[row, :length] = torch.tensor(example.tokens)
            mask_BT[row, :length] = 1
            labels_BT[row, example.prompt_length : length] = tokens_BT[row, example.prompt_length : length]
        return {
            "input_ids": tokens_BT,
            "attention_mask": mask_BT,
            "labels": labels_BT,
            "example_index": torch.tensor([index for index, _ in batch]),
        }


class Examples(torch.utils.data.Dataset[tuple[int, TokenExample]]):
    """Indexed examples, so that a bad batch can be named."""

    def __init__(self, examples: Sequence[TokenExample]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[int, TokenExample]:
        return index, self.examples[index]


class LengthBatches(Sampler[list[int]]):
    """Batches of at most ``batch_tokens`` padded tokens, of examples of like length.

    Epochs differ in which examples of a length come together and in the order of batches, by
    ``seed`` and epoch alone; their number of batches is the same, which resuming relies on.
    """

    def __init__(self, lengths: Sequence[int], batch_tokens: int, seed: int, *, shuffle: bool = True) -> None:
        self.lengths = [_bucket(length) for length in lengths]
        self.seed, self.shuffle, self.epoch = seed, shuffle, 0
        self.bounds = list(_bounds(sorted(self.lengths), batch_tokens))
        # What transformers.Trainer reads of a loader; the batches' own sizes vary.
        self.batch_size, self.drop_last = 1, False

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
        count = len(self.lengths)
        noise = torch.randperm(count, generator=generator).tolist() if self.shuffle else range(count)
        order = sorted(range(count), key=lambda index: (self.lengths[index], noise[index]))
        batches = [order[start:end] for start, end in self.bounds]
        turns = (
            torch.randperm(len(batches), generator=generator).tolist()
            if self.shuffle
            else range(len(batches))
        )
        return iter([batches[turn] for turn in turns])


def _bucket(length: int) -> int:
    return -(-length // BUCKET) * BUCKET


def _bounds(lengths: Sequence[int], batch_tokens: int) -> Iterator[tuple[int, int]]:
    """Slices of ascending ``lengths`` whose padded size stays within the budget."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end - start + 1) * lengths[end] > batch_tokens:
            yield start, end
            start = end
