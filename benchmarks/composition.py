"""Is a composition worth more than its parts? And does more budget ever hurt? On the lab, on the same problems.

    python benchmarks/composition.py [--limit 500] [--out runs/composition] [--part parts|budgets] [--report]

Parts: the flow of examples/workflows/spec_particle_rpc.py against each of its parts alone. A part's size grows until it spends at
least as many FLOPs a problem as the flow; the two are compared in pairs by problem. Budgets: every workflow of examples/workflows
under hard limits of tokens a problem, from none to free. Each setting is one file in the folder and is not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reasonweave.orchestrator import Aggregator, Budget, Strategy, Verifier, asolve, chain, joined, open_model
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.registry import Workflow
from reasonweave.orchestrator.solve import answer_of
from reasonweave.strategies import (
    BestOfN,
    Guard,
    Newest,
    ParticleFilter,
    Sample,
    best,
    escalate,
    majority,
    posterior,
    rpc,
    spec_reason,
    whole,
)
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.runner import problem_seed
from reasonweave.tasks.evaluation.stats import bootstrap_mean, wilson
from reasonweave.tasks.evaluation.summary import scaled
from reasonweave.tasks.lab.task import LabTask
from reasonweave.verifiers import ProcessReward, UtilityDigit

WORKFLOWS = Path(__file__).parent.parent / "examples" / "workflows"
FLOW = "spec_particle_rpc"
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BUDGETS = (0, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, None)
CONNECTIONS = 32

Build = Callable[[int], Strategy]


class Lab:
    """The lab's models in the roles that workflows have."""

    def __init__(self) -> None:
        self.small, self.large = open_model("lab/small", role="small"), open_model("lab/large", role="large")
        prm = open_model("lab/prm", role="prm")
        assert isinstance(self.small, Model)
        assert isinstance(self.large, Model)
        assert not isinstance(prm, Model)
        self.prm: Verifier = ProcessReward(prm)
        self.judge: Verifier = UtilityDigit(self.large)

    def workflow(self, name: str) -> Strategy:
        made = Workflow.named(str(WORKFLOWS / f"{name}.py"))
        flow = made.make(**{role: getattr(self, role) for role in made.roles})
        assert isinstance(flow, Strategy)
        return flow

    def parts(self) -> dict[str, tuple[int, Build, Mapping[str, Aggregator]]]:
        """The flow's parts, each alone: the size at which it spends about as much as the flow, it at a size n, and its votes."""
        small, large = self.small, self.large
        drafted, steps = spec_reason(small, large, self.judge), Guard(Sample(small))
        return {
            "small": (64, lambda n: BestOfN(whole(small), n, max_steps=1), {"RPC": rpc()}),
            "large": (8, lambda n: BestOfN(whole(large), n, max_steps=1), {"majority": majority, "RPC": rpc()}),
            "SpecReason": (8, lambda n: BestOfN(drafted, n), {"majority": majority, "RPC": rpc()}),
            "particle filter": (
                16,
                lambda n: ParticleFilter(steps, Newest(self.prm), n),
                {"best": best, "vote": posterior, "RPC": rpc()},
            ),
            "small, escalated": (128, self._escalated, {"": joined}),
            "flow without escalation": (
                16,
                lambda n: ParticleFilter(drafted, Newest(self.prm), n),
                {"RPC": rpc(), "best": best, "vote": posterior},
            ),
        }

    def _escalated(self, n: int) -> Strategy:
        anew = chain(BestOfN(whole(self.large), 4, max_steps=1), majority)
        return chain(BestOfN(whole(self.small), n, max_steps=1), majority, escalate(anew, 0.6))


async def measured(
    flow: Strategy, examples: Sequence[Example], budget: Budget | None, votes: Mapping[str, Aggregator]
) -> list[dict[str, Any]]:
    """What came of each problem: was the answer right (under each vote), and what it cost."""
    gate = asyncio.Semaphore(CONNECTIONS)

    async def one(example: Example) -> dict[str, Any]:
        async with gate:
            own = problem_seed(0, example.problem.id)
            result = await asolve(example.problem, flow, budget=budget, seed=own)
        found = replace(result.candidates, seed=own)
        return {
            "id": example.problem.id,
            "right": {name: example.correct(answer_of(vote(found))) for name, vote in votes.items()},
            "answered": result.answer is not None,
            "tokens": result.tokens,
            "flops": result.total.flops,
        }

    return await asyncio.gather(*(one(example) for example in examples))


AS_IT_IS: Mapping[str, Aggregator] = {"": joined}


def rows(
    args: argparse.Namespace,
    name: str,
    flow: Strategy,
    budget: Budget | None = None,
    votes: Mapping[str, Aggregator] = AS_IT_IS,
) -> list[dict[str, Any]] | None:
    """What is there of a setting; measured first where it is not."""
    file = args.out / f"{name.replace(', ', '-').replace(' ', '-')}.json"
    if not file.exists() and not args.report:
        began = time.monotonic()
        found = asyncio.run(measured(flow, LabTask().examples(args.limit), budget, votes))
        file.write_text(json.dumps(found))
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return json.loads(file.read_text())[: args.limit] if file.exists() else None


def mean(found: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in found]))


def shown(found: Sequence[dict[str, Any]], vote: str = "") -> str:
    right = sum(row["right"][vote] for row in found)
    low, high = wilson(right, len(found))
    return f"{100 * right / len(found):.1f} % | {100 * low:.1f}–{100 * high:.1f}"


def parts(args: argparse.Namespace) -> None:
    """The flow, then each part at the first of its sizes that spends as much."""
    lab = Lab()
    if (flow := rows(args, FLOW, lab.workflow(FLOW))) is None:
        return
    target = mean(flow, "flops")
    print(
        f"\n{len(flow)} problems. Difference: the flow's accuracy less the part's, in pairs, 95 % bootstrap by problem.\n"
    )
    print("| | n | accuracy | 95 % | tokens | FLOPs | difference, points |")
    print("|---|---:|---:|---|---:|---:|---|")
    print(f"| **the flow** | 16 | {shown(flow)} | {mean(flow, 'tokens'):,.0f} | {scaled(target)} | |")
    for name, (start, build, votes) in lab.parts().items():
        for n in (size for size in SIZES if size >= start):
            if (found := rows(args, f"{name} n={n}", build(n), votes=votes)) is None:
                break
            spent = mean(found, "flops")
            if n < SIZES[-1] and spent < target and not args.all:
                continue
            for vote in votes:
                gap = [100.0 * (a["right"][""] - b["right"][vote]) for a, b in zip(flow, found, strict=True)]
                low, high = bootstrap_mean(gap, draws=4000)
                told = f"{np.mean(gap):+.1f} [{low:+.1f}, {high:+.1f}]"
                costs = f"{mean(found, 'tokens'):,.0f} | {scaled(spent)}"
                print(f"| {', '.join(filter(None, (name, vote)))} | {n} | {shown(found, vote)} | {costs} | {told} |")
            if spent >= target:
                break


def budgets(args: argparse.Namespace) -> None:
    """Each example workflow from no budget to a free one; a fall in accuracy, in pairs, is marked."""
    names = sorted(file.stem for file in WORKFLOWS.glob("*.py"))
    lab = Lab()
    print("\n| workflow | " + " | ".join("free" if b is None else f"{b:,}" for b in BUDGETS) + " |")
    print("|---|" + "---:|" * len(BUDGETS))
    falls: list[str] = []
    for name in names:
        cells, before = [], None
        for tokens in BUDGETS:
            budget = None if tokens is None else Budget(tokens=tokens)
            found = rows(args, f"{name} at {tokens}", lab.workflow(name), budget)
            if found is None:
                cells.append("")
                continue
            assert tokens is None or all(row["tokens"] <= tokens for row in found), f"{name}: over {tokens}"
            silent = sum(not row["answered"] for row in found)
            cells.append(
                f"{100 * np.mean([row['right'][''] for row in found]):.1f}" + (f" ({silent} silent)" if silent else "")
            )
            if before is not None:
                gap = [100.0 * (b["right"][""] - a["right"][""]) for a, b in zip(before, found, strict=True)]
                low, high = bootstrap_mean(gap, draws=4000)
                if high < 0:
                    falls.append(f"{name} at {tokens}: {np.mean(gap):+.1f} [{low:+.1f}, {high:+.1f}]")
            before = found
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nAccuracy in per cent by tokens a problem. Falls whose interval is below 0:", "; ".join(falls) or "none")


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("runs/composition"))
    parser.add_argument("--part", choices=("parts", "budgets"))
    parser.add_argument("--all", action="store_true", help="show every size")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.part != "budgets":
        parts(args)
    if args.part != "parts":
        budgets(args)


if __name__ == "__main__":
    main()
