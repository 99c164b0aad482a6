"""The optimisers of ``fit``: AdamW, or for the matrices Muon or AdamW with states of 8 bits, with AdamW for
the rest."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from codestill.train import TrainConfig

BETAS = (0.9, 0.98)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """An optimiser over the trainable parameters; weight decay on matrices only."""
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    # Embeddings (and a head tied to them) are look-up tables: Muon's orthogonal update is not for them, and
    # the large gradients of rare tokens need exact states.
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is not None:
        tables.add(id(head.weight))
    hidden = [p for _, p in trainable if p.ndim == 2 and id(p) not in tables]
    chosen = {id(p) for p in hidden}
    rest = [p for _, p in trainable if id(p) not in chosen]
    if config.optimizer == "muon" and hidden:
        return Both(
            torch.optim.Muon(hidden, lr=config.muon_learning_rate, weight_decay=config.weight_decay),
            _adamw([{"params": rest, "weight_decay": 0.0}], config),
        )
    if config.optimizer == "adamw_8bit" and hidden:
        from bitsandbytes.optim.adamw import AdamW8bit

        first = AdamW8bit(hidden, lr=config.peak_rate, betas=BETAS, weight_decay=config.weight_decay)
        return Both(first, _adamw(_groups(rest, config), config))
    return _adamw(_groups([p for _, p in trainable], config), config)


def _groups(parameters: list[nn.Parameter], config: TrainConfig) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _adamw(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.peak_rate, betas=BETAS)


class Both(torch.optim.Optimizer):
    """Two optimisers that step as one: Trainer, its schedulers and its checkpoints know a single one."""

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        self.parts = (first, second)
        super().__init__([*first.param_groups, *second.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        """Let the parts read the learning rates that a scheduler writes here."""
        count = len(self.parts[0].param_groups)
        self.parts[0].param_groups = self.param_groups[:count]
        self.parts[1].param_groups = self.param_groups[count:]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self._share_groups()
