"""On-policy distillation: a teacher's logits on what this student wrote, in one table.

Each round: the student attempts the tasks; the attempts are executed; a teacher reads each of them, behind a
prompt that may hold more than the student's, and its next-token distributions at the attempt's tokens are
what the student is trained towards (Agarwal et al. 2024, arXiv:2306.13649). The rows (``rows``) differ in
whose text is scored, what the teacher is shown beside the task, who teaches, and the divergence.

    codestill run opd --row feedback --rounds 2

Stages, each below its round: solutions, attempts, refinements, logits (with ``teacher_logits=cached``), gap,
student, evaluation; of the first three those that the row needs.
Our deviations: a self-teacher is frozen for a round, not a moving average; an attempt ends where its program
ends; all prompts, the teacher's too, are in the form in which the student is asked.

``recipe`` is the loop; ``rows`` the table, and the examples of each row; ``collect`` their stages; ``gap``
what there is to learn; ``times`` where a round's time goes.
"""

from codestill.recipes.opd.recipe import Config, distill

__all__ = ["Config", "distill"]
