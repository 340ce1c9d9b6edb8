"""Process reward models as verifiers: a score a step, and a reduction to one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from reasonweave.orchestrator.models.base import RewardModel
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Score, Step

Reduction: TypeAlias = Callable[[Sequence[float]], float]
"""From the step scores of a solution (at least one) to its value."""


def last(steps: Sequence[float]) -> float:
    """The last step's score: what a value-like reward model (one that judges the whole prefix) is read at."""
    return steps[-1]


def lowest(steps: Sequence[float]) -> float:
    """The lowest step score: a chain is as strong as its weakest step (Lightman et al., 2023, compare it with the product)."""
    return min(steps)


def product(steps: Sequence[float]) -> float:
    """The product of the step scores: the probability that all are right, were they independent."""
    return math.prod(steps)


def average(steps: Sequence[float]) -> float:
    """The mean of the step scores."""
    return math.fsum(steps) / len(steps)


REDUCTIONS: dict[str, Reduction] = {"last": last, "lowest": lowest, "product": product, "average": average}
"""The reductions by the names that the command line takes."""


@dataclass(frozen=True)
class ProcessReward:
    """A served process reward model as a verifier. `reduce` makes one value of the step scores; `Score.steps` keeps them. Steps
    that a model was not shown, because they did not fit (`ServerRewardModel(shorten=True)`), are nan there and count for nothing.

    The default, the product, suits models that judge each step for itself (Lightman et al., 2023); for one that judges the
    whole prefix at each step, take `last`.
    """

    model: RewardModel
    reduce: Reduction = product

    def __repr__(self) -> str:
        return f"ProcessReward({self.model!r}, {getattr(self.reduce, '__name__', None) or repr(self.reduce)})"

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [self._reduced(score) for score in await self.model.rate(candidates, run)]

    def _reduced(self, score: Score) -> Score:
        known = [step for step in score.steps if not math.isnan(step)]
        return replace(score, value=self.reduce(known)) if known and not math.isnan(score.value) else score


@dataclass(frozen=True)
class PrefixReward:
    """A process reward model asked once about all that is written: the steps become one, with one tag at its end.

    Called "model" aggregation where particle filtering was introduced (Puri et al., 2025). It suits models that judge a whole
    prefix at a tag. The value is that one reward; there are no step scores.
    """

    model: RewardModel

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        merged = [
            replace(c, steps=(Step(" ".join(c.text.split()), "", c.tokens),)) if c.text.strip() else c
            for c in candidates
        ]
        return [replace(score, steps=()) for score in await self.model.rate(merged, run)]
