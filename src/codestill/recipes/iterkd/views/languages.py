"""What each language's own tools say of programs that are not run: the interface by language."""

import ast
import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from codestill.errors import ConfigError
from codestill.types import Language

Static = tuple[dict[Any, float], tuple[str, ...]]
"""Checks that need no execution, and findings."""


class Tools(Protocol):
    """The tools of one language."""

    def static(self, programs: Sequence[str], complexity: int, lint: bool) -> list[Static]:
        """Of each program. Raises ConfigError where a tool is missing."""
        ...


class NoTools:
    """A language without static tools: no check has a value."""

    def static(self, programs: Sequence[str], complexity: int, lint: bool) -> list[Static]:
        return [({}, ()) for _ in programs]


class Python:
    """The interpreter's parser and compiler, and ruff."""

    def static(self, programs: Sequence[str], complexity: int, lint: bool) -> list[Static]:
        linted = _ruff(programs) if lint else [[] for _ in programs]
        made = []
        for program, found in zip(programs, linted, strict=True):
            checks: dict[Any, float] = {
                "parse": float(_parses(program)),
                "compile": float(_compiles(program)),
            }
            if lint:
                checks |= _from_findings(found, complexity)
            made.append((checks, tuple(f"{code}: {message}" for code, message in found if code != "C901")))
        return made


def _parses(program: str) -> bool:
    return _quietly(lambda: ast.parse(program))


def _compiles(program: str) -> bool:
    return _quietly(lambda: compile(program, "<program>", "exec", dont_inherit=True))


def _quietly(work: Any) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _from_findings(found: list[tuple[str, str]], complexity: int) -> dict[str, float]:
    """0 for each kind of finding that there is; complexity by the worst function's distance to its limit."""
    kinds = {"names": "F", "bugs": "B", "security": "S"}
    checks = {
        check: float(not any(code[0] == letter for code, _ in found)) for check, letter in kinds.items()
    }
    sizes = [int(re.findall(r"\((\d+) >", message)[0]) for code, message in found if code == "C901"]
    over = (max(sizes, default=0) - complexity) / complexity
    return checks | {"complexity": min(1.0, max(0.0, 1.0 - over))}


@functools.cache
def _ruff_command() -> str:
    """ruff beside this interpreter, or on the path. Raises ConfigError."""
    beside = Path(sys.executable).with_name("ruff")
    found = str(beside) if beside.exists() else shutil.which("ruff")
    if found is None and importlib.util.find_spec("ruff") is None:
        raise ConfigError(
            "the tool view lints with ruff, which is not installed.",
            next_step="pip install 'codestill[feedback]', or set feedback.tool.lint to false.",
        )
    return found or "ruff"


def _ruff(programs: Sequence[str]) -> list[list[tuple[str, str]]]:
    """(code, message) of the findings in each program; whatever config lies around is left alone."""
    with tempfile.TemporaryDirectory() as directory:
        for number, program in enumerate(programs):
            (Path(directory) / f"p{number}.py").write_text(program, encoding="utf-8", errors="replace")
        rules = ["--select", "F,B,S,C901", "--ignore", "S101", "--config", "lint.mccabe.max-complexity=0"]
        command = [_ruff_command(), "check", "--isolated", "--no-cache", "--output-format", "json", *rules]
        ran = subprocess.run([*command, directory], capture_output=True, text=True, check=False)
        if ran.returncode not in (0, 1):
            raise ConfigError(f"ruff failed: {ran.stderr.strip()[:500]}", next_step="Check its version.")
        found: list[list[tuple[str, str]]] = [[] for _ in programs]
        for one in json.loads(ran.stdout):
            number = int(Path(one["filename"]).stem[1:])
            # A program that does not parse is counted there; ruff calls that invalid-syntax, without a rule.
            if one["code"] and one["code"] != "invalid-syntax":
                found[number].append((one["code"], one["message"]))
        return [sorted(of_program) for of_program in found]


_SYNTAX = """
const fs = require("fs"), vm = require("vm");
const said = JSON.parse(fs.readFileSync(0, "utf8")).map((program) => {
  try { new vm.Script(program); return ""; } catch (error) { return String(error.message); }
});
console.log(JSON.stringify(said));
"""


class JavaScript:
    """node's own compiler, which is its parser, too: nothing is run. There is no linter."""

    def static(self, programs: Sequence[str], complexity: int, lint: bool) -> list[Static]:
        node = shutil.which("node")
        if node is None:
            raise ConfigError(
                "the tool view compiles JavaScript with node, which is not installed.",
                next_step="Install Node.js 18 or newer, so that `node` is on the PATH.",
            )
        given = json.dumps(programs)
        ran = subprocess.run([node, "-e", _SYNTAX], input=given, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ConfigError(f"node failed: {ran.stderr.strip()[:500]}", next_step="Check its version.")
        return [
            ({"parse": float(not said), "compile": float(not said)}, (said,) if said else ())
            for said in json.loads(ran.stdout)
        ]


TOOLS: Mapping[Language, Tools] = {"python": Python(), "javascript": JavaScript()}
"""By language; one that is not here has no static checks."""


def tools_of(language: Language) -> Tools:
    """The tools of a language, or none that check anything."""
    return TOOLS.get(language, NoTools())
