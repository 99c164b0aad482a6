"""The table of this experiment, from its kept result.

    python experiments/draft/tables.py                                             # print the table
    python experiments/draft/tables.py --keep NAME runs/draft/DIRECTORY            # from a run directory

``--keep`` puts what a run measured of its model as a draft into ``result.json`` under a name, without each
task's acceptance.
"""

import json
import sys
from pathlib import Path
from typing import Any

from codestill.evaluation import read_evaluation
from codestill.tables.drafts import plain
from codestill.types import Draft

HERE = Path(__file__).parent
RESULT = HERE / "result.json"
SHOWN = 4
"""Drafted tokens of the table's columns; speculative decoding was run with as many."""


def keep(name: str, directory: Path) -> None:
    """Add a run to the result."""
    evaluation = read_evaluation(directory / "results" / "student.json")
    assert evaluation.draft is not None
    measured = evaluation.draft.model_dump(mode="json") | {"acceptance_per_task": {}}
    result: dict[str, Any] = kept() if RESULT.exists() else {}
    about = {"tasks": evaluation.tasks, "data_hash": evaluation.data_hash, "versions": evaluation.versions}
    result[name] = {**about, "draft": measured}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def kept() -> dict[str, Any]:
    return json.loads(RESULT.read_text(encoding="utf-8"))


def table(result: dict[str, Any]) -> list[str]:
    """Markdown: what is accepted, and tokens per pass as expected and as run."""
    lines = [
        "| draft | target, temperature | texts | accepted, % | tokens per pass, 4 drafted | if independent "
        "| as run | run − expected | 8 drafted |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in result.items():
        draft = Draft.model_validate(found["draft"])
        at, longest = draft.lengths[SHOWN - 1], draft.lengths[-1]
        run = draft.run
        apart = run.difference if run else None
        cells = (
            name,
            f"{draft.target.rpartition('/')[2]}, {draft.temperature:g}",
            str(draft.texts),
            draft.acceptance.percent("").strip(),
            plain(at.expected),
            f"{at.independent:.2f}",
            plain(run.tokens) if run else "",
            f"{apart.mean:+.2f} [{apart.low:+.2f}, {apart.high:+.2f}]".replace("-", "−") if apart else "",
            plain(longest.expected),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--keep", name, directory]:
            keep(name, Path(directory))
        case []:
            print("\n".join(table(kept())))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
