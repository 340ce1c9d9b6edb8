"""A*-decoding: best-first search in which only drops of reward cost."""

from __future__ import annotations

import heapq
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import chain

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.searches.live import begin, complete, judge, ranked, score, sprout, unjudged, value


@dataclass(frozen=True)
class AStar:
    """A*-decoding (2025, arXiv 2505.13672): expand the partial solution of the lowest f = g + h.

    h = 1 − r, r being the verifier's value of the prefix in 0..1; a step costs max(0, h after − h before), so that g adds up
    the drops of the reward and nothing else. An expansion samples `width` steps and scores them in one call, those of the
    same text being one node; `batch` nodes are expanded at a time. It ends when `answers` finished solutions have come up as
    the lowest, after `expansions`, or when nothing is left; where the expansions end it before anything is finished, the
    lowest node is written to its end. Ties go to the deeper node, then to the earlier one. `frontier` keeps that many of the
    lowest nodes only.

    The result has the solutions that came up, in that order, then the other finished ones, the lowest first; before anything is
    finished, the lowest node. On the way there, snapshots have only the lowest of the others. Conclude with `first`.
    """

    policy: StepPolicy
    verifier: Verifier
    width: int = 4
    expansions: int = 256
    answers: int = 1
    batch: int = 1
    frontier: int | None = None
    max_steps: int = 64

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        sizes = (self.width, self.expansions, self.answers, self.batch, self.max_steps)
        if min(sizes) < 1 or (self.frontier is not None and self.frontier < 1):
            raise BadInput(f"{self}: width, expansions, answers, batch, frontier and max_steps are 1 or more")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        heap = [_Node(0.0, 0, i, 0.0, 0.0, c) for i, c in enumerate(begin(roots, len(roots)))]
        made, spent, t = len(heap), 0, 0
        came, ended = list[Candidate](), [n for n in heap if n.candidate.done]
        while heap and spent < self.expansions and len(came) < self.answers:
            chosen: list[_Node] = []
            while heap and len(chosen) < min(self.batch, self.expansions - spent) and len(came) < self.answers:
                if heap[0].candidate.done and chosen:
                    break  # it comes up if nothing lower comes of these
                node = heapq.heappop(heap)
                if not node.candidate.done:
                    chosen.append(node)
                    continue
                came.append(node.candidate)
                if ended and ended[0].number == node.number:  # the lowest of all is the lowest of the finished ones
                    heapq.heappop(ended)
            if chosen:
                parents = [node.candidate for node in chosen]
                here = run.child("step", t)
                families = await sprout(self.policy, parents, [self.width] * len(parents), here)
                if new := unjudged(chain.from_iterable(families)):
                    yield Candidates((*came, *(node.candidate for node in ended[:1]), *new))
                families = await judge(self.verifier, families, here)
                spent, t = spent + len(chosen), t + 1
                for node, family in zip(chosen, families, strict=True):
                    for child in ranked(family, distinct=True):
                        heapq.heappush(heap, grown := node.child(child, made))
                        if child.done and not child.failed:
                            heapq.heappush(ended, grown)
                        made += 1
                if self.frontier is not None and len(heap) > self.frontier:
                    heap = heapq.nsmallest(self.frontier, heap)  # sorted, and so a heap
            lowest = ended[:1] or (heap[:1] if not came else [])
            if found := (*came, *(node.candidate for node in lowest)):
                yield Candidates(found)
        if len(ended) > 1:
            yield Candidates((*came, *(node.candidate for node in sorted(ended))))
        if heap and not came and not ended:
            end = await complete(self.policy, Candidates((heap[0].candidate,)), run.child("end"), most=self.max_steps)
            yield await score(self.verifier, end, run.child("end"))


@dataclass(frozen=True, slots=True, order=True)
class _Node:
    f: float
    depth: int
    """Below zero, so that the deeper one comes first."""
    number: int
    g: float
    h: float
    candidate: Candidate

    def child(self, candidate: Candidate, number: int) -> _Node:
        r = value(candidate)
        h = 1 - r if r > -math.inf else math.inf
        begun = bool(self.candidate.score)
        g = self.g + (max(0.0, h - self.h) if begun else 0.0)
        return _Node(g + h, self.depth - 1, number, g, h, candidate)
