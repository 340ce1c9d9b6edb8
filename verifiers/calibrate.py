"""Scores as probabilities: a verifier behind a calibrator that was fitted to labelled candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.calibration import Calibrator, Isotonic
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import is_relative, scored
from reasonweave.orchestrator.types import Candidate, Score, shown


@dataclass(frozen=True)
class CalibratedScore:
    """A verifier whose value is made a probability that the candidate is right, by `calibrator`.

    There are no step scores: what says how often a solution with this value is right says nothing of a step.

    `Isotonic`, `Platt` and `TemperatureScaling` of `reasonweave.orchestrator.calibration` are calibrators, and `from_json` there
    reads one that `verify-quality --save` has written. What a calibrator makes equal stays equal: isotonic ones have ties.

    Costs: what the verifier costs.
    """

    verifier: Verifier
    calibrator: Calibrator

    __repr__ = shown

    lowest = 0.0
    highest = 1.0

    @property
    def relative(self) -> bool:
        return is_relative(self.verifier)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        scores = await scored(self.verifier, candidates, run)
        return [s if math.isnan(s.value) else replace(s, value=self._probability(s.value), steps=()) for s in scores]

    def _probability(self, value: float) -> float:
        return min(1.0, max(0.0, self.calibrator(value)))


async def calibrated(
    verifier: Verifier,
    candidates: Sequence[Candidate],
    correct: Sequence[bool],
    run: Run,
    *,
    fit: Callable[[Iterable[float | None], Iterable[bool]], Calibrator] = Isotonic.fit,
) -> CalibratedScore:
    """The verifier, calibrated on labelled candidates: asked about each once, which is paid from `run`.

    Raises `BadInput` where fewer than 10 of them could be judged, or all are right, or all wrong.
    """
    scores = await scored(verifier, candidates, run.child("calibrate"))
    return CalibratedScore(verifier, fit([score.value for score in scores], correct))
