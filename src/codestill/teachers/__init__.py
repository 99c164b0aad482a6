"""Teachers: what a recipe may ask of one, and local weights as one."""

from codestill.teachers.base import LogitTeacher
from codestill.teachers.endpoint import ApiTeacherConfig
from codestill.teachers.local import LocalTeacherConfig
from codestill.teachers.vocabulary import require_same_vocabulary

__all__ = ["ApiTeacherConfig", "LocalTeacherConfig", "LogitTeacher", "require_same_vocabulary"]
