"""How often to try again when what accepts an answer errs: resampling with an imperfect verifier (Stroebl et al., 2024).

Attempts are made until the verifier accepts one, at most k times; that one is the answer, else there is none. An attempt is
right with probability r (`success`), a right one accepted with probability c (`completeness`), a wrong one rejected with
probability s (`soundness`). Where tasks differ, `success` is a sequence with one r a type of task and `priors` how common each
is (equally, where not told).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How k attempts end: the probabilities that a right answer is accepted, a wrong one, or none; and how many are made."""

    right: float
    wrong: float
    none: float
    attempts: float

    @property
    def precision(self) -> float:
        """The share of right ones among the accepted; nan where none is ever accepted."""
        accepted = self.right + self.wrong
        return self.right / accepted if accepted > 0 else math.nan


def outcomes(
    k: float,
    success: float | Sequence[float],
    completeness: float,
    soundness: float,
    *,
    priors: Sequence[float] | None = None,
) -> Outcomes:
    """How at most k attempts end (`math.inf`: as many as it takes).

    With β = (1 − c) r + s (1 − r), the chance that an attempt is rejected, attempt j is reached with probability β^(j−1), so that
    right = Σⱼ β^(j−1) c r = c r (1 − β^k) / (1 − β), and likewise wrong, with (1 − s)(1 − r). Types are averaged by their priors.

    >>> ended = outcomes(math.inf, 0.5, completeness=1.0, soundness=0.75)
    >>> round(ended.right, 3), round(ended.wrong, 3), round(ended.attempts, 3)
    (0.8, 0.2, 1.6)
    """
    _check(k >= 0 and (k == math.inf or k == int(k)), f"k={k}: attempts are a whole number, 0 or more, or inf")
    parts = []
    for prior, r in _types(success, completeness, soundness, priors):
        right, wrong = completeness * r, (1 - soundness) * (1 - r)
        accepted = right + wrong
        logs = 0.0 if k == 0 or accepted == 0 else k * (math.log1p(-accepted) if accepted < 1 else -math.inf)
        rejected, made = math.exp(logs), -math.expm1(logs) / accepted if accepted > 0 else k
        told = (right * made if right else 0.0, wrong * made if wrong else 0.0, rejected, made)
        parts.append([prior * each for each in told])
    return Outcomes(*(math.fsum(column) for column in zip(*parts, strict=True)))


def expected_value(
    k: float,
    success: float | Sequence[float],
    completeness: float,
    soundness: float,
    *,
    priors: Sequence[float] | None = None,
    value: float = 1.0,
    penalty: float = 0.0,
    cost: float = 0.0,
) -> float:
    """What at most k attempts are worth on average: value · P(right) − penalty · P(wrong) − cost · attempts.

    No answer is worth 0. With the defaults it is the accuracy.
    """
    ended = outcomes(k, success, completeness, soundness, priors=priors)
    return value * ended.right - penalty * ended.wrong - (cost * ended.attempts if cost else 0.0)


def best_attempts(
    success: float | Sequence[float],
    completeness: float,
    soundness: float,
    *,
    priors: Sequence[float] | None = None,
    value: float = 1.0,
    penalty: float = 0.0,
    cost: float = 0.0,
    most: int = 1000,
) -> int:
    """The number of attempts, 0 to `most`, that is worth most; of several, the smallest. 0 says: do not even try.

    Attempt k adds Σ prior · β^(k−1) · (value · c r − penalty · (1 − s)(1 − r) − cost) over the types. The sign is that of what
    another attempt can be expected to gain after k − 1 rejections, each of which makes a hard task more likely. With a verifier
    better than chance (c + s > 1) it changes once at most, from plus to minus, so that going on while it is positive is optimal.
    Where it never turns negative, `most` comes out, or from where on numbers cannot tell the difference: one type of task that is
    worth an attempt is always worth another.

    >>> hard_or_easy = dict(success=(0.87, 0.13), priors=(0.58, 0.42), completeness=1.0, soundness=0.75)
    >>> [best_attempts(**hard_or_easy, penalty=p) for p in (0.7, 1.0, 2.0, 6.0)]
    [3, 2, 1, 0]
    """
    _check(most >= 0, f"most={most}: 0 or more")
    types = list(_types(success, completeness, soundness, priors))
    rejections = [1 - completeness * r - (1 - soundness) * (1 - r) for _, r in types]
    gains = [prior * (value * completeness * r - penalty * (1 - soundness) * (1 - r) - cost) for prior, r in types]
    best, since = 0, 0.0
    for k in range(1, most + 1):
        since += math.fsum(gain * beta ** (k - 1) for gain, beta in zip(gains, rejections, strict=True))
        if since > 0:
            best, since = k, 0.0
    return best


def ceiling(
    success: float | Sequence[float],
    completeness: float,
    soundness: float,
    *,
    priors: Sequence[float] | None = None,
) -> float:
    """The accuracy that no number of attempts exceeds: P(right) for k → ∞, c r / (c r + (1 − s)(1 − r)) for one type of task.

    >>> round(ceiling(0.1, completeness=1.0, soundness=0.9), 3)
    0.526
    """
    return outcomes(math.inf, success, completeness, soundness, priors=priors).right


def measured(accepted: Sequence[bool], right: Sequence[bool]) -> tuple[float, float, float]:
    """Success, completeness and soundness as shares of graded attempts, in that order; nan where there is nothing to divide by.

    >>> measured([True, True, False, False], [True, False, False, False])
    (0.25, 1.0, 0.6666666666666666)
    """
    pairs = list(zip(accepted, right, strict=True))
    rights, wrongs = [a for a, r in pairs if r], [a for a, r in pairs if not r]
    return (
        len(rights) / len(pairs) if pairs else math.nan,
        sum(rights) / len(rights) if rights else math.nan,
        wrongs.count(False) / len(wrongs) if wrongs else math.nan,
    )


def _types(
    success: float | Sequence[float], completeness: float, soundness: float, priors: Sequence[float] | None
) -> Iterator[tuple[float, float]]:
    """(prior, success) of each type, checked, the priors adding up to 1."""
    rates = [float(success)] if isinstance(success, int | float) else list(success)
    weights = [1.0] * len(rates) if priors is None else list(priors)
    for name, each in (("success", rates), ("completeness", [completeness]), ("soundness", [soundness])):
        _check(all(0 <= p <= 1 for p in each), f"{name}={each}: probabilities lie in 0..1")
    _check(
        len(weights) == len(rates) and min(weights, default=-1.0) >= 0 and sum(weights) > 0,
        f"priors={weights}: one for each of the {len(rates)} types of task, 0 or more",
    )
    total = math.fsum(weights)
    return ((weight / total, rate) for weight, rate in zip(weights, rates, strict=True) if weight > 0)


def _check(holds: bool, told: str) -> None:
    if not holds:
        raise BadInput(told)
