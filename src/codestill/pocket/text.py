"""Operations on strings, and on lists of words."""

from codestill.pocket.operations import FEW, LETTERS, UNIQUE_LOOP, add, add_filter, add_map


def _keep(name: str, condition: str, nouns: list[str], step: str) -> None:
    add(
        name,
        "str",
        "str",
        nouns,
        step,
        f'"".join({{e}} for {{e}} in {{v}} if {condition})',
        f'"".join(filter(lambda {{e}}: {condition}, {{v}}))',
        loop=f'{{o}} = ""\nfor {{e}} in {{v}}:\n    if {condition}:\n        {{o}} += {{e}}',
    )


def _count(name: str, condition: str, nouns: list[str], step: str) -> None:
    add(
        name,
        "str",
        "int",
        nouns,
        step,
        f"sum(1 for {{e}} in {{v}} if {condition})",
        f"len(list(filter(lambda {{e}}: {condition}, {{v}})))",
        loop=f"{{o}} = 0\nfor {{e}} in {{v}}:\n    if {condition}:\n        {{o}} += 1",
    )


# strings
add(
    "upper",
    "str",
    "str",
    ["{x} in upper case", "the uppercase form of {x}"],
    "convert to upper case",
    "{v}.upper()",
)
add(
    "lower",
    "str",
    "str",
    ["{x} in lower case", "the lowercase form of {x}"],
    "convert to lower case",
    "{v}.lower()",
)
add(
    "backwards",
    "str",
    "str",
    ["{x} read backwards"],
    "reverse the string",
    "{v}[::-1]",
    '"".join(reversed({v}))',
)
_keep(
    "no_vowels",
    '{e} not in "aeiouAEIOU"',
    ["{x} without vowels", "{x} with all vowels removed"],
    "remove all vowels",
)
_keep("only_digits", "{e}.isdigit()", ["the digit characters in {x}"], "keep only the digit characters")
_keep("only_letters", "{e}.isalpha()", ["the letters in {x}"], "keep only the letters")
add(
    "sort_characters",
    "str",
    "str",
    ["the characters of {x} in sorted order"],
    "sort the characters",
    '"".join(sorted({v}))',
)
add(
    "unique_characters",
    "str",
    "str",
    ["{x} without repeated characters"],
    "remove repeated characters",
    '"".join(dict.fromkeys({v}))',
    loop='{o} = ""\nfor {e} in {v}:\n    if {e} not in {o}:\n        {o} += {e}',
)
add(
    "first_characters",
    "str",
    "str",
    ["the first {k} characters of {x}"],
    "take the first {k} characters",
    "{v}[:{k}]",
    constants=FEW,
)
add(
    "length",
    "str",
    "int",
    ["the length of {x}", "the number of characters in {x}"],
    "measure the length",
    "len({v})",
)
_count(
    "vowels",
    '{e} in "aeiouAEIOU"',
    ["the number of vowels in {x}", "how many vowels {x} has"],
    "count the vowels",
)
_count("capitals", "{e}.isupper()", ["the number of uppercase letters in {x}"], "count the uppercase letters")
add("split", "str", "words", ["the words of {x}"], "split it into words", "{v}.split()")
# lists of words
add("alphabetical", "words", "words", ["{x} in alphabetical order"], "sort alphabetically", "sorted({v})")
add(
    "word_reverse",
    "words",
    "words",
    ["{x} in reverse order"],
    "reverse the order",
    "{v}[::-1]",
    "list(reversed({v}))",
)
add("by_length", "words", "words", ["{x} sorted by length"], "sort by length", "sorted({v}, key=len)")
add_map(
    "shout",
    "words",
    "words",
    "{e}.upper()",
    ["{x} with every word in upper case"],
    "convert every word to upper case",
)
add_map(
    "mirror",
    "words",
    "words",
    "{e}[::-1]",
    ["{x} with every word spelled backwards"],
    "spell every word backwards",
)
add_filter(
    "longer",
    "words",
    "len({e}) > {k}",
    ["the words in {x} with more than {k} letters"],
    "keep only the words with more than {k} letters",
    (2, 3, 4),
)
add_filter(
    "containing",
    "words",
    '"{k}" in {e}',
    ['the words in {x} containing "{k}"'],
    'keep only the words containing "{k}"',
    LETTERS,
)
add(
    "word_unique",
    "words",
    "words",
    ["the distinct words in {x}"],
    "remove repeated words",
    "list(dict.fromkeys({v}))",
    loop=UNIQUE_LOOP,
)
add_map(
    "lengths",
    "words",
    "ints",
    "len({e})",
    ["the lengths of {x}", "the word lengths of {x}"],
    "replace every word by its length",
)
add("join", "words", "str", ["{x} joined by spaces"], "join them with spaces", '" ".join({v})')
add("word_count", "words", "int", ["the number of {x}"], "count the words", "len({v})")
