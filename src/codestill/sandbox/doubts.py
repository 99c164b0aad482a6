"""Tests that rely on sharing a process with the program, where the split verdict has two.

Found by the names in their bytecode. Such tests decide what they can: a program that passes them passes, and
where one fails, the failure may be for that reason alone, so that it is undecidable.
"""

import builtins
import dis
from collections.abc import Iterable, Iterator
from types import CodeType

_WHICH = "the tests ask which object it is"
_IS = dis.opmap["IS_OP"]
_DOUBTS = {
    "the tests replace what the program uses": ("patch", "monkeypatch"),
    "the tests seed random numbers, and the program has its own": ("seed", "setstate", "default_rng"),
    "the tests set up the environment, which the program does not share": (
        *("environ", "putenv", "chdir", "setrecursionlimit", "set_int_max_str_digits", "setlocale"),
        *("setcontext", "getcontext", "localcontext", "seterr", "set_printoptions", "filterwarnings"),
    ),
    "the tests use files, which the program does not share": (
        *("open", "mkdir", "makedirs", "mkdtemp", "mkstemp", "write_text", "write_bytes"),
        *("NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"),
    ),
    "the tests start threads or processes": ("Thread", "ThreadPoolExecutor", "Process", "multiprocessing"),
    "the tests look inside the program's objects": (
        *("vars", "dir", "inspect", "signature", "getsource", "get_type_hints", "getrefcount", "weakref"),
        *("__class__", "__dict__", "__code__", "__closure__", "__globals__", "__self__"),
        *("asyncio", "iscoroutinefunction", "isgenerator", "isgeneratorfunction", "pickle"),
        *("is_dataclass", "asdict", "astuple", "singledispatch"),
    ),
    _WHICH: ("assertIs", "assertIsNot"),
    "the tests change the program's module": ("globals", "modules", "__main__", "setattr", "reload"),
    "the tests catch warnings, which the program issues elsewhere": ("catch_warnings", "warns"),
    "the tests read what the program logs elsewhere": ("assertLogs", "getLogger", "caplog", "capsys"),
}
_REASONS = {name: reason for reason, names in _DOUBTS.items() for name in names}


def doubt(codes: Iterable[CodeType | None]) -> str:
    """Why a failure of these tests may be none of the program's, or an empty text."""
    present = [code for code in codes if code]
    found = next((_REASONS[name] for code in present for name in names_in(code) if name in _REASONS), "")
    return found or next((_WHICH for code in present if _asks_which(code)), "")


def _asks_which(code: CodeType) -> bool:
    """Whether it compares by identity with anything but a constant or a built-in type."""
    before = None
    for item in dis.get_instructions(code) if _IS in code.co_code[::2] else ():
        constant = before is None or before.opname == "LOAD_CONST" or before.argval in vars(builtins)
        if item.opcode == _IS and not constant:
            return True
        before = item
    return any(_asks_which(constant) for constant in code.co_consts if isinstance(constant, CodeType))


def names_in(code: CodeType) -> Iterator[str]:
    """The names that code refers to, and the code within it."""
    for name in code.co_names:
        yield from name.split(".")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
