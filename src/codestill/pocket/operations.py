"""The pocket world's vocabulary: small operations on lists, strings, words and integers.

An operation says in English what it does (as a noun phrase around ``{x}``, and as an imperative
step) and in Python how (as an expression of ``{v}``, in one or two idioms, and as a loop that
leaves its value in ``{o}``). ``{k}`` is a constant, ``{e}`` a loop variable.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["ints", "str", "words", "int", "bool"]

ANNOTATIONS: dict[Kind, str] = {
    "ints": "list[int]",
    "str": "str",
    "words": "list[str]",
    "int": "int",
    "bool": "bool",
}


@dataclass(frozen=True)
class Operation:
    """One step of a composition, from a value of kind ``takes`` to one of kind ``gives``."""

    name: str
    takes: Kind
    gives: Kind
    nouns: tuple[str, ...]
    step: str
    expressions: tuple[str, ...]
    """The plain idiom first, then a functional one where there is one."""
    loop: str | None = None
    constants: tuple[int | str, ...] = ()
    opens: bool = False
    """True when it may only be the first operation of a composition."""


OPERATIONS: dict[str, Operation] = {}

SMALL = (2, 3, 4, 5, 6, 7, 8, 9)
FEW = (2, 3, 4, 5)
LETTERS = tuple("aeotsn")


def _add(
    name: str,
    takes: Kind,
    gives: Kind,
    nouns: list[str],
    step: str,
    *expressions: str,
    loop: str | None = None,
    constants: tuple[int | str, ...] = (),
    opens: bool = False,
) -> None:
    OPERATIONS[name] = Operation(name, takes, gives, tuple(nouns), step, expressions, loop, constants, opens)


def _filter(
    name: str,
    kind: Kind,
    condition: str,
    nouns: list[str],
    step: str,
    constants: tuple[int | str, ...] = (),
) -> None:
    _add(
        name,
        kind,
        kind,
        nouns,
        step,
        f"[{{e}} for {{e}} in {{v}} if {condition}]",
        f"list(filter(lambda {{e}}: {condition}, {{v}}))",
        loop=f"{{o}} = []\nfor {{e}} in {{v}}:\n    if {condition}:\n        {{o}}.append({{e}})",
        constants=constants,
    )


def _map(
    name: str,
    takes: Kind,
    gives: Kind,
    value: str,
    nouns: list[str],
    step: str,
    constants: tuple[int | str, ...] = (),
) -> None:
    _add(
        name,
        takes,
        gives,
        nouns,
        step,
        f"[{value} for {{e}} in {{v}}]",
        f"list(map(lambda {{e}}: {value}, {{v}}))",
        loop=f"{{o}} = []\nfor {{e}} in {{v}}:\n    {{o}}.append({value})",
        constants=constants,
    )


def _keep_characters(name: str, condition: str, nouns: list[str], step: str) -> None:
    _add(
        name,
        "str",
        "str",
        nouns,
        step,
        f'"".join({{e}} for {{e}} in {{v}} if {condition})',
        f'"".join(filter(lambda {{e}}: {condition}, {{v}}))',
        loop=f'{{o}} = ""\nfor {{e}} in {{v}}:\n    if {condition}:\n        {{o}} += {{e}}',
    )


def _count_characters(name: str, condition: str, nouns: list[str], step: str) -> None:
    _add(
        name,
        "str",
        "int",
        nouns,
        step,
        f"sum(1 for {{e}} in {{v}} if {condition})",
        f"len(list(filter(lambda {{e}}: {condition}, {{v}})))",
        loop=f"{{o}} = 0\nfor {{e}} in {{v}}:\n    if {condition}:\n        {{o}} += 1",
    )


_UNIQUE_LOOP = "{o} = []\nfor {e} in {v}:\n    if {e} not in {o}:\n        {o}.append({e})"

# lists of integers: which to keep
_filter(
    "even",
    "ints",
    "{e} % 2 == 0",
    ["the even numbers in {x}", "the even elements of {x}"],
    "keep only the even numbers",
)
_filter(
    "odd",
    "ints",
    "{e} % 2 == 1",
    ["the odd numbers in {x}", "the odd elements of {x}"],
    "keep only the odd numbers",
)
_filter("positive", "ints", "{e} > 0", ["the positive numbers in {x}"], "drop everything below one")
_filter("negative", "ints", "{e} < 0", ["the negative numbers in {x}"], "keep only the negative numbers")
_filter(
    "above",
    "ints",
    "{e} > {k}",
    ["the numbers in {x} greater than {k}", "the elements of {x} above {k}"],
    "keep only the numbers above {k}",
    SMALL,
)
_filter(
    "below",
    "ints",
    "{e} < {k}",
    ["the numbers in {x} less than {k}", "the elements of {x} below {k}"],
    "keep only the numbers below {k}",
    SMALL,
)
_filter(
    "multiples",
    "ints",
    "{e} % {k} == 0",
    ["the multiples of {k} in {x}", "the elements of {x} divisible by {k}"],
    "keep only the multiples of {k}",
    (3, 4, 5, 6, 7),
)
# lists of integers: element by element
_map(
    "square",
    "ints",
    "ints",
    "{e} * {e}",
    ["the squares of {x}", "the squared values of {x}"],
    "square each number",
)
_map(
    "times",
    "ints",
    "ints",
    "{e} * {k}",
    ["{x} with each number multiplied by {k}", "{x} scaled by {k}"],
    "multiply each number by {k}",
    SMALL,
)
_map(
    "plus",
    "ints",
    "ints",
    "{e} + {k}",
    ["{x} with {k} added to each number", "{x} shifted up by {k}"],
    "add {k} to each number",
    SMALL,
)
_map("negate", "ints", "ints", "-{e}", ["{x} with every sign flipped"], "flip every sign")
_map(
    "absolute",
    "ints",
    "ints",
    "abs({e})",
    ["the absolute values of {x}", "the magnitudes of {x}"],
    "take absolute values",
)
_map(
    "modulo",
    "ints",
    "ints",
    "{e} % {k}",
    ["the remainders of {x} modulo {k}", "{x} reduced modulo {k}"],
    "reduce each number modulo {k}",
    SMALL,
)
# lists of integers: order and slices
_add(
    "ascending",
    "ints",
    "ints",
    ["{x} sorted in ascending order", "{x} sorted from smallest to largest"],
    "sort in ascending order",
    "sorted({v})",
)
_add(
    "descending",
    "ints",
    "ints",
    ["{x} sorted in descending order", "{x} sorted from largest to smallest"],
    "sort in descending order",
    "sorted({v}, reverse=True)",
)
_add(
    "reverse",
    "ints",
    "ints",
    ["{x} in reverse order"],
    "reverse the order",
    "{v}[::-1]",
    "list(reversed({v}))",
)
_add(
    "unique",
    "ints",
    "ints",
    ["the distinct elements of {x}", "{x} without duplicates"],
    "remove duplicates",
    "list(dict.fromkeys({v}))",
    loop=_UNIQUE_LOOP,
)
_add(
    "take",
    "ints",
    "ints",
    ["the first {k} elements of {x}", "the leading {k} items of {x}"],
    "take the first {k} elements",
    "{v}[:{k}]",
    constants=FEW,
)
_add(
    "last_few",
    "ints",
    "ints",
    ["the last {k} elements of {x}", "the trailing {k} items of {x}"],
    "take the last {k} elements",
    "{v}[-{k}:]",
    constants=FEW,
)
_add(
    "drop",
    "ints",
    "ints",
    ["{x} without the first {k} elements"],
    "drop the first {k} elements",
    "{v}[{k}:]",
    constants=(1, 2, 3),
)
_add(
    "every_other",
    "ints",
    "ints",
    ["every second element of {x}"],
    "take every second element",
    "{v}[::2]",
)
_add(
    "totals",
    "ints",
    "ints",
    ["the running totals of {x}", "the prefix sums of {x}"],
    "replace the list by its running totals",
    "[sum({v}[: i + 1]) for i in range(len({v}))]",
    loop="{o} = []\ntotal = 0\nfor {e} in {v}:\n    total += {e}\n    {o}.append(total)",
)
_add(
    "differences",
    "ints",
    "ints",
    ["the differences between neighbours in {x}"],
    "take the differences between neighbours",
    "[q - p for p, q in zip({v}, {v}[1:])]",
    loop="{o} = []\nfor i in range(1, len({v})):\n    {o}.append({v}[i] - {v}[i - 1])",
)
# lists of integers to one value
_add(
    "sum",
    "ints",
    "int",
    ["the sum of {x}", "the total of {x}"],
    "add everything up",
    "sum({v})",
    loop="{o} = 0\nfor {e} in {v}:\n    {o} += {e}",
)
_add(
    "largest",
    "ints",
    "int",
    ["the largest of {x} (0 if none)", "the maximum of {x} (0 if none)"],
    "take the maximum, or 0 if there is none",
    "max({v}, default=0)",
)
_add(
    "smallest",
    "ints",
    "int",
    ["the smallest of {x} (0 if none)", "the minimum of {x} (0 if none)"],
    "take the minimum, or 0 if there is none",
    "min({v}, default=0)",
)
_add(
    "count",
    "ints",
    "int",
    ["the number of {x}", "the count of {x}"],
    "count the elements",
    "len({v})",
    loop="{o} = 0\nfor {e} in {v}:\n    {o} += 1",
)
_add(
    "kinds",
    "ints",
    "int",
    ["the number of different values in {x}"],
    "count the different values",
    "len(set({v}))",
)
_add(
    "occurrences",
    "ints",
    "int",
    ["how often {k} occurs in {x}", "the number of times {k} appears in {x}"],
    "count how often {k} occurs",
    "{v}.count({k})",
    loop="{o} = 0\nfor {e} in {v}:\n    if {e} == {k}:\n        {o} += 1",
    constants=(0, 1, 2, 3, 4),
)
_add(
    "commas",
    "ints",
    "str",
    ["{x} joined by commas"],
    "join the numbers with commas",
    '",".join(str({e}) for {e} in {v})',
    '",".join(map(str, {v}))',
)
# integers
_add(
    "digits",
    "int",
    "ints",
    ["the digits of {x}"],
    "split it into digits",
    "[int({e}) for {e} in str({v})]",
    "list(map(int, str({v})))",
    loop="{o} = []\nfor {e} in str({v}):\n    {o}.append(int({e}))",
    opens=True,
)
_add(
    "up_to",
    "int",
    "ints",
    ["the integers from 1 to {x}"],
    "list the integers from 1 up to it",
    "list(range(1, {v} + 1))",
    opens=True,
)
_add(
    "divisors",
    "int",
    "ints",
    ["the divisors of {x}", "the positive divisors of {x}"],
    "list its divisors",
    "[{e} for {e} in range(1, {v} + 1) if {v} % {e} == 0]",
    loop="{o} = []\nfor {e} in range(1, {v} + 1):\n    if {v} % {e} == 0:\n        {o}.append({e})",
    opens=True,
)
_add("increase", "int", "int", ["{k} more than {x}"], "add {k} to that number", "{v} + {k}", constants=SMALL)
_add("multiply", "int", "int", ["{k} times {x}"], "multiply that number by {k}", "{v} * {k}", constants=SMALL)
_add(
    "remainder",
    "int",
    "int",
    ["the remainder of {x} divided by {k}"],
    "take its remainder when divided by {k}",
    "{v} % {k}",
    constants=SMALL,
)
_add("is_even", "int", "bool", ["whether {x} is even"], "check whether that is even", "{v} % 2 == 0")
# strings
_add(
    "upper",
    "str",
    "str",
    ["{x} in upper case", "the uppercase form of {x}"],
    "convert to upper case",
    "{v}.upper()",
)
_add(
    "lower",
    "str",
    "str",
    ["{x} in lower case", "the lowercase form of {x}"],
    "convert to lower case",
    "{v}.lower()",
)
_add(
    "backwards",
    "str",
    "str",
    ["{x} read backwards"],
    "reverse the string",
    "{v}[::-1]",
    '"".join(reversed({v}))',
)
_keep_characters(
    "no_vowels",
    '{e} not in "aeiouAEIOU"',
    ["{x} without vowels", "{x} with all vowels removed"],
    "remove all vowels",
)
_keep_characters(
    "only_digits", "{e}.isdigit()", ["the digit characters in {x}"], "keep only the digit characters"
)
_keep_characters("only_letters", "{e}.isalpha()", ["the letters in {x}"], "keep only the letters")
_add(
    "sort_characters",
    "str",
    "str",
    ["the characters of {x} in sorted order"],
    "sort the characters",
    '"".join(sorted({v}))',
)
_add(
    "unique_characters",
    "str",
    "str",
    ["{x} without repeated characters"],
    "remove repeated characters",
    '"".join(dict.fromkeys({v}))',
    loop='{o} = ""\nfor {e} in {v}:\n    if {e} not in {o}:\n        {o} += {e}',
)
_add(
    "first_characters",
    "str",
    "str",
    ["the first {k} characters of {x}"],
    "take the first {k} characters",
    "{v}[:{k}]",
    constants=FEW,
)
_add(
    "length",
    "str",
    "int",
    ["the length of {x}", "the number of characters in {x}"],
    "measure the length",
    "len({v})",
)
_count_characters(
    "vowels",
    '{e} in "aeiouAEIOU"',
    ["the number of vowels in {x}", "how many vowels {x} has"],
    "count the vowels",
)
_count_characters(
    "capitals", "{e}.isupper()", ["the number of uppercase letters in {x}"], "count the uppercase letters"
)
_add("split", "str", "words", ["the words of {x}"], "split it into words", "{v}.split()")
# lists of words
_add("alphabetical", "words", "words", ["{x} in alphabetical order"], "sort alphabetically", "sorted({v})")
_add(
    "word_reverse",
    "words",
    "words",
    ["{x} in reverse order"],
    "reverse the order",
    "{v}[::-1]",
    "list(reversed({v}))",
)
_add("by_length", "words", "words", ["{x} sorted by length"], "sort by length", "sorted({v}, key=len)")
_map(
    "shout",
    "words",
    "words",
    "{e}.upper()",
    ["{x} with every word in upper case"],
    "convert every word to upper case",
)
_map(
    "mirror",
    "words",
    "words",
    "{e}[::-1]",
    ["{x} with every word spelled backwards"],
    "spell every word backwards",
)
_filter(
    "longer",
    "words",
    "len({e}) > {k}",
    ["the words in {x} with more than {k} letters"],
    "keep only the words with more than {k} letters",
    (2, 3, 4),
)
_filter(
    "containing",
    "words",
    '"{k}" in {e}',
    ['the words in {x} containing "{k}"'],
    'keep only the words containing "{k}"',
    LETTERS,
)
_add(
    "word_unique",
    "words",
    "words",
    ["the distinct words in {x}"],
    "remove repeated words",
    "list(dict.fromkeys({v}))",
    loop=_UNIQUE_LOOP,
)
_map(
    "lengths",
    "words",
    "ints",
    "len({e})",
    ["the lengths of {x}", "the word lengths of {x}"],
    "replace every word by its length",
)
_add("join", "words", "str", ["{x} joined by spaces"], "join them with spaces", '" ".join({v})')
_add("word_count", "words", "int", ["the number of {x}"], "count the words", "len({v})")
