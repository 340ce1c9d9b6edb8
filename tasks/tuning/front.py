"""The Pareto front, and how it is saved: workflows that run by name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.registry import file_of, is_file, is_saved
from reasonweave.tasks.tuning.outcomes import Difference, Figures

FORM = 1
HALF = 0.5
"""The share of the reference's cost that the last line of a report asks about."""


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the (cost, accuracy) points that none is better than, by cost: none is as cheap and as accurate, and better
    in one of them. Of equal points the first.

    >>> pareto([(3.0, 0.5), (1.0, 0.4), (2.0, 0.7), (2.0, 0.7)])
    [1, 2]
    """
    kept: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not kept or points[i][1] > points[kept[-1]][1]:
            kept.append(i)
    return kept


@dataclass(frozen=True)
class Entry:
    """A workflow with what it scored on the problems that it was chosen by, and on those held out (None: not measured).

    `against` and `held_against` compare it with the report's reference on the same problems.
    """

    name: str
    options: Mapping[str, Any]
    search: Figures | None = None
    held_out: Figures | None = None
    against: Difference | None = None
    held_against: Difference | None = None
    workflow: str | None = None
    """What a baseline is; None for the tuned workflow."""

    @property
    def drop(self) -> float | None:
        """How much lower the held-out accuracy is; negative where it is higher, None where one is not known."""
        if self.search is None or self.held_out is None or not self.held_out.n:
            return None
        return self.search.accuracy - self.held_out.accuracy

    @property
    def data(self) -> dict[str, Any]:
        figures = {"search": self.search, "held_out": self.held_out}
        against = {"search": self.against, "held_out": self.held_against}
        return {
            "name": self.name,
            **({"workflow": self.workflow} if self.workflow else {}),
            "options": dict(self.options),
            **{split: found and found.data for split, found in figures.items()},
            "against": {split: found.data for split, found in against.items() if found},
        }


@dataclass(frozen=True)
class Trial:
    """One trial as the picture shows it: what it scored on the problems of the highest rung that it reached."""

    name: str
    options: Mapping[str, Any]
    figures: Figures


@dataclass(frozen=True)
class Report:
    """What a study found."""

    workflow: str
    task: str
    cost: str
    seed: int
    budget: str
    models: Mapping[str, str]
    front: Sequence[Entry]
    baselines: Sequence[Entry]
    trials: Sequence[Trial]
    reference: str | None = None
    """The baseline that entries are compared with: the most accurate one on the problems of the search."""
    varied: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=list)

    @property
    def best_for_half(self) -> Entry | None:
        """The entry that the search would take for at most half of what the reference costs."""
        affordable = [e for e in self.front if e.held_against and e.search and e.held_against.cost <= HALF]
        return max(affordable, key=lambda e: e.search.accuracy if e.search else 0.0, default=None)

    @property
    def held_front(self) -> set[str]:
        """The entries that are on the front of the held-out problems too."""
        known = [(e.name, e.held_out) for e in self.front if e.held_out is not None and e.held_out.n]
        return {known[i][0] for i in pareto([(f.cost, f.accuracy) for _, f in known])}

    def data(self, beside: Path | None = None) -> dict[str, Any]:
        """As JSON holds it. `beside` is the folder that the file lies in: a workflow in a Python file is found from there too,
        where its own path is gone."""
        relative = None
        if beside is not None and (is_file(self.workflow) or is_saved(self.workflow)):
            path = str(file_of(self.workflow))
            relative = os.path.relpath(path, beside.resolve()) + self.workflow.removeprefix(path)
        best = self.best_for_half
        return {
            "event": "front",
            "form": FORM,
            "workflow": self.workflow,
            "beside": relative,
            "task": self.task,
            "cost": self.cost,
            "seed": self.seed,
            "budget": self.budget,
            "models": dict(self.models),
            "reference": self.reference,
            "best_for_half": best and best.name,
            "entries": [entry.data for entry in self.front],
            "baselines": [entry.data for entry in self.baselines],
            "trials": [{"name": t.name, "options": dict(t.options), "search": t.figures.data} for t in self.trials],
            "notes": list(self.notes),
        }

    def save(self, path: Path) -> None:
        """Write the front down, in one go: a kill leaves the old one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(self.data(path.parent), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        new.replace(path)
