"""The vote of short-m@k: brevity decides where numbers do not."""

from __future__ import annotations

from reasonweave.orchestrator.types import Candidates
from reasonweave.strategies.aggregators.ballots import ballots, elect


def briefest(candidates: Candidates) -> Candidates:
    r"""The most frequent answer; of equally frequent ones, the one that the shortest solution gives (Hassid et al., 2025).

    Length is in tokens; where that is equal too, the set's seed draws. The confidence is the share of the votes.

    >>> from reasonweave.orchestrator.types import Problem, Step
    >>> def said(answer, tokens): return Candidate(Problem("q"), (Step(f"\\boxed{{{answer}}}", "m", tokens),), done=True)
    >>> from reasonweave.orchestrator.types import Candidate
    >>> vote = briefest(Candidates((said("4", 30), said("5", 20))))
    >>> vote.answer, vote.confidence
    ('5', 0.5)
    """
    answers = ballots(candidates)
    ranks = [(len(answer.voters), -min(candidates[i].tokens for i in answer.voters)) for answer in answers]
    merits = [float(sum(other < rank for other in ranks)) for rank in ranks]
    cast = sum(votes for votes, _ in ranks)
    return elect(candidates, answers, merits, [votes / cast for votes, _ in ranks])
