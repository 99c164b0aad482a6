"""Gates: known answers that an evaluation must score right before it scores a model."""

from collections.abc import Sequence

from codestill.errors import GateError
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.tasks import ProgressCallback, TaskSet, TasksReport, check_tasks
from codestill.types import Gates

_gates: "dict[tuple[str, str, SandboxConfig, tuple[str, ...]], Gates]" = {}


def check_gates(
    task_set: TaskSet,
    sandbox: Sandbox,
    known_broken: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> Gates:
    """Pass counts of three known answers; measured once per task set and sandbox.

    Raises GateError when they show that a score on these tasks would be a lie.
    """
    key = (task_set.data_hash, sandbox.description, sandbox.config, tuple(known_broken))
    if key not in _gates:
        report = known_answers(task_set, sandbox, progress)
        broken = tuple(task_id for task_id in report.wrong("reference") if task_id in known_broken)
        gates = Gates(
            tasks=report.task_count,
            reference=report.reference_passes,
            empty=len(report.wrong("empty")),
            pass_body=len(report.wrong("pass-body")),
            closed=len(report.closed),
            broken=broken,
        )
        if why := gates.failure():
            unknown = [str(one) for one in report.findings if one.task_id not in broken][:5]
            raise GateError(
                "\n  ".join([f"the evaluation is invalid: {why}.", *unknown]),
                next_step="`codestill tasks check` lists all of them; name tasks with a broken reference in "
                "evaluate.known_broken.",
            )
        _gates[key] = gates
    return _gates[key]


def known_answers(
    task_set: TaskSet, sandbox: Sandbox, progress: ProgressCallback | None = None
) -> TasksReport:
    """What the sandbox says of every task's reference, of an empty completion and of a bare pass body."""
    return check_tasks(
        task_set, lambda pairs: sandbox.run(Program.of(task, text) for task, text in pairs), progress
    )
