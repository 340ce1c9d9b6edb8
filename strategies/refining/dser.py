"""Deep self-evolving reasoning (DSER): many lines of verify and refine, as Markov chains between right and wrong, and a vote."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Candidates, FloatArray
from reasonweave.strategies.refining.feedback import Feedback, Unheeded
from reasonweave.strategies.refining.refine import Line, Refine
from reasonweave.strategies.refining.writing import Writer


@dataclass(frozen=True)
class Late:
    """The answers that stood after the last `most` rounds, of all lines, the oldest first: those that vote in DSER.

    While there are fewer than 2 · `most` of them in a line, the drafts included, the later half.
    """

    most: int = 10

    def __post_init__(self) -> None:
        if self.most < 1:
            raise BadInput(f"Late(most={self.most}): 1 or more")

    def __call__(self, lines: Sequence[Line]) -> Candidates:
        rounds = [line.stood[-min(self.most, math.ceil(len(line.stood) / 2)) :] for line in lines]
        return Candidates(tuple(answer for together in zip(*rounds, strict=True) for answer in together))


def dser(
    writer: Writer,
    verify: Feedback,
    *,
    n: int = 8,
    rounds: int = 16,
    late: int = 10,
    heed: bool = False,
) -> Refine:
    """DSER (Liu et al., 2025, arXiv 2510.17498): `n` lines in which each answer is verified, then refined, `rounds` times over.

    Follow it with `majority`: the answers of the last `late` rounds of all lines vote. What `verify` says is for the writer
    to read; answers are refined whatever the verdict. With `heed`, one that is called right is not, and is verified again
    in the next round: a verifier that always says the same of an answer then makes it stand for ever.

    Each line is a Markov chain on right and wrong, as far as what becomes of an answer depends on that alone: `TwoStates`.
    """
    return Refine(writer, verify if heed else Unheeded(verify), rounds, n, confirm=math.inf, show=Late(late))


@dataclass(frozen=True)
class TwoStates:
    """The Markov chain of a line: a round makes a wrong answer right with chance `improve`, a right one wrong with `degrade`.

    >>> chain = TwoStates(improve=0.2, degrade=0.1)
    >>> round(chain.stationary, 3), round(chain.share(3, start=0.0), 3), chain.rounds(within=0.01), chain.lines(0.95)
    (0.667, 0.438, 12, 23)
    """

    improve: float
    degrade: float

    def __post_init__(self) -> None:
        if not (0 <= self.improve <= 1 and 0 <= self.degrade <= 1):
            raise BadInput(f"{self}: probabilities lie in 0..1")

    @classmethod
    def measured(cls, rounds: Iterable[tuple[bool, bool]]) -> TwoStates:
        """From pairs: was an answer right before a round, and after it? Raises `BadInput` where none was wrong before, or none
        right."""
        pairs = list(rounds)
        wrong, right = [after for before, after in pairs if not before], [after for before, after in pairs if before]
        if not wrong or not right:
            missing = "wrong" if right else "right"
            raise BadInput(f"TwoStates.measured: of {len(pairs)} answers none was {missing} before")
        return cls(sum(wrong) / len(wrong), right.count(False) / len(right))

    @property
    def stationary(self) -> float:
        """The share of right answers in the long run, improve / (improve + degrade); nan where nothing ever changes."""
        moved = self.improve + self.degrade
        return self.improve / moved if moved > 0 else math.nan

    @property
    def decay(self) -> float:
        """What is left of the distance from the stationary share after a round: 1 − improve − degrade."""
        return 1 - self.improve - self.degrade

    def share(self, t: int, start: float) -> float:
        """The share of right answers after t rounds, π + (start − π) · decay^t; a share `start` of the drafts is right."""
        if not self.improve + self.degrade > 0:
            return start
        return float(self.stationary + (start - self.stationary) * self.decay**t)

    def rounds(self, within: float = 0.01, start: float = 0.0) -> float:
        """After how many rounds the share of right answers is that near to the stationary one; inf where it never is."""
        distance, left = abs(start - self.stationary), abs(self.decay)
        if distance <= within:
            return 0
        if math.isnan(distance) or left == 1 or within <= 0 < left:
            return math.inf
        return 1 if left == 0 else math.ceil(math.log(within / distance) / math.log(left) - 1e-12)

    def vote(self, n: int, t: int, start: float, *, late: int = 1) -> float:
        """The chance that the vote of `n` independent lines after t rounds is right, the last `late` answers of each voting.

        Wrong answers are taken to be all the same, which is the worst that they can be, and a tie to be won every second
        time. With late=1 it is the binomial P(X > n/2) + P(X = n/2) / 2 with X ~ Bin(n, share(t)).
        """
        if n < 1 or not 1 <= late <= t + 1:
            raise BadInput(f"TwoStates.vote(n={n}, t={t}, late={late}): n is 1 or more, late in 1..t+1")
        votes = _sum_of(n, self._rights(t, start, late))
        half = n * late / 2
        counts = np.arange(len(votes))
        return float(votes[counts > half].sum() + votes[counts == half].sum() / 2)

    def lines(self, target: float, most: int = 100_001) -> float:
        """The smallest odd number of lines whose vote is right with chance `target`, at the stationary share, one answer of each
        voting; inf where not even `most` do, as with a share of ½ or less."""
        if self.stationary >= target:
            return 1
        if not self.stationary > 0.5:
            return math.inf
        chance = partial(_majority, share=self.stationary)
        low, high = 0, 1  # of 2k + 1 lines; the chance rises with k
        while chance(2 * high + 1) < target:
            low, high = high, 2 * high
            if 2 * high + 1 > most:
                return math.inf
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if chance(2 * middle + 1) >= target else (middle, high)
        return 2 * high + 1

    def _rights(self, t: int, start: float, late: int) -> FloatArray:
        """How probable 0, 1, … right ones are among the last `late` answers of a line, shape (late + 1,)."""
        first = self.share(t - late + 1, start)
        wrong, right = np.zeros(late + 1), np.zeros(late + 1)
        wrong[0], right[1] = 1 - first, first
        for _ in range(late - 1):
            mended = self.improve * wrong + (1 - self.degrade) * right
            wrong = (1 - self.improve) * wrong + self.degrade * right
            right = np.concatenate([[0.0], mended[:-1]])
        return wrong + right


def _sum_of(n: int, one: FloatArray) -> FloatArray:
    """The distribution of the sum of n independent numbers with this distribution on 0, 1, …"""
    total = np.ones(1)
    while n:
        if n & 1:
            total = np.convolve(total, one)
        n, one = n >> 1, np.convolve(one, one) if n > 1 else one
    return total


def _majority(n: int, share: float) -> float:
    """The chance that more than half of n are right, n being odd and the share of right ones in 0..1, ends excluded."""
    yes, no, ways = math.log(share), math.log1p(-share), math.lgamma(n + 1)
    some = range(n // 2 + 1, n + 1)
    logs = (ways - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * yes + (n - k) * no for k in some)
    return math.fsum(map(math.exp, logs))
