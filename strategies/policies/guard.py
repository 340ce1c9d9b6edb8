"""An end for candidates that go round in circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate


@dataclass(frozen=True)
class Guard:
    """A policy whose candidates are done when they write the same step `repeats` times in a row.

    Each candidate is watched by itself. `repeats=2` is SpecReason's loop guard; RSD's code stops all sequences of a batch
    together when none has ended for five rounds, which this replaces. A guarded candidate has no answer of its own, so a forced
    finish gives it one.
    """

    policy: StepPolicy
    repeats: int = 2

    def __post_init__(self) -> None:
        if self.repeats < 2:
            raise BadInput(f"Guard(repeats={self.repeats}): a repetition takes 2 or more")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        extended = await self.policy.extend(candidates, run)
        return [replace(c, done=True) if not c.done and self._circles(c) else c for c in extended]

    def _circles(self, candidate: Candidate) -> bool:
        last = [text for passage in candidate.passages if (text := passage.strip())][-self.repeats :]
        return len(last) == self.repeats and len(set(last)) == 1
