"""One version: the package's, which the build, the changelog and the citation follow."""

import re
import shutil
import tomllib
from pathlib import Path

from dev.release import problems, version
from tests.docs.pages import ROOT

import codestill


def test_the_version_is_set_in_one_place():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in settings["project"]
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["hatch"]["version"]["path"] == "src/codestill/version.py"
    assert version() == codestill.__version__


URLS = '[project.urls]\nRepository = "https://example.org/codestill"\n'


def copied(place: Path, *, changelog: str, cited: str, urls: str = URLS) -> Path:
    module = place / "src" / "codestill" / "version.py"
    module.parent.mkdir(parents=True)
    shutil.copy(ROOT / "src" / "codestill" / "version.py", module)
    (place / "CHANGELOG.md").write_text(f"# Changelog\n\n## {changelog}\n", encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    citation = re.sub(r"^version: .*$", f'version: "{cited}"', citation, flags=re.MULTILINE)
    (place / "CITATION.cff").write_text(citation, encoding="utf-8")
    (place / "pyproject.toml").write_text(f"[project]\nname = 'codestill'\n{urls}", encoding="utf-8")
    return place


def test_a_release_needs_a_dated_heading_and_a_citation_of_its_version(tmp_path: Path):
    number = codestill.__version__
    good = copied(tmp_path / "good", changelog=f"{number} (2026-12-01)", cited=number)
    assert problems(good) == []
    undated = copied(tmp_path / "undated", changelog=number, cited=number)
    assert [reason.partition(" ")[0] for reason in problems(undated)] == ["CHANGELOG.md"]
    older = copied(tmp_path / "older", changelog=f"{number} (2026-12-01)", cited="0.0.1")
    assert [reason.partition(" ")[0] for reason in problems(older)] == ["CITATION.cff"]
    nowhere = copied(tmp_path / "nowhere", changelog=f"{number} (2026-12-01)", cited=number, urls="")
    assert [reason.partition(" ")[0] for reason in problems(nowhere)] == ["pyproject.toml"]
