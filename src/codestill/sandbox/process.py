"""One program in one fresh Python process: start it, watch it, read its report, decide the verdict.

What holds: the process is started by exec (the caller, which may hold a model and threads, is never
forked); the program cannot start processes, reach the network, signal or trace others, and, where the
kernel has Landlock, cannot read outside the interpreter's directories nor write outside its scratch
directory; its memory, CPU time, file size, output and number of open files are bounded; nothing of it
survives. The report comes over a pipe of its own and every record carries a secret drawn for this one
execution, so exit codes, printed words and bytes written blindly to descriptors cannot make a pass.

What does not hold: the solution, its tests and the harness share one process. A program written to cheat
can walk frames or the garbage collector to the secret, return an object whose ``__eq__`` answers True, or
replace ``math.isclose``. (Replaced builtins and trace functions are undone before every test.) Only a judge
in another process is sound against that. Without a mount namespace nothing bounds the *number* of files
written to the scratch directory, other than the CPU limit. The kernel is shared with the caller.
"""

import contextlib
import errno
import marshal
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codestill.errors import SandboxError, SandboxUnavailable
from codestill.sandbox import isolation
from codestill.sandbox.program import Program
from codestill.sandbox.report import Report, stable
from codestill.types import ExecutionResult, Verdict

if TYPE_CHECKING:
    from codestill.sandbox.config import SandboxConfig

_BOOT = (
    "import marshal,sys,builtins;c,p=marshal.loads(sys.stdin.buffer.read());"
    "exec(c,{'__name__':'harness','__builtins__':dict(vars(builtins)),'payload':p})"
)
_WALL_MARGIN_SECONDS = 2.0
_BUSY_SHARE = 0.05  # of a core: less than this over the wall limit is waiting
_STORED_OUTPUT = 4000  # characters


class Stopped(Exception):
    """The caller asked for the program to be killed; there is no result."""


class NotStarted(Exception):
    """The child failed before the first line of the program: to be retried, never scored."""


class MissingLayer(Exception):
    """The kernel refused an isolation layer."""

    def __init__(self, layer: str, code: int) -> None:
        super().__init__(layer, code)
        self.layer, self.code = layer, code


@dataclass
class _Observed:
    report: Report
    output: bytes
    ended_by: str  # "itself", "wall", "output" or "silence"
    status: int
    cpu_seconds: float
    wall_seconds: float


class ProcessExecutor:
    """Executes programs, any number at once from any threads.

    ``description`` names the layers that were found to work. Raises SandboxUnavailable, naming the layer,
    where one that is required does not, unless ``config.unsafe``.
    """

    def __init__(self, config: "SandboxConfig") -> None:
        self.config = config
        self.description = ""
        source = Path(__file__).with_name("harness.py")
        self._harness = compile(source.read_text(encoding="utf-8"), "<harness>", "exec", dont_inherit=True)
        self._limits = True
        self._filter = isolation.seccomp_filter()
        self._landlock, notes = 0, []
        try:
            self._landlock = isolation.landlock_version()
        except OSError as error:
            notes.append(f"no landlock ({errno.errorcode.get(error.errno or 0, error.errno)})")
        self._readable = isolation.readable_paths()
        self._environment = _environment()
        probe = Program(solution="", entry_point="probe", tests=())
        while True:
            try:
                self.execute(probe)
                break
            except (OSError, NotStarted) as error:
                raise SandboxError(
                    f"a sandboxed Python process does not start: {error}",
                    next_step=f"Check that {sys.executable} runs, and the limits on processes and memory.",
                ) from error
            except MissingLayer as missing:
                cause = errno.errorcode.get(missing.code, str(missing.code))
                if missing.layer not in ("landlock", "seccomp", "rlimits"):
                    raise SandboxError(
                        f"the sandbox's child cannot set up its {missing.layer} ({cause})",
                        next_step="Run outside the container or tool that restricts prctl.",
                    ) from missing
                if missing.layer != "landlock" and not config.unsafe:
                    raise _unavailable(missing.layer, cause) from missing
                notes.append(f"no {missing.layer} ({cause})")
                self._landlock = 0 if missing.layer == "landlock" else self._landlock
                self._filter = b"" if missing.layer == "seccomp" else self._filter
                self._limits = False if missing.layer == "rlimits" else self._limits
        layers = [("seccomp", self._filter), ("landlock", self._landlock), ("rlimits", self._limits)]
        working = "+".join([name for name, works in layers if works] + ["session"])
        self.description = f"process: {working}" + "".join(f", {note}" for note in notes)

    def execute(self, program: Program, stop: int | None = None) -> ExecutionResult:
        """Run one program.

        ``stop`` is a file descriptor: when it becomes readable or hangs up, the program is killed and Stopped
        is raised. Raises NotStarted when the child could not start and OSError when it could not be spawned.
        """
        limit = program.cpu_seconds or self.config.cpu_seconds
        scratch = Path(tempfile.mkdtemp(prefix="codestill-"))
        try:
            observed = self._observe(program, limit, scratch, stop)
        finally:
            _remove(scratch)
        return self._judge(program, limit, observed)

    def _observe(self, program: Program, limit: float, scratch: Path, stop: int | None) -> _Observed:
        secret = secrets.token_bytes(32)
        report = Report(secret)
        with contextlib.ExitStack() as stack:
            receive, send = os.pipe()
            receiver = stack.enter_context(os.fdopen(receive, "rb", buffering=0))
            sender = stack.enter_context(os.fdopen(send, "wb", buffering=0))
            inherited, ruleset = [send], -1
            if self._landlock:
                ruleset = isolation.landlock_ruleset(self._landlock, self._readable, scratch)
                stack.callback(os.close, ruleset)
                inherited.append(ruleset)
            payload = marshal.dumps(
                (
                    self._harness,
                    {
                        "secret": secret,
                        "report": send,
                        "parent": os.getpid(),
                        "landlock": ruleset,
                        "filter": self._filter,
                        "limits": self._resource_limits(limit),
                        "path": isolation.site_packages(),
                        "solution": program.solution,
                        "entry_point": program.entry_point,
                        "test_setup": program.test_setup,
                        "tests": [test.code for test in program.tests],
                    },
                )
            )
            # -I without its -E: the environment is ours entirely, and the hash seed has to get through.
            child = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-B", "-c", _BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                cwd=scratch,
                env={**self._environment, "HOME": str(scratch), "TMPDIR": str(scratch)},
                pass_fds=inherited,
                start_new_session=True,
            )
            started = time.monotonic()
            output, ended_by = bytearray(), "itself"
            try:
                sender.close()
                wall = _wall_seconds(limit, self.config)
                ended_by = self._watch(child, payload, receiver.fileno(), report, output, wall, stop)
            finally:
                status, cpu = _reap(child)
                _drain(child, output, self._output_bytes)
            elapsed = time.monotonic() - started
        return _Observed(report, bytes(output), ended_by, status, cpu, elapsed)

    @property
    def _output_bytes(self) -> int:
        return self.config.output_kilobytes * 1000

    def _resource_limits(self, cpu_seconds: float) -> list[tuple[int, int, int]]:
        if not self._limits:
            return []
        return isolation.resource_limits(
            cpu_seconds=int(-(-cpu_seconds // 1)),
            memory_bytes=self.config.memory_megabytes * 2**20,
            file_bytes=self.config.file_megabytes * 2**20,
            open_files=self.config.open_files,
        )

    def _watch(
        self,
        child: subprocess.Popen[bytes],
        payload: bytes,
        receive: int,
        report: Report,
        output: bytearray,
        wall: float,
        stop: int | None,
    ) -> str:
        """Feed the payload, collect report and output until the child is done; returns what ended it."""
        assert child.stdin is not None and child.stdout is not None
        stdin, stdout = child.stdin.fileno(), child.stdout.fileno()
        for descriptor in (stdin, stdout, receive):
            os.set_blocking(descriptor, False)
        poll = select.poll()
        poll.register(stdin, select.POLLOUT)
        poll.register(stdout, select.POLLIN)
        poll.register(receive, select.POLLIN)
        if stop is not None:
            poll.register(stop, select.POLLIN)
        rest = memoryview(payload)
        deadline, used = time.monotonic() + wall, 0.0
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                # A program that computes is held up by the machine's load: its CPU limit will decide.
                before, used = used, _cpu_clock(child.pid)
                if used - before < _BUSY_SHARE * wall:
                    return "wall"
                deadline, remaining = time.monotonic() + wall, wall
            for descriptor, _ in poll.poll(remaining * 1000 + 1):
                if descriptor == stop:
                    raise Stopped
                if descriptor == stdin:
                    try:
                        rest = rest[os.write(stdin, rest) :]
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        poll.unregister(stdin)
                        child.stdin.close()
                elif descriptor == stdout:
                    data = os.read(stdout, 65536)
                    output += data
                    if not data:
                        poll.unregister(stdout)
                    elif len(output) > self._output_bytes:
                        return "output"
                else:
                    data = os.read(receive, 65536)
                    report.feed(data)
                    if report.done:
                        return "itself"
                    if report.broken:
                        return "silence"
                    if not data:
                        return "itself" if _exits(child, within=1.0) else "silence"

    def _judge(self, program: Program, limit: float, observed: _Observed) -> ExecutionResult:
        report = observed.report
        if report.missing is not None:
            raise MissingLayer(*report.missing)
        if not report.started:
            raise NotStarted(observed.output.decode(errors="replace")[-500:] or f"status {observed.status}")
        verdict, error = self._outcome(program, limit, observed)
        return ExecutionResult(
            verdict=verdict,
            tests=tuple(report.tests),
            error=error,
            output=stable(observed.output.decode(errors="replace"))[:_STORED_OUTPUT],
            sandbox=self.description,
            cpu_seconds=observed.cpu_seconds,
            wall_seconds=observed.wall_seconds,
        )

    def _outcome(self, program: Program, limit: float, observed: _Observed) -> tuple[Verdict, str]:
        report = observed.report
        verdict, error = _ending(limit, observed, self.config)
        if verdict == "output_limit":  # how far the tests came by then is a matter of timing
            report.tests.clear()
        for test in report.tests:
            if test.verdict != "pass":  # what came after the first failure does not change it
                return test.verdict, error
        if verdict == "pass" and len(report.tests) != len(program.tests):
            return "early_exit", "the process reported fewer tests than it was given"
        return verdict, error


def _ending(limit: float, observed: _Observed, config: "SandboxConfig") -> tuple[Verdict, str]:
    """How the process as a whole ended; ``pass`` when it ran all it was given."""
    report, status = observed.report, observed.status
    if len(observed.output) > config.output_kilobytes * 1000:
        return "output_limit", f"more than {config.output_kilobytes} kB of output"
    if observed.cpu_seconds >= limit or status == -signal.SIGXCPU:
        return "cpu_timeout", f"more than {limit:g} s of CPU time"
    if observed.ended_by == "wall":
        return "wall_timeout", f"more than {_wall_seconds(limit, config):g} s of wall time"
    if report.failure is not None:
        return report.failure
    if report.done:
        return "pass", ""
    if report.broken or (observed.ended_by == "silence" and status == -signal.SIGKILL):
        return "early_exit", "the process interfered with its report"
    if status < 0:
        return "killed", f"killed by {signal.Signals(-status).name}"
    return "early_exit", f"the process exited with status {status} before its tests ended"


def _wall_seconds(limit: float, config: "SandboxConfig") -> float:
    return limit * config.wall_factor + _WALL_MARGIN_SECONDS


def _cpu_clock(pid: int) -> float:
    """CPU seconds of a process so far; the kernel derives the number of such a clock from the pid."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:  # gone already
        return 0.0


def _exits(child: subprocess.Popen[bytes], within: float) -> bool:
    """Whether the child, whose report has ended, exits too; it stays to be reaped."""
    deadline = time.monotonic() + within
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def _reap(child: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Kill the child's process group, wait for the child; returns (exit status or -signal, CPU seconds)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_utime + usage.ru_stime


def _drain(child: subprocess.Popen[bytes], output: bytearray, cap: int) -> None:
    """Read what the dead child left in its output pipe, one byte past the cap at most; close its pipes."""
    assert child.stdin is not None and child.stdout is not None
    with contextlib.suppress(BlockingIOError):
        while len(output) <= cap and (data := os.read(child.stdout.fileno(), 65536)):
            output += data
    child.stdin.close()
    child.stdout.close()
    del output[cap + 1 :]


def _environment() -> dict[str, str]:
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    loader = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
    python = {"PYTHONUTF8": "1", "PYTHONHASHSEED": "0"}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"} | python | one_thread | loader


def _remove(scratch: Path) -> None:
    """Delete the directory, also where the program nested it too deeply or made it unreadable."""
    try:
        shutil.rmtree(scratch)
    except (OSError, RecursionError):
        subprocess.run(["chmod", "-R", "u+rwx", str(scratch)], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(scratch)], stderr=subprocess.DEVNULL)


def _unavailable(layer: str, cause: str) -> SandboxUnavailable:
    likely = {
        "seccomp": "the kernel lacks CONFIG_SECCOMP_FILTER, or a container profile forbids prctl",
        "rlimits": "a container profile forbids setrlimit",
    }[layer]
    return SandboxUnavailable(
        f"the sandbox layer {layer} does not work on this machine ({cause}); likely {likely}",
        next_step="Allow it in the container's profile or use another machine; or, inside a throw-away "
        "container or virtual machine, set unsafe: true to run untrusted programs without it.",
    )
