"""Verifiers that look further: score what a candidate becomes, or read how sure its author was."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import Around, scored
from reasonweave.orchestrator.signals import entropy, uncertainty
from reasonweave.orchestrator.types import Candidate, Candidates, Score, Step, shown, softmax
from reasonweave.strategies.policies.acceptors import of_last_step
from reasonweave.strategies.searches.live import begin, extend_live, moved, score
from reasonweave.strategies.searches.weighing import Potential, log_reward


@dataclass(frozen=True)
class Foresight(Around):
    """A verifier's score of what `policy` makes of a candidate in `steps` more steps: the look-ahead of beam search (Snell et
    al., 2024). The steps are thrown away. Give a greedy policy for the published form."""

    policy: StepPolicy
    verifier: Verifier
    steps: int = 1

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        seen = begin(Candidates(tuple(candidates)), len(candidates))
        for k in range(self.steps):
            seen = await extend_live(self.policy, seen, run.child("ahead", k))
        judged = await score(self.verifier, seen, run)
        return [c.score or Score(math.nan, error=c.failed or "there is nothing to judge yet") for c in judged]


@dataclass(frozen=True)
class Newest(Around):
    """A verifier's word on the newest step: the last of its step scores, where it gives any. That is what a process reward
    model that judges prefixes is read at while a search is under way; a product of step scores falls with every step."""

    verifier: Verifier

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [replace(s, value=of_last_step(s)) for s in await scored(self.verifier, candidates, run)]


def mean_probability(step: Step) -> float:
    """The geometric mean probability of a step's tokens, in 0..1; nan without log-probabilities."""
    return math.exp(-uncertainty(step))


def mean_entropy(step: Step) -> float:
    """exp(−mean entropy) of a step's next-token distributions, in 0..1; nan where their alternatives were not kept."""
    values = [value for token in step.told if not math.isnan(value := entropy(token))]
    return math.exp(-math.fsum(values) / len(values)) if values else math.nan


@dataclass(frozen=True)
class OwnConfidence:
    """How sure a candidate's author was of its newest step, in 0..1, from log-probabilities that are paid for already: no reward
    model. Particle filters weighed by it follow the model's own certainty. A step that tells nothing gets ½, which has no odds.

    `of` reads a step: `mean_probability`, or `mean_entropy` for policies that keep `top_logprobs`.
    """

    of: Callable[[Step], float] = mean_probability

    __repr__ = shown

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        steps = [tuple(0.5 if math.isnan(s := self.of(step)) else s for step in c.steps) for c in candidates]
        return [Score(each[-1] if each else 0.5, each) for each in steps]


@dataclass(frozen=True)
class Tilted:
    """A policy that proposes `width` steps by another, and takes one of them with chances ∝ its potential G: a proposal that
    knows what it will be weighed by (nested sequential Monte Carlo; Naesseth et al., 2015; local twisting).

    It adds log(mean of the G) − log(G of the one taken) to `log_weight`, so that a filter with ratio weights, the same
    verifier and the same potential stays properly weighted. With exact values as potentials, the weights' variance goes to
    zero with `width`.
    """

    policy: StepPolicy
    verifier: Verifier
    width: int = 4
    potential: Potential = log_reward

    __repr__ = shown

    def __post_init__(self) -> None:
        if self.width < 1:
            raise BadInput(f"Tilted(width={self.width}): 1 or more is needed")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        copies = Candidates(tuple(c for c in candidates for _ in range(self.width)))
        judged = await score(self.verifier, await extend_live(self.policy, copies, run), run)
        taken = []
        for i, before in enumerate(candidates):
            drafts = judged.items[i * self.width : (i + 1) * self.width]
            logs = np.array([self.potential(d) if moved(before, d) else -math.inf for d in drafts])
            at = int(run.child("take", i).rng().choice(self.width, p=softmax(logs)))
            gain = 0.0
            if math.isfinite(logs[at]):  # else none has a chance
                gain = Candidates(drafts).reweight(logs).log_evidence - float(logs[at])
            taken.append(replace(drafts[at], log_weight=drafts[at].log_weight + gain))
        return taken
