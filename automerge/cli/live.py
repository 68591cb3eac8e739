"""The screen while a search runs: a live one for a terminal, plain lines for everything else."""

import time
from statistics import median
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from automerge.report.tables import gate_text, trial_table
from automerge.study.events import Began, Block, Ended, Event, Judgement, Note, Stage
from automerge.study.jobs import Budget
from automerge.study.records import Row
from automerge.study.session import Plan

RECENT = 10  # proposals shown below the baselines
PACE = 25  # candidates whose median time is the pace: a start of the engine, or a few stopped early, do not sway it
ENOUGH = 5  # proposals from which on baselines, most of which are asked everything, say nothing of the pace


class Screen(Protocol):
    """Something that watches a study."""

    def listen(self, event: Event) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _State:
    """What both screens know of the study so far."""

    def __init__(self, plan: Plan, budget: Budget, workers: int) -> None:
        self.plan, self.budget, self.workers = plan, budget, workers
        self.rows: list[Row] = []
        self.stage, self.total, self.begun = "starting the engine", 0, 0
        self.note = ""
        self.now: dict[str, str] = {}  # by candidate, how far each is that is being asked
        self.trials, self.seconds = 0, 0.0
        self.took: list[tuple[float, bool]] = []  # seconds a candidate, and whether it was a baseline
        self.stage_started = time.monotonic()

    def take(self, event: Event) -> None:
        if isinstance(event, Note):
            self.note = event.text
        elif isinstance(event, Stage):
            self.stage, self.total, self.begun = event.name, event.total, 0
            self.stage_started = time.monotonic()
        elif isinstance(event, Began):
            self.now[event.label], self.begun = "", self.begun + 1
            if self.stage == "proving":  # whose candidates do not tell of their end: as many as there are workers
                self.now = dict(list(self.now.items())[-self.workers :])
        elif isinstance(event, Block):
            self.now[event.label] = f"{event.skill} {event.done}/{event.total}"
        elif isinstance(event, Ended):
            self.trials, self.seconds = event.spent_trials, event.spent_seconds
            self.rows.append(event.row)
            if event.row.record and not event.restored:
                self.took.append((event.row.record.seconds.get("total", 0.0), event.row.is_baseline))
            self.now.pop(event.row.label, None)

    @property
    def best(self) -> Row | None:
        whole = [row for row in self.rows if row.state == "complete"]
        feasible = [row for row in whole if row.value is not None and row.record and row.record.feasible]
        return max(feasible, key=lambda row: row.value or 0.0, default=None)

    @property
    def share(self) -> float:
        """Of the stage, in [0, 1]."""
        if self.stage == "proving":
            return max(self.begun - 1, 0) / max(self.total, 1)
        if self.budget.trials is not None:
            return min(self.trials / self.budget.trials, 1.0)
        return min(self.seconds / (self.budget.seconds or 1.0), 1.0)

    @property
    def left(self) -> str:
        """Time left in the stage."""
        seconds: float | None = (self.budget.seconds or 0.0) - self.seconds
        if self.stage == "proving":
            pace = (time.monotonic() - self.stage_started) / max(self.begun - 1, 1)
            seconds = pace * (self.total - self.begun + 1) if self.begun > 1 else None
        elif self.budget.trials is not None:
            known = self._pace()
            seconds = None if known is None else known * (self.budget.trials - self.trials)
        return "…" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

    def _pace(self) -> float | None:
        """Seconds from one candidate's end to the next one's, as they were of late."""
        proposals = [seconds for seconds, baseline in self.took if not baseline]
        known = proposals if len(proposals) >= ENOUGH else [seconds for seconds, _ in self.took]
        return median(known[-PACE:]) / self.workers if known else None


class LiveScreen:
    """Baselines, the latest proposals, the best so far, progress and time left; drawn in place."""

    def __init__(self, plan: Plan, budget: Budget, console: Console, workers: int = 1) -> None:
        self.state = _State(plan, budget, workers)
        self.console = console
        self.live = Live(get_renderable=self._draw, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def listen(self, event: Event) -> None:
        self.state.take(event)

    def _draw(self) -> RenderableType:
        state = self.state
        config = state.plan.config
        gates = ", ".join(str(gate) for gate in config.gates) or "none"
        objective = " + ".join(f"{weight:g}·{skill}" for skill, weight in config.weights.items())
        head = Table.grid(padding=(0, 2))
        about = f"{config.name}: {', '.join(config.sources)} over one base, {' or '.join(config.methods)}"
        head.add_row("study", Text(about, style="bold"))
        head.add_row("objective", objective)
        head.add_row("gates", gates)
        if state.note:
            head.add_row("note", Text(state.note, style="yellow"))
        baselines = [row for row in state.rows if row.is_baseline]
        proposals = [row for row in state.rows if not row.is_baseline]
        shown = proposals[-RECENT:]
        best = state.best
        if best and best not in shown and best not in baselines:
            shown = [best, *shown[-(RECENT - 1) :]]
        table = trial_table([*baselines, *shown], list(config.skills))
        return Panel(Group(head, Text(), table, Text(), self._best(best), self._progress()), title="automerge search")

    def _best(self, best: Row | None) -> Text:
        if best is None or best.record is None:
            return Text("best so far: none meets the gates yet")
        text = Text("best so far: ").append(f"{best.label}, objective {best.value:.4f}", style="bold green")
        ahead = [
            row.value for row in self.state.rows if row.is_baseline and row.value and row.record and row.record.feasible
        ]
        if not best.is_baseline and ahead:
            text.append(f", {best.value - max(ahead):+.4f} to the best baseline")  # type: ignore[operator]
        return text.append(" (search items)")

    def _progress(self) -> RenderableType:
        state = self.state
        count = f"{state.trials}/{state.budget.trials}" if state.budget.trials is not None else f"{state.trials}"
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=state.share, width=30)
        stage = f"searching, {count} trials" if state.stage == "searching" else state.stage
        stage = f"proving on held-out items, {max(state.begun, 0)}/{state.total}" if stage == "proving" else stage
        now = [f"{label}: {part}" if part else label for label, part in list(state.now.items())] or [""]
        grid.add_row(Text(stage), bar, Text(f"{state.left} left"), Text(now[0], style="dim"))
        for other in now[1:]:
            grid.add_row("", "", "", Text(other, style="dim"))
        return grid


class PlainLines:
    """One line a finished candidate, for logs and pipes."""

    def __init__(self, plan: Plan, budget: Budget, console: Console, workers: int = 1) -> None:
        self.state = _State(plan, budget, workers)
        self.console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def listen(self, event: Event) -> None:
        self.state.take(event)
        if isinstance(event, Note):
            self._print(event.text)
        elif isinstance(event, Ended):
            self._print(self._line(event))
        elif isinstance(event, Stage) and event.name == "proving":
            self._print(f"proving {event.total} models on held-out items")
        elif isinstance(event, Began) and self.state.stage == "proving":
            self._print(f"  {self.state.begun}/{self.state.total} {event.label}")
        elif isinstance(event, Judgement):
            self._print(f"verdict: {event.verdict.outcome}")

    def _line(self, event: Ended) -> str:
        row, state = event.row, self.state
        total = f"/{state.budget.trials}" if state.budget.trials is not None else ""
        head = f"[{state.trials}{total}] {row.label}"
        if row.record is None or row.record.error:
            return f"{head}: failed: {row.record.error if row.record else ''}"
        scores = ", ".join(f"{name} {skill.mean:.4f}" for name, skill in row.record.skills.items())
        best = f"best {state.best.value:.4f} ({state.best.label})" if state.best else "best: none meets the gates"
        kept = "restored" if event.restored else f"{row.record.seconds['total']:.1f} s"
        if row.state == "stopped":
            return f"{head}: stopped: {row.record.stopped}; {kept}; {state.left} left"
        gates = gate_text(row.record.violations).plain
        return f"{head}: {row.value:.4f} = {scores}; gates {gates}; {kept}; {best}; {state.left} left"

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)
