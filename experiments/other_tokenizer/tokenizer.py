"""Two further tokenizers of the pocket world, which cut the same lessons otherwise than the bundled one.

    python experiments/other_tokenizer/tokenizer.py STYLE DIRECTORY

STYLE is `gpt2`, GPT-2's way of cutting text: a number is one piece, and a line break is apart from the
indentation that follows it; or `apart`: no piece joins a space and a word. Both have as many ids as the
bundled tokenizer, so that a student has as many parameters with each.
"""

import random
import sys
from collections.abc import Iterator
from itertools import islice

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from codestill.pocket.lessons import lessons
from codestill.recipes.pocket.teacher import END, PAD, VOCABULARY, Shares
from codestill.sandbox.feedback import feedback

LESSONS = 20_000
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
STYLES = {"gpt2": GPT2, "apart": r"\n|\t| +|\d+|[^\W\d]+|[^\w\s]"}


def texts() -> Iterator[str]:
    rng = random.Random("pocket/other tokenizer")
    for example in islice(lessons("train", Shares().model_dump(), 0.0, feedback, rng), LESSONS):
        yield example.prompt + example.completion


def main(style: str, directory: str) -> None:
    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(STYLES[style]), "isolated")
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
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    made.save_pretrained(directory)
    print(f"{len(made)} ids in {directory}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in STYLES:
        sys.exit(__doc__)
    main(*sys.argv[1:])
