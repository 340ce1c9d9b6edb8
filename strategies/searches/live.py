"""The moves that every search makes: begin, extend and score what is still alive, branch, and rank."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import is_relative, scored
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.policies.acceptors import or_lowest


def begin(roots: Candidates, n: int) -> Candidates:
    """n candidates to search from, the roots in turn, without the weights and scores that an earlier search gave them."""
    return Candidates(tuple(replace(c, score=None, log_weight=0.0) for c in roots.repeat(n)))


async def extend_live(policy: StepPolicy, candidates: Candidates, run: Run) -> Candidates:
    """One more step for the candidates that are not done, in one call; the others stay as they are."""
    live = [i for i, c in enumerate(candidates) if not c.done]
    items = list(candidates)
    if live:
        extended = await policy.extend([items[i] for i in live], run.child("extend"))
        for i, candidate in zip(live, extended, strict=True):
            items[i] = candidate
    return Candidates(tuple(items))


async def score(verifier: Verifier, candidates: Candidates, run: Run) -> Candidates:
    """The same candidates with their scores, in one call: those that have something to score, and no score yet; all that have
    something, where a verifier's scores depend on one another and one is missing."""
    able = [i for i, c in enumerate(candidates) if c.steps and not c.failed]
    unscored = [i for i in able if candidates[i].score is None]
    items = list(candidates)
    if unscored:
        asked = able if is_relative(verifier) else unscored
        scores = await scored(verifier, [items[i] for i in asked], run.child("score"))
        for i, judged in zip(asked, scores, strict=True):
            items[i] = replace(items[i], score=judged)
    return Candidates(tuple(items))


async def sprout(
    policy: StepPolicy, parents: Sequence[Candidate], counts: Sequence[int], run: Run
) -> list[list[Candidate]]:
    """counts[i] children of each parent, in one call; those that wrote nothing are left out, and those that failed where a
    sibling did not."""
    copies = tuple(parent for parent, count in zip(parents, counts, strict=True) for _ in range(count))
    grown = iter(await extend_live(policy, Candidates(copies), run))
    families = [list(islice(grown, count)) for count in counts]
    written = [[c for c in some if moved(parent, c)] for parent, some in zip(parents, families, strict=True)]
    return [[c for c in some if not c.failed] or some for some in written]


async def judge(verifier: Verifier, families: Sequence[Sequence[Candidate]], run: Run) -> list[list[Candidate]]:
    """The same families with their scores, in one call."""
    scored = iter(await score(verifier, Candidates(tuple(c for family in families for c in family)), run))
    return [list(islice(scored, len(family))) for family in families]


def unjudged(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Those that are finished and not scored yet: worth a snapshot, should there be nothing left to score them with."""
    return tuple(c for c in candidates if c.done and c.score is None and not c.failed)


def moved(before: Candidate, after: Candidate) -> bool:
    """Did a policy do anything with this candidate, if only to say that it is done?"""
    return after.done or len(after.steps) > len(before.steps)


async def complete(policy: StepPolicy, candidates: Candidates, run: Run, *, most: int) -> Candidates:
    """The candidates extended until all are done, or `most` times."""
    for t in range(most):
        if candidates.all_done:
            break
        candidates = await extend_live(policy, candidates, run.child("complete", t))
    return candidates


def reward_of(candidate: Candidate) -> float:
    """A candidate's score; nan where it has none, or failed."""
    return math.nan if candidate.score is None or candidate.failed else candidate.score.value


def value(candidate: Candidate) -> float:
    """A candidate's score to rank by: none, and nan, are below every number."""
    return or_lowest(reward_of(candidate))


def ranked(candidates: Iterable[Candidate], *, distinct: bool = False) -> list[Candidate]:
    """By score, the highest first, those that failed last, ties in their order; with `distinct`, of those with the same text
    only the first."""
    order = sorted(candidates, key=lambda c: (value(c), not c.failed), reverse=True)
    if not distinct:
        return order
    first: dict[object, Candidate] = {}
    for candidate in order:
        first.setdefault((candidate.problem, candidate.text), candidate)
    return list(first.values())
