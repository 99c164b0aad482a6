"""The program in a chat answer: among prose, fences and drafts, what parses and defines the function."""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Literal

from codestill.assembly import assemble, bound_names, is_program, used_names
from codestill.languages import LANGUAGES, parse_python

Found = Literal["fence", "text", "continuation", "broken", "none"]
"""How the code was found: in a fenced block; in lines of the answer without a fence; as the rest of the
prompt's function; as code that does not parse; or there is none."""

_THOUGHT = r"think|thinking|thought|thoughts|reasoning|reflection|scratchpad"
_CLOSED_THOUGHT = re.compile(rf"<({_THOUGHT})>.*?</\1>|\[THINK\].*?\[/THINK\]", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(rf"\A.*^[ \t]*(?:</(?:{_THOUGHT})>|\[/THINK\])", re.DOTALL | re.MULTILINE | re.I)
_OPEN_THOUGHT = re.compile(rf"\A\s*(?:<(?:{_THOUGHT})>|\[THINK\])", re.IGNORECASE)

# A fence may stand in a quotation, in a list, behind a sentence, or behind the last line of the code.
_FENCE = re.compile(r"(?P<mark>`{3,}|~{3,})(?P<info>[^\n`]*)$", re.MULTILINE)
_MOST_FENCES = 64
"""Of one answer, from its end: more are not an answer."""

_STARTS_CODE = re.compile(
    r"(?:def|async\s+def|class)\s+\w|import\s+\w|from\s+[\w.]+\s+import\b|@\w|(?:if|try|with)\b.*:\s*$"
    r"|[^\W\d]\w*\s*(?::\s*[\w\[\], .|]+)?=[^=]"
)


def extract_code(
    text: str, entry_point: str, prompt: str = "", language: str = "python"
) -> tuple[str, Found]:
    """The code in an answer, and how it was found. Prose is never part of it.

    What counts is that the code parses and defines ``entry_point`` at top level, whatever the fence's form or
    label, closed or not. Of several such blocks the last is taken, a mere header only if there is nothing
    else, with the helpers and imports from other blocks that it lacks. Where none defines the function, a
    block or text that continues ``prompt`` is taken, then a block with the function that does not parse, so
    that its error can be told. An empty string where there is no code; drafts within a thought are not
    looked at. In other languages than Python, the last block that has its header, else the last
    block, else the text.
    """
    answer = _after_thought(text.replace("\r\n", "\n"))
    fenced = _fenced(answer)
    spec = LANGUAGES[language]
    if not spec.is_python:
        blocks = [of_fence[0] for of_fence in fenced]
        defining = [block for block in blocks if spec.defines_at(block, entry_point) is not None]
        return ((defining or blocks)[-1], "fence") if blocks else (answer, "text")
    if code := _defining(fenced, entry_point, prompt):
        return code, "fence"
    if code := _defining([_unfenced(answer)], entry_point, prompt):
        return code, "text"
    whole = [[answer]] if re.match(r"\s*\n?[ \t]", answer) else []
    for blocks in (*reversed(fenced), *whole):
        for block in blocks:
            if _continues(block, entry_point, prompt):
                return block, "continuation"
    return _broken(fenced, answer, entry_point)


def _after_thought(answer: str) -> str:
    """The answer behind its thought; nothing where the thought has no end."""
    answer = _CLOSED_THOUGHT.sub("", answer) if _OPEN_THOUGHT.match(answer) else answer
    if _OPEN_THOUGHT.match(answer):
        return ""
    return _THOUGHT_END.sub("", answer)  # templates may have put the opening tag into the prompt


def _fenced(answer: str) -> list[list[str]]:
    """For each fence, the blocks that may begin there, shortest first: up to each later fence, and to the
    end. A fence in a docstring does not end a block, and the one around it may be missing."""
    fences = list(_FENCE.finditer(answer))[-_MOST_FENCES:]
    blocks: list[list[str]] = []
    for place, fence in enumerate(fences):
        line = answer.rfind("\n", 0, fence.start()) + 1
        before = answer[line : fence.start()]
        label = re.match(r"[ \t]*[\w+#.-]*[ \t]*", fence["info"])
        rest = fence["info"][label.end() if label else 0 :]
        rest = f"{rest}\n" if re.match(r"(?:def|class|from|import)\b|@", rest) else ""
        ends = [
            later.start()
            for later in fences[place + 1 :]
            if later["mark"][0] == fence["mark"][0] and len(later["mark"]) >= len(fence["mark"])
        ]
        of_fence = [answer[fence.end() + 1 : end] for end in (*ends, len(answer))]
        blocks.append([_outdented(rest + block, before) for block in of_fence])
    return blocks


def _outdented(block: str, before: str) -> str:
    """A block without the indentation, or the quotation marks, that its fence has."""
    if ">" in before and not before.strip("> \t"):
        block = re.sub(r"^[ \t]*>[ \t]?", "", block, flags=re.MULTILINE)
    lines = block.split("\n")
    if lines and not lines[-1].strip():
        lines[-1] = ""  # the indentation of the closing fence
    return "\n".join(lines)


def _defining(blocks: Sequence[Sequence[str]], entry_point: str, prompt: str) -> str:
    """The last block that defines the function, with what it lacks from others; empty if none does."""
    programs: list[str] = []
    headers: list[str] = []
    for of_fence in blocks:
        for block in of_fence:
            if code := _program(block, entry_point):
                (headers if _is_header(code, entry_point) else programs).append(code)
                break
    if not (programs or headers):
        return ""
    chosen = (programs or headers)[-1]
    others = [block for of_fence in blocks for block in of_fence[:1]]
    return _completed(chosen, others, entry_point, prompt)


def _program(block: str, entry_point: str) -> str:
    """The block, without indentation and prose where it has any, if it then defines the function."""
    if entry_point not in block:
        return ""
    for code in (block, textwrap.dedent(block)):
        if is_program(code, entry_point):
            return code
    for code in _code_in(textwrap.dedent(block)):
        if is_program(code, entry_point):
            return code
    return ""


def _unfenced(answer: str) -> list[str]:
    """The runs of code in an answer without fences; joined, shortest first, and each alone."""
    runs = list(_code_in(re.sub(_FENCE, "", answer)))
    return ["\n".join(runs), *reversed(runs)] if runs else []


def _code_in(text: str) -> Iterator[str]:
    """The longest runs of lines that are valid Python and begin like code."""
    lines = text.split("\n")
    place = 0
    while place < len(lines):
        if not _STARTS_CODE.match(lines[place].lstrip()):
            place += 1
            continue
        end = _longest(lines, place)
        if end is None:
            place += 1
            continue
        yield textwrap.dedent("\n".join(lines[place:end])).rstrip() + "\n"
        place = end


def _longest(lines: Sequence[str], start: int) -> int | None:
    """The end of the longest run from ``start`` that parses, prose left out; None if there is none."""
    end = len(lines)
    while end > start:
        source = textwrap.dedent("\n".join(lines[start:end]))
        try:
            body = parse_python(source).body
        except ValueError as error:
            cause = error.__cause__
            at = cause.lineno if isinstance(cause, SyntaxError) and cause.lineno else 0
            end = min(end - 1, start + at - 1) if at > 1 else end - 1
            if at == 1 and end - start > 1:
                end = _statement_end(lines, start, end)
            continue
        while body and _is_prose(body[-1]):
            body.pop()
        return start + (body[-1].end_lineno or 1) if body else None
    return None


def _statement_end(lines: Sequence[str], start: int, end: int) -> int:
    """Before the next line, from the end, that stands no deeper than the first: a string that nothing closes
    is reported where it begins."""
    indent = len(lines[start]) - len(lines[start].lstrip())
    for place in range(end - 1, start, -1):
        line = lines[place]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            return place
    return start + 1


def _is_prose(node: ast.stmt) -> bool:
    """Whether a statement is a word or two that happen to parse: ``Done``, ``Note: this``, ``"quoted"``."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call | ast.Await)


def _is_header(code: str, entry_point: str) -> bool:
    """Whether the function has no body but its docstring, ``pass`` or ``...``."""
    body = parse_python(code).body
    functions = [n for n in body if isinstance(n, ast.FunctionDef) and n.name == entry_point]
    return bool(functions) and all(
        isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in functions[-1].body
    )


def _completed(code: str, others: Sequence[str], entry_point: str, prompt: str) -> str:
    """The code behind the blocks that define what it uses and neither it nor the prompt defines."""
    helpers: dict[str, set[str]] = {}
    for block in map(textwrap.dedent, others):
        try:
            names = bound_names(parse_python(block).body)
        except ValueError:
            continue
        if names and entry_point not in names:
            helpers.setdefault(block, names)
    before: list[str] = []
    while True:
        source = "\n\n".join([*before, code])
        known = bound_names(parse_python(assemble(prompt, source, entry_point)).body)
        lacking = used_names(source) - known
        needed = next((b for b, names in helpers.items() if names & lacking and b not in before), None)
        if needed is None:
            return source
        before.insert(0, needed.rstrip() + "\n")


def _continues(block: str, entry_point: str, prompt: str) -> bool:
    """Whether the block is the rest of the prompt's function."""
    first = next((line for line in block.split("\n") if line.strip()), "")
    return (
        bool(prompt)
        and first[:1].isspace()
        and is_program(prompt + block, entry_point)
        and not is_program(block, entry_point)
    )


def _broken(fenced: Sequence[Sequence[str]], answer: str, entry_point: str) -> tuple[str, Found]:
    """The last block that names the function's header, or the lines from its header on; or nothing."""
    header = re.compile(
        rf"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+{re.escape(entry_point)}\b", re.MULTILINE
    )
    for of_fence in reversed(fenced):
        if header.search(of_fence[0]):
            return of_fence[0], "broken"
    match = header.search(answer)
    if match is None:
        return "", "none"
    lines = answer[match.start() :].split("\n")
    end = next(
        (n for n, line in enumerate(lines[1:], 1) if line[:1].strip() and not _STARTS_CODE.match(line)),
        len(lines),
    )
    return textwrap.dedent("\n".join(lines[:end])).rstrip() + "\n", "broken"
