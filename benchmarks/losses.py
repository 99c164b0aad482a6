"""Time and memory of one distillation step: our loss against the usual hand-written one.

    python benchmarks/losses.py [--steps 3] [--threads 1]

The student is a GPT-2 of 44M parameters (6 layers of 512, 512 positions, vocabulary 49,152, tied head); the
batch is 4 x 512 tokens; the teacher's logits come from random hidden states and a random head of width 768,
and are made once, outside the measured time, as they cost every variant the same. A step is the student's
forward pass, the loss (forward KL at temperature 2, alpha 0.5, plus cross-entropy) and the backward pass.

Each variant runs in a process of its own. Time is the median over the steps: CPU seconds of the process, or
CUDA events. Memory is the peak above what the process held before the first step, teacher logits included.
The hand-written forms:

    plain     `F.kl_div` and `F.cross_entropy` over every position, the mask applied to their result
    gathered  the same over the valid positions only, selected first

The loss and the norm of the head's gradient are printed too, so that it is seen that all do the same work.
"""

import argparse
import ctypes
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

B, T, V, TEACHER_WIDTH = 4, 512, 49_152, 768
TEMPERATURE, ALPHA = 2.0, 0.5
# "reuse": the gradient overwrites the student's logits.
VARIANTS = ["plain", "gathered", "codestill", "codestill, reuse"]
PROMPT = {"half": T // 2, "full": 1}  # tokens of the prompt under each mask


def variant(name: str) -> Callable:
    """(student logits, labels, teacher logits) -> loss."""
    import torch.nn.functional as F  # noqa: N812
    from torch import Tensor

    from codestill.losses import Distillation
    from codestill.losses.compute import compute

    objective = Distillation(temperature=TEMPERATURE, alpha=ALPHA)

    def ours(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        return compute(objective, student, labels, teacher, reuse_student_logits="reuse" in name).total

    def plain(student: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = student[:, :-1].reshape(-1, V), teacher[:, :-1].reshape(-1, V)
        target = labels[:, 1:].flatten()
        valid = target != -100
        if name == "gathered":
            student, teacher, target, valid = student[valid], teacher[valid], target[valid], valid[valid]
        cross_entropy = F.cross_entropy(student, target, ignore_index=-100)
        log_q = F.log_softmax(student / TEMPERATURE, dim=-1)
        p = F.softmax(teacher / TEMPERATURE, dim=-1)
        kl = (F.kl_div(log_q, p, reduction="none").sum(-1) * valid).sum() / valid.sum()
        return ALPHA * TEMPERATURE**2 * kl + (1 - ALPHA) * cross_entropy

    return ours if name.startswith("codestill") else plain


def measure(name: str, mask: str, steps: int, threads: int) -> dict[str, float]:
    """Run one variant in this process."""
    import psutil
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=V,
        n_positions=T,
        n_embd=512,
        n_layer=6,
        n_head=8,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    student = GPT2LMHeadModel(config).eval()  # no dropout: every variant gives the same loss
    student.to(torch.device(device))  # pyright: ignore[reportArgumentType]
    head = student.lm_head.weight
    ids = torch.randint(V, (B, T), device=device)
    labels = ids.masked_fill(torch.arange(T, device=device) < PROMPT[mask], -100)
    hidden, teacher_head = (torch.randn(n, TEACHER_WIDTH, device=device) for n in (B * T, V))
    loss_of = variant(name)

    gc.collect()
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = psutil.Process().memory_info().rss
    with torch.no_grad():
        teacher_logits = (hidden @ teacher_head.T * TEACHER_WIDTH**-0.5 * 3).view(B, T, V)

    def step() -> torch.Tensor:
        def loss() -> torch.Tensor:  # so that logits are dropped before the backward pass, as trainers do
            return loss_of(student(input_ids=ids).logits, labels, teacher_logits)

        student.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value.detach()

    seconds, value = [], torch.tensor(0.0)
    for _ in range(steps):
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            value = step()
            end.record()
            torch.cuda.synchronize()
            seconds.append(start.elapsed_time(end) / 1000)
        else:
            started = time.process_time()
            value = step()
            seconds.append(time.process_time() - started)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert head.grad is not None
    return {
        "seconds": statistics.median(seconds),
        "gigabytes": (peak - before) / 1e9,
        "loss": value.item(),
        "gradient": head.grad.norm().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--variant", nargs=2, metavar=("NAME", "MASK"), help="run one, and print JSON")
    arguments = parser.parse_args()
    if arguments.variant:
        name, mask = arguments.variant
        print(json.dumps(measure(name, mask, arguments.steps, arguments.threads)))
        return
    print(
        f"{'mask':<6}{'variant':<18}{'seconds':>9}{'ratio':>7}{'GB':>7}{'ratio':>7}{'loss':>11}{'gradient':>11}"
    )
    for mask in PROMPT:
        first: dict[str, float] = {}
        for name in VARIANTS:
            if mask == "full" and name == "gathered":
                continue  # it selects everything: the plain form with a copy more
            command = [sys.executable, __file__, "--variant", name, mask]
            command += ["--steps", str(arguments.steps), "--threads", str(arguments.threads)]
            environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
            row = json.loads(run.stdout.splitlines()[-1])
            first = first or row
            time_ratio, memory_ratio = (row[key] / first[key] for key in ("seconds", "gigabytes"))
            print(
                f"{mask:<6}{name:<18}{row['seconds']:>9.2f}{time_ratio:>7.2f}{row['gigabytes']:>7.2f}"
                f"{memory_ratio:>7.2f}{row['loss']:>11.5f}{row['gradient']:>11.6f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
