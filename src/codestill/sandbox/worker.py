"""The caller's side of one zygote: start it, send it programs one at a time, end it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codestill.languages import LANGUAGES, MEGABYTES
from codestill.sandbox.config import SandboxConfig

LAYERS = ("namespaces", "landlock", "seccomp", "rlimits")
_BOOT = (
    "import sys;sys.path.insert(0,sys.argv[2]);from inside.zygote import main;"
    "del sys.path[0],sys.argv[2];main(int(sys.argv[1]))"
)
_START_SECONDS, _END_SECONDS, _LEAVE_SECONDS = 60, 10, 1
# The commonest imports of solutions and tests. Every loaded module makes forking slower: random is left out,
# because it takes a new seed in every forked process, and dataclasses, because it imports most of inspect.
_PRELOAD = (
    *("abc", "bisect", "collections", "copy", "datetime", "enum", "functools", "heapq", "itertools"),
    *("json", "math", "operator", "re", "string", "time", "typing"),
    *("encodings.ascii", "encodings.latin_1"),
)


class MissingLayer(Exception):
    """The kernel refused an isolation layer."""

    def __init__(self, layer: str, what: str, code: int, message: str) -> None:
        super().__init__(layer, what, code, message)
        self.layer, self.what, self.code, self.message = layer, what, code, message


class Lost(Exception):
    """The zygote ended while it had a program, of which nothing is known."""


class Worker:
    """One zygote. Raises MissingLayer, or Lost where it does not start."""

    def __init__(self, config: SandboxConfig, layers: Iterable[str]) -> None:
        self.control, inherited = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.interpreters = _interpreters(config.memory_megabytes)
        """By language: those known and installed when the zygote started."""
        self._lock = threading.Lock()
        self._errors = os.memfd_create("errors")
        # -I without its -E: the environment is entirely ours, and the hash seed must take effect.
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-s",
                "-S",
                "-P",
                "-B",
                "-c",
                _BOOT,
                str(inherited.fileno()),
                str(Path(__file__).parent),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            cwd="/",
            # Symbols are bound once, here, and not again in every forked process.
            env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LD_BIND_NOW": "1", **_loader_paths()},
            pass_fds=[inherited.fileno()],
            start_new_session=True,
        )
        inherited.close()
        try:
            self.report = self._introduce(config, list(layers))
        except BaseException:
            self.kill()
            raise

    def _introduce(self, config: SandboxConfig, layers: list[str]) -> dict[str, Any]:
        output = config.output_kilobytes * 1000
        settings = {
            "layers": layers,
            **_visible(readable_paths(), "namespaces" in layers),
            "site_packages": site_packages(),
            "interpreters": self.interpreters,
            "preload": [*_PRELOAD, *config.preload],
            "environment": _environment(),
            "memory_bytes": config.memory_megabytes << 20,
            "file_bytes": max(config.file_megabytes << 20, output + 1),
            "scratch_bytes": max(config.file_megabytes << 20, 1 << 16),
            "open_files": config.open_files,
        }
        self.control.settimeout(_START_SECONDS)
        caller = os.pidfd_open(os.getpid())
        try:
            socket.send_fds(self.control, [json.dumps(settings).encode()], [caller])
        except OSError as error:
            raise Lost(f"it ended at once: {self._errors_text()}") from error
        finally:
            os.close(caller)
        answer = self._receive()
        self.control.settimeout(None)
        if "missing" in answer:
            what = answer["missing"]
            layer = next((name for name in LAYERS if what.startswith(name)), "")
            if what == "preload":
                raise Lost(answer["message"])
            if not layer and "namespaces" in layers:
                layer = "namespaces"
            raise MissingLayer(layer or "identity", what, answer["errno"], answer["message"])
        return answer

    def execute(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """The zygote's answer for one program. Raises Lost where there is none."""
        try:
            socket.send_fds(self.control, [json.dumps(request).encode()], descriptors)
        except OSError as error:
            raise Lost(str(error)) from error
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        try:
            packet = self.control.recv(4096)
        except OSError as error:
            raise Lost(str(error)) from error
        if not packet:
            raise Lost(f"it ended: {self._errors_text()}")
        return json.loads(packet)

    def _errors_text(self) -> str:
        text = os.pread(self._errors, 1 << 16, 0).decode(errors="replace").strip()
        return text[-800:] or "without a message"

    def kill(self) -> None:
        """End the zygote and everything that it started; may be called twice, and from any thread."""
        with self._lock:
            if self.process.returncode is None:
                self.process.terminate()  # its guard exits after the last of its processes
                try:
                    self.process.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                with contextlib.suppress(OSError):
                    self.control.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it and close the descriptors; not while another thread uses them."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # without work it exits by itself
            self.control.shutdown(socket.SHUT_RDWR)
            self.process.wait(_LEAVE_SECONDS)
        self.kill()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors of a zygote that belongs to the process from which this one was forked."""
        if self.control.fileno() >= 0:
            self.control.close()
            os.close(self._errors)


def site_packages() -> list[str]:
    """The directories of installed packages that this interpreter searches: programs may import numpy."""
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def _interpreters(memory_megabytes: int) -> dict[str, dict[str, Any]]:
    """For each language that is not the zygote's own: interpreter, its arguments, and the runner's path."""
    return {
        name: {
            "path": path,
            "arguments": [
                part.replace(MEGABYTES, str(max(16, memory_megabytes // 2))) for part in language.arguments
            ],
            "runner": str(language.runner),
        }
        for name, language in LANGUAGES.items()
        if not language.is_python and (path := language.executable()) is not None
    }


def _language_paths() -> list[str]:
    foreign = [language for language in LANGUAGES.values() if not language.is_python]
    return [path for language in foreign for path in (language.executable(), *language.readable) if path]


def readable_paths() -> list[str]:
    """What a program may read: the interpreters of all languages, installed packages, system libraries and
    time zones."""
    system = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64")
    others = ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo")
    interpreter = (sys.base_prefix, sys.base_exec_prefix, sys.prefix, *site_packages())
    loader = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/")]
    named = (*system, *others, *interpreter, *loader, *_language_paths())
    existing = [Path(path) for path in named if Path(path).exists()]
    # Both a path and what it resolves to: modules are found by the one, libraries perhaps by the other.
    links = {path for path in existing if path.is_relative_to("/lib") or path.is_relative_to("/lib64")}
    readable = {path.resolve() for path in existing} | {
        path.absolute() for path in existing if path not in links
    }
    readable.discard(Path("/usr"))
    return sorted(str(path) for path in readable if not readable & set(path.parents))


_PACKAGE = Path(__file__).resolve().parents[1]
"""codestill itself: its task grammars contain answers, so no program may read it."""


def _visible(paths: list[str], mounted: bool) -> dict[str, list[str]]:
    """``readable`` without codestill: hidden by a mount, or else by listing everything around it.

    ``listable`` are the directories on the way to it, of which only the names may be read."""
    if not any(_PACKAGE.is_relative_to(path) for path in paths):
        return {"readable": paths, "listable": [], "hidden": []}
    if mounted:
        return {"readable": paths, "listable": [], "hidden": [str(_PACKAGE)]}
    readable: list[str] = []
    listable: list[str] = []
    rest = [Path(path) for path in paths]
    while rest:
        path = rest.pop().resolve()  # a venv's lib64 is a link to its lib
        if not _PACKAGE.is_relative_to(path):
            readable.append(str(path))
        elif path != _PACKAGE and str(path) not in listable:
            listable.append(str(path))
            rest += path.iterdir()
    return {"readable": sorted(set(readable)), "listable": listable, "hidden": []}


def _loader_paths() -> dict[str, str]:
    return {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}


def _environment() -> dict[str, str]:
    """The environment of programs: nothing of the caller's."""
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # Where it may not read its configuration, OpenSSL ends node, which it does not where there is none.
    configuration = {"OPENSSL_CONF": os.devnull}
    fixed = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
    return {**fixed, **configuration, **one_thread}
