"""Capability-aware sampling: a model's own word on whether to start over, asked at the end or half-way (Manvi et al., 2024)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidates
from reasonweave.strategies.searches.attempts import Attempts, Heat
from reasonweave.strategies.searches.live import begin, extend_live, score, value


def restarts(
    policy: StepPolicy,
    verifier: Verifier,
    n: int = 16,
    threshold: float = 0.5,
    heat: Heat | None = None,
    *,
    max_steps: int = 64,
) -> Attempts:
    """Capability-aware sampling (Manvi, Singh & Ermon, 2024, arXiv 2410.02725): another solution while a restart looks better.

    `verifier` is the self-evaluation, read as P(no restart would do better), in 0..1, from one token (`SelfCheck`); a reward
    model will do. Sampling ends with the first solution that is given `threshold` or more, and after `n`. End with `best`: the
    answer of the solution with the highest self-score.
    """
    return Attempts(policy, verifier, threshold, n, heat, max_steps)


@dataclass(frozen=True)
class PruneMidway:
    """n solutions begun, self-evaluated after `at` extensions each, and only the best `keep` share of them finished.

    Early pruning (Manvi, Singh & Ermon, 2024). ⌈keep · n⌉ go on by the verifier's score of what is written, nan being the
    lowest; a solution that has ended by then stays in any case, because it costs nothing more. With `judged` what comes out is
    scored at its end, for conclusions by score. The policy must write in steps; give it a short `max_tokens` to be evaluated
    after so many tokens.
    """

    policy: StepPolicy
    verifier: Verifier
    n: int = 16
    at: int = 1
    keep: float = 0.25
    judged: bool = True
    max_steps: int = 64

    def __post_init__(self) -> None:
        if min(self.n, self.at, self.max_steps) < 1 or not 0 < self.keep <= 1:
            raise BadInput(f"{self}: n, at and max_steps are 1 or more, keep is in 0..1 and above 0")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        samples = begin(roots, self.n)
        for step in range(self.max_steps):
            samples = await extend_live(self.policy, samples, run.child("step", step))
            yield samples
            if samples.all_done:
                break
            if step + 1 == self.at:
                samples = self._kept(await score(self.verifier, samples, run.child("midway")))
                yield samples
        if self.judged:
            yield await score(self.verifier, samples, run.child("end"))

    def _kept(self, samples: Candidates) -> Candidates:
        """Those that go on, and those that have ended, in their order."""
        ranks = sorted(range(len(samples)), key=lambda i: value(samples[i]), reverse=True)
        going = set(ranks[: math.ceil(self.keep * len(samples))])
        return Candidates(tuple(c for i, c in enumerate(samples) if i in going or c.done))
