"""How sure a candidate's author was of it, as a verifier: from log-probabilities that are paid for already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.confidence import (
    Measure,
    bottom_confidence,
    lowest_confidence,
    mean_confidence,
    self_certainty,
    tail_confidence,
)
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.signals import entropy, told, uncertainty
from reasonweave.orchestrator.types import Candidate, Score, shown


def probability(candidate: Candidate) -> float:
    """The geometric mean probability of a solution's tokens, in 0..1: 1 / perplexity. Needs log-probabilities only."""
    return math.exp(-uncertainty(*candidate.steps)) if candidate.steps else math.nan


def calm(candidate: Candidate) -> float:
    """exp(−mean entropy of the next-token distributions), in 0..1: 1 where the model was never in doubt."""
    if any(step.tokens and not step.told for step in candidate.steps):
        return math.nan
    values = [value for token in told(candidate.steps) if not math.isnan(value := entropy(token))]
    return math.exp(-math.fsum(values) / len(values)) if values else math.nan


MEASURES: dict[str, Measure] = {
    "probability": probability,
    "entropy": calm,
    "mean": mean_confidence,
    "tail": tail_confidence,
    "bottom": bottom_confidence,
    "lowest": lowest_confidence,
    "self-certainty": self_certainty,
}
"""The measures by the names that the command line takes. All but the first need the alternatives of each token."""


@dataclass(frozen=True)
class Confidence:
    """How sure the author was of what it wrote, by a measure of its tokens' probabilities.

    `of` is `probability` (1 / perplexity), `calm` (exp(−mean entropy)), one of DeepConf's confidences, `self_certainty`, or a
    function of one's own. `Score.steps` has the same measure of each step alone. A candidate whose steps did not keep what the
    measure reads is nan, and says so: all but `probability` need `Sample(…, top_logprobs=20)`.

    Costs: nothing.
    Needs: log-probabilities; alternatives (-S top_logprobs=20) for all measures but probability.
    """

    of: Measure = probability

    __repr__ = shown

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [self._score(candidate) for candidate in candidates]

    def _score(self, candidate: Candidate) -> Score:
        if math.isnan(value := self.of(candidate)):
            name = getattr(self.of, "__name__", repr(self.of))
            lacking = (
                "its steps have no log-probabilities" if self.of is probability else "its steps kept no alternatives"
            )
            return Score(math.nan, error=f"confidence: {name} cannot be read: {lacking} (top_logprobs=20 keeps them)")
        return Score(value, tuple(self.of(replace(candidate, steps=(step,))) for step in candidate.steps))
