"""A tree that is written down, and a verifier that is a table: for traces of searches worked by hand."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from reasonweave.orchestrator import Candidate, Candidates, Problem, Run, Score, Step
from reasonweave.orchestrator.protocols import Strategy, Verifier

PROBLEM = Problem("q")


class Dealt:
    """A policy that deals out what follows a text, one after another and then from the first again, over all calls.

    A text that nothing follows is the end. `logprobs` are those of the newest step, by the text that it leads to.
    """

    def __init__(self, following: Mapping[str, Sequence[str]], logprobs: Mapping[str, float] | None = None) -> None:
        self.following, self.logprobs = following, logprobs or {}
        self.dealt: Counter[str] = Counter()
        self.asked: list[list[str]] = []
        """The texts that each call was to extend."""

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        self.asked.append([c.text for c in candidates])
        return [self._extended(c) for c in candidates]

    def _extended(self, candidate: Candidate) -> Candidate:
        steps = self.following[candidate.text]
        step = steps[self.dealt[candidate.text] % len(steps)]
        self.dealt[candidate.text] += 1
        text = candidate.text + step
        return candidate.extend(Step(step, "dealt", 1, self.logprobs.get(text)), done=text not in self.following)


class Table:
    """A verifier that looks the text up; nan for what is not there."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self.values = values
        self.asked: list[list[str]] = []

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.asked.append([c.text for c in candidates])
        return [Score(self.values.get(c.text, math.nan)) for c in candidates]


class Counted:
    """A verifier that keeps what was asked of another."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.asked: list[list[str]] = []

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.asked.append([c.text for c in candidates])
        return await self.verifier.score(candidates, run)


def snapshots(search: Strategy, roots: Candidates | None = None, *, seed: int = 1) -> list[Candidates]:
    """What a search yields once its verifier has spoken; all that it yields, where it has none."""

    async def collect() -> list[Candidates]:
        return [found async for found in search.search(roots or Candidates.of(PROBLEM), Run(seed))]

    found = asyncio.run(collect())
    return [s for s in found if all(c.score or c.failed or not c.steps for c in s)] or found


def texts(candidates: Candidates) -> list[str]:
    return [c.text for c in candidates]
