"""Programs that forge their verdict, or look for the answer where the tests keep it."""

from tests.sandbox.hostile.program import Hostile

ANSWER = "assert f() == 'TOKEN'"

_SPRAY = """
LINES = [{"k": "test", "i": 0, "v": "pass"}, {"k": "done"}]
ZYGOTE = {"ended": "itself", "solver": [0, 0.1, 1, False], "judge": [0, 0.1, 1, False]}
def spray():
    for number in range(1024):
        for text in [*(json.dumps(item) + "\\n" for item in (*LINES, ZYGOTE)), "passed\\n"]:
            try:
                if not stat.S_ISFIFO(os.fstat(number).st_mode):
                    os.write(number, text.encode())
            except OSError:
                pass
"""
_LEFT = "exception SystemExit: the process left with status "

ENDINGS = [
    Hostile(name, source, ends, tests=ANSWER)
    for name, source, ends in [
        ("exit by sys", "sys.exit(0)", "exception SystemExit"),
        ("exit by os", "os._exit(0)", _LEFT + "0"),
        ("exit with the judge's status", "os._exit(3)", _LEFT + "3"),
        ("exit in the test", "def f(): os._exit(0)", _LEFT + "0"),
        ("exit in the test by sys", "def f(): sys.exit(0)", "exception SystemExit"),
        (
            "exit at exit",
            "import atexit\natexit.register(os._exit, 0)\ndef f(): raise SystemExit(0)",
            "exception SystemExit",
        ),
        (
            "exit from a thread",
            "import threading\nthreading.Thread(target=lambda: os._exit(0)).start()\ndef f(): time.sleep(1)",
            _LEFT + "0",
        ),
        ("exit of a thread alone", "def f(): call(60 if COLUMN == 0 else 93, 0)", _LEFT + "0"),
        ("words", "print('passed'); print('OK')\ndef f(): pass", "wrong"),
        ("records on every descriptor", _SPRAY + "spray()\ndef f(): pass", "wrong"),
        (
            "records on every descriptor, then exit",
            _SPRAY + "def f():\n    spray()\n    os._exit(0)",
            _LEFT + "0",
        ),
        ("answers in advance", "for reply in (['ready', True], *[['ok', True]] * 9): say(reply)", "wrong"),
        ("two answers", "def f():\n    say(['ok', False])\n    return True", "wrong"),
        ("an answer, then the end", "def f():\n    say(['ok', True])\n    os._exit(0)", "wrong"),
        ("no descriptors", "os.closerange(0, 1024)\ndef f(): return True", "exception SystemExit"),
        (
            "no channel",
            "def f():\n    for number in channel(): os.close(number)\n    return True",
            "exception SystemExit",
        ),
        (
            "a channel to itself",
            "def f():\n    reader, writer = os.pipe()\n    os.dup2(writer, channel()[1])\n    return True",
            "exception SystemExit",
        ),
        ("no output", "sys.stdout = sys.stderr = None\ndef f(): return True", "wrong"),
        (
            "an output that ends it",
            "class Out:\n    def write(self, *_): os._exit(0)\n    flush = write\n"
            "sys.stdout = Out()\ndef f(): return True",
            "wrong",
        ),
    ]
]

PATCHES = [
    Hostile(
        name,
        source,
        ends,
        tests=ANSWER,
        waits=ends == "wall_timeout",
        cpu_seconds=0.1 if ends == "wall_timeout" else None,
    )
    for name, source, ends in [
        (
            "builtins replaced",
            "import builtins\nbuiltins.AssertionError = KeyboardInterrupt\n"
            "for name in ('print', 'compile', 'exec', 'len', 'isinstance', 'type', 'repr', 'str'):\n"
            "    setattr(builtins, name, lambda *a, **k: True)\ndef f(): return 1",
            "exception SystemExit: the process left",
        ),
        (
            "functions of os replaced",
            "os.write = lambda file, data: len(data)\nos._exit = lambda status: None\ndef f(): return True",
            "wall_timeout",
        ),
        (
            "json and marshal replaced",
            "import marshal\njson.dumps = lambda *a, **k: '[\"ok\", true]'\n"
            "json.loads = lambda *a, **k: True\n"
            "marshal.loads = lambda *a: True\nmarshal.dumps = lambda *a: b''\ndef f(): return 1",
            "undecidable",
        ),
        (
            "the sandbox's own modules replaced",
            "for name, module in list(sys.modules.items()):\n    if name.startswith('inside'):\n"
            "        for key in list(vars(module)):\n"
            "            setattr(module, key, lambda *a, **k: b'[\"ok\", true]')\ndef f(): return True",
            "exception SystemExit: the process left",
        ),
        (
            "every module forgotten",
            "for name in list(sys.modules): sys.modules[name] = None\ndef f(): return True",
            "wrong",
        ),
        (
            "assertions skipped by a trace function",
            "def trace(frame, event, argument):\n"
            "    if event == 'line' and 'test' in frame.f_code.co_filename: frame.f_lineno += 1\n"
            "    return trace\nsys.settrace(trace)\nsys.setprofile(trace)\ndef f(): pass",
            "wrong",
        ),
        (
            "the sandbox's memory of other programs",
            "def f(): return __memo__(lambda: 'x')",
            "exception NameError",
        ),
    ]
]

# The prefix is put together, so that a program does not find its own source.
_SEARCHES = {
    "among all objects": """
import gc
def f():
    seen, queue = set(), gc.get_objects()
    while queue:
        value = queue.pop()
        if id(value) in seen or len(seen) > 300_000:
            continue
        seen.add(id(value))
        text = value.decode("latin1") if isinstance(value, bytes) else value
        if isinstance(text, str) and (at := text.find("EXPECTED" + "-")) >= 0:
            return text[at : at + 41]
        queue += gc.get_referents(value)
""",
    "in frames": """
def f():
    frame = sys._getframe()
    while frame:
        for value in (*frame.f_locals.values(), *frame.f_globals.values(), *frame.f_code.co_consts):
            text = str(value) if isinstance(value, (str, dict, list, tuple)) else ""
            if (at := text.find("EXPECTED" + "-")) >= 0:
                return text[at : at + 41]
        frame = frame.f_back
""",
    # write(2) reads memory and fails, rather than dies, where there is none.
    "in memory": """
def f():
    reader, writer = os.pipe()
    libc.write.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
    heap = libc.sbrk(0)
    near = {n >> 26 << 26 for n in (id(bytearray(1 << 20)), id(f), id(sys), heap - 1, heap - (1 << 26))}
    prefix, text = b"EXPECTED" + b"-", b""
    for start in sorted(near):
        for address in range(start, start + (1 << 26), 4096):
            if libc.write(writer, address, 4096) < 0:
                continue
            text = text[-41:] + os.read(reader, 4096)
            at = text.find(prefix)
            if at >= 0 and len(text) - at >= 41 and text[at + 9 : at + 41].isalnum():
                return text[at : at + 41].decode()
""",
}
COMPILER = [
    Hostile(name, source, ends, tests=ANSWER)
    for name, source, ends in [
        ("parentheses without end", "x = " + "(" * 50_000, "exception SyntaxError"),
        ("a source with a null", "def f(): pass\n\0", "exception"),
        ("a source that is no text", "def f(): return '\ud800'", "exception UnicodeEncodeError"),
        (
            "an error that is no error",
            "class Odd(SyntaxError):\n    msg = lineno = property(lambda self: 1 / 0)\n"
            "    def __init__(self, *_): pass\nraise Odd",
            "exception SystemExit: the process left",
        ),
    ]
]

SEARCHES = [
    Hostile(
        f"the expected value {where}",
        source,
        "wrong",
        tests=ANSWER,
        setup="EXPECTED = 'TOKEN'",
        cpu_seconds=5,
    )
    for where, source in _SEARCHES.items()
]
"""Each finds the value where the tests share its process: a test shows that too."""

CALLBACKS = [
    Hostile(name, source, ends, tests=test, setup="EXPECTED = 'TOKEN'")
    for name, source, ends, test in [
        (
            "a callback's globals",
            "def f(g):\n"
            "    found = g.__globals__, g.__code__.co_consts, [c.cell_contents for c in g.__closure__]\n"
            "    text = ' '.join(map(str, found))\n    at = text.find('EXPECTED' + '-')\n"
            "    return text[at : at + 41]",
            "wrong",
            "assert f(lambda: EXPECTED) == 'TOKEN'",
        ),
        (
            "callbacks that were never given",
            """
def f(g):
    heard, answers = channel()
    for number in (1, 99, "x", None, [], 1.5, {"t": [0]}):
        say(["callback", number, [], {"d": []}])
        size = int.from_bytes(os.read(heard, 5)[:4], "big")
        if (at := (text := os.read(heard, size).decode()).find("EXPECTED" + "-")) >= 0:
            return text[at : at + 41]
    return "none"
""",
            "wrong",
            "assert f(lambda: None) == 'TOKEN'",
        ),
        (
            "callbacks in callbacks without end",
            "def f(g): return g(lambda: f(g))",
            "undecidable",
            "assert f(lambda again: again()) == 'TOKEN'",
        ),
        (
            "a callback from an earlier test",
            "kept = []\ndef f(g):\n    kept.append(g)\n    return kept[0]()",
            "wrong",
            "f(lambda: EXPECTED[:0])\nassert f(lambda: None) == 'TOKEN'",
        ),
    ]
]

PROGRAMS = ENDINGS + PATCHES + COMPILER + SEARCHES + CALLBACKS
