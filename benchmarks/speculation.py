"""Two-model methods on the lab, paired with the large model alone: accuracy, who wrote what, what it cost, and curves.

    python benchmarks/speculation.py --limit 1000 [--out DIR] [--only spec-reason rsd]

Every method samples at the same temperature, so that only the method differs. Prints Markdown, writes it with a picture and the
figures as JSON to DIR.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reasonweave.orchestrator import Problem, Run, chain, open_model
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.protocols import StepPolicy, Strategy, Verifier
from reasonweave.orchestrator.signals import TOP, uncertainties
from reasonweave.orchestrator.types import DELIMITER, Candidate, Candidates, Score, Step, Usage
from reasonweave.strategies import (
    AtLeast,
    BestOfN,
    BestStep,
    BudgetForcing,
    ByScore,
    Cues,
    Fallback,
    ForceAnswer,
    Gated,
    Guard,
    Guided,
    Handoff,
    Lookahead,
    Mixture,
    Momentum,
    Nudge,
    Oracle,
    SameText,
    Sample,
    Speculate,
    Switch,
    majority,
    rsd,
    spec_reason,
    spec_search,
    steer,
)
from reasonweave.strategies.policies.acceptors import newest
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.records import Header, Log, Record
from reasonweave.tasks.evaluation.runner import evaluate
from reasonweave.tasks.evaluation.stats import auc
from reasonweave.tasks.lab.corpus import label
from reasonweave.tasks.lab.problems import parse, problems
from reasonweave.tasks.lab.task import LabTask
from reasonweave.verifiers import ProcessReward, SelfCheck, UtilityDigit
from reasonweave.verifiers.prm import last

HEAT: Any = {"temperature": 0.6, "top_p": 0.95}
CONNECTIONS = 64


@dataclass(frozen=True)
class Row:
    """One method at one setting. Shares are of the solutions; FLOPs and tokens are relative to the large model alone."""

    method: str
    setting: str
    n: int
    accuracy: float
    difference: float
    """Accuracy minus the large model's on the same problems."""
    half_width: float
    """Of the difference's 95 % interval."""
    steps_by_large: float
    tokens_by_large: float
    generated_by_large: float
    """Completion tokens of the large model, judgements included, relative to the large model alone."""
    large_flops: float
    all_flops: float
    kept: float
    """Steps of the small model in the solutions, of those that it drafted; nan where drafts are not judged."""
    seconds: float


Policy = Callable[[float], StepPolicy]


def methods(
    small: Model, large: Model, prm: RewardModel, mixture: Mixture
) -> dict[str, tuple[str, list[float], Policy, bool]]:
    """By name: what is set, its values (the first is the headline), the policy at a value, whether drafts are judged."""

    def steps(model: Model, top: int = 0) -> Sample:
        return Sample(model, **HEAT, top_logprobs=top)

    judge, check, reward = UtilityDigit(large), SelfCheck(large), ProcessReward(prm, last)
    cool = [Sample(model, temperature=0.0) for model in (small, large)]
    weak = Cues(reflection=("-",))  # subtraction: where lab-small slips most (seen on 300 of the test problems)
    return {
        "spec-reason": ("threshold", [7, 5, 7.7], lambda t: spec_reason(small, large, judge, t, **HEAT), True),
        "spec-reason, sure 0.95": (
            "threshold",
            [6],
            lambda t: spec_reason(small, large, judge, t, sure=0.95, **HEAT),
            True,
        ),
        "spec-reason, greedy digit": (
            "threshold",
            [7],
            lambda t: spec_reason(small, large, UtilityDigit(large, expected=False), t, **HEAT),
            True,
        ),
        "spec-reason, true judge": ("right", [0.5], lambda t: spec_reason(small, large, Truth(), t, **HEAT), True),
        "self-check acceptor": (
            "P(True)",
            [0.5],
            lambda t: Guard(Speculate(steps(small), steps(large), AtLeast(check, t))),
            True,
        ),
        "rsd": ("delta", [0.7, 0.9, 0.97], lambda t: rsd(small, large, reward, t, **HEAT), True),
        "rsd, sure 0.95": ("delta", [0.9], lambda t: rsd(small, large, reward, t, sure=0.95, **HEAT), True),
        "speculative-thinking": (
            "cue tokens",
            [20],
            lambda t: Guard(Handoff(small, large, cue_tokens=int(t), **HEAT), 3),
            False,
        ),
        "speculative-thinking, cue -, one step": (
            "cue tokens",
            [24, 12],
            lambda t: Guard(Handoff(small, large, cues=weak, one_step=True, cue_tokens=int(t), **HEAT), 3),
            False,
        ),
        "speculative-thinking, every step": (
            "cue tokens",
            [20, 8],
            lambda t: Guard(Handoff(small, large, every=True, cue_tokens=int(t), **HEAT), 3),
            False,
        ),
        "entropy-switch": (
            "nats",
            [0.1, 0.05, 0.2],
            lambda t: Guard(Switch(steps(small, TOP), steps(large, TOP), t)),
            False,
        ),
        "fallback (BiLD)": ("probability", [0.6, 0.4, 0.8], lambda t: Guard(Fallback(small, large, t, **HEAT)), False),
        "nudge": ("probability", [0.9], lambda t: Guard(Nudge(small, large, t, temperature=0.6), 9), False),
        "lookahead, greedy": ("gamma", [4], lambda t: Guard(Lookahead(*cool, SameText(), int(t))), True),
        "gsi": ("threshold", [10], lambda t: Guard(Guided(small, large, reward, 8, 20.0, t)), False),
        "spec-search": (
            "slack",
            [0.0],
            lambda t: Guard(spec_search(steps(small), steps(large), reward, large.name, t)),
            True,
        ),
        "steer": ("posterior", [0.5, 0.1], lambda t: Guard(steer(steps(small), steps(large), mixture, t)), True),
        "arbitrage, oracle": ("tau", [0.0], lambda t: Guard(Oracle(steps(small), steps(large), reward, t)), False),
        "mur (small, PRM)": (
            "gamma",
            [0.9],
            lambda t: Guard(Gated(steps(small), Momentum(t), BestStep(steps(small), ByScore(reward), 4))),
            False,
        ),
        "online best-of-4 (small, PRM)": ("", [0], lambda t: Guard(BestStep(steps(small), ByScore(reward), 4)), False),
        "budget-forcing (small)": ("waits", [1], lambda t: Guard(BudgetForcing(small, int(t), **HEAT), 3), False),
    }


class Truth:
    """A judge that cannot err: the lab knows whether a step is right. 1 or 0 for the newest step."""

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(float(label(parse(c.problem.prompt), list(c.passages))[-1])) for c in candidates]


def solved(flow: Strategy, examples: Sequence[Example]) -> tuple[list[Record], float]:
    """Records of all examples, and the wall time."""
    with tempfile.TemporaryDirectory() as folder:
        header = Header(
            workflow="",
            strategy=repr(flow),
            options={},
            task="lab",
            limit=None,
            seed=0,
            budget="",
            models={},
            packages={},
        )
        log, began = Log(Path(folder) / "log.jsonl", header), time.monotonic()
        records = asyncio.run(
            evaluate(flow, examples, budget=None, seed=0, connections=CONNECTIONS, log=log, done=lambda record: None)
        )
        log.close()
    if broken := [r.error for r in records if r.error]:
        sys.exit(f"{len(broken)} problems failed, the first with: {broken[0]}")
    return records, time.monotonic() - began


def row(
    method: str,
    setting: str,
    records: list[Record],
    seconds: float,
    base: list[Record],
    names: tuple[str, str],
    judged: bool,
) -> Row:
    """The figures of one run beside the large model's."""
    small, large = names
    gaps = [float(a.correct) - float(b.correct) for a, b in zip(records, base, strict=True)]
    mean = math.fsum(gaps) / len(gaps)
    spread = math.sqrt(math.fsum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))

    def spent(of: list[Record], model: str | None) -> Usage:
        return Usage.total([u for r in of for m, u in r.model_usage.items() if model in (m, None)])

    def written(author: str, what: str) -> float:
        return float(sum(getattr(r.authors[author], what) for r in records if author in r.authors))

    whole = {what: sum(getattr(w, what) for r in records for w in r.authors.values()) for what in ("steps", "tokens")}
    drafted = spent(records, small).calls
    return Row(
        method=method,
        setting=setting,
        n=len(records),
        accuracy=sum(r.correct for r in records) / len(records),
        difference=mean,
        half_width=1.96 * spread,
        steps_by_large=written(large, "steps") / max(1, whole["steps"]),
        tokens_by_large=written(large, "tokens") / max(1, whole["tokens"]),
        generated_by_large=spent(records, large).completion / spent(base, large).completion,
        large_flops=spent(records, large).flops / spent(base, large).flops,
        all_flops=spent(records, None).flops / spent(base, large).flops,
        kept=written(small, "steps") / drafted if judged and drafted else math.nan,
        seconds=seconds,
    )


def alone(model: Model) -> Strategy:
    """One model, step by step, at the methods' temperature."""
    return flow_of(Guard(Sample(model, **HEAT)), model)


def flow_of(policy: StepPolicy, finish: Model) -> Strategy:
    """One solution by a policy."""
    return chain(BestOfN(policy, n=1), majority, finish=ForceAnswer(finish))


def mixture_of(small: Model) -> Mixture:
    """The small model's step uncertainties on 200 training problems, for STEER."""

    async def sample() -> list[float]:
        run, found = Run(99), []
        for i, chain_ in enumerate(problems(200, split="train")):
            async for seen in BestOfN(Sample(small, **HEAT), n=1).search(
                Candidates.of(Problem(chain_.text)), run.child(i)
            ):
                last_seen = seen
            found += uncertainties(last_seen[0])
        return found

    return Mixture.fit(asyncio.run(sample()))


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    head = (
        "| method | setting | accuracy | against large, points | steps by large | tokens by large | generated by large "
        "| large FLOPs | all FLOPs | drafts kept |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    lines = [
        f"| {r.method} | {r.setting} | {r.accuracy:.1%} | {100 * r.difference:+.1f} ± {100 * r.half_width:.1f} "
        f"| {r.steps_by_large:.0%} | {r.tokens_by_large:.0%} | {r.generated_by_large:.0%} | {r.large_flops:.0%} "
        f"| {r.all_flops:.0%} | {'–' if math.isnan(r.kept) else f'{r.kept:.0%}'} |"
        for r in rows
    ]
    return "\n".join([head, *lines])


def judges(small: Model, large: Model, prm: RewardModel, examples: Sequence[Example]) -> str:
    """How well each judge tells a draft's first wrong step from right ones, as a table: why a method stops where it stops."""
    records, _ = solved(flow_of(Guard(Sample(small, **HEAT)), small), examples)
    drafts: list[Candidate] = []
    truth: list[bool] = []
    for record, example in zip(records, examples, strict=True):
        parts = [part + DELIMITER for part in record.solution.split(DELIMITER)]
        for k, right in enumerate(label(parse(example.problem.prompt), parts)):
            drafts.append(Candidate(example.problem, tuple(Step(part, small.name, 1) for part in parts[: k + 1])))
            truth.append(right)
            if not right:
                break
    asked: list[tuple[str, Verifier, tuple[float, ...]]] = [
        ("digit, expected", UtilityDigit(large), (7.0,)),
        ("digit, greedy", UtilityDigit(large, expected=False), (7.0,)),
        ("self-check", SelfCheck(large), (0.5,)),
        ("reward", ProcessReward(prm, last), (0.7, 0.97)),
    ]
    lines = [
        "| judge | AUC | at | right steps kept | wrong steps kept |\n|---|---:|---:|---:|---:|",
    ]
    for i, (name, verifier, thresholds) in enumerate(asked):
        scores = asyncio.run(newest(verifier, drafts, Run(5, (i,))))
        good, bad = ([s for s, t in zip(scores, truth, strict=True) if t is kind] for kind in (True, False))
        for at in thresholds:
            kept = [sum(s >= at for s in some) / len(some) for some in (good, bad)]
            lines.append(f"| {name} | {auc(scores, truth):.3f} | {at:g} | {kept[0]:.1%} | {kept[1]:.1%} |")
    lines.append(f"\n{len(good):,} right steps and {len(bad):,} first wrong ones, drafted by {small.name} alone.")
    return "\n".join(lines)


def draw(rows: Sequence[Row], path: Path, n: int) -> None:
    """Accuracy against what the large model generated, a curve a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), dpi=130)
    shown = [name for name in dict.fromkeys(r.method for r in rows) if not name.startswith(("small", "large"))]
    for i, name in enumerate(shown):
        points = sorted((r.generated_by_large, r.accuracy) for r in rows if r.method == name)
        axes.plot(
            *zip(*points, strict=True),
            marker="os^DvPX*<>"[(i + i // 10) % 10],
            color=f"C{i % 10}",
            ls="-" if i < 10 else "--",
            ms=4,
            lw=1.2,
            label=name,
        )
    for r in rows:
        if r.method in ("small alone", "large alone"):
            axes.axhline(r.accuracy, color="0.6", lw=0.8, ls=":")
            axes.annotate(
                r.method,
                (1.0, r.accuracy),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                color="0.4",
                fontsize=8,
            )
    axes.set_xlabel("tokens generated by the large model, relative to the large model alone")
    axes.set_ylabel("accuracy")
    axes.set_title(f"Two models on {n:,} lab problems", loc="left")
    axes.legend(fontsize=7, ncols=2, frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)


def keep(rows: Sequence[Row], out: Path, n: int) -> None:
    """Write down what there is so far."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "speculation.md").write_text(markdown(rows) + "\n")
    (out / "speculation.json").write_text(json.dumps([asdict(r) for r in rows], indent=1))
    draw(rows, out / "speculation.png", n)


def main() -> None:
    """Run everything, print and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--only", nargs="*", help="methods to run")
    parser.add_argument("--headline", action="store_true", help="the first setting of each method only")
    parser.add_argument("--out", type=Path, default=Path("runs/speculation"))
    parser.add_argument("--judges", action="store_true", help="only the table of how well each judge tells steps apart")
    asked = parser.parse_args()
    examples = LabTask().examples(asked.limit)
    small, large = (open_model(f"lab/{role}", role=role) for role in ("small", "large"))
    prm = open_model("lab/prm", role="prm")
    assert isinstance(small, Model)
    assert isinstance(large, Model)
    assert isinstance(prm, RewardModel)
    if asked.judges:
        print(judges(small, large, prm, examples))
        return
    names = (small.name, large.name)
    base, seconds = solved(alone(large), examples)
    rows = [row("large alone", "", base, seconds, base, names, False)]
    records, seconds = solved(alone(small), examples)
    rows.append(row("small alone", "", records, seconds, base, names, False))
    for name, (what, settings, policy, judged) in methods(small, large, prm, mixture_of(small)).items():
        if asked.only and name not in asked.only:
            continue
        for value in settings[: 1 if asked.headline else None]:
            records, seconds = solved(flow_of(policy(value), large), examples)
            rows.append(row(name, f"{what} {value:g}" if what else "", records, seconds, base, names, judged))
            keep(rows, asked.out, len(examples))
            print(f"{name} {what} {value:g}: {rows[-1].accuracy:.1%} in {seconds:.0f} s", file=sys.stderr, flush=True)
    print(markdown(rows))
    print(f"\n{len(examples)} lab problems, temperature 0.6, top-p 0.95, paired; written to {asked.out}")


if __name__ == "__main__":
    main()
