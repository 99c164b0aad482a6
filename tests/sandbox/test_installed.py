"""codestill beside the packages that programs may import: its grammars know the answers to its tasks."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import codestill

DRIVER = """
import sys
import codestill
from codestill.errors import SandboxUnavailable
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import Test
assert codestill.__file__.startswith(sys.prefix), codestill.__file__
try:
    sandbox = Sandbox(SandboxConfig(tier=sys.argv[1]), workers=1)
except SandboxUnavailable:
    print("unavailable")
else:
    package = codestill.__path__[0]
    for solution in (
        "import codestill.pocket",
        f"open({package!r} + '/pocket/generate.py').read()",
        "import sys, os\\n[open(path + '/codestill/__init__.py').read() for path in sys.path if path]",
        "import pydantic",
    ):
        program = Program(solution=solution, entry_point="f", tests=(Test(code="1"),), cpu_seconds=30)
        print(sandbox.execute(program).verdict)
"""


@pytest.mark.parametrize("tier", ["A", "B"])
def test_programs_cannot_read_an_installed_codestill(tmp_path, tier):
    venv.create(tmp_path / "venv", with_pip=False)
    packages = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    source = Path(codestill.__file__).parent
    shutil.copytree(source, packages / "codestill", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-P", "-c", DRIVER, tier],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    if done.stdout == "unavailable\n":
        pytest.skip(f"no tier {tier} here")
    assert done.stdout.split() == ["exception", "exception", "exception", "pass"]
