"""One run of a recipe on tiny data: ``python -m codestill.extend.worker FILE DIRECTORY [EVENTS]``.

After so many events it kills itself, as any machine may.
"""

import os
import signal
import sys
from pathlib import Path

from pydantic import ValidationError

from codestill.config import problems
from codestill.errors import CodestillError
from codestill.extend.tiny import tiny
from codestill.recipes import load_recipe
from codestill.run import Run
from codestill.types import Event


class Killer:
    """An observer that ends the process after so many events."""

    def __init__(self, after: int | None) -> None:
        self.left, self.seen = after, 0

    def __call__(self, event: Event) -> None:
        self.seen += 1
        if self.left is not None and self.seen >= self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def main(recipe: str, directory: str, after: str | None = None) -> None:
    """Run the recipe; prints how many events there were."""
    import torch

    torch.set_num_threads(1)
    module = load_recipe(recipe)
    settings = tiny(module.Config()) | {"execution": {"device": "cpu", "workers": 1}}
    config = module.Config.model_validate(settings)
    killer = Killer(int(after) if after else None)
    with Run.open(Path(directory), config, [killer]) as run:
        module.distill(config, run)
    print(killer.seen)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValidationError as error:
        sys.exit(problems(error))
    except CodestillError as error:
        sys.exit(f"{error.message} {error.next_step}")
