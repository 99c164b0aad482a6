"""Views in which a training task and an evaluation task are alike: each finds its matches."""

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
"""Evaluation tasks whose cosines are held at once: 20 MB for 10,000 training tasks."""


# Lines of a prompt that are not its description. Prose may begin with "from" or "class" too.
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
# Said of every task and so of none, yet half the words of a short description: with it the nth hexagonal
# number and the nth octagonal number are alike.
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
    """What is compared of a task."""

    def __init__(self, task: Task) -> None:
        self.identity = (task.task_id, task.entry_point.lower())
        self.description = description(task)
        words = " ".join(re.findall(r"[^\W_]+", self.description.lower()))
        self.words = tuple(_ASK.sub("", words).split())
        self.program = _program(task)

    def grams(self, size: int) -> set[tuple[str, ...]]:
        return {self.words[start : start + size] for start in range(len(self.words) - size + 1)}


def _program(task: Task) -> str:
    """The solution: equal for two that differ in layout, comments, annotations, imports and names of their
    own."""
    try:
        tree = parse_python(task.prompt + task.reference, "reference")
        names: dict[str, str] = {}
        for node in ast.walk(tree):
            if name := _bound(node):
                names.setdefault(name, f"name{len(names)}")
        return ast.dump(_Bare(names).visit(tree), annotate_fields=False)
    except (FieldError, RecursionError):  # a task that no loader checked
        return " ".join(task.reference.split())


def _bound(node: ast.AST) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.arg):
        return node.arg
    return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None


class _Bare(ast.NodeTransformer):
    """Leaves of a program what it computes; replaces ``names``."""

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
"""Unit rows of texts, all together: what is rare among them may count for more."""


class Match(NamedTuple):
    """Numbers of a training task and an evaluation task, and how they are alike."""

    train: int
    held: int
    view: View
    score: float
    alike: Alike = "description"
    removed: bool = True


def exact(train: Sequence[Text], evaluation: Sequence[Text]) -> Iterator[Match]:
    descriptions = _index([one.words] if one.words else [] for one in evaluation)
    programs = _index([one.program] for one in evaluation)
    identities = _index([one.identity] for one in evaluation)
    for number, text in enumerate(train):
        alike: dict[int, Alike] = dict.fromkeys(identities.get(text.identity, ()), "id")
        alike |= dict.fromkeys(programs.get(text.program, ()), "reference")
        alike |= dict.fromkeys(descriptions.get(text.words, ()), "description")
        yield from (Match(number, held, "exact", 1.0, of) for held, of in alike.items())


def ngrams(train: Sequence[Text], evaluation: Sequence[Text], size: int, least: float) -> Iterator[Match]:
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
    """Looks only at pairs that share one of their rarest words, as all pairs over the threshold do (prefix
    filtering: Bayardo et al. 2007, "Scaling up all pairs similarity search")."""
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
    """What occurs in the texts, with the numbers of those that it occurs in."""
    holders: dict[Hashable, list[int]] = {}
    for number, text in enumerate(texts):
        for one in text:
            holders.setdefault(one, []).append(number)
    return holders


def make_vectoriser(embedder: AnyEmbedderConfig | None) -> Vectoriser:
    """Raises ConfigError where a package or the embedder's model is missing."""
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
            next_step="pip install 'codestill[retrieval]', or set neighbours to 0 to do without this view.",
        ) from error
    of_words: Any = TfidfVectorizer(analyzer=tuple)  # pyright: ignore[reportArgumentType]
    return lambda texts: of_words.fit_transform([text.words for text in texts])


def neighbours(
    vectorise: Vectoriser, train: Sequence[Text], evaluation: Sequence[Text], count: int
) -> Iterator[list[Match]]:
    """The ``count`` nearest of each evaluation task, nearest first, ties in the order of training tasks."""
    import numpy as np  # naming a config imports nothing heavy

    count = min(count, len(train))
    if not count or not any(text.words for text in (*train, *evaluation)):
        return
    rows = vectorise([*train, *evaluation])
    columns = rows[: len(train)].T
    for start in range(len(train), len(train) + len(evaluation), BLOCK):
        product = rows[start : start + BLOCK] @ columns
        # Six digits: equal texts tie, whatever the order in which a machine sums.
        cosines_ET = np.round(product.toarray() if hasattr(product, "toarray") else product, 6)
        for held, cosines_T in enumerate(cosines_ET, start - len(train)):
            near = np.flatnonzero(cosines_T >= np.partition(cosines_T, -count)[-count])
            near = near[np.argsort(-cosines_T[near], kind="stable")][:count]
            yield [Match(int(number), held, "neighbour", float(cosines_T[number])) for number in near]
