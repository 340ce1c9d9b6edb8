"""Conditions on candidate sets, for `when=` and `enough=` in a graph. Any function of a set to a truth value is one too."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reasonweave.orchestrator.protocols import Condition
from reasonweave.orchestrator.types import Candidates


@dataclass(frozen=True, slots=True)
class Sure:
    """Is there an answer, with a confidence of `least` (0..1) or more?"""

    least: float = 0.6

    def __call__(self, candidates: Candidates) -> bool:
        sure = candidates.confidence
        return candidates.answer is not None and sure is not None and not math.isnan(sure) and sure >= self.least


@dataclass(frozen=True, slots=True)
class Answered:
    """Is there an answer, concluded or a candidate's?"""

    def __call__(self, candidates: Candidates) -> bool:
        return candidates.answer is not None or any(c.answer is not None for c in candidates)


@dataclass(frozen=True, slots=True)
class Scored:
    """Has the best candidate a score of `least` or more?"""

    least: float = 0.5

    def __call__(self, candidates: Candidates) -> bool:
        best = candidates.best
        return (
            best is not None and best.answer is not None and best.score is not None and best.score.value >= self.least
        )


@dataclass(frozen=True)
class Not:
    """Where this does not hold."""

    condition: Condition

    def __call__(self, candidates: Candidates) -> bool:
        return not self.condition(candidates)


def sure(least: float = 0.6) -> Condition:
    """An answer with a confidence of at least this much.

    >>> sure(0.5)(Candidates(answer="4", confidence=0.75)), sure(0.8)(Candidates(answer="4", confidence=0.75))
    (True, False)
    """
    return Sure(least)


def unsure(below: float = 0.6) -> Condition:
    """No answer, no confidence, or less than this much.

    >>> unsure(0.6)(Candidates(answer="4"))
    True
    """
    return Not(Sure(below))
