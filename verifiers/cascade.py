"""A cheap verifier first, an expensive one where the cheap one is unsure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute, is_relative, scored, span
from reasonweave.orchestrator.types import Candidate, Score, shown


@dataclass(frozen=True)
class Between:
    """Is a score above `low` and below `high`, so that it decides nothing?"""

    low: float = 0.2
    high: float = 0.8

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise BadInput(f"Between({self.low}, {self.high}): low must be below high")

    def __call__(self, value: float) -> bool:
        return self.low < value < self.high


@dataclass(frozen=True)
class Cascaded:
    """The cheap verifier's score where it is sure, the expensive one's where it is `unsure`, or could not judge.

    Their scores are compared with one another afterwards, so both have to mean the same: calibrate them (`CalibratedScore`) where
    they do not. Where the expensive one could not judge either, or the budget has no room for it, what the cheap one said stands.

    Costs: the cheap one's for every candidate, the expensive one's for those that it is unsure of.
    """

    cheap: Verifier
    expensive: Verifier
    unsure: Callable[[float], bool] = Between()

    __repr__ = shown

    def __post_init__(self) -> None:
        absolute(self.expensive, "Cascaded: the expensive one")

    @property
    def relative(self) -> bool:
        return is_relative(self.cheap)

    @property
    def lowest(self) -> float:
        return span(self.cheap, self.expensive)[0]

    @property
    def highest(self) -> float:
        return span(self.cheap, self.expensive)[1]

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        scores = await scored(self.cheap, candidates, run.child("cheap"))
        open_ = [i for i, s in enumerate(scores) if math.isnan(s.value) or self.unsure(s.value)]
        asked = scored(self.expensive, [candidates[i] for i in open_], run.child("expensive"))
        second = await afforded(asked, run) or [Score(math.nan, error="the budget has no room for it")] * len(open_)
        for i, score in zip(open_, second, strict=True):
            if not math.isnan(score.value):
                scores[i] = score
            elif math.isnan(scores[i].value):
                scores[i] = replace(scores[i], error="; ".join(filter(None, (scores[i].error, score.error))))
        return scores
