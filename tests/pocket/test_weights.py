"""The bundled models, as anyone may load them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pocket.test_render import passes
from transformers import AutoModelForCausalLM, AutoTokenizer

from codestill.pocket import base_directory, generate, teacher_directory

DIRECTORIES = (teacher_directory(), base_directory())


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_a_bundled_model_is_small_and_has_no_code(directory: Path) -> None:
    files = {path.name: path.stat().st_size for path in directory.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert not [name for name in files if name.endswith((".py", ".bin", ".pt"))]
    assert sum(files.values()) < 5_000_000


def solved(directory: Path, count: int) -> int:
    """Of ``count`` test tasks, those whose greedy completion passes."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    right = 0
    for task in generate("test", count):
        ids = tokenizer(task.prompt, return_tensors="pt")
        written = model.generate(**ids, max_new_tokens=96, do_sample=False)[0]
        assert len(written) < ids["input_ids"].shape[1] + 96  # it knows where to end
        right += passes(task, tokenizer.decode(written, skip_special_tokens=True))
    return right


def test_transformers_alone_loads_the_teacher_and_it_solves_more_than_the_base() -> None:
    teacher, base = (solved(directory, 8) for directory in DIRECTORIES)
    assert teacher >= 4
    assert base < teacher


def test_both_share_one_tokenizer() -> None:
    teacher, base = (AutoTokenizer.from_pretrained(directory) for directory in DIRECTORIES)
    assert teacher.get_vocab() == base.get_vocab()
    text = 'def f(xs: list[int]) -> int:\n    """Return 12."""\n    return 12\n'
    assert teacher.decode(teacher(text)["input_ids"]) == text
