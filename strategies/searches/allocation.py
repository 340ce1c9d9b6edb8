"""Batch allocation: one budget of samples over many problems, the next one where it is likely to matter most."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from reasonweave.orchestrator._scipy import one_thread
from reasonweave.orchestrator.confidence import Measure
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.solve_each import PROBLEM, names_of
from reasonweave.orchestrator.types import Candidate, Candidates, FloatArray, shown
from reasonweave.strategies.aggregators.ballots import ballots, ticket
from reasonweave.strategies.aggregators.perplexity import probability
from reasonweave.strategies.searches.live import begin, extend_live

Rule: TypeAlias = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""From the votes of each problem's leading answer and runner-up, and how many samples it has, to what one more would be worth.

Higher comes first, -inf wants no more. Votes need not be whole: weights add up, in units of the batch's mean weight."""


def unsettled(a: FloatArray, b: FloatArray, n: FloatArray) -> FloatArray:
    """P(the runner-up is really ahead): I½(a + 1, b + 1), the share of the leader among the two being Beta(a + 1, b + 1).

    Spends on ties for ever: a problem on which every sample says something else is never settled.
    """
    with one_thread():
        from scipy.special import betainc

    return np.asarray(betainc(a + 1.0, b + 1.0, 0.5), dtype=np.float64)


def optimistic(a: FloatArray, b: FloatArray, n: FloatArray) -> FloatArray:
    """The optimistic knowledge gradient (Chen, Lin & Zhou, ICML 2013): what the better of two outcomes would gain.

    max(h(a + 1, b), h(a, b + 1)) − h(a, b), h being the probability that the answer chosen is the one that is really ahead. The
    expected gain of one sample is 0 wherever one cannot turn the vote; the better outcome's is not.
    """
    now = _right(a, b)
    return np.maximum(_right(a + 1.0, b), _right(a, b + 1.0)) - now


def regret(a: FloatArray, b: FloatArray, n: FloatArray) -> FloatArray:
    """The share of samples by which the runner-up can be expected to be ahead: E[(p₂ − p₁)⁺], what answering now gives away.

    (a + b + 2) / (n + 3) · E[(1 − 2x)⁺], x ~ Beta(a + 1, b + 1): the two answers' share of all, and how much of it is wrong.
    Linear loss, as in ranking and selection (Chick & Inoue, 2001): a problem without a clear winner has little to give
    away, the less the longer it has none, so that it is left alone after a while.
    """
    with one_thread():
        from scipy.special import betainc

    alpha, beta = a + 1.0, b + 1.0
    below = betainc(alpha, beta, 0.5) - 2 * alpha / (alpha + beta) * betainc(alpha + 1.0, beta, 0.5)
    return np.asarray((alpha + beta) / (n + 3.0) * below, dtype=np.float64)


def evenly(a: FloatArray, b: FloatArray, n: FloatArray) -> FloatArray:
    """The same number for every problem."""
    return -n


@dataclass(frozen=True)
class Until:
    """One after another, each until its leader is ahead with this probability, in 0..1: `BetaStop` for a whole batch."""

    level: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise BadInput(f"{self}: level is in 0..1")

    def __call__(self, a: FloatArray, b: FloatArray, n: FloatArray) -> FloatArray:
        return np.where(1 - unsettled(a, b, n) >= self.level, -np.inf, -n)


def _right(a: FloatArray, b: FloatArray) -> FloatArray:
    """The probability that the better of two answers, as it looks, is really the better one."""
    wrong = unsettled(a, b, a)
    return np.maximum(wrong, 1 - wrong)


def likelihood(candidate: Candidate) -> float:
    """The probability of the whole text under its author, in 0..1, which of a long text is next to 0; nan where not known."""
    return math.nan if candidate.logprob is None else math.exp(min(candidate.logprob, 0.0))


@dataclass(frozen=True)
class Sharpened:
    """A measure to a power: the higher, the more the surest solutions weigh. `Sharpened(probability, 16)` does for texts of any
    length what `likelihood` does for those of about 16 tokens."""

    of: Measure = probability
    power: float = 16.0
    __repr__ = shown

    def __call__(self, candidate: Candidate) -> float:
        return math.pow(self.of(candidate), self.power)


@dataclass(frozen=True)
class Allocation:
    """Sample many problems from one budget: `average` samples a problem, the next one each time where `rule` sees most in it.

    The roots are many problems; each first gets `least` samples, none more than `most`. `batch` problems, and no more than a
    quarter of them, are sampled at the same time, one sample each, and then the votes counted again. Sample k of a problem is
    drawn on a path of its own, ("problem", name, "sample", k), so that it is the same whatever the other problems are, whatever
    the rule, and in whatever order they come; names are as in `names_of`. Equals are drawn by lot.

    `weigh` gives each sample a weight (0 or more; unknown is 0), which goes into its `log_weight`, and into the rule; end with
    `posterior` then, which votes by it. In a problem where nothing weighs anything, each sample counts one.

    It yields all samples so far after each batch, those of a problem together, for a problem without any its root: `solve_each`
    gives each problem its own vote and result.
    """

    policy: StepPolicy
    average: float = 6.0
    least: int = 2
    most: int = 64
    rule: Rule = regret
    weigh: Measure | None = None
    batch: int = 32
    max_steps: int = 64
    __repr__ = shown

    def __post_init__(self) -> None:
        if not (1 <= self.least <= self.average <= self.most < math.inf) or self.batch < 1 or self.max_steps < 1:
            raise BadInput(f"{self}: 1 <= least <= average <= most is needed, and batch and max_steps of 1 or more")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        groups = roots.by_problem()
        if not groups:
            return
        names = names_of(list(groups))
        lots = [ticket(run.seed("lots"), name) for name in names]
        starts = [begin(group, len(group)) for group in groups.values()]
        drawn = [_Drawn() for _ in starts]
        left = round(self.average * len(starts))
        while left > 0 and (chosen := self._chosen(drawn, lots)[:left]):
            written: dict[int, Candidate] = {}
            calls = []
            for p in chosen:
                k = len(drawn[p].samples)
                root, here = starts[p][k % len(starts[p])], run.child(PROBLEM, names[p], "sample", k)
                calls.append(self._write(root, here, p, written))
            ended = await asyncio.gather(*calls, return_exceptions=True)
            for p in sorted(written):
                drawn[p].add(self._weighed(written[p]))
            left -= len(chosen)
            yield Candidates(
                tuple(c for own, start in zip(drawn, starts, strict=True) for c in own.samples or start.items)
            )
            if failed := [error for error in ended if error is not None]:
                raise BaseExceptionGroup("samples that failed", failed)

    async def _write(self, root: Candidate, run: Run, p: int, written: dict[int, Candidate]) -> None:
        """A sample of problem p to its end, kept in `written` as far as it is, should the budget stop it."""
        sample = Candidates((root,))
        for t in range(self.max_steps):
            sample = await extend_live(self.policy, sample, run.child("complete", t))
            written[p] = sample[0]
            if sample.all_done:
                return

    def _weighed(self, sample: Candidate) -> Candidate:
        if self.weigh is None:
            return sample
        weight = self.weigh(sample)
        return replace(sample, log_weight=math.log(weight) if weight > 0 else -math.inf)

    def _chosen(self, drawn: Sequence[_Drawn], lots: Sequence[bytes]) -> list[int]:
        """Which problems are sampled next, in their order of rank."""
        counts, size = np.array([len(own.samples) for own in drawn]), self.batch
        if counts.min() < self.least:
            worth = np.where(counts < self.least, -counts.astype(np.float64), -np.inf)
        else:
            a, b = np.array(leads(drawn)).T
            size = min(size, max(1, len(drawn) // 4))
            worth = np.where(counts < self.most, self.rule(a, b, counts.astype(np.float64)), -np.inf)
        wanted = [p for p in range(len(drawn)) if worth[p] > -math.inf]
        return sorted(wanted, key=lambda p: (-worth[p], counts[p], lots[p]))[:size]


@dataclass(slots=True)
class _Drawn:
    """A problem's samples, and the two answers that lead: their weights, and how many gave them."""

    samples: list[Candidate] = field(default_factory=list)
    weight: float = 0.0
    weights: tuple[float, float] = (0.0, 0.0)
    counts: tuple[float, float] = (0.0, 0.0)

    def add(self, sample: Candidate) -> None:
        self.samples.append(sample)
        weights = [math.exp(c.log_weight) for c in self.samples]
        found = ballots(Candidates(tuple(self.samples)))
        self.weight = math.fsum(weights)
        self.weights = _two([math.fsum(weights[i] for i in each.voters) for each in found])
        self.counts = _two([float(len(each.voters)) for each in found])


def leads(drawn: Sequence[_Drawn]) -> list[tuple[float, float]]:
    """The votes of the two leading answers of each problem, in units of the mean weight of all samples."""
    mean = math.fsum(own.weight for own in drawn) / sum(len(own.samples) for own in drawn)
    return [(own.weights[0] / mean, own.weights[1] / mean) if own.weights[0] > 0 else own.counts for own in drawn]


def _two(values: Sequence[float]) -> tuple[float, float]:
    first, second, *_ = (*sorted(values, reverse=True), 0.0, 0.0)
    return first, second
