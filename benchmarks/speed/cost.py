"""Section `cost`: seconds of a merge as models and sources grow, the plane that fits them best, and its picture."""

from collections.abc import Callable

import numpy as np

from automerge.merge import Merge
from speed.models import Size, Tensors, opened, random_models, recipe_of, run
from speed.picture import Line, Panel, draw
from speed.rounds import Column, Row, Section, interleaved, medians

METHOD = "dare_ties"
LARGEST = Size(layers=68)  # SmolLM2's shapes, twice its parameters
LAYERS = (2, 11, 30, 68)
SOURCES = tuple(range(1, 9))
QUICK_SIZE, QUICK_LAYERS, QUICK_SOURCES = (
    Size(layers=2, width=128, keys=64, feed_forward=256, words=512),
    (1, 2),
    (1, 2),
)
MOST_ROUNDS = 7
ABOUT = (
    "Merge.tensors() of dare_ties, bf16, in memory, on all cores. Models of SmolLM2's shapes with 2, 11, 30 and 68 "
    "layers. Fitted: seconds = N · (a + b · sources) + c, by least squares over all points."
)


def measure(rounds: int, quick: bool) -> Section:
    """Seconds for each number of parameters and sources."""
    size, layers, counts = (QUICK_SIZE, QUICK_LAYERS, QUICK_SOURCES) if quick else (LARGEST, LAYERS, SOURCES)
    base, *sources = random_models(size, max(counts))
    calls: dict[str, Callable[[], None]] = {}
    elements: dict[int, int] = {}
    for number in layers:
        smaller = [_first(tensors, number) for tensors in (base, *sources)]
        elements[number] = sum(values.numel() for values in smaller[0].values())
        for count in counts:
            models = opened(smaller[0], smaller[1 : count + 1])
            merge = Merge(recipe_of(models, METHOD), models)
            calls[f"{number}/{count}"] = lambda merge=merge: run(merge)  # type: ignore[misc]
    found = medians(interleaved(calls, min(rounds, MOST_ROUNDS), mixed=True))
    points = [(elements[number], count, found[f"{number}/{count}"]) for number in layers for count in counts]
    fit = _fit(points)
    rows = []
    for number in layers:
        row: Row = {"elements": elements[number] / 1e6}
        row |= {f"s{count}": 1e3 * found[f"{number}/{count}"] for count in counts}
        rows.append(row)
    columns = (
        Column("elements", "million parameters", ".1f"),
        *(Column(f"s{n}", f"{n} source{'s' if n > 1 else ''}, ms", ".0f") for n in counts),
    )
    about = f"{ABOUT} a = {fit['a']:.3f} ns, b = {fit['b']:.3f} ns, c = {1e3 * fit['c']:.1f} ms, R² = {fit['r2']:.4f}."
    extra: Row = {"rounds": min(rounds, MOST_ROUNDS), "fit": fit, "points": points}
    return Section("Cost, as parameters and sources grow", about, columns, rows, extra)


def picture(section: Row) -> str:
    """The SVG of a section, as the JSON holds it."""
    points, fit = section["extra"]["points"], section["extra"]["fit"]
    sizes, counts = sorted({p[0] for p in points}), sorted({p[1] for p in points})

    def seconds(elements: float, count: float) -> float:
        return elements * 1e-9 * (fit["a"] + fit["b"] * count) + fit["c"]

    def line(
        label: str, chosen: list[tuple[float, float]], ends: tuple[float, float], at: Callable[[float], float]
    ) -> Line:
        return Line(label, chosen, [(end, 1e3 * at(end)) for end in ends])

    by_sources = [
        line(
            f"{size / 1e6:.0f} M",
            [(count, 1e3 * s) for elements, count, s in points if elements == size],
            (0, counts[-1]),
            lambda count, size=size: seconds(size, count),  # type: ignore[misc]
        )
        for size in sizes
    ]
    by_size = [
        line(
            f"{count} source{'s' if count > 1 else ''}",
            [(elements / 1e6, 1e3 * s) for elements, n, s in points if n == count],
            (0, sizes[-1] / 1e6),
            lambda millions, count=count: seconds(1e6 * millions, count),  # type: ignore[misc]
        )
        for count in counts
        if count in (1, 2, 4, 8)
    ]
    return draw(
        f"A merge's time: {METHOD}, bf16, in memory. Dots: medians; lines: one least-squares fit, R² = {fit['r2']:.4f}",
        [Panel("sources", "milliseconds", by_sources), Panel("million parameters", "milliseconds", by_size)],
    )


def _first(tensors: Tensors, layers: int) -> Tensors:
    """The model with its first layers alone."""

    def belongs(name: str) -> bool:
        return ".layers." not in name or int(name.split(".")[2]) < layers

    return {name: values for name, values in tensors.items() if belongs(name)}


def _fit(points: list[tuple[int, int, float]]) -> dict[str, float]:
    """Of seconds = N · (a + b · S) · 1e-9 + c; R² = 1 − Σ residual² ÷ Σ (seconds − mean)²."""
    table = np.array(points, dtype=float)
    n, s, seconds = table.T
    columns = np.stack([n * 1e-9, n * s * 1e-9, np.ones_like(n)], axis=1)
    solved = np.linalg.lstsq(columns, seconds, rcond=None)[0]
    residual = seconds - columns @ solved
    r2 = 1.0 - float(residual @ residual) / float(((seconds - seconds.mean()) ** 2).sum())
    a, b, c = solved.tolist()
    return {"a": a, "b": b, "c": c, "r2": r2}
