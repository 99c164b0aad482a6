from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.tiny import tiny_model

from codestill.models.student import Student

KINDS = ("gpt2", "llama", "starcoder2", "qwen2")


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a tiny random model, by kind; made once per session."""
    root = tmp_path_factory.mktemp("models")

    def directory(kind: str) -> Path:
        place = root / kind
        return place if place.exists() else tiny_model(place, kind)

    return directory


@pytest.fixture(params=KINDS)
def student(request: pytest.FixtureRequest, saved: Callable[[str], Path]) -> Student:
    return Student.load(saved(request.param), device="cpu")


@pytest.fixture
def llama(saved: Callable[[str], Path]) -> Student:
    return Student.load(saved("llama"), device="cpu")
