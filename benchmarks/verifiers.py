"""Every verifier that the lab can show, on the same candidates: one table, one picture.

    python benchmarks/verifiers.py [--limit 500] [--n 16] [--json FILE]

The candidates are those of `verify-quality`: n solutions a problem by lab/small at temperature 0.8. Judges are lab/large.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.registry import VerifierRecipe, Workflow
from reasonweave.tasks.evaluation.plot import COLOURS, pyplot
from reasonweave.tasks.evaluation.quality import Measured, Quality
from reasonweave.tasks.evaluation.summary import scaled
from reasonweave.tasks.lab.task import LabTask
from reasonweave.tasks.opening import LAB, Chosen, Models, settings_of
from reasonweave.tasks.quality import judged, written
from reasonweave.verifiers import Between, Cascaded, SelfEvaluation, multiplied
from reasonweave.verifiers.self_check import SELF_CHECK_PROMPT

NAMED: tuple[tuple[str, ...], ...] = (
    ("prm",),
    ("prm", "reduce=last"),
    ("prm", "reduce=lowest"),
    ("prm", "reduce=model"),
    ("steps",),
    ("steps", "carried=1"),
    ("judge",),
    ("judge", "expected=false"),
    ("self-check",),
    ("agreement",),
    ("confidence",),
    ("confidence", "measure=entropy"),
    ("confidence", "measure=self-certainty"),
    ("confidence", "measure=tail", "window=16"),
    ("confidence", "measure=lowest", "window=16"),
)
"""Names and options of those that need no English, which the lab's models do not know."""


PAIRS = (("steps", "prm"), ("steps · confidence", "steps"), ("steps · confidence", "prm"), ("confidence", "prm"))
"""Whose accuracies are compared."""


def chosen(name: str, *options: str) -> Chosen:
    recipe = VerifierRecipe.named(name)
    return Chosen(recipe, settings_of(options, [recipe], flag="-V")[0])


def verifiers(models: Models) -> dict[str, Verifier]:
    """Those by name, and some that are put together: the lab's models know no other question than that of the self-check."""
    named = {" ".join(each): models.verifier(chosen(*each)) for each in NAMED}
    large = named["self-check"].model  # type: ignore[attr-defined]
    asked = {"prompt": SELF_CHECK_PROMPT, "prefix": "", "words": ("True", "False")}
    return named | {
        "SelfEvaluation, r = 1": SelfEvaluation(large, 1.0, **asked),  # type: ignore[arg-type]
        "SelfEvaluation, r = 0.5": SelfEvaluation(large, 0.5, **asked),  # type: ignore[arg-type]
        "steps · confidence": multiplied(named["steps"], named["confidence"]),
        "steps · prm": multiplied(named["steps"], named["prm"]),
        "steps, then prm": Cascaded(named["steps"], named["prm"], unsure=Between(0.5, 1.5)),
    }


async def measured(limit: int, n: int, connections: int) -> list[Quality]:
    task, models = LabTask(), Models(LAB)
    found = []
    try:
        strategy, _ = models.bind(Workflow.named("self-consistency"), {"n": n, "top_logprobs": 20})
        drawn = await written(strategy, task.examples(limit), 0, connections, lambda: None)
        for name, verifier in verifiers(models).items():
            quality = await judged(name, verifier, drawn, task, 0, connections, lambda: None)
            print(f"{quality.name}: best of {n} {100 * quality.best_of_n(n).value:.1f} %", flush=True)
            found.append(quality)
    finally:
        await models.aclose()
    return found


def figure(measured: Measured) -> str:
    return f"{measured.value:.3f} [{measured.low:.3f}, {measured.high:.3f}]" if measured.known else "–"


def row(quality: Quality, n: int) -> list[str]:
    best, peak, count = quality.best_of_n(n), quality.peak, len(quality.graded)
    tokens = sum(u.tokens for u in quality.usage.values()) / count
    threshold = quality.best_threshold
    return [
        f"`{quality.name}`",
        figure(quality.outcome),
        f"{quality.within.value:.3f}",
        figure(quality.step),
        f"{quality.calibration.value:.3f}" if quality.calibration.known else "–",
        f"{100 * best.value:.1f} [{100 * best.low:.1f}, {100 * best.high:.1f}]",
        f"{peak.value:.0f}{'+' if quality.still_rising else ''}",
        f"{100 * threshold.ceiling:.0f} %" if threshold and not math.isnan(threshold.ceiling) else "–",
        f"{tokens:,.0f}",
        scaled(quality.total.flops / count),
    ]


HEADINGS = (
    "verifier", "outcome AUC", "within a problem", "step AUC", "ECE", "best of {n}, %", "gains up to n", "ceiling",
    "tokens", "FLOPs",
)  # fmt: skip


def table(found: list[Quality], n: int) -> str:
    heads = [heading.format(n=n) for heading in HEADINGS]
    lines = [heads, ["---"] * len(heads), *(row(quality, n) for quality in found)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(found: list[Quality], path: Path) -> None:
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(9, 5.5), dpi=120, layout="constrained")
    for i, quality in enumerate(found):
        sizes = range(1, quality.fewest + 1)
        line = ("-", "--", ":")[i // len(COLOURS)]
        values = [100 * quality.best_of_n(n).value for n in sizes]
        axes.plot(sizes, values, line, color=COLOURS[i % len(COLOURS)], label=quality.name)
    axes.plot(sizes, [100 * found[0].pass_at(n) for n in sizes], color="#bbbbbb", label="one of n is right")
    axes.set_xscale("log", base=2)
    axes.set_xticks(found[0].sizes, [str(n) for n in found[0].sizes])
    axes.set_xlabel("n")
    axes.set_ylabel("accuracy of best-of-n, %")
    axes.set_title(f"lab, {len(found[0].by_problem)} problems: choosing one of n solutions of lab-small")
    axes.grid(True, alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--picture", type=Path, default=Path("docs/images/verifiers.png"))
    parser.add_argument("--json", type=Path, default=None, help="also write the curves")
    given = parser.parse_args()
    found = asyncio.run(measured(given.limit, given.n, given.connections))
    print(f"\nlab, {given.limit} problems, {given.n} candidates each, seed 0\n")
    print(table(found, given.n))
    by_name = {quality.name: quality for quality in found}
    print("\nin points, in pairs by problem:")
    for one, other in PAIRS:
        gap = by_name[one].less(by_name[other], given.n)
        print(f"{one} less {other}: {100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]")
    draw(found, given.picture)
    if given.json:
        data: dict[str, Any] = {q.name: [q.best_of_n(n).value for n in range(1, q.fewest + 1)] for q in found}
        given.json.write_text(json.dumps(data))


if __name__ == "__main__":
    main()
