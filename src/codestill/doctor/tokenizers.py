"""How well two tokenizers cut the same code alike: whether a teacher's logits can teach a student."""

from codestill.examples import references
from codestill.tasks import TasksConfig


def compare_tokenizers(teacher: str, student: str, tasks: str) -> list[tuple[str, str]]:
    """``(name, value)``, over the tasks' prompts and reference solutions; no weights are loaded.

    Raises ModelError for a tokenizer that cannot be loaded, VocabularyError for one that cannot be aligned,
    TaskError for the tasks.
    """
    from codestill.logits.alignment import ABSENT
    from codestill.models.codec import TextCodec
    from codestill.models.load import resolve
    from codestill.models.tokenizers import load_tokenizer
    from codestill.teachers.aligned import Agreement, TokenizerPair
    from codestill.train.batches import tokenize

    task_set = TasksConfig.model_validate(tasks).load()
    theirs, ours = (TextCodec(load_tokenizer(resolve(name, weights=False))) for name in (teacher, student))
    pair = TokenizerPair(ours, theirs)
    examples = references(task_set, ours)
    rows = list(zip(tokenize(examples, ours, None), tokenize(examples, pair.reader, None), strict=True))
    counts = [sum(len(row.tokens) - row.first_scored for row in side) for side in zip(*rows, strict=True)]
    vocabularies = [len(codec.tokenizer.get_vocab()) for codec in (ours, theirs)]
    agreement = Agreement.of([pair.align(*row) for row in rows])
    found = [
        ("texts", f"{len(rows)} reference solutions of {task_set.name}"),
        ("teacher", f"{teacher}: {vocabularies[1]:,} tokens in all, {counts[1]:,} in these texts"),
        ("student", f"{student}: {vocabularies[0]:,} tokens in all, {counts[0]:,} in these texts"),
        ("shared", f"{int((pair.student_ids != ABSENT).sum()):,} tokens with the same bytes"),
        ("aligned", str(agreement)),
    ]
    return [*found, ("advice", agreement.warning)] if agreement.warning else found
