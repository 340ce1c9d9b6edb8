"""Three ways at once, which share the budget; their candidates are judged by one reward model and vote together."""

from reasonweave.orchestrator import Model, Strategy, Verifier, chain, parallel
from reasonweave.strategies import REBASE, BestOfN, ForceAnswer, Newest, Sample, Speculate, weighted, whole
from reasonweave.strategies.policies import AtLeast


def workflow(small: Model, large: Model, prm: Verifier, *, n: int = 8, delta: float = 0.7) -> Strategy:
    """Best-of-n, REBASE and reward-guided speculation at the same time, and a weighted vote of all candidates."""
    drafted = Speculate(Sample(small), Sample(large), AtLeast(prm, delta))
    return chain(
        parallel(
            samples=BestOfN(whole(small), n=n, max_steps=1, verifier=prm),
            tree=REBASE(Sample(small), Newest(prm), n=n),
            drafted=BestOfN(drafted, n=2, verifier=prm),
        ),
        weighted,
        finish=ForceAnswer(large),
    )
