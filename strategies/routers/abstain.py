"""Abstention: answers that are not sure enough become "I don't know" (selective prediction; El-Yaniv & Wiener, 2010)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from reasonweave.orchestrator.calibration import Calibrator, ConformalThreshold
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Candidates, shown


@dataclass(frozen=True)
class Calibrated:
    """An aggregator that replaces a set's confidence by what `calibrator` makes of it, within 0..1; none and nan are none."""

    calibrator: Calibrator

    __repr__ = shown

    def __call__(self, candidates: Candidates) -> Candidates:
        if candidates.confidence is None:
            return candidates
        probability = self.calibrator(candidates.confidence)
        return replace(candidates, confidence=None if math.isnan(probability) else min(1.0, max(0.0, probability)))


@dataclass(frozen=True)
class Abstain:
    """An aggregator that takes back the answer of a set which is not sure enough: see `abstain`."""

    below: float | ConformalThreshold = 0.6
    calibrated: Calibrator | None = None

    __repr__ = shown

    def __post_init__(self) -> None:
        if math.isnan(self.threshold):
            raise BadInput("abstain(below=nan): a number is needed, or a ConformalThreshold")

    @property
    def threshold(self) -> float:
        return self.below.threshold if isinstance(self.below, ConformalThreshold) else float(self.below)

    def __call__(self, candidates: Candidates) -> Candidates:
        found = candidates if self.calibrated is None else Calibrated(self.calibrated)(candidates)
        sure = found.confidence
        if found.answer is not None and sure is not None and math.isfinite(sure) and sure >= self.threshold:
            return found
        return replace(found, answer=None, abstains=True)


def abstain(below: float | ConformalThreshold = 0.6, calibrated: Calibrator | None = None) -> Abstain:
    """Answer only where the confidence is at least `below` (0..1, or a fitted threshold); "I don't know" elsewhere.

    With `calibrated` the confidence is first replaced by what that makes of it. It stays where the answer is taken back, of
    which it was. A set without a confidence is not known to be sure enough and abstains; so does one without an answer, and no
    forced finish then guesses. What follows may answer anew: a node with ``when=lambda found: found.abstains``.

    Where a right answer wins one point and a wrong one loses λ, answering pays from a probability of λ / (1 + λ) on (Chow, 1970).

    >>> unsure = abstain(below=0.6)(Candidates(answer="4", confidence=0.5))
    >>> unsure.answer, unsure.abstains, unsure.confidence
    (None, True, 0.5)
    """
    return Abstain(below, calibrated)
