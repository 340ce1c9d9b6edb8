"""A workflow to tune: who writes, how solutions are searched for, how they vote, and when the large model is asked instead."""

from typing import Annotated, Literal

import reasonweave.strategies as rw
from reasonweave.orchestrator import Model, Strategy, Verifier, chain
from reasonweave.orchestrator.space import Between, OneOf


def workflow(
    small: Model,
    large: Model,
    prm: Verifier,
    judge: Verifier,
    *,
    writer: Literal["small", "large", "spec-reason"] = "small",
    search: Literal["none", "best-of-n", "beam", "rebase", "particle-filter"] = "best-of-n",
    vote: Literal["majority", "weighted", "best"] = "majority",
    n: Annotated[int, Between(2, 32, log=True)] = 8,
    sure: Annotated[float, Between(0.5, 1)] = 0.5,
    temperature: Annotated[float, OneOf(0.0, 0.4, 0.8)] = 0.8,
) -> Strategy:
    """A search and a vote; where the vote is less sure than `sure`, the large model solves the problem anew."""
    model = large if writer == "large" else small
    drafted = rw.spec_reason(small, large, judge, temperature=temperature, top_p=1.0)
    step = drafted if writer == "spec-reason" else rw.Sample(model, temperature=temperature)
    full = drafted if writer == "spec-reason" else rw.whole(model, temperature=temperature)
    found = {
        "none": rw.BestOfN(full, n=1),
        "best-of-n": rw.BestOfN(full, n, prm if vote != "majority" else None),
        "beam": rw.Beam(step, rw.Newest(prm), n, min(4, n)),
        "rebase": rw.REBASE(step, rw.Newest(prm), n),
        "particle-filter": rw.ParticleFilter(step, rw.Newest(prm), n),
    }[search]
    votes = {"majority": rw.majority, "weighted": rw.weighted, "best": rw.best}
    vote_of = rw.majority if search == "none" else votes[vote]
    anew = chain(rw.BestOfN(rw.whole(large, temperature=temperature), n=2), rw.majority)
    by = rw.Measured(rw.avg_logprob, sure) if search == "none" else None  # one solution alone is always of one mind
    return chain(found, vote_of, rw.escalate(anew, sure, by), finish=rw.ForceAnswer(large))
