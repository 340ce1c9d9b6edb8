"""Resampling: from weights to the indices of those that live on, and how many times."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from reasonweave.orchestrator.types import FloatArray, IntArray

Resampler: TypeAlias = Callable[[FloatArray, int, np.random.Generator], IntArray]
"""Draws n indices from normalised weights of shape (m,), in ascending order, index i n · weights[i] times on average. An index of
weight zero is never drawn."""


def multinomial(weights: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """n independent draws: the resampling of particle filtering as published (Puri et al., 2025), and of the highest variance."""
    return _at(np.sort(rng.random(n)), weights)


def stratified(weights: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """One draw from each of n equal strata of the cumulative weights (Kitagawa, 1996)."""
    return _at((np.arange(n) + rng.random(n)) / n, weights)


def systematic(weights: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """One uniform u for all strata: the points (k + u) / n (Carpenter et al., 1999). Index i is drawn ⌊n wᵢ⌋ or ⌈n wᵢ⌉ times."""
    return _at((np.arange(n) + rng.random()) / n, weights)


def residual(weights: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """⌊n wᵢ⌋ copies of each index for certain, and independent draws from what is left over (Liu & Chen, 1998)."""
    expected = n * weights / weights.sum()
    sure = np.floor(expected + 1e-9).astype(np.int64)
    missing = n - int(sure.sum())
    if missing > 0:
        left = np.maximum(expected - sure, 0.0)
        left[left < 1e-9] = 0.0
        sure += np.bincount(multinomial(left, missing, rng), minlength=len(weights))
    return np.repeat(np.arange(len(weights)), sure)


def _at(points: FloatArray, weights: FloatArray) -> IntArray:
    """The indices at these points, in 0..1 and below 1, of the cumulative weights.

    The sum is renormalised and searched from the right, so that a weight of zero is never met, also where rounding leaves the
    sum off one or a point at an edge.
    """
    edges = np.cumsum(weights)
    found = np.searchsorted(edges / edges[-1], points, side="right")
    return np.asarray(np.minimum(found, np.flatnonzero(weights)[-1]), dtype=np.int64)
