"""The bundled base student with tokens for fill-in-the-middle, and gaps in solutions of the pocket world.

    python experiments/gaps/make.py DIRECTORY

The tokenizer's last three tokens give their ids to the control tokens, so that the weights stay as they are.
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from codestill.examples import references
from codestill.models.fim import FIM_TOKENS
from codestill.models.student import Student
from codestill.pocket import bundled_directory
from codestill.tasks import load_tasks, write_tasks
from codestill.train.gaps import with_gaps

ROLES = ("fim_pre", "fim_suf", "fim_mid")
TASKS = {"source": "pocket", "split": "test", "count": 300}


def fim_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in a directory, whose last three tokens are those of fill-in-the-middle."""
    core = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary, merges = core["model"]["vocab"], core["model"]["merges"]
    last = sorted(vocabulary, key=vocabulary.get)[-len(ROLES) :]
    core["model"]["merges"] = [merge for merge in merges if "".join(merge) not in last]
    for token, role in zip(last, ROLES, strict=True):
        vocabulary[FIM_TOKENS[role][0]] = vocabulary.pop(token)
    backend = Tokenizer.from_str(json.dumps(core))
    backend.add_special_tokens([FIM_TOKENS[role][0] for role in ROLES])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")


def main(directory: Path) -> None:
    student = Student.load("pocket-base", device="cpu")
    student.tokenizer = fim_tokenizer(bundled_directory("pocket-base"))
    student.fills_gaps = False
    student.save(directory / "model")
    whole = load_tasks(TASKS)
    gaps = with_gaps(references(whole, student), 1.0, seed=0, chats=False)
    write_tasks(
        directory / "gaps.jsonl",
        [
            task.model_copy(update={"prompt": gap.prompt, "reference": gap.completion, "suffix": gap.suffix})
            for task, gap in zip(whole, gaps, strict=True)
        ],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
