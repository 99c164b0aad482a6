"""Why a test failed, as text: the call, what it returned and what was expected.

Works from the traceback: the failing instruction's source is parsed again, and the sides of a failed
comparison are evaluated once more in the frame where it failed.
"""

import _ast

CAP = 2000  # characters of a message or of a value's repr


def text(make, cap=CAP):
    """``make()`` as an exact ``str`` of at most ``cap`` characters, whatever the program's classes do."""
    try:
        value = make()
        exact = str.__getitem__(value, slice(0, cap + 1))
    except BaseException as error:
        return f"<{type.__dict__['__name__'].__get__(type(error))} in repr>"
    exact = exact if len(exact) <= cap else exact[: cap - 3] + "..."
    return exact.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is no text


def titled(module, name):
    """A class's name as tracebacks have it."""
    return name if module in ("builtins", "__main__", "__solution__", "__tests__") else f"{module}.{name}"


def describe(error):
    """``(type name, message)`` of an exception."""
    kind = type(error)
    title = text(lambda: titled(kind.__module__, kind.__qualname__))
    if issubclass(kind, SyntaxError):
        line = getattr(error, "told_line", error.lineno)  # of the candidate's
        return title, text(lambda: f"{error.msg} (line {line})")
    return title, text(lambda: str(error))


def children(node):
    for name in node._fields:
        value = getattr(node, name)
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, _ast.AST):
                yield item


def walk(node):
    yield node
    for child in children(node):
        yield from walk(child)


class Where:
    """A traceback entry in test code: its frame, and the syntax tree of the instruction that raised."""

    def __init__(self, entry, source):
        self.frame = entry.tb_frame
        positions = list(self.frame.f_code.co_positions())[entry.tb_lasti // 2]
        first, last, start, end = positions
        lines = source.encode().split(b"\n")[first - 1 : last]
        lines[-1] = lines[-1][:end]
        lines[0] = lines[0][start:]
        self.source = b"\n".join(lines).decode()
        statement = self.source.startswith("assert") and not f"a{self.source[6:7]}".isidentifier()
        module = compile(
            self.source if statement else f"({self.source})", "<segment>", "exec", _ast.PyCF_ONLY_AST
        )
        tree = module.body[0]  # pyright: ignore[reportAttributeAccessIssue]
        self.asserts = statement or not isinstance(tree.value, _ast.Call)
        self.node = tree.test if statement else tree.value
        self.offset = 0 if statement else 1  # of the added parenthesis

    def value(self, node):
        code = compile(_ast.Expression(body=node), "<segment>", "eval")
        return eval(code, {**self.frame.f_globals, **self.frame.f_locals})

    def spell(self, node):
        lines = self.source.encode().split(b"\n")[node.lineno - 1 : node.end_lineno]
        shift = self.offset
        lines[-1] = lines[-1][: node.end_col_offset - (shift if node.end_lineno == 1 else 0)]
        lines[0] = lines[0][node.col_offset - (shift if node.lineno == 1 else 0) :]
        return b"\n".join(lines).decode()

    def find_call(self, node, function):
        """The first call of ``function`` under ``node``, by whatever name, or None."""
        for item in walk(node):
            if isinstance(item, _ast.Call) and isinstance(item.func, _ast.Name):
                name = item.func.id
                if self.frame.f_locals.get(name, self.frame.f_globals.get(name)) is function:
                    return item
        return None

    def spell_call(self, call, name):
        """The call with its arguments as values: ``f(*inputs)`` is spelt ``f(1, 2)``."""
        parts = []
        for argument in call.args:
            if isinstance(argument, _ast.Starred):
                parts += [repr(value) for value in self.value(argument.value)]
            else:
                parts.append(repr(self.value(argument)))
        for keyword in call.keywords:
            value = self.value(keyword.value)
            pairs = [(keyword.arg, value)] if keyword.arg else value.items()
            parts += [f"{key}={item!r}" for key, item in pairs]
        return f"{name}({', '.join(parts)})"


def explain(entries, sources, function, name, failed_assertion):
    """``(call, actual, expected)`` for an exception in test code, each as text; empty where not known.

    ``entries`` are the traceback entries in test code, outermost first. The sides of a failed assertion are
    evaluated a second time, in the frame where it failed.
    """
    found = []
    for entry in reversed(entries):
        try:
            found.append(Where(entry, sources[entry.tb_frame.f_code.co_filename]))
        except (SyntaxError, AttributeError, IndexError, TypeError, ValueError):
            if not found:
                return "", "", ""  # a plain raise statement
    call = ""
    for where in found:
        node = where.find_call(where.node, function)
        if node is not None:
            call = text(lambda where=where, node=node: where.spell_call(node, name))
            break
    where = found[0]
    if not (failed_assertion and where.asserts):
        return call, "", ""
    test = where.node
    if isinstance(test, _ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (_ast.Eq, _ast.Is)):
        left, right = test.left, test.comparators[0]
        if where.find_call(left, function) is None and where.find_call(right, function) is not None:
            left, right = right, left
        expected = text(lambda: repr(where.value(right)))
    elif isinstance(test, _ast.UnaryOp) and isinstance(test.op, _ast.Not):
        left, expected = test.operand, "False"
    else:
        left, expected = test, "True"
    actual = text(lambda: repr(where.value(left)))
    return call or text(lambda: where.spell(left)), actual, expected
