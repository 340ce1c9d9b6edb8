"""Votes by the model's own probability of a solution: perplexity, perplexity consistency, and RPC (Zhou et al., 2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from reasonweave.orchestrator._scipy import one_thread
from reasonweave.orchestrator.confidence import Measure
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.signals import uncertainty
from reasonweave.orchestrator.types import Candidate, Candidates, FloatArray, shown
from reasonweave.strategies.aggregators.ballots import ballots, elect
from reasonweave.strategies.aggregators.vote import foremost, majority


def mean_logprob(candidate: Candidate) -> float:
    """The mean log-probability of its tokens, minus the log of its perplexity; nan where that of a step is unknown."""
    return min(-uncertainty(*candidate.steps), 0.0)  # in this order nan stays nan


def total_logprob(candidate: Candidate) -> float:
    """The log-probability of the whole solution; nan where that of a step is unknown."""
    return math.nan if candidate.logprob is None else min(candidate.logprob, 0.0)


def probability(candidate: Candidate) -> float:
    """1 / perplexity, the geometric mean probability of its tokens, in 0..1; nan where that of a step is unknown."""
    return math.exp(mean_logprob(candidate))


def perplexity(candidates: Candidates) -> Candidates:
    """The answer of the solution with the lowest perplexity; the confidence is its `probability`. Where no log-probabilities
    are known, the majority decides."""
    some = [c for c in candidates if c.answer is not None and probability(c) > 0]
    if not some:
        return majority(candidates)
    top = foremost(candidates, some, [probability(c) for c in some])
    return replace(candidates, answer=top.answer, confidence=probability(top))


def perplexity_consistency(candidates: Candidates) -> Candidates:
    """Perplexity consistency (Zhou et al., 2025, arXiv 2510.15444): each answer's distinct solutions add up their `probability`.

    The same text twice counts once. The confidence is the share of the sum. Where no log-probabilities are known, the majority
    decides.
    """
    return _consistent(candidates, [True] * len(candidates), mean_logprob)


@dataclass(frozen=True, slots=True)
class Weibulls:
    """A mixture of two Weibull distributions, `share` of the first, which has the higher mean; of each its shape k and scale λ:

    f(x) = share · w(x; high) + (1 − share) · w(x; low),   w(x; k, λ) = (k/λ) (x/λ)^(k−1) exp(−(x/λ)^k)
    """

    share: float
    high: tuple[float, float]
    low: tuple[float, float]

    @classmethod
    def fit(cls, values: Sequence[float]) -> Self | None:
        """Maximum likelihood over positive numbers, as published: L-BFGS-B from (½, 1, 1, 3/2, 2) for (share, k, λ, k, λ), the
        share in 0.2..0.8, the others 0.01 or more. A local maximum. None where the optimiser fails."""
        with one_thread():
            from scipy.optimize import minimize
            from scipy.special import gammaln

        logs = np.log(np.sort(np.asarray(values, dtype=np.float64)))  # sorted, as sums depend on the order
        bounds = [(0.2, 0.8)] + 4 * [(0.01, None)]
        with np.errstate(over="ignore", invalid="ignore"):
            found = minimize(_unlikely, (0.5, 1.0, 1.0, 1.5, 2.0), (logs,), "L-BFGS-B", jac=True, bounds=bounds)
        if not found.success or not np.isfinite([*found.x, found.fun]).all():
            return None
        share, *rest = (float(x) for x in found.x)
        one, other = (rest[0], rest[1]), (rest[2], rest[3])
        means = [math.log(scale) + float(gammaln(1 + 1 / shape)) for shape, scale in (one, other)]
        return cls(share, one, other) if means[0] >= means[1] else cls(1 - share, other, one)

    def is_low(self, x: float) -> bool:
        """Is x rather of the second distribution: is its posterior probability the greater?"""
        at = np.log(np.array([x]))
        high, low = (
            math.log(self.share) + _log_density(at, *self.high)[0],
            math.log1p(-self.share) + _log_density(at, *self.low)[0],
        )
        return bool(high[0] < low[0])


def _log_density(logs: FloatArray, shape: float, scale: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """log w(x; shape, scale) at the logs of x, and its derivatives by shape and by scale."""
    away = logs - math.log(scale)
    power = np.exp(np.minimum(shape * away, 300.0))  # far above anything likely, and its square is still a number
    density = math.log(shape / scale) + (shape - 1) * away - power
    return density, 1 / shape + away * (1 - power), (power - 1) * shape / scale


def _unlikely(at: FloatArray, logs: FloatArray) -> tuple[float, FloatArray]:
    """Minus the log-likelihood of a mixture, and its gradient."""
    share, *rest = at
    one, other = _log_density(logs, rest[0], rest[1]), _log_density(logs, rest[2], rest[3])
    first, second = math.log(share) + one[0], math.log1p(-share) + other[0]
    total = np.logaddexp(first, second)
    mine, its = np.exp(first - total), np.exp(second - total)
    slopes = [mine / share - its / (1 - share), mine * one[1], mine * one[2], its * other[1], its * other[2]]
    return -float(total.sum()), -np.array([slope.sum() for slope in slopes])


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which candidates RPC keeps, in their order, the fit that says so, or in `fallback` why nothing was pruned."""

    kept: tuple[bool, ...]
    fit: Weibulls | None = None
    fallback: str | None = None


@dataclass(frozen=True)
class RPC:
    """Reasoning-pruning perplexity consistency (Zhou et al., NeurIPS 2025, arXiv 2510.15444).

    Two Weibull distributions are fitted to the probabilities, 1 / perplexity, of the solutions that answer. A solution that is
    rather of the lower one, and whose probability is below the mean, is pruned. Each answer's distinct solutions that are left
    add up exp(`by`); the greatest sum wins, and its share is the confidence. `by` is `mean_logprob`, as in the published code,
    or `total_logprob`, as in the paper's theory, which makes up for counting the same text once.

    Nothing is pruned where there are fewer than `least` probabilities, where they span less than `spread`, or where the fit
    fails: `pruned` says so, also of the candidates of a result. Where no log-probabilities are known, the majority decides.
    """

    least: int = 8
    spread: float = 1e-6
    by: Measure = mean_logprob
    __repr__ = shown

    def __post_init__(self) -> None:
        if self.least < 1 or not self.spread >= 0:
            raise BadInput(f"RPC(least={self.least}, spread={self.spread}): least is 1 or more, spread 0 or more")

    def __call__(self, candidates: Candidates) -> Candidates:
        return _consistent(candidates, self.pruned(candidates).kept, self.by)

    def pruned(self, candidates: Candidates) -> Pruning:
        """What is kept of these candidates, and why. A candidate that does not answer, or whose probability is unknown or 0,
        has no part in the fit."""
        chances = [probability(c) if c.answer is not None else math.nan for c in candidates]
        known = [p for p in chances if p > 0]
        all_of_them = (True,) * len(candidates)
        if len(known) < self.least:
            told = f"solutions with an answer and a probability: {len(known)}, fewer than {self.least}"
            return Pruning(all_of_them, fallback=told)
        if (span := max(known) - min(known)) < self.spread:
            return Pruning(all_of_them, fallback=f"probabilities that span {span:g}, less than {self.spread:g}")
        if (fit := Weibulls.fit(known)) is None:
            return Pruning(all_of_them, fallback="two Weibull distributions could not be fitted")
        mean = math.fsum(known) / len(known)
        return Pruning(tuple(not (0 < p < mean and fit.is_low(p)) for p in chances), fit)


def rpc(least: int = 8, spread: float = 1e-6, by: Measure = mean_logprob) -> RPC:
    """`RPC`, by the name it has in a chain: ``chain(BestOfN(whole(model), 64, max_steps=1), rpc())``."""
    return RPC(least, spread, by)


def _consistent(candidates: Candidates, kept: Sequence[bool], by: Measure) -> Candidates:
    """The answer whose distinct solutions, as far as they are kept, have the greatest sum of exp(by)."""
    answers = ballots(candidates)
    paths: list[dict[str, float]] = []
    for answer in answers:
        mine: dict[str, float] = {}
        for i in answer.voters:
            if kept[i] and (log := by(candidates[i])) > -math.inf:
                mine[candidates[i].text] = max(log, mine.get(candidates[i].text, log))
        paths.append(mine)
    top = max((log for mine in paths for log in mine.values()), default=0.0)  # taken off: no sum is lost to underflow
    vote = elect(candidates, answers, [math.fsum(math.exp(log - top) for log in mine.values()) for mine in paths])
    return vote if vote.answer is not None else majority(candidates)
