"""How likely a model finds the tasks' own solutions."""

from functools import partial
from typing import TYPE_CHECKING

from codestill.errors import ConfigError, TaskError
from codestill.models import Completer
from codestill.prompts import Prompts
from codestill.run import Run
from codestill.tasks import TaskSet
from codestill.types import Example

if TYPE_CHECKING:
    from codestill.models.student import LanguageModel


def require_weights(model: Completer) -> "LanguageModel":
    """The model, which has log-probabilities. Raises ConfigError for one that answers with text alone."""
    from codestill.models.student import LanguageModel

    if not isinstance(model, LanguageModel):
        raise ConfigError(
            f"{model.name} answers with text alone, and evaluate.likelihood wants its log-probabilities.",
            next_step="Evaluate local weights, or leave evaluate.likelihood out.",
        )
    return model


def nats_per_byte(model: "LanguageModel", task_set: TaskSet, prompts: Prompts, run: Run) -> dict[str, float]:
    """-log p(reference solution | prompt) per byte of the solution by task id, in nats.

    The solution is written as the model would answer, and its end is scored, too. A task that exceeds the
    model's positions is left out, and named. Raises TaskError when all do.
    """
    from codestill.train.likelihood import nats

    example = partial(Example, source="reference")
    examples = [
        example(
            example_id=task.task_id,
            prompt=prompts.to_solve(task),
            completion=prompts.to_train(task, task.reference),
            suffix=task.suffix,
        )
        for task in task_set.tasks
    ]
    found = nats(model, examples)
    if not found:
        raise TaskError(
            f"no solution in {task_set.name} fits the model's positions with its prompt.",
            next_step="Name other tasks as evaluate.likelihood, or leave it out.",
        )
    if left_out := [e.example_id for e in examples if e.example_id not in found]:
        run.message("evaluate", f"longer than the model's positions, not scored: {', '.join(left_out)}")
    sizes = {e.example_id: max(1, len(e.completion.encode())) for e in examples}
    return {task_id: value / sizes[task_id] for task_id, value in found.items()}
