"""Adaptive branching Monte Carlo tree search (AB-MCTS-A): another answer, or a better version of one that is there?"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.searches.live import begin, score, value
from reasonweave.strategies.searches.refiners import Refiner


class Posterior(Protocol):
    """What scores say of the mean score to come: a draw from the posterior after `n` of them, given their sum and sum of
    squares."""

    def draw(self, n: int, total: float, squares: float, rng: np.random.Generator) -> float: ...


@dataclass(frozen=True)
class Gaussian:
    """Normal scores of unknown mean and variance, normal-inverse-χ² prior with these parameters (those of treequest)."""

    mean: float = 0.0
    kappa: float = 1.0
    nu: float = 1.0
    tau2: float = 0.1

    def draw(self, n: int, total: float, squares: float, rng: np.random.Generator) -> float:
        kappa, nu = self.kappa + n, self.nu + n
        mean = (self.kappa * self.mean + total) / kappa
        spread = self.nu * self.tau2
        if n:
            x = total / n
            spread += max(0.0, squares - n * x * x) + n * self.kappa * (self.mean - x) ** 2 / kappa
        return float(rng.normal(mean, math.sqrt(spread / rng.chisquare(nu) / kappa)))


@dataclass(frozen=True)
class Beta:
    """Scores in 0..1 as shares of successes, with a Beta prior."""

    a: float = 0.5
    b: float = 0.5

    def draw(self, n: int, total: float, squares: float, rng: np.random.Generator) -> float:
        return float(rng.beta(self.a + min(max(total, 0.0), n), self.b + min(max(n - total, 0.0), n)))


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
        if self.n < 1 or self.batch < 1 or not self.actions:
            raise BadInput(
                f"AdaptiveBranching(n={self.n}, batch={self.batch}, {len(self.actions)} actions): 1 or more of each"
            )

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        root = _Node(begin(roots.fresh(), 1)[0])
        for given in begin(roots, len(roots)):  # answers that are there already are the first children
            if given.steps:
                root.children.append(_Node(given))
        tellers = {name: _Scores() for name in self.actions}
        answers: list[Candidate] = []
        while len(answers) < self.n:
            here = run.child("round", len(answers))
            rng = here.rng()
            trials = [self._choose(root, tellers, rng) for _ in range(min(self.batch, self.n - len(answers)))]
            made = await self._made(trials, here)
            for trial, candidate in zip(trials, made, strict=True):
                trial.tell(0.0, -1)
                trial.tell(max(0.0, value(candidate)), 1)
                child = _Node(candidate)
                child.own.add(max(0.0, value(candidate)), 1)
                trial.path[-1].children.append(child)
            answers += made
            yield Candidates(tuple(answers))

    def _choose(self, root: _Node, tellers: Mapping[str, _Scores], rng: np.random.Generator) -> _Trial:
        """Where the next answer is made and how; from now on it counts as a score of 0."""

        def draw(scores: _Scores) -> float:
            return self.posterior.draw(scores.n, scores.total, scores.squares, rng)

        path = [root]
        while path[-1].children and draw(path[-1].go_on) > draw(path[-1].new):
            path.append(max(path[-1].children, key=lambda child: draw(child.own)))
        action = max(tellers, key=lambda name: draw(tellers[name])) if len(tellers) > 1 else next(iter(tellers))
        trial = _Trial(path, action, tellers[action])
        trial.tell(0.0, 1)
        return trial

    async def _made(self, trials: Sequence[_Trial], run: Run) -> list[Candidate]:
        """The answers of a batch: one call for each action, and one to the verifier."""
        made: list[Candidate] = [trial.path[-1].candidate for trial in trials]
        for name, action in self.actions.items():
            mine = [i for i, trial in enumerate(trials) if trial.action == name]
            if mine:
                refined = await action.refine([trials[i].path[-1].candidate for i in mine], run.child(name))
                for i, candidate in zip(mine, refined, strict=True):
                    made[i] = candidate
        return list(await score(self.verifier, Candidates(tuple(made)), run))


@dataclass(slots=True)
class _Scores:
    """How many scores were told, their sum and the sum of their squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, score: float, times: int) -> None:
        self.n += times
        self.total += times * score
        self.squares += times * score * score


@dataclass(slots=True, eq=False)
class _Node:
    candidate: Candidate
    children: list[_Node] = field(default_factory=list)
    own: _Scores = field(default_factory=_Scores)
    new: _Scores = field(default_factory=_Scores)
    go_on: _Scores = field(default_factory=_Scores)


@dataclass(slots=True)
class _Trial:
    path: list[_Node]
    action: str
    teller: _Scores

    def tell(self, score: float, times: int) -> None:
        """Add a score (or take it back) wherever this trial's score belongs."""
        self.teller.add(score, times)
        self.path[-1].new.add(score, times)
        for parent, child in zip(self.path, self.path[1:], strict=False):
            child.own.add(score, times)
            parent.go_on.add(score, times)
