"""The tables: trials of a search, and models on held-out items with their intervals."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from automerge.gate.rules import GateResult
from automerge.gate.verdict import Verdict
from automerge.recipe import Mixture
from automerge.records import Interval
from automerge.study.records import Row

_STYLE = {"PROMOTED": "bold green", "REJECTED": "bold red", "INCONCLUSIVE": "bold yellow"}


def plain_table(title: str | None = None) -> Table:
    """The style of every table: no frame, a rule below the head."""
    return Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)


def trial_table(
    rows: Sequence[Row], skills: Sequence[str], *, title: str | None = None, width: int | None = None
) -> Table:
    """One line a candidate: objective, each skill, gates, seconds. The best of each column among `rows` is bold; ~ is
    the estimate of a candidate that was stopped. Names and numbers stay whole: where they do not fit into `width`, the
    last columns are left out, and named below."""
    table = plain_table(title)
    table.add_column("candidate", no_wrap=True, min_width=max((len(row.label) for row in rows), default=0))
    number = 7 if any(row.state == "stopped" for row in rows) else 6
    for name in ("objective", *skills):
        table.add_column(name, justify="right", no_wrap=True, min_width=max(len(name), number))
    table.add_column("gates")
    table.add_column("seconds", justify="right", no_wrap=True, min_width=len("seconds"))
    whole = [row for row in rows if row.state != "stopped"]
    top = {skill: max((_mean(row, skill) for row in whole), default=0.0) for skill in skills}
    best = max((row.value for row in whole if row.value is not None and _feasible(row)), default=None)
    for row in rows:
        record = row.record
        if record is None or record.error:
            note = Text(row.state if record is None else f"{row.state}: {record.error}", style="dim")
            table.add_row(row.label, "", *("" for _ in skills), note, "")
            continue
        if row.state == "stopped":
            estimates = [record.objective, *(_mean(row, skill) for skill in skills)]
            cells = [Text(f"~{value:.4f}", style="dim") for value in estimates]
            table.add_row(Text(row.label, style="dim"), *cells, stopped_text(row), f"{record.seconds['total']:.1f}")
            continue
        table.add_row(
            Text(row.label, style="cyan" if row.is_baseline else ""),
            _number(record.objective, bold=record.objective == best and record.feasible),
            *(_number(_mean(row, skill), bold=_mean(row, skill) == top[skill]) for skill in skills),
            gate_text(record.violations),
            f"{record.seconds['total']:.1f}",
        )
    if width is not None:
        _narrow(table, width)
    return table


def _narrow(table: Table, width: int) -> None:
    """Takes the last columns away until the others fit, the first two stay; the caption says which."""
    endless, left_out = Console(width=10_000), list[str]()
    while len(table.columns) > 2 and Measurement.get(endless, endless.options, table).minimum > width:
        left_out.insert(0, str(table.columns.pop().header))
    if left_out:
        table.caption = f"left out, for want of width: {', '.join(left_out)}; --json has all"
        table.caption_justify = "left"


def mixture_line(mixture: Mixture) -> str:
    """What a sparse model is made of, in one line."""
    shared = f", {mixture.shared} for every token" if mixture.shared else ""
    experts = ", ".join(mixture.experts)
    return f"experts: {experts}; {mixture.per_token} a token{shared}; router temperature {mixture.temperature:.4g}"


def stopped_text(row: Row) -> Text:
    """After how much of its items a candidate was stopped; `show` says why."""
    items = sum(skill.n for skill in row.record.skills.values()) if row.record else 0
    return Text(f"stopped after {items} items" if items else "stopped by likelihood", style="dim")


def gate_text(violations: dict[str, float]) -> Text:
    """`met`, or the skills whose gates a point estimate breaks, and by how much. (A gate begins with its skill.)"""
    broken = [f"{gate.split()[0]} short by {amount:.3f}" for gate, amount in violations.items() if amount > 0]
    return Text(", ".join(broken), style="red") if broken else Text("met" if violations else "–", style="green")


def verdict_table(verdict: Verdict) -> Table:
    """Candidates and baselines on held-out items, each score with its interval; the best of a column is bold."""
    level = f"{100 * verdict.confidence:g}%"
    title = f"Held-out items; ± is half the {level} interval"
    table = plain_table(title)
    table.add_column("model", no_wrap=True)
    table.add_column("objective", justify="right")
    skills = list(verdict.rows[0].skills) if verdict.rows else []
    for skill in skills:
        table.add_column(skill, justify="right")
    columns = [[row.objective for row in verdict.rows]] + [[row.skills[s] for row in verdict.rows] for s in skills]
    top = [max(interval.estimate for interval in column) for column in columns]
    for index, row in enumerate(verdict.rows):
        cells = [_interval(column[index], best) for column, best in zip(columns, top, strict=True)]
        name = Text(row.name, style="bold green" if row.name == verdict.winner else "")
        table.add_row(name, *cells)
    return table


def difference_table(verdict: Verdict) -> Table | None:
    """The leading candidate minus each baseline, paired; None where there was no candidate."""
    leading = verdict.leading
    if leading is None:
        return None
    level = f"{100 * next(iter(leading.differences.values())).confidence:.3g}%"
    table = plain_table(f"{leading.name} minus each baseline: objective, paired, {level} intervals")
    for column in ("baseline", "difference", "interval"):
        table.add_column(column, justify="left" if column == "baseline" else "right")
    for name, interval in leading.differences.items():
        style = "green" if interval.low > 0 else "red" if interval.high < 0 else "yellow"
        label = f"{name} (best that meets the gates)" if name == leading.rival else name
        table.add_row(label, Text(f"{interval.estimate:+.4f}", style=style), _span(interval))
    return table


def gate_lines(gates: Sequence[GateResult]) -> list[str]:
    """A sentence a gate, as tested on held-out items."""
    return [
        f"gate {g.gate}: {'met' if g.met else 'broken' if g.broken else 'not shown'}; "
        f"{g.interval.estimate:+.4f}, one-sided lower bound {g.interval.low:+.4f}, needs ≥ {g.bound:+.4f}"
        + (f"; {g.unscored} items are unscored for either, and count nowhere" if g.unscored else "")
        for g in gates
    ]


def verdict_line(verdict: Verdict) -> Text:
    """The outcome and its reason."""
    line = Text(verdict.outcome, style=_STYLE[verdict.outcome])
    line.append(f"  {verdict.reason}.", style="not bold default")
    if verdict.use > 1:
        line.append(f"\nThis is use {verdict.use} of the held-out items by this study.", style="yellow")
    return line


def markdown(verdict: Verdict) -> str:
    """The held-out table as Markdown."""
    skills = list(verdict.rows[0].skills) if verdict.rows else []
    heads = [skill.replace("|", "\\|") for skill in skills]
    lines = [f"| model | objective | {' | '.join(heads)} |", "|---|" + "---|" * (len(skills) + 1)]
    for row in verdict.rows:
        cells = [row.objective, *(row.skills[skill] for skill in skills)]
        name = row.name.replace("|", "\\|")
        name = f"**{name}**" if row.name == verdict.winner else name
        lines.append(f"| {name} | {' | '.join(f'{c.estimate:.4f} [{c.low:.4f}, {c.high:.4f}]' for c in cells)} |")
    return "\n".join(lines)


def _feasible(row: Row) -> bool:
    return row.record is not None and row.record.feasible


def _mean(row: Row, skill: str) -> float:
    found = row.record.skills.get(skill) if row.record else None
    return found.mean if found else float("-inf")


def _number(value: float, *, bold: bool = False) -> Text:
    return Text(f"{value:.4f}", style="bold" if bold else "")


def _interval(interval: Interval, best: float) -> Text:
    text = Text(f"{interval.estimate:.3f}", style="bold" if interval.estimate == best else "")
    return text.append(f" ±{(interval.high - interval.low) / 2:.3f}", style="dim not bold")


def _span(interval: Interval) -> str:
    return (
        f"[{interval.low:+.4f}, {interval.high:+.4f}]"
        if interval.low < 0
        else f"[{interval.low:.4f}, {interval.high:.4f}]"
    )
