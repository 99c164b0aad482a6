"""Logit distillation whole: the teacher run in every epoch, against its logits cached once.

    CODESTILL_DATA=... python benchmarks/end_to_end.py [--tasks 374] [--epochs 7] [--threads 2] [--projection]

The student is `gpt2-44m` with fresh weights; the data are MBPP's training tasks with their references, the
settings those of `logit_kd`. The teacher has StarCoder2's architecture, random weights in bfloat16, and a
body of more than ten times the student's; a tokenizer of 49,152 ids is trained on the standard library, so
nothing is fetched. Printed are wall seconds of each part and the ratio of both ways. Random weights give flat
distributions, so of each only 32 tokens are kept: a real teacher's take less.

``--projection`` instead measures StarCoder2-3B itself: single layers at full width, and its head, on 1,024
tokens; layers are alike, so the rest follows.
"""

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import Starcoder2Config, Starcoder2ForCausalLM

from codestill.capture import CaptureConfig, capture
from codestill.config import RunConfig
from codestill.examples import references
from codestill.logits import FixedK
from codestill.losses import Distillation
from codestill.models import Placement, StudentConfig
from codestill.run import Run
from codestill.tasks import TasksConfig
from codestill.teachers.cached import CachedLogits
from codestill.teachers.frozen import LocalTeacher
from codestill.train import TrainConfig, fit
from sampler import train_tokenizer

VOCABULARY = 49_152
TEACHER: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 13,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
}
STARCODER2_3B: dict[str, Any] = {
    "hidden_size": 3072,
    "intermediate_size": 12288,
    "num_hidden_layers": 30,
    "num_attention_heads": 24,
    "num_key_value_heads": 2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=374)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--projection", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.projection:
        project(arguments.threads)
    else:
        compare(arguments.tasks, arguments.epochs, arguments.threads)


def architecture(**shape: Any) -> Starcoder2ForCausalLM:
    """Random weights in bfloat16."""
    torch.manual_seed(0)
    options = {"max_position_embeddings": 2048, "sliding_window": None, "bos_token_id": 0, "eos_token_id": 0}
    config = Starcoder2Config(vocab_size=VOCABULARY, **options, **shape)
    torch.set_default_dtype(torch.bfloat16)
    try:
        return Starcoder2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def compare(tasks: int, epochs: int, threads: int) -> None:
    tokenizer = train_tokenizer(VOCABULARY)
    teacher = LocalTeacher(architecture(**TEACHER), tokenizer, "teacher")
    data = TasksConfig.model_validate({"source": "mbpp", "split": "train", "limit": tasks}).load()
    objective, train = Distillation(), TrainConfig(epochs=epochs)
    body = sum(p.numel() for p in teacher.model.base_model.layers.parameters())  # type: ignore[union-attr]
    student = StudentConfig(preset="gpt2-44m").build(tokenizer, placement=Placement(device="cpu"))
    examples = references(data, student)
    own = sum(p.numel() for p in student.model.transformer.h.parameters())  # type: ignore[union-attr]
    print(
        f"{len(examples)} tasks, {epochs} epochs, {threads} thread(s); without embeddings the teacher has "
        f"{body / 1e6:.0f}M parameters, the student {own / 1e6:.0f}M ({body / own:.1f} times)",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as place:
        with Run.open(Path(place) / "live", RunConfig()) as run:
            live = seconds(lambda: fit(student, examples, objective, train, run, teacher=teacher))
        print(f"teacher in every epoch: {live:.0f} s", flush=True)
        found: list[Any] = []
        with Run.open(Path(place) / "cached", RunConfig()) as run:
            settings = CaptureConfig(truncation=FixedK(k=32))
            directory = run.directory / "logits"
            once = seconds(
                lambda: found.append(
                    capture(examples, teacher, (objective.temperature,), settings, directory, run)
                )
            )
            print(f"capture: {once:.0f} s, {found[0].manifest.bytes_per_token:.1f} bytes a token", flush=True)
            del teacher
            student = StudentConfig(preset="gpt2-44m").build(tokenizer, placement=Placement(device="cpu"))
            cached = CachedLogits(found[0], objective.temperature)
            reading = seconds(lambda: fit(student, examples, objective, train, run, teacher=cached))
        print(f"training from the cache: {reading:.0f} s")
        print(f"ratio: {live / (once + reading):.2f}; of the epochs alone {live / reading:.2f}")


def project(threads: int) -> None:
    """Seconds a token of StarCoder2-3B's forward pass, from two layers and the head."""
    ids = torch.randint(VOCABULARY, (4, 256))
    hidden = torch.randn(ids.numel(), STARCODER2_3B["hidden_size"], dtype=torch.bfloat16)
    times, head = [], 0.0
    for layers in (1, 3):
        model = architecture(**STARCODER2_3B | {"num_hidden_layers": layers})
        with torch.no_grad():
            model.base_model(ids)  # warm-up
            times.append(min(seconds(partial(model.base_model, ids)) for _ in range(3)))
            head = min(seconds(partial(torch.matmul, hidden, model.lm_head.weight.T)) for _ in range(3))
    layer = (times[1] - times[0]) / 2
    whole = times[0] + 29 * layer + head
    print(
        f"StarCoder2-3B, bfloat16, {threads} thread(s), {ids.numel()} tokens: a layer {layer * 1e3:.0f} ms, "
        f"the head {head * 1e3:.0f} ms; thirty layers and the head {whole:.1f} s, "
        f"{whole / ids.numel() * 1e3:.1f} ms a token"
    )


def seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
