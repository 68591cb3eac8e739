"""Draws how a gate decides: docs/gates.svg. The intervals are those of the test itself, on answers made up for it.

python docs/gates_picture.py docs/gates.svg
"""

import sys

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from automerge.config import GateRule, Margin
from automerge.gate.rules import GateResult, try_gate

MARGIN = 0.05
RULE = GateRule(skill="writing", no_worse_than="base", margin=Margin(amount=MARGIN))
# what a candidate did with the items: (items, only the base was right, only the candidate was, both were)
CASES = {
    "as good, 400 items": (400, 20, 20, 200),
    "a little worse, 400 items": (400, 30, 26, 200),
    "as good, 60 items": (60, 4, 4, 30),
    "worse, 400 items": (400, 60, 20, 200),
}
COLOURS = {"met": "#1b7f4d", "not shown: more items would tell": "#b7791f", "broken": "#b83232"}


def tried(items: int, lost: int, won: int, both: int) -> GateResult:
    base, candidate = np.zeros(items), np.zeros(items)
    base[: lost + both] = 1
    candidate[lost : lost + both + won] = 1
    return try_gate(RULE, {"writing": candidate}, {"base": {"writing": base}}, seed=0)


def main(out: str) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "automerge", "font.family": "sans-serif"}):
        figure = Figure(figsize=(8.5, 3), layout="constrained")
        plot = figure.add_subplot()
        for y, (name, case) in enumerate(reversed(CASES.items())):
            found = tried(*case)
            said = "met" if found.met else "broken" if found.broken else "not shown: more items would tell"
            low, estimate = found.interval.low, found.interval.estimate
            plot.plot([low, 0.1], [y, y], color=COLOURS[said], lw=1, ls=":")
            plot.plot([low, estimate], [y, y], color=COLOURS[said], lw=3)
            plot.plot([estimate], [y], "o", color=COLOURS[said], ms=8)
            plot.text(0.105, y, said, va="center", color=COLOURS[said])
            print(f"{name}: {estimate:+.4f}, one-sided lower bound {low:+.4f}, needs ≥ {found.bound:+.4f}: {said}")
        plot.axvline(0, color="#555555", lw=0.8)
        plot.axvline(-MARGIN, color="#555555", lw=1.2, ls="--")
        plot.text(-MARGIN, len(CASES) - 0.35, "base − margin ", ha="right", color="#555555")
        plot.text(0, len(CASES) - 0.35, " base", ha="left", color="#555555")
        plot.set_yticks(range(len(CASES)), list(CASES)[::-1])
        plot.set_ylim(-0.6, len(CASES) - 0.1)
        plot.set_xlim(-0.2, 0.22)
        plot.set_xlabel("writing, candidate minus base, on the same held-out items")
        for side in ("top", "right"):
            plot.spines[side].set_visible(False)
        figure.savefig(out, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1])
