"""Before a job starts: which recipe suits it, and what it will take."""

from codestill.planning.choice import Choice, DistilConfig, choose
from codestill.planning.comparison import forecast_comparison
from codestill.planning.forecast import answers_of_trials, forecast, require_affordable

__all__ = [
    "Choice",
    "DistilConfig",
    "answers_of_trials",
    "choose",
    "forecast",
    "forecast_comparison",
    "require_affordable",
]
