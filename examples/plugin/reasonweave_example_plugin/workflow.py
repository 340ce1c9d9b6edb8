"""A workflow: the small model's vote, and the large model's word where the vote is divided."""

from __future__ import annotations

from reasonweave.orchestrator import Candidates, Graph, Model, Strategy
from reasonweave.strategies import BestOfN, majority, whole


def second_opinion(small: Model, large: Model, *, n: int = 4, below: float = 0.6) -> Strategy:
    """The majority of n solutions by the small model; where less than `below` agree, one solution by the large model."""

    def divided(votes: Candidates) -> bool:
        return (votes.confidence or 0.0) < below

    flow = Graph()
    flow.add("small", BestOfN(whole(small), n=n))
    flow.add("vote", majority, after=["small"])
    flow.add("large", BestOfN(whole(large), n=1), after=["vote"], when=divided)
    return flow
