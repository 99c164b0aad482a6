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

from codestill.pocket.lessons import lessons
from codestill.recipes.pocket.teacher import Shares, bpe_tokenizer
from codestill.sandbox.feedback import feedback

LESSONS = 20_000
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
STYLES = {"gpt2": GPT2, "apart": r"\n|\t| +|\d+|[^\W\d]+|[^\w\s]"}


def texts() -> Iterator[str]:
    rng = random.Random("pocket/other tokenizer")
    for example in islice(lessons("train", Shares().model_dump(), 0.0, feedback, rng), LESSONS):
        yield example.prompt + example.completion


def main(style: str, directory: str) -> None:
    made = bpe_tokenizer(texts(), STYLES[style])
    made.save_pretrained(directory)
    print(f"{len(made)} ids in {directory}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in STYLES:
        sys.exit(__doc__)
    main(*sys.argv[1:])
