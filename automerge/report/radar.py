"""A radar chart of models over skills, as SVG text without any reference outside itself."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by all eyes


def radar(axes: Sequence[str], models: Mapping[str, Sequence[float | None]], *, most: float) -> str:
    """A closed line a model, from 0 in the middle to `most` at the rim; a missing value leaves a gap.

    Raises ValueError for fewer than three axes, which have no area.
    """
    if len(axes) < 3:
        raise ValueError(f"a radar chart needs three skills at least, got {len(axes)}")
    import matplotlib  # a second, and only a chart needs it
    from matplotlib.figure import Figure

    angles = [2 * math.pi * number / len(axes) for number in range(len(axes))]
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "automerge", "font.family": "sans-serif", "text.parse_math": False}
    ):
        figure = Figure(figsize=(7, 5.5), layout="constrained")
        plot: Any = figure.add_subplot(projection="polar")  # PolarAxes, which its types do not say
        plot.set_theta_offset(math.pi / 2)
        plot.set_theta_direction(-1)
        for number, (model, values) in enumerate(models.items()):
            heights = [math.nan if value is None else value for value in values]  # a gap, not a zero
            colour = COLOURS[number % len(COLOURS)]
            line = "-" if number < len(COLOURS) else "--"
            plot.plot([*angles, angles[0]], [*heights, heights[0]], line, color=colour, label=model, marker="o", ms=3)
            plot.fill(angles, heights, color=colour, alpha=0.08)
        plot.set_xticks(angles, axes)
        plot.set_ylim(0, most)
        plot.spines["polar"].set_visible(False)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        return svg_of(figure)


def svg_of(figure: Any) -> str:
    """A figure of matplotlib's, without date and without ground."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    return text.getvalue()
