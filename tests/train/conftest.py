from pathlib import Path

import pytest
import torch
from tests.support.tiny import tiny_gpt2


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def with_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 that draws random numbers while it trains."""
    return tiny_gpt2(tmp_path_factory.mktemp("models") / "gpt2", positions=512)
