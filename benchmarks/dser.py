"""DSER on the lab: the Markov chain of verify and refine, measured and predicted, and votes at equal compute.

    python benchmarks/dser.py [--limit 200] [--lines 4] [--rounds 12] [--out runs/dser] [--only blind] [--report]

lab/small answers and, told nothing but which step was weakest, writes its answers anew from there (`Redo`), 12 rounds long,
in 4 lines a problem, under several verifiers. Each variant is one file with a line a problem, which is not run again, so
that an interrupted run goes on where it stopped (two seconds a problem on a core, for all of them); `--report` prints what
is there. Intervals are 95 %, bootstrap over problems.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reasonweave.orchestrator import Candidate, Candidates, Ledger, Run, open_model
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.strategies import BestOfN, Guard, Redo, Sample, best, majority, weighted, whole
from reasonweave.strategies.refining.dser import TwoStates, dser
from reasonweave.strategies.refining.feedback import Feedback, Remark, Scores
from reasonweave.strategies.refining.refine import Refine
from reasonweave.strategies.refining.writing import Refined
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.runner import problem_seed
from reasonweave.tasks.evaluation.stats import bootstrap
from reasonweave.tasks.lab.task import LabTask
from reasonweave.verifiers import ProcessReward, SelfCheck
from reasonweave.verifiers.cached import Cached

SAMPLES = "samples"
DRAWN = 48
"""Whole solutions a problem for the baselines."""
CONNECTIONS = 32
LATE = (1, 5)
"""How many of the last answers of each line vote."""
ENDS: dict[str, Callable[[Candidates], Candidates]] = {"majority": majority, "weighted": weighted, "best": best}


class Silent:
    """Says nothing: the second half of every answer is written anew."""

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        return [Remark()] * len(candidates)


def variants(small: Model, large: Model, rewards: RewardModel, lines: int, rounds: int) -> dict[str, Refine]:
    """By name. A verifier that always says the same of an answer is asked, and paid, once about each."""
    writer = Refined(Redo(Guard(Sample(small))))

    def made(verify: Feedback, heed: bool = False) -> Refine:
        return dser(writer, verify, n=lines, rounds=rounds, late=1, heed=heed)

    return {
        "blind": made(Silent()),
        "prm": made(Scores(Cached(ProcessReward(rewards)))),
        "prm, heeded": made(Scores(Cached(ProcessReward(rewards))), heed=True),
        "self-check, heeded": made(Scores(Cached(SelfCheck(small))), heed=True),
        "large's check, heeded": made(Scores(Cached(SelfCheck(large))), heed=True),
    }


async def evolved(example: Example, lines: Refine) -> dict[str, Any]:
    """What stood after each round: its answers, whether they are right, and what had been spent by then."""
    ledger = Ledger()
    run = Run(problem_seed(0, example.problem.id), ledger=ledger)
    rounds: list[dict[str, Any]] = []
    seen = 0
    async for found in lines.search(Candidates.of(example.problem), run):
        if seen % 2 == 0:  # each round is seen after the remarks, and after the revisions
            answers = [c.answer for c in found]
            right = [example.correct(answer) for answer in answers]
            spent = ledger.spent
            cost = {"written": spent.completion, "flops": spent.flops}
            rounds.append({"answers": answers, "right": right, **cost})
        seen += 1
    run.session.close()
    return {"id": example.problem.id, "rounds": rounds}


async def drawn(example: Example, flow: BestOfN) -> dict[str, Any]:
    """Whole solutions with the reward model's scores, and what each of them cost on average."""
    ledger = Ledger()
    run = Run(problem_seed(1, example.problem.id), ledger=ledger)
    snapshots = [(found, ledger.spent) async for found in flow.search(Candidates.of(example.problem), run)]
    run.session.close()
    (written, drafted), (scored, judged) = snapshots[-2], snapshots[-1]
    return {
        "id": example.problem.id,
        "answers": [c.answer for c in scored],
        "right": [example.correct(c.answer) for c in scored],
        "scores": [c.score.value if c.score else math.nan for c in scored],
        "written": drafted.completion / len(written),
        "flops": drafted.flops / len(written),
        "flops_judged": judged.flops / len(written),
    }


def run_missing(args: argparse.Namespace) -> None:
    small, large, rewards = (open_model(f"lab/{name}", role=name) for name in ("small", "large", "prm"))
    assert isinstance(small, Model)
    assert isinstance(large, Model)
    assert isinstance(rewards, RewardModel)
    examples = LabTask().examples(args.limit)
    known = variants(small, large, rewards, args.lines, args.rounds)
    for name in [SAMPLES, *known] if args.only is None else args.only:
        file = path_of(args.out, name)
        done = {each["id"] for each in read(file)}
        left = [example for example in examples if example.problem.id not in done]
        if not left:
            continue
        if file.exists() and not file.read_bytes().endswith(b"\n"):
            file.write_bytes(file.read_bytes() + b"\n")  # the last line was cut off
        began = time.monotonic()
        asyncio.run(_each(left, file, name, known, small, rewards))
        print(f"{name}: {len(left)} problems, {time.monotonic() - began:.0f} s", file=sys.stderr)


async def _each(
    examples: Sequence[Example], file: Path, name: str, known: dict[str, Refine], small: Model, rewards: RewardModel
) -> None:
    gate = asyncio.Semaphore(CONNECTIONS)
    baseline = BestOfN(whole(small), DRAWN, ProcessReward(rewards), max_steps=1)
    with file.open("a") as log:

        async def one(example: Example) -> None:
            async with gate:
                found = await (drawn(example, baseline) if name == SAMPLES else evolved(example, known[name]))
                log.write(json.dumps(found) + "\n")
                log.flush()

        await asyncio.gather(*(one(example) for example in examples))


def path_of(out: Path, name: str) -> Path:
    return out / f"{name.replace(', ', '.').replace(' ', '-')}.jsonl"


def read(file: Path) -> list[dict[str, Any]]:
    """The problems in a file, in the task's order; a line that was cut off is none."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return sorted(found, key=lambda each: str(each["id"]))


# What came of it.


@dataclass(frozen=True)
class Variant:
    """`right` has what stood right, shape (problems, rounds + 1, lines)."""

    name: str
    right: np.ndarray
    problems: list[dict[str, Any]]

    @property
    def rounds(self) -> int:
        return self.right.shape[1] - 1

    def states(self, rows: Any, first: int, last: int) -> TwoStates | None:
        """The chances of a round, over the rounds first..last (1 is the first) of these problems; None where nothing tells."""
        before, after = self.right[rows, first - 1 : last], self.right[rows, first : last + 1]
        right, wrong = int(before.sum()), int((~before).sum())
        if not right or not wrong:
            return None
        return TwoStates(int((~before & after).sum()) / wrong, int((before & ~after).sum()) / right)

    def vote(self, late: int) -> np.ndarray:
        """Whether the vote over the last `late` answers of all lines is right, shape (problems,)."""
        return np.array([_voted(p["rounds"][-late:]) for p in self.problems], dtype=float)

    def cost(self, what: str) -> float:
        return float(np.mean([p["rounds"][-1][what] for p in self.problems]))


def _voted(rounds: Sequence[dict[str, Any]]) -> float:
    answers = [a for r in rounds for a in r["answers"]]
    right = [a for r in rounds for a in r["right"]]
    return chosen(answers, right, [1.0] * len(answers))


def chosen(answers: Sequence[str | None], right: Sequence[bool], weights: Sequence[float]) -> float:
    """The chance that a vote with these weights is right, ties being won by lot. The lab's answers are the same where their words
    are."""
    sums: dict[str, float] = {}
    good: dict[str, bool] = {}
    for answer, correct, weight in zip(answers, right, weights, strict=True):
        if answer is not None:
            sums[answer] = sums.get(answer, 0.0) + weight
            good[answer] = correct
    tops = [good[answer] for answer, total in sums.items() if total == max(sums.values())]
    return sum(tops) / len(tops) if tops else 0.0


def half_width(values: np.ndarray) -> float:
    return 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))


def percent(values: np.ndarray) -> str:
    return f"{100 * values.mean():.1f} ± {100 * half_width(values):.1f}"


def report(out: Path, names: Sequence[str]) -> None:
    found = []
    for name in names:
        if problems := read(path_of(out, name)):
            found.append(Variant(name, np.array([[r["right"] for r in p["rounds"]] for p in problems]), problems))
    if not found:
        sys.exit(f"nothing in {out} yet")
    print("## Right answers by round, %\n")
    print(trajectories(found))
    print("\n## The chances of a round, and what they predict\n")
    print(chances(found))
    if samples := read(path_of(out, SAMPLES)):
        print("\n## Votes, and votes of independent solutions at equal compute\n")
        print(votes(found, samples))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *rows))


def trajectories(found: Sequence[Variant]) -> str:
    """Measured, and predicted from the first three rounds."""
    rounds = found[0].rounds
    shown = sorted({0, 1, 2, 3, 4, 6, 8, 10, rounds} & set(range(rounds + 1)))
    rows = []
    for v in found:
        start, early = float(v.right[:, 0].mean()), v.states(slice(None), 1, 3)
        rows.append([v.name, *(percent(v.right[:, t].mean(1)) for t in shown)])
        if early is not None:
            rows.append(["… by rounds 1–3", *(f"{100 * early.share(t, start):.1f}" for t in shown)])
    return table(["verify", *(str(t) for t in shown)], rows)


MEASURES: dict[str, Callable[[TwoStates], float]] = {
    "P(improve)": lambda s: s.improve,
    "P(degrade)": lambda s: s.degrade,
    "right in the long run": lambda s: s.stationary,
}


def chances(found: Sequence[Variant]) -> str:
    """P(improve) and P(degrade) in three parts of the rounds and over all; the long run by each, and what came of it."""
    rows = []
    for v in found:
        third = max(1, v.rounds // 3)
        for first, last in ((1, third), (third + 1, 2 * third), (2 * third + 1, v.rounds), (1, v.rounds)):
            cells = [interval(v, first, last, measure) for measure in MEASURES.values()]
            rows.append([v.name, f"{first}–{last}", *cells, percent(v.right[:, last].mean(1))])
    return table(["verify", "rounds", *MEASURES, "right after them, %"], rows)


def interval(v: Variant, first: int, last: int, measure: Callable[[TwoStates], float]) -> str:
    def value(rows: Any) -> float:
        states = v.states(rows, first, last)
        return math.nan if states is None else measure(states)

    if math.isnan(middle := value(slice(None))):
        return "–"
    low, high = bootstrap(value, list(range(len(v.right))), draws=300)
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def votes(found: Sequence[Variant], samples: Sequence[dict[str, Any]]) -> str:
    """DSER's vote, the binomial that two states predict, and baselines with as many tokens and as many FLOPs."""
    rows = []
    for v in found:
        ids = {p["id"] for p in v.problems}
        same = [s for s in samples if s["id"] in ids]
        start, states = float(v.right[:, 0].mean()), v.states(slice(None), 1, v.rounds)
        cells = [v.name, f"{v.cost('written'):,.0f}", f"{v.cost('flops') / 1e9:.2f}"]
        for late in LATE:
            told = states.vote(v.right.shape[2], v.rounds, start, late=late) if states else math.nan
            cells.append(f"{percent(v.vote(late))} ({100 * told:.1f})")
        own = v.vote(LATE[-1])
        by_tokens = round(v.cost("written") / np.mean([s["written"] for s in same]))
        by_flops = round(v.cost("flops") / np.mean([s["flops"] for s in same]))
        judged = round(v.cost("flops") / np.mean([s["flops_judged"] for s in same]))
        for n, rule in ((by_tokens, "majority"), (by_flops, "majority"), (judged, "weighted"), (judged, "best")):
            taken = max(1, min(n, DRAWN))
            right = np.array([ended(s, taken, rule) for s in same])
            gap = own - right if len(own) == len(right) else None
            more = f", {100 * gap.mean():+.1f} ± {100 * half_width(gap):.1f}" if gap is not None else ""
            cells.append(f"{100 * right.mean():.1f} (n = {taken}{'+' if n > DRAWN else ''}{more})")
        rows.append(cells)
    ends = [f"vote of the last {late} (two states)" for late in LATE]
    heads = ["verify", "tokens written", "GFLOPs", *ends, "majority, equal tokens", "majority, equal FLOPs"]
    return table([*heads, "weighted vote by the prm, equal FLOPs", "best of n by the prm, equal FLOPs"], rows)


def ended(solved: dict[str, Any], n: int, rule: str, orders: int = 16) -> float:
    """How often a vote of n of a problem's solutions is right, over random orders of them."""
    rng, total = np.random.default_rng(n), 0.0
    for _ in range(orders):
        some = rng.permutation(len(solved["answers"]))[:n]
        answers, right = ([solved[key][i] for i in some] for key in ("answers", "right"))
        scores = [solved["scores"][i] for i in some]
        if rule == "best":
            top = max((s for s, a in zip(scores, answers, strict=True) if a is not None), default=0.0)
            weights = [float(s == top) for s in scores]
        else:
            weights = scores if rule == "weighted" else [1.0] * n
        total += chosen(answers, right, weights)
    return total / orders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--lines", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("runs/dser"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--report", action="store_true", help="run nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        if not args.report:
            run_missing(args)
    except KeyboardInterrupt:
        print("interrupted: what is there so far", file=sys.stderr)
    report(args.out, ["blind", "prm", "prm, heeded", "self-check, heeded", "large's check, heeded"])


if __name__ == "__main__":
    main()
