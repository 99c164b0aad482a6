"""The set for models that follow instructions."""

from codestill.prompts.template import Prompts

_ATTEMPTED = """\
This is a programming task:

```python
{{ prompt|ended }}```
{% if solution %}
You solved it like this:

```python
{{ prompt }}{{ solution|ended }}```
{% endif %}
A student wrote this:

```python
{{ prompt }}{{ attempt|ended }}```
"""

INSTRUCT = Prompts(
    version="instruct-1",
    answers="fenced",
    solve="""\
Complete this Python function:

```python
{{ prompt|ended }}```

Answer with one fenced block of Python that begins with the function's header and holds all of it.
""",
    refine=_ATTEMPTED
    + """\

Its unit tests ended with:

{{ feedback }}

Mend the student's program. {{ nearness }}
Answer with one fenced block of Python that begins with the function's header and holds all of it.
""",
    explain=_ATTEMPTED
    + """\

First name the student's mistakes, a line each. Then mend the program. {{ nearness }}
End with one fenced block of Python that begins with the function's header and holds all of it.
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
{{ prompt }}{{ solution|ended }}```

Write five calls of it that would find mistakes in another solution, edge cases among them: a call in each
line, with literal arguments, without their values and without any other text.
""",
    judge="""\
This is a programming task:

```python
{{ prompt|ended }}```

This program was written for it:

```python
{{ prompt }}{{ solution|ended }}```

Say in a few sentences what the program does, where it goes wrong, and what it leaves out. Then give points,
in whole numbers, a line for each:
{% for line in rubric %}
{{ line }}
{% endfor %}
basic function: does it do what is asked for ordinary inputs? boundary handling: and for empty, extreme or odd
ones? requirements: is everything asked for there? readability: names, layout, comments. practices: fit data
structures, no waste, nothing dangerous.
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

```python
{{ prompt }}{{ solution|ended }}```

Write it as a learner might who has misunderstood one thing: it shall run, look plausible, and be wrong for
some inputs. Answer with one fenced block of Python that begins with the function's header and holds all of
it, and without any remark on the mistake.
""",
    nearness={
        "free": "",
        "near": "If its idea can work, change as little as possible; write it anew only if it cannot.",
        "nearest": "Keep its idea, its names and every line that is not at fault.",
    },
)
"""For models that follow instructions."""
