"""Personalised distillation: the teacher repairs what this student wrote (PERsD, arXiv:2310.18628).

Each round: the teacher solves the tasks; the student attempts them; what fails is executed, and the teacher,
given the execution feedback, repairs that attempt; repairs that pass become training examples as the arm says
(``arms``); the student is trained on them and evaluated. With many small rounds that continue from the last
student and replay earlier examples, this is the online form that the paper leaves open.

    codestill run persd --arm persd-combined

Stages, each below its round: solutions, attempts, refinements, student, evaluation.
Our deviations: tasks come with tests, or bring solutions whose tests were made before; a repair prompt holds
the function's header; the teacher does not see its own solution unless ``refine.show_solution`` is set; a
round's optimiser starts anew. For self-repair only the visible tests are run.

``recipe`` is the loop; ``collect`` one round's records; ``keep`` which repairs are used; ``arms`` the
training examples of every arm; ``similarity`` how personal a repair is; ``self_repair`` multi-step inference.
"""

from codestill.recipes.persd.recipe import Config, distill

__all__ = ["Config", "distill"]
