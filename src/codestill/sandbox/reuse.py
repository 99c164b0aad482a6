"""Which tests leave the process that runs them as it was, so that it can go on to another program.

Read off their syntax tree: no import beyond a few modules that every judge has loaded and nothing here can
change, no attribute set or deleted, no name through which state could be reached. Who writes tests is
trusted; this finds what would change the next verdict by accident, such as ``sys.setrecursionlimit``.
"""

import ast
import warnings

from codestill.sandbox.program import Program

_MODULES = frozenset(
    (
        *("bisect", "collections", "copy", "datetime", "heapq", "itertools", "json"),
        *("math", "operator", "re", "string", "typing"),
    )
)
_NODES = (
    # statements
    *(
        ast.Module,
        ast.Expr,
        ast.Assert,
        ast.Assign,
        ast.AugAssign,
        ast.AnnAssign,
        ast.FunctionDef,
        ast.Return,
    ),
    *(ast.If, ast.For, ast.While, ast.Break, ast.Continue, ast.Pass, ast.Try, ast.ExceptHandler, ast.Raise),
    *(ast.arguments, ast.arg, ast.keyword, ast.expr_context, ast.alias),
    # expressions
    *(ast.Constant, ast.Name, ast.Call, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp),
    *(ast.Attribute, ast.Subscript, ast.Slice, ast.Starred, ast.Lambda, ast.JoinedStr, ast.FormattedValue),
    *(ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    *(ast.comprehension, ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)
_NAMES = frozenset(
    (
        *("breakpoint", "compile", "delattr", "eval", "exec", "exit", "getattr", "globals", "help", "input"),
        *("locals", "open", "quit", "setattr", "vars"),
    )
)
_ATTRIBUTES = frozenset(("purge", "register"))


def leaves_no_trace(program: Program) -> bool:
    """True where a judge is as it was after it has run the program's tests."""
    return all(map(_harmless, (program.test_setup, program.support, *(test.code for test in program.tests))))


def _harmless(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(map(_allowed, ast.walk(tree)))


def _allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return all(alias.name in _MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module in _MODULES and not node.level
    if isinstance(node, ast.Name):
        return node.id not in _NAMES and not node.id.startswith("__")
    if isinstance(node, ast.Attribute):
        return (
            isinstance(node.ctx, ast.Load) and node.attr not in _ATTRIBUTES and not node.attr.startswith("_")
        )
    return isinstance(node, _NODES)
