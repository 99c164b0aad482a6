"""The pocket world's tokenizer: a byte-level BPE trained on its own programs."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from codestill.pocket.generate import sketches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY = 1024
# A line break with its indentation is one piece; digits stand alone.
PIECES = r"\n *|\d| ?[A-Za-z_]+| ?[^\sA-Za-z0-9_]+| +"


def train_tokenizer(programs: int = 20_000, seed: int = 0) -> "PreTrainedTokenizerFast":
    """The tokenizer, from ``programs`` training sketches and their solutions in every style."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def texts() -> Iterator[str]:
        rng = random.Random(f"pocket/tokenizer/{seed}")
        for sketch in islice(sketches("train", {1: 1, 2: 4, 3: 5}, rng), programs):
            yield sketch.prompt + sketch.solution(rng)

    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
