"""Best-of-n: sample n solutions independently, score them, let an aggregator choose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidates
from reasonweave.strategies.searches.live import begin, extend_live, score

MOST = 1_000_000
"""The most solutions of one problem: more do not fit a memory, and are a slip of the finger."""


@dataclass(frozen=True)
class BestOfN:
    """n independent solutions by one policy; with a verifier, each is scored when all are written.

    Follow it with `best` (best-of-n; Cobbe et al., 2021), `majority` (self-consistency; Wang et al., 2023) or `weighted`
    (weighted majority; Li et al., 2023). Each root is continued n / len(roots) times, in turn. `max_steps` bounds the
    calls a solution may take: 1 is enough for a policy that writes whole solutions.
    """

    policy: StepPolicy
    n: int = 16
    verifier: Verifier | None = None
    max_steps: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MOST or self.max_steps < 1:
            raise BadInput(f"BestOfN(n={self.n}, max_steps={self.max_steps}): n is 1 to {MOST:,}, max_steps 1 or more")

    @property
    def unscored(self) -> bool:
        """Do its candidates come without scores?"""
        return self.verifier is None

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        samples = begin(roots, self.n)
        for step in range(self.max_steps):
            samples = await extend_live(self.policy, samples, run.child("step", step))
            yield samples
            if samples.all_done:
                break
        if self.verifier is not None:
            yield await score(self.verifier, samples, run)
