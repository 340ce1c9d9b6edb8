"""Votes: pure functions from a candidate set to the same set with an answer and a confidence.

How answers are grouped and ties broken: `reasonweave.strategies.aggregators.ballots`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.checking import reads_scores
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, softmax
from reasonweave.strategies.aggregators.ballots import ballots, elect, ticket, undecided


def majority(candidates: Candidates) -> Candidates:
    r"""Self-consistency (Wang et al., 2023): the most frequent answer; its share of the votes cast is the confidence.

    >>> from reasonweave.orchestrator.types import Problem, Step
    >>> def said(answer): return Candidate(Problem("q"), (Step(f"\\boxed{{{answer}}}", "m", 1),), done=True)
    >>> vote = majority(Candidates((said("4"), said("5"), said("4.0"), Candidate(Problem("q")))))
    >>> vote.answer, round(vote.confidence, 3)
    ('4', 0.667)
    """
    answers = ballots(candidates)
    return elect(candidates, answers, [float(len(answer.voters)) for answer in answers])


@reads_scores
def weighted(candidates: Candidates) -> Candidates:
    r"""Weighted majority (Li et al., 2023): each answer's supporters add up their verifier scores.

    Scores are taken as weights, so they must not be negative; an unscored candidate counts 0. Where no vote has weight
    (all scores 0), the plain majority decides. The confidence is the share of the weight.

    >>> from reasonweave.orchestrator.types import Problem, Score, Step
    >>> def said(answer, score):
    ...     step = Step(f"\\boxed{{{answer}}}", "m", 1)
    ...     return Candidate(Problem("q"), (step,), done=True, score=Score(score))
    >>> vote = weighted(Candidates((said("4", 0.2), said("4", 0.3), said("5", 0.75))))
    >>> vote.answer, round(vote.confidence, 3)
    ('5', 0.6)
    """
    return by_weight(candidates, [max(0.0, score_of(candidate)) for candidate in candidates])


def by_weight(candidates: Candidates, weights: Sequence[float]) -> Candidates:
    """A vote with one weight a candidate, 0 or more; the confidence is the share of the weight. Where no vote has weight, the
    plain majority decides."""
    answers = ballots(candidates)
    vote = elect(candidates, answers, [math.fsum(weights[i] for i in answer.voters) for answer in answers])
    return vote if vote.answer is not None else majority(candidates)


@reads_scores
def best(candidates: Candidates) -> Candidates:
    """Best-of-n: the answer of the candidate with the highest score, among those that answer.

    The confidence is the score where it lies in 0..1 (a reward model's probability), else None. Where nothing was scored
    (the budget ended before the verifier's turn), the majority decides.
    """
    answered = [c for c in candidates if c.answer is not None]
    if all(c.score is None for c in answered):
        return majority(candidates)
    top = foremost(candidates, answered, [score_of(c) for c in answered])
    value = score_of(top)
    return replace(candidates, answer=top.answer, confidence=value if 0 <= value <= 1 else None)


def first(candidates: Candidates) -> Candidates:
    """The answer of the first finished candidate that has one, else of the first that has one: for searches that stop at it."""
    answered = [c for c in candidates if c.answer is not None]
    chosen = next((c for c in answered if c.done), answered[0] if answered else None)
    return replace(candidates, answer=chosen.answer if chosen else None, confidence=None)


def heaviest(candidates: Candidates) -> Candidates:
    """The answer of the particle with the greatest weight, among those that answer; its weight's share is the confidence."""
    weights = candidates.weights
    answered = [i for i, c in enumerate(candidates) if c.answer is not None]
    if not answered:
        return undecided(candidates)
    top = foremost(candidates, [candidates[i] for i in answered], [float(weights[i]) for i in answered])
    return replace(candidates, answer=top.answer, confidence=max(float(weights[i]) for i in answered))


def posterior(candidates: Candidates) -> Candidates:
    """A vote by particle weight: the most probable answer under a weighted set (Feng et al., 2025, end so); its share of the
    weight of those that answer is the confidence. Where no vote has weight, the plain majority decides."""
    return by_weight(candidates, candidates.weights.tolist())


@dataclass(frozen=True)
class Drawn:
    """The answer of one particle, drawn by weight among those that answer: a sample from the posterior, as it is."""

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        answered = [i for i, c in enumerate(roots) if c.answer is not None]
        if answered:
            weights = softmax(roots.log_weights[answered])
            at = answered[int(run.rng().choice(len(answered), p=weights))]
            yield replace(roots, answer=roots[at].answer, confidence=None)


def score_of(candidate: Candidate) -> float:
    """A candidate's score; nothing, or not a number, is below everything."""
    value = candidate.score.value if candidate.score is not None else math.nan
    return -math.inf if math.isnan(value) else value


def foremost(candidates: Candidates, some: Sequence[Candidate], merits: Sequence[float]) -> Candidate:
    """The one with the greatest merit among some of a set. Of equals each has the same chance, by the set's seed: a text that is
    there twice has two."""
    top, seen = max(merits), Counter[str]()
    lots: list[tuple[bytes, Candidate]] = []
    for candidate, merit in zip(some, merits, strict=True):
        if merit == top:
            seen[candidate.text] += 1
            lots.append((ticket(candidates.seed, f"{seen[candidate.text]}/{candidate.text}"), candidate))
    return min(lots, key=lambda lot: lot[0])[1]
