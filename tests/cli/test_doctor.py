"""``codestill doctor``: what it reports of a machine, and that its probes detect a breach."""

import os
import platform
from pathlib import Path

import pytest
from tests.cli.conftest import Codestill
from tests.sandbox.forbid import (
    LANDLOCK_ABSENT,
    NAMESPACES_REFUSED,
    PIDFD_ABSENT,
    SECCOMP_REFUSED,
    run_without,
)
from tests.support.tiny import tiny_tokenizer

from codestill import doctor
from codestill.sandbox import Sandbox

DOCTOR = "from codestill.cli import main\nmain(['doctor', '--sandbox'])"
LAYERS = ("namespaces", "minimal root", "landlock", "seccomp", "rlimits", "identity")


def rows(text: str) -> dict[str, str]:
    """First cell -> the rest of its line."""
    lines = [line.split("  ", 1) for line in text.splitlines() if "  " in line.strip()]
    return {name: rest.strip() for name, rest in lines if name}


def test_the_machine_in_a_page(codestill: Codestill) -> None:
    outcome = codestill("doctor")
    assert (outcome.code, outcome.err) == (0, "")
    printed = rows(outcome.out)
    assert printed["python"].startswith(platform.python_version())
    assert {"torch", "libraries", "cores", "memory", "expected values", "models"} <= printed.keys()
    assert printed["sandbox"].startswith("works, tier ")


def test_two_tokenizers_side_by_side(codestill: Codestill, tmp_path: Path) -> None:
    tiny_tokenizer(320).save_pretrained(str(tmp_path / "tiny"))
    outcome = codestill(
        "doctor", "--teacher", "pocket", "--student", tmp_path / "tiny", "--tasks", "pocket:test"
    )
    assert (outcome.code, outcome.err) == (0, "")
    printed = rows(outcome.out)
    assert "1,024 tokens in all" in printed["teacher"] and "320 tokens in all" in printed["student"]
    assert "are one of its tokens" in printed["aligned"]
    assert printed["end"] == "both end a sequence with <|endoftext|>"
    assert printed["form"] == "both continue text"
    alone = codestill("doctor", "--teacher", "pocket")
    assert alone.code == 2 and "a teacher alone" in alone.err and "--student" in alone.err


def test_ends_and_templates_side_by_side(codestill: Codestill, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}### {{ m.role }}\n{{ m.content }}<|endoftext|>\n{% endfor %}"
        "{% if add_generation_prompt %}### assistant\n{% endif %}"
    )
    plain, chats, other = (tiny_tokenizer(320) for _ in range(3))
    chats.chat_template = template
    other.chat_template = template.replace("###", "##")
    other.add_special_tokens({"eos_token": "<|end|>"})
    other.chat_template = other.chat_template.replace("<|endoftext|>", "<|end|>")
    for name, tokenizer in (("plain", plain), ("chats", chats), ("other", other)):
        tokenizer.save_pretrained(str(tmp_path / name))

    def compared(teacher: str, student: str) -> dict[str, str]:
        named = ("--teacher", tmp_path / teacher, "--student", tmp_path / student, "--tasks", "pocket:test")
        return rows(codestill("doctor", *named).out)

    assert compared("chats", "chats")["form"] == "both are asked in the same chat template"
    found = compared("chats", "plain")
    assert found["end"].startswith("both end")
    assert found["form"].startswith("the teacher is asked in its chat template, the student continues text")
    found = compared("other", "chats")
    assert "teacher ends a sequence with <|end|>, the student with <|endoftext|>" in found["end"]
    assert "opd refuses" in found["end"] and found["form"].startswith("each is asked in a chat template")


def test_every_layer_tier_and_probe_where_all_is_there(codestill: Codestill) -> None:
    outcome = codestill("doctor", "--sandbox")
    if "works, tier A" not in doctor.sandbox_in_short():
        pytest.skip("this machine lacks a layer")
    assert (outcome.code, outcome.err) == (0, "")
    printed = rows(outcome.out)
    for name in (*(f"layer {layer}" for layer in LAYERS), "tier A", "tier B", "tier C"):
        assert printed[name].startswith("works "), outcome.out
    assert printed["layer namespaces"].endswith("user pid mount net ipc uts")
    assert printed["an ordinary program"].startswith("passes ")
    contained = [name for name, rest in printed.items() if rest.startswith("contained ")]
    assert len(contained) == 15
    assert "compute without end" in contained and "cpu_timeout" in printed["compute without end"]
    assert outcome.out.splitlines()[-1].endswith("all 15 hostile programs are contained.")
    assert "CODESTILL_DOCTOR_TOKEN" not in os.environ


def test_a_missing_layer_is_explained_and_the_next_tier_probed() -> None:
    done = run_without([NAMESPACES_REFUSED], DOCTOR)
    printed = rows(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    refused = "UNAVAILABLE  refused: user (EPERM), pid (EPERM), mount (EPERM)"
    assert printed["layer namespaces"].startswith(refused)
    assert printed["layer minimal root"].startswith("UNAVAILABLE  not tried")
    assert printed["tier A"] == "UNAVAILABLE  lacks namespaces (unshare: EPERM)"
    assert printed["tier B"].startswith("works ")
    assert "tier B: " in done.stdout.splitlines()[-1] and "all 15 " in done.stdout.splitlines()[-1]


def test_what_the_lowest_tier_does_not_contain_is_a_breach() -> None:
    done = run_without([NAMESPACES_REFUSED, LANDLOCK_ABSENT], DOCTOR)
    printed = rows(done.stdout)
    assert done.returncode == 1
    assert {name for name, rest in printed.items() if rest.startswith("BREACH ")} == {
        "read a secret file",
        "write outside",
    }
    assert printed["write outside"].endswith("landlock, or namespaces should contain it")
    assert (
        "codestill: 2 of 16 programs did not end as expected (read a secret file, write outside)"
        in done.stderr
    )


@pytest.mark.parametrize(("refused", "layer"), [(SECCOMP_REFUSED, "seccomp"), (PIDFD_ABSENT, "pidfd")])
def test_no_sandbox_is_the_users_to_mend(refused: tuple[int, int, int | None], layer: str) -> None:
    done = run_without([refused], DOCTOR)
    assert done.returncode == 2
    assert rows(done.stdout)[f"layer {layer}"].startswith("UNAVAILABLE ")
    assert done.stderr.startswith(f"codestill: the sandbox layer {layer}, needed, does not work")
    assert "Traceback" not in done.stderr


PROBE = """
from codestill import doctor
from codestill.sandbox import Sandbox
with doctor.planted() as bait:
    with Sandbox(doctor.CONFIG.model_copy(update={"tier": "unsafe"}), workers=1) as sandbox:
        for probed in doctor.probe(sandbox, bait):
            print(probed.outcome, probed.name, sep="  ")
"""


def test_the_probes_get_out_where_nothing_holds_them() -> None:
    """Otherwise ``contained`` would mean nothing."""
    done = run_without([NAMESPACES_REFUSED, LANDLOCK_ABSENT, SECCOMP_REFUSED], PROBE)
    outcomes = {name: outcome for outcome, name in (line.split("  ") for line in done.stdout.splitlines())}
    assert outcomes.pop("an ordinary program") == "passes", done.stderr
    breaches = {name for name, outcome in outcomes.items() if outcome == "BREACH"}
    assert breaches == {
        "start a process",
        "become another program",
        "open a socket",
        "connect to this machine",
        "read a secret file",
        "write outside",
        "signal every process",
    }, outcomes


def test_the_cheats_pass_where_tests_share_the_programs_process() -> None:
    config = doctor.CONFIG.model_copy(update={"verdict": "in-process"})
    with doctor.planted() as bait, Sandbox(config, workers=1) as sandbox:
        outcomes = {probed.name: probed.outcome for probed in doctor.probe(sandbox, bait)}
    assert outcomes["answer what equals everything"] == "BREACH"
    assert outcomes["search memory for the answer"] == "BREACH"
    assert outcomes["leave with status 0"] == "contained"
