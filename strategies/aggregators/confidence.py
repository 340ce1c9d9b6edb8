"""Votes by how sure a model was of its solutions: DeepConf's offline part."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from reasonweave.orchestrator.confidence import Measure, tail_confidence
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Candidates, shown
from reasonweave.strategies.aggregators.vote import by_weight


@dataclass(frozen=True)
class DeepConfVote:
    """DeepConf offline (Fu et al., 2025, arXiv 2508.15260): the surest solutions vote, each with its confidence for a weight.

    Of the solutions that answer, those stay whose measure is at or above the (1 − keep) quantile (linear between order
    statistics); `keep` 1 keeps all. With the published 0.1, ten solutions leave one to vote. The confidence is the share of the
    weight. Solutions that a watch cut never vote, nor do those of unknown confidence; where all are unknown, the majority of
    those that were not cut decides.
    """

    by: Measure = tail_confidence
    keep: float = 0.1
    __repr__ = shown

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise BadInput(f"DeepConfVote(keep={self.keep}): in 0..1 and above 0 is needed")

    def __call__(self, candidates: Candidates) -> Candidates:
        voters = [c for c in candidates if c.answer is not None and not c.cut]
        weights = [self.by(c) for c in voters]
        known = [weight for weight in weights if math.isfinite(weight)]
        bar = np.percentile(known, 100 * (1 - self.keep)) if known else math.inf
        kept = [weight if bar <= weight < math.inf else 0.0 for weight in weights]
        vote = by_weight(replace(candidates, items=tuple(voters)), [max(0.0, weight) for weight in kept])
        return replace(vote, items=candidates.items)
