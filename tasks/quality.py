"""`reasonweave verify-quality`: how good a verifier is, on candidates whose truth is known."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from reasonweave.orchestrator.budget import Budget, Ledger
from reasonweave.orchestrator.calibration import Isotonic, to_json
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.registry import VerifierRecipe, Workflow
from reasonweave.orchestrator.run import Run, Session
from reasonweave.orchestrator.scoring import scored
from reasonweave.orchestrator.solve import asolve
from reasonweave.orchestrator.trace import Tally
from reasonweave.orchestrator.types import DELIMITER, Candidate, Score, Step, Usage
from reasonweave.tasks.base import Example, StepLabels, Task
from reasonweave.tasks.evaluation.display import plain, stderr, stdout
from reasonweave.tasks.evaluation.plot import COLOURS, pyplot
from reasonweave.tasks.evaluation.quality import Graded, Measured, Quality
from reasonweave.tasks.evaluation.recorded import Recorded
from reasonweave.tasks.evaluation.records import Record
from reasonweave.tasks.evaluation.runner import problem_seed
from reasonweave.tasks.evaluation.summary import scaled
from reasonweave.tasks.flags import (
    JsonFlag,
    LargeFlag,
    ModelsFlag,
    PrmFlag,
    RoleFlag,
    SeedFlag,
    SetFlag,
    SmallFlag,
    UpFlag,
    VerifierSetFlag,
    served_roles,
)
from reasonweave.tasks.opening import Chosen, Models, check_roles, open_task, settings_of, specs_of

LIMIT = 200
"""Problems, where nobody says how many."""

Drawn = list[tuple[Example, list[Candidate]]]
"""Problems with their candidates."""


def verify_quality(
    verifier: Annotated[str, typer.Argument(help="A verifier by name, or file.py:name.", metavar="VERIFIER")],
    task: Annotated[str, typer.Option(help="A task by name, or a JSONL file.")] = "lab",
    records: Annotated[
        Path | None,
        typer.Option(help="Judge the samples of a run (a folder that eval made) instead of new ones.", metavar="RUN"),
    ] = None,
    workflow: Annotated[str, typer.Option(help="What writes the candidates.")] = "self-consistency",
    small: SmallFlag = None,
    large: LargeFlag = None,
    prm: PrmFlag = None,
    model_role: RoleFlag = None,
    models: ModelsFlag = None,
    up: UpFlag = None,
    limit: Annotated[int | None, typer.Option(help=f"The first N problems. Default: {LIMIT}.", min=1)] = None,
    setting: SetFlag = None,
    verifier_setting: VerifierSetFlag = None,
    seed: SeedFlag = 0,
    max_connections: Annotated[int, typer.Option(help="Problems in flight.", min=1)] = 32,
    log_dir: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("runs"),
    save: Annotated[
        Path | None,
        typer.Option(help="Write a calibrator, fitted to these candidates, for CalibratedScore.", metavar="JSON"),
    ] = None,
    plot: Annotated[bool, typer.Option(help="Draw the picture (needs the extra plots).")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Measure a verifier: AUC of steps and outcomes, calibration, thresholds, and up to which n best-of-n gains."""
    recipe = VerifierRecipe.named(verifier)
    (options,) = settings_of(verifier_setting or [], [recipe], flag="-V")
    chosen = Chosen(recipe, options)
    recorded = Recorded.load(records) if records else None
    if recorded is not None and setting:
        raise BadInput("-S sets options of what writes candidates; with --records they are there already")
    writer = None if recorded else Workflow.named(workflow)
    recipes = [recipe, *([writer] if writer else [])]
    check_roles(recipes, Budget(), model_role or [])
    settings = settings_of(setting or [], [writer])[0] if writer else {}
    opened = None if recorded else open_task(task)
    whose = recorded.file.header.task if recorded else task
    specs = partial(specs_of, whose, {"small": small, "large": large, "prm": prm}, model_role or [])
    with served_roles(models, up, recipes, specs, {}) as served:
        made = Models(specs(served), served)
        with Progress(console=stderr(), transient=True, disable=as_json or not stderr().is_terminal) as bars:
            quality = asyncio.run(
                _measure(made, chosen, writer, settings, opened, recorded, whose, limit, seed, max_connections, bars)
            )
    if not quality.judged:
        raise BadInput(f"{chosen} could judge none of {len(quality.graded)} candidates: {quality.first_error}")
    picture = log_dir / f"verify-quality-{re.sub(r'[^A-Za-z0-9_.-]+', '-', quality.name)}-{Path(whose).stem}.png"
    if plot:
        try:
            log_dir.mkdir(parents=True, exist_ok=True)
            draw(quality, picture, _title(quality, whose))
        except BadInput as error:
            stderr().print(f"no picture: {error}", highlight=False, markup=False, soft_wrap=True)
            plot = False
    if as_json:
        typer.echo(json.dumps(_data(quality), indent=2))
    else:
        _show(quality, whose, picture if plot else None)
    if save:
        fitted = Isotonic.fit([g.value for g in quality.judged], [g.right for g in quality.judged])
        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_text(to_json(fitted) + "\n")
        stderr().print(f"calibrator  {save}", highlight=False, markup=False, soft_wrap=True)


async def _measure(
    models: Models,
    chosen: Chosen,
    writer: Workflow | None,
    settings: dict[str, Any],
    task: Task | None,
    recorded: Recorded | None,
    whose: str,
    limit: int | None,
    seed: int,
    connections: int,
    bars: Progress,
) -> Quality:
    """Write (or read) the candidates, and have them judged."""
    try:
        verifier = models.verifier(chosen)
        if recorded is not None:
            some = recorded.first(limit)
            drawn = [(e, _remade(r, e)) for r, e in zip(some.file.items, some.examples, strict=True)]
            labeller = labeller_of(whose)
        else:
            assert writer is not None
            assert task is not None
            strategy, _ = models.bind(writer, settings)
            examples = task.examples(limit or LIMIT)
            bar = bars.add_task("writing", total=len(examples))
            drawn = await written(strategy, examples, seed, connections, lambda: bars.advance(bar))
            labeller = task if isinstance(task, StepLabels) else None
        drawn = [(example, [c for c in some if c.steps and not c.failed]) for example, some in drawn]
        drawn = [(example, some) for example, some in drawn if some]
        if not drawn:
            raise BadInput("there are no candidates to judge: all were empty or failed")
        bar = bars.add_task("judging", total=len(drawn))
        return await judged(str(chosen), verifier, drawn, labeller, seed, connections, lambda: bars.advance(bar))
    finally:
        await models.aclose()


def labeller_of(task: str) -> StepLabels | None:
    """The task that recorded problems came from, where it is one by name and can label steps."""
    try:
        found = open_task(task)
    except BadInput:
        return None
    except Exception:  # a task that is not installed here labels nothing
        return None
    return found if isinstance(found, StepLabels) else None


async def _each(n: int, connections: int, one: Callable[[int], Any], advance: Callable[[], None]) -> None:
    """Run `one(i)` for all i, at most `connections` at a time."""
    gate = asyncio.Semaphore(connections)

    async def gated(i: int) -> None:
        async with gate:
            await one(i)
        advance()

    async with asyncio.TaskGroup() as group:
        for i in range(n):
            group.create_task(gated(i))


async def written(
    strategy: Strategy, examples: Sequence[Example], seed: int, connections: int, advance: Callable[[], None]
) -> Drawn:
    """The candidates of a workflow, a problem after another."""
    found: dict[int, list[Candidate]] = {}

    async def one(i: int) -> None:
        problem = examples[i].problem
        result = await asolve(problem, strategy, seed=problem_seed(seed, problem.id))
        found[i] = [c for c in result.candidates if c.problem == problem]

    await _each(len(examples), connections, one, advance)
    return [(example, found[i]) for i, example in enumerate(examples)]


def _remade(record: Record, example: Example) -> list[Candidate]:
    """The samples of a record as candidates, cut into steps again; what was forced at the end is none."""
    made = []
    for sample in record.samples:
        parts = sample.text.split(DELIMITER)
        texts = [part + DELIMITER for part in parts[:-1]] + parts[-1:]
        texts = [text for text in texts if text]
        if sample.given or sample.failed or not texts:
            continue
        counts = [0] * (len(texts) - 1) + [sample.tokens]
        known = sample.logprob if len(texts) == 1 else None  # records do not say how it is shared out among the steps
        steps = [Step(text, "recorded", n, known) for text, n in zip(texts, counts, strict=True)]
        made.append(Candidate(example.problem, tuple(steps), done=sample.done))
    return made


async def judged(
    name: str,
    verifier: Verifier,
    drawn: Drawn,
    labeller: StepLabels | None,
    seed: int,
    connections: int,
    advance: Callable[[], None],
) -> Quality:
    """Ask the verifier about the candidates of each problem together, as best-of-n would."""
    found: dict[int, list[Score]] = {}
    usage: dict[str, Usage] = {}
    began = time.monotonic()

    async def one(i: int) -> None:
        example, candidates = drawn[i]
        tally = Tally()
        path = ("verify", example.problem.id)
        run = Run(seed, path, ledger=Ledger(), tracer=tally, session=Session())
        try:
            found[i] = await scored(verifier, candidates, run)
        finally:
            run.session.close()
        for model, spent in tally.usage.items():
            usage[model] = usage.get(model, Usage()) + spent

    await _each(len(drawn), connections, one, advance)
    seconds = time.monotonic() - began
    graded = [
        _graded(i, example, candidate, score, labeller)
        for i, (example, candidates) in enumerate(drawn)
        for candidate, score in zip(candidates, found[i], strict=True)
    ]
    return Quality(name, tuple(graded), dict(sorted(usage.items())), seconds)


def _graded(i: int, example: Example, candidate: Candidate, score: Score, labeller: StepLabels | None) -> Graded:
    answer = candidate.answer
    labels = labeller.step_labels(example, candidate.passages) if labeller is not None else None
    told = None if labels is None else tuple(labels)
    return Graded(i, score.value, example.correct(answer), answer is not None, score.steps, told, score.error)


def _title(quality: Quality, task: str) -> str:
    return f"{quality.name} on {task}: {len(quality.by_problem)} problems, {len(quality.graded):,} candidates"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _figure(measured: Measured, form: Callable[[float], str] = "{:.3f}".format) -> str:
    if not measured.known:
        return "–"
    edges = "" if math.isnan(measured.low) else f"   [{form(measured.low)}, {form(measured.high)}]"
    return f"{form(measured.value)}{edges}"


def _lines(quality: Quality) -> list[tuple[str, str]]:
    """The figures, each with what it is."""
    share = sum(g.right for g in quality.graded) / len(quality.graded)
    lines = [("right candidates", _percent(share))]
    if quality.unjudged:
        lines.append(("not judged", f"{quality.unjudged:,}, the first: {quality.first_error}"))
    lines += [
        ("outcome AUC", f"{_figure(quality.outcome)}   over all candidates"),
        ("", f"{_figure(quality.within)}   within a problem, mean of {quality.within.n} with right and wrong ones"),
        (
            "step AUC",
            f"{_figure(quality.step)}   {quality.step.n:,} steps" if quality.step.known else _no_steps(quality),
        ),
    ]
    if quality.probable:
        lines.append(("calibration error", f"{_figure(quality.calibration)}   Brier {quality.brier:.3f}"))
    else:
        values = [g.value for g in quality.judged]
        lines.append(
            ("calibration error", f"– scores from {min(values):.3g} to {max(values):.3g} are no probabilities")
        )
    peak = quality.peak
    if quality.fewest < 2:
        where = "– more than one candidate a problem is needed"
    elif quality.still_rising:
        where = f"{peak.value:.0f} or more: it still gains with all the samples there are"
    else:
        where = f"{peak.value:.0f}   [{peak.low:.0f}, {peak.high:.0f}] of {quality.fewest}"
    lines.append(("best-of-n gains up to n =", where))
    n, total = len(quality.graded), quality.total
    tokens = (
        ", ".join(f"{model} {usage.tokens / n:,.1f} tokens" for model, usage in quality.usage.items()) or "no tokens"
    )
    cost = f"{tokens}, {scaled(total.flops / n)} FLOPs, {1000 * quality.seconds / n:.2f} ms"
    lines.append(("a candidate costs", cost))
    return lines


def _no_steps(quality: Quality) -> str:
    if not any(g.steps for g in quality.judged):
        return "– it gives no score a step"
    if not any(g.labels for g in quality.judged):
        return "– the task has no labels for steps"
    return "– right and wrong steps, as many as scores, are needed"


def _thresholds(quality: Quality) -> Table:
    drawn = plain("accepting from a score on")
    for heading in ("score", "accepted", "complete-\nness", "soundness", "right of\naccepted", "ceiling"):
        drawn.add_column(heading, justify="right")
    best = quality.best_threshold
    for t in quality.thresholds:
        mark = " *" if t is best else "  "
        cells = map(_percent, (t.accepted, t.completeness, t.soundness, t.precision, t.ceiling))
        drawn.add_row(f"{t.at:.4g}{mark}", *cells)
    drawn.caption = (
        "* greatest completeness + soundness. Completeness: right candidates accepted; soundness: wrong ones rejected.\n"
        "Ceiling: the accuracy that sampling until one is accepted cannot exceed."
    )
    return drawn


def _sizes(quality: Quality) -> Table:
    drawn = plain("best-of-n by this verifier")
    for heading in ("n", "accuracy", "95 %\ninterval", "more than\none sample", "one of n\nis right"):
        drawn.add_column(heading, justify="right")
    one = quality.best_of_n(1).value
    for n in quality.sizes:
        found, (low, high) = quality.best_of_n(n), quality.gain_over_one(n)
        gain = f"{100 * (found.value - one):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" if n > 1 else ""
        drawn.add_row(
            str(n),
            _percent(found.value),
            f"{100 * found.low:.1f}–{100 * found.high:.1f}",
            gain,
            _percent(quality.pass_at(n)),
        )
    left = f" {quality.short} problems with fewer candidates are left out." if quality.short else ""
    drawn.caption = f"The mean over all choices of n of the samples; gains are in points, in pairs by problem.{left}"
    return drawn


def _show(quality: Quality, task: str, picture: Path | None) -> None:
    console = stdout()
    facts = plain(_title(quality, task))
    facts.show_header = False
    facts.add_column(no_wrap=True)
    facts.add_column()
    for name, told in _lines(quality):
        facts.add_row(name, told)
    console.print(facts, highlight=False, markup=False)
    console.print(_thresholds(quality), highlight=False, markup=False)
    console.print(_sizes(quality), highlight=False, markup=False)
    console.print(
        "AUC: the chance that a right one scores higher than a wrong one. Intervals: 95 %, bootstrap over problems."
    )
    if picture is not None:
        console.print(f"picture  {picture}", highlight=False, markup=False, soft_wrap=True)


def _data(quality: Quality) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def figure(measured: Measured) -> dict[str, Any]:
        edges = [number(measured.low), number(measured.high)]
        return {"value": number(measured.value), "interval": edges, "n": measured.n}

    n = len(quality.graded)
    return {
        "verifier": quality.name,
        "problems": len(quality.by_problem),
        "candidates": n,
        "not_judged": quality.unjudged,
        "first_error": quality.first_error,
        "right": sum(g.right for g in quality.graded) / n,
        "outcome_auc": figure(quality.outcome),
        "outcome_auc_within_problems": figure(quality.within),
        "step_auc": figure(quality.step),
        "ece": figure(quality.calibration),
        "brier": number(quality.brier),
        "calibration_curve": [list(each) for each in quality.bins()] if quality.probable else None,
        "thresholds": [{name: number(v) for name, v in asdict(t).items()} for t in quality.thresholds],
        "best_of_n": {n: figure(quality.best_of_n(n)) | {"pass": quality.pass_at(n)} for n in quality.sizes},
        "gains_up_to_n": figure(quality.peak) | {"still_rising": quality.still_rising},
        "cost_per_candidate": {
            "tokens": {model: usage.tokens / n for model, usage in quality.usage.items()},
            "flops": quality.total.flops / n,
            "usd": quality.total.usd / n,
            "seconds": quality.seconds / n,
        },
    }


def draw(quality: Quality, path: Path, title: str) -> None:
    """Four panels: scores of right and wrong candidates, calibration, thresholds, best-of-n."""
    plt = pyplot()
    figure, ((spread, curve), (cuts, sizes)) = plt.subplots(2, 2, figsize=(11, 8), dpi=120, layout="constrained")
    figure.suptitle(title)
    right = [g.value for g in quality.judged if g.right and math.isfinite(g.value)]
    wrong = [g.value for g in quality.judged if not g.right and math.isfinite(g.value)]
    spread.hist([right, wrong], bins=20, label=["right", "wrong"], color=[COLOURS[0], COLOURS[1]])
    spread.set_xlabel("score")
    spread.set_ylabel("candidates")
    spread.set_title(f"outcome AUC {_figure(quality.outcome)}", fontsize=10)
    spread.legend(frameon=False)
    if quality.probable:
        bins = quality.bins()
        curve.plot([0, 1], [0, 1], color="#999999", linewidth=1, label="calibrated")
        curve.plot([b[0] for b in bins], [b[1] for b in bins], "o-", color=COLOURS[0], label="measured")
        curve.set_title(f"calibration error {_figure(quality.calibration)}", fontsize=10)
        curve.set_xlabel("mean score of a bin")
        curve.set_ylabel("share right")
        curve.legend(frameon=False)
    else:
        curve.text(0.5, 0.5, "scores are no probabilities", ha="center", va="center", transform=curve.transAxes)
        curve.set_axis_off()
    at = [100 * t.accepted for t in quality.thresholds]
    for i, (name, label) in enumerate(
        (
            ("completeness", "completeness"),
            ("soundness", "soundness"),
            ("precision", "right of accepted"),
            ("ceiling", "ceiling"),
        )
    ):
        cuts.plot(at, [getattr(t, name) for t in quality.thresholds], "o-", markersize=4, color=COLOURS[i], label=label)
    cuts.set_xlabel("candidates accepted, % (each point a threshold)")
    cuts.set_ylim(-0.02, 1.02)
    cuts.legend(frameon=False, fontsize=8)
    cuts.set_title("thresholds", fontsize=10)
    found = [quality.best_of_n(n) for n in quality.sizes]
    bars = [[100 * (m.value - m.low) for m in found], [100 * (m.high - m.value) for m in found]]
    sizes.errorbar(
        quality.sizes,
        [100 * m.value for m in found],
        yerr=bars,
        fmt="o-",
        capsize=3,
        color=COLOURS[0],
        label="best-of-n",
    )
    sizes.plot(
        quality.sizes,
        [100 * quality.pass_at(n) for n in quality.sizes],
        "--",
        color="#999999",
        label="one of n is right",
    )
    sizes.set_xscale("log", base=2)
    sizes.set_xticks(quality.sizes, [str(n) for n in quality.sizes])
    sizes.set_xlabel("n")
    sizes.set_ylabel("accuracy, %")
    rises = "is still rising" if quality.still_rising else f"gains up to n = {quality.peak.value:.0f}"
    sizes.set_title(f"choosing by it {rises}", fontsize=10)
    sizes.legend(frameon=False)
    for axes in (spread, curve, cuts, sizes):
        axes.grid(True, alpha=0.25)
    figure.savefig(path)
    plt.close(figure)
