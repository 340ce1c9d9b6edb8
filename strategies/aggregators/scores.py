"""Votes over scores: by their mean, by their log-odds, by their ranks. `weighted`, by their sum, is in `vote`."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.checking import reads_scores
from reasonweave.orchestrator.confidence import Measure
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Candidates, shown
from reasonweave.strategies.aggregators.ballots import ballots, elect
from reasonweave.strategies.aggregators.vote import by_weight, majority, score_of


@reads_scores
def weighted_mean(candidates: Candidates) -> Candidates:
    r"""The answer whose supporters have the highest mean score: how often it was given does not count.

    The confidence is that mean where it lies in 0..1, else None. Supporters without a score are left out of the mean; where
    nobody has one, the majority decides.

    >>> from reasonweave.orchestrator.types import Candidate, Problem, Score, Step
    >>> def said(answer, score):
    ...     step = Step(f"\\boxed{{{answer}}}", "m", 1)
    ...     return Candidate(Problem("q"), (step,), done=True, score=Score(score))
    >>> vote = weighted_mean(Candidates((said("4", 0.25), said("4", 0.75), said("5", 0.625))))
    >>> vote.answer, vote.confidence
    ('5', 0.625)
    """
    answers = ballots(candidates)
    merits = []
    for answer in answers:
        scores = [score for i in answer.voters if (score := score_of(candidates[i])) > -math.inf]
        merits.append(math.fsum(scores) / len(scores) if scores else -math.inf)
    if max(merits, default=-math.inf) == -math.inf:
        return majority(candidates)
    return as_probability(elect(candidates, answers, merits, merits))


@reads_scores
@dataclass(frozen=True)
class LogOdds:
    r"""Scores as evidence: each supporter adds log(p / (1 − p)) to its answer, so that a score below ½ speaks against it.

    p is the score, clipped to clip..1 − clip; a supporter without a score adds nothing. The confidence is the softmax over the
    answers' sums. That is the posterior probability of the answer if one of those given is right and all are as likely
    beforehand, if scores are calibrated probabilities, and if they err independently of each other. Solutions of one model,
    judged by one reward model, do not: expect it to be too sure, the more so the more samples there are. Where nobody has a
    score, the majority decides.

    >>> from reasonweave.orchestrator.types import Candidate, Problem, Score, Step
    >>> def said(answer, score):
    ...     step = Step(f"\\boxed{{{answer}}}", "m", 1)
    ...     return Candidate(Problem("q"), (step,), done=True, score=Score(score))
    >>> vote = LogOdds()(Candidates((said("4", 0.4), said("4", 0.4), said("5", 0.5))))
    >>> vote.answer, round(vote.confidence, 4)  # 1 / (1 + (0.4 / 0.6)²)
    ('5', 0.6923)
    """

    clip: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.clip < 0.5:
            raise BadInput(f"LogOdds(clip={self.clip}): above 0 and below 0.5 is needed")

    def __call__(self, candidates: Candidates) -> Candidates:
        answers = ballots(candidates)
        scores = [math.nan if c.score is None else c.score.value for c in candidates]
        if all(math.isnan(scores[i]) for answer in answers for i in answer.voters):
            return majority(candidates)
        clipped = [0.5 if math.isnan(score) else min(max(score, self.clip), 1 - self.clip) for score in scores]
        sums = [math.fsum(math.log(clipped[i] / (1 - clipped[i])) for i in answer.voters) for answer in answers]
        return elect(candidates, answers, tilted(sums))


@dataclass(frozen=True)
class Borda:
    """A rank vote: of N that answer, the k-th best by a measure gives its answer (N − k + 1)^power points (Kang et al., 2025,
    arXiv 2502.18581, with self-certainty as the measure: `Borda(by=self_certainty)`).

    `power` 0 is the majority vote, a large one best-of-n. Equals share the points of their ranks evenly; nan is below every
    number. The confidence is the share of the points.
    """

    power: float = 0.5
    by: Measure = score_of
    __repr__ = shown

    def __post_init__(self) -> None:
        if not 0 <= self.power < math.inf:
            raise BadInput(f"Borda(power={self.power}): 0 or more is needed")

    def __call__(self, candidates: Candidates) -> Candidates:
        voters = [i for answer in ballots(candidates) for i in answer.voters]
        n = len(voters)
        points = [((rank + 1) / n) ** self.power for rank in range(n)]  # as shares of N, so that no power is too large
        weights = [0.0] * len(candidates)
        for i, share in zip(voters, shared([or_least(self.by(candidates[i])) for i in voters], points), strict=True):
            weights[i] = share
        return by_weight(candidates, weights)


def shared(values: Sequence[float], points: Sequence[float]) -> list[float]:
    """What each value gets of the points for ranks 1 (the lowest value) to n, where equals share what their ranks get.

    >>> shared([0.5, 0.1, 0.5], [1, 2, 4])
    [3.0, 1.0, 3.0]
    """
    order = sorted(values)
    got = {}
    for value in dict.fromkeys(order):
        low, high = bisect_left(order, value), bisect_right(order, value)
        got[value] = math.fsum(points[low:high]) / (high - low)
    return [got[value] for value in values]


def tilted(values: Sequence[float], temperature: float = 1.0) -> list[float]:
    """exp((value − the greatest) / temperature), the same in any order; +inf takes everything, and where all are -inf all are
    1."""
    top = max(values, default=0.0)
    if not math.isfinite(top):
        return [float(value == top) for value in values]
    return [math.exp((value - top) / temperature) for value in values]


def or_least(value: float) -> float:
    """A number, or -inf for nan."""
    return -math.inf if math.isnan(value) else value


def as_probability(vote: Candidates) -> Candidates:
    """The vote with its confidence where that lies in 0..1, else with None."""
    sure = vote.confidence
    return vote if sure is not None and 0 <= sure <= 1 else replace(vote, confidence=None)
