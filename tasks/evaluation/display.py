"""Progress and tables for people: rich on a terminal, plain lines elsewhere, nothing on request."""

from __future__ import annotations

import math
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

from reasonweave.tasks.evaluation.confidence import LAMBDAS, Confidence
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
    return _fitting([_table(summaries, title, layout) for layout in LAYOUTS], width)


def plain(title: str) -> Table:
    """An empty table in the style of all of them."""
    return Table(
        title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False
    )


def _fitting(drawn: Sequence[Table], width: int) -> Table:
    """The first table that fits, else the last."""
    probe = Console(width=1000)
    return next((each for each in drawn if probe.measure(each).maximum <= width), drawn[-1])


CONFIDENCE = {
    "n": ("n", "n answers with a known confidence"),
    "ece": ("ECE", "ECE, their calibration error in 10 bins"),
    "interval": ("95 %\ninterval", "with a bootstrap interval"),
    "brier": ("Brier", "Brier score"),
    "half": ("surest\nhalf", "accuracy of the surest half"),
    "coverage": ("coverage\nat 5 %", "share of all problems that a threshold answers with 5 % wrong, in hindsight"),
    "answered": ("right of\nanswered", "accuracy of what was answered"),
    "abstained": ("abs-\ntained", "abstentions"),
    "utility": ("", "utility, right − λ · wrong a problem"),
}
"""The columns of the table of confidences: what stands above each, and what the caption says of it."""
CONFIDENCE_LAYOUTS = (
    tuple(CONFIDENCE),
    ("n", "ece", "brier", "half", "coverage", "answered", "abstained", "utility"),
    ("n", "ece", "half", "coverage", "answered", "abstained"),
    ("ece", "half", "coverage", "answered", "abstained"),
    ("ece", "half", "abstained"),
    ("ece",),
)
"""What it shows, by how much room there is."""


def confidence_table(summaries: Sequence[Summary], width: int = 120) -> Table | None:
    """What the workflows' confidences were worth; None where none has any. Fitted to `width` columns as `table` is."""
    told = [(s.label, s.confidence) for s in summaries if s.confidence is not None]
    return _fitting([_confidences(told, layout) for layout in CONFIDENCE_LAYOUTS], width) if told else None


def _confidences(told: Sequence[tuple[str, Confidence]], layout: Sequence[str]) -> Table:
    drawn = plain("confidence")
    drawn.caption = "; ".join(CONFIDENCE[key][1] for key in layout).replace("; with", ", with") + "."
    if layout is not CONFIDENCE_LAYOUTS[0]:
        drawn.caption += " The rest is in a wider terminal and in --json."
    drawn.add_column("workflow", no_wrap=True)
    for key in layout:
        for name in [f"λ = {lam}" for lam in LAMBDAS] if key == "utility" else [CONFIDENCE[key][0]]:
            drawn.add_column(name, justify="right", no_wrap=True)
    for label, c in told:
        cells = {
            "n": [str(c.known)],
            "ece": [_figure(c.ece, "{:.3f}")],
            "interval": ["–".join(_figure(edge, "{:.2f}") for edge in c.ece_interval)],
            "brier": [_figure(c.brier, "{:.3f}")],
            "half": [_figure(100 * c.surest_half, "{:.1f} %")],
            "coverage": [f"{100 * c.coverage:.1f} %"],
            "answered": [_figure(100 * c.accuracy, "{:.1f} %")],
            "abstained": [str(c.abstained)],
            "utility": [f"{c.utility[lam]:.2f}" for lam in LAMBDAS],
        }
        drawn.add_row(label, *(cell for key in layout for cell in cells[key]))
    return drawn


def _figure(value: float, form: str) -> str:
    return "–" if math.isnan(value) else form.format(value)


def _table(summaries: Sequence[Summary], title: str, layout: Sequence[str]) -> Table:
    models = sorted({model for summary in summaries for model in summary.usage})
    drawn = plain(title)
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
