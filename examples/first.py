"""Ten lines: sample with a small model, score with a reward model, vote, within a hard budget."""

from reasonweave.orchestrator import Budget, chain, open_model, solve
from reasonweave.strategies import BestOfN, ForceAnswer, weighted, whole
from reasonweave.verifiers import ProcessReward

small = open_model("lab/small", role="small")
prm = ProcessReward(open_model("lab/prm", role="prm"))
flow = chain(BestOfN(whole(small), n=16, verifier=prm), weighted, finish=ForceAnswer(small))

result = solve(
    "Start with 17. A: Add 28. B: Multiply by 2. C: Subtract 19. What is the result?", flow, budget=Budget(tokens=5_000)
)
print(result.answer, f"confidence {result.confidence:.2f}", f"{result.tokens} tokens")
