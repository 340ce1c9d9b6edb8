"""SpecReason steps inside a particle filter; its candidates feed an RPC vote; where that is unsure, the large model is asked."""

from reasonweave.orchestrator import Model, Node, Share, Strategy, Verifier, chain
from reasonweave.strategies import (
    BestOfN,
    ForceAnswer,
    Newest,
    ParticleFilter,
    escalate,
    majority,
    rpc,
    spec_reason,
    whole,
)


def workflow(
    small: Model, large: Model, prm: Verifier, judge: Verifier, *, n: int = 16, below: float = 0.8, again: int = 4
) -> Strategy:
    """A particle filter over SpecReason steps, an RPC vote, and a majority of the large model where the vote is unsure."""
    return chain(
        Node(ParticleFilter(spec_reason(small, large, judge), Newest(prm), n=n), budget=Share(0.7)),
        rpc(),
        escalate(chain(BestOfN(whole(large), n=again, max_steps=1), majority), below=below),
        finish=ForceAnswer(large),
    )
