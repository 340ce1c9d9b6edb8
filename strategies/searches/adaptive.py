"""Sampling that stops when more would hardly change the answer: Adaptive-Consistency, ESC, and rules to stop by."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from reasonweave.orchestrator._scipy import one_thread
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Aggregator, Condition, StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidate, Candidates, FloatArray, shown
from reasonweave.strategies.aggregators.ballots import ballots
from reasonweave.strategies.aggregators.vote import posterior
from reasonweave.strategies.searches.in_order import in_order
from reasonweave.strategies.searches.live import begin, extend_live, score

TAIL = 1e-16
"""Probability of a gamma variable that the quadrature leaves out at either end."""
NODES = 160
"""Points of the quadrature: exact to 1e-12 from one vote to thousands."""


def votes(candidates: Candidates) -> list[int]:
    """How many candidates give each answer, the most frequent first. Those without an answer abstain."""
    return sorted((len(ballot.voters) for ballot in ballots(candidates)), reverse=True)


def _in_unit(rule: object, level: float) -> None:
    if not 0 <= level <= 1:
        raise BadInput(f"{rule}: level is in 0..1")


@dataclass(frozen=True)
class BetaStop:
    """Stop when the leading answer beats the runner-up with this probability, in 0..1 (Aggarwal et al., 2023).

    Of the two most frequent answers with a and b votes, the leader's share of their chances is Beta(a + 1, b + 1) under a uniform
    prior, so P = 1 − I½(a + 1, b + 1). The others do not count. Four votes without a contradiction are enough for 0.95, three are
    not.
    """

    level: float = 0.95

    def __post_init__(self) -> None:
        _in_unit(self, self.level)

    def probability(self, candidates: Candidates) -> float:
        """P(the leader's chance is above the runner-up's); ½ where nobody has voted.

        >>> round(BetaStop().probability(Candidates()), 3)
        0.5
        """
        a, b, *_ = (*votes(candidates), 0, 0)
        return beta_leads(a, b)

    def __call__(self, candidates: Candidates) -> bool:
        return self.probability(candidates) >= self.level


@dataclass(frozen=True)
class DirichletStop:
    """Stop when the leading answer is the most probable of all with this probability, in 0..1 (Aggarwal et al., 2023).

    The chances of the `top` most frequent answers, cᵢ votes each, are Dirichlet(c + 1). P(p₁ > every other) is one integral over
    independent gamma variables, ∫ g(x; c₁ + 1) Π G(x; cᵢ + 1) dx, i > 1, which is computed by Gauss-Legendre quadrature; the
    paper's code estimates it by Monte Carlo. With fewer than three answers it is `BetaStop`.
    """

    level: float = 0.95
    top: int = 5

    def __post_init__(self) -> None:
        _in_unit(self, self.level)
        if self.top < 2:
            raise BadInput(f"{self}: top is 2 or more")

    def probability(self, candidates: Candidates) -> float:
        """P(the leader's chance is above each of the others')."""
        counts = votes(candidates)[: self.top]
        return dirichlet_leads(counts) if len(counts) > 2 else beta_leads(*(*counts, 0, 0)[:2])

    def __call__(self, candidates: Candidates) -> bool:
        return self.probability(candidates) >= self.level


@dataclass(frozen=True)
class EntropyStop:
    """Stop when the entropy of the answers, as a share of the most that so many answers can have, is this low, in 0..1.

    As in the Adaptive-Consistency code: a single answer is counted as if one more vote had gone to another one (so four votes for
    it stop at 0.75, three do not), and the first vote never stops.
    """

    level: float = 0.75

    def __post_init__(self) -> None:
        _in_unit(self, self.level)

    def entropy(self, candidates: Candidates) -> float:
        """Σ −pᵢ log pᵢ / log k for k answers with the shares pᵢ, in 0..1; 1 where nobody has voted."""
        counts = votes(candidates)
        if len(counts) < 2:
            counts = [*counts, 1] if counts else [1, 1]
        total = sum(counts)
        return -math.fsum(c / total * math.log(c / total) for c in counts) / math.log(len(counts))

    def __call__(self, candidates: Candidates) -> bool:
        return sum(votes(candidates)) > 1 and self.entropy(candidates) <= self.level


@dataclass(frozen=True)
class MajorityStop:
    """Stop when the leading answer has this share of the votes, in 0..1; never on the first vote."""

    level: float = 0.8

    def __post_init__(self) -> None:
        _in_unit(self, self.level)

    def __call__(self, candidates: Candidates) -> bool:
        counts = votes(candidates)
        return sum(counts) > 1 and counts[0] / sum(counts) >= self.level


@dataclass(frozen=True)
class Consensus:
    """Stop when a vote is this confident, in 0..1, and `least` samples have been drawn (Fu et al., 2025, arXiv 2508.15260).

    DeepConf stops where the winner has 0.95 of the weight, Σ over the answer's voters / Σ over all, after 16 samples:
    `by=posterior` on candidates that carry their weights. Any aggregator with a confidence will do.
    """

    level: float = 0.95
    by: Aggregator = posterior
    least: int = 16

    __repr__ = shown

    def __post_init__(self) -> None:
        _in_unit(self, self.level)

    def __call__(self, candidates: Candidates) -> bool:
        if len(candidates) < self.least:
            return False
        confidence = self.by(candidates).confidence
        return confidence is not None and confidence >= self.level


@dataclass(frozen=True)
class AdaptiveConsistency:
    """Self-consistency that draws one sample after another until a rule is satisfied (Aggarwal et al., 2023, arXiv 2305.11860).

    At most `n` samples; `rule` says of those drawn so far whether they are enough. It yields all of them after each one, so
    that any vote may follow: the paper takes the majority. `ahead` samples are under way at the same time. That takes less time
    and costs what the last of them had written when the rule was satisfied; which samples are read does not depend on it. With
    a `verifier` each sample is scored as it comes, for rules and votes that weigh.
    """

    policy: StepPolicy
    n: int = 40
    rule: Condition = BetaStop()
    ahead: int = 1
    verifier: Verifier | None = None
    max_steps: int = 64

    __repr__ = shown

    unscored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.verifier is not None:
            absolute(self.verifier, type(self).__name__)
        if self.n < 1 or self.ahead < 1 or self.max_steps < 1:
            raise BadInput(
                f"AdaptiveConsistency(n={self.n}, ahead={self.ahead}, max_steps={self.max_steps}): all are 1 or more"
            )

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        drawn: list[Candidate] = []
        start = begin(roots, len(roots))
        async with aclosing(
            in_order(self.policy, start, self.n, run, ahead=self.ahead, most=self.max_steps)
        ) as samples:
            async for sample in samples:
                drawn.append(sample)
                yield Candidates(tuple(drawn))
                if self.verifier is not None:
                    drawn[-1] = (await score(self.verifier, Candidates((sample,)), run.child("judge", len(drawn))))[0]
                    yield Candidates(tuple(drawn))
                if self.rule(Candidates(tuple(drawn))):
                    return


@dataclass(frozen=True)
class ESC:
    """Early-stopping self-consistency (Li et al., 2024, arXiv 2401.10480): a window of samples that all agree ends the sampling.

    `window` samples are drawn in one call; where all of them give one answer, that is the answer, whatever earlier windows
    said. Else the next window is drawn, up to `n` samples, and the majority of all decides. So it yields all samples so far,
    and on a stop the last window alone: a majority vote that follows gives the published answer. A sample without an answer
    agrees with nobody. Where `window` does not divide `n`, the rest is drawn at the end, and decides nothing by itself.
    """

    policy: StepPolicy
    n: int = 40
    window: int = 5
    max_steps: int = 64

    unscored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n < 1 or self.window < 2 or self.max_steps < 1:
            raise BadInput(
                f"ESC(n={self.n}, window={self.window}, max_steps={self.max_steps}): n and max_steps are 1 or more, "
                "window 2 or more (one sample always agrees with itself)"
            )

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        drawn: tuple[Candidate, ...] = ()
        while len(drawn) < self.n and roots.items:
            window = begin(roots, min(self.window, self.n - len(drawn)))
            for step in range(self.max_steps):
                window = await extend_live(self.policy, window, run.child("window", len(drawn), "step", step))
                yield Candidates((*drawn, *window))
                if window.all_done:
                    break
            if votes(window) == [self.window]:
                yield window
                return
            drawn = (*drawn, *window)


def esc_expected(p: Sequence[float], window: int = 5, n: int = 40) -> float:
    """How many samples ESC draws on average, where each gives answer j with probability p[j].

    w · [Σ_{i=0}^{n/w−2} (i + 1) q (1 − q)^i + (n/w) (1 − q)^{n/w−1}] with q = Σ pⱼ^w, the chance that a window agrees (Li et
    al., 2024, control scheme); here summed by windows, Σ size · (1 − q)^i, which also covers a last window that is smaller.
    What `p` lacks to 1 is the chance of no answer.

    >>> esc_expected([1.0]), round(esc_expected([0.5, 0.5]), 2)
    (5.0, 32.26)
    """
    q = math.fsum(chance**window for chance in p)
    return math.fsum(min(window, n - start) * (1 - q) ** i for i, start in enumerate(range(0, n, window)))


def beta_leads(a: float, b: float) -> float:
    """P(X > ½) for X ~ Beta(a + 1, b + 1): 1 − I½(a + 1, b + 1) = I½(b + 1, a + 1)."""
    with one_thread():
        from scipy.special import betainc

    return float(betainc(b + 1.0, a + 1.0, 0.5))


def dirichlet_leads(counts: Sequence[float]) -> float:
    """P(the first share is the largest) for shares ~ Dirichlet(counts + 1)."""
    with one_thread():
        from scipy.special import gammainc, gammainccinv, gammaincinv, gammaln

    first, *others = (count + 1.0 for count in counts)
    low, high = gammaincinv(first, TAIL), gammainccinv(first, TAIL)
    points, weights = _gauss()
    x = low + (high - low) * points
    density = np.exp((first - 1) * np.log(x) - x - gammaln(first))
    below = np.prod([gammainc(other, x) for other in others], axis=0)
    return float((high - low) * (weights * density * below).sum())


@functools.cache
def _gauss() -> tuple[FloatArray, FloatArray]:
    """Points and weights of the Gauss-Legendre rule on 0..1."""
    points, weights = np.polynomial.legendre.leggauss(NODES)
    return (points + 1) / 2, weights / 2
