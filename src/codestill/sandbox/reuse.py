"""Which tests leave their process unchanged, so that it can judge another program.

Decided by their bytecode: no import beyond a few modules that every judge has loaded and that nothing here
can change, no attribute set or deleted, no class, no name through which state could be reached. Tests are
trusted; this finds what would change the next verdict by accident, such as ``sys.setrecursionlimit``.

Not by their syntax tree: building one in two threads at once breaks both (CPython 3.11, "AST constructor
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
_FORBIDDEN = frozenset(dis.opmap[name] for name in ("STORE_ATTR", "DELETE_ATTR", "LOAD_BUILD_CLASS"))
_IMPORT = dis.opmap["IMPORT_NAME"]
_NAMES = frozenset(
    (
        *("breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals", "help", "input"),
        *("locals", "open", "purge", "quit", "register", "setattr", "vars"),
    )
)


def leaves_no_trace(codes: Iterable[CodeType | None]) -> bool:
    """Whether a process is unchanged after it has executed them; None is source that does not compile."""
    return all(code is not None and _harmless(code) for code in codes)


def _harmless(code: CodeType) -> bool:
    operations = set(code.co_code[::2])  # an instruction is two bytes, its operation the first
    if operations & _FORBIDDEN or any(name in _NAMES or name.startswith("_") for name in code.co_names):
        return False
    if _IMPORT in operations and not _imported(code) <= _MODULES:
        return False
    return all(_harmless(constant) for constant in code.co_consts if isinstance(constant, CodeType))


def _imported(code: CodeType) -> set[str]:
    return {str(item.argval) for item in dis.get_instructions(code) if item.opcode == _IMPORT}
