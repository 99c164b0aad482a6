"""``import codestill``: what it offers, and what it costs."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import codestill
from codestill import errors

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_is_what_its_room_defines():
    assert len(set(codestill.__all__)) == len(codestill.__all__)
    assert sorted(name for name in codestill.__all__ if name != "__version__") == sorted(codestill._MODULE_OF)
    for name, module in codestill._MODULE_OF.items():
        assert getattr(codestill, name) is getattr(sys.modules[module], name)
    assert set(codestill.__all__) <= set(dir(codestill))


def test_the_whole_error_tree_is_public():
    tree = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.CodestillError)
    ]
    assert set(tree) <= set(codestill.__all__)


def test_importing_it_loads_no_heavy_package_and_unknown_names_are_refused():
    code = (
        "import sys, codestill\n"
        "assert not {'torch', 'transformers', 'numpy', 'pydantic'} & sys.modules.keys()\n"
        "codestill.load_tasks('pocket:train'), codestill.SandboxConfig, codestill.StudentConfig\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n    codestill.nothing\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "module 'codestill' has no attribute 'nothing'\n", done.stderr


def _is_public(module: str, faces: set[str]) -> bool:
    """A room's face, or a module that the face's docstring names to its readers."""
    room, _, part = module.rpartition(".")
    return module in faces or bool(re.search(rf"\b{part}\b", importlib.import_module(room).__doc__ or ""))


def test_documented_imports_come_from_here_or_from_a_rooms_face():
    faces = {
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for pattern in ("*.py", "*/__init__.py", "recipes/*/__init__.py")
        for path in (ROOT / "src" / "codestill").glob(pattern)
    }
    inner = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for block in re.findall(r"```python[^\n]*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                module = node.module if isinstance(node, ast.ImportFrom) else None
                if module and module.split(".")[0] == "codestill" and not _is_public(module, faces):
                    inner[f"{page.name}: {module}"] = [alias.name for alias in node.names]  # type: ignore[union-attr]
    assert not inner
