"""Cheap first, and out as soon as it is clear: a few small solutions, then more with a reward model, the large model last."""

from reasonweave.orchestrator import Budget, Model, Node, Strategy, Verifier, chain, sure
from reasonweave.strategies import BestOfN, Escalate, ForceAnswer, escalate, majority, weighted, whole


def workflow(small: Model, large: Model, prm: Verifier, *, few: int = 3, many: int = 8, clear: float = 0.9) -> Strategy:
    """Few small solutions; where they do not agree, more of them and the reward model; where that is unsure, the large model."""
    more = chain(BestOfN(whole(small), n=many, max_steps=1, verifier=prm), weighted)
    return chain(
        BestOfN(whole(small), n=few, max_steps=1),
        Node(majority, enough=sure(clear)),
        escalate(more, below=clear),
        large=Node(Escalate(chain(BestOfN(whole(large), n=1, max_steps=1)), 0.7), budget=Budget(tokens=5_000)),
        finish=ForceAnswer(small),
    )
