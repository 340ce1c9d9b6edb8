"""A particle filter over steps that two models write: proper weights, a vote by weight, and an estimate of the evidence."""

from reasonweave.orchestrator import Budget, chain, open_model, solve
from reasonweave.strategies import (
    EssBelow,
    ForceAnswer,
    Newest,
    ParticleFilter,
    Ratio,
    log_reward,
    posterior,
    spec_reason,
    systematic,
)
from reasonweave.verifiers import ProcessReward, UtilityDigit

small, large = open_model("lab/small", role="small"), open_model("lab/large", role="large")
prm = ProcessReward(open_model("lab/prm", role="prm"))

# SpecReason writes the steps: the small model drafts, the large one grades, and writes those anew that it finds wanting.
step = spec_reason(small, large, UtilityDigit(large), threshold=6, temperature=1.0, top_p=1.0)

# Weights multiply by r / r before, so that the set stands for p(solution) · r(solution), p being what SpecReason writes.
search = ParticleFilter(
    step,
    Newest(prm),
    n=8,
    potential=log_reward,
    weighing=Ratio(),
    resample=systematic,
    when=EssBelow(0.5),
)
flow = chain(search, posterior, finish=ForceAnswer(large))

problem = "Start with 63. A: Add 28. B: Subtract 54. C: Multiply by 2. D: Subtract 29. What is the result?"
result = solve(problem, flow, budget=Budget(tokens=100_000), seed=0)
particles = result.candidates
for particle, weight in zip(particles, particles.weights, strict=True):
    authors = " ".join(dict.fromkeys(part.author for part in particle.steps))
    print(f"answer {particle.answer}, weight {weight:.3f}, {len(particle.steps)} steps by {authors}")
print(f"answer {result.answer}, confidence {result.confidence or 0:.3f}")
print(f"log evidence {particles.log_evidence:.3f}, effective particles {particles.ess:.2f} of {len(particles)}")
for name, usage in result.usage.items():
    print(f"{name}: {usage.calls} calls, {usage.completion} tokens written, {usage.prompt} read, {usage.cached} cached")
