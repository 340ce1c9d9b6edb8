"""Votes: pure functions from a candidate set to the same set with an answer and a confidence.

Candidates without an answer abstain. Answers are grouped by the problem's `AnswerSpace.canonical`. A tie goes to the
answer whose first supporter stands earliest, which no seed and no scheduling can change.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Hashable, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, softmax


def majority(candidates: Candidates) -> Candidates:
    r"""Self-consistency (Wang et al., 2023): the most frequent answer; its share of the votes cast is the confidence.

    >>> from reasonweave.orchestrator.types import Problem, Step
    >>> def said(answer): return Candidate(Problem("q"), (Step(f"\\boxed{{{answer}}}", "m", 1),), done=True)
    >>> vote = majority(Candidates((said("4"), said("5"), said("4.0"), Candidate(Problem("q")))))
    >>> vote.answer, round(vote.confidence, 3)
    ('4', 0.667)
    """
    return _elect(candidates, [1.0] * len(candidates))


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
    vote = _elect(candidates, [max(0.0, _score(candidate)) for candidate in candidates])
    return vote if vote.answer is not None else majority(candidates)


def best(candidates: Candidates) -> Candidates:
    """Best-of-n: the answer of the candidate with the highest score, among those that answer.

    The confidence is the score where it lies in 0..1 (a reward model's probability), else None. Where nothing was scored
    (the budget ended before the verifier's turn), the majority decides.
    """
    answered = [c for c in candidates if c.answer is not None]
    if all(c.score is None for c in answered):
        return majority(candidates)
    top = max(answered, key=_score)
    value = _score(top)
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
        return replace(candidates, answer=None, confidence=None)
    top = max(answered, key=lambda i: float(weights[i]))
    return replace(candidates, answer=candidates[top].answer, confidence=float(weights[top]))


def posterior(candidates: Candidates) -> Candidates:
    """A vote by particle weight: the most probable answer under a weighted set (Feng et al., 2025, end so); its share of the
    weight of those that answer is the confidence. Where no vote has weight, the plain majority decides."""
    vote = _elect(candidates, candidates.weights.tolist())
    return vote if vote.answer is not None else majority(candidates)


@dataclass(frozen=True)
class Drawn:
    """The answer of one particle, drawn by weight among those that answer: a sample from the posterior, as it is."""

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        answered = [i for i, c in enumerate(roots) if c.answer is not None]
        if answered:
            weights = softmax(roots.log_weights[answered])
            at = answered[int(run.rng().choice(len(answered), p=weights))]
            yield replace(roots, answer=roots[at].answer, confidence=None)


def _score(candidate: Candidate) -> float:
    """A candidate's score; nothing, or not a number, is below everything."""
    value = candidate.score.value if candidate.score is not None else math.nan
    return -math.inf if math.isnan(value) else value


def _elect(candidates: Candidates, weights: Sequence[float]) -> Candidates:
    """The answer with the greatest summed weight, one for each candidate; the words of its first supporter stand for all."""
    ballots: dict[Hashable, list[float]] = {}
    words: dict[Hashable, str] = {}
    for candidate, weight in zip(candidates, weights, strict=True):
        if (answer := candidate.answer) is not None:
            key = candidate.problem.answers.canonical(answer)
            ballots.setdefault(key, []).append(weight)
            words.setdefault(key, answer)
    if any(math.inf in some for some in ballots.values()):  # beyond comparison: only these count
        ballots = {key: [float(weight == math.inf) for weight in some] for key, some in ballots.items()}
    sums = {key: math.fsum(some) for key, some in ballots.items()}
    total = math.fsum(sums.values())
    if total <= 0:
        return replace(candidates, answer=None, confidence=None)
    winner = max(sums, key=sums.__getitem__)
    return replace(candidates, answer=words[winner], confidence=sums[winner] / total)
