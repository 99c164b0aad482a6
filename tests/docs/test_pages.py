"""Recipes, commands, layers and links: what exists has a page, and what a page names exists."""

import re
import tomllib
from pathlib import Path

import pytest
from tests.docs.pages import NAMES, PAGES, ROOT, blocks, commands, name

from codestill.recipes import RECIPES

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_a_page(recipe: str):
    path = ROOT / "docs" / "recipes" / f"{recipe}.md"
    text = path.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    for part in ("Stages", "Main settings", "Results"):
        assert any(heading.startswith(part) for heading in headings), (recipe, part, headings)
    assert "Deviations" in text or "no paper" in text
    assert list(commands(path))
    assert re.search(r"\bExpected\b|\bExpect\b", text), "a command has its expected result beside it"
    index = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert f"(recipes/{recipe}.md)" in index


@pytest.mark.parametrize("command", NAMES)
def test_every_command_is_on_the_page_of_the_command_line(command: str):
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert re.search(rf"`codestill {command}\b", page)


def test_the_page_shows_the_layers_that_are_enforced():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    enforced = [module for layer in layers for module in layer.split(" | ")]
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    table = text[text.index("| layer |") :]
    shown = [word.strip("/") for word in re.findall(r"`(\w+/?)`", table)]
    inner = {"persd", "opd", "iterkd", "amr_evol", "pocket"}  # folders of recipes; the last is a module, too
    assert [word for word in shown if word not in inner] == [word for word in enforced if word not in inner]
    assert inner <= set(shown)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "dev" / "lab-log.md"], ids=name)
def test_links_lead_to_files(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), f"{name(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_blocks_are_closed(page: Path):
    fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(list(blocks(page)))
