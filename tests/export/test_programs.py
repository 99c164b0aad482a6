"""Artefacts in the programs that will run them: the same student, token by token."""

import json
import os
import subprocess
import sys
from functools import partialmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.tiny import tiny_model

from codestill.errors import Failure
from codestill.export import ExportConfig, export, speed
from codestill.export.deployed import Deployed
from codestill.export.fidelity import logits_of
from codestill.export.targets import Target
from codestill.models import StudentConfig
from codestill.models.student import Student
from codestill.run import Run, slug

IDS = list(range(5, 45))
PROGRAMS = {"gguf": "llama_cpp", "ollama": "llama_cpp", "openvino": "openvino", "onnx": "onnxruntime"}


def needs(target: str) -> Any:
    """A case for this target, skipped where its program is not installed."""
    module = PROGRAMS[target.partition(":")[0]]
    missing = find_spec(module) is None
    return pytest.param(target, marks=pytest.mark.skipif(missing, reason=f"{module} is not installed"))


def written(target: str, source: Path, place: Path) -> Path:
    found = Target.parse(target)
    file = place / found.file("s")
    found.form.write(str(source), file, found.kind)
    return file


@pytest.mark.parametrize(
    ("target", "kind", "tolerance"),
    [
        pytest.param(*needs("openvino:f32").values, "llama", 1e-4, marks=needs("openvino:f32").marks),
        pytest.param(*needs("onnx:f32").values, "gpt2", 1e-4, marks=needs("onnx").marks),
        pytest.param(*needs("gguf:f32").values, "qwen2", 0.05, marks=needs("gguf").marks),
    ],
)
def test_a_text_read_in_any_parts_has_the_students_logits(
    target: str, kind: str, tolerance: float, tmp_path: Path
) -> None:
    """llama.cpp keeps keys and values in float16."""
    source = tiny_model(tmp_path / "student", kind)
    student = StudentConfig(model=str(source)).build()
    expected = logits_of(student)(IDS, len(IDS))
    file = written(target, source, tmp_path)
    reader = Target.parse(target).form.open(file, 1, 64)
    for cuts in ([40], [30, 1, 1, 1, 7], [20, 20]):
        reader.begin()
        parts, past = [], 0
        for count in cuts:
            parts.append(reader.read(IDS[past : past + count], count))
            past += count
        assert np.abs(np.concatenate(parts)[:, : expected.shape[1]] - expected).max() < tolerance, cuts
    reader.begin()
    last = reader.read(IDS)
    assert last.shape[0] == 1 and np.abs(last[0, : expected.shape[1]] - expected[-1]).max() < tolerance


@pytest.mark.parametrize("target", [needs("openvino:int8"), needs("ollama:q8_0")])
def test_an_export_is_measured_in_its_own_program(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few repeats: how fast it is does not matter here.
    monkeypatch.setattr(Student, "profile", partialmethod(Student.profile, repeats=2))
    monkeypatch.setattr("codestill.export.deployed._REPEATS", 2)
    source = tiny_model(tmp_path / "student", "llama")
    tasks = tmp_path / "own.jsonl"
    row = {"task_id": "own/1", "prompt": "def f(x):\n", "entry_point": "f", "reference": "    return x\n"}
    tasks.write_text(json.dumps(row | {"tests": ["assert f(1) == 1"]}) + "\n", encoding="utf-8")
    config = ExportConfig.model_validate(
        {
            "model": str(source),
            "to": target,
            "evaluate": {"tasks": str(tasks), "max_new_tokens": 12, "samples_per_task": 0},
            "tolerance": {"nats_per_token": 0.2, "token_agreement": 0.5},
            "execution": {"device": "cpu", "threads": 1},
        }
    )
    with Run.open(tmp_path / "run", config) as run:
        (found,) = export(config, run).artefacts
    parsed = Target.parse(target)
    assert found.program == parsed.form.runs_with and parsed.form.program in found.program
    assert 0 < found.nats_per_token < 0.2 and found.token_agreement > 0.5
    assert found.speed_up is not None and found.speed_up > 0
    place = tmp_path / "run/artefacts" / found.file
    assert found.bytes == sum(file.stat().st_size for file in place.iterdir())
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "run/results").iterdir()}
    kept = slug(parsed.name)
    assert results.keys() == {"student", kept}
    own, deployed = (results[name]["profile"] for name in ("student", kept))
    assert own["threads"] == deployed["threads"] == 1
    assert own["prompt_tokens"] == deployed["prompt_tokens"] and own["new_tokens"] == deployed["new_tokens"]
    assert own["parameters"] == deployed["parameters"] and deployed["dtype"] == parsed.kind
    assert found.speed_up == own["token_milliseconds"] / deployed["token_milliseconds"]


class Counting:
    """A program that says how often and how much it was asked."""

    def __init__(self) -> None:
        self.read_counts: list[int] = []
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def read(self, ids: Any, keep: int = 1) -> Any:
        self.read_counts.append(len(ids))
        return np.eye(1, 50, len(self.read_counts) % 50, dtype=np.float32)


def test_timing_reads_a_prompt_and_then_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Counting()
    opened: list[Any] = []

    class Opens:
        @staticmethod
        def open(*how: Any) -> Counting:
            opened.append(how)
            return program

    monkeypatch.setattr(speed, "form", lambda name: Opens)
    job = {"form": "x", "place": "p", "kind": "q8_0", "parameters": 7, "megabytes": 1.5}
    found = speed.measure_here(job | {"prompt_tokens": 9, "new_tokens": 4, "repeats": 2, "threads": 3})
    assert opened == [(Path("p"), 3, 13)]
    assert program.read_counts == [9, 1, 1, 1, 1] * program.begun and program.begun % 5 == 0
    assert (found.parameters, found.file_megabytes, found.dtype, found.threads) == (7, 1.5, "q8_0", 3)
    assert found.peak_memory_megabytes > 10


def test_an_artefacts_memory_is_not_ours() -> None:
    """The process in which it is timed imports no framework that its program does without."""
    script = "import sys, codestill.export.speed; print({'torch', 'transformers'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_read_back_student_is_not_timed(tmp_path: Path) -> None:
    """Its time would be transformers', not llama.cpp's."""
    from codestill.export.exporter import _speed_up
    from codestill.types import Evaluation

    known = Evaluation.model_construct(profile=None)
    assert _speed_up(known, known) is None
    assert isinstance(StudentConfig(model=str(tiny_model(tmp_path / "s", "gpt2"))).build(), Student)


def test_the_makers_of_openvino_are_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their telemetry asks whether it runs in continuous integration, and is silent there."""
    checker = pytest.importorskip("openvino_telemetry.utils.opt_in_checker").OptInChecker()
    declined = pytest.importorskip("openvino_telemetry.utils.opt_in_checker").ConsentCheckResult.DECLINED
    from codestill.export.openvino import _unreported

    for before in (None, "false"):
        if before is None:
            monkeypatch.delenv("CI", raising=False)
        else:
            monkeypatch.setenv("CI", before)
        with _unreported():
            assert checker.check(enable_opt_in_dialog=False, disable_in_ci=True) == declined
        assert os.environ.get("CI") == before


def test_an_artefact_that_does_not_run_is_told_by_a_process_of_its_own(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "student", "gpt2")
    place = tmp_path / "broken"
    place.mkdir()
    (place / "model.onnx").write_bytes(b"no graph")
    pytest.importorskip("onnxruntime")
    deployed = Deployed(Target.parse("onnx"), place, StudentConfig(model=str(source)).build(), 1)
    with pytest.raises(Failure, match=r"onnx:f32 in ONNX Runtime [\d.]+ ended with code 1"):
        deployed.require_running()
