"""One flow of three, chosen by what a verifier says of a quick try; the symbolic checker costs no tokens."""

from reasonweave.orchestrator import Model, Strategy, Verifier, chain
from reasonweave.strategies import BestOfN, ForceAnswer, Select, TryFirst, majority, weighted, whole
from reasonweave.verifiers import StepCheck


def workflow(
    small: Model, large: Model, prm: Verifier, *, n: int = 8, easy: float = 0.9, hard: float = 0.5
) -> Strategy:
    """A quick solution is checked; what passes is settled by the small model, what does not by the large one."""
    quick = BestOfN(whole(small, temperature=0.0), n=1, max_steps=1)
    flows = {
        "vote": chain(BestOfN(whole(small), n=n, max_steps=1, verifier=prm), weighted),
        "large": chain(BestOfN(whole(large), n=3, max_steps=1), majority),
    }
    return chain(Select(flows, TryFirst(quick, StepCheck(), cuts=(easy, hard))), finish=ForceAnswer(large))
