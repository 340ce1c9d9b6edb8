"""A verifier's scores brought to another range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import is_relative, name_of, range_of, scored
from reasonweave.orchestrator.types import Candidate, Score


@dataclass(frozen=True)
class Scaled:
    """Scores of a verifier that declares its range, values and steps, brought to 0..`highest` in a straight line.

    Particle filters, weighted votes, RSD, REBASE, A* and MCTS read a score as a probability; SpecReason's threshold is of 0..9.
    Raises `BadInput` for a verifier without a range.

    Costs: what the verifier costs.
    """

    verifier: Verifier
    highest: float = 1.0

    def __post_init__(self) -> None:
        low, high = range_of(self.verifier)
        if not (math.isfinite(low) and math.isfinite(high) and low < high and 0 < self.highest < math.inf):
            raise BadInput(
                f"Scaled({name_of(self.verifier)}): it needs a verifier with a lowest and a highest score, and a range"
            )

    @property
    def lowest(self) -> float:
        return 0.0

    @property
    def relative(self) -> bool:
        return is_relative(self.verifier)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        scores = await scored(self.verifier, candidates, run)
        return [replace(s, value=self._brought(s.value), steps=tuple(map(self._brought, s.steps))) for s in scores]

    def _brought(self, value: float) -> float:
        low, high = range_of(self.verifier)
        return self.highest * (value - low) / (high - low)
