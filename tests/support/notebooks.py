"""Notebooks, executed by a real kernel."""

from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient


def execute(notebook: Any, directory: Path, client: type[NotebookClient] = NotebookClient) -> NotebookClient:
    """Run a notebook's cells in a directory; what Jupyter and IPython keep of a session is kept there, too.

    Raises CellExecutionError where a cell raises.
    """
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE", raising=False)  # about which a kernel would print a line
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
            patch.setenv(name, str(directory / ".jupyter"))
        made = client(notebook, timeout=240, resources={"metadata": {"path": str(directory)}})
        made.execute()
    return made
