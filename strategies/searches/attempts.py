"""Attempts until a verifier is satisfied: the stopping rule for verifiers that err, and capability-aware sampling."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidate, Candidates, shown
from reasonweave.strategies.aggregators.ballots import undecided
from reasonweave.strategies.aggregators.vote import best
from reasonweave.strategies.searches.live import begin, complete, score, value

Heat: TypeAlias = Callable[[int], float]
"""The sampling temperature of the i-th attempt, i = 0, 1, …"""


@dataclass(frozen=True)
class Warming:
    """Temperatures top · (1 − 2^−i): the first attempt is greedy, each next one goes half of what is left up to `top`."""

    top: float = 1.0

    def __call__(self, i: int) -> float:
        return self.top * (1 - 0.5**i)


@dataclass(frozen=True)
class Attempts:
    """Solutions one after another until the verifier gives one that answers `threshold` or more; at most `most`, 0 allowed.

    How many to allow a verifier that errs: `orchestrator.imperfect.best_attempts` (Stroebl et al., 2024, arXiv 2411.17501). A
    verifier that could not judge (nan) accepts nothing. With `heat`, attempt i is sampled at the temperature heat(i), which takes
    a policy that has one. It yields all attempts so far, scored but for the newest; end with `Accepted(threshold)`, which
    answers with what was accepted or not at all, or with `best`, which always answers.
    """

    policy: StepPolicy
    verifier: Verifier
    threshold: float = 0.5
    most: int = 16
    heat: Heat | None = None
    max_steps: int = 64
    __repr__ = shown

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)
        if self.most < 0 or self.max_steps < 1:
            raise BadInput(
                f"Attempts(most={self.most}, max_steps={self.max_steps}): most is 0 or more, max_steps 1 or more"
            )
        if self.heat is not None and "temperature" not in _fields(self.policy):
            raise BadInput(f"Attempts(heat=…): the policy {self.policy!r} has no temperature")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        made: tuple[Candidate, ...] = ()
        start = begin(roots, len(roots))
        for i in range(self.most if roots.items else 0):
            here = run.child("attempt", i)
            new = await complete(self._policy(i), Candidates((start[i % len(start)],)), here, most=self.max_steps)
            yield Candidates((*made, *new))
            made = (*made, *(await score(self.verifier, new, here)))
            yield Candidates(made)
            if accepted(made[-1], self.threshold):
                return

    def _policy(self, i: int) -> StepPolicy:
        if self.heat is None:
            return self.policy
        return cast("StepPolicy", replace(cast("Any", self.policy), temperature=self.heat(i)))


@dataclass(frozen=True)
class Accepted:
    """The answer with the highest score, where that is `threshold` or more; else none on purpose, "I don't know".

    The confidence is the score, as with `best`, also where nothing was accepted.
    """

    threshold: float = 0.5

    def __call__(self, candidates: Candidates) -> Candidates:
        scored = [c for c in candidates if c.answer is not None and c.score is not None]
        if not scored:
            return replace(undecided(candidates), abstains=True)
        chosen = replace(best(replace(candidates, items=tuple(scored))), items=candidates.items)
        if any(accepted(c, self.threshold) for c in scored):
            return chosen
        return replace(chosen, answer=None, abstains=True)


def accepted(candidate: Candidate, threshold: float) -> bool:
    """Does it answer, with a score of `threshold` or more?"""
    return candidate.answer is not None and value(candidate) >= threshold


def _fields(part: object) -> set[str]:
    return {each.name for each in dataclasses.fields(part)} if dataclasses.is_dataclass(part) else set()
