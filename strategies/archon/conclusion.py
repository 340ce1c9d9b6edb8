"""What several candidates at the end come to, and what several components of a layer pass on together."""

from __future__ import annotations

from dataclasses import replace

from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.aggregators.judging import concluded, entrants, support
from reasonweave.strategies.aggregators.vote import foremost, majority, score_of
from reasonweave.strategies.archon.carried import as_asked


def conclude(candidates: Candidates) -> Candidates:
    r"""The answer of a last layer: what its component concluded; else the vote of those with the highest score, of all where none
    has one, ties by the seed. Its confidence is its share of the votes of all; a single candidate has none.

    >>> from reasonweave.orchestrator.types import Problem, Step
    >>> def said(answer): return Candidate(Problem("q"), (Step(f"\\boxed{{{answer}}}", "m", 1),), done=True)
    >>> found = conclude(Candidates((said("4"), said("5"), said("5"))))
    >>> found.answer, round(found.confidence, 3)
    ('5', 0.667)
    """
    found = as_asked(candidates)
    if found.answer is not None or found.abstains or not (able := entrants(found)):
        return found
    top = max(map(score_of, able))
    leading = Candidates(tuple(c for c in able if score_of(c) == top), seed=found.seed)
    answer = majority(leading).answer
    behind = [
        c for c in leading if answer is not None and c.answer is not None and c.problem.answers.same(answer, c.answer)
    ]
    winner = foremost(found, behind or list(leading), [0.0] * len(behind or leading))
    return replace(concluded(found, winner), answer=answer, confidence=share(found, winner))


def share(candidates: Candidates, winner: Candidate) -> float | None:
    """The share of a set's votes that the winner's answer has; None where there is no vote, as of one candidate alone."""
    return support(candidates, winner) if len(entrants(candidates)) > 1 else None


def distinct(candidates: Candidates) -> Candidates:
    """The set with each solution once that several components of a layer passed on. Two that were written and say the same stay
    two."""
    first: dict[int, Candidate] = {}
    for candidate in candidates:
        first.setdefault(id(candidate.steps) if candidate.steps else id(candidate), candidate)
    return candidates.of_items(list(first.values()))
