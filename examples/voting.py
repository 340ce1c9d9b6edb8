"""Samples until the vote is clear, and an answer only where it is: what stopping early saves, and what saying no is worth."""

from reasonweave.orchestrator import Budget, chain, open_model, solve
from reasonweave.strategies import AdaptiveConsistency, BetaStop, ForceAnswer, abstain, majority, whole
from reasonweave.tasks.lab.problems import problems

small = open_model("lab/small", role="small")

# At most 16 solutions, up to 4 under way at once; enough once the leader leads with probability 0.9. Those that are still being
# written then are cancelled, and cost what they had written.
search = AdaptiveConsistency(whole(small), n=16, rule=BetaStop(0.9), ahead=4)
flow = chain(search, majority, abstain(below=0.5), finish=ForceAnswer(small))

right = wrong = samples = 0
for chain_ in problems(20):
    result = solve(chain_.text, flow, budget=Budget(tokens=5_000), seed=0)
    samples += len(result.candidates)
    if result.answer is None:
        verdict = "I don't know"
    elif int(result.answer) == chain_.answer:
        verdict, right = "right", right + 1
    else:
        verdict, wrong = "wrong", wrong + 1
    print(
        f"{chain_.id}: {len(result.candidates):2} samples, confidence {result.confidence or 0:.2f}, {verdict}; "
        f"{result.cut.completion} tokens in cut samples, at most {result.saved.completion} saved by cutting them"
    )
print(f"{right} right, {wrong} wrong, {20 - right - wrong} left open, with {samples} samples of {20 * 16}")
