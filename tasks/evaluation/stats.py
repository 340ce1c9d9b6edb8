"""The statistics that the tables print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


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


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
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
    values, right, owner = np.asarray(scores, float), np.asarray(labels, bool), np.asarray(groups)
    members = [np.flatnonzero(owner == group) for group in np.unique(owner)]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        picked = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        found.append(auc(values[picked], right[picked]))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)
