"""Which tests leave the process that runs them as it was, so that it can go on to another program.

Read off their bytecode: no import beyond a few modules that every judge has loaded and nothing here can
change, no attribute set or deleted, no class, no name through which state could be reached. Who writes tests
is trusted; this finds what would change the next verdict by accident, such as ``sys.setrecursionlimit``.

Not off their syntax tree: building one in two threads at once breaks both (CPython 3.11, "AST constructor
recursion depth mismatch").
"""

import dis
from collections.abc import Iterable
from types import CodeType

_MODULES = frozenset(
    (
        *("bisect", "collections", "copy", "datetime", "heapq", "itertools", "json"),
        *("math", "operator", "re", "string", "typing"),
    )
)
_OPERATIONS = frozenset(("STORE_ATTR", "DELETE_ATTR", "LOAD_BUILD_CLASS"))
_NAMES = frozenset(
    (
        *("breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals", "help", "input"),
        *("locals", "open", "quit", "setattr", "vars"),
    )
)
_ATTRIBUTES = frozenset(("purge", "register"))
_LOADS_ATTRIBUTE = frozenset(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"))
_LOADS_NAME = frozenset(("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"))


def leaves_no_trace(codes: Iterable[CodeType | None]) -> bool:
    """True where a process is as it was after it has executed them; None is source that does not compile."""
    return all(code is not None and _harmless(code) for code in codes)


def _harmless(code: CodeType) -> bool:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return all(map(_allowed, dis.get_instructions(code))) and all(map(_harmless, inner))


def _allowed(instruction: dis.Instruction) -> bool:
    operation, name = instruction.opname, str(instruction.argval)
    if operation == "IMPORT_NAME":
        return name in _MODULES
    if operation in _LOADS_NAME:
        return name not in _NAMES and not name.startswith("__")
    if operation in _LOADS_ATTRIBUTE:
        return name not in _ATTRIBUTES and not name.startswith("_")
    return operation not in _OPERATIONS
