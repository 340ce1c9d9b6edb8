"""Your own verifier and your own search, used by everything else: no base class, no registration."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator import Candidate, Candidates, Run, Score, StepPolicy, Verifier, chain, open_model, solve
from reasonweave.strategies import BestOfN, Sample, best, whole

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@dataclass(frozen=True)
class TrueEquations:
    """The share of a solution's equations that hold: a verifier that costs nothing."""

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(self.share(candidate.text)) for candidate in candidates]

    def share(self, text: str) -> float:
        held = [holds(*match) for match in EQUATION.findall(text)]
        return sum(held) / len(held) if held else 0.0


def holds(left: str, sign: str, right: str, result: str) -> bool:
    a, b, c = int(left), int(right), int(result)
    return {"+": a + b == c, "-": a - b == c, "*": a * b == c, "/": b != 0 and a == b * c}[sign]


@dataclass(frozen=True)
class GreedySteps:
    """Draft n next steps, keep the one that the verifier likes best, go on from there."""

    policy: StepPolicy
    verifier: Verifier
    n: int = 4
    max_steps: int = 16

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        for t in range(self.max_steps):
            step = run.child("step", t)
            drafts = await self.policy.extend(list(roots.repeat(self.n)), step.child("draft"))
            scores = await self.verifier.score(drafts, step.child("score"))
            kept = max(range(self.n), key=lambda i: scores[i].value)
            roots = Candidates((replace(drafts[kept], score=scores[kept]),))
            yield roots
            if roots.all_done:
                return


if __name__ == "__main__":
    small = open_model("lab/small", role="small")
    problem = "Start with 17. A: Add 28. B: Multiply by 2. C: Subtract 19. What is the result?"
    for flow in (
        chain(BestOfN(whole(small), n=8, verifier=TrueEquations()), best),
        chain(GreedySteps(Sample(small), TrueEquations()), best),
    ):
        result = solve(problem, flow, seed=1)
        print(f"{result.answer}  ({result.tokens} tokens)  {flow}")
