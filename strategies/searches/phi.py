"""φ-decoding: look ahead to the end of each candidate step, weigh what comes of it, and prune in width and in depth."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.signals import uncertainty
from reasonweave.orchestrator.types import Candidate, Candidates, FloatArray, IntArray, softmax
from reasonweave.strategies.searches.beam import without_replacement
from reasonweave.strategies.searches.live import begin, complete, extend_live, moved

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class PhiDecoding:
    """φ-decoding (Xu et al., 2025, arXiv 2503.13288): adaptive foresight sampling. No verifier; it needs log-probabilities.

    Each step, `beams` beams sample `rollouts` steps each. *In-width pruning* keeps those whose mean log-probability is above
    the mean minus `sigma` deviations (and at least `beams`, refilled by softmax(log-probability / `sharpness`)). *Foresight*
    writes each kept one to its end once; F is the mean log-probability of what it wrote, its advantage F less that of the
    beam it came from. Those with an advantage above 0 (at the first step all, their advantage being F) are drawn, `beams`
    without replacement, by ½ softmax(advantage / `sharpness`) + ½ softmax(share of its cluster), clusters being those of the
    words of all foresights (TF-IDF, k-means, `clusters`); where fewer than `beams` have one, all by softmax(advantage /
    `sharpness`). *In-depth pruning* ends the foresight, not before `least` steps nor after `most`, when more than `agreement`
    of the foresights are in one cluster or all candidate steps are the same; then the beams are written to their end. A
    finished beam stays a candidate as it is, with an advantage of 0.

    The result has the finished beams, F / `sharpness` of their last foresight as `log_weight`. The last draw is by these, without
    clusters; the published one takes an index from one cluster into another. Conclude with `Drawn()` or `posterior`.
    """

    policy: StepPolicy
    beams: int = 4
    rollouts: int = 4
    sigma: float = 1.0
    clusters: int = 3
    agreement: float = 0.7
    least: int = 4
    most: int = 8
    sharpness: float = 0.1
    max_steps: int = 64

    def __post_init__(self) -> None:
        if min(self.beams, self.rollouts, self.clusters, self.most, self.max_steps) < 1 or not self.sharpness > 0:
            raise BadInput(f"{self}: counts are 1 or more, sharpness is above 0")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        beams, past = list(begin(roots, self.beams)), np.zeros(self.beams)
        for t in range(self.most):
            here = run.child("step", t)
            if all(c.done for c in beams):
                break
            rng = here.child("draw").rng()
            owners, steps = await self._steps(beams, here)
            if not steps:
                break
            kept = self._width(steps, rng)
            owners, steps = [owners[i] for i in kept], [steps[i] for i in kept]
            ends = await complete(self.policy, Candidates(tuple(steps)), here.child("foresight"), most=self.max_steps)
            futures = np.array([_sureness(step, end) for step, end in zip(steps, ends, strict=True)])
            advantages = np.array([f - past[o] if t else f for f, o in zip(futures, owners, strict=True)])
            groups = clustered(
                [end.text[len(s.text) :] or end.text for s, end in zip(steps, ends, strict=True)], self.clusters, rng
            )
            chosen = self._drawn(advantages, groups, t, rng)
            beams, past = [steps[i] for i in chosen], futures[chosen]
            yield Candidates(tuple(ends[i] for i in chosen))
            share = float(np.bincount(groups).max()) / len(groups)
            if t + 1 >= self.least and (share > self.agreement or len({s.text for s in steps}) == 1):
                break
        finished = await complete(self.policy, Candidates(tuple(beams)), run.child("end"), most=self.max_steps)
        yield finished.reweight(np.where(np.isfinite(past[: len(beams)]), past[: len(beams)] / self.sharpness, -np.inf))

    async def _steps(self, beams: Sequence[Candidate], run: Run) -> tuple[list[int], list[Candidate]]:
        """The candidate steps and the beams they belong to; a finished beam is its own only candidate."""
        owners = [i for i, c in enumerate(beams) for _ in range(1 if c.done else self.rollouts)]
        grown = await extend_live(self.policy, Candidates(tuple(beams[i] for i in owners)), run)
        pairs = [(i, c) for i, c in zip(owners, grown, strict=True) if moved(beams[i], c)]
        return [i for i, _ in pairs], [c for _, c in pairs]

    def _width(self, steps: Sequence[Candidate], rng: np.random.Generator) -> list[int]:
        """In-width pruning: the steps that are not much less probable than the others."""
        sure = np.array([-uncertainty(c.steps[-1]) if c.steps and not c.failed else -math.inf for c in steps])
        sure = np.where(np.isnan(sure), -np.inf, sure)
        known = sure[np.isfinite(sure)]
        bar = known.mean() - self.sigma * known.std() - 1e-12 if len(known) else -math.inf
        kept = [i for i, s in enumerate(sure) if s >= bar]
        rest = [i for i, s in enumerate(sure) if s < bar]
        missing = min(self.beams - len(kept), len(rest))
        if missing > 0:
            more = without_replacement(softmax(sure[rest], self.sharpness), missing, rng)
            kept += [rest[i] for i in more]
        return sorted(kept)

    def _drawn(self, advantages: FloatArray, groups: IntArray, t: int, rng: np.random.Generator) -> list[int]:
        """`beams` of the candidates, without replacement."""
        logs = np.where(np.isnan(advantages), -np.inf, advantages)
        ahead = np.flatnonzero(logs > 0) if t else np.flatnonzero(logs > -np.inf)
        if len(ahead) < self.beams:
            return without_replacement(softmax(logs, self.sharpness), self.beams, rng)
        sizes = np.bincount(groups[ahead])
        weights = softmax(logs[ahead], self.sharpness) + softmax(sizes[groups[ahead]] / len(ahead))
        return [int(ahead[i]) for i in without_replacement(weights / weights.sum(), self.beams, rng)]


def _sureness(before: Candidate, after: Candidate) -> float:
    """The mean log-probability of what was written after a step; of the step itself where nothing was. nan where it failed."""
    if after.failed:
        return math.nan
    new = after.steps[len(before.steps) :] or after.steps[-1:]
    return -uncertainty(*new)


def clustered(texts: Sequence[str], k: int, rng: np.random.Generator) -> IntArray:
    """A cluster for each text, by k-means over their TF-IDF vectors of unit length; equal texts are always together.

    Shape (n,), numbers from 0. Where fewer than k texts differ, each different one is a cluster.
    """
    distinct = list(dict.fromkeys(texts))
    at = {text: i for i, text in enumerate(distinct)}
    labels = np.arange(len(distinct))
    if len(distinct) > k:
        points = _tf_idf(distinct)
        counts = Counter(texts)
        labels = _k_means(points, np.array([counts[text] for text in distinct], dtype=np.float64), k, rng)
    _, tidy = np.unique(labels[[at[text] for text in texts]], return_inverse=True)
    return np.asarray(tidy, dtype=np.int64)


def _tf_idf(texts: Sequence[str]) -> FloatArray:
    """Term counts times 1 + log((1 + n) / (1 + texts that have the term)), each row of length 1; shape (n, terms)."""
    bags = [Counter(_WORD.findall(text)) for text in texts]
    terms = {term: j for j, term in enumerate(dict.fromkeys(term for bag in bags for term in bag))}
    table = np.zeros((len(texts), max(1, len(terms))))
    for i, bag in enumerate(bags):
        for term, count in bag.items():
            table[i, terms[term]] = count
    table *= 1 + np.log((1 + len(texts)) / (1 + (table > 0).sum(axis=0)))
    return np.asarray(table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12))


def _k_means(points: FloatArray, weights: FloatArray, k: int, rng: np.random.Generator, rounds: int = 32) -> IntArray:
    """Lloyd's algorithm from k-means++ seeds, over weighted points; scipy's takes no weights."""
    centres = points[[int(rng.choice(len(points), p=weights / weights.sum()))]]
    while len(centres) < k:
        gaps = _distances(points, centres).min(axis=1) * weights
        if gaps.sum() <= 1e-12:
            break
        centres = np.vstack([centres, points[int(rng.choice(len(points), p=gaps / gaps.sum()))]])
    labels = _distances(points, centres).argmin(axis=1)
    for _ in range(rounds):
        for c in range(len(centres)):
            if (mine := labels == c).any():
                centres[c] = np.average(points[mine], axis=0, weights=weights[mine])
        new = _distances(points, centres).argmin(axis=1)
        if (new == labels).all():
            break
        labels = new
    return np.asarray(labels, dtype=np.int64)


def _distances(points: FloatArray, centres: FloatArray) -> FloatArray:
    """Squared distances, shape (points, centres)."""
    return np.asarray(np.square(points[:, None, :] - centres[None, :, :]).sum(axis=2))
