"""The program in a chat answer: among prose, fences and drafts, what parses and defines the function."""

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from codestill.assembly import assemble, is_program, used_names
from codestill.languages import LANGUAGES, bound_names, parse_python
from codestill.tasks.stops import logical_lines

Found = Literal["fence", "text", "continuation", "broken", "none"]
"""How the code was found: in a fenced block; in lines of the answer without a fence; as the rest of the
prompt's function; as code that does not parse; or there is none."""

_THOUGHT = r"think|thinking|thought|thoughts|reasoning|reflection|scratchpad"
_THOUGHT_TAG = re.compile(
    rf"^[ \t]*[<\[](?P<open>{_THOUGHT})[>\]]|[<\[]/(?P<close>{_THOUGHT})[>\]]", re.MULTILINE | re.I
)
_THOUGHT_END = re.compile(rf"\A.*^[ \t]*(?:</(?:{_THOUGHT})>|\[/THINK\])", re.DOTALL | re.MULTILINE | re.I)
_OPEN_THOUGHT = re.compile(rf"\A\s*(?:<(?:{_THOUGHT})>|\[THINK\])", re.IGNORECASE)

_MARGIN = re.compile(
    r"^[ \t\f]*[\u00a0\u200b-\u200d\u2060\ufeff][ \t\f\u00a0\u200b-\u200d\u2060\ufeff]*", re.MULTILINE
)
"""The beginning of a line with spaces that Python does not accept, or characters that nobody sees."""
_UNSEEN = re.compile("[\u200b-\u200d\u2060\ufeff]")
_TRANSCRIPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: |$)", re.MULTILINE)

# A fence may stand in a quotation, in a list, behind a sentence, or behind the last line of the code.
_FENCE = re.compile(r"(?P<mark>`{3,}+|(?<!~)~{3,}+)(?P<info>[^\n`]*+)$", re.MULTILINE)
_CLAUSE = re.compile(r"(?:else|elif|except|finally|case)\b")
_REPORTS = {"print", "unittest", "doctest", "pytest"}
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MOST_FENCES = 64
"""Of one answer, from its end: more are not an answer."""
_MOST_TRIED = 100_000
"""Characters, of all blocks that reach over a fence: an answer of many long blocks is read in linear time."""

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
    answer = after_thought(_readable(text))
    fenced = _fenced(answer)
    spec = LANGUAGES[language]
    if not spec.is_python:
        blocks = [of_fence[0] for of_fence in fenced]
        defining = [block for block in blocks if spec.defines_at(block, entry_point) is not None]
        return ((defining or blocks)[-1], "fence") if blocks else (answer, "text")
    if code := _defining(fenced, entry_point, prompt):
        return _without_usage(code, entry_point), "fence"
    if code := _defining([[re.sub(_FENCE, "", answer)]], entry_point, prompt):
        return _without_usage(code, entry_point), "text"
    whole = [[answer]] if re.match(r"\s*\n?[ \t]", answer) else []
    for blocks in (*reversed(fenced), *whole):
        for block in blocks:
            if _continues(block, entry_point, prompt):
                return block, "continuation"
    return _broken(fenced, answer, entry_point)


def _readable(text: str) -> str:
    """The text with line ends and indentation as Python reads them."""
    text = re.sub(r"\r\n?", "\n", text)
    return _MARGIN.sub(lambda margin: _UNSEEN.sub("", margin[0]).replace("\u00a0", " "), text)


def after_thought(answer: str) -> str:
    """The answer without its thoughts; nothing where the first has no end."""
    pieces: list[str] = []
    place, opened = 0, ""
    for tag in _THOUGHT_TAG.finditer(answer):
        if tag["open"] and not opened:
            pieces.append(answer[place : tag.start()])
            place, opened = tag.start(), tag["open"].lower()
        elif tag["close"] and tag["close"].lower() == opened:
            place, opened = tag.end(), ""
    answer = "".join([*pieces, answer[place:]])
    if _OPEN_THOUGHT.match(answer):
        return ""
    return _THOUGHT_END.sub("", answer)  # templates may have put the opening tag into the prompt


def _fenced(answer: str) -> list[list[str]]:
    """For each fence, the blocks that may begin there, shortest first: up to each later fence, and to the
    end. A fence in a docstring does not end a block, and the one around it may be missing."""
    fences = list(_FENCE.finditer(answer))[-_MOST_FENCES:]
    blocks: list[list[str]] = []
    tried = 0
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
        of_fence: list[str] = []
        for end in (*ends, len(answer)):
            if not of_fence or tried < _MOST_TRIED:
                of_fence.append(_outdented(rest + answer[fence.end() + 1 : end], before))
                tried += len(of_fence[-1]) if len(of_fence) > 1 else 0
        blocks.append(of_fence)
    return blocks


def _outdented(block: str, before: str) -> str:
    """A block without the indentation, or the quotation marks, that its fence has."""
    if ">" in before and not before.strip("> \t"):
        block = re.sub(r"^[ \t]*>", "", block, flags=re.MULTILINE)
    lines = block.split("\n")
    if lines and not lines[-1].strip():
        lines[-1] = ""  # the indentation of the closing fence
    return "\n".join(lines)


def _defining(blocks: Sequence[Sequence[str]], entry_point: str, prompt: str) -> str:
    """The last block that defines the function, with what it lacks from others; empty if none does."""
    programs: list[str] = []
    stubs: list[str] = []
    for of_fence in blocks:
        for block in of_fence:
            if code := _program(block, entry_point):
                (stubs if _is_stub(code, entry_point) else programs).append(code)
                break
    if not (programs or stubs):
        return ""
    chosen = (programs or stubs)[-1]
    others = [block for of_fence in blocks for block in of_fence[:1]]
    return _completed(chosen, others, entry_point, prompt)


def _program(block: str, entry_point: str) -> str:
    """The code of a block, if it defines the function: without indentation, prose or a transcript's marks."""
    if entry_point not in block:
        return ""
    dedented = textwrap.dedent(block)
    for code in dict.fromkeys((block, dedented)):
        if is_program(code, entry_point):
            # A label, a file's name or a word may happen to parse.
            words = [n for n in parse_python(code).body if _is_prose(n) and not _is_text(n)]
            return _code_in(code) if words else code
    for text in (dedented, _typed(dedented)):
        code = _code_in(text) if entry_point in text else ""
        if is_program(code, entry_point):
            return code
    return ""


def _typed(block: str) -> str:
    """What was typed in a transcript of Python's prompt."""
    lines = [line for line in block.split("\n") if _TRANSCRIPT.match(line)]
    return "\n".join(_TRANSCRIPT.sub("", line) for line in lines)


def _code_in(text: str) -> str:
    """The statements in a text that are valid Python, from those on that begin like code; prose is left out.

    A statement is taken whole or not at all. Reading ends where the statements that could not be taken are
    longer than an answer's prose ever is."""
    kept: list[str] = []
    place, inside, left = 0, "", len(text) + 20_000
    while place < len(text) and left > 0:
        line_end = text.find("\n", place) + 1 or len(text)
        line = text[place:line_end]
        indent = line[: len(line) - len(line.lstrip())]
        if not line.strip() or not (_STARTS_CODE.match(line.lstrip()) or (kept and indent == inside)):
            kept += ["\n"] if kept and not line.strip() else []
            place = line_end
            continue
        end = max(_statement_end(text, place, indent), line_end)  # the last comment begins no statement
        source = re.sub(f"^{indent}", "", text[place:end], flags=re.MULTILINE)
        try:
            body = parse_python(source).body
        except ValueError:
            left -= end - place + 100  # and what a parse costs at least
            place = line_end
            continue
        if not any(map(_is_prose, body)):
            kept.append(source.rstrip() + "\n")
            inside = indent
        place = end
    return "".join(kept).rstrip() + "\n"


def _statement_end(text: str, start: int, indent: str) -> int:
    """The end of the statement that begins there, with its decorators, its body and its ``else``."""
    end, decorated = start, True
    for begin, stop, _ in logical_lines(text, start):
        line = text[begin:stop]
        code = "" if line.lstrip().startswith("#") else line.lstrip()
        if code and not decorated:
            deeper = line.startswith(indent) and line[len(indent)].isspace()
            if not deeper and not (line.startswith(indent) and _CLAUSE.match(code)):
                break
        if code:
            decorated = decorated and code.startswith("@")
            end = stop
    return end


def _is_prose(node: ast.stmt) -> bool:
    """Whether a statement is a word or two that happen to parse: ``Done``, ``Note: this``, ``"quoted"``."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call | ast.Await)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_stub(code: str, entry_point: str) -> bool:
    """Whether the function has no body but its docstring, ``pass``, ``...`` or ``raise
    NotImplementedError``, or is only imported."""
    binding = [node for node in parse_python(code).body if entry_point in bound_names([node])]
    last = binding[-1]
    if isinstance(last, ast.FunctionDef | ast.AsyncFunctionDef):
        return all(isinstance(node, ast.Pass) or _is_text(node) or _is_refusal(node) for node in last.body)
    return isinstance(last, ast.Import | ast.ImportFrom)


def _is_refusal(node: ast.stmt) -> bool:
    return isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node)


def _without_usage(code: str, entry_point: str) -> str:
    """The code without the examples and tests of the function that stand at its end, with their inputs.

    They may ask for input, or expect a wrong value, and the program would fail of it."""
    body = parse_python(code).body
    callers = {entry_point} | {
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _called(node) & {entry_point}
    }
    lines = code.split("\n")
    uses = Counter(name for node in body for name in _named(node, lines))
    end = len(body)
    while end > 1:
        node = body[end - 1]
        uses.subtract(_named(node, lines))
        is_input = isinstance(node, ast.Assign | ast.AnnAssign) and end < len(body)
        is_usage = (
            isinstance(node, ast.Assert)
            or (isinstance(node, ast.Expr) and _called(node) & _REPORTS)
            or (not isinstance(node, _SCOPES) and _called(node) & callers)
        )
        names = bound_names([node])
        if not (is_usage or (is_input and names)) or entry_point in names or any(uses[n] > 0 for n in names):
            break
        if isinstance(node, ast.Assign) and not all(
            isinstance(to, ast.Name | ast.Tuple) for to in node.targets
        ):
            break  # an attribute of the function, or an entry of a table
        end -= 1
    if end == len(body):
        return code
    return "\n".join(lines[: body[end - 1].end_lineno]) + "\n"


def _called(node: ast.stmt) -> set[str]:
    """Names of the functions that a statement calls; of a test framework's, its module."""
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    names = (call.value if isinstance(call, ast.Attribute) else call for call in calls)
    return {name.id for name in names if isinstance(name, ast.Name)}


def _named(node: ast.stmt, lines: Sequence[str]) -> set[str]:
    """Names of the module that a statement looks up."""
    if isinstance(node, _SCOPES):
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        return used_names("\n".join(lines[first - 1 : node.end_lineno]))
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _completed(code: str, others: Sequence[str], entry_point: str, prompt: str) -> str:
    """The code behind the blocks that define what it uses and neither it nor the prompt defines."""
    helpers: dict[str, set[str]] = {}
    for block in map(textwrap.dedent, others):
        try:
            names = set(bound_names(parse_python(block).body))
        except ValueError:
            continue
        if names and entry_point not in names:
            helpers.setdefault(block, names)
    before: list[str] = []
    while True:
        source = "\n\n".join([*before, code])
        try:
            known = set(bound_names(parse_python(assemble(prompt, source, entry_point)).body))
        except ValueError:  # what the prompt provides does not parse
            return source
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
