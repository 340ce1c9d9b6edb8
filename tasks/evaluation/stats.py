"""The statistics that the tables print."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from reasonweave.orchestrator.types import FloatArray, IntArray

BoolArray = NDArray[np.bool_]


def wilson(right: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson, 1927): right successes in n trials; (0, 1) for no trial.

    >>> [round(edge, 3) for edge in wilson(8, 10)]
    [0.49, 0.943]
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p, shrink = right / n, 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / shrink
    return max(0.0, middle - half), min(1.0, middle + half)


def auc(scores: Sequence[float] | FloatArray, labels: Sequence[bool] | BoolArray) -> float:
    """Area under the ROC curve: the chance that a random positive outscores a random negative, ties counting half
    (the Mann–Whitney statistic). nan where one class is missing.

    >>> auc([0.9, 0.4, 0.4, 0.1], [True, True, False, False])
    0.875
    """
    values, right = np.asarray(scores, dtype=float), np.asarray(labels, dtype=bool)
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        return math.nan
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[right].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_interval(
    scores: Sequence[float], labels: Sequence[bool], groups: Sequence[int], *, draws: int = 500, seed: int = 0
) -> tuple[float, float]:
    """A 95 % bootstrap interval for the AUC, resampling whole groups (the problems that steps belong to)."""
    values, right = np.asarray(scores, float), np.asarray(labels, bool)
    return bootstrap(lambda rows: auc(values[rows], right[rows]), groups, draws=draws, seed=seed)


def bootstrap(
    statistic: Callable[[IntArray], float],
    groups: Sequence[Hashable] | IntArray,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap interval (Efron, 1979) that draws whole groups: `groups` names the problem of each row.

    `statistic` is given the indices of the rows drawn; draws in which it is nan do not count. (nan, nan) where none does.

    >>> values = np.array([1.0, 2.0, 3.0, 4.0])
    >>> bootstrap(lambda rows: values[rows].max(), ["a", "a", "b", "b"])
    (2.0, 4.0)
    """
    members = _members(groups)
    n, rng = len(members), np.random.default_rng(seed)
    even = np.stack(members) if len({len(rows) for rows in members}) == 1 else None
    found = []
    for _ in range(draws if n else 0):
        picked = rng.integers(0, n, n)
        found.append(statistic(np.concatenate([members[i] for i in picked]) if even is None else even[picked].ravel()))
    return _percentiles(np.array(found, dtype=np.float64), level)


def bootstrap_mean(
    values: Sequence[float] | FloatArray,
    groups: Sequence[Hashable] | IntArray | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """`bootstrap` of the mean of values, all draws at once. Without `groups` each value is one of its own.

    The same seed and groups draw the same, so that differences of workflows on the same problems may be given as values.
    """
    numbers = np.asarray(values, dtype=np.float64)
    owner = np.arange(len(numbers)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, counts = np.bincount(owner, weights=numbers), np.bincount(owner)
    n = len(counts)
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws) if n else np.zeros((0, 0))
    return _percentiles((times @ sums) / (times @ counts), level)


def _members(groups: Sequence[Hashable] | IntArray) -> list[IntArray]:
    """The rows of each group."""
    found: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        found.setdefault(group, []).append(row)
    return [np.array(rows) for rows in found.values()]


def _percentiles(found: FloatArray, level: float) -> tuple[float, float]:
    known = found[~np.isnan(found)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.percentile(known, [50 - 50 * level, 50 + 50 * level])
    return float(low), float(high)
