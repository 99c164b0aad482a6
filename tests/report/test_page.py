"""The page in a real browser: no network, a working filter, hostile completions that stay text."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def dom(page: Path, fragment: str, profile: Path) -> str:
    """The document after its scripts have run, as Chromium sees it."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={profile}",
        "--virtual-time-budget=2000",
        "--dump-dom",
        f"{page.as_uri()}{fragment}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of ``<pre>`` elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.code: list[str] = []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "pre":
            self._inside = True
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.code[-1] += data


@pytest.fixture
def page(compared: Path) -> Path:
    return compared / "report.html"


def test_nothing_is_loaded_from_elsewhere(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    elements = Elements(html)
    for tag, attributes in elements.found:
        assert tag not in {"img", "iframe", "object", "embed", "base"}, tag
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, name, value)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert "@import" not in style.group(1)
    assert not re.search(r"url\((?!#)", html)
    assert page.stat().st_size < 3_000_000


def test_a_hostile_completion_stays_text(page: Path) -> None:
    elements = Elements(page.read_text(encoding="utf-8"))
    hostile = [code for code in elements.code if "onerror=alert(1)" in code]
    assert hostile, "the fixture's hostile completion is among the samples"
    assert "</script><script>document.title=`owned`</script>" in hostile[0]
    assert [tag for tag, _ in elements.found].count("script") == 1


def test_plots_have_alternative_text_and_tables_have_heads(page: Path) -> None:
    elements = Elements(page.read_text(encoding="utf-8"))
    for tag, attributes in elements.found:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label"), attributes
        if tag == "th":
            assert attributes["scope"] in ("col", "row")


def test_ids_are_unique(page: Path) -> None:
    ids = [attributes["id"] for _, attributes in Elements(page.read_text()).found if "id" in attributes]
    assert len(ids) == len(set(ids))


@needs_browser
def test_the_filter_works_in_a_browser(page: Path, tmp_path: Path) -> None:
    everything = dom(page, "", tmp_path / "a")
    assert "<title>Does logit distillation help" in everything  # a hostile completion would rename it
    total = everything.count("<details data-verdict=")
    assert f'data-shown="{total}"' in everything

    found = dom(page, "#verdict=failing&arm=raw&text=pocket/3", tmp_path / "b")
    shown = [a for t, a in Elements(found).found if t == "details" and "data-arm" in a and "hidden" not in a]
    assert 0 < len(shown) < total
    assert all(a["data-arm"] == "raw" and "pocket/3" in str(a["data-task"]) for a in shown)
    assert all(a["data-verdict"] != "pass" for a in shown)
    assert f"{len(shown)} of {total} shown" in found
