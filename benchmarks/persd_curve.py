"""pass@1 over the number of rows, from what ``codestill compare benchmarks/persd-curve.yaml`` left.

    python benchmarks/persd_curve.py runs/persd-curve docs/persd-curve.png

A line for each of StanD, InpD and PERsD, with 95% intervals over tasks and seeds; and, as open circles, what
solutions by several hands teach.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from codestill.compare import Comparison

COLOURS = {"stand": "#1b7f79", "inpd": "#3e5c99", "persd": "#c1582f"}
FULL_NAMES = {"stand": "StanD", "inpd": "InpD", "persd": "PERsD"}


def main(directory: Path, picture: Path) -> None:
    found = Comparison.model_validate_json((directory / "comparison.json").read_bytes())
    scores = {arm.name: arm.pass_at[1] for arm in found.arms}
    figure = Figure(figsize=(6.4, 3.8), dpi=160, layout="constrained")
    plot = figure.add_subplot()
    every: set[int] = set()
    for arm, colour in COLOURS.items():
        rows = sorted(
            int(last)
            for first, _, last in (name.partition(" ") for name in scores)
            if first == arm and last.isdigit()
        )
        every.update(rows)
        at = [scores[f"{arm} {count}"] for count in rows]
        plot.fill_between(
            rows,
            [100 * one.low for one in at],
            [100 * one.high for one in at],
            color=colour,
            alpha=0.12,
            lw=0,
        )
        plot.plot(rows, [100 * one.mean for one in at], "o-", color=colour, lw=1.8, ms=5)
        plot.annotate(
            FULL_NAMES[arm],
            (rows[-1], 100 * at[-1].mean),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
        if several := scores.get(f"{arm} references"):
            plot.plot([max(rows)], [100 * several.mean], "o", color=colour, mfc="white", ms=6)
    plot.set_xscale("log")
    plot.set_xticks(sorted(every), [str(count) for count in sorted(every)])
    plot.minorticks_off()
    plot.set_xlim(right=max(every) * 1.35)
    plot.set_ylim(bottom=0)
    plot.set_xlabel("rows, read for 120 steps (open circles: solutions by several hands)")
    plot.set_ylabel("pass@1, %")
    plot.grid(axis="y", color="#e4e4e0")
    plot.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
