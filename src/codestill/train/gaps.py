"""Training to fill in the middle: a share of the examples become gaps between a prefix and a suffix.

As Bavarian et al. (2022, arXiv 2207.14255) do before they tokenise, with two differences: the middle is part
of the solution, never of the prompt, and every other gap takes whole lines, as an editor's cursor does.
"""

from collections.abc import Sequence

import numpy as np

from codestill.errors import ConfigError
from codestill.files.serialize import seed_for
from codestill.models.student import Student
from codestill.prompts.answers import fenced_blocks
from codestill.types import Example

_RANGE = 2**32


def require_fim_tokens(student: Student, share: float) -> None:
    """Raise ConfigError where gaps are to be trained on and the student's tokenizer cannot frame one."""
    if share and student.codec.fim is None:
        raise ConfigError(
            f"train.fim is {share:g}, and the tokenizer of {student.name} has no tokens for "
            "fill-in-the-middle.",
            next_step="Train a student with the tokenizer of a model that has them (--student.tokenizer: "
            "Qwen2.5-Coder's or StarCoder2's), or set train.fim to 0.",
        )


def with_gaps(examples: Sequence[Example], share: float, seed: int, chats: bool) -> list[Example]:
    """The examples, of which about ``share`` (chosen by ``seed`` and id) have become gaps to fill.

    The text is an example's prompt and completion, or where the student ``chats`` the program in its
    answer's last fence. Examples that are gaps already, that have faults, or of which a teacher reads another
    prompt or has kept log-probabilities stay as they are. Called again on its own result, it changes nothing.
    """
    return [_gap(example, seed, chats) if _chosen(example, share, seed) else example for example in examples]


def _chosen(example: Example, share: float, seed: int) -> bool:
    plain = example.suffix is None and not (example.faults or example.teacher_prompt or example.kept)
    return plain and seed_for(seed, f"fim/{example.key}") % _RANGE < share * _RANGE


def _gap(example: Example, seed: int, chats: bool) -> Example:
    before, text = example.prompt, example.completion
    if chats:
        before, text = "", (fenced_blocks(text) or [""])[-1]
    if len(text) < 2:
        return example
    stream = np.random.default_rng(seed_for(seed, f"gap/{example.key}"))
    lines = np.cumsum([0, *map(len, text.splitlines(keepends=True))])
    places = lines if stream.random() < 0.5 else np.arange(len(text) + 1)
    first, last = sorted(int(place) for place in stream.choice(places, size=2, replace=False))
    return example.model_copy(
        update={"prompt": before + text[:first], "completion": text[first:last], "suffix": text[last:]}
    )
