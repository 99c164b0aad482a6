"""What a command imports before it works."""

import subprocess
import sys

SCRIPT = """
import sys
from codestill.cli import main
HEAVY = {"torch", "transformers", "datasets", "matplotlib", "sacrebleu"}
for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as ended:
        assert ended.code == 0, (command, ended.code)
    print(f"{command}: {sorted(HEAVY & sys.modules.keys())}", file=sys.stderr)
"""
COMMANDS = (
    "--help",
    "--version",
    "run --help",
    "run sft --help",
    "run logit_kd --help",
    "evaluate --help",
    "export --help",
    "serve --help",
    "compare --help",
    "sweep --help",
    "tasks --help",
    "tasks ls",
    "students",
    "runs src",
    "library --help",
    "run persd --help",
    "run iterkd --help",
    "run amr_evol --help",
)


def test_help_loads_no_framework() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *COMMANDS], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines() == [f"{command}: []" for command in COMMANDS], done.stderr
