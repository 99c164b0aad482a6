"""Runs of a recipe on tiny data, each in a process of its own: ``python -m codestill.extend.worker``.

A run takes seconds, and so does all that it imports: it is imported once, and every run is a fork. One that
is told to kills itself after so many events, as any machine may.
"""

import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

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


def work(recipe: str, directory: str, after: int | None) -> None:
    """Run the recipe; prints how many events there were."""
    import torch

    torch.set_num_threads(1)
    module = load_recipe(recipe)
    settings = tiny(module.Config()) | {"execution": {"device": "cpu", "workers": 1}}
    config = module.Config.model_validate(settings)
    killer = Killer(after)
    with Run.open(Path(directory), config, [killer]) as run:
        module.distill(config, run)
    print(killer.seen)


def serve() -> None:
    """Carry out the jobs that stand on standard input, one a line; answer each with its exit code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is imported may print
    import codestill.train.loop  # noqa: F401  (what takes long)

    gc.collect()
    gc.freeze()  # so that no run walks through what they share
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            _alone(**json.loads(line))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _alone(said: str, recipe: str, directory: str, after: int | None) -> NoReturn:
    """One job; what it says is kept in the files ``said``.out and ``said``.err."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(said + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    code: Any = 1
    try:
        work(recipe, directory, after)
        code = 0
    except ValidationError as error:
        print(problems(error), file=sys.stderr)
    except CodestillError as error:
        print(f"{error.message} {error.next_step}", file=sys.stderr)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
