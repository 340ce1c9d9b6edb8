"""From records to the figures of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.types import Usage
from reasonweave.tasks.evaluation.confidence import Confidence
from reasonweave.tasks.evaluation.records import Record
from reasonweave.tasks.evaluation.stats import wilson


@dataclass(frozen=True, slots=True)
class Summary:
    """One workflow's results. `seconds` is the wall time of all problems together; `usage` the sums by model; `no_answer` leaves
    out abstentions, which `confidence` counts."""

    label: str
    n: int
    right: int
    no_answer: int
    errors: int
    first_error: str | None
    limited: int
    usage: dict[str, Usage]
    seconds: float
    confidence: Confidence | None = None
    cut: int = 0
    """Tokens written in samples that were ended early."""
    saved: int = 0
    """The most that ending them can have saved."""

    @classmethod
    def of(cls, label: str, records: Sequence[Record], seconds: float) -> Summary:
        usage: dict[str, Usage] = {}
        for record in records:
            for model, spent in record.model_usage.items():
                usage[model] = usage.get(model, Usage()) + spent
        return cls(
            label=label,
            n=len(records),
            right=sum(r.correct for r in records),
            no_answer=sum(r.answer is None and not r.abstained for r in records),
            errors=sum(r.error is not None for r in records),
            first_error=next((r.error for r in records if r.error is not None), None),
            limited=sum(r.limit is not None for r in records),
            usage=usage,
            seconds=seconds,
            confidence=Confidence.of(records),
            cut=sum(r.cut.completion for r in records if r.cut),
            saved=sum(r.saved.completion for r in records if r.saved),
        )

    @property
    def accuracy(self) -> float:
        return self.right / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Wilson."""
        return wilson(self.right, self.n)

    @property
    def total(self) -> Usage:
        return Usage.total(list(self.usage.values()))

    def per_problem(self, model: str) -> float:
        """Tokens of one model a problem, prompt and completion."""
        return self.usage[model].tokens / self.n if model in self.usage and self.n else 0.0

    @property
    def flops_per_problem(self) -> float:
        return self.total.flops / self.n if self.n else 0.0


def scaled(value: float) -> str:
    """A large number in three figures and a prefix.

    >>> scaled(1234567), scaled(950), scaled(0)
    ('1.23 M', '950', '0')
    """
    for limit, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:.3g}"
