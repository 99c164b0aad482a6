"""What the cache promises: few bytes, and nearly the loss and gradient of the whole vocabulary."""

from pathlib import Path

import torch
from tests.support.tiny import CPU

from codestill import pocket
from codestill.capture.error import measure_error
from codestill.logits import CaptureSpec, FixedK, LogitCache, LogitWriter, finish
from codestill.logits.rows import join
from codestill.logits.select import select_for
from codestill.models.student import Student
from codestill.teachers import LocalTeacherConfig


def test_pocket_rows_are_small_and_true(tmp_path: Path):
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(CPU)
    student = Student.load("pocket-base", device="cpu")
    spec = CaptureSpec(teacher="pocket", weights="w", tokenizer="t", vocabulary=teacher.vocabulary_size)
    seen, believed, pieces = [], [], []
    with LogitWriter.open(tmp_path, spec) as writer:
        for task in pocket.generate("train", 60):
            prompt = teacher.tokenizer(task.prompt)["input_ids"]
            body = teacher.tokenizer(task.reference, add_special_tokens=False)["input_ids"]
            batch = torch.tensor([[*prompt, *body, teacher.codec.end]])
            scored = slice(len(prompt) - 1, -1)
            logits_NV = teacher.logits(batch, torch.ones_like(batch))[0, scored]
            with torch.no_grad():
                believed.append(student.model(input_ids=batch).logits[0, scored])
            seen.append(logits_NV)
            pieces.append(select_for(spec, logits_NV))
            writer.add(batch[0].tolist(), len(prompt), pieces[-1])
    records = measure_error(torch.cat(seen), join(pieces), torch.cat(believed), spec, "pocket-base")
    manifest = finish(tmp_path, records)
    assert manifest.bytes_per_token <= 40
    assert sum(path.stat().st_size for path in tmp_path.glob("*.logits")) == manifest.bytes
    found = {(one.temperature, one.rule): one for one in LogitCache.open(tmp_path).manifest.error}
    assert found[1.0, "bucket"].kl_error < 1e-3
    assert found[1.0, "bucket"].gradient_error < 0.01
    assert found[2.0, "bucket"].gradient_error < 0.05
    assert found[2.0, "bucket"].gradient_error < found[2.0, "renormalise"].gradient_error / 2


def test_a_fixed_k_of_a_large_vocabulary_is_small_whatever_the_entropy(tmp_path: Path):
    vocabulary, count = 151_936, 24
    spec = CaptureSpec(
        teacher="t",
        weights="w",
        tokenizer="k",
        vocabulary=vocabulary,
        temperatures=(1.0,),
        truncation=FixedK(k=32),
    )
    random = torch.Generator().manual_seed(0)
    for name, sharpness in {"flat": 0.01, "sharp": 20.0}.items():
        logits = torch.randn(count, vocabulary, generator=random) * sharpness
        tokens = torch.randint(vocabulary, (2 * count,), generator=random).tolist()
        with LogitWriter.open(tmp_path / name, spec) as writer:
            writer.add(tokens, count, select_for(spec, logits))
        assert finish(tmp_path / name).bytes_per_token <= 120
