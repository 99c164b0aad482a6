"""The expected results on the recipes' pages are those of kept runs."""

import json
import re
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

RESULTS = sorted((ROOT / "experiments" / "recipes").glob("*.json"))


def score(interval: dict[str, float]) -> str:
    mean, low, high = (f"{100 * interval[name]:.1f}" for name in ("mean", "low", "high"))
    return f"**{mean}%** [{low}, {high}]"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_page_has_the_score_of_the_kept_run(path: Path):
    result = json.loads(path.read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "recipes" / f"{path.stem}.md").read_text(encoding="utf-8")
    expected = re.sub(r"\s+", " ", text[text.index("Expected") :].partition("\n\n")[0])
    assert score(result["pass_at"]["1"]) in expected
    if result["pass_at"]["1"]["mean"]:
        more = [result["by_difficulty"][level]["mean"] for level in ("depth=2", "depth=3")]
        more += [interval["mean"] for k, interval in result["pass_at"].items() if f"pass@{k} " in expected]
        for mean in more:
            assert re.search(rf"\b{100 * mean:.1f}\b", expected), (mean, expected)


def test_every_kept_run_is_listed():
    readme = (ROOT / "experiments" / "recipes" / "README.md").read_text(encoding="utf-8")
    assert RESULTS and all(f"({path.name})" in readme for path in RESULTS)
