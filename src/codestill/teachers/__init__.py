"""Teachers: local weights, which give text and logits, and OpenAI-compatible endpoints, which give text.

``session`` is a teacher during one run; ``ledger`` counts calls, tokens and money, and enforces budgets;
``replay`` keeps answers.
"""

from codestill.teachers.base import LogitTeacher
from codestill.teachers.endpoint import ApiTeacherConfig
from codestill.teachers.local import LocalTeacherConfig
from codestill.teachers.vocabulary import require_same_vocabulary

__all__ = ["ApiTeacherConfig", "LocalTeacherConfig", "LogitTeacher", "require_same_vocabulary"]
