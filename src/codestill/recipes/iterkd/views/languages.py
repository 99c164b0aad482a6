"""Static checks of programs by the tools of their language: one interface, an implementation by language."""

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
from codestill.languages import UNPARSABLE
from codestill.types import Language

Static = tuple[dict[Any, float], tuple[str, ...]]
"""Checks that need no execution, and the linters' findings."""


class Tools(Protocol):
    """The tools of one language."""

    def static(self, programs: Sequence[str], complexity: int, lint: bool) -> list[Static]:
        """Static checks of each program, in order. Raises ConfigError if a tool is missing."""
        ...


class NoTools:
    """A language without static tools: no check has a value."""

    def static(self, programs: Sequence[str], complexity: int, lint: bool) -> list[Static]:
        return [({}, ()) for _ in programs]


class Python:
    """The interpreter's parser and compiler, and ruff."""

    def static(self, programs: Sequence[str], complexity: int, lint: bool) -> list[Static]:
        linted = _ruff(programs) if lint else [[] for _ in programs]
        reports = []
        for program, findings in zip(programs, linted, strict=True):
            checks: dict[Any, float] = {
                "parse": float(_parses(program)),
                "compile": float(_compiles(program)),
            }
            if lint:
                checks |= _from_findings(findings, complexity)
            reports.append(
                (checks, tuple(f"{code}: {message}" for code, message in findings if code != "C901"))
            )
        return reports


def _parses(program: str) -> bool:
    return _quietly(lambda: ast.parse(program))


def _compiles(program: str) -> bool:
    return _quietly(lambda: compile(program, "<program>", "exec", dont_inherit=True))


def _quietly(work: Any) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
    except UNPARSABLE:
        return False
    return True


def _from_findings(findings: list[tuple[str, str]], complexity: int) -> dict[str, float]:
    """0 for each kind with a finding, else 1; complexity by how far the worst function exceeds the limit."""
    kinds = {"names": "F", "bugs": "B", "security": "S"}
    checks = {
        check: float(not any(code[0] == letter for code, _ in findings)) for check, letter in kinds.items()
    }
    sizes = [int(re.findall(r"\((\d+) >", message)[0]) for code, message in findings if code == "C901"]
    excess = (max(sizes, default=0) - complexity) / complexity
    return checks | {"complexity": min(1.0, max(0.0, 1.0 - excess))}


@functools.cache
def _ruff_command() -> str:
    """Path of ruff beside this interpreter, or on the PATH. Raises ConfigError if it is not installed."""
    beside = Path(sys.executable).with_name("ruff")
    path = str(beside) if beside.exists() else shutil.which("ruff")
    if path is None and importlib.util.find_spec("ruff") is None:
        raise ConfigError(
            "the tool view needs ruff for linting, which is not installed.",
            next_step="pip install 'codestill[feedback]', or set feedback.tool.lint to false.",
        )
    return path or "ruff"


def _ruff(programs: Sequence[str]) -> list[list[tuple[str, str]]]:
    """(code, message) of the findings in each program, by fixed rules: no configuration file is read."""
    with tempfile.TemporaryDirectory() as directory:
        for number, program in enumerate(programs):
            (Path(directory) / f"p{number}.py").write_text(program, encoding="utf-8", errors="replace")
        rules = ["--select", "F,B,S,C901", "--ignore", "S101", "--config", "lint.mccabe.max-complexity=0"]
        command = [_ruff_command(), "check", "--isolated", "--no-cache", "--output-format", "json", *rules]
        process = subprocess.run([*command, directory], capture_output=True, text=True, check=False)
        if process.returncode not in (0, 1):
            raise ConfigError(f"ruff failed: {process.stderr.strip()[:500]}", next_step="Check its version.")
        findings: list[list[tuple[str, str]]] = [[] for _ in programs]
        for finding in json.loads(process.stdout):
            number = int(Path(finding["filename"]).stem[1:])
            # A syntax error counts in the check parse; ruff reports it as invalid-syntax, or without a rule.
            if finding["code"] and finding["code"] != "invalid-syntax":
                findings[number].append((finding["code"], finding["message"]))
        return [sorted(of_program) for of_program in findings]


_SYNTAX = """
const fs = require("fs"), vm = require("vm");
const errors = JSON.parse(fs.readFileSync(0, "utf8")).map((program) => {
  try { new vm.Script(program); return ""; } catch (error) { return String(error.message); }
});
console.log(JSON.stringify(errors));
"""


class JavaScript:
    """node's compiler, which also parses; nothing is executed, and there is no linter."""

    def static(self, programs: Sequence[str], complexity: int, lint: bool) -> list[Static]:
        node = shutil.which("node")
        if node is None:
            raise ConfigError(
                "the tool view needs node to compile JavaScript, which is not installed.",
                next_step="Install Node.js 18 or newer, so that `node` is on the PATH.",
            )
        process = subprocess.run(
            [node, "-e", _SYNTAX], input=json.dumps(programs), capture_output=True, text=True, check=False
        )
        if process.returncode:
            raise ConfigError(f"node failed: {process.stderr.strip()[:500]}", next_step="Check its version.")
        return [
            ({"parse": float(not error), "compile": float(not error)}, (error,) if error else ())
            for error in json.loads(process.stdout)
        ]


TOOLS: Mapping[Language, Tools] = {"python": Python(), "javascript": JavaScript()}
"""Tools by language; a language without an entry has no static checks."""


def tools_of(language: Language) -> Tools:
    """The tools of a language; for one without any, tools that check nothing."""
    return TOOLS.get(language, NoTools())
