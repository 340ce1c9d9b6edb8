"""Tree of thoughts: breadth first with a judge, or depth first with a bar below which a branch is given up."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.searches.beam import without_replacement
from reasonweave.strategies.searches.live import begin, judge, ranked, sprout, unjudged, value


@dataclass(frozen=True)
class TreeOfThought:
    """Tree of thoughts, breadth first (Yao et al., 2023, arXiv 2305.10601): `samples` thoughts from each node, the `breadth`
    best stay.

    The judge is a verifier whose scores are not negative; of thoughts with the same text the first counts, the others get
    nothing. With `greedy` the best stay, else `breadth` are drawn without replacement by their scores. Finished nodes stay and
    compete with what the judge said of them.
    """

    policy: StepPolicy
    judge: Verifier
    samples: int = 5
    breadth: int = 5
    greedy: bool = True
    max_steps: int = 64

    def __post_init__(self) -> None:
        absolute(self.judge, type(self).__name__)
        if min(self.samples, self.breadth, self.max_steps) < 1:
            raise BadInput(f"{self}: samples, breadth and max_steps are 1 or more")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        nodes = list(begin(roots, len(roots)))
        for t in range(self.max_steps):
            live = [c for c in nodes if not c.done]
            if not live:
                return
            here = run.child("step", t)
            families = await sprout(self.policy, live, [self.samples] * len(live), here)
            if ended := unjudged(chain.from_iterable(families)):
                yield Candidates((*nodes, *ended))
            families = await judge(self.judge, families, here)
            grown = [c for family in families for c in family]
            pool = ranked([*(c for c in nodes if c.done), *grown], distinct=True)
            nodes = pool[: self.breadth] if self.greedy else self._drawn(pool, here.child("draw").rng())
            if not nodes:
                return
            yield Candidates(tuple(nodes))

    def _drawn(self, pool: Sequence[Candidate], rng: np.random.Generator) -> list[Candidate]:
        sizes = np.array([max(0.0, value(c)) for c in pool])
        sizes = sizes if sizes.sum() > 0 else np.ones(len(pool))
        return [pool[i] for i in without_replacement(sizes / sizes.sum(), self.breadth, rng)]


@dataclass(frozen=True)
class DepthFirst:
    """Tree of thoughts, depth first (Yao et al., 2023): go down by the best thought first, and give up what scores below `bar`.

    A node's `samples` thoughts come from one call and are judged in one. It ends after `answers` finished solutions or
    `expansions` nodes. The result has the solutions in the order of finding; before there is one, the deepest node.
    """

    policy: StepPolicy
    judge: Verifier
    samples: int = 5
    bar: float = -math.inf
    answers: int = 1
    expansions: int = 100

    def __post_init__(self) -> None:
        absolute(self.judge, type(self).__name__)
        if min(self.samples, self.answers, self.expansions) < 1:
            raise BadInput(f"{self}: samples, answers and expansions are 1 or more")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        start = list(begin(roots, len(roots)))
        finished, stack = [c for c in start if c.done], [c for c in reversed(start) if not c.done]
        for t in range(self.expansions):
            if not stack or len(finished) >= self.answers:
                return
            node = stack.pop()
            here = run.child("step", t)
            families = await sprout(self.policy, [node], [self.samples], here)
            if ended := unjudged(families[0]):
                yield Candidates((*finished, *ended))
            (family,) = await judge(self.judge, families, here)
            good = [c for c in ranked(family, distinct=True) if value(c) >= self.bar]
            finished += [c for c in good if c.done and not c.failed]
            stack += [c for c in reversed(good) if not c.done]
            if found := tuple(finished) or tuple(stack[-1:]) or tuple(family):
                yield Candidates(found)
