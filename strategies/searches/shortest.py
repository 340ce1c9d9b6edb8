"""short-m@k: k solutions race, the m shortest vote, and the others are cut as soon as they cannot be among them."""

from __future__ import annotations

import itertools
import math
from bisect import insort
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import ClassVar

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import either
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Token
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.searches.in_order import in_order
from reasonweave.strategies.searches.live import begin


@dataclass(frozen=True)
class Shortest:
    """short-m@k (Hassid et al., 2025, arXiv 2505.17813): of `k` solutions under way at once, the `m` shortest that answer.

    A solution is cut once it has more tokens than the m-th shortest of those that have answered so far. That one only gets
    shorter, so no solution is cut that belongs to the m shortest of all k: the result is these m, whatever the timing. What the
    cut ones had written is paid. Equal lengths rank by number. Follow it with `briefest`, the paper's vote: the majority, ties
    to the shortest.

    The policy writes whole solutions (`until=None`).
    """

    policy: Sample
    k: int = 8
    m: int = 3

    unscored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.m <= self.k:
            raise BadInput(f"Shortest(k={self.k}, m={self.m}): m is in 1..k")
        if self.policy.until is not None:
            raise BadInput(f"Shortest needs a policy that writes whole solutions (until=None), not {self.policy!r}")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        drawn: list[Candidate] = []
        race = _Race(self.policy, self.m)
        async with aclosing(in_order(race, begin(roots, len(roots)), self.k, run, ahead=self.k)) as samples:
            async for sample in samples:
                drawn.append(sample)
                ranked = sorted((i for i, c in enumerate(drawn) if _answered(c)), key=lambda i: drawn[i].tokens)
                yield Candidates(tuple(drawn[i] for i in sorted(ranked[: self.m])) or tuple(drawn))


@dataclass(eq=False)
class _Race:
    """The policy of one race: each solution has a watch that knows how long the m-th shortest is."""

    policy: Sample
    m: int
    lengths: list[int] = field(default_factory=list)

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        (candidate,) = candidates
        watched = replace(self.policy, watch=either(self.policy.watch, lambda: self._watch(candidate.tokens)))
        (written,) = await watched.extend([candidate], run)
        if _answered(written):
            insort(self.lengths, written.tokens)
        return [written]

    def _watch(self, before: int) -> Callable[[Token], bool]:
        length = itertools.count(before + 1)
        return lambda token: next(length) > self._limit

    @property
    def _limit(self) -> float:
        return self.lengths[self.m - 1] if len(self.lengths) >= self.m else math.inf


def _answered(candidate: Candidate) -> bool:
    """Is it whole, and does it answer?"""
    return candidate.done and not candidate.cut and candidate.answer is not None
