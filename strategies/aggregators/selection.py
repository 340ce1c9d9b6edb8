"""Which of n scored answers to trust, where the scores are a reward model's: between best-of-n and the majority."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from reasonweave.orchestrator.checking import reads_scores
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.aggregators.ballots import Ballot, ballots, elect, ticket
from reasonweave.strategies.aggregators.scores import as_probability, shared, tilted
from reasonweave.strategies.aggregators.vote import by_weight, foremost, majority, score_of


@reads_scores
@dataclass(frozen=True)
class MajorityOfBests:
    """Majority-of-the-Bests (Rakhsha et al., 2025, arXiv 2511.18630): the answer that most often has the highest score among m
    candidates drawn with replacement.

    In closed form (their appendix B): of N that answer, the one of ascending rank r is the best of m with probability
    (r/N)^m − ((r−1)/N)^m. Equal scores share the mass of their ranks evenly; none, and nan, is the lowest. `m` 1 is the majority
    vote, a large one best-of-n; None is ⌊√N⌋, the paper's "Poly". With `q` in 0..1 m is adaptive (their section 4.3, with q =
    0.75): of the distinct mⱼ = ⌊qʲN⌋, the one where the answers' distribution is nearest, in l₁, to that of mⱼ₋₁; of
    equally near ones the largest. The confidence is the probability of the answer. Without any score, all scores are
    equal, and the majority decides.
    """

    m: int | None = None
    q: float | None = None

    def __post_init__(self) -> None:
        if self.m is not None and self.m < 1:
            raise BadInput(f"MajorityOfBests(m={self.m}): 1 or more, or None for the root of their number, is needed")
        if self.q is not None and not 0 < self.q < 1:
            raise BadInput(f"MajorityOfBests(q={self.q}): q is between 0 and 1, or None for an m that is not adaptive")
        if self.m is not None and self.q is not None:
            raise BadInput(f"MajorityOfBests(m={self.m}, q={self.q}): either m is given or q, which finds it")

    def __call__(self, candidates: Candidates) -> Candidates:
        answers = ballots(candidates)
        return elect(candidates, answers, self._masses(candidates, answers, self.size(candidates)))

    def size(self, candidates: Candidates) -> int:
        """The m for these candidates."""
        answers = ballots(candidates)
        n = sum(len(answer.voters) for answer in answers)
        if self.q is None or n < 2:
            return self.m or max(1, math.isqrt(n))
        sizes, size = [n], float(n)
        while sizes[-1] > 1:
            size *= self.q
            if math.floor(size) < sizes[-1]:
                sizes.append(max(1, math.floor(size)))
        masses = [self._masses(candidates, answers, m) for m in sizes]
        apart = [math.fsum(abs(x - y) for x, y in zip(*pair, strict=True)) for pair in pairwise(masses)]
        return sizes[1 + apart.index(min(apart))]

    @staticmethod
    def _masses(candidates: Candidates, answers: Sequence[Ballot], m: int) -> list[float]:
        voters = [i for answer in answers for i in answer.voters]
        n = len(voters)
        points = [((r + 1) / n) ** m - (r / n) ** m for r in range(n)]
        mass = dict(zip(voters, shared([score_of(candidates[i]) for i in voters], points), strict=True))
        return [math.fsum(mass[i] for i in answer.voters) for answer in answers]


@reads_scores
@dataclass(frozen=True)
class BestOfMajority:
    """Best-of-Majority (Di et al., 2025, arXiv 2510.03199): best-of-n among the answers that are frequent enough.

    Answers with at least the share `threshold` of the votes stay (where none has it, the most frequent ones); of these, the one
    whose best supporter has the highest score. `threshold` 0 is best-of-n, 1 the majority vote with ties broken by score. The
    confidence is that score where it lies in 0..1. With `k` the set is cut down to at most k candidates, the best supporter of
    each of the k best answers, the best first, for whoever may hand in several (pass@k); None keeps the set whole. Without any
    score the majority decides.
    """

    threshold: float = 0.1
    k: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or (self.k is not None and self.k < 1):
            raise BadInput(
                f"BestOfMajority({self.threshold}, k={self.k}): threshold is in 0..1, k is 1 or more, or None"
            )

    def __call__(self, candidates: Candidates) -> Candidates:
        answers = ballots(candidates)
        cast = sum(len(answer.voters) for answer in answers)
        shares = [len(answer.voters) / cast for answer in answers]
        bar = min(self.threshold, max(shares, default=0.0))
        frequent = [answer for answer, share in zip(answers, shares, strict=True) if share >= bar]
        merits = [max(score_of(candidates[i]) for i in answer.voters) for answer in frequent]
        scored = max(merits, default=-math.inf) > -math.inf
        vote = as_probability(elect(candidates, frequent, merits, merits)) if scored else majority(candidates)
        if self.k is None:
            return vote
        order = sorted(zip(merits, frequent, strict=True), key=lambda x: (-x[0], ticket(candidates.seed, x[1].words)))
        return replace(vote, items=tuple(_leader(candidates, answer) for _, answer in order[: self.k]))


@reads_scores
@dataclass(frozen=True)
class SoftBest:
    """Soft best-of-n (Verdun et al., 2025, arXiv 2505.03156): candidate i weighs exp(score / temperature).

    The temperature, in units of the score, is between best-of-n (near 0) and the majority vote (large). The answer is the one
    with the greatest share of the weight; with `draw`, as in the paper, it is drawn with its share for a chance, by the set's
    seed. The confidence is its share. A candidate without a score weighs nothing; where nobody has one, all weigh the same.
    """

    temperature: float = 0.1
    draw: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise BadInput(f"SoftBest(temperature={self.temperature}): a number above 0 is needed")

    def __call__(self, candidates: Candidates) -> Candidates:
        scores = _scores(candidates)
        weights = dict(zip(scores, tilted([*scores.values()], self.temperature), strict=True))
        return _by_share(candidates, weights, self.draw)


@reads_scores
@dataclass(frozen=True)
class Pessimism:
    """Inference-time pessimism (Huang et al., 2025, arXiv 2503.21878): candidate i weighs max(0, (score − λ) / beta), with λ such
    that the mean weight is 1.

    Of all distributions over the candidates, these weights have the highest mean score less beta / 2 times the χ² divergence
    from the even one, so that a score too good to be true is followed less far. `beta` is in units of the score: near 0 it is
    best-of-n, large the majority vote. The answer is the one with the greatest share of the weight; with `draw`, as in the
    paper, it is drawn with its share for a chance, by the set's seed. The confidence is its share. A candidate without a score
    is left out; where nobody has one, all weigh the same.
    """

    beta: float = 0.1
    draw: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise BadInput(f"Pessimism(beta={self.beta}): a number above 0 is needed")

    def level(self, scores: Sequence[float]) -> float:
        """λ for these scores, exactly: with the k highest above λ it would be (their sum − n · beta) / k, and the right k is
        the one that makes it greatest."""
        n, order = len(scores), sorted(scores, reverse=True)
        return max((total - n * self.beta) / k for k, total in enumerate(accumulate(order), 1))

    def __call__(self, candidates: Candidates) -> Candidates:
        scores = _scores(candidates)
        top = max(scores.values(), default=0.0)
        if math.isfinite(top):
            # Scores as distances from the highest, in which a small beta does not drown.
            below = {i: score - top for i, score in scores.items() if score > -math.inf}
            level = self.level([*below.values()]) if below else 0.0
            weights = {i: max(0.0, (value - level) / self.beta) for i, value in below.items()}
        else:
            weights = {i: float(score == top) for i, score in scores.items()}
        return _by_share(candidates, weights, self.draw)


def _scores(candidates: Candidates) -> dict[int, float]:
    """The scores of those that answer, by their index."""
    return {i: score_of(candidates[i]) for answer in ballots(candidates) for i in answer.voters}


def _leader(candidates: Candidates, answer: Ballot) -> Candidate:
    """The supporter of an answer with the highest score."""
    some = [candidates[i] for i in answer.voters]
    return foremost(candidates, some, [score_of(c) for c in some])


def _by_share(candidates: Candidates, weights: dict[int, float], draw: bool) -> Candidates:
    """The answer with the greatest share of the weight, or one drawn by its share: the first of an exponential race, in which
    each answer's time is that of its ticket over its weight."""
    vote = by_weight(candidates, [weights.get(i, 0.0) for i in range(len(candidates))])
    if not draw or vote.answer is None:
        return vote
    masses = {a: math.fsum(weights.get(i, 0.0) for i in a.voters) for a in ballots(candidates)}
    times = {a: -math.log(_lot(candidates.seed, a.words)) / mass for a, mass in masses.items() if mass > 0}
    first = min(times, key=lambda a: (times[a], a.words))
    return replace(vote, answer=first.words, confidence=masses[first] / math.fsum(masses.values()))


def _lot(seed: int, words: str) -> float:
    """A number in 0..1, evenly spread, for these words and this seed."""
    return (int.from_bytes(ticket(seed, words)[:6]) + 0.5) / 2**48
