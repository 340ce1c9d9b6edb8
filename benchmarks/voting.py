"""Votes and stopping rules on the lab: accuracy and calibration against samples, replayed from 64 recorded ones a problem.

    python benchmarks/voting.py [--limit 1000] [--out runs/voting] [--draws 8] [--only rpc ESC] [--report]

Recording takes the better part of an hour on two cores and happens once; then nothing is generated any more. Every vote
sees the same random orders of the same samples, so that differences are paired; sizes are prefixes of these orders. Each vote
and each rule is one file in the folder and is not computed again; Ctrl-C reports what is there. Intervals are 95 %,
bootstrap over problems.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from recorded import SAMPLES, Dealer, Looked, Solved, candidates, record

from reasonweave.orchestrator import Candidate, Strategy, asolve, chain
from reasonweave.orchestrator.protocols import Aggregator
from reasonweave.orchestrator.solve_each import solve_each
from reasonweave.orchestrator.types import FloatArray, IntArray
from reasonweave.strategies import (
    ESC,
    RPC,
    AdaptiveConsistency,
    Allocation,
    BestOfMajority,
    BestOfN,
    BetaStop,
    Borda,
    Consensus,
    DeepConf,
    DeepConfVote,
    DirichletStop,
    EntropyStop,
    LogOdds,
    MajorityOfBests,
    MajorityStop,
    Pessimism,
    SoftBest,
    Until,
    Windowed,
    best,
    bottom_confidence,
    evenly,
    likelihood,
    lowest_confidence,
    majority,
    mean_confidence,
    optimistic,
    perplexity,
    perplexity_consistency,
    posterior,
    regret,
    restarts,
    tail_confidence,
    total_logprob,
    unsettled,
    weighted,
    weighted_mean,
    whole,
)
from reasonweave.tasks.evaluation.confidence import ece
from reasonweave.tasks.evaluation.stats import bootstrap, bootstrap_mean

SIZES = (1, 2, 4, 8, 16, 32, 64)
DENSE = (*range(1, 17), 20, 24, 28, 32, 36, 40, 48, 56, 64)
"""Sizes of the uniform majority vote: the curve that rules are held against."""
WINDOW = 16
"""Tokens of a confidence window: lab solutions have some 74 tokens, so the papers' 2,048 would never fill."""
BOOTSTRAP = 2_000


class Remembered:
    """A measure that is taken of each candidate once. They all live as long as the program, so that their ids tell them apart."""

    def __init__(self, measure: Callable[[Candidate], float]) -> None:
        self.measure, self.known = measure, dict[int, float]()

    def __call__(self, candidate: Candidate) -> float:
        if id(candidate) not in self.known:
            self.known[id(candidate)] = self.measure(candidate)
        return self.known[id(candidate)]


VOTES: dict[str, Aggregator] = {
    "majority": majority,
    "weighted": weighted,
    "weighted mean": weighted_mean,
    "log-odds": LogOdds(),
    "best-of-n": best,
    "soft best-of-n, 0.1": SoftBest(0.1),
    "pessimism, 0.25": Pessimism(0.25),
    "majority of bests, 4": MajorityOfBests(4),
    "best of majority, 0.2": BestOfMajority(0.2),
    "perplexity": perplexity,
    "perplexity consistency": perplexity_consistency,
    "rpc": RPC(),
    "rpc, whole probability": RPC(by=total_logprob),
    "self-certainty Borda, 0.5": Borda(0.5, by=Remembered(mean_confidence)),
    "DeepConf mean": DeepConfVote(Remembered(mean_confidence), keep=1.0),
    "DeepConf tail": DeepConfVote(Remembered(Windowed(tail_confidence, WINDOW)), keep=1.0),
    "DeepConf bottom": DeepConfVote(Remembered(Windowed(bottom_confidence, WINDOW)), keep=1.0),
    "DeepConf lowest": DeepConfVote(Remembered(Windowed(lowest_confidence, WINDOW)), keep=1.0),
    "DeepConf tail, top 50 %": DeepConfVote(Remembered(Windowed(tail_confidence, WINDOW)), keep=0.5),
    "DeepConf tail, top 10 %": DeepConfVote(Remembered(Windowed(tail_confidence, WINDOW)), keep=0.1),
}
Rule = Callable[[Any, Looked], Strategy]
RULES: dict[str, Rule] = {
    "Adaptive-Consistency, Beta 0.95": lambda m, v: ac(m, BetaStop(0.95)),
    "Adaptive-Consistency, Beta 0.8": lambda m, v: ac(m, BetaStop(0.8)),
    "Adaptive-Consistency, Dirichlet 0.95": lambda m, v: ac(m, DirichletStop(0.95)),
    "Adaptive-Consistency, entropy 0.75": lambda m, v: ac(m, EntropyStop(0.75)),
    "Adaptive-Consistency, majority 0.8": lambda m, v: ac(m, MajorityStop(0.8)),
    "ESC, window 5": lambda m, v: chain(ESC(whole(m), 40, 5), majority),
    "ESC, window 3": lambda m, v: chain(ESC(whole(m), 39, 3), majority),
    "consensus 0.95": lambda m, v: ac(m, Consensus(0.95)),
    "DeepConf low, no consensus": lambda m, v: deepconf(m, 0.1, None),
    "DeepConf high, no consensus": lambda m, v: deepconf(m, 0.9, None),
    "DeepConf low": lambda m, v: deepconf(m, 0.1, 0.95),
    "DeepConf high": lambda m, v: deepconf(m, 0.9, 0.95),
    "capability-aware, 0.02": lambda m, v: chain(restarts(whole(m), v, 16, 0.02), best),
    "capability-aware, 0.1": lambda m, v: chain(restarts(whole(m), v, 16, 0.1), best),
    "capability-aware, 0.5": lambda m, v: chain(restarts(whole(m), v, 16, 0.5), best),
    "capability-aware, 0.8": lambda m, v: chain(restarts(whole(m), v, 16, 0.8), best),
    "best-of-16": lambda m, v: chain(BestOfN(whole(m), 16, v, max_steps=1), best),
    "majority of 64, no stopping": lambda m, v: chain(BestOfN(whole(m), 64, max_steps=1), majority),
}

AVERAGES = (2, 3, 4, 5, 6, 8, 10)
ALLOCATIONS: dict[str, dict[str, Any]] = {
    "allocation evenly": {"rule": evenly},
    "allocation until 0.95": {"rule": Until(0.95)},
    "allocation unsettled": {"rule": unsettled},
    "allocation optimistic gradient": {"rule": optimistic},
    "allocation regret": {"rule": regret},
    "allocation regret, by likelihood": {"rule": regret, "weigh": likelihood},
    "allocation evenly, by likelihood": {"rule": evenly, "weigh": likelihood},
}
"""One budget over all problems: `average` samples a problem, spent by a rule."""

CLAIMS = {
    "rpc": "RPC: the accuracy of SC with at least 50 % fewer samples",
    "Adaptive-Consistency": "up to 6 times fewer samples, accuracy within 0.1 points",
    "ESC": "34 to 84 % fewer samples",
    "DeepConf": "43 to 85 % fewer tokens",
    "capability-aware": "74 % of the gain of 16 samples with 1.2 samples on average",
}


def ac(model: Any, rule: Any) -> Strategy:
    return chain(AdaptiveConsistency(whole(model), 40, rule), majority)


def deepconf(model: Any, keep: float, consensus: float | None) -> Strategy:
    policy = whole(model, top_logprobs=20)
    return chain(DeepConf(policy, 64, 16, keep, WINDOW, consensus), posterior)


def orders(problem: int, draws: int) -> list[list[int]]:
    """The random orders of one problem's samples: the same for every vote and rule."""
    return [np.random.default_rng([problem, k]).permutation(SAMPLES).tolist() for k in range(draws)]


def voted(name: str, solved: Sequence[Solved], draws: int) -> dict[str, Any]:
    """A vote at every size: of each problem and order, whether it was right, and how sure."""
    vote, sizes = VOTES[name], DENSE if name == "majority" else SIZES
    made: dict[str, Any] = {}
    for n in sizes:
        right, sure = [], []
        for p, each in enumerate(solved):
            found = [
                vote(candidates(each, o[:n], k)) for k, o in enumerate(orders(p, draws)[: 1 if n == SAMPLES else None])
            ]
            right.append([each.example.correct(c.answer) for c in found])
            sure.append([math.nan if c.confidence is None else c.confidence for c in found])
        made[str(n)] = {"right": right, "sure": sure}
    return made


def ruled(name: str, solved: Sequence[Solved], draws: int) -> dict[str, Any]:
    """A stopping rule: of each problem and order, whether it was right, how many samples and tokens it took."""
    looked = Looked(solved, "reward")

    async def run(k: int) -> list[tuple[bool, int, int, float]]:
        model = Dealer(solved, [orders(p, draws)[k] for p in range(len(solved))])
        flow, told = RULES[name](model, looked), []
        for each in solved:
            result = await asolve(each.example.problem, flow, seed=k)
            sure = math.nan if result.confidence is None else result.confidence
            used = result.total
            told.append((each.example.correct(result.answer), used.calls, used.completion, sure))
        return told

    runs = [asyncio.run(run(k)) for k in range(draws)]
    fields = ("right", "samples", "tokens", "sure")
    return {field: [[told[p][i] for told in runs] for p in range(len(solved))] for i, field in enumerate(fields)}


def allocated(name: str, solved: Sequence[Solved], draws: int) -> dict[str, Any]:
    """Batch allocation at every average: of each problem and order, whether it was right, and how many samples it got."""
    vote = posterior if "weigh" in ALLOCATIONS[name] else majority
    tasks = [each.example.problem for each in solved]
    made: dict[str, Any] = {}
    for average in AVERAGES:
        runs = []
        for k in range(min(draws, 4)):
            model = Dealer(solved, [orders(p, draws)[k] for p in range(len(solved))])
            search = Allocation(whole(model), average, least=min(2, average), most=SAMPLES, **ALLOCATIONS[name])
            runs.append(list(solve_each(tasks, search, vote, seed=k)))
        right = [[e.example.correct(run[p].answer) for run in runs] for p, e in enumerate(solved)]
        made[str(average)] = {
            "right": right,
            "samples": [[len(run[p].candidates) for run in runs] for p in range(len(solved))],
        }
    return made


def mean_of(values: Any) -> FloatArray:
    """A mean over orders for each problem."""
    return np.array([np.mean(each) for each in values], dtype=float)


def interval(values: FloatArray) -> tuple[float, float]:
    """Of the mean over problems."""
    return bootstrap_mean(values, draws=BOOTSTRAP)


@dataclass(frozen=True)
class Curve:
    """The uniform majority vote: accuracy at every size, and what other methods are worth in its samples."""

    sizes: tuple[int, ...]
    right: FloatArray
    """Shape (problems, sizes)."""

    def samples_for(self, accuracy: float, of: FloatArray | None = None) -> float:
        """The samples that reach an accuracy, interpolated on the running maximum; inf where none do."""
        curve = np.maximum.accumulate(self.right.mean(axis=0) if of is None else of)
        if accuracy > curve[-1]:
            return math.inf
        at = int(np.searchsorted(curve, accuracy))
        if at == 0:
            return float(self.sizes[0])
        share = (accuracy - curve[at - 1]) / (curve[at] - curve[at - 1])
        return float(self.sizes[at - 1] + share * (self.sizes[at] - self.sizes[at - 1]))

    def saving(self, right: FloatArray, samples: FloatArray) -> tuple[float, float, float]:
        """1 − samples used / samples of the uniform vote at the same accuracy, with its interval over problems."""

        def saved(rows: IntArray) -> float:
            needed = self.samples_for(float(right[rows].mean()), self.right[rows].mean(axis=0))
            return 1 - float(samples[rows].mean()) / needed

        everyone = np.arange(len(right))
        return saved(everyone), *bootstrap(saved, everyone)


def main() -> None:
    """Record and replay what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/voting"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--report", action="store_true", help="compute nothing")
    args = parser.parse_args()
    known = [*VOTES, *RULES, *ALLOCATIONS]
    chosen = [name for name in known if args.only is None or any(part in name for part in args.only)]
    if not chosen:
        sys.exit(f"--only {args.only}: part of one of {', '.join(known)}")
    solved = record(args.out, args.limit)
    for each in solved:
        candidates(each, ())  # made once, before the work is shared out
    folder = args.out / f"replayed-{args.limit}-{args.draws}"
    folder.mkdir(exist_ok=True)
    missing = [name for name in chosen if not _file(folder, name).exists() and not args.report]
    _LOADED.extend(solved)
    try:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:  # which read one copy
            list(pool.map(partial(_computed, folder, args.draws), missing))
    except KeyboardInterrupt:
        print("interrupted: what is there so far", file=sys.stderr)
    report(folder, solved)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '_').replace(',', '').replace('%', '')}.json"


_LOADED: list[Solved] = []


def _computed(folder: Path, draws: int, name: str) -> None:
    began = time.monotonic()
    how = voted if name in VOTES else ruled if name in RULES else allocated
    _file(folder, name).write_text(json.dumps(how(name, _LOADED, draws)))
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def report(folder: Path, solved: Sequence[Solved]) -> None:
    """Markdown tables and a picture of what is there."""
    votes = {name: json.loads(_file(folder, name).read_text()) for name in VOTES if _file(folder, name).exists()}
    rules = {name: json.loads(_file(folder, name).read_text()) for name in RULES if _file(folder, name).exists()}
    batches = {
        name: json.loads(_file(folder, name).read_text()) for name in ALLOCATIONS if _file(folder, name).exists()
    }
    singles = np.array([np.mean([s.right for s in each.samples]) for each in solved])
    print(f"{len(solved)} lab problems, {SAMPLES} samples each; one sample is right {100 * singles.mean():.1f} %\n")
    print(f"accuracy, % | {' | '.join(f'n = {n}' for n in SIZES)}\n---|{'---|' * len(SIZES)}")
    for name, told in votes.items():
        cells = []
        for n in SIZES:
            right = mean_of(told[str(n)]["right"])
            low, high = interval(right)
            cells.append(f"{100 * right.mean():.1f} ±{50 * (high - low):.1f}")
        print(f"{name} | {' | '.join(cells)}")
    print(f"\nECE | {' | '.join(f'n = {n}' for n in SIZES)}\n---|{'---|' * len(SIZES)}")
    for name, told in votes.items():
        print(f"{name} | {' | '.join(_calibration(told[str(n)]) for n in SIZES)}")
    if "majority" not in votes:
        return
    curve = Curve(DENSE, np.stack([mean_of(votes["majority"][str(n)]["right"]) for n in DENSE], axis=1))
    ceiling = float(curve.right[:, -1].mean())
    print(
        "\nvote | smallest n with the majority's accuracy at 64 | samples of the majority for its accuracy at 16\n---|---|---"
    )
    for name, told in votes.items():
        means = {n: float(mean_of(told[str(n)]["right"]).mean()) for n in SIZES}
        reach = next((str(n) for n in SIZES if means[n] >= ceiling), "none")
        print(f"{name} | {reach} | {_shown(curve.samples_for(means[16]))}")
    print(
        "\nrule | accuracy, % | samples | tokens | samples of the majority at that accuracy | saved, %\n---|---|---|---|---|---"
    )
    for name, told in rules.items():
        right, samples, tokens = (mean_of(told[field]) for field in ("right", "samples", "tokens"))
        low, high = interval(right)
        saved = curve.saving(right, samples)
        needed = curve.samples_for(float(right.mean()))
        shown = f"{100 * saved[0]:.0f} ({100 * saved[1]:.0f} to {100 * saved[2]:.0f})"
        if math.isinf(needed) or saved[0] < -1:
            shown = "–" if math.isinf(needed) else f"none: {samples.mean() / needed:.0f} times as many"
        print(
            f"{name} | {100 * right.mean():.1f} ±{50 * (high - low):.1f} | {samples.mean():.2f} | {tokens.mean():.0f} | "
            f"{_shown(needed)} | {shown}"
        )
    at_16 = curve.right[:, DENSE.index(16)]
    print(f"\nallocation, accuracy in % at | {' | '.join(f'{a} samples' for a in AVERAGES)} | at 6, less uniform 16")
    print(f"---|{'---|' * (len(AVERAGES) + 1)}")
    for name, told in batches.items():
        values = {a: mean_of(told[str(a)]["right"]) for a in AVERAGES}
        low, high = interval(values[6] - at_16)
        cells = " | ".join(f"{100 * v.mean():.1f}" for v in values.values())
        gap = 100 * float((values[6] - at_16).mean())
        print(f"{name.removeprefix('allocation ')} | {cells} | {gap:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
    uniform = " | ".join(f"{100 * curve.right[:, DENSE.index(a)].mean():.1f}" for a in AVERAGES)
    print(f"majority, uniform | {uniform} | at 16: {100 * at_16.mean():.1f}")
    print("\nwhat the papers say")
    for name, claim in CLAIMS.items():
        print(f"* {name}: {claim}")
    draw(votes, rules, folder.parent / "voting.png", len(solved))


def _shown(samples: float) -> str:
    return "more than 64" if math.isinf(samples) else f"{samples:.1f}"


def _calibration(told: dict[str, Any]) -> str:
    pairs = [(s, r) for some in zip(told["sure"], told["right"], strict=True) for s, r in zip(*some, strict=True)]
    known = [(s, r) for s, r in pairs if not math.isnan(s)]
    return f"{ece([s for s, _ in known], [r for _, r in known]):.3f}" if known else "–"


def draw(votes: dict[str, Any], rules: dict[str, Any], path: Path, problems: int) -> None:
    """Accuracy and ECE against samples, and the rules among the uniform votes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 6), dpi=120)
    colours = plt.get_cmap("tab20").colors
    for i, (name, told) in enumerate(votes.items()):
        accuracy = [100 * mean_of(told[str(n)]["right"]).mean() for n in SIZES]
        left.plot(SIZES, accuracy, marker="o", markersize=3.5, linewidth=1.3, color=colours[i % 20], label=name)
    left.set_title(f"votes on {problems} lab problems")
    if "majority" in votes:
        uniform = [100 * mean_of(votes["majority"][str(n)]["right"]).mean() for n in DENSE]
        right.plot(DENSE, uniform, color="#888888", linewidth=1.5, label="majority, uniform")
    for i, (name, told) in enumerate(rules.items()):
        values = mean_of(told["right"])
        low, high = interval(values)
        mid = 100 * values.mean()
        right.errorbar(
            [mean_of(told["samples"]).mean()],
            [mid],
            yerr=[[mid - 100 * low], [100 * high - mid]],
            fmt="o",
            color=colours[i % 20],
            capsize=3,
            label=name,
        )
    right.set_title("stopping rules (95 % intervals)")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(SIZES, [str(n) for n in SIZES])
        axes.set_xlabel("samples a problem")
        axes.set_ylabel("accuracy, %")
        axes.grid(True, alpha=0.25)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, fontsize=8, frameon=False)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, bbox_inches="tight")
    print(f"\npicture: {path}")


if __name__ == "__main__":
    main()
