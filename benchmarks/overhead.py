"""What the searches themselves cost: CPU per candidate step with an instant model, its growth with n, and a tree's memory.

    python benchmarks/overhead.py [--repeats 3] [--only beam mcts]

The instant policy writes a ready step and the instant verifier reads a ready score, so that what is left is the search.
"Through the door" has a scripted model and reward model instead, with budget, seeds and trace: what a run on a real model
pays on top of it. Compare columns and ratios; microseconds swing twofold between machines and runs.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace

from reasonweave.orchestrator import Candidate, Candidates, Problem, Run, Score, Step, StepPolicy, Strategy, Verifier
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.types import DELIMITER
from reasonweave.strategies import (
    DVTS,
    MCTS,
    REBASE,
    AdaptiveBranching,
    AStar,
    Beam,
    BestOfN,
    DepthFirst,
    Entropic,
    EssBelow,
    ParticleFilter,
    ParticleGibbs,
    PhiDecoding,
    Ratio,
    Redo,
    Sample,
    StochasticBeam,
    TreeBoN,
    TreeOfThought,
    entropic,
    log_reward,
    systematic,
    twisted,
)
from reasonweave.verifiers import ProcessReward

DEPTH = 10
DEEP = 24
VARIANTS = 16
LIMIT = 40.0
SCORES = [Score(0.2 + 0.05 * kind, (0.2 + 0.05 * kind,)) for kind in range(VARIANTS)]


class Instant:
    """A policy whose steps are ready: one of 16 kinds, ten to a solution. Counts what it extends."""

    def __init__(self, length: int = 60) -> None:
        texts = [f"{'x' * length}{kind:02d}{DELIMITER}" for kind in range(VARIANTS)]
        self.steps = [Step(text, "m", 16, -8.0) for text in texts]
        self.made = 0

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        first = self.made
        self.made += len(candidates)
        return [self._next(c, (first + i) * 7 % VARIANTS) for i, c in enumerate(candidates)]

    def _next(self, candidate: Candidate, kind: int) -> Candidate:
        k = len(candidate.steps)
        return candidate.extend(self.steps[kind], done=k == DEPTH - 1)


class InstantScore:
    """A verifier that reads the newest step: scores between 0.2 and 0.95 by its kind."""

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [SCORES[(len(c.steps) * 5 + int(c.steps[-1].text[-4:-2])) % VARIANTS] for c in candidates]


Build = Callable[[StepPolicy, Verifier, int], Strategy]

SEARCHES: dict[str, Build] = {
    "best-of-n": lambda p, v, n: BestOfN(p, n, v),
    "particle-filter": ParticleFilter,
    "particle-filter, ratio": lambda p, v, n: ParticleFilter(p, v, n, log_reward, Ratio(), systematic, EssBelow()),
    "entropic": lambda p, v, n: entropic(p, v, n, temperature=Entropic(horizon=DEPTH)),
    "look-ahead": lambda p, v, n: ParticleFilter(p, v, n, look_ahead=True),
    "particle-gibbs": lambda p, v, n: ParticleGibbs(ParticleFilter(p, v, n), 2),
    "twisted": twisted,
    "beam": lambda p, v, n: Beam(p, v, n, 4),
    "dvts": lambda p, v, n: DVTS(p, v, n, 4),
    "stochastic-beam": lambda p, v, n: StochasticBeam(p, v, n // 4, 4),
    "rebase": REBASE,
    "astar": lambda p, v, n: AStar(p, v, 4, n, answers=n),
    "tree-bon": lambda p, v, n: TreeBoN(p, v, n, 4),
    "mcts": lambda p, v, n: MCTS(p, v, n),
    "mcts, no rollout": lambda p, v, n: MCTS(p, v, n, rollout=False),
    "ab-mcts": lambda p, v, n: AdaptiveBranching({"redo": Redo(p)}, v, n),
    "phi-decoding": lambda p, v, n: PhiDecoding(p, n // 4, 4),
    "tree-of-thoughts": lambda p, v, n: TreeOfThought(p, v, 4, n // 4),
    "depth-first": lambda p, v, n: DepthFirst(p, v, 4, answers=n, expansions=n),
}


async def drained(strategy: Strategy, run: Run) -> Candidates:
    """The last set of a search."""
    found = Candidates()
    async for snapshot in strategy.search(Candidates.of(Problem("What is 1 + 1?")), run):
        found = snapshot
    return found


def per_step(build: Build, n: int, repeats: int) -> float:
    """Microseconds of CPU per candidate step, the median of some runs."""
    times = []
    for seed in range(repeats):
        policy = Instant()
        strategy = build(policy, InstantScore(), n)
        gc.collect()
        began = time.process_time()
        asyncio.run(drained(strategy, Run(seed)))
        times.append(1e6 * (time.process_time() - began) / max(1, policy.made))
    return statistics.median(times)


def through_the_door(build: Build, n: int) -> float:
    """The same with a scripted model and reward model behind their doors."""

    def script(request: object) -> str:
        return _SCRIPT[request.context.prefix.count(DELIMITER)]  # type: ignore[attr-defined]

    model, reward = ScriptedModel(script), ScriptedReward(lambda problem, steps: 0.5)
    strategy = build(Sample(model), ProcessReward(reward), n)
    began = time.process_time()
    asyncio.run(drained(strategy, Run(1)))
    made = sum(len(batch) for batch in model.calls)
    return 1e6 * (time.process_time() - began) / max(1, made)


_SCRIPT = ["x " * 16 + DELIMITER] * (DEPTH - 1) + ["\\boxed{1}"]


def bytes_per_node(length: int, n: int = 256) -> float:
    """Memory of an A* tree for each of its candidates, with steps of this length (every text its own)."""

    class Own(Instant):
        told = 0

        def _next(self, candidate: Candidate, kind: int) -> Candidate:
            self.told += 1
            step = replace(self.steps[kind], text=f"{self.told} " + "y" * length + DELIMITER)
            return candidate.extend(step, done=len(candidate.steps) >= DEEP)

    class Flat:
        async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
            return [Score(0.5) for _ in candidates]

    policy = Own()
    tracemalloc.start()
    search = AStar(policy, Flat(), 4, n, answers=n).search(Candidates.of(Problem("q")), Run(1))

    async def grow() -> int:
        most = 0
        async for _ in search:
            most = tracemalloc.get_traced_memory()[0]
        return most

    most = asyncio.run(grow())
    tracemalloc.stop()
    return most / policy.made


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    chosen = {name: build for name, build in SEARCHES.items() if not args.only or name in args.only}
    sizes = (64, 512, 4096)
    print("CPU a candidate step, µs; the exponent is that of the time in n, 1 being linear\n")
    print(
        "| search | " + " | ".join(f"n = {n}" for n in sizes) + " | exponent, 64 to 4,096 | n = 64 through the door |"
    )
    print("|---|" + "---:|" * (len(sizes) + 2))
    over = []
    for name, build in chosen.items():
        times = [per_step(build, n, args.repeats) for n in sizes]
        exponent = 1 + math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0])
        door = through_the_door(build, 64)
        print(f"| {name} | " + " | ".join(f"{t:.1f}" for t in times) + f" | {exponent:.2f} | {door:.0f} |", flush=True)
        if times[0] > LIMIT:
            over.append(name)
    print(f"\nAbove {LIMIT:g} µs at n = 64: {', '.join(over) or 'none'}.")
    short, long = bytes_per_node(100), bytes_per_node(1000)
    print(f"\nA tree's memory a candidate: {short:,.0f} bytes with steps of 100 characters, {long:,.0f} with 1,000")
    print(
        f"(up to {DEEP} steps deep). With four times the nodes: {bytes_per_node(100, 1024) / short:.2f} times that each."
    )


if __name__ == "__main__":
    main()
