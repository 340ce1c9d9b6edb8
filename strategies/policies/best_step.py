"""Several drafts of each step, and the best of them: online best-of-n, and only where a step looks uncertain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.signals import uncertainties
from reasonweave.orchestrator.types import Candidate
from reasonweave.strategies.policies.acceptors import newest, or_lowest
from reasonweave.strategies.policies.sample import usable


class Pick(Protocol):
    """Chooses among the drafts of one step: a value each, the highest wins."""

    async def values(self, drafts: Sequence[Candidate], run: Run) -> list[float]: ...


@dataclass(frozen=True)
class ByScore:
    """What a verifier says of the newest step."""

    verifier: Verifier

    async def values(self, drafts: Sequence[Candidate], run: Run) -> list[float]:
        return await newest(self.verifier, drafts, run)


@dataclass(frozen=True)
class ByConfidence:
    """The mean log-probability of the newest step's tokens: no verifier, no further tokens."""

    async def values(self, drafts: Sequence[Candidate], run: Run) -> list[float]:
        return [-uncertainties(draft)[-1] if draft.steps else math.nan for draft in drafts]


@dataclass(frozen=True)
class BestStep:
    """`n` drafts of each candidate's next step by one policy; the one that `pick` values most stays.

    Online best-of-n: a beam search of width 1. Ties go to the earlier draft; a draft without a value (nan) is taken only where
    none has one. Drafts that failed or wrote nothing are left out while there is another.
    """

    policy: StepPolicy
    pick: Pick
    n: int = 4

    def __post_init__(self) -> None:
        if self.n < 1:
            raise BadInput(f"BestStep(n={self.n}): n is 1 or more")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        return await self.widen(candidates, [[] for _ in candidates], run)

    async def widen(
        self, candidates: Sequence[Candidate], known: Sequence[Sequence[Candidate]], run: Run
    ) -> list[Candidate]:
        """As `extend`, with drafts that exist already beside n − len(known) new ones."""
        missing = [max(0, self.n - len(some)) for some in known]
        asked = [c for c, m in zip(candidates, missing, strict=True) for _ in range(m)]
        made = iter(await self.policy.extend(asked, run.child("drafts")) if asked else ())
        pools = [[*some, *(next(made) for _ in range(m))] for some, m in zip(known, missing, strict=True)]
        pools = [usable(before, pool) for before, pool in zip(candidates, pools, strict=True)]
        values = iter(await self.pick.values([d for pool in pools for d in pool], run.child("pick")))
        return [max(pool, key=lambda draft: or_lowest(next(values))) for pool in pools]


Gate: TypeAlias = Callable[[Sequence[float]], bool]
"""From the uncertainties of a candidate's steps, the newest last (`signals.uncertainty`), to whether the newest needs more."""


@dataclass(frozen=True)
class Momentum:
    """Momentum uncertainty (MUR; Yan et al., 2025, arXiv 2507.14958): more where exp(m_t) > exp(M_{t−1}) / γ.

    M is the exponential mean of the earlier steps' m with weight α on its past, divided by 1 − α^t: the published code starts
    at 0 without that correction, so that a constant m opens the gate at each of the first steps. Smaller γ: fewer steps. The
    first step never needs more.
    """

    gamma: float = 0.9
    alpha: float = 0.9

    def __post_init__(self) -> None:
        if not (0 < self.gamma <= 1 and 0 <= self.alpha < 1):
            raise BadInput(f"Momentum(gamma={self.gamma}, alpha={self.alpha}): 0 < gamma <= 1 and 0 <= alpha < 1")

    def __call__(self, history: Sequence[float]) -> bool:
        past = [m for m in history[:-1] if not math.isnan(m)]
        if not past or math.isnan(history[-1]):
            return False
        mean = 0.0
        for m in past:
            mean = self.alpha * mean + (1 - self.alpha) * m
        mean /= 1 - self.alpha ** len(past)
        return history[-1] > mean - math.log(self.gamma)


@dataclass(frozen=True)
class Above:
    """More where the newest step's uncertainty is above a fixed threshold (uncertainty-guided chain of thought)."""

    threshold: float = 0.3

    def __call__(self, history: Sequence[float]) -> bool:
        return bool(history) and history[-1] > self.threshold


@dataclass(frozen=True)
class AboveMean:
    """More where the newest step is less sure than the mean of those before it."""

    def __call__(self, history: Sequence[float]) -> bool:
        past = [m for m in history[:-1] if not math.isnan(m)]
        return bool(past) and history[-1] > math.fsum(past) / len(past)


@dataclass(frozen=True)
class Every:
    """More at every k-th step, whatever its uncertainty: a baseline for the gates that look."""

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"Every(k={self.k}): k is 1 or more")

    def __call__(self, history: Sequence[float]) -> bool:
        return len(history) % self.k == 0


@dataclass(frozen=True)
class Gated:
    """One step by `policy`; where `gate` opens on it, `wider` writes more drafts beside it, and the best stays.

    The step that opened the gate stays in the running as the first draft (the published code throws it away). `wider` is a
    `BestStep`, often over the same policy.
    """

    policy: StepPolicy
    gate: Gate
    wider: BestStep
    signal: Callable[[Candidate], list[float]] = field(default=uncertainties)

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        items = list(await self.policy.extend(candidates, run.child("probe")))
        grown = [new.steps != old.steps and not new.failed for old, new in zip(candidates, items, strict=True)]
        open_ = [i for i, more in enumerate(grown) if more and self.gate(self.signal(items[i]))]
        if open_:
            before, known = [candidates[i] for i in open_], [[items[i]] for i in open_]
            for i, best in zip(open_, await self.wider.widen(before, known, run.child("wider")), strict=True):
                items[i] = best
        return items
