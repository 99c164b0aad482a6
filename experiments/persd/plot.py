"""pass@1 over the number of training examples, from a run of ``experiments/persd/curve.yaml``.

    python experiments/persd/plot.py runs/curve docs/recipes/persd-curve.png

One line each for StanD, InpD and PERsD, with 95% intervals over tasks and seeds. Open circles are arms whose
solutions are the tasks' references, in four styles.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from codestill.compare import Comparison
from codestill.files.serialize import read_record

COLOURS = {"stand": "#1b7f79", "inpd": "#3e5c99", "persd": "#c1582f"}
FULL_NAMES = {"stand": "StanD", "inpd": "InpD", "persd": "PERsD"}


def main(directory: Path, picture: Path) -> None:
    comparison = read_record(directory / "comparison.json", Comparison)
    scores = {arm.name: arm.pass_at[1] for arm in comparison.arms}
    figure = Figure(figsize=(6.4, 3.8), dpi=160, layout="constrained")
    plot = figure.add_subplot()
    sizes: set[int] = set()
    for arm, colour in COLOURS.items():
        counts = sorted(
            int(last)
            for first, _, last in (name.partition(" ") for name in scores)
            if first == arm and last.isdigit()
        )
        sizes.update(counts)
        intervals = [scores[f"{arm} {count}"] for count in counts]
        plot.fill_between(
            counts,
            [100 * interval.low for interval in intervals],
            [100 * interval.high for interval in intervals],
            color=colour,
            alpha=0.12,
            lw=0,
        )
        plot.plot(counts, [100 * interval.mean for interval in intervals], "o-", color=colour, lw=1.8, ms=5)
        plot.annotate(
            FULL_NAMES[arm],
            (counts[-1], 100 * intervals[-1].mean),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
        if references := scores.get(f"{arm} references"):
            plot.plot([max(counts)], [100 * references.mean], "o", color=colour, mfc="white", ms=6)
    plot.set_xscale("log")
    plot.set_xticks(sorted(sizes), [str(count) for count in sorted(sizes)])
    plot.minorticks_off()
    plot.set_xlim(right=max(sizes) * 1.35)
    plot.set_ylim(bottom=0)
    plot.set_xlabel("training examples, 120 steps (open circles: reference solutions in four styles)")
    plot.set_ylabel("pass@1, %")
    plot.grid(axis="y", color="#e4e4e0")
    plot.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
