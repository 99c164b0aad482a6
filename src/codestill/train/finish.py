"""What a training leaves: the student, and with an adapter the adapter by itself."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel

from codestill.models.adapters import merge, probe, read_adapter, save_adapter
from codestill.models.load import DTYPES, load_weights
from codestill.models.student import Student
from codestill.run import Run
from codestill.train.batches import TokenExample

PROBED = 64
"""Tokens of an example whose logits are compared, all of which are held at once."""


def device_of(student: Student) -> Literal["cpu", "cuda"]:
    """Where the student is."""
    return "cuda" if student.model.device.type == "cuda" else "cpu"


def release(model: PreTrainedModel) -> None:
    """Free a model's weights, whoever still holds the model: another one takes its place."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
    gc.collect()  # of a trainer, which holds itself


def save_student(student: Student, kept: Path, example: TokenExample, run: Run) -> None:
    """Save the ``kept`` checkpoint as the run's student. An adapter is saved as it is, too, and merged; on
    ``example`` it is measured what the merging has changed."""
    if student.adapter is not None:
        weights = _merged(student, kept, example, run)
    else:
        release(student.model)
        weights = load_weights(
            str(kept),
            revision=None,
            trust_remote_code=student.trust_remote_code,
            dtype=student.dtype,
            device=device_of(student),
        )
    replace(student, model=weights).save(run.student_directory)


def _merged(student: Student, kept: Path, example: TokenExample, run: Run) -> PreTrainedModel:
    wrapped, dtype = student.model, student.dtype
    read_adapter(wrapped, kept)
    probed = example.tokens[:PROBED]
    before_TV = probe(wrapped, probed)
    source = wrapped.config.name_or_path
    base = (None, None) if not source or Path(source).exists() else (source, student.revision)
    save_adapter(wrapped, run.adapter_directory, *base)
    weights = merge(wrapped, DTYPES[dtype])
    after_TV = probe(weights, probed)
    difference, largest = float((after_TV - before_TV).abs().max()), float(before_TV.abs().max())
    run.message(
        "train", f"the adapter is merged: logits differ by at most {difference:.1e} (largest: {largest:.1f})"
    )
    return weights
