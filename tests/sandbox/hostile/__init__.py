"""Programs that try to get out, to pass without solving anything, or to take all they can get."""

from tests.sandbox.hostile import cheats, files, floods, machine, processes, values
from tests.sandbox.hostile.cheats import SEARCHES
from tests.sandbox.hostile.program import Hostile

__all__ = ["PROGRAMS", "SEARCHES", "Hostile"]

PROGRAMS: list[Hostile] = [
    *processes.PROGRAMS,
    *files.PROGRAMS,
    *machine.PROGRAMS,
    *floods.PROGRAMS,
    *cheats.PROGRAMS,
    *values.PROGRAMS,
]
