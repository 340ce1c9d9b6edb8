"""Beam searches over reasoning steps: plain, as independent subtrees (DVTS), and stochastic with self-evaluation."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute, range_of
from reasonweave.orchestrator.signals import uncertainty
from reasonweave.orchestrator.types import Candidate, Candidates, FloatArray, Score, softmax
from reasonweave.strategies.policies.acceptors import of_last_step
from reasonweave.strategies.searches.live import begin, extend_live, judge, ranked, score, sprout, unjudged, value


@dataclass(frozen=True)
class Beam:
    """Beam search with a verifier (Snell et al., 2024, arXiv 2408.03314; as in Hugging Face's search-and-learn).

    `n` beams take one step each and are scored in one call; of the unfinished ones the n / `width` best go on, in turn, as n
    beams. Finished ones are set aside. It ends when none is unfinished or n are finished. With `distinct`, beams of the same
    text count once; the published default is False. The published code writes beams to their end in the last step that it
    allows; here `max_steps` leaves them unfinished.
    """

    policy: StepPolicy
    verifier: Verifier
    n: int = 16
    width: int = 4
    distinct: bool = True
    max_steps: int = 64

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        _check(self, n=self.n, width=self.width, max_steps=self.max_steps)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        beams, finished = begin(roots, self.n), list[Candidate]()
        for t in range(self.max_steps):
            here = run.child("step", t)
            beams = await extend_live(self.policy, beams, here)
            if unjudged(beams):
                yield Candidates((*finished, *beams))
            beams = await score(self.verifier, beams, here)
            finished += [c for c in beams if c.done]
            live = ranked((c for c in beams if not c.done), distinct=self.distinct)
            yield Candidates((*finished, *live))
            if not live or sum(not c.failed for c in finished) >= self.n:
                return
            beams = Candidates(tuple(live[: max(1, self.n // self.width)])).repeat(self.n)


@dataclass(frozen=True)
class DVTS:
    """Diverse verifier tree search (Beeching et al., 2024, Hugging Face's search-and-learn): n / `width` beam searches of one
    beam each, which never compete.

    Each subtree takes `width` steps at a time and goes on with the best; where that one is finished, the subtree is. All last
    steps of all subtrees are the result, n candidates.
    """

    policy: StepPolicy
    verifier: Verifier
    n: int = 16
    width: int = 4
    max_steps: int = 64

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        _check(self, n=self.n, width=self.width, max_steps=self.max_steps)
        if self.n % self.width:
            able = ", ".join(str(w) for w in range(1, self.n + 1) if self.n % w == 0)
            raise BadInput(f"DVTS(n={self.n}, width={self.width}): n is a multiple of width, so width is one of {able}")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        trees = list(begin(roots, self.n // self.width))
        last = [[tree] for tree in trees]
        for t in range(self.max_steps):
            live = [i for i, tree in enumerate(trees) if not tree.done]
            if not live:
                return
            here = run.child("step", t)
            grown = await sprout(self.policy, [trees[i] for i in live], [self.width] * len(live), here)
            if ended := unjudged(chain.from_iterable(grown)):
                yield Candidates((*chain.from_iterable(last), *ended))
            grown = await judge(self.verifier, grown, here)
            for i, family in zip(live, grown, strict=True):
                if family:
                    trees[i], last[i] = max(family, key=value), family
            yield Candidates(tuple(c for family in last for c in family))


@dataclass(frozen=True)
class StochasticBeam:
    """Self-evaluation guided stochastic beam search (Xie et al., 2023, arXiv 2305.00633).

    Each of `beams` beams samples `samples` steps. A step's merit is c^r · p^(1−r): c is the verifier's word on the newest
    step, over `scale` (where None, the verifier's `highest`, else 1), in 0..1 (in the paper the model's own P(correct)), p
    the geometric mean probability of its tokens, r = `trust`. A beam's merit is the geometric mean over its steps, its score
    afterwards. Of the distinct ones, `beams` are drawn without replacement with chances ∝ merit^(1/τ), τ = `temperature` ·
    `decay`^t; at 0 the best stay. Finished beams compete and are not extended.
    """

    policy: StepPolicy
    verifier: Verifier
    beams: int = 5
    samples: int = 16
    trust: float = 0.5
    temperature: float = 0.5
    decay: float = 1.0
    scale: float | None = None
    max_steps: int = 64

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        _check(self, beams=self.beams, samples=self.samples, max_steps=self.max_steps)
        if not (0 <= self.trust <= 1 and self.temperature >= 0 and 0 <= self.decay <= 1 and self._highest > 0):
            raise BadInput(f"{self}: trust and decay are in 0..1, temperature is 0 or more, scale above 0")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        beams: list[tuple[Candidate, tuple[float, ...]]] = [(c, ()) for c in dict.fromkeys(begin(roots, len(roots)))]
        for t in range(self.max_steps):
            here = run.child("step", t)
            live = [(c, merits) for c, merits in beams if not c.done]
            pools = await sprout(self.policy, [c for c, _ in live], [self.samples] * len(live), here)
            if ended := unjudged(chain.from_iterable(pools)):
                yield Candidates((*(c for c, _ in beams), *ended))
            pools = await judge(self.verifier, pools, here)
            pool: dict[object, tuple[Candidate, tuple[float, ...]]] = {c.text: (c, m) for c, m in beams if c.done}
            for (parent, merits), children in zip(live, pools, strict=True):
                for child in children:
                    wrote = len(child.steps) > len(parent.steps) or not merits
                    grown = (*merits, self._merit(parent, child)) if wrote else merits
                    pool.setdefault(child.text, (_rated(child, grown), grown))
            if not pool:
                return
            beams = self._drawn(list(pool.values()), self.temperature * self.decay**t, here.child("draw").rng())
            yield Candidates(tuple(c for c, _ in beams))
            if all(c.done for c, _ in beams):
                return

    @property
    def _highest(self) -> float:
        highest = range_of(self.verifier)[1]
        return self.scale if self.scale is not None else highest if math.isfinite(highest) else 1.0

    def _merit(self, parent: Candidate, child: Candidate) -> float:
        """log of c^r p^(1−r) for the steps that are new."""
        c = of_last_step(child.score) / self._highest if child.score is not None else math.nan
        if c > 1:
            raise BadInput(
                f"StochasticBeam: a score of {c * self._highest:g} is above {self._highest:g}; give its highest as scale="
            )
        if not c > 0:  # also nan
            return -math.inf
        p = -uncertainty(*child.steps[len(parent.steps) :])
        return self.trust * math.log(c) + (1 - self.trust) * (0.0 if math.isnan(p) else p)

    def _drawn(
        self, pool: Sequence[tuple[Candidate, tuple[float, ...]]], tau: float, rng: np.random.Generator
    ) -> list[tuple[Candidate, tuple[float, ...]]]:
        logs = np.array([math.log(value(c)) if value(c) > 0 else -math.inf for c, _ in pool])
        if tau == 0:
            return [pool[i] for i in np.argsort(-logs, kind="stable")[: self.beams]]
        return [pool[i] for i in without_replacement(softmax(logs, tau), self.beams, rng)]


def without_replacement(weights: FloatArray, k: int, rng: np.random.Generator) -> list[int]:
    """At most k different indices, drawn one after another with chances ∝ weights; those of weight zero come last, in order."""
    able = np.flatnonzero(weights)
    taken = rng.choice(able, min(k, len(able)), replace=False, p=weights[able] / weights[able].sum())
    rest = np.flatnonzero(weights == 0)[: max(0, k - len(able))]
    return [int(i) for i in np.concatenate([np.sort(taken), rest])]


def _rated(candidate: Candidate, merits: Sequence[float]) -> Candidate:
    """The candidate with the geometric mean of its steps' merits as its score."""
    each = tuple(math.exp(m) for m in merits)
    return replace(candidate, score=Score(math.exp(math.fsum(merits) / len(merits)), each))


def _check(part: object, **counts: int) -> None:
    if bad := {name: count for name, count in counts.items() if count < 1}:
        raise BadInput(f"{type(part).__name__}: {', '.join(f'{k}={v}' for k, v in bad.items())}: 1 or more is needed")
