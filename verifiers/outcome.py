"""Outcome reward models as verifiers: one score for a whole solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.models.base import RewardModel
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Score


@dataclass(frozen=True)
class OutcomeReward:
    """A served outcome reward model: what it says of the whole solution (Cobbe et al., 2021).

    The server's format `outcome` asks it on `/classify`; docs/serving.md has a models file. Of a process reward model it is the
    last step's score. There are no step scores: what a model that was trained on whole solutions says of a part is a guess.

    Costs: one pass of the reward model a candidate.
    """

    model: RewardModel

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [replace(score, steps=()) for score in await self.model.rate(candidates, run)]
