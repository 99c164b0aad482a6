"""Programming languages of tasks: how their programs run, and what of a task depends on the language.

A language is one entry of this table. Of the sandbox it takes an interpreter and a *runner*, a script in that
language that holds the program and answers the judge's requests with data (docs/extending.md has the
messages, ``sandbox/inside/solver.js`` is one). Tests are Python statements whatever the language.
"""

import ast
import re
import shutil
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from codestill.errors import ConfigError
from codestill.plugins import suggestion

RUNNER = "{runner}"
MEGABYTES = "{megabytes}"
_INSIDE = Path(__file__).parent / "sandbox" / "inside"


@dataclass(frozen=True)
class LanguageSpec:
    """A language, and all that depends on it."""

    name: str
    """As tasks give it in their field ``language``."""
    stub: Callable[[str, str, str], str] = field(compare=False)
    """Of prompt, entry point and reference: a completion after which the function exists and does nothing.
    Gates execute it; no test may accept it."""
    title: str = ""
    """As prose calls it; empty: the name, capitalised."""
    interpreter: str = ""
    """The program that runs it, looked up on the PATH. Empty: the sandbox's own Python."""
    install: str = ""
    """What to do where there is no interpreter."""
    runner: Path | None = None
    """The runner's source. The interpreter gets it as an argument: the sandbox does not show the file."""
    arguments: tuple[str, ...] = (RUNNER,)
    """Of the interpreter, before the three descriptors (program, requests, answers). ``{runner}``, alone, is
    the runner's source, and ``{megabytes}`` half of ``sandbox.memory_megabytes``: for a limit of the
    interpreter's own heap, below the limit of its address space."""
    readable: tuple[str, ...] = ()
    """Directories of its library outside of /usr/lib and /usr/local/lib."""
    defines: Callable[[str, str], bool] | None = field(default=None, compare=False)
    """Whether a program defines a function at top level, without running it; raises ValueError where the
    program does not parse. None: only running it tells, as the gates do."""
    header: str = ""
    """Regular expression of how the definition of a function ``NAME`` begins. A completion
    with it at the start of a line is a whole program. Empty: every completion continues its prompt."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion under the stop rule of the language's name. Empty: no such rule."""

    def defines_at(self, source: str, entry_point: str) -> int | None:
        """Where the last definition of ``entry_point`` begins, by ``header``; None where there is none."""
        if not self.header:
            return None
        pattern = f"^(?:{self.header.replace('NAME', re.escape(entry_point))})"
        starts = [match.start() for match in re.finditer(pattern, source, re.MULTILINE)]
        return starts[-1] if starts else None

    @property
    def called(self) -> str:
        """What prose calls it."""
        return self.title or self.name.capitalize()

    @property
    def is_python(self) -> bool:
        """Whether the sandbox's own solver runs it."""
        return not self.interpreter

    def executable(self) -> str | None:
        """The interpreter's resolved path, None where it is not installed."""
        path = shutil.which(self.interpreter)
        return str(Path(path).resolve()) if path else None


UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What ``ast`` raises for text that is no program: also for null bytes, halves of surrogate pairs, and
nesting that is too deep to parse, or to print once it is parsed."""

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def parse_python(source: str) -> ast.Module:
    """The syntax tree, without warnings. Raises ValueError where there is none."""
    with warnings.catch_warnings():
        # Published solutions hold "\w" in plain strings, which newer Pythons only warn about.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return ast.parse(source)
        except UNPARSABLE as error:
            raise ValueError(f"not valid Python ({str(error) or 'it is nested too deeply'})") from error


def parses(source: str) -> bool:
    """Whether it is valid Python."""
    try:
        parse_python(source)
    except ValueError:
        return False
    return True


def bound_names(body: Iterable[ast.stmt]) -> list[str]:
    """Names that statements bind in their own scope, each once, in the order of the source: by definitions,
    imports, assignments and patterns, also inside ``if``, ``try``, ``with``, ``match`` and loops."""
    names: dict[str, None] = {}
    waiting: list[ast.AST] = [*body]
    waiting.reverse()
    while waiting:
        node = waiting.pop()
        names.update(dict.fromkeys(_binds(node)))
        if isinstance(node, _COMPREHENSIONS):  # its variables stay inside, but what `:=` assigns does not
            waiting += [part.target for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
        elif not isinstance(node, _SCOPES):
            waiting += list(ast.iter_child_nodes(node))[::-1]
    return list(names)


def _binds(node: ast.AST) -> list[str]:
    """The names that a node itself binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Name):
        return [node.id] if isinstance(node.ctx, ast.Store) else []
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return [node.name] if node.name else []
    return [node.rest] if isinstance(node, ast.MatchMapping) and node.rest else []


def _python_defines(program: str, entry_point: str) -> bool:
    return entry_point in bound_names(parse_python(program).body)


def _python_stub(prompt: str, entry_point: str, reference: str) -> str:
    first = next((line for line in reference.splitlines() if line.strip()), "")
    indent = first[: len(first) - len(first.lstrip())] or "    "
    body = f"{indent}pass\n"
    try:
        if _python_defines(prompt + body, entry_point):
            return body
    except ValueError:
        pass  # the prompt ends outside a function
    return f"def {entry_point}(*args, **kwargs):\n    pass\n"


def _javascript_stub(prompt: str, entry_point: str, reference: str) -> str:
    is_open = prompt.count("{") > prompt.count("}")  # the prompt opens the function, or ends outside of one
    return "}\n" if is_open else f"function {entry_point}() {{}}\n"


LANGUAGES: dict[str, LanguageSpec] = {
    "python": LanguageSpec("python", stub=_python_stub, defines=_python_defines),
    "javascript": LanguageSpec(
        "javascript",
        stub=_javascript_stub,
        title="JavaScript",
        interpreter="node",
        install="Install Node.js 18 or newer, so that `node` is on the PATH.",
        runner=_INSIDE / "solver.js",
        arguments=(f"--max-old-space-size={MEGABYTES}", "-e", RUNNER),
        header=r"(?:export\s+)?(?:(?:async\s+)?function\*?\s+NAME\b|(?:const|let|var)\s+NAME\s*=)",
        # MultiPL-E's strings for JavaScript (arXiv 2208.08227).
        stop=("\nfunction ", "\n/*", "\n//", "\nconsole.log"),
    ),
}
"""Every language that a task may be in, by name."""


def add_language(spec: LanguageSpec) -> None:
    """Add a language of your own, before the first task in it is made and the sandbox is built.

    Raises ConfigError where another language has the name, or interpreter and runner do not fit together.
    """
    if LANGUAGES.get(spec.name, spec) != spec:
        raise ConfigError(f"there is a language {spec.name!r} already.", next_step="Give yours another name.")
    if not spec.interpreter or spec.runner is None or RUNNER not in spec.arguments:
        raise ConfigError(
            f"the language {spec.name!r} cannot be run: it needs an interpreter, a runner, and "
            f"{RUNNER!r} among its arguments.",
            next_step="docs/extending.md has a complete language.",
        )
    if not spec.runner.is_file():
        raise ConfigError(
            f"the runner of {spec.name!r}, {spec.runner}, is not a file.", next_step="Correct the path."
        )
    LANGUAGES[spec.name] = spec


def known_language(name: str) -> str:
    """The name. Raises ValueError where no language has it."""
    if name not in LANGUAGES:
        known = f"known are {' and '.join(LANGUAGES)}; docs/extending.md says how to add one"
        raise ValueError(f"no language {name!r}. {suggestion(name, LANGUAGES, known)}")
    return name
