"""REBASE: a tree whose width is shared out by reward at every depth."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import chain

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidates
from reasonweave.strategies.searches.live import begin, judge, sprout, unjudged, value


@dataclass(frozen=True)
class REBASE:
    """Reward-balanced search (Wu et al., 2024, arXiv 2408.00724).

    At each depth, as many children as there are solutions still to find are shared out among the unfinished nodes, by the softmax
    of their rewards at `temperature`, the best first and rounding up. Every finished node ends one share, so that `n` solutions
    come out. Children without a score are dropped, their share goes back. The paper concludes with a weighted vote.
    """

    policy: StepPolicy
    verifier: Verifier
    n: int = 16
    temperature: float = 0.2
    max_steps: int = 64

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        if self.n < 1 or self.max_steps < 1 or not self.temperature > 0:
            raise BadInput(f"{self}: n and max_steps are 1 or more, temperature is above 0")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        start = begin(roots, len(roots))
        finished, nodes = [c for c in start if c.done], [c for c in start if not c.done]
        for t in range(self.max_steps):
            remaining = self.n - len(finished)
            if remaining <= 0 or not nodes:
                return
            nodes = sorted(nodes, key=value, reverse=True)
            counts = shares([value(c) if c.score else 1.0 for c in nodes], remaining, self.temperature)
            wide = [(node, count) for node, count in zip(nodes, counts, strict=True) if count]
            parents, counts = [node for node, _ in wide], [count for _, count in wide]
            here = run.child("step", t)
            families = await sprout(self.policy, parents, counts, here)
            if ended := unjudged(chain.from_iterable(families)):
                yield Candidates((*finished, *nodes, *ended))
            families = await judge(self.verifier, families, here)
            grown = [c for family in families for c in family]
            judged = [c for c in grown if value(c) > -math.inf] or [c for c in grown if not c.failed] or grown
            finished += [c for c in judged if c.done]
            nodes = [c for c in judged if not c.done]
            if found := (*finished, *nodes):
                yield Candidates(found)


def shares(rewards: Sequence[float], total: int, temperature: float) -> list[int]:
    """`total` shared out by softmax(rewards / temperature), given from the highest reward down, each share rounded up from
    what is left: the counts add up to `total` exactly.

    >>> shares([0.9, 0.8, 0.1], 4, 0.2)
    [3, 1, 0]
    """
    top = max(rewards)
    sizes = [math.exp((r - top) / temperature) if math.isfinite(r) else float(r == top) for r in rewards]
    left, mass, counts = total, math.fsum(sizes), list[int]()
    for size in sizes:
        count = min(left, math.ceil(left * size / mass - 1e-9)) if mass > 0 and size > 0 else 0
        counts.append(count)
        left, mass = left - count, mass - size
    return counts
