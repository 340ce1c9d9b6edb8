"""A small model drafts, a large one judges and redoes: SpecReason by hand, inside a vote, with a second opinion that is free."""

from reasonweave.orchestrator import Budget, chain, open_model, solve
from reasonweave.strategies import AtLeast, BestOfN, Both, ForceAnswer, Sample, Speculate, Sure, majority
from reasonweave.verifiers import UtilityDigit

small, large = open_model("lab/small", role="small"), open_model("lab/large", role="large")

# A draft stays if it was sure of itself, which costs nothing, and if the large model's one-token grade is 6 or more.
accept = Both(Sure(0.95), AtLeast(UtilityDigit(large), 6))
step = Speculate(Sample(small), Sample(large), accept)
flow = chain(BestOfN(step, n=4), majority, finish=ForceAnswer(large))

problem = "Start with 17. A: Add 28. B: Multiply by 2. C: Subtract 19. What is the result?"
result = solve(problem, flow, budget=Budget(tokens=20_000), seed=0)
for part in result.solution.steps if result.solution else ():
    print(f"{part.author:10} {part.text.strip()}")
print(f"answer {result.answer}, confidence {result.confidence:.2f}")
for name, usage in result.usage.items():
    print(
        f"{name}: {usage.calls} calls, {usage.completion} tokens written, {usage.prompt} read, {usage.cached} of them cached"
    )
