"""YAML as configs use it: what would be read otherwise than it looks is refused."""

import re
from typing import Any

import yaml

MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Values of a document, with those that aliases repeat: a few lines of aliases can stand for billions."""


_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # those between stand for bytes in the names of files


_BREAKS = re.compile("[\x85\u2028\u2029]")


class NotYaml(ValueError):
    """Text that no parser of YAML reads."""


def dump_yaml(value: Any) -> str:
    """The value as YAML, its keys in their order, so that :func:`load_yaml` gives it back."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    if _BREAKS.search(text):  # they end a line for YAML, and would become spaces
        return yaml.safe_dump(value, sort_keys=False)
    return text


def load_yaml(text: str) -> Any:
    """The document's value. Raises NotYaml, or ValueError for a key that is given twice or is no text,
    nesting that is too deep, and aliases that contain themselves or stand for too much; with the line."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        raise NotYaml(_placed(mark, what)) from error
    except yaml.YAMLError as error:
        raise NotYaml(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:  # e.g. of a date that is none
        raise ValueError(f"a value cannot be read: {error}") from error


def _check(root: yaml.Node) -> None:
    count = 0
    # Pairs of a node, and the nodes that contain it.
    waiting: list[tuple[yaml.Node, tuple[yaml.Node, ...]]] = [(root, ())]
    while waiting:
        node, around = waiting.pop()
        count += 1
        if any(node is outer for outer in around):
            raise _problem(node.start_mark, "an alias stands for what contains it")
        if len(around) > MAX_DEPTH:
            raise _problem(node.start_mark, f"it is nested more than {MAX_DEPTH} levels deep")
        if count > MAX_VALUES:
            raise _problem(node.start_mark, f"with its aliases it has more than {MAX_VALUES:,} values")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            waiting += [(value, (*around, node)) for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(value, (*around, node)) for value in node.value]
        elif _HALF.search(node.value):
            raise _problem(node.start_mark, "half a surrogate pair, such as \\ud800, is no text")


def _check_keys(mapping: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            shown = key.value if isinstance(key, yaml.ScalarNode) else "this one"
            raise _problem(key.start_mark, f"a key must be text, and {shown!r} is not: write it in quotes")
        line = key.start_mark.line + 1
        if key.value in lines:
            raise _problem(
                key.start_mark, f"the key {key.value!r} was already given in line {lines[key.value]}"
            )
        lines[key.value] = line


def _problem(mark: yaml.Mark | None, what: str) -> ValueError:
    return ValueError(_placed(mark, what))


def _placed(mark: yaml.Mark | None, what: str) -> str:
    return what if mark is None else f"line {mark.line + 1}: {what}"
