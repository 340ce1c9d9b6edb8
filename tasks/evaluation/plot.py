"""Accuracy against compute, as one PNG."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.errors import BadInput
from reasonweave.tasks.evaluation.summary import Summary

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front of (cost, accuracy) points: those that no cheaper or equal point matches, by cost.

    >>> front([(3, 0.5), (1, 0.4), (2, 0.7)])
    [(1, 0.4), (2, 0.7)]
    """
    kept: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


def pyplot() -> Any:
    """matplotlib for files. Raises `BadInput` without it (extra `plots`)."""
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise BadInput("a picture needs matplotlib: pip install 'reasonweave[plots]'") from None


def draw(summaries: Sequence[Summary], path: Path, title: str) -> None:
    """Accuracy with its 95 % interval against FLOPs a problem (log scale), the Pareto front as a line.

    Needs matplotlib (extra `plots`); raises `BadInput` without it.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 5), dpi=130)
    drawn = [s for s in summaries if s.n]
    points = [(s.flops_per_problem, 100 * s.accuracy) for s in drawn]
    line = front(points)
    axes.plot(*zip(*line, strict=True), color="#999999", linewidth=1.2, zorder=1, label="Pareto front")
    for i, (summary, (flops, accuracy)) in enumerate(zip(drawn, points, strict=True)):
        low, high = (100 * edge for edge in summary.interval)
        colour = COLOURS[i % len(COLOURS)]
        bars = [[accuracy - low], [high - accuracy]]
        axes.errorbar(
            [flops], [accuracy], yerr=bars, fmt="o", color=colour, capsize=4, markersize=7, label=summary.label
        )
    axes.set_xscale("log")
    axes.set_xlabel("FLOPs a problem  (2 · active parameters · (uncached prompt + completion tokens), all models)")
    axes.set_ylabel("accuracy, %  (95 % Wilson interval)")
    axes.set_title(title)
    axes.grid(True, which="both", alpha=0.25)
    axes.set_ylim(max(0, 100 * min(s.interval[0] for s in drawn) - 5), 101)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)  # beside the points, never on one
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
