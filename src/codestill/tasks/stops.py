"""Stop rules: where a completion ends.

A base model does not stop after its answer: it continues with calls, prints and further problems. The rule
that cuts them off is part of a score, so it has a name and is stored with the score.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator

from codestill.languages import LANGUAGES, parse_python
from codestill.plugins import suggestion


@dataclass(frozen=True)
class StopRule:
    """A named rule: cut at the first of ``strings``; ``definitions`` parses the program instead."""

    name: str
    strings: tuple[str, ...] = ()


STOP_RULES: Mapping[str, StopRule] = MappingProxyType(
    {
        "definitions": StopRule("definitions"),
        # The five strings of the Codex paper (arXiv 2107.03374, section 3.2).
        "human-eval": StopRule("human-eval", ("\nclass", "\ndef", "\n#", "\nif", "\nprint")),
        # EvalPlus, direct completion.
        "evalplus": StopRule(
            "evalplus",
            (
                "\ndef ",
                "\nclass ",
                "\nimport ",
                "\nfrom ",
                "\nassert ",
                "\nif __name__",
                "\nprint(",
            ),
        ),
        # bigcode-evaluation-harness, MBPP.
        "mbpp": StopRule("mbpp", ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")),
        "none": StopRule("none"),
    }
)
"""The rules for Python. A language with stop strings (``codestill.languages``) has one of its own name."""


def stop_rule(name: str) -> StopRule:
    """The rule of that name, a language's included. Raises ValueError where there is none."""
    if name in STOP_RULES:
        return STOP_RULES[name]
    if name in LANGUAGES and LANGUAGES[name].stop:
        return StopRule(name, LANGUAGES[name].stop)
    known = f"known are {', '.join(_stop_names())}"
    raise ValueError(f"no stop rule {name!r}. {suggestion(name, _stop_names(), known)}")


def _stop_names() -> tuple[str, ...]:
    return (*STOP_RULES, *(name for name, language in LANGUAGES.items() if language.stop))


if TYPE_CHECKING:
    StopName = str
else:
    # The Literal is for --help, which lists its choices.
    StopName = Annotated[Literal[_stop_names()] | str, AfterValidator(lambda name: stop_rule(name).name)]

_STARTERS = ("def ", "class ", "import ", "from ", "async def ", "@")

# Enough of Python's grammar to tell which newlines end a top-level line. An unclosed string extends to the
# end of the text (triple quotes) or of its line.
_TOKEN = re.compile(
    r"""
      (?P<skip> \#[^\n]* | \\\r?\n
        | \"{3} (?: [^"\\] | \\. | "(?!"") )*+ (?: \"{3} | \\?\Z )
        | '{3}  (?: [^'\\] | \\. | '(?!'') )*+ (?: '{3}  | \\?\Z )
        | " (?: [^"\\\n] | \\. )*+ (?: " | \\?\Z )?
        | ' (?: [^'\\\n] | \\. )*+ (?: ' | \\?\Z )?
      )
    | (?P<open> [(\[{] ) | (?P<close> [)\]}] ) | (?P<newline> \n )
    """,
    re.VERBOSE | re.DOTALL,
)


def cut(text: str, rule: StopRule) -> str:
    """The completion up to where ``rule`` ends it. ``cut(cut(text)) == cut(text)``.

    ``definitions`` keeps the first line (it continues the prompt), indented lines, and top-level
    functions, classes, imports and decorators, so helpers after the function survive; it cuts at the
    first other line at column 0, together with the comments before it. A last definition that does not
    parse, usually cut by the token limit, is dropped as well: it would make a correct answer fail.
    """
    if rule.name == "definitions":
        starts, end, _ = _read(text)
        text = text[:end]
        for start in reversed(starts):
            if not text[:start].strip() or parses(text[start:]):
                break
            text = text[:start]
        return text
    ends = [at for at in map(text.find, rule.strings) if at >= 0]
    return text[: min(ends)] if ends else text


def stopped(text: str, rule: StopRule) -> bool:
    """True once no further text can change ``cut(text, rule)``: sampling may end."""
    if rule.name == "definitions":
        return _read(text)[2]
    return any(stop in text for stop in rule.strings)


def _read(text: str) -> tuple[list[int], int, bool]:
    """Offsets of the top-level definitions, the offset to cut at, and whether that is final."""
    starts: list[int] = []
    decorated = False
    end = depth = 0  # end: after the last line of code
    line = 0
    for token in _TOKEN.finditer(text + "\n"):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth = max(depth - 1, 0)
        elif token["newline"] and depth == 0:
            source = text[line : token.end()]
            if not source.strip() or source.startswith("#"):
                pass
            elif source[0].isspace() or line == 0 or source.startswith(_STARTERS):
                if source.startswith(_STARTERS):
                    if not decorated:
                        starts.append(line)
                    decorated = source.startswith("@")
                end = token.end()
            else:
                return starts, end, _ends(source)
            line = token.end()
    source = text[line:]  # a line that an open string or bracket continues beyond the text
    if line and source.strip() and not (source[0].isspace() or source.startswith(("#", *_STARTERS))):
        return starts, end, _ends(source)
    return starts, len(text), False


def _ends(source: str) -> bool:
    """Whether a top-level line that is no definition cannot become one, however the model continues it."""
    return "\n" in source or not any(word.startswith(source) for word in _STARTERS)


def parses(source: str) -> bool:
    """Whether it is valid Python."""
    try:
        parse_python(source)
    except ValueError:
        return False
    return True


_FENCE = re.compile(r"^[ \t]*```[ \t]*(?P<info>[^`\n]*)$", re.MULTILINE)


def extract_code(text: str, entry_point: str) -> tuple[str, str]:
    """The code in a chat answer, and the name of the rule that found it: (code, rule).

    ``fence``: the last complete fenced block that defines ``entry_point`` at top level, whatever its
    label. ``as-is``: there is none, so the text is returned unchanged.
    """
    plain = text.replace("\r\n", "\n")
    defines = re.compile(rf"^(?:(?:async\s+)?def|class)\s+{re.escape(entry_point)}\b", re.MULTILINE)
    code = None
    opened: int | None = None
    for fence in _FENCE.finditer(plain):
        if opened is None or fence["info"].strip():  # a labelled fence opens, also inside a block
            opened = fence.end() + 1
            continue
        block = plain[opened : fence.start()]
        if defines.search(block):
            code = block
        opened = None
    return (code, "fence") if code is not None else (text, "as-is")
