"""Two normal distributions over one number, fitted to what was seen: how STEER tells hard steps from easy ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reasonweave.orchestrator.errors import BadInput


@dataclass(frozen=True)
class Mixture:
    """Two normal distributions over one number, the second with the higher mean: how STEER tells hard steps from easy ones.

    `fit` finds them by expectation-maximisation; `high(x)` is the posterior probability that x is of the second.
    """

    weights: tuple[float, float]
    means: tuple[float, float]
    deviations: tuple[float, float]

    @classmethod
    def fit(cls, values: Sequence[float], *, rounds: int = 200, tolerance: float = 1e-9) -> Mixture:
        """Maximum likelihood, from the lower and the upper half as a start. Raises `BadInput` for fewer than four numbers or
        numbers that are all alike."""
        x = np.array([v for v in values if math.isfinite(v)], dtype=np.float64)
        if len(x) < 4 or np.ptp(x) <= 0:
            raise BadInput(
                f"Mixture.fit: {len(x)} finite values that span {np.ptp(x) if len(x) else 0:g}; four that differ needed"
            )
        floor = 1e-3 * x.std()
        middle = np.median(x)
        low, high = (x[x < middle], x[x >= middle]) if (x < middle).any() else (x[x <= middle], x[x > middle])
        w = np.array([len(low), len(high)]) / len(x)
        mean = np.array([low.mean(), high.mean()])
        deviation = np.maximum(floor, [low.std(), high.std()])
        before = -np.inf
        for _ in range(rounds):
            logs = np.log(w) - np.log(deviation) - 0.5 * ((x[:, None] - mean) / deviation) ** 2
            top = logs.max(axis=1, keepdims=True)
            total = top[:, 0] + np.log(np.exp(logs - top).sum(axis=1))
            share = np.exp(logs - total[:, None])
            if total.sum() - before < tolerance * len(x):
                break
            before = total.sum()
            mass = np.maximum(share.sum(axis=0), 1e-9)
            w = mass / mass.sum()
            mean = (share * x[:, None]).sum(axis=0) / mass
            deviation = np.maximum(floor, np.sqrt((share * (x[:, None] - mean) ** 2).sum(axis=0) / mass))
        order = np.argsort(mean)
        found = [tuple(float(v) for v in part[order]) for part in (w, mean, deviation)]
        return cls(*found)  # type: ignore[arg-type]

    def high(self, x: float) -> float:
        """P(second component | x), x below the lower mean counting as that mean, so that it never falls; nan for nan."""
        if math.isnan(x) or x == math.inf:
            return math.nan if math.isnan(x) else 1.0
        x = max(x, self.means[0])
        logs = [
            math.log(w) - math.log(s) - 0.5 * ((x - m) / s) ** 2
            for w, m, s in zip(self.weights, self.means, self.deviations, strict=True)
        ]
        gap = logs[0] - logs[1]
        return 1 / (1 + math.exp(gap)) if gap < 700 else 0.0
