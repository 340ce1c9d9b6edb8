"""Refinement without words: of the answers that a vote doubts, the doubtful steps are written anew by the large model."""

from reasonweave.orchestrator import Graph, Model, Strategy, Verifier, unsure
from reasonweave.strategies import AdaptiveBranching, BestOfN, ForceAnswer, Redo, Sample, best, weighted, whole


def workflow(
    small: Model, large: Model, prm: Verifier, *, n: int = 8, redone: int = 4, below: float = 0.75
) -> Strategy:
    """Best-of-n by the small model; where the weighted vote is unsure, its solutions are mended from their worst step on."""
    graph = Graph(finish=ForceAnswer(large))
    drafts = graph.add("drafts", BestOfN(whole(small), n=n, max_steps=1, verifier=prm))
    vote = graph.add("vote", weighted, after=drafts)
    mended = graph.add(
        "mended",
        AdaptiveBranching({"redo": Redo(Sample(large))}, prm, n=redone),
        after=vote,
        when=unsure(below),
    )
    graph.add("choice", best, after=mended)
    return graph
