"""Students as the rows that they are trained on see them: only how they are asked."""

from types import SimpleNamespace
from typing import Any

from codestill.types import ChatForm

CONTINUES: Any = SimpleNamespace(form=None)
CHATS: Any = SimpleNamespace(form=ChatForm(template="a template"))
