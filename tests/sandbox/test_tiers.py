"""What the sandbox does on a machine that lacks a layer: less, and it says so; or nothing."""

import json
from pathlib import Path

import pytest
from tests.sandbox.forbid import (
    LANDLOCK_ABSENT,
    LANDLOCK_OFF,
    NAMESPACES_REFUSED,
    PIDFD_ABSENT,
    SECCOMP_REFUSED,
    run_without,
)

from codestill.evaluation import read_evaluation

BUILD_TWICE = """
import sys
from codestill.errors import CodestillError
from codestill.sandbox import Program, Sandbox, SandboxConfig
from codestill.types import Test
try:
    for _ in range(2):
        with Sandbox(SandboxConfig(tier=sys.argv[1]), workers=2) as sandbox:
            print(sandbox.description)
            tests = (Test(code="assert f() == 2"),)
            program = Program(solution="def f(): return 2", entry_point="f", tests=tests)
            result = sandbox.execute(program)
            print(result.verdict, result.sandbox == sandbox.description)
except CodestillError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def builds(refused, tier: str = "best") -> tuple[str, str, str]:
    """Description, verdict and standard error of a sandbox that is built twice where calls are refused."""
    done = run_without(refused, BUILD_TWICE, tier)
    description, verdict, *again = done.stdout.splitlines() or ("", "")
    assert again in ([], [description, verdict])
    return description, verdict, done.stderr


@pytest.mark.parametrize(
    ("refused", "tier", "layer", "cause", "likely", "remedy"),
    [
        ([NAMESPACES_REFUSED], "B", "namespaces", "unshare: EPERM", "a container's profile", "docker run"),
        ([LANDLOCK_ABSENT], "C", "landlock", "ENOSYS", "older than 5.13", "use a newer one"),
        ([LANDLOCK_OFF], "C", "landlock", "ENOTSUP", "built in and off", "lsm="),
    ],
)
def test_a_lower_tier_is_told_once_and_stands_in_results(refused, tier, layer, cause, likely, remedy):
    description, verdict, error = builds(refused)
    assert verdict == "pass True", error
    assert description.startswith(f"split verdict, tier {tier}: ")
    assert f"without {layer} ({cause.split()[-1]})" in description
    (told,) = error.splitlines()
    for part in (f"without its layer {layer} (", cause, likely, remedy, f"tier {tier}", "codestill doctor"):
        assert part in told


def test_without_landlock_the_namespaces_stay():
    description, _, _ = builds([LANDLOCK_ABSENT])
    assert "tier C: namespaces, seccomp, rlimits" in description


def test_every_missing_layer_is_told():
    description, verdict, error = builds([NAMESPACES_REFUSED, LANDLOCK_ABSENT])
    assert verdict == "pass True", error
    assert "tier C: seccomp, rlimits" in description
    assert "without namespaces (EPERM), landlock (ENOSYS)" in description
    assert ["namespaces" in line.split("(")[0] for line in error.splitlines()] == [True, False]


@pytest.mark.parametrize(
    ("refused", "tier", "layer", "cause"),
    [
        ([SECCOMP_REFUSED], "best", "seccomp", "seccomp: EPERM"),
        ([NAMESPACES_REFUSED], "A", "namespaces", "unshare: EPERM"),
        ([LANDLOCK_ABSENT], "B", "landlock", "landlock_create_ruleset: ENOSYS"),
        ([PIDFD_ABSENT], "best", "pidfd", "pidfd_open: ENOSYS"),
        ([PIDFD_ABSENT], "unsafe", "pidfd", "pidfd_open: ENOSYS"),
    ],
)
def test_what_is_required_and_missing_is_refused_and_named(refused, tier, layer, cause):
    description, _, error = builds(refused, tier)
    assert description == ""
    assert error.startswith(f"SandboxUnavailable: the sandbox layer {layer}, needed")
    assert f"({cause}); likely " in error
    assert error.count("\n") == 2  # what, and what to do next; no warning before it
    assert ("tier: unsafe" in error) == (layer != "pidfd")


def test_unsafe_runs_with_what_is_there_and_says_so():
    description, verdict, error = builds([SECCOMP_REFUSED], "unsafe")
    assert verdict == "pass True", error
    assert "tier unsafe: namespaces, landlock" in description and "without seccomp (EPERM)" in description
    (told,) = error.splitlines()
    assert "without its layer seccomp (seccomp: EPERM)" in told and "CONFIG_SECCOMP_FILTER" in told


def test_a_letter_asks_for_no_more_than_its_layers():
    description, verdict, error = builds([], "C")
    assert verdict == "pass True", error
    assert description.startswith("split verdict, tier C: seccomp, rlimits") and "without" not in description
    assert error == ""


EVALUATE = """
import sys
from codestill.cli import main
main(["evaluate", "--samples", "samples.jsonl", "--tasks", "tasks.jsonl", "--run-dir", "run", *sys.argv[1:]])
"""


def test_evaluation_in_a_lower_tier_warns_once_and_records_the_tier(tmp_path: Path):
    task = {
        "task_id": "same",
        "prompt": "def same(x):\n",
        "entry_point": "same",
        "reference": "    return x\n",
        "tests": ["assert same(1) == 1"],
    }
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task) + "\n")
    (tmp_path / "samples.jsonl").write_text(
        json.dumps({"task_id": "same", "completion": "    return x\n"}) + "\n"
    )
    done = run_without([NAMESPACES_REFUSED], EVALUATE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the sandbox runs without its layer namespaces (unshare: EPERM)") == 1
    assert done.stderr.count("without its layer") == 1
    evaluation = read_evaluation(tmp_path / "run/results/student.json")
    assert evaluation.sandbox.startswith("split verdict, tier B: landlock")
    assert "without namespaces (EPERM)" in evaluation.sandbox
    attempt = json.loads((tmp_path / "run/stages/evaluate-student.jsonl").read_text().splitlines()[0])
    assert attempt["result"]["sandbox"] == evaluation.sandbox
    refused = run_without([SECCOMP_REFUSED], EVALUATE.replace('"run"', '"other"'), cwd=tmp_path)
    assert refused.returncode == 2 and "layer seccomp" in refused.stderr
    assert not list((tmp_path / "other").rglob("results/*"))
