"""DeepConf online: solutions are cut where the model's confidence falls below what a warm-up has shown."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from reasonweave.orchestrator.confidence import WINDOW, lowest_confidence
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import either
from reasonweave.orchestrator.protocols import Watching
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.signals import TOP, confidence
from reasonweave.orchestrator.types import Candidate, Candidates, Token
from reasonweave.strategies.aggregators.vote import posterior
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.searches.adaptive import Consensus
from reasonweave.strategies.searches.in_order import in_order
from reasonweave.strategies.searches.live import begin, extend_live


@dataclass(frozen=True)
class DeepConf:
    """DeepConf online (Fu et al., 2025, arXiv 2508.15260): of `n` solutions, those that the model is never unsure of.

    A solution's lowest-group confidence is the lowest mean of `confidence` over any `window` tokens in a row (of all its
    tokens, where it has fewer). `warmup` solutions set the threshold: the share `keep` of them reaches it (0.1: "DeepConf-low",
    0.9: "-high"). The others are written one by one, `ahead` at a time, and cut as soon as a full window is below it. They end
    where `consensus` of the weight is on one answer (None: never). `window` None is the published 2,048, or a quarter of the
    mean length of the warm-up's solutions where that is less: a window longer than the solutions would cut none.

    `log_weight` is the log of a solution's lowest-group confidence, so that the `posterior` vote is the published one; those that
    were cut, and all others below the threshold, weigh nothing. Without alternatives of a token (`top_logprobs`; 20 where the
    policy asks for none) nothing is known, all weigh the same, and the vote is a majority. The policy writes whole solutions.
    """

    policy: Sample
    n: int = 256
    warmup: int = 16
    keep: float = 0.1
    window: int | None = None
    consensus: float | None = 0.95
    ahead: int = 1

    unscored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        window = 1 if self.window is None else self.window
        if not 1 <= self.warmup <= self.n or window < 1 or self.ahead < 1 or not 0 < self.keep <= 1:
            raise BadInput(
                f"DeepConf(n={self.n}, warmup={self.warmup}, keep={self.keep}, window={self.window}, ahead={self.ahead}): "
                "warmup is in 1..n, keep in 0..1 and above 0, window and ahead 1 or more"
            )
        if self.policy.until is not None:
            raise BadInput(f"DeepConf needs a policy that writes whole solutions (until=None), not {self.policy!r}")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        policy = replace(self.policy, top_logprobs=self.policy.top_logprobs or TOP)
        enough = None if self.consensus is None else Consensus(self.consensus, by=posterior, least=self.warmup)
        first = await extend_live(policy, begin(roots, self.warmup), run.child("warm-up"))
        window = self.window or min(WINDOW, max(1, sum(c.tokens for c in first) // (4 * max(1, len(first)))))
        known = [low for c in first if not math.isnan(low := lowest_confidence(c, window))]
        threshold = float(np.percentile(known, 100 * (1 - self.keep))) if known else -math.inf
        drawn = [_weighed(c, threshold, window) for c in first]
        yield Candidates(tuple(drawn))
        if not drawn or (enough is not None and enough(Candidates(tuple(drawn)))):
            return
        policy = replace(policy, watch=either(policy.watch, falls_below(threshold, window)))
        rest = in_order(policy, begin(roots, len(roots)), self.n - self.warmup, run, ahead=self.ahead)
        async with aclosing(rest) as samples:
            async for sample in samples:
                drawn.append(_weighed(sample, threshold, window))
                yield Candidates(tuple(drawn))
                if enough is not None and enough(Candidates(tuple(drawn))):
                    return


def _weighed(candidate: Candidate, threshold: float, window: int) -> Candidate:
    low = lowest_confidence(candidate, window)
    kept = low >= threshold and low > 0 and not candidate.cut
    return replace(candidate, log_weight=math.log(low) if kept else -math.inf)


def falls_below(threshold: float, window: int) -> Watching:
    """A watch that cuts where the mean confidence of the last `window` tokens, once there are so many, is below a threshold.

    It keeps a running sum, so that a token costs the same however long the window is. Tokens without alternatives are passed
    over.
    """

    def make() -> Callable[[Token], bool]:
        recent: deque[float] = deque()
        total = 0.0

        def over(token: Token) -> bool:
            nonlocal total
            if math.isnan(value := confidence(token)):
                return False
            recent.append(value)
            total += value
            if len(recent) > window:
                total -= recent.popleft()
            return len(recent) == window and total / window < threshold

        return over

    return make
