"""How votes are counted: candidates grouped by answer, a merit for each group, and ties broken by the set's seed.

The same for every vote: candidates without an answer abstain; answers are one where the problem's `AnswerSpace` gives them one
`canonical` key, or calls their words the `same` both ways round. Nothing here depends on the order of the candidates.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.answers import alike, usual
from reasonweave.orchestrator.types import Candidates


@dataclass(frozen=True, slots=True)
class Ballot:
    """One answer: the words that stand for it (the most common ones, then the shortest), and the indices of who gave it."""

    words: str
    voters: tuple[int, ...]


def ballots(candidates: Candidates) -> list[Ballot]:
    """The distinct answers of a set, each with its voters in their order; in the order of first appearance."""
    answers = [candidate.answer for candidate in candidates]
    voters: dict[int, list[int]] = {}
    for i, group in enumerate(alike(answers, candidates[0].problem.answers) if len(candidates) else ()):
        if group is not None:
            voters.setdefault(group, []).append(i)
    found = [Ballot(usual([answers[i] or "" for i in mine]), tuple(mine)) for mine in voters.values()]
    return sorted(found, key=lambda ballot: ballot.voters)


def elect(
    candidates: Candidates,
    answers: Sequence[Ballot],
    merits: Sequence[float],
    confidences: Sequence[float] | None = None,
) -> Candidates:
    """The answer with the greatest merit, and its confidence; where none are given, its share of the sum of all merits.

    Merits of the answers, in their order, 0 or more where they are shared out. Where none is above 0, or there is no answer,
    nothing is concluded (answer None). Infinite merits are beyond comparison: only these count, and they count the same.
    """
    if confidences is None:
        if math.inf in merits:
            merits = [float(merit == math.inf) for merit in merits]
        total = math.fsum(merits)
        if not total > 0:
            return undecided(candidates)
        confidences = [merit / total for merit in merits]
    if not answers:
        return undecided(candidates)
    top = max(merits)
    at = tied(candidates, [i for i, merit in enumerate(merits) if merit == top], answers)
    return replace(candidates, answer=answers[at].words, confidence=confidences[at])


def tied(candidates: Candidates, equals: Sequence[int], answers: Sequence[Ballot]) -> int:
    """Which of several equals wins: drawn by the set's seed and their words, so that neither order nor scheduling decides."""
    return min(equals, key=lambda i: ticket(candidates.seed, answers[i].words)) if len(equals) > 1 else equals[0]


def ticket(seed: int, text: str) -> bytes:
    """A lot for this text: evenly spread, and another one for another seed."""
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def undecided(candidates: Candidates) -> Candidates:
    """The set without a conclusion."""
    return replace(candidates, answer=None, confidence=None)
