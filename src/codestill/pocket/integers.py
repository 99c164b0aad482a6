"""Operations on lists of integers, and on integers."""

from codestill.pocket.operations import FEW, SMALL, UNIQUE_LOOP, add, add_filter, add_map

# lists of integers: which to keep
add_filter(
    "even",
    "ints",
    "{e} % 2 == 0",
    ["the even numbers in {x}", "the even elements of {x}"],
    "keep only the even numbers",
)
add_filter(
    "odd",
    "ints",
    "{e} % 2 == 1",
    ["the odd numbers in {x}", "the odd elements of {x}"],
    "keep only the odd numbers",
)
add_filter("positive", "ints", "{e} > 0", ["the positive numbers in {x}"], "drop everything below one")
add_filter("negative", "ints", "{e} < 0", ["the negative numbers in {x}"], "keep only the negative numbers")
add_filter(
    "above",
    "ints",
    "{e} > {k}",
    ["the numbers in {x} greater than {k}", "the elements of {x} above {k}"],
    "keep only the numbers above {k}",
    SMALL,
)
add_filter(
    "below",
    "ints",
    "{e} < {k}",
    ["the numbers in {x} less than {k}", "the elements of {x} below {k}"],
    "keep only the numbers below {k}",
    SMALL,
)
add_filter(
    "multiples",
    "ints",
    "{e} % {k} == 0",
    ["the multiples of {k} in {x}", "the elements of {x} divisible by {k}"],
    "keep only the multiples of {k}",
    (3, 4, 5, 6, 7),
)
# lists of integers: element by element
add_map(
    "square",
    "ints",
    "ints",
    "{e} * {e}",
    ["the squares of {x}", "the squared values of {x}"],
    "square each number",
)
add_map(
    "times",
    "ints",
    "ints",
    "{e} * {k}",
    ["{x} with each number multiplied by {k}", "{x} scaled by {k}"],
    "multiply each number by {k}",
    SMALL,
)
add_map(
    "plus",
    "ints",
    "ints",
    "{e} + {k}",
    ["{x} with {k} added to each number", "{x} shifted up by {k}"],
    "add {k} to each number",
    SMALL,
)
add_map("negate", "ints", "ints", "-{e}", ["{x} with every sign flipped"], "flip every sign")
add_map(
    "absolute",
    "ints",
    "ints",
    "abs({e})",
    ["the absolute values of {x}", "the magnitudes of {x}"],
    "take absolute values",
)
add_map(
    "modulo",
    "ints",
    "ints",
    "{e} % {k}",
    ["the remainders of {x} modulo {k}", "{x} reduced modulo {k}"],
    "reduce each number modulo {k}",
    SMALL,
)
# lists of integers: order and slices
add(
    "ascending",
    "ints",
    "ints",
    ["{x} sorted in ascending order", "{x} sorted from smallest to largest"],
    "sort in ascending order",
    "sorted({v})",
)
add(
    "descending",
    "ints",
    "ints",
    ["{x} sorted in descending order", "{x} sorted from largest to smallest"],
    "sort in descending order",
    "sorted({v}, reverse=True)",
)
add(
    "reverse",
    "ints",
    "ints",
    ["{x} in reverse order"],
    "reverse the order",
    "{v}[::-1]",
    "list(reversed({v}))",
)
add(
    "unique",
    "ints",
    "ints",
    ["the distinct elements of {x}", "{x} without duplicates"],
    "remove duplicates",
    "list(dict.fromkeys({v}))",
    loop=UNIQUE_LOOP,
)
add(
    "take",
    "ints",
    "ints",
    ["the first {k} elements of {x}", "the leading {k} items of {x}"],
    "take the first {k} elements",
    "{v}[:{k}]",
    constants=FEW,
)
add(
    "last_few",
    "ints",
    "ints",
    ["the last {k} elements of {x}", "the trailing {k} items of {x}"],
    "take the last {k} elements",
    "{v}[-{k}:]",
    constants=FEW,
)
add(
    "drop",
    "ints",
    "ints",
    ["{x} without the first {k} elements"],
    "drop the first {k} elements",
    "{v}[{k}:]",
    constants=(1, 2, 3),
)
add(
    "every_other",
    "ints",
    "ints",
    ["every second element of {x}"],
    "take every second element",
    "{v}[::2]",
)
add(
    "totals",
    "ints",
    "ints",
    ["the running totals of {x}", "the prefix sums of {x}"],
    "replace the list by its running totals",
    "[sum({v}[: i + 1]) for i in range(len({v}))]",
    loop="{o} = []\ntotal = 0\nfor {e} in {v}:\n    total += {e}\n    {o}.append(total)",
)
add(
    "differences",
    "ints",
    "ints",
    ["the differences between neighbours in {x}"],
    "take the differences between neighbours",
    "[q - p for p, q in zip({v}, {v}[1:])]",
    loop="{o} = []\nfor i in range(1, len({v})):\n    {o}.append({v}[i] - {v}[i - 1])",
)
# lists of integers to one value
add(
    "sum",
    "ints",
    "int",
    ["the sum of {x}", "the total of {x}"],
    "add everything up",
    "sum({v})",
    loop="{o} = 0\nfor {e} in {v}:\n    {o} += {e}",
)
add(
    "largest",
    "ints",
    "int",
    ["the largest of {x} (0 if none)", "the maximum of {x} (0 if none)"],
    "take the maximum, or 0 if there is none",
    "max({v}, default=0)",
)
add(
    "smallest",
    "ints",
    "int",
    ["the smallest of {x} (0 if none)", "the minimum of {x} (0 if none)"],
    "take the minimum, or 0 if there is none",
    "min({v}, default=0)",
)
add(
    "count",
    "ints",
    "int",
    ["the number of {x}", "the count of {x}"],
    "count the elements",
    "len({v})",
    loop="{o} = 0\nfor {e} in {v}:\n    {o} += 1",
)
add(
    "kinds",
    "ints",
    "int",
    ["the number of different values in {x}"],
    "count the different values",
    "len(set({v}))",
)
add(
    "occurrences",
    "ints",
    "int",
    ["how often {k} occurs in {x}", "the number of times {k} appears in {x}"],
    "count how often {k} occurs",
    "{v}.count({k})",
    loop="{o} = 0\nfor {e} in {v}:\n    if {e} == {k}:\n        {o} += 1",
    constants=(0, 1, 2, 3, 4),
)
add(
    "commas",
    "ints",
    "str",
    ["{x} joined by commas"],
    "join the numbers with commas",
    '",".join(str({e}) for {e} in {v})',
    '",".join(map(str, {v}))',
)
# integers
add(
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
add(
    "up_to",
    "int",
    "ints",
    ["the integers from 1 to {x}"],
    "list the integers from 1 up to it",
    "list(range(1, {v} + 1))",
    opens=True,
)
add(
    "divisors",
    "int",
    "ints",
    ["the divisors of {x}", "the positive divisors of {x}"],
    "list its divisors",
    "[{e} for {e} in range(1, {v} + 1) if {v} % {e} == 0]",
    loop="{o} = []\nfor {e} in range(1, {v} + 1):\n    if {v} % {e} == 0:\n        {o}.append({e})",
    opens=True,
)
add("increase", "int", "int", ["{k} more than {x}"], "add {k} to that number", "{v} + {k}", constants=SMALL)
add("multiply", "int", "int", ["{k} times {x}"], "multiply that number by {k}", "{v} * {k}", constants=SMALL)
add(
    "remainder",
    "int",
    "int",
    ["the remainder of {x} divided by {k}"],
    "take its remainder when divided by {k}",
    "{v} % {k}",
    constants=SMALL,
)
add("is_even", "int", "bool", ["whether {x} is even"], "check whether that is even", "{v} % 2 == 0")
