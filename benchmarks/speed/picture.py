"""Draws panels of dots and fitted lines as an SVG, in colours that show on light and on dark pages alike."""

import math
from dataclasses import dataclass

Point = tuple[float, float]
COLOURS = ("#5b8def", "#2aa198", "#d08700", "#d65d8f")
GREY, WIDTH, HEIGHT = "#808080", 460, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 92, 46, 52


@dataclass(frozen=True)
class Line:
    """Measured dots, and the two ends of the fitted line."""

    label: str
    dots: list[Point]
    ends: list[Point]


@dataclass(frozen=True)
class Panel:
    """Two axes, both from 0, with what they show and its unit."""

    x: str
    y: str
    lines: list[Line]


def draw(title: str, panels: list[Panel]) -> str:
    """The panels side by side under a title."""
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif"',
        ' font-size="12">',
        f"<title>{title}</title>",
        f'<text x="{width / 2}" y="20" fill="{GREY}" text-anchor="middle" font-size="13">{title}</text>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel) -> list[str]:
    points = [point for line in panel.lines for point in (*line.dots, *line.ends)]
    x_ticks, y_ticks = (_ticks(max(point[axis] for point in points)) for axis in (0, 1))

    def x(value: float) -> float:
        return round(LEFT + value / x_ticks[-1] * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / y_ticks[-1] * (HEIGHT - TOP - BOTTOM), 1)

    parts = []
    for tick in y_ticks:
        parts.append(f'<path d="M{x(0)} {y(tick)}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-opacity=".25"/>')
        parts.append(f'<text x="{x(0) - 6}" y="{y(tick) + 4}" fill="{GREY}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        parts.append(f'<path d="M{x(tick)} {y(0)}v4" stroke="{GREY}"/>')
        parts.append(f'<text x="{x(tick)}" y="{y(0) + 17}" fill="{GREY}" text-anchor="middle">{tick:g}</text>')
    middle = (x(0) + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" fill="{GREY}" text-anchor="middle">{panel.x}</text>')
    parts.append(f'<text x="{x(0) - 6}" y="{TOP - 8}" fill="{GREY}" text-anchor="middle">{panel.y}</text>')
    for colour, line in zip(COLOURS, panel.lines, strict=False):
        path = "L".join(f"{x(a)} {y(b)}" for a, b in line.ends)
        parts.append(f'<path d="M{path}" stroke="{colour}" stroke-width="1.5" fill="none"/>')
        parts += [f'<circle cx="{x(a)}" cy="{y(b)}" r="3.5" fill="{colour}"/>' for a, b in line.dots]
        a, b = line.ends[-1]
        parts.append(f'<text x="{x(a) + 8}" y="{y(b) + 4}" fill="{colour}">{line.label}</text>')
    return parts


def _ticks(largest: float) -> list[float]:
    """Four to nine round numbers from 0 to at least the largest."""
    step = 10.0 ** math.floor(math.log10(largest))
    step = next(step * part for part in (0.1, 0.2, 0.25, 0.5, 1.0) if largest / (step * part) <= 8)
    return [step * n for n in range(math.ceil(largest / step) + 1)]
