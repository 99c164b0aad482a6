"""The views of decontamination: how each finds similar training and evaluation tasks."""

import ast
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

from codestill.embeddings import AnyEmbedderConfig, Vectors
from codestill.errors import ConfigError
from codestill.tasks.rows import FieldError, parse_python
from codestill.types import Task

View = Literal["exact", "ngram", "jaccard", "neighbour"]
VIEWS: tuple[View, ...] = get_args(View)
Alike = Literal["description", "reference", "id"]
BLOCK = 256
"""Evaluation tasks per block of cosines: 20 MB for 10,000 training tasks."""


# Lines of a prompt that are not its description. Prose may also begin with "from" or "class".
_HEADER = re.compile(
    r"""^[ \t]* (?:
        (?: async[ \t]+ )? def [ \t]+ \w+ [ \t]* \( (?: [^()] | \( [^()]* \) )* \) [^:\n]* :
      | class [ \t]+ \w+ [ \t]* (?: \( [^()\n]* \) )? : [ \t]* $
      | from [ \t]+ [\w.]+ [ \t]+ import \b .* $
      | import [ \t]+ [\w.]+ (?: [ \t]+ as [ \t]+ \w+ )? (?: [ \t]*,.* )? $
      | @ \w [\w.]* (?: \( .* \) )? [ \t]* $
    )""",
    re.VERBOSE | re.MULTILINE,
)
_EXAMPLE = re.compile(r"^[ \t]*(?:assert\b.*|>>>.*(?:\n(?![ \t]*(?:>>>|\"{3}|'{3}|$)).*)*)", re.MULTILINE)
_QUOTES = re.compile(r"(?:\b[rRuU])?(?:\"{3}|'{3})")
_LABELS = re.compile(r"^(?:Task:|Tests:|\[BEGIN\])", re.MULTILINE)
# It begins most descriptions and is half the words of a short one: with it, "the nth hexagonal number" and
# "the nth octagonal number" look alike.
_ASK = re.compile(
    r"\b(?:write|create|implement|define) an? (?:\w+ ){0,2}?(?:function|method|program) (?:to|that|which)\b"
)


def description(task: Task) -> str:
    """The prompt's prose on one line: no function headers, imports, docstring quotes, assertions or doctests.

    Empty where the prompt is a header alone.
    """
    prompt = task.prompt
    if "[DONE]" in prompt:  # MBPP few-shot: solved examples of other tasks stand before this one
        prompt = _LABELS.sub("", prompt.rpartition("[DONE]")[2])
    for pattern in (_HEADER, _EXAMPLE, _QUOTES):
        prompt = pattern.sub(" ", prompt)
    return " ".join(prompt.split())


class Text:
    """The parts of a task that are compared."""

    def __init__(self, task: Task) -> None:
        self.identity = (task.task_id, task.entry_point.lower())
        self.description = description(task)
        words = " ".join(re.findall(r"[^\W_]+", self.description.lower()))
        self.words = tuple(_ASK.sub("", words).split())
        self.program = _program(task)

    def grams(self, size: int) -> set[tuple[str, ...]]:
        return {self.words[start : start + size] for start in range(len(self.words) - size + 1)}


def _program(task: Task) -> str:
    """The solution in a form that is equal for two that differ in layout, comments, annotations, imports and
    the names that they define."""
    try:
        tree = parse_python(task.program(task.reference), "reference")
        names: dict[str, str] = {}
        for node in ast.walk(tree):
            if name := _bound(node):
                names.setdefault(name, f"name{len(names)}")
        return ast.dump(_Bare(names).visit(tree), annotate_fields=False)
    except (FieldError, RecursionError):  # a task that was not read by a loader
        return " ".join(task.reference.split())


def _bound(node: ast.AST) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.arg):
        return node.arg
    return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None


class _Bare(ast.NodeTransformer):
    """Strips a program to what it computes, and replaces ``names``."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit(self, node: Any) -> Any:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return None  # a docstring
        if isinstance(node, ast.AnnAssign):
            if node.value is None:
                return None
            node = ast.Assign(targets=[node.target], value=node.value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.name, node.returns = self.names[node.name], None
        elif isinstance(node, ast.ClassDef):
            node.name = self.names[node.name]
        elif isinstance(node, ast.arg):
            node.arg, node.annotation = self.names[node.arg], None
        elif isinstance(node, ast.Name):
            node.id = self.names.get(node.id, node.id)
        return self.generic_visit(node)


Vectoriser = Callable[[Sequence[Text]], Vectors]
"""Unit vectors of texts, computed together, since rare words may count for more."""


class Match(NamedTuple):
    """Indices of a training and an evaluation task, and in what they are similar."""

    train: int
    held: int
    view: View
    score: float
    alike: Alike = "description"
    removed: bool = True


def exact(train: Sequence[Text], evaluation: Sequence[Text]) -> Iterator[Match]:
    """Equal descriptions, solutions, or ids and functions; a pair gives one match, of the first of these."""
    descriptions = _index([text.words] if text.words else [] for text in evaluation)
    programs = _index([text.program] for text in evaluation)
    identities = _index([text.identity] for text in evaluation)
    for number, text in enumerate(train):
        alike: dict[int, Alike] = dict.fromkeys(identities.get(text.identity, ()), "id")
        alike |= dict.fromkeys(programs.get(text.program, ()), "reference")
        alike |= dict.fromkeys(descriptions.get(text.words, ()), "description")
        yield from (Match(number, held, "exact", 1.0, of) for held, of in alike.items())


def ngrams(train: Sequence[Text], evaluation: Sequence[Text], size: int, least: float) -> Iterator[Match]:
    """Pairs in which at least the share ``least`` of the training description's n-grams, of ``size`` words,
    occur in the evaluation description."""
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for number, text in enumerate(train):
        if text.words:
            by_size[min(size, len(text.words))].append(number)
    for words, numbers in by_size.items():
        holders = _index(text.grams(words) for text in evaluation)
        for number in numbers:
            grams = train[number].grams(words)
            common = Counter(held for gram in grams for held in holders.get(gram, ()))
            for held, count in common.items():
                if count / len(grams) >= least:
                    yield Match(number, held, "ngram", count / len(grams))


def jaccard(train: Sequence[Text], evaluation: Sequence[Text], longest: int, least: float) -> Iterator[Match]:
    """Pairs whose words have a Jaccard index of at least ``least``.

    Only pairs that share one of their rarest words are compared, as all pairs over the threshold do (prefix
    filtering: Bayardo et al. 2007, "Scaling up all pairs similarity search").
    """
    frequency = Counter(word for text in (*train, *evaluation) for word in set(text.words))

    def rarest(text: Text) -> list[str]:
        words = sorted(set(text.words), key=lambda word: (frequency[word], word))
        return words[: len(words) - math.ceil(least * len(words) - 1e-9) + 1]

    holders = _index(rarest(text) for text in evaluation)
    for number, text in enumerate(train):
        if len(text.words) > longest:
            continue
        words = set(text.words)
        for held in {held for word in rarest(text) for held in holders.get(word, ())}:
            others = evaluation[held].words
            index = len(words.intersection(others)) / len(words.union(others))
            if index >= least:
                yield Match(number, held, "jaccard", index)


def _index(texts: Iterable[Iterable[Hashable]]) -> dict[Hashable, list[int]]:
    """Item -> indices of the texts that it occurs in."""
    holders: dict[Hashable, list[int]] = {}
    for number, text in enumerate(texts):
        for item in text:
            holders.setdefault(item, []).append(number)
    return holders


def make_vectoriser(embedder: AnyEmbedderConfig | None) -> Vectoriser:
    """The embedder's vectors of descriptions, by default TF-IDF of their words. Raises ConfigError where a
    package or the embedder's model is missing."""
    if embedder is not None:
        built = embedder.build()

        def embedded(texts: Sequence[Text]) -> Vectors:
            rows = built.encode([text.description for text in texts])
            return built.weigh(rows)(rows)

        return embedded
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise ConfigError(
            "nearest neighbours are found with the `scikit-learn` package, which is not installed.",
            next_step="pip install 'codestill[retrieval]', or set neighbours to 0 to skip this view.",
        ) from error
    of_words: Any = TfidfVectorizer(analyzer=tuple)  # pyright: ignore[reportArgumentType]
    return lambda texts: of_words.fit_transform([text.words for text in texts])


def neighbours(
    vectorise: Vectoriser, train: Sequence[Text], evaluation: Sequence[Text], count: int
) -> Iterator[list[Match]]:
    """For each evaluation task the ``count`` nearest training tasks, nearest first, ties in their order."""
    import numpy as np  # here, so that reading a config imports nothing heavy

    count = min(count, len(train))
    if not count or not any(text.words for text in (*train, *evaluation)):
        return
    rows = vectorise([*train, *evaluation])
    columns = rows[: len(train)].T
    for start in range(len(train), len(train) + len(evaluation), BLOCK):
        product = rows[start : start + BLOCK] @ columns
        # Rounded to six digits, so that equal texts tie whatever the order of summation.
        cosines_ET = np.round(product.toarray() if hasattr(product, "toarray") else product, 6)
        for held, cosines_T in enumerate(cosines_ET, start - len(train)):
            near = np.flatnonzero(cosines_T >= np.partition(cosines_T, -count)[-count])
            near = near[np.argsort(-cosines_T[near], kind="stable")][:count]
            yield [Match(int(number), held, "neighbour", float(cosines_T[number])) for number in near]
