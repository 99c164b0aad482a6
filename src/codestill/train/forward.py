"""One pass of a student over a collated batch, and its loss, in whichever form the student's head allows."""

from collections.abc import Mapping

import torch
from torch import Tensor

from codestill.losses import CrossEntropy, Distillation
from codestill.losses.batch import Loss, LossOptions
from codestill.losses.compute import compute
from codestill.losses.linear import linear_loss
from codestill.losses.targets import LinearTeacher, SparseTargets
from codestill.models.heads import hidden_states_alone


def states(model: torch.nn.Module, head: Tensor | None, inputs: Mapping[str, Tensor]) -> Tensor:
    """The model's last hidden states [B, T, D] for a batch; without ``head`` its logits [B, T, V].

    ``head`` is its matrix of logits, where they are nothing else than that times its hidden states
    (:func:`codestill.models.heads.linear_head`). The pass goes through the model as it is given, whose hooks
    gather gradients.
    """
    read = {name: inputs[name] for name in ("input_ids", "attention_mask")} | {"use_cache": False}
    if head is None:
        return model(**read).logits
    return model(**read, **hidden_states_alone(model)).hidden_states[-1]


def batch_loss(
    objective: CrossEntropy | Distillation,
    model: torch.nn.Module,
    head: Tensor | None,
    inputs: Mapping[str, Tensor],
    teacher: LinearTeacher | SparseTargets | Tensor | None,
    options: LossOptions,
) -> Loss:
    """The objective's loss on a batch: no whole logits are made where the model has a ``head``. A teacher's
    hidden states need one, too."""
    states_BTX = states(model, head, inputs)
    if head is not None:
        return linear_loss(objective, states_BTX, head, inputs["labels"], teacher, options)
    assert not isinstance(teacher, LinearTeacher)
    return compute(objective, states_BTX, inputs["labels"], teacher, options)
