"""The bundled models, as anyone may load them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pocket.test_render import passes
from transformers import AutoModelForCausalLM, AutoTokenizer

from codestill.models import preset_table
from codestill.models.student import Student
from codestill.pocket import BUNDLED, bundled_directory, generate
from codestill.recipes.pocket.exam import MEASURES

DIRECTORIES = (bundled_directory("pocket"), bundled_directory("pocket-base"))
ALL = sorted({bundled_directory(name) for name in BUNDLED})


@pytest.mark.parametrize("directory", ALL, ids=lambda path: path.name)
def test_a_bundled_model_is_small_and_has_no_code(directory: Path) -> None:
    files = {path.name: path.stat().st_size for path in directory.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files.keys()
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


def test_all_of_them_are_small_together() -> None:
    assert sum(path.stat().st_size for path in ALL[0].parent.rglob("*") if path.is_file()) < 16_000_000


def test_the_ladder_has_the_sizes_that_it_names() -> None:
    sizes = {row.name: row.parameters for row in preset_table()}
    for name in ("0.1m", "0.4m", "1.6m"):
        student = Student.load(f"pocket-base-{name}")
        assert student.model.num_parameters() == sizes[f"pocket-{name}"]  # pyright: ignore[reportArgumentType]
    assert bundled_directory("pocket-base") == bundled_directory("pocket-base-0.4m")


def test_the_card_says_what_the_teacher_is_not_and_what_it_was_measured_to_do() -> None:
    text = (bundled_directory("pocket") / "README.md").read_text(encoding="utf-8")
    assert "What it is not" in text
    for measure in MEASURES:
        assert text.count(f"| {measure} |") == 2  # on validation and on test


def test_all_share_one_tokenizer() -> None:
    teacher, *others = (AutoTokenizer.from_pretrained(directory) for directory in ALL)
    assert all(teacher.get_vocab() == other.get_vocab() for other in others)
    text = 'def f(xs: list[int]) -> int:\n    """Return 12."""\n    return 12\n'
    assert teacher.decode(teacher(text)["input_ids"]) == text
