"""Bytes, errors and speed of the logit cache.

    python benchmarks/cache.py [--tasks 60]

Data: prompts and reference solutions of the pocket world's training tasks; teacher `pocket`, reference
student `pocket-base`, both in float32. Bytes are all of a shard: rows, token ids, index. Errors are against
the forward KL over the whole vocabulary: of its mean, in nats, and of the gradient with respect to the
student's logits, relative. The second part has a vocabulary of 151,936 and random logits from nearly uniform
to nearly one-hot.

Speed is scored tokens per CPU second of one thread, best of three: reading goes over all sequences in random
order, in batches, from the page cache, checksums included.
"""

import argparse
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import torch

from codestill import pocket
from codestill.capture.error import measure_error
from codestill.logits import (
    CapturedRows,
    CaptureSpec,
    FixedK,
    LogitCache,
    LogitWriter,
    Mass,
    Threshold,
    Truncation,
    finish,
)
from codestill.logits.select import select_for
from codestill.models import Placement
from codestill.models.student import Student
from codestill.teachers import LocalTeacherConfig

TEMPERATURES = (1.0, 2.0)
RULES: list[Truncation] = [
    Threshold(min_probability=1e-4),
    Threshold(min_probability=2e-5),
    Threshold(min_probability=1e-5),
    Threshold(min_probability=2e-5, max_k=64),
    Mass(mass=0.998),
    Mass(mass=0.9995),
    Mass(mass=0.9997),
    FixedK(k=8),
    FixedK(k=11),
    FixedK(k=14),
    FixedK(k=32),
]
BATCH_TOKENS = 4096


def spec_of(vocabulary: int, truncation: Truncation, **fields) -> CaptureSpec:
    given = {
        "teacher": "t",
        "weights": "w",
        "tokenizer": "k",
        "vocabulary": vocabulary,
        "truncation": truncation,
    }
    return CaptureSpec.model_validate(given | fields)


def pocket_data(tasks: int) -> tuple[list[tuple[list[int], int]], torch.Tensor, torch.Tensor]:
    """Sequences, and the logits of teacher and student at their scored positions."""
    teacher = LocalTeacherConfig(model="pocket", dtype="float32").build(Placement(device="cpu"))
    student = Student.load("pocket-base", device="cpu")
    sequences, seen, believed = [], [], []
    for task in pocket.generate("train", tasks):
        prompt = teacher.tokenizer(task.prompt)["input_ids"]
        body = teacher.tokenizer(task.reference, add_special_tokens=False)["input_ids"]
        tokens = [*prompt, *body, teacher.codec.end]
        batch = torch.tensor([tokens])
        scored = slice(len(prompt) - 1, -1)
        seen.append(teacher.logits(batch, torch.ones_like(batch))[0, scored])
        with torch.no_grad():
            believed.append(student.model(input_ids=batch).logits[0, scored])
        sequences.append((tokens, len(prompt)))
    return sequences, torch.cat(seen), torch.cat(believed)


def stored(
    directory: Path, spec: CaptureSpec, sequences: list[tuple[list[int], int]], rows: CapturedRows
) -> LogitCache:
    with LogitWriter.open(directory, spec) as writer:
        lengths = [len(tokens) - prompt for tokens, prompt in sequences]
        for (tokens, prompt), piece in zip(sequences, rows.split(lengths), strict=True):
            writer.add(tokens, prompt, piece)
    finish(directory)
    return LogitCache.open(directory)


def copies(
    spec: CaptureSpec, sequences: list, rows: CapturedRows, count: int, directory: Path
) -> tuple[LogitCache, float]:
    """A cache of ``count`` copies, told apart by their first token, and tokens written per second."""
    lengths = [len(tokens) - prompt for tokens, prompt in sequences]
    pieces = list(rows.split(lengths))
    started = time.process_time()
    with LogitWriter.open(directory, spec) as writer:
        for copy in range(count):
            for (tokens, prompt), piece in zip(sequences, pieces, strict=True):
                writer.add([copy, *tokens[1:]], prompt, piece)
    seconds = time.process_time() - started
    finish(directory)
    cache = LogitCache.open(directory)
    return cache, cache.manifest.tokens / seconds


def read_speed(cache: LogitCache, temperature: float) -> float:
    names = list(cache)
    np.random.default_rng(0).shuffle(names)
    per_batch = max(1, BATCH_TOKENS * len(names) // cache.manifest.tokens)
    best = 0.0
    for _ in range(3):
        started, tokens = time.process_time(), 0
        for start in range(0, len(names), per_batch):
            tokens += len(cache.targets(names[start : start + per_batch], temperature))
        best = max(best, tokens / (time.process_time() - started))
    return best


def pocket_part(tasks: int, place: Path) -> None:
    sequences, teacher, student = pocket_data(tasks)
    print(
        f"pocket: {len(sequences)} sequences, {len(teacher)} scored tokens, vocabulary {teacher.shape[1]}\n"
    )
    print(f"{'truncation':<42}{'entries':>8}{'bytes':>7}{'KL T=1':>9}{'grad T=1':>10}{'grad T=2':>10}")
    for number, rule in enumerate(RULES):
        spec = spec_of(teacher.shape[1], rule, temperatures=TEMPERATURES)
        rows = select_for(spec, teacher)
        manifest = stored(place / str(number), spec, sequences, rows).manifest
        found = {
            (e.temperature, e.rule): e for e in measure_error(teacher, rows, student, spec, "pocket-base")
        }
        one, two = found[1.0, "bucket"], found[2.0, "bucket"]
        print(
            f"{rule!s:<42}{manifest.entries / manifest.tokens:8.1f}{manifest.bytes_per_token:7.1f}"
            f"{one.kl_error:9.1e}{one.gradient_error:10.2%}{two.gradient_error:10.2%}"
        )
    spec = spec_of(teacher.shape[1], Threshold(), temperatures=(1.0, 2.0, 4.0), tail_samples=4)
    rows = select_for(spec, teacher, torch.Generator().manual_seed(0))
    print(f"\n{'tail rule (default truncation)':<32}{'T':>3}{'KL':>8}{'KL error':>10}{'gradient':>10}")
    for e in measure_error(teacher, rows, student, spec, "pocket-base"):
        print(f"{e.rule:<32}{e.temperature:3g}{e.kl:8.3f}{e.kl_error:10.1e}{e.gradient_error:10.2%}")
    spec = spec_of(teacher.shape[1], Threshold(), temperatures=TEMPERATURES)
    rows = select_for(spec, teacher)
    cache, written = copies(spec, sequences, rows, 40, place / "copies")
    data = b"".join(path.read_bytes() for path in (place / "1").glob("*.logits"))
    print(f"\nzlib would leave {len(zlib.compress(data, 6)) / len(data):.0%} of the shard")
    print(f"written {written:,.0f} tokens/s, read {read_speed(cache, 2.0):,.0f} tokens/s\n")


def wide_part(place: Path) -> None:
    vocabulary, count = 151_936, 256
    random = torch.Generator().manual_seed(0)
    sharpness = torch.linspace(0.05, 8, count)[:, None]
    logits = torch.randn(count, vocabulary, generator=random) * sharpness
    spec = spec_of(vocabulary, FixedK(k=32), temperatures=(1.0,))
    started = time.process_time()
    rows = select_for(spec, logits)
    selected = count / (time.process_time() - started)
    tokens = torch.randint(vocabulary, (2 * count,), generator=random).tolist()
    cache, written = copies(spec, [(tokens, count)], rows, 80, place / "wide")
    print(f"vocabulary {vocabulary:,}, k=32, one temperature, prompt as long as the completion:")
    print(
        f"{cache.manifest.bytes_per_token:.1f} bytes per token, selected {selected:,.0f} tokens/s, ", end=""
    )
    print(f"written {written:,.0f} tokens/s, read {read_speed(cache, 1.0):,.0f} tokens/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        pocket_part(arguments.tasks, Path(place))
        wide_part(Path(place))


if __name__ == "__main__":
    main()
