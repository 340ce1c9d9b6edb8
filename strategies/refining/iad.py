"""Iterative agent decoding (IAD): new answers after the best and the worst so far, and what a verifier said of the two."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Problem
from reasonweave.strategies.refining.feedback import NOTHING_SAID, Feedback, Remark
from reasonweave.strategies.refining.writing import Reading, Writer
from reasonweave.strategies.searches.live import begin, reward_of, value

IAD_PROMPT = """\
A problem was solved several times, and a checker judged the solutions. Here are the best one so far, [1], and where it is
known the worst, [2].

Problem:
{problem}

{solutions}

What the checker says:

{remarks}

Write a new, complete solution of the problem that is better than the best one: keep what makes it good, mend what it was
marked down for, and stay clear of what makes the worst one bad. It stands on its own, without a word about the others, and
ends with its answer in the form that the problem asks for."""


@dataclass(frozen=True)
class IAD:
    """Iterative agent decoding (Chakraborty et al., 2025, arXiv 2504.01931).

    `rounds` times, `n` new answers are written after the best and the worst answer so far and the remarks on the two, and
    commented on by `feedback`, which has to give scores. A new answer becomes the best where its score is higher than the
    best one's, and the worst where it is lower than the worst one's; of equals the earlier one stays. It ends early where
    the best answer is called right: `Scores(verifier, threshold=target)`. The first round has nothing to read, unless the
    roots bring answers, which are commented on first.

    An answer that could not be scored is neither, but for the first one there is as long as none has a score. All answers
    come out, with their scores: follow it with `best`.
    """

    writer: Writer
    feedback: Feedback
    n: int = 4
    rounds: int = 4

    def __post_init__(self) -> None:
        if self.n < 1 or self.rounds < 1:
            raise BadInput(f"IAD(n={self.n}, rounds={self.rounds}): both are 1 or more")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        pools = [_Pool(problem) for problem in roots.by_problem()]
        given = [c for c in begin(roots, len(roots)) if c.steps and not c.failed and (c.done or c.answer is not None)]
        if given:
            yield Candidates(tuple(given))
            _put(pools, given, await self.feedback.comment(given, run.child("given")))
            yield _all(pools)
        for t in range(self.rounds):
            if not (open_ := [pool for pool in pools if not pool.met]):
                return
            here = run.child("round", t)
            made = await self.writer.write(
                [pool.reading() for pool in open_ for _ in range(self.n)], here.child("write")
            )
            yield Candidates((*_all(pools), *made))
            able = [c for c in made if c.steps and not c.failed]
            _put(pools, able, await self.feedback.comment(able, here.child("feedback")) if able else [])
            for candidate in made:
                if not candidate.steps or candidate.failed:
                    next(p for p in pools if p.problem == candidate.problem).answers.append(candidate)
            yield _all(pools)


@dataclass(slots=True)
class _Pool:
    """The answers to one problem, and which of them are shown."""

    problem: Problem
    answers: list[Candidate] = field(default_factory=list)
    best: tuple[Candidate, Remark] | None = None
    worst: tuple[Candidate, Remark] | None = None

    @property
    def met(self) -> bool:
        """Is the best answer called right?"""
        return self.best is not None and self.best[1].right is True

    def add(self, candidate: Candidate, remark: Remark) -> None:
        judged = remark.on(candidate)
        self.answers.append(judged)
        if judged.answer is None:
            return
        if self.best is None or value(judged) > value(self.best[0]):
            self.best = (judged, remark)
        if not math.isnan(reward_of(judged)) and (self.worst is None or value(judged) < value(self.worst[0])):
            self.worst = (judged, remark)

    def reading(self) -> Reading:
        """What a new answer is written from."""
        if self.best is None:
            return Reading(self.problem)
        (best, said) = self.best
        if self.worst is None or self.worst[0] is best:
            return Reading(self.problem, (best,), (said.text or NOTHING_SAID,))
        (worst, other) = self.worst
        remarks = (f"On [1], the best: {said.text or NOTHING_SAID}", f"On [2], the worst: {other.text or NOTHING_SAID}")
        return Reading(self.problem, (best, worst), remarks)


def _put(pools: Sequence[_Pool], candidates: Sequence[Candidate], remarks: Sequence[Remark]) -> None:
    by_problem = {pool.problem: pool for pool in pools}
    for candidate, remark in zip(candidates, remarks, strict=True):
        by_problem[candidate.problem].add(candidate, remark)


def _all(pools: Sequence[_Pool]) -> Candidates:
    return Candidates(tuple(answer for pool in pools for answer in pool.answers))
