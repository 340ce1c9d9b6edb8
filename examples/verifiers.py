"""Verifiers: a checker that costs nothing, a reward model where it is needed, and one learned from labelled solutions."""

from __future__ import annotations

import asyncio

from reasonweave.orchestrator import Candidate, Model, Run, asolve, chain, open_model
from reasonweave.strategies import BestOfN, best, majority, whole
from reasonweave.tasks.base import Example
from reasonweave.tasks.lab.task import LabTask
from reasonweave.verifiers import Between, Cascaded, Confidence, ProcessReward, Rule, StepCheck, learned


async def written(small: Model, examples: list[Example]) -> tuple[list[Candidate], list[bool]]:
    """Eight solutions of each problem, and which of them are right."""
    flow = chain(BestOfN(whole(small), n=8), majority)
    results = await asyncio.gather(*(asolve(e.problem, flow, seed=1) for e in examples))
    pairs = [(c, e.correct(c.answer)) for e, r in zip(examples, results, strict=True) for c in r.candidates]
    return [c for c, _ in pairs], [right for _, right in pairs]


async def main() -> None:
    small, prm = open_model("lab/small", role="small"), ProcessReward(open_model("lab/prm", role="prm"))
    examples = LabTask().examples(60)
    steps = StepCheck()

    candidates, right = await written(small, examples[:20])
    wrong = next(c for c, ok in zip(candidates, right, strict=True) if not ok and steps.explain(c))
    print(f"{wrong.text.strip()}\n\n{steps.explain(wrong)[0]}\n")

    verifiers = {
        "the shortest": Rule(lambda c: 1 / (1 + len(c.text))),
        "its author's confidence": Confidence(),
        "reward model": prm,
        "checker": steps,
        "checker, then reward model": Cascaded(steps, prm, unsure=Between(0.5, 1.5)),
        "learned from 160 solutions": await learned([steps, Confidence(), prm], candidates, right, Run(2)),
    }
    for name, verifier in verifiers.items():
        flow = chain(BestOfN(whole(small), n=8, verifier=verifier), best)
        results = await asyncio.gather(*(asolve(e.problem, flow, seed=3) for e in examples[20:]))
        hits = sum(e.correct(r.answer) for e, r in zip(examples[20:], results, strict=True))
        paid = sum(r.usage["lab-prm"].tokens for r in results if "lab-prm" in r.usage)
        print(f"{name:28} {hits:2} of 40 right, {paid / 40:5.0f} tokens of the reward model a problem")


if __name__ == "__main__":
    asyncio.run(main())
