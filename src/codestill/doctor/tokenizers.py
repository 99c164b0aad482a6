"""How well two tokenizers cut the same code alike, and whether their models are asked and end alike: whether
a teacher's logits can teach a student."""

from typing import TYPE_CHECKING

from codestill.examples import references
from codestill.models import ChatConfig
from codestill.tasks import TasksConfig

if TYPE_CHECKING:
    from codestill.models.codec import TextCodec


def compare_tokenizers(teacher: str, student: str, tasks: str) -> list[tuple[str, str]]:
    """``(name, value)``, over the tasks' prompts and reference solutions; no weights are loaded.

    Raises ModelError for a tokenizer that cannot be loaded, VocabularyError for one that cannot be aligned,
    TaskError for the tasks.
    """
    from codestill.logits.alignment import ABSENT
    from codestill.models.chat import codec_for
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
    named = (theirs, teacher), (ours, student)
    asked = [codec_for(ChatConfig(), codec.tokenizer, name) for codec, name in named]
    vocabularies = [len(codec.tokenizer.get_vocab()) for codec in (ours, theirs)]
    agreement = Agreement.of([pair.align(*row) for row in rows])
    found = [
        ("texts", f"{len(rows)} reference solutions of {task_set.name}"),
        ("teacher", f"{teacher}: {vocabularies[1]:,} tokens in all, {counts[1]:,} in these texts"),
        ("student", f"{student}: {vocabularies[0]:,} tokens in all, {counts[0]:,} in these texts"),
        ("shared", f"{int((pair.student_ids != ABSENT).sum()):,} tokens with the same bytes"),
        ("aligned", str(agreement)),
        ("end", _ends(*asked)),
        ("form", _forms(*asked)),
    ]
    return [*found, ("advice", agreement.warning)] if agreement.warning else found


def _ends(teacher: "TextCodec", student: "TextCodec") -> str:
    """What ends their texts, or their turns; a saved model may say otherwise in its generation config."""
    theirs, ours = (str(codec.tokenizer.convert_ids_to_tokens(codec.end)) for codec in (teacher, student))
    if ours == theirs:
        return f"both end a sequence with {ours}"
    return f"the teacher ends a sequence with {theirs}, the student with {ours}: opd refuses the two"


def _forms(teacher: "TextCodec", student: "TextCodec") -> str:
    """How they are asked, as far as their tokenizers tell."""
    if teacher.form == student.form:
        return "both continue text" if student.form is None else "both are asked in the same chat template"
    if teacher.form and student.form:
        return "each is asked in a chat template of its own: in opd the teacher reads the student's"
    who = (
        ("the teacher is asked in its chat template, the student continues text")
        if teacher.form
        else ("the teacher continues text, the student is asked in its chat template")
    )
    return f"{who}: in opd the teacher reads the student's form"
