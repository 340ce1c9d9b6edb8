"""How a search is told: a line a trial, a table of the front with both of its figures, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from reasonweave.orchestrator.space import Space
from reasonweave.tasks.evaluation.display import Display, plain
from reasonweave.tasks.evaluation.plot import COLOURS, pyplot
from reasonweave.tasks.evaluation.summary import scaled
from reasonweave.tasks.tuning.front import HALF, Entry, Report, pareto
from reasonweave.tasks.tuning.outcomes import Difference, Figures
from reasonweave.tasks.tuning.study import Tried, shown, varied

UNITS = {"flops": "FLOPs", "tokens": "tokens", "usd": "usd", "seconds": "seconds"}


class Lines:
    """A line a trial on a console, and on a terminal a bar for what is measured now."""

    def __init__(self, display: Display, console: Console, space: Space, cost: str, wanted: int) -> None:
        self.display, self.console, self.space, self.cost, self.wanted = display, console, space, cost, wanted
        live = display is Display.rich or (display is Display.auto and console.is_terminal)
        self._bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            console=console,
            transient=True,
            disable=not live,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, label: str, total: int) -> None:
        if self._bar is not None:
            self._bars.remove_task(self._bar)
        self._bar = self._bars.add_task(label, total=total)

    def tick(self) -> None:
        if self._bar is not None:
            self._bars.advance(self._bar)

    def ended(self, trial: Tried, figures: Figures | None, why: str, total: int) -> None:
        options = shown(varied(self.space, trial.options)) or "the defaults"
        if figures is None:
            self.say(f"{total:>3}/{self.wanted}  {trial.name:<4} cannot be run: {why}  [{options}]")
            return
        told = f"{figures.n:>4} problems  {100 * figures.accuracy:5.1f} %  {money(figures.cost, self.cost)}"
        self.say(f"{total:>3}/{self.wanted}  {trial.name:<4} {told}  {why + '  ' if why else ''}[{options}]")

    def scored(self, label: str, figures: Figures) -> None:
        self.say(f"{label}: {100 * figures.accuracy:.1f} %  {money(figures.cost, self.cost)}")

    def say(self, text: str) -> None:
        if self.display is not Display.none:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def money(value: float, cost: str) -> str:
    """A cost with its unit.

    >>> money(1234567.0, "flops"), money(0.00213, "usd"), money(812.4, "tokens")
    ('1.23 M FLOPs', '0.00213 usd', '812 tokens')
    """
    if cost in ("usd", "seconds"):
        return f"{value:.3g} {UNITS[cost]}"
    return f"{scaled(value)} {UNITS[cost]}" if cost == "flops" else f"{value:,.0f} {UNITS[cost]}"


def table(report: Report) -> Table:
    """Each entry of the front with what it scored where it was chosen and where it was not, then the baselines."""
    drawn = plain(f"{report.task}, front of {len(report.trials)} workflows, seed {report.seed}")
    unit = UNITS[report.cost]
    drawn.caption = (
        f"Accuracy with its 95 % Wilson interval; {unit} are means a problem, as a run of its own would be charged. "
        + (
            f"Against {report.reference}: points of accuracy more on the same problems, with a paired 95 % bootstrap interval, "
            "and the share of its cost. "
            if report.reference
            else ""
        )
        + "↓: lower held out than on the problems that the search chose by. *: on the front of the held-out problems too."
    )
    drawn.add_column("workflow", no_wrap=True)
    for name in ("search", "95 %\ninterval", f"\n{unit}", "held\nout", "", "95 %\ninterval", f"\n{unit}"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for name in ("points", "95 %\ninterval", "cost") if report.reference else ():
        drawn.add_column(name, justify="right", no_wrap=True)
    for entry in report.front:
        drawn.add_row(entry.name + ("*" if entry.name in report.held_front else ""), *_cells(entry, report))
    if report.front and report.baselines:
        drawn.add_section()
    for entry in report.baselines:
        drawn.add_row(entry.name, *_cells(entry, report))
    return drawn


def _cells(entry: Entry, report: Report) -> list[str]:
    lower = entry.drop is not None and entry.drop > 0
    cells = [*_scored(entry.search), *_scored(entry.held_out)]
    cells.insert(4, "↓" if lower else "")
    return [*cells, *(_compared(entry.held_against) if report.reference else [])]


def _scored(figures: Figures | None) -> list[str]:
    if figures is None or not figures.n:
        return ["–", "–", "–"]
    low, high = figures.interval
    cost = scaled(figures.cost) if figures.cost >= 1000 else f"{figures.cost:.3g}"
    return [f"{100 * figures.accuracy:.1f} %", f"{100 * low:.1f}–{100 * high:.1f}", cost]


def _compared(found: Difference | None) -> list[str]:
    if found is None:
        return ["–", "–", "–"]
    low, high = found.interval
    return [f"{100 * found.accuracy:+.1f}", f"{100 * low:+.1f}…{100 * high:+.1f}", f"{found.cost:.2f}×"]


def options_of(report: Report, space: Space) -> list[str]:
    """A line an entry: its options, those first that are not at their defaults."""
    lines = []
    for entry in report.front:
        changed = varied(space, entry.options)
        rest = {axis.name: entry.options[axis.name] for axis in space.axes if axis.name not in changed}
        told = shown(changed) or "the defaults"
        lines.append(f"{entry.name:<5} {told}" + (f"  ({shown(rest)})" if rest and changed else ""))
    return lines


def verdict(report: Report) -> str | None:
    """What the search would take for half of what the reference costs, and how that does on the held-out problems."""
    reference = next((b for b in report.baselines if b.name == report.reference), None)
    if reference is None or reference.held_out is None:
        return None
    best = report.best_for_half
    if best is None or best.held_against is None or best.held_out is None:
        return f"no entry of the front costs {HALF:.0%} of {reference.name} or less"
    found, (low, high) = best.held_against, best.held_against.interval
    if low > 0:
        told = "more accurate"
    elif high < 0:
        told = "less accurate"
    else:
        told = "no less accurate" if found.accuracy >= 0 else "less accurate by a difference that may be chance"
    scores = f"{100 * best.held_out.accuracy:.1f} % against {100 * reference.held_out.accuracy:.1f} %"
    points = f"{100 * found.accuracy:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"held out, {best.name} at {found.cost:.2f} of the cost of {reference.name} is {told}: {scores}, {points}"


def draw(report: Report, path: Path, problems: int) -> None:
    """All trials faint, the front as a line, its entries on the held-out problems with error bars, the baselines.

    `problems` is how many the search has: trials that did not get to all of them are hollow. Needs matplotlib (extra `plots`);
    raises `BadInput` without it.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9, 5.5), dpi=130)
    whole = [t for t in report.trials if t.figures.n == problems]
    begun = [t for t in report.trials if t.figures.n != problems]
    for trials, face, label in (
        (begun, "none", "trials that ended early"),
        (whole, "#BBBBBB", "trials, search problems"),
    ):
        if trials:
            x, y = [t.figures.cost for t in trials], [100 * t.figures.accuracy for t in trials]
            axes.scatter(x, y, s=22, facecolors=face, edgecolors="#BBBBBB", linewidths=1, label=label, zorder=2)
    searched = [(e.search.cost, 100 * e.search.accuracy) for e in report.front if e.search]
    if searched:
        line = {"color": "#999999", "linewidth": 1.2, "linestyle": "--", "zorder": 1}
        axes.plot(*zip(*searched, strict=True), drawstyle="steps-post", label="front, search problems", **line)
    _bars(axes, report.front, COLOURS[0], "o", "front, held out")
    _named(axes, report.front)
    for i, entry in enumerate(report.baselines):
        _bars(axes, [entry], COLOURS[1 + i % (len(COLOURS) - 1)], "s", f"{entry.name}, held out")
    axes.set_xscale("log")
    axes.set_xlabel(f"{UNITS[report.cost]} a problem, mean")
    axes.set_ylabel("accuracy, %  (95 % Wilson interval)")
    axes.set_title(f"{report.task}, {len(report.trials)} workflows tried, seed {report.seed}")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def _bars(axes: object, entries: Sequence[Entry], colour: str, marker: str, label: str) -> None:
    found = [e.held_out for e in entries if e.held_out is not None and e.held_out.n]
    if not found:
        return
    x, y = [f.cost for f in found], [100 * f.accuracy for f in found]
    edges = [[100 * abs(f.accuracy - f.interval[side]) for f in found] for side in (0, 1)]
    axes.errorbar(  # type: ignore[attr-defined]
        x, y, yerr=edges, fmt=marker, color=colour, capsize=3, markersize=5, elinewidth=1, label=label, zorder=3
    )


def _named(axes: object, entries: Sequence[Entry]) -> None:
    """The names beside those points that are on the held-out front too."""
    found = [(e.name, e.held_out) for e in entries if e.held_out is not None and e.held_out.n]
    for i in pareto([(f.cost, f.accuracy) for _, f in found]):
        name, figures = found[i]
        at = (figures.cost, 100 * figures.accuracy)
        axes.annotate(name, at, textcoords="offset points", xytext=(5, 4), fontsize=8)  # type: ignore[attr-defined]
