"""What came after RSD: guided speculative inference, the advantage gate, a running quality, a mixture of confidences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import scored
from reasonweave.orchestrator.signals import told, uncertainty
from reasonweave.orchestrator.types import DELIMITER, Candidate, FloatArray, softmax
from reasonweave.strategies.policies.acceptors import newest, of_last_step, or_lowest
from reasonweave.strategies.policies.mixture import Mixture
from reasonweave.strategies.policies.reading import Reading, tail
from reasonweave.strategies.policies.sample import Sample, usable
from reasonweave.strategies.policies.speculate import Speculate


@dataclass(frozen=True)
class Guided:
    """Guided speculative inference (GSI; Geuter et al., 2025, arXiv 2506.04118): soft best-of-n over drafts, tilted to the
    large model.

    The small model drafts `n` steps y. One is drawn with weights softmax(β r(y) + log P_large(y) − log P_small(y)), and stays if
    its own exponent exceeds `threshold`. Else the large model writes n steps, and one is drawn with weights softmax(β r). At
    temperature 1, in the limit of many drafts, this is the large model tilted by the reward, P_large(y) e^{β r(y)}; the paper's
    0.7 draws drafts from a sharper small model than the ratio divides by.

    log P_large costs a reading of the prompt per draft (`Sampling.prefix_logprobs`), past the prefix cache. A draft that cannot
    be read, or has no reward, is not drawn.
    """

    small: Model
    large: Model
    prm: Verifier
    n: int = 16
    beta: float = 20.0
    threshold: float = 10.0
    until: str = DELIMITER
    temperature: float = 0.7
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.n < 1 or self.beta < 0:
            raise BadInput(f"Guided(n={self.n}, beta={self.beta}): n is 1 or more, beta 0 or more")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """Drafts, rewards, readings; where none stays, steps of the large model and their rewards: five calls."""
        pools = await self._several(self.small, candidates, run.child("draft"))
        rewards = await self._rewards(pools, run.child("reward"))
        ratios = await self._ratios(candidates, pools, run.child("read"))
        items, redo = list(candidates), list[int]()
        for i, (pool, r, ratio) in enumerate(zip(pools, rewards, ratios, strict=True)):
            tilted = self.beta * r + ratio
            at = draw(tilted, run.child("draw", i))
            if at is not None and tilted[at] > self.threshold:
                items[i] = pool[at]
            else:
                redo.append(i)
        if redo:
            pools = await self._several(self.large, [candidates[i] for i in redo], run.child("target"))
            rewards = await self._rewards(pools, run.child("target", "reward"))
            for i, pool, r in zip(redo, pools, rewards, strict=True):
                at = draw(self.beta * r, run.child("target", "draw", i))
                items[i] = pool[0 if at is None else at]
        return items

    async def _several(self, model: Model, candidates: Sequence[Candidate], run: Run) -> list[list[Candidate]]:
        policy = Sample(model, self.until, self.temperature, max_tokens=self.max_tokens, top_logprobs=1)
        made = await policy.extend([c for c in candidates for _ in range(self.n)], run)
        return [usable(c, made[i * self.n : (i + 1) * self.n]) for i, c in enumerate(candidates)]

    async def _rewards(self, pools: Sequence[Sequence[Candidate]], run: Run) -> list[FloatArray]:
        rewards = iter(await newest(self.prm, [c for pool in pools for c in pool], run))
        return [np.array([next(rewards) for _ in pool]) for pool in pools]

    async def _ratios(
        self, candidates: Sequence[Candidate], pools: Sequence[Sequence[Candidate]], run: Run
    ) -> list[FloatArray]:
        """log P_large − log P_small of each draft, nan where it is not known."""
        drafts = [(old, new) for old, pool in zip(candidates, pools, strict=True) for new in pool]
        theirs = await Reading(self.large).read([old for old, _ in drafts], [new for _, new in drafts], run)
        mine = [tail(told(new.steps[len(old.steps) :]), len(new.text) - len(old.text)) for old, new in drafts]
        written = [len(new.steps) > len(old.steps) for old, new in drafts]
        each = iter(t - m if w else math.nan for t, m, w in zip(theirs, mine, written, strict=True))
        return [np.array([next(each) for _ in pool]) for pool in pools]


def draw(logits: FloatArray, run: Run) -> int | None:
    """An index with probability softmax(logits), nan counting as −inf; None where none is finite."""
    if not (logits > -np.inf).any():
        return None
    return int(run.rng().choice(len(logits), p=softmax(logits)))


@dataclass(frozen=True)
class Advantage:
    """Keep a draft unless the large model is predicted to do better by more than `tau` (Arbitrage; 2025, arXiv 2512.05033).

    `predicted` estimates r_large − r_draft for each drafted step. The paper trains a router for it; any verifier will do, such
    as one minus a reward. nan means the large model.
    """

    predicted: Verifier
    tau: float = 0.0

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        return [gain <= self.tau for gain in await newest(self.predicted, drafted, run)]


def arbitrage(draft: StepPolicy, target: StepPolicy, predicted: Verifier, tau: float = 0.0) -> StepPolicy:
    """Arbitrage: the target writes a step only where that is predicted to pay."""
    return Speculate(draft, target, Advantage(predicted, tau))


@dataclass(frozen=True)
class Oracle:
    """Both write the step, and the target's stays if its reward is higher by more than `tau`: what a perfect router would do.

    An upper bound for `arbitrage`, not a saving. nan counts as the lowest reward.
    """

    draft: StepPolicy
    target: StepPolicy
    prm: Verifier
    tau: float = 0.0

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        drafts = await self.draft.extend(candidates, run.child("draft"))
        targets = await self.target.extend(candidates, run.child("target"))
        low = [or_lowest(r) for r in await newest(self.prm, [*drafts, *targets], run.child("reward"))]
        n = len(drafts)
        chosen = [targets[i] if low[n + i] - low[i] > self.tau else drafts[i] for i in range(n)]
        pairs = [usable(c, (drafts[i], targets[i])) for i, c in enumerate(candidates)]
        return [one if len(pair) == 2 else pair[0] for one, pair in zip(chosen, pairs, strict=True)]


@dataclass(frozen=True)
class RunningQuality:
    """Keep a draft whose reward is at least the large model's mean so far (SpecSearch; Wang et al., ICML 2025, arXiv 2505.02865).

    The mean runs over the steps of all candidates in the batch that `large` wrote; before it has written one, nothing stays.
    `slack` lowers the bar. One call to a process reward model, which scores old steps and new ones.
    """

    prm: Verifier
    large: str
    slack: float = 0.0

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        scores = await scored(self.prm, drafted, run)
        theirs = [
            value
            for candidate, score in zip(drafted, scores, strict=True)
            for author, value in zip(_authors(candidate), score.steps, strict=False)
            if author == self.large and not math.isnan(value)
        ]
        if not theirs:
            return [False] * len(drafted)
        bar = math.fsum(theirs) / len(theirs) - self.slack
        return [of_last_step(score) >= bar for score in scores]


def _authors(candidate: Candidate) -> list[str]:
    """Who wrote each of a candidate's passages; where several did, who ended it."""
    return [step.author for step in candidate.steps if not step.open]


def spec_search(draft: StepPolicy, target: StepPolicy, prm: Verifier, large: str, slack: float = 0.0) -> StepPolicy:
    """SpecSearch's rule as a step policy, for use in a tree search: a draft stays if it is as good as the large model's mean."""
    return Speculate(draft, target, RunningQuality(prm, large, slack), first=1)


@dataclass(frozen=True)
class Confident:
    """Keep a draft that is more probably of the confident kind (STEER; 2025, arXiv 2511.06190).

    `mixture` holds two kinds of steps by their uncertainty (`Mixture.fit` on a few solutions of the small model); a draft goes
    to the large model where the posterior of the less confident kind is above `posterior`. No further tokens.
    """

    mixture: Mixture
    posterior: float = 0.5

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]:
        return [self.mixture.high(uncertainty(c.steps[-1])) <= self.posterior for c in drafted]


def steer(draft: StepPolicy, target: StepPolicy, mixture: Mixture, posterior: float = 0.5) -> StepPolicy:
    """STEER as a step policy. The paper decides before a step; here the draft's own uncertainty decides, after it."""
    return Speculate(draft, target, Confident(mixture, posterior))
