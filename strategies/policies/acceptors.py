"""Whether a drafted step stays: acceptors over verifiers and over the draft's own confidence, and how they combine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from reasonweave.orchestrator.protocols import Acceptor, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute, scored
from reasonweave.orchestrator.signals import uncertainty
from reasonweave.orchestrator.types import Candidate, Score

Weighting: TypeAlias = Callable[[float], float]
"""From a reward to the probability of keeping what earned it: ω of RSD."""


def of_last_step(score: Score) -> float:
    """What a verifier says of the newest step: the last step score where there are some, else the value."""
    return score.steps[-1] if score.steps else score.value


async def newest(verifier: Verifier, candidates: Sequence[Candidate], run: Run) -> list[float]:
    """`of_last_step` of each candidate, in one call."""
    return [of_last_step(score) for score in await scored(verifier, candidates, run)]


def or_lowest(value: float) -> float:
    """A value to compare by: nan is below every number."""
    return -math.inf if math.isnan(value) else value


@dataclass(frozen=True)
class AtLeast:
    """Keep a step that `verifier` gives `threshold` or more. A verifier that could not judge (nan) rejects."""

    verifier: Verifier
    threshold: float

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        return [value >= self.threshold for value in await newest(self.verifier, drafted, run)]


@dataclass(frozen=True)
class Weighted:
    """Keep a step with probability ω(reward), ω being `weighting` (RSD, Liao et al., 2025). nan rejects."""

    verifier: Verifier
    weighting: Weighting

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        rewards = await newest(self.verifier, drafted, run)
        draws = run.child("draw").rng().random(len(rewards))
        return [not math.isnan(r) and bool(u < self.weighting(r)) for r, u in zip(rewards, draws, strict=True)]


@dataclass(frozen=True)
class Sure:
    """Keep a step whose tokens' geometric mean probability, under the model that drafted it, is `threshold` or more.

    Costs nothing. A step without log-probabilities is rejected.
    """

    threshold: float

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        return [self._sure(old, new) for old, new in zip(before, drafted, strict=True)]

    def _sure(self, before: Candidate, drafted: Candidate) -> bool:
        return math.exp(-uncertainty(*drafted.steps[len(before.steps) :])) >= self.threshold  # nan is not


@dataclass(frozen=True)
class Both:
    """Keep what both accept. The second is asked about what the first has accepted: put the cheaper one first."""

    first: Acceptor
    second: Acceptor

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        return await _then(self.first, self.second, True, before, drafted, run)


@dataclass(frozen=True)
class Either:
    """Keep what one of the two accepts. The second is asked about what the first has rejected."""

    first: Acceptor
    second: Acceptor

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        return await _then(self.first, self.second, False, before, drafted, run)


def also_sure(accept: Acceptor, sure: float) -> Acceptor:
    """The acceptor, asked only about drafts that were `sure` enough of themselves; 0 leaves it as it is."""
    return Both(Sure(sure), accept) if sure > 0 else accept


async def _then(
    first: Acceptor,
    second: Acceptor,
    undecided: bool,
    before: Sequence[Candidate],
    drafted: Sequence[Candidate],
    run: Run,
) -> list[bool]:
    verdicts = await first.accept(before, drafted, run.child("first"))
    open_ = [i for i, verdict in enumerate(verdicts) if verdict is undecided]
    if open_:
        asked = [before[i] for i in open_], [drafted[i] for i in open_]
        for i, verdict in zip(open_, await second.accept(*asked, run.child("second")), strict=True):
            verdicts[i] = verdict
    return verdicts


@dataclass(frozen=True)
class Always:
    """Keep every step, or with `verdict=False` none."""

    verdict: bool = True

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        return [self.verdict] * len(drafted)
