"""The set for models that continue a prompt."""

from codestill.prompts.modular import Modular
from codestill.prompts.template import Prompts

_THOUGHT = '''\
def make_text(xs: list[int]) -> int:
    """Return the sum of the squares of xs.
    """
    # first the squares of xs
    a = [x * x for x in xs]
    # then the sum of that
    return sum(a)

'''

CONTINUED = Prompts(
    version="continued-2",
    answers="continuation",
    solve="{{ prompt }}",
    refine="{% if solution %}{{ prompt }}{{ solution|ended }}\n{% endif %}"
    "{{ prompt }}{{ attempt|ended }}{{ feedback|commented }}{{ prompt }}",
    show="{{ prompt }}{{ solution|ended }}\n{{ prompt }}",
    propose="{{ seeds[0] }}# {{ level }}\n",
    inputs="{{ prompt }}{{ solution|ended }}# tests\n",
    judge="{{ prompt }}{{ solution|ended }}# judge\n",
    modular=Modular(
        decompose="{{ prompt }}# parts\n",
        alias="find_result",
        evolve="{% for function in functions %}{{ function|ended }}\n{% endfor %}{{ prompt }}",
        needs_code=True,
        think=_THOUGHT + "{{ prompt }}",
        regenerate="{{ prompt }}{{ attempt|ended }}{{ prompt }}",
    ),
)
"""Python throughout: the task, the attempt, execution feedback as comments, and the task once more. The
pocket teacher was trained on this form, and models that do not chat are asked in it."""
