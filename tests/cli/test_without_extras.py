"""Help and listings work where none of the optional packages is installed."""

import json
import subprocess
import sys

SCRIPT = """
import json, sys

# A finder that does not see the blocked packages: neither imports nor look-ups find them.
class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        blocked = name.partition(".")[0] in BLOCKED
        return None if blocked else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

from codestill.cli import app, main
from codestill.recipes import RECIPES

def names(application, prefix=()):
    for part in application:
        if not part.startswith("-"):
            yield prefix + (part,)
            yield from names(application[part], prefix + (part,))

commands = [("--help",), *((*name, "--help") for name in names(app))]
commands += [("run", recipe, "--help") for recipe in RECIPES]
commands += [("tasks", "ls"), ("students",), ("doctor",)]
ended = {}
for command in commands:
    try:
        main(command)
    except SystemExit as error:
        ended[" ".join(command)] = error.code
print(json.dumps(ended), file=sys.stderr)
"""
EXTRAS = (
    "openai",
    "wandb",
    "tensorboard",
    "sklearn",
    "rapidfuzz",
    "sentence_transformers",
    "ruff",
    "peft",
    "bitsandbytes",
    "fastapi",
    "uvicorn",
    "prometheus_client",
)


def test_every_help_works_without_the_optional_packages():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ",".join(EXTRAS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stderr.splitlines()[-1])
    assert len(codes) > 30
    assert {command: code for command, code in codes.items() if code} == {}
