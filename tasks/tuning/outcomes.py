"""What workflows made of problems, one line each, kept so that nothing is measured twice."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Usage
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.stats import bootstrap_mean, wilson

COSTS = ("flops", "tokens", "usd", "seconds")
"""What a problem may cost: 2 · active parameters · (uncached prompt + completion) tokens; prompt and completion tokens; money;
wall time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One problem: was the answer right, was there one, and what did it cost (by the names in `COSTS`)?"""

    right: bool
    answered: bool
    costs: Mapping[str, float]
    limited: bool = False
    error: str | None = None

    @classmethod
    def of(
        cls, *, right: bool, answered: bool, usage: Usage, seconds: float, limited: bool, error: str | None
    ) -> Outcome:
        costs = {"flops": usage.flops, "tokens": usage.tokens, "usd": usage.usd, "seconds": round(seconds, 4)}
        return cls(right, answered, costs, limited, error)

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> Outcome:
        costs = {name: float(line[name]) for name in COSTS}
        return cls(bool(line["right"]), bool(line["answered"]), costs, bool(line.get("limited", False)))


def problem_key(example: Example) -> str:
    """A problem by its words: ids need not differ."""
    return blake2b(example.problem.prompt.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that only grows; one at its end that is not whole (the process was killed) is cut off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return whole.splitlines()


class Outcomes:
    """All outcomes of a study, by workflow (a fingerprint) and problem. Written as they come, but for failures: a server that was
    down for an hour is no property of a workflow, and a study that goes on tries again.

    Raises `BadInput`, with the line's number, for a file that is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, dict[str, Outcome]] = {}
        for number, line in enumerate(whole_lines(path), 1):
            try:
                found = json.loads(line)
                self._known.setdefault(found["workflow"], {})[found["problem"]] = Outcome.read(found)
            except (ValueError, KeyError, TypeError):
                raise BadInput(f"{path}, line {number}: no outcome of a problem; remove the line") from None
        self._file = path.open("ab")

    def get(self, workflow: str, example: Example) -> Outcome | None:
        return self._known.get(workflow, {}).get(problem_key(example))

    def of(self, workflow: str, examples: Sequence[Example]) -> list[Outcome] | None:
        """The outcomes of these problems, in their order; None where one is missing."""
        known = self._known.get(workflow, {})
        found = [known.get(problem_key(example)) for example in examples]
        return None if None in found else [outcome for outcome in found if outcome is not None]

    def add(self, workflow: str, example: Example, outcome: Outcome) -> None:
        key = problem_key(example)
        self._known.setdefault(workflow, {})[key] = outcome
        if outcome.error is not None:
            return
        line: dict[str, Any] = {"workflow": workflow, "problem": key, "id": example.problem.id}
        line |= {"right": outcome.right, "answered": outcome.answered, **outcome.costs}
        line |= {"limited": True} if outcome.limited else {}
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Figures:
    """What a workflow scored on a set of problems: `cost` is the mean a problem, `interval` Wilson's 95 %."""

    n: int
    right: int
    cost: float
    errors: int = 0
    limited: int = 0

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], cost: str) -> Figures:
        n = len(outcomes)
        mean = sum(outcome.costs[cost] for outcome in outcomes) / n if n else 0.0
        errors, limited = sum(o.error is not None for o in outcomes), sum(o.limited for o in outcomes)
        return cls(n, sum(o.right for o in outcomes), mean, errors, limited)

    @property
    def accuracy(self) -> float:
        return self.right / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.n)

    @property
    def data(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "cost": self.cost,
            "errors": self.errors,
            "stopped_by_budget": self.limited,
        }


@dataclass(frozen=True)
class Difference:
    """How much more accurate one workflow is than another on the same problems, with a 95 % interval: a bootstrap over problems
    (paired); where no problem tells them apart, of which a bootstrap learns nothing, Wilson's for none of so many. `cost` is what
    it costs as a share of the other."""

    accuracy: float
    interval: tuple[float, float]
    cost: float

    @classmethod
    def of(cls, own: Sequence[Outcome], other: Sequence[Outcome], cost: str) -> Difference:
        each = [float(a.right) - float(b.right) for a, b in zip(own, other, strict=True)]
        spent = sum(o.costs[cost] for o in other)
        share = sum(o.costs[cost] for o in own) / spent if spent else float("nan")
        most = wilson(0, len(each))[1]
        interval = bootstrap_mean(each, draws=2000) if any(each) else (-most, most)
        return cls(sum(each) / len(each), interval, share)

    @property
    def data(self) -> dict[str, Any]:
        return {"accuracy": self.accuracy, "interval": list(self.interval), "cost_ratio": self.cost}
