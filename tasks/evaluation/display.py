"""Progress and tables for people: rich on a terminal, plain lines elsewhere, nothing on request."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from reasonweave.tasks.evaluation.records import Record
from reasonweave.tasks.evaluation.stats import wilson
from reasonweave.tasks.evaluation.summary import Summary, scaled


class Display(StrEnum):
    """How to show progress. `auto` is rich on a terminal, plain elsewhere."""

    auto = "auto"
    rich = "rich"
    plain = "plain"
    none = "none"


class Meter:
    """One bar (or line) a workflow: done, accuracy so far with its interval, tokens a second, time left."""

    def __init__(self, display: Display, console: Console) -> None:
        if display is Display.auto:
            display = Display.rich if console.is_terminal else Display.plain
        self.display, self.console = display, console
        self._bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=display is not Display.rich,
        )
        self._bar: TaskID | None = None
        self._label, self._total = "", 0
        self._began = self._said = time.monotonic()
        self._done = self._right = self._tokens = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, label: str, total: int) -> None:
        self._label, self._total = label, total
        self._began = self._said = time.monotonic()
        self._done = self._right = self._tokens = 0
        self._bar = self._bars.add_task(label, total=total, told="")

    def advance(self, record: Record) -> None:
        self._done += 1
        self._right += record.correct
        self._tokens += record.total.tokens
        low, high = wilson(self._right, self._done)
        rate = self._tokens / max(1e-9, time.monotonic() - self._began)
        told = f"{100 * self._right / self._done:5.1f} % [{100 * low:.0f}, {100 * high:.0f}]  {scaled(rate)} tok/s"
        if self._bar is not None:
            self._bars.update(self._bar, advance=1, told=told)
        last = self._done == self._total
        if self.display is Display.plain and (last or time.monotonic() - self._said > 5):
            self._said = time.monotonic()
            self.console.print(f"{self._label:<20} {self._done}/{self._total}  {told}", highlight=False, soft_wrap=True)


LAYOUTS = (
    ("n", "accuracy", "interval", "none", "models", "flops", "seconds"),
    ("n", "accuracy", "interval", "tokens", "flops", "seconds"),
    ("accuracy", "interval", "tokens"),
    ("accuracy",),
)
"""What the table shows, by how much room there is."""


def table(summaries: Sequence[Summary], title: str, width: int = 120) -> Table:
    """The summary table: accuracy with interval, tokens by model, FLOPs, seconds.

    Where `width` columns do not hold that, the models' tokens are added up and rarer figures left out, and it says so.
    """
    drawn = [_table(summaries, title, layout) for layout in LAYOUTS]
    probe = Console(width=1000)
    return next((each for each in drawn if probe.measure(each).minimum <= width), drawn[-1])


def _table(summaries: Sequence[Summary], title: str, layout: Sequence[str]) -> Table:
    models = sorted({model for summary in summaries for model in summary.usage})
    drawn = Table(
        title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False
    )
    drawn.caption = (
        "Accuracy with its 95 % Wilson interval. Tokens (prompt + completion) and FLOPs are means a problem; "
        "FLOPs = 2 · active parameters · (uncached prompt + completion tokens), reward model included."
    )
    if layout is not LAYOUTS[0]:
        drawn.caption += " Tokens by model and the rest are in a wider terminal, in --json and in the records."
    heads = {"interval": "95 %\ninterval", "none": "no\nanswer", "flops": "FLOPs"}
    names: list[str] = []
    for key in layout:
        names += [f"{model}\ntokens" for model in models] if key == "models" else [heads.get(key, key)]
    drawn.add_column("workflow", no_wrap=True)
    for name in names:
        drawn.add_column(name, justify="right", no_wrap=True)
    for s in summaries:
        low, high = s.interval
        cells = {
            "n": [str(s.n)],
            "accuracy": [f"{100 * s.accuracy:.1f} %" if s.n else "–"],
            "interval": [f"{100 * low:.1f}–{100 * high:.1f}" if s.n else "–"],
            "none": [str(s.no_answer)],
            "models": [f"{s.per_problem(model):,.0f}" if model in s.usage else "–" for model in models],
            "tokens": [f"{sum(map(s.per_problem, models)):,.0f}"],
            "flops": [scaled(s.flops_per_problem)],
            "seconds": [f"{s.seconds:.1f}"],
        }
        drawn.add_row(s.label, *(cell for key in layout for cell in cells[key]))
    return drawn


def stdout() -> Console:
    """A console for results: as wide as the terminal, and wide enough for a table where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=max(120, console.width))


def stderr() -> Console:
    """A console for what is not the result: progress and errors."""
    return Console(file=sys.stderr)
