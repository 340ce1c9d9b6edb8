"""Adaptive branching Monte Carlo tree search (AB-MCTS-A): another answer, or a better version of one that is there?"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidate, Candidates, FloatArray
from reasonweave.strategies.searches.live import begin, score, unjudged, value
from reasonweave.strategies.searches.refiners import Refiner


class Posterior(Protocol):
    """What scores say of the mean score to come. Each row of `told`, shape (k, 3), has how many scores there were, their sum
    and the sum of their squares; one draw from the posterior for each row comes back, shape (k,)."""

    def draw(self, told: FloatArray, rng: np.random.Generator) -> FloatArray: ...


@dataclass(frozen=True)
class Gaussian:
    """Normal scores of unknown mean and variance, normal-inverse-χ² prior with these parameters (those of treequest)."""

    mean: float = 0.0
    kappa: float = 1.0
    nu: float = 1.0
    tau2: float = 0.1

    def draw(self, told: FloatArray, rng: np.random.Generator) -> FloatArray:
        n, total, squares = told.T
        kappa, nu, x = self.kappa + n, self.nu + n, total / np.maximum(n, 1)
        within = np.maximum(0.0, squares - n * x * x)
        spread = self.nu * self.tau2 + within + n * self.kappa * (self.mean - x) ** 2 / kappa
        deviation = np.sqrt(spread / rng.chisquare(nu) / kappa)
        return np.asarray(rng.normal((self.kappa * self.mean + total) / kappa, deviation))


@dataclass(frozen=True)
class Beta:
    """Scores in 0..1 as shares of successes, with a Beta prior."""

    a: float = 0.5
    b: float = 0.5

    def draw(self, told: FloatArray, rng: np.random.Generator) -> FloatArray:
        n, total, _ = told.T
        return np.asarray(rng.beta(self.a + np.clip(total, 0, n), self.b + np.clip(n - total, 0, n)))


@dataclass(frozen=True)
class AdaptiveBranching:
    """AB-MCTS-A (Inoue et al., 2025, arXiv 2503.04412): wider or deeper by Thompson sampling, node by node.

    A node is a whole answer with its score. From the root, each node draws whether a new child would score better than going on
    from those it has, and if so makes one with one of the `actions` (by name: models, prompts), also drawn; else it descends to
    the child that draws highest. An action makes a fresh answer at the root and refines a node's answer elsewhere. A new score is
    told to the action, to "new child here", to the child, and on the way up to each child and to "go on from those".

    `n` answers are made, `batch` at a time; each one under way counts as a score of 0 for the others (virtual loss). All answers
    are the result.
    """

    actions: Mapping[str, Refiner]
    verifier: Verifier
    n: int = 16
    posterior: Posterior = Gaussian()
    batch: int = 4

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        if self.n < 1 or self.batch < 1 or not self.actions:
            raise BadInput(
                f"AdaptiveBranching(n={self.n}, batch={self.batch}, {len(self.actions)} actions): 1 or more of each"
            )

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        root = _Node(begin(roots.fresh(), 1)[0])
        for given in begin(roots, len(roots)):  # answers that are there already are the first children
            if given.steps:
                root.grow(given)
        tellers = np.zeros((len(self.actions), 3))
        answers: list[Candidate] = []
        while len(answers) < self.n:
            here = run.child("round", len(answers))
            rng = here.rng()
            trials = [self._choose(root, tellers, rng) for _ in range(min(self.batch, self.n - len(answers)))]
            made = await self._made(trials, here)
            if unjudged(made):
                yield Candidates((*answers, *made))
            made = list(await score(self.verifier, Candidates(tuple(made)), here))
            for trial, candidate in zip(trials, made, strict=True):
                reward = max(0.0, value(candidate))
                trial.tell(tellers, 0.0, -1)
                trial.tell(tellers, reward, 1)
                parent = trial.path[-1]
                at = parent.grow(candidate).at
                parent.children[at] += _row(reward)
            answers += made
            yield Candidates(tuple(answers))

    def _choose(self, root: _Node, tellers: FloatArray, rng: np.random.Generator) -> _Trial:
        """Where the next answer is made and how; from now on it counts as a score of 0."""
        path = [root]
        while path[-1].below:
            new, go_on = self.posterior.draw(path[-1].sides, rng)
            if new >= go_on:
                break
            drawn = self.posterior.draw(path[-1].children[: len(path[-1].below)], rng)
            path.append(path[-1].below[int(drawn.argmax())])
        action = int(self.posterior.draw(tellers, rng).argmax()) if len(tellers) > 1 else 0
        trial = _Trial(path, action)
        trial.tell(tellers, 0.0, 1)
        return trial

    async def _made(self, trials: Sequence[_Trial], run: Run) -> list[Candidate]:
        """The answers of a batch: one call for each action."""
        made: list[Candidate] = [trial.path[-1].candidate for trial in trials]
        for k, (name, action) in enumerate(self.actions.items()):
            mine = [i for i, trial in enumerate(trials) if trial.action == k]
            if mine:
                refined = await action.refine([trials[i].path[-1].candidate for i in mine], run.child(name))
                for i, candidate in zip(mine, refined, strict=True):
                    made[i] = candidate
        return made


def _row(score: float, times: int = 1) -> FloatArray:
    """What a score adds to a row of `Posterior.draw`."""
    return np.array([times, times * score, times * score * score])


@dataclass(slots=True, eq=False)
class _Node:
    """An answer, and what was told of it: `sides` has a row for "a new child here" and one for "go on from those", `children`
    one for each child, with room for more."""

    candidate: Candidate
    at: int = 0
    """Which child of its parent it is."""
    below: list[_Node] = field(default_factory=list)
    sides: FloatArray = field(default_factory=lambda: np.zeros((2, 3)))
    children: FloatArray = field(default_factory=lambda: np.zeros((2, 3)))

    def grow(self, candidate: Candidate) -> _Node:
        child = _Node(candidate, len(self.below))
        self.below.append(child)
        if len(self.below) > len(self.children):
            self.children = np.concatenate([self.children, np.zeros_like(self.children)])
        return child


@dataclass(slots=True)
class _Trial:
    path: list[_Node]
    action: int

    def tell(self, tellers: FloatArray, score: float, times: int) -> None:
        """Add a score (or take it back) wherever this trial's score belongs."""
        row = _row(score, times)
        tellers[self.action] += row
        self.path[-1].sides[0] += row
        for parent, child in itertools.pairwise(self.path):
            parent.children[child.at] += row
            parent.sides[1] += row
