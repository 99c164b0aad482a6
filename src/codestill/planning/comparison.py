"""What a comparison will take: a run of every arm is tried, and counted for every seed; of an arm that asks a
teacher a second one, which may share the first one's answers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from codestill.compare import ANSWERS, CompareConfig, plan
from codestill.files.usage import Forecast
from codestill.planning.forecast import answers_of_trials, forecast, together


def forecast_comparison(
    config: CompareConfig, directory: Path, tell: Callable[[str], None] = lambda line: None
) -> Forecast:
    """Of a comparison in that directory; a stage of the forecast is an arm.

    Arms share their teacher's answers, in the trials as in the runs: what an earlier arm has asked is not
    counted again. Raises ConfigError where an arm's config is not valid, Failure where a trial fails.
    """
    planned = plan(config)
    found: dict[str, list[Forecast]] = {}
    with answers_of_trials(directory / ANSWERS) as answers:
        for arm in config.arms:
            if arm.of is None:
                runs = planned[arm.name]
                say = partial(_tell, tell, arm.name)
                first = forecast(runs[0].recipe, runs[0].config, answers, tell=say, shared=True)
                further = first
                if len(runs) > 1 and first.calls.mean:
                    further = forecast(runs[1].recipe, runs[1].config, answers, tell=say, shared=True)
                found[arm.name] = [first, *[further] * (len(runs) - 1)]
    return together(found)


def _tell(tell: Callable[[str], None], arm: str, line: str) -> None:
    tell(f"{arm}: {line}")
