"""Calls and values that stand in a teacher's answer."""

import ast
import re

from codestill.languages import UNPARSABLE
from codestill.tasks.extract import after_thought

UNKNOWN = "..."
"""What a call is compared with while its value is not known: Ellipsis, which no solution returns."""
_LONGEST = 4000
"""Characters of a call, and of a value."""
_OPENING = {"(": ")", "[": "]", "{": "}"}
_QUOTED = re.compile(r"[rRbBuU]{0,2}(\"{3}|'{3}|\"|')")
_WORD = re.compile(r"[-+]?(?:\d[\w.]*(?:(?<=[eE])[-+]\d+)?|\.\d\w*|None\b|True\b|False\b)")
_EXPECTED = re.compile(r"[)\s*`_]*?\s*(?:==|-+>|→|=>|⇒|(?<=\s)is(?=\s)(?!\s+not\b))\s*")
_OVER = re.compile(r"[ \t)]*(?:$|[#,;`*|]|//|--|–|\.(?!\d)|\(|\bfor\b|\bas\b|\bbecause\b)", re.MULTILINE)


def is_literal(text: str) -> bool:
    """Whether it is the whole repr of plain data: a value that was cut, or an object, is not."""
    try:
        return repr(ast.literal_eval(text)) == text
    except (*UNPARSABLE, TypeError):
        return False


def read_calls(function: str, answer: str) -> list[str]:
    """The calls of ``function`` with literal arguments that stand in an answer, none twice.

    They may stand alone, in a list, in an assertion, or with a value or a remark behind them. A thought is
    not part of the answer, and nor is the body of a function.
    """
    return list(dict.fromkeys(call for call, _ in _found(function, answer)))


def read_values(function: str, answer: str) -> list[tuple[str, str]]:
    """Calls with the literal values that the answer says they return, of several about one call the first:
    ``assert f(1) == 2``, ``f(1) -> 2``, ``f(1) == 2  # as 1 + 1``."""
    values: dict[str, str] = {}
    for call, value in _found(function, answer):
        if value is not None:
            values.setdefault(call, value)
    return list(values.items())


def _found(function: str, answer: str) -> list[tuple[str, str | None]]:
    """Calls in the order of the answer, each with the value that stands behind it."""
    text = after_thought(answer)
    found: list[tuple[str, str | None]] = []
    for match in re.finditer(rf"(?<![\w.]){re.escape(function)}\(", text):
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        end = closed(text, match.end() - 1)
        call = _call(text[match.start() : end]) if end is not None else None
        if call is None or end is None or _is_of_a_program(before):
            continue
        compared = _EXPECTED.match(text, end)
        alone = not re.search(r"[\w)\]](?<!\bassert)(?<!\bprint)\s*\($|\bnot\s+$", before)
        value = _value(text, compared.end()) if compared and alone and ")" not in compared[0] else None
        found.append((call, value))
    return found


def _is_of_a_program(before: str) -> bool:
    """Whether what stands before a call in its line says that it is part of a function's body."""
    return bool(re.search(r"\b(?:def|return|if|while|elif|lambda)\b", before)) or (
        before.startswith((" ", "\t"))
        and bool(re.search(r"[-+*/%=,]\s*$", before))
        and "assert" not in before
    )


def _call(source: str) -> str | None:
    """The call as Python prints it; None where an argument is no literal."""
    try:
        call = ast.parse(source, mode="eval").body
        if not isinstance(call, ast.Call):
            return None
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
            ast.literal_eval(argument)
        return ast.unparse(call)
    except (*UNPARSABLE, TypeError):
        return None


def _value(text: str, start: int) -> str | None:
    """The literal that begins there, if nothing but a remark follows it on its line."""
    if text[start : start + 1] in _OPENING or _QUOTED.match(text, start):
        end = closed(text, start)
    else:
        word = _WORD.match(text, start)
        end = word.end() if word else None
        if word and word[0].endswith("."):
            end = word.end() - 1  # of the sentence
    if end is None or not _OVER.match(text, end):
        return None
    try:
        return repr(ast.literal_eval(text[start:end]))
    except (*UNPARSABLE, TypeError):
        return None


def closed(text: str, start: int) -> int | None:
    """Where the bracket or string of Python that begins there ends; None where it does not."""
    open_brackets: list[str] = []
    place = start
    while place < min(len(text), start + _LONGEST):
        character = text[place]
        if quote := _QUOTED.match(text, place) if character in "\"'rRbBuU" else None:
            ended = _string_end(text, quote.end(), quote[1])
            if ended is None:
                return None
            place = ended
        elif character in _OPENING:
            open_brackets.append(_OPENING[character])
            place += 1
        elif character in ")]}":
            if not open_brackets or open_brackets.pop() != character:
                return None
            place += 1
        elif character == "#":
            place = text.find("\n", place) if "\n" in text[place:] else len(text)
        else:
            place += 1
        if not open_brackets:
            return place
    return None


def _string_end(text: str, place: int, quote: str) -> int | None:
    while place < len(text):
        if text[place] == "\\":
            place += 2
        elif text.startswith(quote, place):
            return place + len(quote)
        elif text[place] == "\n" and len(quote) == 1:
            return None
        else:
            place += 1
    return None
