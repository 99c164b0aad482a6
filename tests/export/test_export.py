"""Artefacts of a student: written, compared with it, evaluated alike, and refused where they are another."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny import tiny_model
from tests.support.worlds import open_run

from codestill.cli import main
from codestill.errors import ConfigError, ExportError, ModelError, RunError
from codestill.export import Artefact, ExportConfig, Tolerance, export, read_exports
from codestill.export.exporter import refusals, student_of
from codestill.export.form import FORMS, Form
from codestill.export.targets import Target
from codestill.files.serialize import write_object
from codestill.models import StudentConfig
from codestill.models.gguf.kinds import KINDS
from codestill.models.licence import licence_of
from codestill.report.collect import read_report
from codestill.run import Run
from codestill.types import Difference, Interval

ROWS = [
    {
        "task_id": f"own/{number}",
        "prompt": f"def f{number}(x):\n",
        "entry_point": f"f{number}",
        "reference": f"    return x + {number}\n",
        "tests": [f"assert f{number}(1) == {number + 1}"],
    }
    for number in range(1, 4)
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """GGUF files are measured by unpacking them, whether or not llama.cpp is here (see test_programs.py)."""
    monkeypatch.setattr(Form, "runs_with", "")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A tiny student with random weights, and three tasks."""
    tasks = tmp_path / "own.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    model = tiny_model(tmp_path / "student", "gpt2")
    return {
        "model": str(model),
        "evaluate": {
            "tasks": str(tasks),
            "max_new_tokens": 12,
            "samples_per_task": 0,
            "profile": False,
        },
        "execution": {"device": "cpu"},
    }


def carry_out(directory: Path, settings: dict[str, Any], **changes: Any) -> Any:
    config = ExportConfig.model_validate(settings | changes)
    with Run.open(directory, config) as run:
        return export(config, run)


def test_what_is_written_is_the_same_student(settings: dict[str, Any], tmp_path: Path) -> None:
    found = carry_out(tmp_path / "run", settings, to="gguf:f32,gguf:q8_0")
    whole, eight = found.artefacts
    assert (whole.target, whole.file) == ("gguf:f32", "student-f32.gguf")
    assert whole.nats_per_token == 0 and whole.token_agreement == 1 and whole.largest_difference == 0
    assert 0 < eight.nats_per_token < 0.02 and 0.9 < eight.token_agreement <= 1
    assert eight.bytes < whole.bytes and not whole.refused and not eight.refused
    assert whole.difference.interval.mean == 0 and whole.difference.pairs == 3
    assert read_exports(tmp_path / "run") == found
    made = StudentConfig(model=str(tmp_path / "run/artefacts/student-q8_0.gguf")).build()
    assert made.quantization == "Q8_0"
    results = sorted(path.stem for path in (tmp_path / "run/results").iterdir())
    assert results == ["gguf-f32", "gguf-q8-0", "student"]
    assert "student-q8_0.gguf" in repr(found) and "holds" in repr(found)


def test_again_nothing_is_written_or_measured(settings: dict[str, Any], tmp_path: Path) -> None:
    first = carry_out(tmp_path / "run", settings, to="gguf:f16")
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.suffix == ".gguf"
    }
    stages = {path: path.read_bytes() for path in (tmp_path / "run/stages").rglob("*")}
    assert carry_out(tmp_path / "run", settings, to="gguf:f16") == first
    assert all(path.stat().st_mtime_ns == time for path, time in before.items()) and before
    assert {path: path.read_bytes() for path in (tmp_path / "run/stages").rglob("*")} == stages


def test_a_kill_while_a_file_is_written_leaves_none(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf import GGUFWriter

    whole = carry_out(tmp_path / "whole", settings, to="gguf:f16")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(GGUFWriter, "write_tensors_to_file", killed)
        carry_out(tmp_path / "run", settings, to="gguf:f16")
    assert not list((tmp_path / "run").rglob("*.gguf"))
    assert carry_out(tmp_path / "run", settings, to="gguf:f16") == whole
    assert [path.name for path in (tmp_path / "run/artefacts").iterdir()] == ["student-f16.gguf"]


def test_one_that_lost_more_than_it_may_is_refused_and_kept_apart(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    changes = {"to": "gguf:q4_0,gguf:f32", "tolerance": {"nats_per_token": 0, "token_agreement": 0}}
    for _ in range(2):  # the same command says the same
        with pytest.raises(ExportError, match="gguf:q4_0 is not the same student") as caught:
            carry_out(tmp_path / "run", settings, **changes)
        assert "nats per token" in caught.value.message and "gguf:q8_0" in caught.value.next_step
    four, whole = read_exports(tmp_path / "run").artefacts
    assert len(four.refused) == 1 and not whole.refused
    names = sorted(str(p.relative_to(tmp_path / "run/artefacts")) for p in (tmp_path / "run").rglob("*.gguf"))
    assert names == ["refused/student-q4_0.gguf", "student-f32.gguf"]


def found(nats: float = 0.0, agreement: float = 1.0, high: float = 0.1) -> Artefact:
    bounds = Interval(mean=high - 0.1, low=high - 0.2, high=high)
    lost = Difference(a="gguf-q8_0", b="student", metric="pass@1", interval=bounds, pairs=3)
    values = {
        "target": "gguf:q8_0",
        "file": "s.gguf",
        "bytes": 1,
        "largest_difference": 1.0,
        "difference": lost,
        "program": "p 1.0",
    }
    return Artefact.model_validate(values | {"nats_per_token": nats, "token_agreement": agreement})


@pytest.mark.parametrize(
    ("artefact", "reasons"),
    [
        (found(), []),
        (found(nats=0.02, agreement=0.95), []),
        (found(nats=0.021), ["0.021 nats per token from it, more than 0.02"]),
        (found(agreement=0.9), ["the same most probable token at 90.0% of places, less than 95.0%"]),
        (found(high=-0.01), ["pass@1 -11.0 [-21.0, -1.0] points"]),
        (found(high=0.0), []),  # the interval does not exclude zero
    ],
)
def test_the_reasons_for_a_refusal(artefact: Artefact, reasons: list[str]) -> None:
    assert list(refusals(artefact, Tolerance())) == reasons


def test_a_target_is_a_form_and_a_kind() -> None:
    assert Target.parse("gguf") == Target.parse("gguf:") == Target.parse("gguf:q8_0")
    assert {Target.parse(f"{form}:{kind}").kind for kind in KINDS for form in ("gguf", "ollama")} == {*KINDS}
    usual = {name: Target.parse(name).file("m") for name in FORMS}
    assert usual == {
        "gguf": "m-q8_0.gguf",
        "openvino": "m-openvino-int8",
        "onnx": "m-onnx-f32",
        "ollama": "m-ollama-q8_0",
    }
    for name in ("tflite", ""):
        with pytest.raises(ConfigError, match="nothing is exported to") as caught:
            Target.parse(name)
        assert "gguf, openvino, onnx, ollama" in caught.value.next_step
    with pytest.raises(ConfigError, match="onnx has no kind 'q8_0'") as caught:
        Target.parse("onnx:q8_0")
    assert "f32" in caught.value.next_step


def test_missing_packages_are_named_before_anything_is_written(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codestill.export.form.find_spec", lambda module: None if module == "nncf" else 1)
    with pytest.raises(
        ConfigError, match="openvino is written by packages that are not installed: nncf"
    ) as told:
        carry_out(tmp_path / "run", settings, to="gguf:f32,openvino:int8")
    assert "codestill[openvino]" in told.value.next_step
    assert not (tmp_path / "run/artefacts").exists()


def test_a_runs_student_is_exported(settings: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "kd"
    with open_run(run):
        pass
    write_object(run / "environment.json", {})
    with pytest.raises(RunError, match="has no trained student"):
        student_of(str(run))
    Path(settings["model"]).rename(run / "student")
    assert student_of(str(run)) == str(run / "student")
    made = carry_out(tmp_path / "export", settings, model=str(run), to="gguf:f32")
    assert made.artefacts[0].file == "kd-f32.gguf"


def test_a_file_carries_the_licence_of_the_weights(settings: dict[str, Any], tmp_path: Path) -> None:
    (Path(settings["model"]) / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    made = carry_out(tmp_path / "run", settings, to="gguf:f32")
    assert licence_of(str(tmp_path / "run/artefacts" / made.artefacts[0].file)) == "mit"


def test_a_models_name_is_whole(settings: dict[str, Any], tmp_path: Path) -> None:
    Path(settings["model"]).rename(tmp_path / "student-0.1m")
    made = carry_out(tmp_path / "run", settings, model=str(tmp_path / "student-0.1m"), to="gguf:f32")
    assert made.artefacts[0].file == "student-0.1m-f32.gguf"
    again = tmp_path / "run/artefacts/student-0.1m-f32.gguf"
    made = carry_out(tmp_path / "again", settings, model=str(again), to="gguf:f16")
    assert made.artefacts[0].file == "student-0.1m-f32-f16.gguf"


def test_what_cannot_be_written_is_refused_before_anything_is_evaluated(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="has no name for"):
        carry_out(tmp_path / "run", settings, model="pocket-base-0.1m")
    assert not (tmp_path / "run/results").exists()


def test_the_command_prints_what_holds(
    settings: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--tasks", "own.jsonl", "--evaluate.max-new-tokens", "12", "--execution.device", "cpu"]
    options.append("--evaluate.no-profile")  # see test_programs.py

    def command(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["export", "student", *words, *options])
        out, error = capsys.readouterr()
        return int(ended.value.code or 0), out, error

    code, out, _ = command("--to", "gguf:f32", "--to", "gguf:f16")
    assert code == 0 and "student-f32.gguf" in out and out.count("holds") == 2
    assert "artefacts: runs/export-student/artefacts" in out
    code, out, error = command(
        "--to", "gguf:q4_0", "--tolerance.nats-per-token", "0", "--run-dir", "runs/four"
    )
    assert code == 1 and "student-q4_0.gguf" in out and "is not the same student" in error
    code, _, error = command("--to", "gguf:q3")
    assert code == 2 and "gguf has no kind 'q3'" in error


def test_the_report_names_every_artefact_by_its_kind(settings: dict[str, Any], tmp_path: Path) -> None:
    carry_out(tmp_path / "run", settings, to="gguf:f16,gguf:q8_0")
    (section,) = read_report([tmp_path / "run"]).sections
    assert [arm.name for arm in section.arms] == ["gguf-f16", "gguf-q8-0", "student"]
