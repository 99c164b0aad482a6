"""The set for models that follow instructions."""

from codestill.prompts.modular import Modular
from codestill.prompts.template import Prompts

_ATTEMPTED = """\
This is a programming task:

```{{ language }}
{{ prompt|ended }}```
{% if solution %}
You solved it like this:

```{{ language }}
{{ solved|ended }}```
{% endif %}
A student wrote this:

```{{ language }}
{{ attempted|ended }}```
"""

_MODULAR = Modular(
    decompose="""\
This is a programming task:

```python
{{ prompt|ended }}```

Somebody answered, and may be wrong:

```python
{{ answer|ended }}```

Take the task apart: name two helper functions or more, each of which does one thing of this task, so that
its function has nothing left to do but call them. Write one fenced block of Python that holds the helpers'
headers alone, each in this form:

```python
def verb_and_object(parameter: type) -> type:
    \"\"\"Say what the helper takes, what it does with it, and what it returns.\"\"\"
```

Put names and types of this task in their places: a type for each parameter and for the result. Write no
bodies, and not the task's function itself.
""",
    evolve="""\
This is a programming task:

```python
{{ prompt|ended }}```

An answer that may be wrong:

```python
{{ answer|ended }}```
{% if modules %}
It could be done with functions such as these:

```python
{% for module in modules %}{{ module|ended }}{% endfor %}```
{% endif %}{% if functions %}
And this code is known to work:

```python
{% for function in functions %}{{ function|ended }}
{% endfor %}```
{% endif %}
Write the best answer you can. Use of this what helps, changed where it does not fit, and leave the rest.
For a task that counts open weekdays, given a function that tells whether a day is a weekday, a good answer
holds that function and one that reads a line, and calls both.

The answer stands alone: whatever it calls it defines or imports, and nothing in it says that any code was
shown to you. Answer with one fenced block of Python that holds the function that the task asks for, with
its header as it is, and all that it needs.
""",
    think="""\
Before you solve a programming task, think it through. An example:

```python
def count_open(days: list[str]) -> int:
    \"\"\"Return how many of the days, such as "Mon" or "Sun", are weekdays.\"\"\"
```

The weekdays are Mon to Fri. Each day of the list is looked up among them, and the hits are counted. An empty
list gives 0 without a special case.

```python
def count_open(days: list[str]) -> int:
    weekdays = {"Mon", "Tue", "Wed", "Thu", "Fri"}
    return sum(day in weekdays for day in days)
```

Now this task:

```python
{{ prompt|ended }}```

Write your thoughts first. End with one fenced block of Python that holds all that the function needs: the
imports, then the function with its header.
""",
    regenerate="""\
This is a programming task:

```python
{{ prompt|ended }}```

This answer is wrong:

```python
{{ attempted|ended }}```

Solve the task. Answer with one fenced block of Python that holds all that the function needs: the imports,
then the function with its header.
""",
    tests="""\
This function shall solve a task, and may be wrong:

```python
{{ solved|ended }}```

Write five assertions that a right solution passes, edge cases among them, each about other arguments. Take
the expected values from what the task says, not from the code. Each stands in a line of its own, as
`assert name(arguments) == value`, with literal arguments and a literal value; no other text.
""",
    evolve_task="""\
This is a programming task, the header of a Python function with its docstring:

```python
{{ prompt|ended }}```

Make a new task of it: {{ how }}. The new task is complete in itself, can be done by a skilled programmer,
and its answer follows from the arguments alone: no files, no network, no chance. Write one fenced block of
Python with imports where they are needed, the header with type hints, and the docstring; no body.
""",
    ways=(
        "add one condition that the result must meet",
        "replace a common requirement by a rarer, more precise one",
        "ask for one more step of thought before the result is known",
        "let a plausible but wrong reading of the task fail on some argument",
        "ask for a result in less time or memory than the plain solution takes",
    ),
    same="""\
Two programming tasks:

```
{{ prompt|ended }}```

```
{{ other|ended }}```

Would somebody who knows the answer to the first know that to the second, up to names and wording? Say yes
or no.
""",
)

INSTRUCT = Prompts(
    version="instruct-3",
    answers="fenced",
    solve="""\
Write this {{ called }} function:

```{{ language }}
{{ prompt|ended }}```

Answer with one fenced block of {{ called }} that holds the whole function.
""",
    refine=_ATTEMPTED
    + """\

Its unit tests ended with:

{{ feedback }}

Mend the student's program. {{ nearness }}
Answer with one fenced block of {{ called }} that holds all that the function needs: the imports, then the
function with its header.
""",
    show="""\
Write this {{ called }} function:

```{{ language }}
{{ prompt|ended }}```

Somebody solved it like this:

```{{ language }}
{{ solved|ended }}```

Now solve it yourself. Answer with one fenced block of {{ called }} that holds the whole function.
""",
    explain=_ATTEMPTED
    + """\

First name the student's mistakes, a line each. Then mend the program. {{ nearness }}
End with one fenced block of {{ called }} that holds all that the function needs: the imports, then the
function with its header.
""",
    propose="""\
These are programming tasks, each the header of a Python function with its docstring:
{% for seed in seeds %}

```python
{{ seed|ended }}```
{% endfor %}

Invent one new task of this kind, {{ "as hard as" if level == "same" else level + " than" }} the first.
Its answer must follow from the arguments alone: no files, no network, no chance. Write one fenced block of
Python with imports where they are needed, the header with type hints, and the docstring; no body.
""",
    inputs="""\
This function solves a task:

```python
{{ solved|ended }}```

Write five assertions about it that would find mistakes in another solution, edge cases among them, each about
other arguments. Each stands in a line of its own, as `assert name(arguments) == value`, with literal
arguments and a literal value; no other text.
""",
    judge="""\
This is a programming task:

```{{ language }}
{{ prompt|ended }}```

This program was written for it:

```{{ language }}
{{ solved|ended }}```

Give it points, in whole numbers: basic function, does it do what is asked for ordinary inputs? boundary
handling: and for empty, extreme or odd ones? requirements: is everything asked for there? readability: names,
layout, comments. practices: fit data structures, no waste, nothing dangerous.

Answer with one JSON object that gives each criterion its points, and nothing else:

{% for line in rubric -%}
{{ "{" if loop.first }}"{{ line|replace(": ", '": ') }}{{ "}" if loop.last else ", " }}
{%- endfor %}
""",
    verdict="""\
This is a programming task:

```{{ language }}
{{ prompt|ended }}```

This program was written for it:

```{{ language }}
{{ solved|ended }}```

Does the program do what the task asks, for ordinary inputs and for edge cases? Answer yes or no.
""",
    rubric={
        "basic function": 2,
        "boundary handling": 1,
        "requirements": 1,
        "readability": 1,
        "practices": 1,
    },
    fault="""\
This function solves a task:

```{{ language }}
{{ solved|ended }}```

Write it as a learner might who has misunderstood one thing: it shall run, look plausible, and be wrong for
some inputs. Answer with one fenced block of {{ called }} that holds all that the function needs, the imports
first, and without any remark on the mistake.
""",
    nearness={
        "free": "",
        "near": "If its idea can work, change as little as possible; write it anew only if it cannot.",
        "nearest": "Keep its idea, its names and every line that is not at fault.",
    },
    modular=_MODULAR,
)
"""The set for models that follow instructions."""
