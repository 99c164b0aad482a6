"""Execution of untrusted programs against their unit tests."""

from codestill.sandbox.config import SandboxConfig
from codestill.sandbox.feedback import error_class, feedback
from codestill.sandbox.program import Program
from codestill.sandbox.sandbox import Sandbox

__all__ = ["Program", "Sandbox", "SandboxConfig", "error_class", "feedback"]
