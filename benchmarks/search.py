"""Searches on the lab at equal compute: accuracy against generated tokens and rated candidates, n = 1, 2, 4, … 64, paired.

    python benchmarks/search.py [--limit 500] [--out runs/search] [--only beam rebase] [--sizes 4 16] [--report]

Every search takes steps of lab/small at temperature 0.8 and is judged by lab/prm. Each method and size is one file in the
folder and is not run again, the small sizes come first, and Ctrl-C reports what is there: all of it takes hours on two cores.
`--report` prints what is there already: Markdown, a picture and the figures. Baselines are 64 whole solutions a problem,
regrouped into all disjoint groups of n.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reasonweave.orchestrator import Problem, Result, Strategy, asolve, chain, open_model
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.strategies import (
    DVTS,
    MCTS,
    REBASE,
    AdaptiveBranching,
    AStar,
    Beam,
    BestOfN,
    Entropic,
    EssBelow,
    ForceAnswer,
    Guard,
    OwnConfidence,
    ParticleFilter,
    ParticleGibbs,
    PhiDecoding,
    PowerSampling,
    Ratio,
    Redo,
    Sample,
    Steady,
    StochasticBeam,
    TreeBoN,
    TreeOfThought,
    best,
    entropic,
    first,
    log_reward,
    majority,
    posterior,
    systematic,
    twisted,
    weighted,
    whole,
)
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.runner import problem_seed
from reasonweave.tasks.lab.corpus import label
from reasonweave.tasks.lab.problems import parse, problems
from reasonweave.tasks.lab.task import LabTask
from reasonweave.verifiers import ProcessReward, SelfCheck
from reasonweave.verifiers.prm import last

SIZES = (1, 2, 4, 8, 16, 32, 64)
HORIZON = 8
"""About how many steps a solution of the lab takes; for entropic annealing."""
CONNECTIONS = 64
ENDS = {"argmax": best, "weighted": weighted, "majority": majority, "posterior": posterior, "first": first}
SAMPLES = "samples"

Build = Callable[[int], Strategy | None]


def searches(small: Model, rewards: RewardModel) -> dict[str, tuple[str, Build]]:
    """By name: how the search ends where its paper says so, and the search at a size n (None where it has no such size)."""
    prm = ProcessReward(rewards, last)
    steps = Guard(Sample(small))
    told = Guard(Sample(small, temperature=0.6))

    def heated(n: int, temperature: float) -> Strategy:
        return ParticleFilter(steps, prm, n, temperature=Steady(temperature))

    return {
        "particle-filter": ("argmax", lambda n: ParticleFilter(steps, prm, n)),
        "particle-filter, systematic": ("argmax", lambda n: ParticleFilter(steps, prm, n, resample=systematic)),
        "particle-filter, ratio": (
            "posterior",
            lambda n: ParticleFilter(steps, prm, n, log_reward, Ratio(), systematic, EssBelow(0.5)),
        ),
        "particle-filter, heat 4": ("argmax", lambda n: heated(n, 4.0)),
        "entropic-particle-filter": (
            "argmax",
            lambda n: entropic(steps, prm, n, temperature=Entropic(horizon=HORIZON)),
        ),
        "entropic, look-ahead": (
            "argmax",
            lambda n: entropic(steps, prm, n, temperature=Entropic(horizon=HORIZON), look_ahead=True),
        ),
        "particle-gibbs": (
            "argmax",
            lambda n: ParticleGibbs(ParticleFilter(steps, prm, n // 4), sweeps=4) if n >= 8 else None,
        ),
        "twisted-smc": ("posterior", lambda n: twisted(steps, prm, n)),
        "self-certainty-filter": ("majority", lambda n: ParticleFilter(steps, OwnConfidence(), n)),
        "beam": ("argmax", lambda n: Beam(steps, prm, n, min(4, n))),
        "dvts": ("argmax", lambda n: DVTS(steps, prm, n, min(4, n))),
        "stochastic-beam": (
            "argmax",
            lambda n: StochasticBeam(steps, prm, max(1, n // 4), min(4, n)) if n >= 2 else None,
        ),
        "rebase": ("weighted", lambda n: REBASE(Guard(Sample(small, temperature=1.0)), prm, n)),
        "astar": ("first", lambda n: AStar(steps, prm, n, 64) if n <= 16 else None),
        "tree-bon": ("argmax", lambda n: TreeBoN(steps, prm, n, min(4, n))),
        "mcts": ("argmax", lambda n: MCTS(steps, prm, n)),
        "ab-mcts": ("argmax", lambda n: AdaptiveBranching({"small": Redo(Sample(small))}, prm, n)),
        "phi-decoding": ("majority", lambda n: PhiDecoding(told, max(1, n // 4), 4) if n >= 4 else None),
        "power-sampling": (
            "majority",
            lambda n: PowerSampling(small, n, block=32, blocks=8, moves=4) if n <= 4 else None,
        ),
        "tree-of-thoughts": ("argmax", lambda n: TreeOfThought(steps, prm, 4, max(1, n // 4)) if n >= 4 else None),
        "tree-of-thoughts, self-check": (
            "argmax",
            lambda n: TreeOfThought(steps, SelfCheck(small), 4, max(1, n // 4)) if n >= 4 else None,
        ),
    }


async def each(
    flow: Strategy, examples: Sequence[Example], read: Callable[[Example, Result], dict[str, Any]]
) -> list[dict[str, Any]]:
    """What is read off the result of each problem, at most so many at a time."""
    gate = asyncio.Semaphore(CONNECTIONS)

    async def one(example: Example) -> dict[str, Any]:
        async with gate:
            result = await asolve(example.problem, flow, seed=problem_seed(0, example.problem.id))
        return {"id": example.problem.id, "level": example.group} | read(example, result)

    return await asyncio.gather(*(one(example) for example in examples))


def outcome(example: Example, result: Result) -> dict[str, Any]:
    """A search's outcome under every way of ending, and what it cost."""
    found = result.candidates
    drafts, rated = (result.usage.get(name) for name in ("lab-small", "lab-prm"))
    return {
        "ends": {name: example.correct(end(found).answer) for name, end in ENDS.items()},
        "any": any(example.correct(c.answer) for c in found),
        "generated": drafts.completion if drafts else 0,
        "rated": rated.calls if rated else 0,
        "rated_tokens": rated.prompt - rated.cached if rated else 0,
        "flops": sum(u.flops for u in result.usage.values()),
    }


def samples_of(example: Example, result: Result) -> dict[str, Any]:
    """The whole solutions of a problem with their rewards, for the baselines at every size."""
    texts: dict[str, int] = {}
    return {
        "samples": [
            {
                "answer": c.answer,
                "correct": example.correct(c.answer),
                "product": c.score.value if c.score else math.nan,
                "last": c.score.steps[-1] if c.score and c.score.steps else math.nan,
                "steps": list(c.score.steps) if c.score else [],
                "right": label(parse(example.problem.prompt), list(c.passages)),
                "tokens": c.tokens,
                "text": texts.setdefault(c.text, len(texts)),
            }
            for c in result.candidates
        ],
    }


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--level", type=int, help="problems of this level alone")
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        if not args.report:
            run(args)
    except KeyboardInterrupt:
        print("interrupted: what is there so far", file=sys.stderr)
    report(args.out)


def run(args: argparse.Namespace) -> None:
    """Every method at every size, into one file each."""
    small, rewards = open_model("lab/small", role="small"), open_model("lab/prm", role="prm")
    assert isinstance(small, Model)
    assert isinstance(rewards, RewardModel)
    examples: Sequence[Example] = LabTask().examples(args.limit)
    if args.level is not None:
        chains = problems(args.limit, levels=(args.level,))
        examples = [Example(Problem(c.text, c.id), str(c.answer), f"level {c.level}") for c in chains]
    known = searches(small, rewards)
    chosen = [SAMPLES, *known] if args.only is None else args.only
    if unknown := [name for name in chosen if name not in known and name != SAMPLES]:
        sys.exit(f"--only {unknown[0]!r}: one of {', '.join([SAMPLES, *known])}")
    jobs = [(SAMPLES, SIZES[-1])] if SAMPLES in chosen else []
    jobs += [(name, n) for n in args.sizes for name in chosen if name != SAMPLES]
    for name, n in jobs:
        file = args.out / f"{name.replace(', ', '.').replace(' ', '-')}@{n}.json"
        search = known[name][1](n) if name != SAMPLES else None
        if file.exists() or (search is None and name != SAMPLES):
            continue
        began = time.monotonic()
        if search is None:
            flow, read = BestOfN(whole(small), SIZES[-1], ProcessReward(rewards), max_steps=1), samples_of
        else:
            flow, read = chain(search, lambda found: found, finish=ForceAnswer(small)), outcome
        found = asyncio.run(each(flow, examples, read))
        seconds = time.monotonic() - began
        head = {"method": name, "n": n, "end": known[name][0] if name != SAMPLES else "", "seconds": seconds}
        file.write_text(json.dumps(head | {"problems": found}))
        print(f"{name}, n = {n}: {seconds:.0f} s", file=sys.stderr)


@dataclass(frozen=True)
class Point:
    """One method at one size: a figure a problem, in the problems' order."""

    method: str
    n: int
    correct: np.ndarray
    generated: np.ndarray
    rated: np.ndarray
    ends: dict[str, float]
    any: float

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


def points(out: Path) -> list[Point]:
    """What was run, and the baselines regrouped."""
    found: list[Point] = []
    for file in sorted(out.glob("*.json")):
        data = json.loads(file.read_text())
        if data["method"] == SAMPLES:
            found += baselines(data["problems"])
            continue
        each = data["problems"]
        columns = {k: np.array([p[k] for p in each], dtype=float) for k in ("generated", "rated", "any")}
        ends = {end: np.array([p["ends"][end] for p in each], dtype=float) for end in ENDS}
        found.append(
            Point(
                data["method"],
                data["n"],
                ends[data["end"]],
                columns["generated"],
                columns["rated"],
                {end: float(right.mean()) for end, right in ends.items()},
                float(columns["any"].mean()),
            )
        )
    return sorted(found, key=lambda p: (p.method, p.n))


def baselines(solved: Sequence[dict[str, Any]]) -> list[Point]:
    """Majority, weighted vote and best-of-n at every size: means over all disjoint groups of n among the 64 samples."""
    made = []
    canonical = Problem("").answers.canonical
    rules: dict[str, Callable[[list[dict[str, Any]]], bool]] = {
        "majority": lambda group: _vote(group, lambda s: 1.0, canonical),
        "weighted vote": lambda group: _vote(group, lambda s: s["product"], canonical),
        "best-of-n": lambda group: _best(group, "product"),
        "best-of-n, last step": lambda group: _best(group, "last"),
    }
    for n in SIZES:
        groups = [[p["samples"][i : i + n] for i in range(0, SIZES[-1], n)] for p in solved]
        generated = np.array([np.mean([sum(s["tokens"] for s in g) for g in some]) for some in groups])
        distinct = np.array([np.mean([len({s["text"] for s in g}) for g in some]) for some in groups])
        for name, rule in rules.items():
            correct = np.array([np.mean([rule(g) for g in some]) for some in groups])
            rated = np.zeros(len(solved)) if name == "majority" else distinct
            anyone = float(np.mean([np.mean([any(s["correct"] for s in g) for g in some]) for some in groups]))
            made.append(Point(name, n, correct, generated, rated, {}, anyone))
    return made


def _vote(group: list[dict[str, Any]], weigh: Callable[[dict[str, Any]], float], canonical: Any) -> bool:
    sums: dict[Any, float] = {}
    right: dict[Any, bool] = {}
    for s in group:
        if s["answer"] is not None:
            key = canonical(s["answer"])
            sums[key] = sums.get(key, 0.0) + weigh(s)
            right.setdefault(key, s["correct"])
    return right[max(sums, key=sums.__getitem__)] if sums else False


def _best(group: list[dict[str, Any]], by: str) -> bool:
    answered = [s for s in group if s["answer"] is not None]
    return bool(max(answered, key=lambda s: s[by])["correct"]) if answered else False


def needed(curve: Sequence[tuple[float, float]], accuracy: float) -> float:
    """The cost at which a curve of (cost, accuracy) reaches an accuracy: log-linear between its points, the best so far counting;
    nan where it never does, the first cost where it begins above."""
    best_so_far: list[tuple[float, float]] = []
    for cost, a in sorted(curve):
        best_so_far.append((cost, max(a, best_so_far[-1][1] if best_so_far else 0.0)))
    for (c0, a0), (c1, a1) in itertools.pairwise(best_so_far):
        if a0 >= accuracy:
            return c0
        if a1 >= accuracy:
            return math.exp(math.log(c0) + (accuracy - a0) / (a1 - a0) * (math.log(c1) - math.log(c0)))
    return best_so_far[0][0] if best_so_far and best_so_far[0][1] >= accuracy else math.nan


def half_width(values: np.ndarray) -> float:
    """Of the 95 % interval of a mean over problems."""
    return 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))


BASES = ("majority", "weighted vote", "best-of-n", "best-of-n, last step")


def report(out: Path) -> None:
    """Print everything that can be said of the runs in a folder, and draw it."""
    found = points(out)
    if not found:
        sys.exit(f"nothing in {out} yet")
    at = {(p.method, p.n): p for p in found}
    names = [*(b for b in BASES if (b, 1) in at), *dict.fromkeys(p.method for p in found if p.method not in BASES)]
    parts = [
        "## Accuracy, %\n\n" + accuracies(at, names),
        "## Cost a problem, and the difference from best-of-n at the same n\n\n" + costs(at, names),
        "## The same candidates under other ends, n = 16\n\n" + other_ends(at, names),
    ]
    parts += [part for part in (rates(at), thrift(at), aim(at)) if part]
    samples = out / f"{SAMPLES}@{SIZES[-1]}.json"
    if samples.exists():
        parts.append("## What the reward model says early\n\n" + early(json.loads(samples.read_text())["problems"]))
    text = "\n\n".join(parts) + "\n"
    (out / "search.md").write_text(text)
    draw(at, names, out / "search.png")
    print(text)


def accuracies(at: dict[tuple[str, int], Point], names: Sequence[str]) -> str:
    lines = ["| method | " + " | ".join(f"n = {n}" for n in SIZES) + " |", "|---|" + "---:|" * len(SIZES)]
    for name in names:
        cells = [at.get((name, n)) for n in SIZES]
        shown = [f"{100 * p.accuracy:.1f} ± {100 * half_width(p.correct):.1f}" if p else "" for p in cells]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def costs(at: dict[tuple[str, int], Point], names: Sequence[str], n: int = 16) -> str:
    lines = [
        "| method | n | generated tokens | rated candidates | against best-of-n, points | one right among all |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        size = max((k for method, k in at if method == name and k <= n), default=0)
        p, base = at.get((name, size)), at.get(("best-of-n", size))
        if p is None:
            continue
        gap = p.correct - base.correct if base and len(base.correct) == len(p.correct) else None
        told = "" if gap is None else f"{100 * gap.mean():+.1f} ± {100 * half_width(gap):.1f}"
        lines.append(
            f"| {name} | {size} | {p.generated.mean():,.0f} | {p.rated.mean():.1f} | {told} | {100 * p.any:.1f} % |"
        )
    return "\n".join(lines)


def other_ends(at: dict[tuple[str, int], Point], names: Sequence[str], n: int = 16) -> str:
    shown = ("argmax", "weighted", "majority", "posterior")
    lines = ["| method | " + " | ".join(shown) + " |", "|---|" + "---:|" * len(shown)]
    for name in names:
        if (p := at.get((name, n))) is not None and p.ends:
            lines.append(f"| {name} | " + " | ".join(f"{100 * p.ends[end]:.1f}" for end in shown) + " |")
    return "\n".join(lines)


def curve(
    at: dict[tuple[str, int], Point], name: str, cost: str = "generated", end: str = ""
) -> list[tuple[float, float]]:
    """(cost, accuracy) of a method at each size."""
    some = [p for (method, _), p in at.items() if method == name]
    return [(float(getattr(p, cost).mean()), p.ends[end] if end else p.accuracy) for p in some]


def rates(at: dict[tuple[str, int], Point]) -> str:
    """How many times fewer tokens the particle filter needs for what the others reach."""
    lines = [
        "## Scaling: tokens of the others over tokens of the particle filter, at equal accuracy\n",
        "Puri et al. (2025) report 4–16 for rates against deterministic search.\n",
        "| against | particle filter ends by | n = 4 | n = 8 | n = 16 | n = 32 | n = 64 |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name in ("best-of-n", "weighted vote", "beam", "dvts", "rebase", "astar"):
        for end in ("argmax", "majority"):
            filtered, cells = curve(at, "particle-filter", end=end), []
            for n in SIZES[2:]:
                p = at.get((name, n))
                most = needed(filtered, p.accuracy) if p and filtered else math.nan
                told = "never" if p and filtered else ""
                cells.append(told if math.isnan(most) or p is None else f"{p.generated.mean() / most:.2f}")
            lines.append(f"| {name} | {end} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def thrift(at: dict[tuple[str, int], Point]) -> str:
    """A* beside best-of-n and the particle filter at its own accuracy."""
    lines = [
        "## A*: what the others need for its accuracy, over what it needs\n",
        "The paper reports up to 3 times fewer tokens and 30 % fewer reward-model passes (a ratio of 1.43).\n",
        "| A* at n | accuracy | generated | rated | tokens, best-of-n | rated, best-of-n | tokens, particle filter "
        "| rated, particle filter |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for n in SIZES:
        if (p := at.get(("astar", n))) is None:
            continue
        cells = []
        for name in ("best-of-n", "particle-filter"):
            for cost in ("generated", "rated"):
                ratio = needed(curve(at, name, cost), p.accuracy) / max(1e-9, float(getattr(p, cost).mean()))
                cells.append("never" if math.isnan(ratio) else f"{ratio:.2f}")
        lines.append(
            f"| {n} | {100 * p.accuracy:.1f} % | {p.generated.mean():,.0f} | {p.rated.mean():.1f} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines) if len(lines) > 4 else ""


def aim(at: dict[tuple[str, int], Point]) -> str:
    """Does a particle filter of 16 reach best-of-64?"""
    base = at.get(("best-of-n", 64))
    if base is None:
        return ""
    lines = [
        "## Sixteen particles against best-of-64\n",
        "| method, n = 16 | accuracy | minus best-of-64, points | tokens relative to best-of-64 |",
        "|---|---:|---:|---:|",
    ]
    for name in dict.fromkeys(m for m, _ in at):
        p = at.get((name, 16))
        if p is None or name in BASES or len(p.correct) != len(base.correct):
            continue
        gap, share = p.correct - base.correct, p.generated.mean() / base.generated.mean()
        lines.append(
            f"| {name} | {100 * p.accuracy:.1f} % | {100 * gap.mean():+.1f} ± {100 * half_width(gap):.1f} | {share:.0%} |"
        )
    return "\n".join(lines)


def early(solved: Sequence[dict[str, Any]]) -> str:
    """By step: how often the prefix is right, what the reward model says, and what it says of prefixes that are wrong."""
    lines = [
        "| step | prefixes | right | mean reward | mean reward where wrong | wrong with a reward above 0.5 |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    rows: dict[int, list[tuple[float, bool]]] = {}
    for p in solved:
        for s in {s["text"]: s for s in p["samples"]}.values():
            for t, (reward, right) in enumerate(zip(s["steps"], s["right"], strict=False), 1):
                rows.setdefault(t, []).append((reward, right))
    for t in sorted(rows)[:9]:
        rewards, right = (np.array(column, dtype=float) for column in zip(*rows[t], strict=True))
        wrong = rewards[right == 0]
        lines.append(
            f"| {t} | {len(rewards):,} | {right.mean():.1%} | {rewards.mean():.3f} | {wrong.mean():.3f} "
            f"| {(wrong > 0.5).mean():.1%} |"
            if len(wrong)
            else f"| {t} | {len(rewards):,} | {right.mean():.1%} | {rewards.mean():.3f} | | |"
        )
    return "\n".join(lines) + "\n\nDistinct texts of 64 samples a problem."


def draw(at: dict[tuple[str, int], Point], names: Sequence[str], path: Path) -> None:
    """Accuracy against generated tokens and against rated candidates, a curve a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(15, 6.6), dpi=100, sharey=True)
    colours, marks = pyplot.get_cmap("tab20").colors, "osD^vP*X<>"  # type: ignore[attr-defined]
    for axes, cost, words in zip(panels, ("generated", "rated"), ("generated tokens", "rated candidates"), strict=True):
        for i, name in enumerate(names):
            some = sorted(curve(at, name, cost))
            if max(c for c, _ in some) == 0:
                continue
            base = name in BASES
            axes.plot(
                *zip(*some, strict=True),
                color="0.45" if base else colours[i * 7 % 20],
                ls=("-", "--", ":", "-.")[i % 4] if base else "-",
                marker="" if base else marks[i % 10],
                ms=5,
                lw=1.3 if base else 1.5,
                label=name,
            )
        axes.set_xscale("log")
        axes.set_xlabel(f"{words} a problem")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("accuracy")
    size = len(next(iter(at.values())).correct)
    panels[0].set_title(f"Searches by lab/small with lab/prm, {size:,} lab problems, n = 1 … 64", loc="left")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[1].legend(handles, labels, fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
