"""Time and memory of one distillation step: ours against Hugging Face's, TRL's and the hand-written one.

    python benchmarks/losses.py [--rounds 5] [--mask half] [--threads 1] [--fused]
    python benchmarks/losses.py --curve

The student is a GPT-2 of 44M parameters (6 layers of 512, 512 positions, vocabulary 49,152, tied head); the
batch is 4 x 512 tokens, of which all, or with ``--mask half`` the second half, are scored. The teacher is
hidden states of width 768 and a head, random; its product with that head is part of every dense step, its
body of none. A step is the student's forward pass, the loss and the backward pass, in float32, without an
optimiser. Cross-entropy, and three ways to distil:

    kl       alpha 0.5, temperature 2: forward KL with cross-entropy. The peer is the hand-written form:
             `F.kl_div` and `F.cross_entropy` over every position, masked afterwards
    jsd      generalised JSD, beta 0.5. The peer is TRL's GKDTrainer.generalized_jsd_loss, where it is
             installed
    cached   as kl, from 32 tokens and the mass of the rest instead of a teacher

``--fused`` adds ours with `LossOptions(fused=True)`, compiled in the step that is not counted. And
``floor``: the matrix products of our kl step alone, student's body included, by the kernels that ours uses.

Time is measured in one process, all variants in turn, after a round that is not counted: CPU seconds of the
process, or CUDA events. A ratio is the median of the rounds' ratios, with the lowest and the highest: what a
shared machine does to one step it mostly does to the next. Memory is the peak above what a process of the
variant's own held before its first step. Loss and norm of the head's gradient are printed so that it is seen
that peers do the same work.

``--curve`` takes our kl loss alone, from hidden states of width 512, over lengths and vocabularies: memory is
the peak above inputs and gradients, which no loss can do without.
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
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

B, T, V, WIDTH, TEACHER_WIDTH, K = 4, 512, 49_152, 512, 768, 32
TEMPERATURE, ALPHA, BETA = 2.0, 0.5, 0.5
# Ours, its peer, and the aims for time and memory beside it.
PAIRS = [
    ("ce", "ce, Hugging Face", 1.0, 1.0),
    ("ce, fused", "ce, Hugging Face", 1.0, 1.0),
    ("cached", "ce", 1.05, None),
    ("cached, fused", "ce, fused", 1.05, None),
    ("kl", "kl, hand-written", 0.65, 0.35),
    ("kl, fused", "kl, hand-written", 0.65, 0.35),
    ("jsd", "jsd, TRL", 0.55, 0.25),
    ("jsd, fused", "jsd, TRL", 0.55, 0.25),
    ("kl", "floor", None, None),
    ("kl, fused", "floor", None, None),
    ("ce", "floor", None, None),
]
OURS = ["ce", "cached", "kl", "jsd"]
VARIANTS = [
    "ce, Hugging Face",
    "kl, hand-written",
    "jsd, TRL",
    *OURS,
    *(f"{n}, fused" for n in OURS),
    "floor",
]


class Step:
    """One variant's forward and backward pass; calling it gives the loss."""

    def __init__(self, name: str, mask: str, device: str) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        from codestill.losses import CrossEntropy, Distillation
        from codestill.losses.targets import LinearTeacher

        if name == "jsd, TRL":
            import trl.experimental.gkd  # noqa: F401  # pyright: ignore[reportMissingImports]

        torch.manual_seed(0)
        shape: dict[str, Any] = {
            "vocab_size": V,
            "n_positions": T,
            "n_embd": WIDTH,
            "n_layer": 6,
            "n_head": 8,
        }
        config = GPT2Config(**shape, use_cache=False, bos_token_id=0, eos_token_id=0)
        self.name = name
        kind, _, path = name.partition(", ")
        self.fused = path == "fused"
        # Without dropout, so that every variant gives the same loss.
        self.student = GPT2LMHeadModel(config).eval().to(torch.device(device))  # pyright: ignore[reportArgumentType]
        self.head = self.student.lm_head.weight
        self.ids = torch.randint(V, (B, T), device=device)
        prompt = T // 2 if mask == "half" else 1
        self.labels = self.ids.masked_fill(torch.arange(T, device=device) < prompt, -100)
        head = torch.randn(V, TEACHER_WIDTH, device=device) * TEACHER_WIDTH**-0.5 * 3
        self.teacher = LinearTeacher(torch.randn(B, T, TEACHER_WIDTH, device=device), head)
        self.objective = {
            "ce": CrossEntropy(),
            "jsd": Distillation(divergence="generalized_jsd", alpha=1.0, beta=BETA, temperature=TEMPERATURE),
        }.get(kind, Distillation(temperature=TEMPERATURE, alpha=ALPHA))
        self.targets = sparse(self.labels) if kind == "cached" else self.teacher

    def __call__(self) -> Tensor:
        self.student.zero_grad(set_to_none=True)
        value = self.loss()
        value.backward()
        return value.detach()

    def loss(self) -> Tensor:
        # Logits are local to the functions: dropped before the backward pass, as by trainers.
        peers: dict[str, Callable[[], Tensor]] = {
            "ce, Hugging Face": lambda: self.student(input_ids=self.ids, labels=self.labels).loss,
            "kl, hand-written": self.hand_written,
            "jsd, TRL": self.trl,
            "floor": self.products,
        }
        return peers.get(self.name, self.ours)()

    def hidden(self) -> Tensor:
        found = self.student(input_ids=self.ids, output_hidden_states=True, logits_to_keep=1)
        return found.hidden_states[-1]

    def ours(self) -> Tensor:
        from codestill.losses.batch import LossOptions
        from codestill.losses.linear import linear_loss

        hidden, options = self.hidden(), LossOptions(fused=self.fused)
        return linear_loss(self.objective, hidden, self.head, self.labels, self.targets, options).total

    def teacher_logits(self) -> Tensor:
        return self.teacher.hidden_BTD @ self.teacher.head_VD.T

    def hand_written(self) -> Tensor:
        student = self.student(input_ids=self.ids).logits[:, :-1].reshape(-1, V)
        teacher = self.teacher_logits()[:, :-1].reshape(-1, V)
        target = self.labels[:, 1:].flatten()
        valid = target != -100
        cross_entropy = functional.cross_entropy(student, target, ignore_index=-100)
        log_q = functional.log_softmax(student / TEMPERATURE, dim=-1)
        p = functional.softmax(teacher / TEMPERATURE, dim=-1)
        kl = (functional.kl_div(log_q, p, reduction="none").sum(-1) * valid).sum() / valid.sum()
        return ALPHA * TEMPERATURE**2 * kl + (1 - ALPHA) * cross_entropy

    def trl(self) -> Tensor:
        from trl.experimental.gkd import GKDTrainer  # pyright: ignore[reportMissingImports]

        student = self.student(input_ids=self.ids).logits[:, :-1]
        teacher = self.teacher_logits()[:, :-1]
        found = GKDTrainer.generalized_jsd_loss(
            student, teacher, labels=self.labels[:, 1:], beta=BETA, temperature=TEMPERATURE
        )
        return TEMPERATURE**2 * found

    def products(self) -> Tensor:
        """The head's three products and the teacher's one, over the scored positions; no softmax at all."""
        rows, columns = torch.nonzero(self.labels[:, 1:] != -100, as_tuple=True)
        return _Products.apply(
            self.hidden()[rows, columns],
            self.head,
            self.teacher.hidden_BTD[rows, columns],
            self.teacher.head_VD,
        )


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_ND: Tensor, head_VD: Tensor, teacher_ND: Tensor, teacher_VD: Tensor) -> Tensor:
        from codestill.losses.chunks import rows_at_once
        from codestill.matmul import add_product, matmul

        gradient_ND, gradient_VD = torch.empty_like(hidden_ND), torch.zeros_like(head_VD)
        rows = rows_at_once(hidden_ND, V)
        for start in range(0, len(hidden_ND), rows):
            part = slice(start, start + rows)
            _ = matmul(teacher_ND[part], teacher_VD.T)
            logits_NV = matmul(hidden_ND[part], head_VD.T)
            gradient_ND[part] = matmul(logits_NV, head_VD)
            add_product(gradient_VD, logits_NV.T, hidden_ND[part])
        ctx.save_for_backward(gradient_ND, gradient_VD)
        return gradient_ND.sum() * 0

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *ctx.saved_tensors, None, None


def sparse(labels_BT: Tensor):
    """K tokens that share nine tenths of the mass, for every scored position."""
    from codestill.losses.targets import SparseTargets

    count = int((labels_BT[:, 1:] != -100).sum())
    ids_NK = torch.rand(count, V // 64).argsort(dim=1)[:, :K].to(labels_BT.device) * 64
    log_p_NK = torch.full((count, K), 0.9 / K, device=labels_BT.device).log()
    log_tail_N = torch.full((count,), 0.1, device=labels_BT.device).log()
    return SparseTargets(ids_NK, log_p_NK, log_tail_N, TEMPERATURE)


def held(device: str) -> float:
    """Bytes held now."""
    import psutil

    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss


def peak(device: str) -> float:
    """Most bytes held since :func:`held`; on the CPU, since the process began."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(step: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    """Seconds, and what the step gave."""
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        value = step()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000, value
    started = time.process_time()
    value = step()
    return time.process_time() - started, value


def measure(name: str, mask: str, threads: int) -> dict[str, float]:
    """Two steps of one variant in this process: memory, and what they gave."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = Step(name, mask, device)
    before = held(device)
    step()
    loss = step().item()
    gradient = step.head.grad
    assert gradient is not None
    return {
        "gigabytes": (peak(device) - before) / 1e9,
        "loss": loss,
        "gradient": gradient.norm().item(),
    }


def measure_times(names: list[str], mask: str, rounds: int, threads: int) -> dict[str, list[float]]:
    """Seconds of each variant in every round."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    steps = {name: Step(name, mask, device) for name in names}
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name, step in steps.items():
            seconds, _ = timed(step, device)
            step.student.zero_grad(set_to_none=True)
            if number:
                found[name].append(seconds)
    return found


def measure_curve(length: int, vocabulary: int, threads: int) -> dict[str, float]:
    """Our kl loss from hidden states alone."""
    from codestill.losses import Distillation
    from codestill.losses.linear import linear_loss
    from codestill.losses.targets import LinearTeacher

    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    hidden, head = (torch.randn(*s, WIDTH, device=device) for s in ((1, length), (vocabulary,)))
    teacher = LinearTeacher(torch.randn_like(hidden), torch.randn_like(head))
    labels = torch.randint(vocabulary, (1, length), device=device)
    hidden.requires_grad_()
    head.requires_grad_()
    before = held(device)
    linear_loss(Distillation(), hidden, head, labels, teacher).total.backward()
    gradients = 4 * (hidden.numel() + head.numel())
    return {"megabytes": (peak(device) - before - gradients) / 1e6}


def alone(arguments: argparse.Namespace, *what: str) -> dict[str, Any]:
    """The measurement of a fresh process."""
    command = [sys.executable, __file__, "--alone", *what]
    command += ["--rounds", str(arguments.rounds), "--threads", str(arguments.threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(run.stdout.splitlines()[-1])


def print_curve(arguments: argparse.Namespace) -> None:
    lengths, vocabularies = (256, 512, 1024, 2048, 4096), (32_768, 49_152, 98_304, 151_936)
    print("MB above inputs and gradients; length by vocabulary")
    print(f"{'':>8}" + "".join(f"{vocabulary:>10,}" for vocabulary in vocabularies))
    for length in lengths:
        row = [alone(arguments, "curve", str(length), str(v))["megabytes"] for v in vocabularies]
        print(f"{length:>8,}" + "".join(f"{megabytes:>10.0f}" for megabytes in row), flush=True)


def print_table(arguments: argparse.Namespace) -> None:
    names = [name for name in VARIANTS if arguments.fused or not name.endswith(", fused")]
    if find_spec("trl") is None:
        names.remove("jsd, TRL")
        print("jsd, TRL: not installed, see `make bench-peers`")
    rows = {name: alone(arguments, "memory", name, arguments.mask) for name in names}
    times = alone(arguments, "times", arguments.mask, *names)
    print(f"{'mask ' + arguments.mask:<18}{'seconds':>9}{'GB':>7}{'loss':>11}{'gradient':>11}")
    for name, row in rows.items():
        gave = "" if name == "floor" else f"{row['loss']:>11.5f}{row['gradient']:>11.6f}"
        print(f"{name:<18}{statistics.median(times[name]):>9.2f}{row['gigabytes']:>7.2f}{gave}")
    print(f"\n{'ratio':<28}{'time':>7}{'lowest':>8}{'highest':>9}{'aim':>7}{'memory':>9}{'aim':>7}")
    for ours, peer, time_aim, memory_aim in PAIRS:
        if ours in rows and peer in rows:
            ratios = [a / b for a, b in zip(times[ours], times[peer], strict=True)]
            memory = rows[ours]["gigabytes"] / rows[peer]["gigabytes"]
            aims = ["" if aim is None else f"{aim:.2f}" for aim in (time_aim, memory_aim)]
            print(
                f"{ours + ' / ' + peer:<28}{statistics.median(ratios):>7.2f}{min(ratios):>8.2f}"
                f"{max(ratios):>9.2f}{aims[0]:>7}{memory:>9.2f}{aims[1]:>7}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mask", choices=("all", "half"), default="all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fused", action="store_true", help="the compiled form, too")
    parser.add_argument("--curve", action="store_true", help="memory over lengths and vocabularies")
    parser.add_argument("--alone", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    kind = arguments.alone[0] if arguments.alone else ""
    if kind == "memory":
        _, name, mask = arguments.alone
        print(json.dumps(measure(name, mask, arguments.threads)))
    elif kind == "times":
        _, mask, *names = arguments.alone
        print(json.dumps(measure_times(names, mask, arguments.rounds, arguments.threads)))
    elif arguments.alone:
        length, vocabulary = map(int, arguments.alone[1:])
        print(json.dumps(measure_curve(length, vocabulary, arguments.threads)))
    elif arguments.curve:
        print_curve(arguments)
    else:
        print_table(arguments)


if __name__ == "__main__":
    main()
