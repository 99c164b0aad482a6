"""On-policy distillation beside TRL's trainer: the same samples to make, score and learn from.

    python benchmarks/on_policy.py [--prompts 64] [--batch 8] [--new-tokens 64] [--rounds 3] [--threads 1]

A student of 44M parameters with fresh weights (`gpt2-44m`) writes one completion of ``--new-tokens`` for
every prompt, at temperature 1; a teacher of the shape `llama-44m` reads each; the student takes a step of
AdamW for every ``--batch`` completions, on the generalised Jensen-Shannon divergence at beta 0.5 over the
whole vocabulary. Ours samples all completions of a round at once and then trains; TRL's
``DistillationTrainer`` samples a batch before each step. Random weights seldom end a completion, so both have
the same tokens. Printed are CPU seconds of each and their ratio, both ways in turn in one process, after a
round that is not counted. Needs benchmarks/peers.txt.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset

from codestill.config import RunConfig
from codestill.losses import Distillation
from codestill.models import Decoding, Placement, SamplingConfig, StudentConfig
from codestill.run import Run
from codestill.teachers.frozen import LocalTeacher
from codestill.train import TrainConfig, fit
from codestill.types import Example, Request
from sampler import train_tokenizer

VOCABULARY = 49_152
BETA, RATE = 0.5, 5e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = train_tokenizer(VOCABULARY)
    teacher = (
        StudentConfig(preset="llama-44m").build(tokenizer, placement=Placement(device="cpu"), seed=1).model
    )
    texts = [
        f"def f{number}(x, y):\n    # {number} times the sum of x and y\n"
        for number in range(options.prompts)
    ]
    ours, theirs = [], []
    for number in range(options.rounds + 1):
        pair = [taken(way, tokenizer, teacher, texts, options) for way in (codestill, trl)]
        if number:
            ours.append(pair[0])
            theirs.append(pair[1])
            print(f"round {number}: codestill {pair[0]:.1f} s, TRL {pair[1]:.1f} s", flush=True)
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    print(
        f"TRL takes {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] times the CPU time "
        f"({options.prompts} completions of {options.new_tokens} tokens, {options.threads} thread(s))"
    )


def taken(way: Callable[..., None], tokenizer: Any, teacher: Any, texts: list[str], options: Any) -> float:
    student = StudentConfig(preset="gpt2-44m").build(tokenizer, placement=Placement(device="cpu"))
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.process_time()
        way(student, tokenizer, teacher, texts, options, Path(place))
        return time.process_time() - began


def codestill(
    student: Any, tokenizer: Any, teacher: Any, texts: list[str], options: Any, place: Path
) -> None:
    sampling = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=options.new_tokens)
    requests = [Request(task_id=f"t{number}", prompt=text) for number, text in enumerate(texts)]
    completions = {
        one.task_id: one.text for one in student.complete(requests, Decoding(sampling=sampling, seed=0))
    }
    examples = [
        Example(
            example_id=one.task_id, prompt=one.prompt, completion=completions[one.task_id], source="attempt"
        )
        for one in requests
    ]
    objective = Distillation(divergence="generalized_jsd", beta=BETA, temperature=1.0, alpha=1.0)
    longest = max(len(tokenizer(text).input_ids) for text in texts) + options.new_tokens + 8
    train = TrainConfig(
        max_steps=len(texts) // options.batch,
        batch_tokens=options.batch * longest,
        accumulation=1,
        learning_rate=RATE,
        checkpoint_steps=None,
    )
    with Run.open(place / "run", RunConfig()) as run:
        fit(student, examples, objective, train, run, teacher=LocalTeacher(teacher, tokenizer, "teacher"))


def trl(student: Any, tokenizer: Any, teacher: Any, texts: list[str], options: Any, place: Path) -> None:
    from trl import DistillationConfig, DistillationTrainer  # pyright: ignore[reportMissingImports]

    settings = DistillationConfig(
        output_dir=str(place),
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=1,
        max_steps=len(texts) // options.batch,
        max_completion_length=options.new_tokens,
        learning_rate=RATE,
        beta=BETA,
        temperature=1.0,
        top_k=0,
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        logging_steps=10_000,
        disable_tqdm=True,
        log_completions=False,
    )
    data = Dataset.from_list([{"prompt": text} for text in texts])
    DistillationTrainer(
        model=student.model,
        teacher_model=teacher,
        args=settings,
        train_dataset=data,
        processing_class=tokenizer,
    ).train()


if __name__ == "__main__":
    main()
