"""The report's charts, as SVG text that stands for itself: nothing is loaded, and colours follow the page.

Ink (text, axes, grid) is `currentColor`, so that a chart is read on a light page as on a dark one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from automerge.report.radar import COLOURS, svg_of

INK = "#010203"  # drawn with, then replaced by the page's own colour of text
_RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "automerge",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # names may hold $
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Points = Sequence[tuple[int, float]]  # (place along the search, objective)


def history(
    complete: Points,
    stopped: Points,
    infeasible: Points,
    best: Points,
    baselines: Mapping[str, float],
    leading: int | None,
) -> str:
    """Objectives in the order of trial; lines for the best baselines, a step line for the best so far."""

    def draw(plot: Any) -> None:
        styles: dict[str, Any] = {"linestyle": "none", "markersize": 5}
        plot.plot(*_columns(stopped), "o", mfc="none", mec=COLOURS[5], label="stopped early (estimate)", **styles)
        plot.plot(*_columns(infeasible), "x", color=COLOURS[1], label="breaks a gate", **styles)
        plot.plot(*_columns(complete), "o", color=COLOURS[0], label="asked everything", **styles)
        plot.step(*_columns(best), where="post", color=COLOURS[2], label="best so far")
        at = [point for point in complete if point[0] == leading]
        plot.plot(*_columns(at), "*", color=COLOURS[4], mec=INK, mew=0.5, markersize=14, label="leading candidate")
        for number, (name, value) in enumerate(sorted(baselines.items(), key=lambda entry: -entry[1])[:3]):
            plot.axhline(value, color=INK, lw=0.8, ls=("--", "-.", ":")[number], label=f"baseline {name}")
        plot.set_xlabel("trial")
        plot.set_ylabel("objective on search items")
        plot.legend(frameon=False, fontsize=8, loc="lower right")

    return _figure(draw, (8, 4))


def heat_map(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], label: str) -> str:
    """One parameter: a row a source, a column a layer or group."""

    def draw(plot: Any) -> None:
        image = plot.imshow(values, aspect="auto", cmap="cividis")
        plot.set_yticks(range(len(rows)), rows)
        step = max(len(columns) // 16, 1)
        plot.set_xticks(range(0, len(columns), step), columns[::step], rotation=45, ha="right")
        if len(rows) * len(columns) <= 120:
            middle = (min(map(min, values)) + max(map(max, values))) / 2
            for y, line in enumerate(values):
                for x, value in enumerate(line):
                    plot.text(
                        x,
                        y,
                        f"{value:.2f}",
                        ha="center",
                        va="center",
                        color="#fffffe" if value <= middle else "#000001",
                    )
        plot.figure.colorbar(image, ax=plot, label=label)

    return _figure(draw, (min(2.5 + 0.6 * len(columns), 10), 1.4 + 0.4 * len(rows)))


def bars(values: Mapping[str, float], label: str) -> str:
    """Horizontal bars, the largest above."""

    def draw(plot: Any) -> None:
        names = sorted(values, key=lambda name: values[name])[-20:]
        plot.barh(names, [values[name] for name in names], color=COLOURS[0])
        plot.set_xlabel(label)

    return _figure(draw, (7, 0.8 + 0.3 * min(len(values), 20)))


def front(points: Mapping[str, tuple[float, float]], on_front: Sequence[str], axes: tuple[str, str]) -> str:
    """Two skills against each other; those on the Pareto front are joined."""

    def draw(plot: Any) -> None:
        plot.plot(*_columns(list(points.values())), "o", mfc="none", mec=COLOURS[5], label="candidates")
        edge = sorted(points[name] for name in on_front)
        plot.plot(*_columns(edge), "o-", color=COLOURS[1], label="Pareto front")
        for name in on_front:
            plot.annotate(name, points[name], fontsize=7, xytext=(3, 3), textcoords="offset points")
        plot.set_xlabel(axes[0])
        plot.set_ylabel(axes[1])
        plot.legend(frameon=False, fontsize=8)

    return _figure(draw, (5, 4))


def differences(intervals: Mapping[str, tuple[float, float, float]], title: str) -> str:
    """(estimate, low, high) a baseline: what lies right of 0 is a lead."""

    def draw(plot: Any) -> None:
        names = list(intervals)[::-1]
        for y, name in enumerate(names):
            estimate, low, high = intervals[name]
            colour = COLOURS[2] if low > 0 else COLOURS[1] if high < 0 else COLOURS[4]
            plot.plot([low, high], [y, y], color=colour, lw=2)
            plot.plot([estimate], [y], "o", color=colour)
        plot.axvline(0, color=INK, lw=0.8)
        plot.set_yticks(range(len(names)), names)
        plot.set_ylim(-0.6, len(names) - 0.4)
        plot.set_xlabel(title)

    return _figure(draw, (7, 0.9 + 0.32 * len(intervals)))


def on_page(svg: str) -> str:
    """An SVG as the page takes it: ink in the page's colour, no header, as wide as there is room."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(
        r'<svg ([^>]*?)width="([\d.]+)pt" height="[\d.]+pt"', r'<svg \1style="max-width:\2pt" role="img"', svg, count=1
    )


def _columns(points: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    return [point[0] for point in points], [point[1] for point in points]


def _figure(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    import matplotlib  # a second, and only a chart needs it
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return on_page(svg_of(figure))
