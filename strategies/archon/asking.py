"""How Archon's components ask: as many candidates as fit, and once more where a reply cannot be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import Candidate, Completion, Sampling, Score
from reasonweave.strategies.aggregators.judging import Desk

ATTEMPTS = 2
"""How often a question is put whose reply cannot be read."""


def fitting(
    desk: Desk,
    some: Sequence[Candidate],
    parts: Callable[[Sequence[Candidate]], Mapping[str, str]],
    *,
    least: int = 1,
) -> list[Candidate]:
    """As many of these as fit the desk's context, from the first on, with the `parts` of the prompt that depend on them; none
    where not even `least` do."""
    for count in range(len(some), least - 1, -1):
        few = list(some[:count])
        if desk.fits(few, **parts(few)):
            return few
    return []


def worth_another(reply: Completion, sampling: Sampling, *, fits: bool = True) -> bool:
    """Is it worth asking again, where a reply could not be read? Not where the budget ended, where the request failed for good,
    or where a greedy model would say the same; but where the failure has told that the question does not fit."""
    if not fits:
        return True
    return reply.finish_reason not in ("budget", "error") and sampling.temperature > 0


def remarked(candidate: Candidate, error: str) -> Candidate:
    """A candidate whose score says what could not be done with it."""
    return replace(candidate, score=replace(candidate.score or Score(math.nan), error=error))


def check_counts(part: object, **numbers: int | None) -> None:
    """Raises `BadInput` for a number of candidates that is less than 1."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise BadInput(f"{type(part).__name__}({name}={number}): 1 or more")
