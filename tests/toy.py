"""A language model so small that every solution can be listed, with its probability, its reward and its exact value.

A solution is a word: each step writes one letter, with chances that depend on the prefix, and some prefixes are the end. So
whatever a search should sample or find can be computed, and compared with what it does.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from scipy import stats

from reasonweave.orchestrator import Candidate, Candidates, Problem, Run, Score, Step
from reasonweave.orchestrator.protocols import Strategy


@dataclass(frozen=True)
class Itself:
    """An answer space in which a solution is its own answer."""

    def extract(self, text: str) -> str | None:
        return text

    def canonical(self, answer: str) -> str:
        return answer

    def same(self, a: str, b: str) -> bool:
        return a == b


PROBLEM = Problem("toy", answers=Itself())


class Toy:
    """A random tree of words over `letters`, at most `depth` long; a prefix of two or more letters is an end with chance
    `early`, one of a single letter only with `at_once`. Rewards lie in 0.05..0.95."""

    def __init__(
        self, seed: int, letters: str = "ab", depth: int = 3, early: float = 0.3, at_once: float | None = None
    ) -> None:
        rng = np.random.default_rng(seed)
        self.chances: dict[str, dict[str, float]] = {}
        """Of each prefix that is not an end: what the next prefix may be, and with which chance."""
        self.rewards: dict[str, float] = {}
        self.p: dict[str, float] = {"": 1.0}
        grow = [""]
        while grow:
            prefix = grow.pop(0)
            shares = rng.dirichlet(np.full(len(letters), 2.0)) * 0.9 + 0.1 / len(letters)
            self.chances[prefix] = {prefix + x: float(share) for x, share in zip(letters, shares, strict=True)}
            for child, share in self.chances[prefix].items():
                self.p[child] = self.p[prefix] * share
                self.rewards[child] = float(rng.uniform(0.05, 0.95))
                ends = early if len(child) > 1 or at_once is None else at_once
                if len(child) < depth and rng.random() >= ends:
                    grow.append(child)
        self.leaves = sorted(text for text in self.p if text not in self.chances)
        self.prior = np.array([self.p[leaf] for leaf in self.leaves])
        self.evidence = math.fsum(self.p[leaf] * self.rewards[leaf] for leaf in self.leaves)
        self.posterior = np.array([self.p[leaf] * self.rewards[leaf] for leaf in self.leaves]) / self.evidence
        self.values = {text: self._value(text) for text in self.p}
        """E[final reward | prefix]."""
        self.highest = {text: max(self.rewards[leaf] for leaf in self.below(text)) for text in self.p}
        """The best final reward that can be had from a prefix."""

    def below(self, prefix: str) -> list[str]:
        return [leaf for leaf in self.leaves if leaf.startswith(prefix)]

    def _value(self, prefix: str) -> float:
        return math.fsum(self.p[leaf] / self.p[prefix] * self.rewards[leaf] for leaf in self.below(prefix))

    def candidate(self, prefix: str) -> Candidate:
        return Candidate(PROBLEM, steps_of(prefix), prefix not in self.chances)

    def counts(self, texts: Sequence[str]) -> np.ndarray:
        """How often each leaf is among these texts, all of which are leaves."""
        at = {leaf: i for i, leaf in enumerate(self.leaves)}
        return np.bincount([at[text] for text in texts], minlength=len(at))


def steps_of(text: str) -> tuple[Step, ...]:
    return tuple(Step(letter, "toy", 1) for letter in text)


@dataclass(frozen=True, eq=False)
class Walk:
    """Takes one letter after another by the toy's chances; or by other `chances`, and then adds log p − log q to the weight."""

    toy: Toy
    chances: Mapping[str, Mapping[str, float]] | None = None
    _table: dict[str, tuple[list[float], list[tuple[str, Step, float]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for prefix, own in self.toy.chances.items():
            q = (self.chances or self.toy.chances)[prefix]
            nexts = [(child, steps_of(child[-1])[0], math.log(own[child]) - math.log(q[child])) for child in own]
            self._table[prefix] = list(accumulate(q[child] for child in own))[:-1], nexts

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        return self.walked(candidates, run.child("toy").rng().random(len(candidates)).tolist())

    def walked(self, candidates: Sequence[Candidate], points: Sequence[float]) -> list[Candidate]:
        """Each candidate with the letter at its point in 0..1."""
        made = []
        for candidate, point in zip(candidates, points, strict=True):
            edges, nexts = self._table[candidate.text]
            child, step, gain = nexts[bisect(edges, point)]
            steps, done = (*candidate.steps, step), child not in self.toy.chances
            made.append(Candidate(candidate.problem, steps, done, candidate.log_weight + gain))
        return made


@dataclass(frozen=True, eq=False)
class Dealt:
    """Gives the copies of a prefix in one call one letter each in turn, so that as many copies as letters meet them all."""

    toy: Toy

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        seen: dict[str, int] = {}
        made = []
        for candidate in candidates:
            nexts = list(self.toy.chances[candidate.text])
            k = seen[candidate.text] = seen.get(candidate.text, -1) + 1
            child = nexts[k % len(nexts)]
            made.append(candidate.extend(*steps_of(child[-1]), done=child not in self.toy.chances))
        return made


class Table:
    """A verifier that looks values up by the text; one that is not there gets ½."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._scores = {text: Score(value) for text, value in values.items()}

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [self._scores.get(candidate.text, Score(0.5)) for candidate in candidates]


class Exact:
    """A reader that knows the toy's probabilities, those of an end included."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy

    async def read(self, before: Sequence[Candidate], after: Sequence[Candidate], run: Run) -> list[float]:
        told = []
        for old, new in zip(before, after, strict=True):
            p = self.toy.p.get(new.text, 0.0) if new.done == (new.text not in self.toy.chances) else 0.0
            told.append(math.log(p / self.toy.p[old.text]) if p else -math.inf)
        return told


def searched(strategy: Strategy, runs: range, problem: Problem = PROBLEM) -> list[Candidates]:
    """What a strategy ends with, once for each seed."""

    async def last(seed: int) -> Candidates:
        return [found async for found in strategy.search(Candidates.of(problem), Run(seed))][-1]

    async def every() -> list[Candidates]:
        return [await last(seed) for seed in runs]

    return asyncio.run(every())


def p_value(counts: np.ndarray, shares: np.ndarray) -> float:
    """Of Pearson's chi-square that counts follow these shares; cells that expect less than 5 are taken together."""
    expected = shares * counts.sum()
    assert not counts[shares == 0].any()
    rare = expected < 5
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    kept = expected > 0
    return float(stats.chisquare(counts[kept], expected[kept]).pvalue)


def z_value(values: np.ndarray, mean: float) -> float:
    """How many standard errors the mean of independent values is off."""
    return float((values.mean() - mean) / (values.std(ddof=1) / math.sqrt(len(values))))
