"""The child's side: switches the isolation on, runs the solution and its tests, reports each test.

Never imported by codestill: ``process.py`` compiles this file once and every child executes the code object
in a fresh interpreter, with a private copy of the builtins, so a program that replaces ``builtins.len``
does not reach it. The standard library only; ``ctypes`` is the one import that costs anything.

The payload is a dict (see ``process.py``). A report is a length of four bytes, the secret, and text fields
separated by NUL: ``started``; ``unavailable, layer, errno``; ``failed, verdict, error`` for the solution
and the test set-up; ``test, index, verdict, error type, message``; ``detail, index, call, actual,
expected``; ``done``.
"""

import _ast
import ctypes
import os
import resource
import sys

CAP = 2000  # characters of a message or of a value's repr
SETUP = "<test_setup>"
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_RESTRICT_SELF, _CAPABILITIES_3 = 446, 0x20080522
_FILE_CAPABILITIES = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root needs them for a user's interpreter


def confine(payload):
    """Switch on every layer of the payload; returns ``(layer, errno)`` of the first that fails, else None."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(option, *arguments):
        padded = [*arguments, 0, 0, 0, 0][:4]
        if libc.prctl(option, *map(ctypes.c_ulong, padded)):
            raise OSError(ctypes.get_errno(), "prctl")

    layer = "session"
    try:
        prctl(_PR_SET_PDEATHSIG, 9)
        if os.getppid() != payload["parent"]:
            os._exit(1)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if payload["limits"]:
            layer = "rlimits"
            for kind, soft, hard in payload["limits"]:
                _, ceiling = resource.getrlimit(kind)
                if ceiling != resource.RLIM_INFINITY:
                    soft, hard = min(soft, ceiling), min(hard, ceiling)
                resource.setrlimit(kind, (soft, hard))
        if payload["landlock"] >= 0:
            layer = "landlock"
            number, ruleset = ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(payload["landlock"])
            if libc.syscall(number, ruleset, ctypes.c_uint(0)):
                raise OSError(ctypes.get_errno(), "landlock_restrict_self")
            os.close(payload["landlock"])
        if payload["filter"]:
            layer = "seccomp"
            header, sets = (ctypes.c_uint * 2)(_CAPABILITIES_3, 0), (ctypes.c_uint * 6)()
            if libc.capget(header, sets) == 0:
                kept = sets[1] & _FILE_CAPABILITIES
                libc.capset(header, (ctypes.c_uint * 6)(kept, kept, 0, 0, 0, 0))
            program = ctypes.create_string_buffer(payload["filter"], len(payload["filter"]))

            class Filter(ctypes.Structure):
                _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))

            described = Filter(len(payload["filter"]) // 8, ctypes.addressof(program))
            prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(described))
    except (OSError, ValueError) as error:
        return layer, getattr(error, "errno", None) or 0
    return None


def text(make, cap=CAP):
    """``make()`` as an exact ``str`` of at most ``cap`` characters, whatever the program's classes do."""
    try:
        value = make()
        exact = str.__getitem__(value, slice(0, cap + 1))
    except BaseException as error:
        return f"<{type.__dict__['__name__'].__get__(type(error))} in repr>"
    return exact if len(exact) <= cap else exact[: cap - 3] + "..."


def describe(error):
    """``(type name, message)`` of an exception."""
    kind = type(error)
    if issubclass(kind, SyntaxError):
        return text(lambda: kind.__name__), text(lambda: f"{error.msg} (line {error.lineno})")
    return text(lambda: kind.__name__), text(lambda: str(error))


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


def main(payload):
    secret, channel = payload.pop("secret"), payload.pop("report")
    write, leave, flush = os.write, os._exit, sys.stdout.flush
    settrace, setprofile, shared = sys.settrace, sys.setprofile, sys.modules["builtins"].__dict__
    pristine = dict(shared)
    solution, setup, tests = payload["solution"], payload["test_setup"], payload["tests"]
    name = payload["entry_point"]
    reserve = [bytearray(1 << 20)]  # released when memory is short, so that the report can still be made

    def report(*fields):
        body = secret + "\0".join(field.replace("\0", "\\0") for field in fields).encode(
            "utf-8", "backslashreplace"
        )
        body = len(body).to_bytes(4, "big") + body
        while body:
            body = body[write(channel, body) :]

    def finish(*fields):
        try:
            flush()
        except (OSError, ValueError):  # the program closed it
            sys.stdout = None
        report(*fields)
        leave(0)

    def run(source, filename, entries=None):
        """Execute in the program's namespace; returns None or ``(verdict, error)``."""
        settrace(None)
        setprofile(None)
        shared.update(pristine)
        try:
            exec(compile(source, filename, "exec", dont_inherit=True), namespace)
        except MemoryError as error:
            reserve.clear()
            error.__traceback__ = None
            return "memory", error
        except SystemExit as error:
            return "early_exit", error
        except BaseException as error:
            own, entry = [], error.__traceback__
            while entry is not None:
                if entry.tb_frame.f_code.co_filename in sources:
                    own.append(entry)
                entry = entry.tb_next
            in_test = bool(own) and own[-1].tb_frame.f_code.co_filename != "<solution>"
            if entries is not None:
                entries += [item for item in own if item.tb_frame.f_code.co_filename != "<solution>"]
            # An assertion of the solution's own is an error like any other.
            return ("wrong" if in_test and issubclass(type(error), AssertionError) else "exception"), error
        finally:
            settrace(None)
            setprofile(None)
        return None

    failure = confine(payload)
    if failure is not None:
        finish("unavailable", failure[0], str(failure[1]))
    # The program's module is not __main__, so that an `if __name__ == "__main__"` block, which may read input
    # or print, does not run; but it stands in sys.modules under both names, so that `import __main__`, pickle
    # and dataclasses meet the program and not this harness.
    module = type(sys)("__solution__")
    namespace = module.__dict__
    namespace["__builtins__"] = sys.modules["builtins"]
    sys.modules["__solution__"] = sys.modules["__main__"] = module
    sys.path += payload["path"]
    sources = {"<solution>": solution, SETUP: setup}
    report("started")
    for source, filename in ((solution, "<solution>"), (setup, SETUP)):
        outcome = run(source, filename)
        if outcome is not None:
            kind, message = describe(outcome[1])
            where = "" if filename == "<solution>" else "test set-up: "
            finish("failed", outcome[0], f"{where}{kind}: {message}" if message else f"{where}{kind}")
    for index, test in enumerate(tests):
        filename, entries = f"<test {index}>", []
        sources[filename] = test
        outcome = run(test, filename, entries)
        if outcome is None:
            report("test", str(index), "pass", "", "")
            continue
        verdict, error = outcome
        report("test", str(index), verdict, *describe(error))
        if entries:
            direct = verdict == "wrong" and entries[-1].tb_next is None
            try:
                report("detail", str(index), *explain(entries, sources, namespace.get(name), name, direct))
            except (RecursionError, MemoryError):  # an explanation too large to have
                continue
    finish("done")


main(globals().pop("payload"))
