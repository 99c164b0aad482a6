"""How a model's layers compute while it is trained, and whether it can be trained as the settings say: found
out when it is loaded, before a teacher is paid."""

from codestill.errors import ModelError
from codestill.models.adapters import require_adaptable
from codestill.models.settings import Attention
from codestill.models.student import Student


def require_trainable(student: Student) -> None:
    """Raises ModelError where an adapter, gradient checkpointing or an attention is asked for that the model
    or this machine does not have."""
    model = student.model
    if student.placement.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise ModelError(
            f"{student.name} ({type(model).__name__}) has no gradient checkpointing.",
            next_step="Set execution.gradient_checkpointing to false; a smaller train.batch_tokens with more "
            "train.accumulation takes less memory, too.",
        )
    if student.placement.attention is not None:
        before = model.config._attn_implementation
        _set_attention(student, student.placement.attention)
        model.set_attn_implementation(before or "eager")
    if student.adapter is not None:
        require_adaptable(model, student.adapter, student.quantize)


def prepare(student: Student) -> None:
    """Let the model's layers compute as its placement says. Raises ModelError; see
    :func:`require_trainable`."""
    placement, model = student.placement, student.model
    if placement.attention is not None:
        _set_attention(student, placement.attention)
    if placement.gradient_checkpointing:
        # The older, reentrant form has no gradient where nothing before a layer is trained.
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})


def _set_attention(student: Student, name: Attention) -> None:
    config, before = student.model.config, student.model.config._attn_implementation
    reason = "its layers compute their own"
    try:
        student.model.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
    if config._attn_implementation == before != name:
        raise ModelError(
            f"{student.name} cannot use the attention {name} here: {reason}",
            next_step="Leave execution.attention out, or set it to sdpa or eager.",
        )
