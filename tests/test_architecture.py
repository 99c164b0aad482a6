"""The folders tell the truth: what only one recipe uses lives in that recipe's folder."""

import ast
from collections import defaultdict
from pathlib import Path

import codestill

SOURCE = Path(codestill.__file__).parent
# Rooms that users meet by themselves: the command line, or every run, imports them by name.
OF_THEIR_OWN = {"cli", "compare", "configs", "doctor", "report", "recipes"}


def _importers() -> dict[str, set[str]]:
    """Top-level room -> who imports it: another room, or one recipe."""
    importers: dict[str, set[str]] = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        room, *inner = path.relative_to(SOURCE).with_suffix("").parts
        importer = f"recipes.{inner[0]}" if room == "recipes" else room
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "codestill":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("codestill."):
                names = [(node.module or "").split(".")[1]]
            for name in names:
                if name != room:
                    importers[name].add(importer)
    return importers


def test_a_room_that_one_recipe_alone_uses_lives_in_its_folder():
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    lonely = {
        room: users
        for room, users in _importers().items()
        if room in rooms - OF_THEIR_OWN and len(users) == 1 and next(iter(users)).startswith("recipes.")
    }
    assert not lonely


def test_no_file_has_more_than_400_lines():
    sizes = {
        str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")
    }
    assert {name: size for name, size in sizes.items() if size > 400} == {}
