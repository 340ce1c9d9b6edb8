"""Refiners: from an answer to a new one. From a bare problem they make a fresh answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Context, Message, Sampling
from reasonweave.strategies.policies.sample import continued
from reasonweave.strategies.searches.live import complete, value


class Refiner(Protocol):
    """Makes a new answer of each candidate, in order; of one without steps, a first answer."""

    async def refine(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]: ...


REVISE_PROMPT = "A checker gave this answer {score} of 1. Find what is wrong with it, and write a better one."


@dataclass(frozen=True)
class Revise:
    """Show `model` the answer and its score, and ask for a better one from the beginning (AB-MCTS's refinement with feedback).

    `prompt` may contain {score}. A fresh answer is asked for with the problem alone.
    """

    model: Model
    prompt: str = REVISE_PROMPT
    temperature: float = 0.8
    max_tokens: int = 1024

    async def refine(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        written = await self.model.generate([self._context(c) for c in candidates], run, sampling=sampling)
        fresh = [Candidate(c.problem) for c in candidates]
        return [continued(c, w, self.model.name, whole=True) for c, w in zip(fresh, written, strict=True)]

    def _context(self, candidate: Candidate) -> Context:
        if not candidate.steps:
            return candidate.context
        asked = self.prompt.replace("{score}", f"{max(0.0, value(candidate)):.2f}")
        return Context(
            (*candidate.problem.messages, Message("assistant", candidate.text), Message("user", asked)),
        )


@dataclass(frozen=True)
class Redo:
    """Keep the steps before the one that scored lowest, and write anew from there with `policy`, at most `max_steps` steps.

    A refinement that needs no words: the verifier's step scores are the feedback. Where the answer's score has none, the
    first half of its steps is kept.
    """

    policy: StepPolicy
    max_steps: int = 64

    async def refine(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        starts = Candidates(tuple(self._cut(c) for c in candidates))
        return list(await complete(self.policy, starts, run, most=self.max_steps))

    def _cut(self, candidate: Candidate) -> Candidate:
        scores = candidate.score.steps if candidate.score is not None else ()
        known = [math.inf if math.isnan(s) else s for s in scores]
        at = known.index(min(known)) if known else len(candidate.passages) // 2
        kept = _steps_of(candidate, at)
        return replace(candidate, steps=candidate.steps[:kept], done=False, score=None, failed=None)


def _steps_of(candidate: Candidate, passages: int) -> int:
    """How many steps make up the first so many passages."""
    closed = 0
    for i, step in enumerate(candidate.steps):
        if closed == passages:
            return i
        closed += not step.open
    return len(candidate.steps)
