"""How verifier scores become the weights of particles: potentials of a prefix, two ways of weighing by them, temperatures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Candidate, FloatArray, IntArray
from reasonweave.strategies.searches.live import reward_of, value

EPSILON = 1e-7
"""Rewards are kept this far from 0 and 1 before their odds are taken, as in the published code."""

Potential: TypeAlias = Callable[[Candidate], float]
"""The log potential log G(prefix) of a scored candidate; −inf where it has no chance."""


def log_odds(candidate: Candidate) -> float:
    """log(r / (1 − r)) of the reward r in 0..1: what particle filtering as published weighs by (Puri et al., 2025)."""
    r = reward_of(candidate)
    if math.isnan(r):
        return -math.inf
    r = min(max(r, EPSILON), 1 - EPSILON)
    return math.log(r) - math.log1p(-r)


def log_reward(candidate: Candidate) -> float:
    """log r of the reward r, 0 or more: the posterior is then proportional to p(solution) · r(solution)."""
    r = reward_of(candidate)
    return math.log(r) if r > 0 else -math.inf


def raw(candidate: Candidate) -> float:
    """The score itself, for verifiers that give log-probabilities or energies."""
    return value(candidate)


@dataclass(frozen=True)
class Twist:
    """Twisted sequential Monte Carlo (Feng et al., 2025, arXiv 2410.01920): log ψ = ½ log V of a prefix, log V of a solution.

    V is the value of the prefix, the chance that it ends well. The square root is for steps that come from the language model
    itself, not from a twisted proposal; `power` = 1 is for those.
    """

    power: float = 0.5

    def __call__(self, candidate: Candidate) -> float:
        return log_reward(candidate) * (1.0 if candidate.done else self.power)


class Weighing(Protocol):
    """What becomes of log weights when potentials change from `before` to `now`, and when particles are drawn anew."""

    def update(self, logs: FloatArray, before: FloatArray, now: FloatArray) -> FloatArray:
        """New log weights, shape (n,), of extended particles."""

    def drawn(self, logs: FloatArray, chances: FloatArray, kept: IntArray) -> FloatArray:
        """Log weights of the particles at the indices `kept`, which were drawn with these chances (they sum to 1)."""


@dataclass(frozen=True)
class Replace:
    """The weight is the potential of the whole prefix, at every step anew: particle filtering as published (Puri et al., 2025).

    A particle that was drawn three times for its reward is weighed by the same reward again. That is no importance weight of
    any fixed posterior, and the log-evidence of such a set means nothing.
    """

    def update(self, logs: FloatArray, before: FloatArray, now: FloatArray) -> FloatArray:
        return now

    def drawn(self, logs: FloatArray, chances: FloatArray, kept: IntArray) -> FloatArray:
        return logs[kept]


@dataclass(frozen=True)
class Ratio:
    """The weight is multiplied by G(prefix) / G(prefix before): sequential Monte Carlo (Del Moral et al., 2006).

    After resampling it is W / (n · chance), whatever the chances were, so that the set stays properly weighted for
    p(solution) · G(solution): its mean weight is an unbiased estimate of the evidence, `Candidates.log_evidence`. A particle
    whose potential once was zero stays at zero.
    """

    def update(self, logs: FloatArray, before: FloatArray, now: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            return np.nan_to_num(logs + (now - before), nan=-np.inf, posinf=np.inf, neginf=-np.inf)

    def drawn(self, logs: FloatArray, chances: FloatArray, kept: IntArray) -> FloatArray:
        drawn = logs[kept] - np.log(len(chances) * np.maximum(chances[kept], 5e-324))
        return np.asarray(drawn, dtype=np.float64)


Temperature: TypeAlias = Callable[[FloatArray, int], float]
"""From normalised weights, shape (n,), and the step's number (from 0) to the temperature at which to resample."""


@dataclass(frozen=True)
class Steady:
    """One temperature throughout; above 1 it flattens the weights."""

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise BadInput(f"Steady(temperature={self.temperature}): above 0 is needed")

    def __call__(self, weights: FloatArray, step: int) -> float:
        return self.temperature


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` in `steps` steps, then `end` (the optional annealing of the published particle filter)."""

    start: float = 2.0
    end: float = 1.0
    steps: int = 10

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0 and self.steps >= 1):
            raise BadInput(f"{self}: temperatures above 0 and at least one step are needed")

    def __call__(self, weights: FloatArray, step: int) -> float:
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


Schedule: TypeAlias = Callable[[FloatArray, float], float]
"""From normalised weights and the progress in 0..1 to a temperature."""


def by_ess(weights: FloatArray, progress: float) -> float:
    """(n / ESS) · (1 − progress), the default of entropic annealing."""
    return len(weights) * float(np.square(weights).sum()) * (1 - progress)


def by_entropy(weights: FloatArray, progress: float) -> float:
    """1 / (H + (1 − H) · progress), H being the entropy of the weights relative to its maximum, log n."""
    share = -float(np.sum(weights * np.log(np.maximum(weights, 1e-300)))) / math.log(len(weights))
    beta = share + (1 - share) * progress
    return 1 / beta if beta > 0 else math.inf


def by_progress(weights: FloatArray, progress: float) -> float:
    """2 − progress, whatever the weights are (the "base" schedule)."""
    return 2.0 - progress


@dataclass(frozen=True)
class Entropic:
    """Entropic annealing (ePF, 2025, arXiv 2510.05825): flatten the weights early on, where few particles hold them all.

    Where ESS / n is below `threshold` and step / `horizon` below `early`, the temperature is max(1, schedule); elsewhere 1.
    `horizon` is about how many steps a solution takes. The published code takes the cap on steps for it, so that "early" there
    has nothing to do with the length of solutions.
    """

    schedule: Schedule = by_ess
    threshold: float = 0.5
    early: float = 0.5
    horizon: int = 32

    def __post_init__(self) -> None:
        if self.horizon < 1 or not (0 <= self.threshold <= 1 and 0 <= self.early <= 1):
            raise BadInput(f"{self}: threshold and early are in 0..1, horizon is 1 or more")

    def __call__(self, weights: FloatArray, step: int) -> float:
        progress = min(1.0, step / self.horizon)
        if len(weights) < 2 or not EssBelow(self.threshold)(weights) or progress >= self.early:
            return 1.0
        return min(max(1.0, self.schedule(weights, progress)), 1e6)


Trigger: TypeAlias = Callable[[FloatArray], bool]
"""From normalised weights to whether it is time to resample."""


def always(weights: FloatArray) -> bool:
    """Resample at every step, as published."""
    return True


@dataclass(frozen=True)
class EssBelow:
    """Resample where the effective sample size falls below this share of the particles."""

    share: float = 0.5

    def __call__(self, weights: FloatArray) -> bool:
        return float(np.square(weights).sum()) * len(weights) * self.share > 1
