"""Parse judgements: a rubric's points as models write them, a yes or no, or the pocket teacher's form."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codestill.files.serialize import is_object
from codestill.pocket.skills import MAX_SCORE
from codestill.pocket.skills import read_judgement as read_pocket
from codestill.tasks.extract import after_thought

VERDICTS = ("yes", "no")
"""What a judge chooses from, the right program's first."""

_NUMBER = r"[-−]?\d{1,6}(?:[.,]\d+)?"
_OF = rf"(?:[ \t]*(?:/|out\s+of|of)\s*(?P<of>{_NUMBER}))?"
_UNIT = r"[ \t]*(?:points?\b|pts?\b)?"
_MARKS = r"[\s*_`\"'|:=()\[\]]*"
# "2", "2/2", "(1 out of 1 point)"; not "2 lists", "3x3", "2.1.3" or the range "0 to 2".
_SCORE = re.compile(
    rf"(?P<value>{_NUMBER}){_OF}{_UNIT}(?=[ \t]*(?:$|[.,;:!)\]}}*_`\"'|(#]|[-–—]\s|because|since|as\b|for\b))"
    rf"(?!\.\d)",
    re.IGNORECASE | re.MULTILINE,
)
# A score that stands further behind its criterion's name says that it is one.
_NAMED_SCORE = re.compile(
    rf"(?:\b(?:score|points?|rating|grade|mark)\b{_MARKS}(?P<a>{_NUMBER})(?:\s*(?:/|out\s+of|of)\s*(?P<ao>{_NUMBER}))?"
    rf"|(?<![\w./-])(?P<b>{_NUMBER})\s*(?:/|out\s+of)\s*(?P<bo>{_NUMBER})(?![\w/])"
    rf"|(?<![\w./-])(?P<c>{_NUMBER})\s*(?:points?|pts?)\b)",
    re.IGNORECASE,
)
_HALVES = {"½": ".5", "¼": ".25", "¾": ".75"}
_SCORES = re.compile(r"score|points?|rating|grade|mark|value|result", re.IGNORECASE)
_MOST = re.compile(r"max|most|possible|range|out of|weight|available", re.IGNORECASE)


@dataclass(frozen=True)
class Rating:
    """A judge's rating of a program."""

    points: dict[str, float]
    share: float
    """Share of all possible points, 0 to 1."""
    clipped: int = 0
    """Points outside their range; they count as the nearest end."""
    fractions: int = 0
    """Fractional points. They are kept: they carry information, though the rubric has only whole points."""


def read_rubric(answer: str, rubric: Mapping[str, int]) -> Rating | None:
    """The last score that each criterion is given; None where a criterion has none.

    Scores may stand in JSON, in a table, or behind the criterion's name: ``2``, ``**2**``, ``2/2``, ``1 out
    of 1``, ``Score: 2``. One out of another number of points than the rubric's counts in proportion. A range
    (``0 to 2``), as in the prompt's own lines, is no score, and nor is a number that goes on as prose. Of 98
    judgements in IterKD's release 50 hold fractions, and 2 more cannot be read.
    """
    answer = _normal(after_thought(answer), rubric.values())
    found = _from_json(answer, rubric) or {}
    for read in (_from_tables, _from_lines, _alone):
        if len(found) < len(rubric):
            found = read(answer, rubric) | found
    if len(found) < len(rubric):
        return None
    points: dict[str, float] = {}
    clipped = fractions = 0
    for name, most in rubric.items():
        points[name] = min(max(found[name], 0.0), float(most))
        clipped += points[name] != found[name]
        fractions += not points[name].is_integer()
    return Rating(points, sum(points.values()) / sum(rubric.values()), clipped, fractions)


def read_verdict(answer: str, probabilities: Sequence[float] = ()) -> Rating | None:
    """The probability of yes against no, where the judge gives both; else the word, as 1 or 0.

    The word is the first of the answer, or the last that begins a line or stands behind ``answer:`` and the
    like; None where there is none.
    """
    if len(probabilities) == len(VERDICTS) and sum(probabilities) > 0:
        share = probabilities[0] / sum(probabilities)
        return Rating({"right": share}, share)
    answer = after_thought(answer)
    word = re.match(r"\W*(yes|no)\b", answer, re.IGNORECASE)
    if word is None:
        stated = re.compile(
            r"(?:^|\b(?:answer|verdict|conclusion|judge?ment)\b\W*(?:is\b)?)[\W_]*(yes|no)\b",
            re.IGNORECASE | re.MULTILINE,
        )
        word = next(iter([*stated.finditer(answer)][-1:]), None)
    if word is None:
        return None
    share = float(word[1].lower() == "yes")
    return Rating({"right": share}, share)


def read_steps(answer: str) -> Rating | None:
    """The pocket teacher's score, and how far the task's steps and the code's agree in its answer."""
    judgement = read_pocket(answer)
    if judgement is None:
        return None
    points = {"score": judgement.score / MAX_SCORE, "agreement": judgement.agreement}
    return Rating(points, judgement.rating)


def _normal(text: str, most: Any) -> str:
    """The text without ranges from 0 to what a criterion may have, and with halves as decimals."""
    text = re.sub(r"(\d*)\s*([½¼¾])", lambda m: (m[1] or "0") + _HALVES[m[2]], text)
    ends = "|".join(sorted({str(number) for number in most}))
    span = rf"(?<![\w.])0\s*(?:to|through|-|–|—|\.\.\.?|…|or)\s*(?:{ends})(?![\w/]|\.\d)(?:\s*points?\b)?"
    return re.sub(rf"[(\[<]\s*{span}\s*[)\]>]|{span}", " ", text, flags=re.IGNORECASE)


def _value(number: str, of: str | None, most: int) -> float | None:
    value = float(number.replace("−", "-").replace(",", "."))
    if of is None:
        return value
    total = float(of.replace("−", "-").replace(",", "."))
    return value * most / total if total > 0 else None


def _name(name: str) -> str:
    """A pattern that finds a criterion however its words are joined."""
    return r"(?<![\w-])" + r"[\s_-]+".join(map(re.escape, re.split(r"[\s_-]+", name))) + r"(?!\w)"


def _plain(key: str) -> str:
    return " ".join(re.findall(r"[a-z]+", key.lower()))


def _from_json(answer: str, rubric: Mapping[str, int]) -> dict[str, float] | None:
    """Scores of the last JSON object that holds every criterion, itself or in an object of its own."""
    for value in reversed(list(_objects(answer))):
        for entries in (value, *(inner for inner in value.values() if is_object(inner))):
            known = {_plain(key): item for key, item in entries.items()}
            scores = {name: _json_score(known.get(_plain(name)), most) for name, most in rubric.items()}
            found = {name: score for name, score in scores.items() if score is not None}
            if len(found) == len(rubric):
                return found
    return None


def _objects(answer: str) -> Iterator[dict[str, Any]]:
    decoder, place = json.JSONDecoder(), 0
    while (place := answer.find("{", place)) >= 0:
        try:
            value, place = decoder.raw_decode(answer, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        if is_object(value):
            yield value


def _json_score(value: Any, most: int) -> float | None:
    if is_object(value):
        return next(
            (
                score
                for key, item in value.items()
                if _SCORES.search(str(key)) and (score := _json_score(item, most)) is not None
            ),
            None,
        )
    if isinstance(value, int | float):
        return float(value)
    score = _SCORE.match(value.strip()) if isinstance(value, str) else None
    return _value(score["value"], score["of"], most) if score else None


def _from_tables(answer: str, rubric: Mapping[str, int]) -> dict[str, float]:
    """Scores in the rows of tables: in the column that the head names so, else in the last cell with one."""
    found: dict[str, float] = {}
    column: int | None = None
    for line in answer.splitlines():
        if line.count("|") < 2:
            column = None
            continue
        cells = [re.sub(r"[*_`]", "", cell).strip() for cell in line.strip().strip("|").split("|")]
        named = [name for name in rubric if re.match(_name(name), cells[0], re.IGNORECASE)]
        if not named:
            heads = [
                place
                for place, cell in enumerate(cells)
                if _SCORES.search(cell) and not _MOST.search(cell) and place
            ]
            column = heads[0] if heads else column
            continue
        cells_read = cells[column : column + 1] if column is not None else reversed(cells[1:])
        for cell in cells_read:
            score = _SCORE.match(cell)
            value = _value(score["value"], score["of"], rubric[named[0]]) if score else None
            if value is not None:
                found[named[0]] = value
                break
    return found


def _from_lines(answer: str, rubric: Mapping[str, int]) -> dict[str, float]:
    """Scores behind the criteria's names, up to the next criterion: directly, or further on as a score."""
    every = re.compile("|".join(f"(?P<n{n}>{_name(name)})" for n, name in enumerate(rubric)), re.IGNORECASE)
    places = list(every.finditer(answer))
    names = list(rubric)
    found: dict[str, float] = {}
    for number, place in enumerate(places):
        name = names[int((place.lastgroup or "n0")[1:])]
        end = places[number + 1].start() if number + 1 < len(places) else len(answer)
        value = _behind(answer[place.end() : end], rubric[name])
        if value is not None:
            found[name] = value
    return found


def _alone(answer: str, rubric: Mapping[str, int]) -> dict[str, float]:
    """Scores without names, if the answer is one for each criterion, in the order, and nothing else."""
    lines = [line.strip(" \t-*`") for line in answer.splitlines() if line.strip(" \t-*`")]
    scores = [re.fullmatch(rf"(?P<value>{_NUMBER}){_OF}", line, re.IGNORECASE) for line in lines]
    if len(scores) != len(rubric):
        return {}
    found: dict[str, float] = {}
    for score, (name, most) in zip(scores, rubric.items(), strict=True):
        value = _value(score["value"], score["of"], most) if score else None
        if value is None:
            return {}
        found[name] = value
    return found


def _behind(text: str, most: int) -> float | None:
    """The score at the beginning of what follows a criterion's name, else the last that is called one."""
    mark = re.match(rf"{_MARKS}[:=|–—(\n]{_MARKS}(?=[-−]?\d)|[\s*_`]*-\s+(?=\d)", text)
    if mark and (score := _SCORE.match(text, mark.end())):
        return _value(score["value"], score["of"], most)
    paragraphs = text.split("\n\n")[0]
    for score in reversed(list(_NAMED_SCORE.finditer(paragraphs))):
        value = _value(score["a"] or score["b"] or score["c"], score["ao"] or score["bo"], most)
        if value is not None:
            return value
    return None
