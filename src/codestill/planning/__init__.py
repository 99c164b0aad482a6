"""Before a job starts: which recipe suits it."""

from codestill.planning.choice import Choice, DistilConfig, choose

__all__ = ["Choice", "DistilConfig", "choose"]
