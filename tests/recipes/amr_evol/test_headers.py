"""Functions that an answer describes: whatever form a model gives them, and what is none."""

import pytest

from codestill.prompts import INSTRUCT
from codestill.recipes.amr_evol.decompose import read_modules
from codestill.recipes.amr_evol.headers import headers_in
from codestill.types import Task, Test

TASK = Task(
    task_id="t",
    prompt='def total(text: str) -> int:\n    """Sum of the numbers in a text."""\n',
    entry_point="total",
    reference="    return sum(map(int, text.split()))\n",
    tests=(Test(code="assert total('1 2') == 3"),),
)
WANT = [
    ("numbers_in", "(text: str) -> list[int]", "The numbers."),
    ("add", "(xs: list[int]) -> int", "Their sum."),
]
FORMS = {
    "headers": """```python
def numbers_in(text: str) -> list[int]:
    \"\"\"The numbers.\"\"\"

def add(xs: list[int]) -> int:
    \'\'\'Their sum.\'\'\'
```""",
    "bodies, a nested function, a call": """```python
from typing import Iterable

def numbers_in(text: str) -> list[int]:
    \"\"\"The numbers.\"\"\"
    def inner(x: str) -> int:
        \"\"\"No module.\"\"\"
        return int(x)
    return [inner(x) for x in text.split(")")]

def add(
    xs: list[int],  # any
) -> int:
    \"\"\"
    Their
    sum.
    \"\"\"
    return sum(xs)

print(add(numbers_in("1 2")))
```""",
    "two blocks, one not closed": """First
```python
def numbers_in(text: str) -> list[int]:
    \"\"\"The numbers.\"\"\"
```
and
```python
def add(xs: list[int]) -> int:
    \"\"\"Their sum.\"\"\"
    return su""",
    "comments": """```python
def numbers_in(text: str) -> list[int]:
    # The numbers.
    pass

# Their sum.
def add(xs: list[int]) -> int: ...
```""",
    "methods": """```python
class Summer:
    def numbers_in(self, text: str) -> list[int]:
        \"\"\"The numbers.\"\"\"

    @staticmethod
    def add(xs: list[int]) -> int:
        \"\"\"Their sum.\"\"\"
```""",
    "a list": """Two functions:
1. `numbers_in(text: str) -> list[int]`: The numbers.
2. **add(xs: list[int]) -> int** - Their sum.
""",
    "a list, and a block that is cut": """1. `numbers_in(text: str) -> list[int]`: The numbers.
2. `add(xs: list[int]) -> int`: Their sum.
   ```python
   def numbers_in(text: str) -> list[int]:
       \"\"\"The numbers.\"\"\"
       return text.spl""",
    "a thought before": """<think>
```python
def wrong(x: int) -> int:
    \"\"\"No.\"\"\"
```
</think>
- `numbers_in(text: str) -> list[int]`: The numbers.
- `add(xs: list[int]) -> int`: Their sum.
""",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_functions(form: str):
    found, _ = headers_in(FORMS[form])
    assert [(one.name, one.signature, one.description) for one in found] == WANT
    assert [one.name for one in read_modules(FORMS[form], TASK, INSTRUCT)] == ["numbers_in", "add"]


def header(name: str, says: str = "It helps.") -> str:
    return f'def {name}(x: int) -> int:\n    """{says}"""\n\n'


def test_the_tasks_own_function_is_left_out():
    kept = read_modules(
        f"```python\n{header('total')}{header('a')}{header('b', 'Or so.')}```", TASK, INSTRUCT
    )
    assert [one.name for one in kept] == ["a", "b"]
    with pytest.raises(ValueError, match=r"fewer than two functions: 1 \(total is the task's own function\)"):
        read_modules(f"```python\n{header('total')}{header('a')}```", TASK, INSTRUCT)


def test_functions_of_the_prompts_example_are_left_out_by_name_and_by_what_they_say():
    assert INSTRUCT.modular is not None
    asked = INSTRUCT.modular.to_decompose("PROMPT", "ANSWER")
    example = asked[asked.index("def ") : asked.rindex("```")]
    says = example.split('"""')[1]
    for repeated in (example, header("mine", says), header("theirs", says.upper())):
        with pytest.raises(ValueError, match=r"fewer than two functions: 1 \(\w+ is the prompt's example\)"):
            read_modules(f"```python\n{repeated}\n{header('a')}```", TASK, INSTRUCT)
    assert "def verb_and_object" in asked  # what the reader leaves out is what the prompt shows
    other = INSTRUCT.modular.model_copy(update={"decompose": f"Such as\n{header('a')}{{{{ prompt }}}}"})
    prompts = INSTRUCT.model_copy(update={"modular": other})
    with pytest.raises(ValueError, match="a is the prompt's example"):
        read_modules(f"```python\n{header('a')}{header('b', 'Or so.')}```", TASK, prompts)


def test_types_may_be_missing():
    untyped = 'def f(x, y=0):\n    """It helps, too."""\n'
    first, second = read_modules(f"```python\n{untyped}\n{header('a')}```", TASK, INSTRUCT)
    assert (first.name, first.signature) == ("f", "(x, y=0)") and second.name == "a"


def test_what_is_left_out_is_told():
    answer = "def f(x: int) -> int:\n    return x\n"
    with pytest.raises(ValueError, match=r"fewer than two functions: 1 \(f has no docstring\)"):
        read_modules(f"```python\n{answer}\n{header('a')}```", TASK, INSTRUCT)
