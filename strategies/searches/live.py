"""Extending and scoring what is still alive in a set: the two moves that every search makes."""

from __future__ import annotations

from dataclasses import replace

from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidates


async def extend_live(policy: StepPolicy, candidates: Candidates, run: Run) -> Candidates:
    """One more step for the candidates that are not done, in one call; the others stay as they are."""
    live = [i for i, c in enumerate(candidates) if not c.done]
    items = list(candidates)
    if live:
        extended = await policy.extend([items[i] for i in live], run.child("extend"))
        for i, candidate in zip(live, extended, strict=True):
            items[i] = candidate
    return Candidates(tuple(items))


async def score(verifier: Verifier, candidates: Candidates, run: Run) -> Candidates:
    """The same candidates with their scores, all that have anything to score in one call."""
    written = [i for i, c in enumerate(candidates) if c.steps and not c.failed]
    items = list(candidates)
    if written:
        scores = await verifier.score([items[i] for i in written], run.child("score"))
        for i, judged in zip(written, scores, strict=True):
            items[i] = replace(items[i], score=judged)
    return Candidates(tuple(items))
