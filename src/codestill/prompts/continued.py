"""The set for models that continue a prompt."""

from codestill.prompts.template import Prompts

CONTINUED = Prompts(
    version="continued-2",
    answers="continuation",
    solve="{{ prompt }}",
    refine="{% if solution %}{{ prompt }}{{ solution|ended }}\n{% endif %}"
    "{{ prompt }}{{ attempt|ended }}{{ feedback|commented }}{{ prompt }}",
    propose="{{ seeds[0] }}# {{ level }}\n",
    inputs="{{ prompt }}{{ solution|ended }}# tests\n",
    judge="{{ prompt }}{{ solution|ended }}# judge\n",
)
"""Python throughout: the task, the attempt, what happened as comments, and the task once more. What the
pocket teacher was trained on, and what every student reads."""
