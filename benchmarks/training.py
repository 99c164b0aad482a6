"""Time and memory of a training step: an adapter, 4-bit weights, gradient checkpointing, 8-bit states.

    python benchmarks/training.py [--model llama-44m] [--rows 4] [--length 512] [--rounds 5] [--threads 1]

A step is the student's forward pass, cross-entropy from hidden states, the backward pass and the optimiser's
step, for ``--rows`` sequences of ``--length`` random tokens. The student is a preset's shape with random
weights, or with ``--model DIR`` a saved model. ``full`` trains all weights in float32; the others differ from
it, or from ``adapter``, as their names say:

    checkpointing   execution.gradient_checkpointing
    eager           execution.attention: eager, which keeps the attention's weights for the backward pass
    8 bit           train.optimizer: adamw_8bit
    adapter         student.adapter of rank 16 on every linear layer
    bf16, nf4       student.dtype: bfloat16, student.quantize: nf4, beneath the adapter

Time is measured in a process that holds ``full``, or the first of ``--variants``, and one other, which step
in turn, after a round that is not counted: CPU seconds of the process, or CUDA events. A ratio is the median
of the rounds' ratios, with the lowest and the highest. Memory is the peak (``getrusage``; on a GPU torch's
own) of two steps in a process of the variant's own, above what it held before the weights were loaded:
weights, gradients, the optimiser's states and activations. ``kept`` is what it holds between steps, without
activations and gradients.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from losses import held, peak, timed

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, checkpointing": {"gradient_checkpointing": True},
    "full, eager": {"attention": "eager"},
    "full, 8 bit": {"optimizer": "adamw_8bit"},
    "adapter": {"adapter": {}},
    "adapter, checkpointing": {"adapter": {}, "gradient_checkpointing": True},
    "adapter, bf16": {"adapter": {}, "dtype": "bfloat16"},
    "adapter, nf4": {"adapter": {}, "dtype": "bfloat16", "quantize": "nf4"},
    "adapter, nf4, checkpointing": {
        "adapter": {},
        "dtype": "bfloat16",
        "quantize": "nf4",
        "gradient_checkpointing": True,
    },
}


class Step:
    """One variant's step; calling it gives the loss."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        from codestill.models import AdapterConfig, Placement, StudentConfig
        from codestill.models.adapters import attach
        from codestill.models.heads import linear_head
        from codestill.models.trainable import prepare
        from codestill.train import TrainConfig
        from codestill.train.optimizers import build_optimizer

        chosen = VARIANTS[name]
        placed = {key: chosen[key] for key in ("gradient_checkpointing", "attention") if key in chosen}
        plain = StudentConfig.model_validate(arguments.model)
        plain = plain.model_copy(update={"dtype": chosen.get("dtype", "float32")})
        if plain.preset:  # its own tokenizer is on the hub, and random tokens need none
            plain = plain.model_copy(update={"tokenizer": "pocket"})
        student = plain.build(placement=Placement(**placed))
        prepare(student)
        self.model: Any = student.model
        if "adapter" in chosen:
            adapter = AdapterConfig(**chosen["adapter"])
            self.model = attach(student.model, adapter, chosen.get("quantize"), seed=0)
        self.model.train()
        self.head: Any = linear_head(self.model)
        config = TrainConfig(optimizer=chosen.get("optimizer", "adamw"))
        self.optimizer = build_optimizer(self.model, config)
        generator = torch.Generator().manual_seed(0)
        shape = arguments.rows, arguments.length
        self.ids = torch.randint(1000, shape, generator=generator).to(student.model.device)

    def __call__(self) -> Tensor:
        from codestill.losses import CrossEntropy
        from codestill.losses.linear import linear_loss
        from codestill.models.heads import hidden_states_alone

        output = self.model(input_ids=self.ids, use_cache=False, **hidden_states_alone(self.model))
        hidden_BTD = output.hidden_states[-1]
        del output
        loss = linear_loss(CrossEntropy(), hidden_BTD, self.head, self.ids).total / self.ids.numel()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def measure(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Two steps of one variant in this process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    import codestill.models.load
    import codestill.train.loop  # noqa: F401  # what a training imports is no part of a step

    before = held(device)
    step = Step(name, arguments)
    trained = sum(p.numel() for p in step.model.parameters() if p.requires_grad)
    losses = [step().item() for _ in range(2)]
    most = peak(device)
    return {
        "gigabytes": (most - before) / 1e9,
        "kept": (held(device) - before) / 1e9,
        "trained": trained,
        "loss": losses[-1],
    }


def measure_times(arguments: argparse.Namespace) -> list[list[float]]:
    """Seconds of each of the variants, in turn, in every round."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    steps = [Step(name, arguments) for name in arguments.variants]
    rounds = [[timed(step, device)[0] for step in steps] for _ in range(arguments.rounds + 1)]
    return rounds[1:]


def alone(arguments: argparse.Namespace, what: str, *variants: str) -> Any:
    """The measurement of a fresh process."""
    command = [sys.executable, __file__, "--alone", what]
    for name in ("model", "rows", "length", "rounds", "threads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    run = subprocess.run(
        [*command, "--variants", *variants], check=True, stdout=subprocess.PIPE, env=environment
    )
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="llama-44m", help="a preset, or a saved model's directory")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.alone:
        wanted = arguments.alone
        print(json.dumps(measure_times(arguments) if wanted == "times" else measure(wanted, arguments)))
        return
    print(f"{arguments.model}, {arguments.rows} x {arguments.length} tokens, {arguments.threads} thread(s)")
    print(f"{'':<29}{'trained':>12}{'GB':>7}{'kept':>7}{'seconds':>9}{'ratio':>9}{'lowest':>8}{'highest':>9}")
    base, *_ = arguments.variants
    for name in arguments.variants:
        row = alone(arguments, name, name)
        print(
            f"{name:<29}{row['trained']:>12,.0f}{row['gigabytes']:>7.2f}{row['kept']:>7.2f}",
            end="",
            flush=True,
        )
        rounds = alone(arguments, "times", *dict.fromkeys((base, name)))
        ratios = [seconds[-1] / seconds[0] for seconds in rounds]
        print(
            f"{statistics.median(seconds[-1] for seconds in rounds):>9.2f}"
            f"{statistics.median(ratios):>9.2f}{min(ratios):>8.2f}{max(ratios):>9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
