"""The page's table of drafts is computed from the kept result."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_has_every_row_of_the_table() -> None:
    script = runpy.run_path(str(ROOT / "experiments" / "draft" / "tables.py"))
    lines = script["table"](script["kept"]())
    assert len(lines) > 3
    page = (ROOT / "docs" / "draft.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line not in page] == []
