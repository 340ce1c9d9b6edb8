"""How sure a model was of a whole solution: token confidence (DeepConf) over all of it, its end, its groups, and self-certainty.

All of it is read off the alternatives that the steps keep (`Sample(…, top_logprobs=20)`). Of a solution without them, or with
them on some of its steps only, nothing is known: nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.signals import confidence, told
from reasonweave.orchestrator.types import Candidate, FloatArray, shown

Measure: TypeAlias = Callable[[Candidate], float]
"""From a candidate to how good, or how sure, it looks: higher is better; nan where that cannot be told."""

WINDOW = 2048
"""Tokens of a group, as published."""


def confidences(candidate: Candidate) -> FloatArray:
    """`confidence` of each token, in order, those without alternatives left out; none where a step did not keep its tokens."""
    if any(step.tokens and not step.told for step in candidate.steps):
        return np.empty(0)
    values = np.array([confidence(token) for token in told(candidate.steps)], dtype=np.float64)
    return values[~np.isnan(values)]


def mean_confidence(candidate: Candidate) -> float:
    """The mean of `confidence` over all tokens, in nats."""
    return _mean(confidences(candidate))


def tail_confidence(candidate: Candidate, window: int = WINDOW) -> float:
    """The mean over the last `window` tokens: how sure the model was when it came to its answer."""
    return _mean(confidences(candidate)[-_size(window) :])


def bottom_confidence(candidate: Candidate, window: int = WINDOW, share: float = 0.1) -> float:
    """The mean of the lowest `share` of the groups, a group being the mean over `window` tokens in a row; one group at least,
    and the mean over all tokens where there are no more than `window`."""
    means = groups(candidate, window)
    return _mean(np.sort(means)[: max(1, int(share * len(means)))])


def lowest_confidence(candidate: Candidate, window: int = WINDOW) -> float:
    """The lowest group: how sure the model was where it was least so."""
    means = groups(candidate, window)
    return float(means.min()) if len(means) else math.nan


def self_certainty(candidate: Candidate) -> float:
    """Self-certainty (Kang et al., 2025, arXiv 2502.18581), in nats: −(1 / nk) Σᵢ Σⱼ log(k · pᵢⱼ) over the n tokens.

    The published sum is over the whole vocabulary; here it is over the k alternatives told, as if these were all, which is exact
    only where they are. So the tail of the distribution does not count, in which most of the published sum is. With the same k at
    each token it is `mean_confidence` − log k, and ranks candidates as that does.
    """
    logs = [math.log(k) for t in told(candidate.steps) if (k := sum(p > -math.inf for _, p in t.top))]
    return mean_confidence(candidate) - math.fsum(logs) / len(logs) if logs else math.nan


def groups(candidate: Candidate, window: int) -> FloatArray:
    """The mean confidence of every `window` tokens in a row; of all tokens where there are no more; empty where nothing is
    known."""
    values, window = confidences(candidate), _size(window)
    if len(values) <= window:
        return np.array([values.mean()]) if len(values) else values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((sums[window:] - sums[:-window]) / window, dtype=np.float64)


@dataclass(frozen=True)
class Windowed:
    """A measure with its window: `Windowed(tail_confidence, 256)`."""

    of: Callable[[Candidate, int], float]
    window: int = WINDOW
    __repr__ = shown

    def __post_init__(self) -> None:
        _size(self.window)

    def __call__(self, candidate: Candidate) -> float:
        return self.of(candidate, self.window)


def _size(window: int) -> int:
    if window < 1:
        raise BadInput(f"window={window}: 1 token or more is needed")
    return window


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else math.nan
