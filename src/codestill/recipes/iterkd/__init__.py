"""IterKD: iterative distillation from correct and faulty programs, with multi-view feedback
(arXiv:2408.03680; later called SODA).

Each round: the teacher solves the tasks; the student attempts them; attempts that fail stand beside the
correct programs, and the student is trained on both (correct-and-fault knowledge delivery); a judge and a set
of tools rate the attempts (multi-view feedback); by their scores tasks are easy, medium or hard, and the
teacher makes new tasks of each kind for the next round (feedback-based knowledge update).

    codestill run iterkd --rounds 3

Stages, each below its round: solutions, attempts, judgements, tools, teacher-faults and mutants where they
are sources, student, validation, first-tasks, and those of the new tasks.
Our deviations: no implementation is public, so the contrastive formula, the bins' thresholds, the ratios and
the stopping rule are ours. Feedback is on attempts *before* a round's training, at tasks whose answers the
student was not trained on; they serve as faults, too. Seven languages there, tests and faults in one here.

``recipe`` is the loop; ``faults`` and ``mutate`` find faulty programs; ``views`` is the feedback; ``update``
makes the next tasks; ``validation`` measures each round; ``records`` is what the report shows.
"""

from codestill.recipes.iterkd.recipe import Config, distill

__all__ = ["Config", "distill"]
