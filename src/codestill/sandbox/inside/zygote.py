"""The zygote: a small Python process that forks a solver for every program, and a judge where it has none.

Started by exec, so the caller's memory and threads never matter to it, single-threaded, with common modules
loaded and the garbage collector frozen. It is told of a program by four descriptors that it does not read:
the solution (for the solver), the tests (for the judge), and files for the program's output and the judge's
records. So what it forks next has nothing of earlier programs, nor of this one's tests, in its memory.

Every request and answer is one JSON packet. A request: ``language``, ``cpu``, ``wall``, ``split``, the
``sizes`` of the solution and its tests, and whether these leave a judge ``reusable``. An answer: ``ended``
(``itself``, ``cpu`` or ``wall``), ``solver`` and ``judge``, each [status, CPU seconds, peak KiB, whether it
still ran].
"""

import _socket
import contextlib
import ctypes
import gc
import json
import marshal
import os
import select
import signal
import sys
import time

from . import judge, kernel, namespaces, remote, solver, wire
from .child import Child, Children, Judge
from .confine import Confinement

_REHEARSALS = 20
_BUSY_SHARE = 0.05  # of a core: less than this over the wall limit is waiting
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36


class Zygote:
    def __init__(self, config: dict, control: _socket.socket) -> None:
        self.config, self.control = config, control
        self.layers = config["layers"]
        self.scratch = namespaces.SCRATCH if "namespaces" in self.layers else None
        self.contained = self.scratch is not None
        prepare_interpreter(config, self.scratch)
        self.commands = {name: command(item) for name, item in config["interpreters"].items()}
        """By language, path and arguments of what becomes the solver of a program that is not Python."""
        if self.contained:
            namespaces.build_root(config["readable"], config["hidden"], config["scratch_bytes"])
        self.confinement = Confinement(config, self.scratch)
        self.identity = self.find_identity()
        self.judge: Judge | None = None
        """One that has judged before and is as it was."""
        rehearse()
        kernel.prctl("dumpable", _PR_SET_DUMPABLE, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        gc.collect()
        gc.freeze()
        gc.disable()

    def find_identity(self) -> str:
        """Try the layers in a child; returns how it gives up its identity. Raises OSError naming a layer."""
        wanted = [("uid", False), ("uid", True)] if self.config["identity"] == "uid" else []
        for identity, reads_all in (*wanted, ("capabilities", False)):
            self.confinement.identity, self.confinement.reads_all = identity, reads_all
            problem = self.probe()
            if problem is None:
                return identity
            if identity == "capabilities" or problem[2] not in ("identity", "interpreter"):
                raise OSError(*problem)
        raise AssertionError("not reached")

    def probe(self) -> list | None:
        """None, or [errno, message, what failed] of confining a child."""
        receive, send = os.pipe()
        searched = [path for path in sys.path if os.path.isdir(path)]
        child = os.fork()
        if child == 0:
            problem = None
            try:
                self.confinement.enter("solver", [send], 10)
                for path in searched:
                    os.listdir(path)
            except OSError as error:
                # The first failure to read the interpreter's own files means that the identity is too low.
                problem = [error.errno, str(error.strerror), error.filename2 or error.filename]
                if problem[2] in sys.path:
                    problem[2] = "interpreter"
            os.write(send, json.dumps(problem).encode())
            os._exit(0)
        os.close(send)
        text = os.read(receive, 65536)
        os.close(receive)
        os.waitpid(child, 0)
        return json.loads(text) if text else [1, "the probe was killed", "seccomp"]

    def serve(self) -> None:
        while True:
            packet, descriptors = kernel.receive(self.control, 4096)
            if not packet:
                if self.judge:
                    self.judge.kill()
                os._exit(0)
            try:
                answer = self.execute(json.loads(packet), descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            self.control.send(json.dumps(answer).encode())

    def execute(self, request: dict, descriptors: list[int]) -> dict:
        children = self.start(request, descriptors)
        try:
            ended = self.watch(request, children)
            if children["judge"].status == judge.GONE:
                self.wait_for_end(children["solver"])
        finally:
            self.clean(children, request["reusable"])
        return {"ended": ended, **{role: child.usage for role, child in children.items()}}

    def start(self, request: dict, descriptors: list[int]) -> Children:
        solution, tests, output, report = descriptors
        cpu, sizes, path = request["cpu"], request["sizes"], self.config["site_packages"]
        if not request["split"]:

            def alone() -> None:
                source, _ = marshal.loads(os.pread(solution, sizes[0], 0))
                payload = marshal.loads(os.pread(tests, sizes[1], 0))
                redirect(output)
                self.confinement.enter("solver", [report], cpu)
                judge.judge_in_process(source, payload, report, path)

            return {"judge": Child(alone)}
        requests_out, requests_in = os.pipe()
        answers_out, answers_in = os.pipe()

        def interpret() -> None:
            redirect(output)
            os.lseek(solution, 0, os.SEEK_SET)
            kept = [solution, requests_out, answers_in]
            for descriptor in kept:
                os.set_inheritable(descriptor, True)
            self.confinement.enter("interpreter", kept, cpu)
            path, arguments = self.commands[request["language"]]
            os.execv(path, [*arguments, *map(str, kept)])

        def solve() -> None:
            source, entry_point = marshal.loads(os.pread(solution, sizes[0], 0))
            redirect(output)
            self.confinement.enter("solver", [requests_out, answers_in], cpu)
            solver.solve(source, entry_point, path, requests_out, answers_in)

        solving = Child(solve if request["language"] == "python" else interpret)
        judging, self.judge = self.judge, None
        if judging is None or judging.child.ended():
            judging = Judge(self.confinement, path)
        judging.begin(solving.pid, sizes[1], [tests, report, requests_in, answers_out])
        for descriptor in (requests_out, requests_in, answers_out, answers_in):
            os.close(descriptor)
        return {"solver": solving, "judge": judging}

    def watch(self, request: dict, children: Children) -> str:
        """Wait for the judge's end, or for a limit: CPU time first, the wall clock for those that wait."""
        judging = children["judge"]
        cpu, wall = request["cpu"], request["wall"]
        now = time.monotonic()
        deadline, look, before = now + wall, now + cpu, 0.0
        while True:
            judging.wait(max(0.0, min(deadline, look) - now))
            if judging.ended():
                return "itself"
            now = time.monotonic()
            if now < min(deadline, look):
                continue
            used = [child.cpu_seconds() for child in children.values()]
            if max(used) >= cpu:
                return "cpu"
            look = now + max(0.02, cpu - max(used))
            if now >= deadline:
                # A program that computes is held up by the machine's load: its CPU limit will decide.
                if sum(used) - before < _BUSY_SHARE * wall:
                    return "wall"
                deadline, before = now + wall, sum(used)

    def wait_for_end(self, child: Child | Judge) -> None:
        """A moment for a process that closed its pipe, as it does on its way out, to be gone."""
        deadline = time.monotonic() + 1
        while not child.ended() and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait([signal.SIGCHLD], left)

    def clean(self, children: Children, unchanged: bool) -> None:
        """End whatever the program's processes are; a judge that its tests left as it was may stay."""
        judging = children["judge"]
        # Where a filter refuses new processes there is none to look for.
        if unchanged and isinstance(judging, Judge) and judging.fit and self.confinement.filter:
            self.judge = judging
            children["solver"].kill()
        else:
            for child in children.values():
                child.kill()
            if self.contained:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # whatever else there is: everything but this process
            while True:
                try:
                    os.waitpid(-1, 0)
                except ChildProcessError:
                    break
        if self.scratch and os.listdir(self.scratch):
            namespaces.renew_scratch(self.config["scratch_bytes"])
            if self.confinement.landlock:
                self.confinement.make_rulesets()


def command(interpreter: dict) -> tuple[str, list[str]]:
    """Path and arguments of an interpreter, among them its runner's source: read here, because the new root
    does not show it."""
    with open(interpreter["runner"]) as script:
        runner = script.read()
    path = interpreter["path"]
    arguments = [runner if part == "{runner}" else part for part in interpreter["arguments"]]
    return path, [os.path.basename(path), *arguments]


def redirect(output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)


def prepare_interpreter(config: dict, scratch: str | None) -> None:
    os.environ.clear()
    os.environ.update(config["environment"])  # first: numpy's libraries start threads unless told not to
    if scratch:
        os.environ.update(HOME=scratch, TMPDIR=scratch)
    searched = sys.path[:]
    sys.path += config["site_packages"]
    for name in config["preload"]:
        __import__(name)
    sys.path[:] = searched
    ctypes.pythonapi  # noqa: B018  loaded before the root changes
    if len(os.listdir("/proc/self/task")) > 1:
        raise OSError(11, "a preloaded module has started threads", "preload")


def rehearse() -> None:
    """Run a program and its test here, with replies written in advance.

    The interpreter rewrites code that it has seen a few times. Done here, it is done for all the processes
    that are forked, which then copy fewer pages of memory."""
    setup, test = "def check(f):\n    assert f(1, [2]) == 2\n", "check(f)"
    codes = [marshal.dumps(compile(text, "<rehearsal>", "exec")) for text in (setup, test)]
    texts = {
        "entry_point": "f",
        "test_setup": setup,
        "tests": [test],
        "support_names": [],
        "reference_names": [],
        "doubt": "",
        "nan": False,
        "marshals": True,
    }
    requests_out, requests_in = os.pipe()
    answers_out, answers_in = os.pipe()
    nowhere = os.open("/dev/null", os.O_WRONLY)
    modules = sys.modules.copy()
    for _ in range(_REHEARSALS):
        program = solver.make_module()
        exec(compile("def f(x, y):\n    return 2\n", "<rehearsal>", "exec"), program.__dict__)
        peer = solver.Judge(program.__dict__, requests_out, answers_in)
        for reply in (["ready", True], ["ok", 2]):
            wire.send(answers_in, b"J", peer.dumps(reply))
        judge.run({"codes": codes, **texts}, nowhere, remote.Solver(os.getpid(), requests_in, answers_out))
        peer.answer(*wire.receive(requests_out))
    sys.modules.clear()
    sys.modules.update(modules)
    for descriptor in (requests_out, requests_in, answers_out, answers_in, nowhere):
        os.close(descriptor)


def guard(child: int, caller: int) -> None:
    """Outside the namespaces: end the zygote with its caller, and end with the zygote."""

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(caller, select.POLLIN)
    if any(descriptor == caller for descriptor, _ in poll.poll()):
        end()
    with contextlib.suppress(ChildProcessError):
        while True:  # the zygote, and what it left: whoever waits for this process knows that all are gone
            os.waitpid(-1, 0)
    os._exit(0)


def main(descriptor: int) -> None:
    """Serve on the inherited socket, whose first packet is the configuration and the caller's pidfd.

    The first answer is ``ready``, or ``missing`` with what failed of a layer."""
    control = _socket.socket(fileno=descriptor)
    packet, (caller,) = kernel.receive(control, 1 << 16)
    config = json.loads(packet)
    sys.argv[1:] = []
    try:
        kernel.prctl("subreaper", _PR_SET_CHILD_SUBREAPER, 1)
        two_ids = namespaces.enter() if "namespaces" in config["layers"] else os.geteuid() == 0
        if two_ids:
            try:
                os.setgroups([])  # here, because Python's setgroups touches a quarter of a megabyte of stack
            except PermissionError:  # root without its capabilities
                two_ids = False
        config["identity"] = "uid" if two_ids else "capabilities"
        child = os.fork()
        if child:
            control.close()
            guard(child, caller)
        kernel.prctl("pdeathsig", _PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.prctl("subreaper", _PR_SET_CHILD_SUBREAPER, 1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        os.close(caller)
        zygote = Zygote(config, control)
    except OSError as error:
        what = str(error.filename2 or error.filename or "zygote")
        control.send(json.dumps({"missing": what, "errno": error.errno, "message": error.strerror}).encode())
        os._exit(0)
    ready = {"ready": True, "identity": zygote.identity, "landlock": zygote.confinement.landlock}
    control.send(json.dumps(ready).encode())
    os.dup2(1, 2)  # the null device: what fails from here on is told in answers
    zygote.serve()
