"""Reward-guided speculative decoding (RSD; Liao et al., ICML 2025, arXiv 2501.19324), and the weightings of its theory.

A draft step y of the small model with reward r stays with probability ω(r); otherwise the large model writes the step. So the
step's distribution is ω(r(y)) P_small(y) + ν P_large(y), with ν = 1 − E_small[ω(r)].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.types import DELIMITER
from reasonweave.strategies.policies.acceptors import Weighted, Weighting, also_sure
from reasonweave.strategies.policies.guard import Guard
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.policies.speculate import Speculate


@dataclass(frozen=True)
class Threshold:
    """1 at `delta` and above, 0 below: the paper's choice, and the best ω for a given share of large-model steps.

    >>> Threshold()(0.7), Threshold()(0.69)
    (1.0, 0.0)
    """

    delta: float = 0.7

    def __call__(self, reward: float) -> float:
        return float(reward >= self.delta)


@dataclass(frozen=True)
class Constant:
    """`p` whatever the reward: a mixture that does not look."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise BadInput(f"Constant(p={self.p}): a probability is in 0..1")

    def __call__(self, reward: float) -> float:
        return self.p


@dataclass(frozen=True)
class Clipped:
    """The reward itself, between `low` (0) and `high` (1).

    >>> Clipped()(-0.5), Clipped()(0.25), Clipped(0.5, 1)(0.75)
    (0.0, 0.25, 0.5)
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise BadInput(f"Clipped(low={self.low}, high={self.high}): low is below high")

    def __call__(self, reward: float) -> float:
        return min(1.0, max(0.0, (reward - self.low) / (self.high - self.low)))


@dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + e^−r): for rewards that are logits, centred on 0."""

    def __call__(self, reward: float) -> float:
        return _logistic(reward)


@dataclass(frozen=True)
class Logistic:
    """1 / (1 + e^−slope (r − middle)): a soft threshold.

    >>> Logistic(10, 0.7)(0.7)
    0.5
    """

    slope: float = 10.0
    middle: float = 0.7

    def __call__(self, reward: float) -> float:
        return _logistic(self.slope * (reward - self.middle))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def rsd(
    small: Model,
    large: Model,
    prm: Verifier,
    delta: float = 0.7,
    *,
    weighting: Weighting | None = None,
    sure: float = 0.0,
    repeats: int = 3,
    until: str = DELIMITER,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 512,
) -> StepPolicy:
    """The small model drafts each step; it stays where the reward model gives that step `delta` or more.

    `weighting` replaces the threshold: `Constant`, `Clipped`, `Sigmoid`, `Logistic`, or any function from a reward to a
    probability. The reward is that of the newest step, before any reduction. Greedy decoding is the paper's setting; with
    temperatures above 0, drafts and redos are sampled. With `sure` above 0 (not in the paper), drafts whose mean
    token probability is below it are redone without asking the reward model.
    """
    draft, target = (
        Sample(model, until=until, temperature=temperature, top_p=top_p, max_tokens=max_tokens)
        for model in (small, large)
    )
    return Guard(Speculate(draft, target, also_sure(Weighted(prm, weighting or Threshold(delta)), sure)), repeats)
