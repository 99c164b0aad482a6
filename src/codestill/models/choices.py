"""How probable it is that an answer begins with each of a few words: a judgement in one pass, without a text
that must be parsed."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from codestill.errors import ModelError
from codestill.models.batch import position_limit
from codestill.models.codec import TextCodec
from codestill.models.completer import begun
from codestill.models.decode import NO_LIMIT, WholeTexts
from codestill.types import Completion, Request


@torch.inference_mode()
def choose(
    model: PreTrainedModel,
    codec: TextCodec,
    requests: Iterable[Request],
    choices: tuple[str, ...],
) -> Iterator[Completion]:
    """Yield one Completion per request, in order: its text is the most probable choice, and ``probabilities``
    hold each one's share of all first tokens of an answer.

    A token counts for the choice that it begins (:func:`codestill.models.completer.begun`). Each prompt is
    read by itself, so that its numbers do not depend on what else is asked. Raises ModelError where no token
    begins a choice.
    """
    begins_CV = _begins(codec, choices, model)
    limit = position_limit(model.config) or NO_LIMIT
    was_training = model.training
    model.eval()
    try:
        for request in requests:
            prompt = tuple(codec.prompt(request.prompt))
            if len(prompt) >= limit:
                yield Completion(
                    task_id=request.task_id, sample=request.sample, text="", finish="prompt_too_long"
                )
                continue
            logits_1V, _ = WholeTexts(model).add([prompt])
            shares_V = logits_1V[0].float().softmax(dim=-1)
            shares_C = (begins_CV * shares_V).sum(dim=-1, dtype=torch.float64)
            yield Completion(
                task_id=request.task_id,
                sample=request.sample,
                text=choices[int(shares_C.argmax())],
                tokens=1,
                probabilities=tuple(shares_C.tolist()),
            )
    finally:
        model.train(was_training)


def _begins(codec: TextCodec, choices: tuple[str, ...], model: PreTrainedModel) -> Tensor:
    """Whether each token begins each choice [C, V]. Raises ModelError."""
    width: int = model.get_output_embeddings().weight.shape[0]  # pyright: ignore
    begins_CV = torch.zeros(len(choices), width, dtype=torch.bool, device=model.device)
    for token, text in enumerate(_texts(codec, min(width, len(codec.tokenizer)))):
        choice = begun(text, choices)
        if choice is not None:
            begins_CV[choice, token] = True
    for choice, begins_V in zip(choices, begins_CV, strict=True):
        if not begins_V.any():
            raise ModelError(
                f"no token of {model.config.name_or_path or 'the model'} begins {choice!r}.",
                next_step="Ask for the points of a rubric: feedback.judge.form: points.",
            )
    return begins_CV


def _texts(codec: TextCodec, count: int) -> list[str]:
    """The text of every id; empty for control tokens, which stand for none."""
    texts: list[str] = codec.tokenizer.batch_decode([[id] for id in range(count)])
    return ["" if id in codec.controls else text for id, text in enumerate(texts)]
