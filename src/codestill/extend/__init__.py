"""For those who extend codestill: files to start from, and proof that what was made of them works.

new         writes a recipe, a task family or a divergence that works as it stands
check       finds what a file defines, and checks each
recipe      runs a recipe on tiny data: it resumes, repeats no call, and evaluates behind gates
tiny        any recipe's config on the bundled world, in seconds
worker      one such run, in a process of its own that may be killed
divergence  a divergence's derivative, its zero and its limits
"""

from codestill.extend.check import check
from codestill.extend.finding import Finding
from codestill.extend.new import KINDS, Kind, new

__all__ = ["KINDS", "Finding", "Kind", "check", "new"]
