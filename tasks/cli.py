"""The command line: `reasonweave eval | solve | list | graph | tune | …`."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.drawing import draw_run, form_of
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.happened import Happened
from reasonweave.orchestrator.registry import Workflow
from reasonweave.orchestrator.solve import Result, asolve
from reasonweave.orchestrator.trace import Jsonl, both
from reasonweave.orchestrator.types import Problem
from reasonweave.tasks.base import Task, is_text
from reasonweave.tasks.evaluation.display import Display, Meter, confidence_table, stderr, stdout, table
from reasonweave.tasks.evaluation.plot import draw
from reasonweave.tasks.evaluation.records import Header, Log, Record, provenance
from reasonweave.tasks.evaluation.runner import evaluate
from reasonweave.tasks.evaluation.summary import Summary, scaled
from reasonweave.tasks.flags import (
    BudgetFlag,
    JsonFlag,
    LargeFlag,
    ModelsFlag,
    PrmFlag,
    RoleFlag,
    SeedFlag,
    SetFlag,
    SmallFlag,
    UpFlag,
    VerifierFlag,
    VerifierSetFlag,
    manners,
    served_roles,
    servers,
)
from reasonweave.tasks.graphing import graph_
from reasonweave.tasks.lab.commands import lab
from reasonweave.tasks.listing import list_
from reasonweave.tasks.opening import Models, check_roles, chosen_for, open_task, settings_of, specs_of, verifiers_of
from reasonweave.tasks.quality import verify_quality
from reasonweave.tasks.replay import replay_
from reasonweave.tasks.tuning.command import tune_

FIRST = ("single", "self-consistency", "best-of-n")
"""What `eval` compares where no workflow is named."""

app = typer.Typer(
    name="reasonweave",
    help="Spend inference-time compute on reasoning, on purpose: compose, budget and evaluate strategies.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(lab)


def _version(wanted: bool) -> None:
    if wanted:
        print(version("reasonweave"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Spend inference-time compute on reasoning, on purpose: compose, budget and evaluate strategies."""


@app.command("eval")
def eval_(
    workflow: Annotated[list[str] | None, typer.Argument(help="Workflows by name, or file.py:function.")] = None,
    task: Annotated[str, typer.Option(help="A task by name, or a JSONL file.")] = "lab",
    small: SmallFlag = None,
    large: LargeFlag = None,
    prm: PrmFlag = None,
    model_role: RoleFlag = None,
    models: ModelsFlag = None,
    up: UpFlag = None,
    limit: Annotated[int | None, typer.Option(help="The first N problems.", min=1)] = None,
    budget: BudgetFlag = "",
    seed: SeedFlag = 0,
    setting: SetFlag = None,
    verifier: VerifierFlag = None,
    verifier_setting: VerifierSetFlag = None,
    max_connections: Annotated[int, typer.Option(help="Problems in flight.", min=1)] = 32,
    instruction: Annotated[
        str | None,
        typer.Option(help="What to add to each question of a JSONL file; empty for nothing.", metavar="TEXT"),
    ] = None,
    log_dir: Annotated[Path, typer.Option(help="Where records and the picture go.")] = Path("runs"),
    plot: Annotated[bool, typer.Option(help="Draw accuracy against compute (needs the extra plots).")] = True,
    display: Annotated[Display, typer.Option(help="Progress: rich, plain or none.")] = Display.auto,
    as_json: JsonFlag = False,
) -> None:
    """Evaluate workflows on a task: a table, a picture, and a record a problem."""
    with manners():  # what can be wrong with the command is found before a server starts
        workflows = [Workflow.named(name) for name in dict.fromkeys(workflow or FIRST)]
        limits = Budget.parse(budget)
        verifiers = verifiers_of(verifier or [], verifier_setting or [], workflows)
        check_roles(workflows, limits, model_role or [], verifiers)
        options = settings_of(setting or [], workflows)
        opened = open_task(task, None if instruction is None else instruction and f"\n\n{instruction}")
        specs = partial(specs_of, task, {"small": small, "large": large, "prm": prm}, model_role or [])
        with served_roles(models, up, workflows, specs, verifiers) as served:
            asyncio.run(
                _evaluate(
                    workflows,
                    opened,
                    Models(specs(served), served, verifiers),
                    options,
                    limit=limit,
                    budget=limits,
                    seed=seed,
                    connections=max_connections,
                    log_dir=log_dir,
                    plot=plot,
                    display=Display.none if as_json else display,
                    as_json=as_json,
                )
            )


async def _evaluate(
    workflows: Sequence[Workflow],
    task: Task,
    models: Models,
    options: Sequence[dict[str, Any]],
    *,
    limit: int | None,
    budget: Budget,
    seed: int,
    connections: int,
    log_dir: Path,
    plot: bool,
    display: Display,
    as_json: bool,
) -> None:
    bound = [models.bind(w, o) for w, o in zip(workflows, options, strict=True)]
    models.warn_of(budget)
    examples = task.examples(limit)
    folder = _fresh(log_dir / f"{time.strftime('%Y%m%d-%H%M%S')}-{task.name}")
    summaries: list[Summary] = []
    stopped: BaseException | None = None
    known = provenance()
    with Meter(display, stderr()) as meter:
        for (strategy, specs), workflow, label, chosen in zip(
            bound, workflows, _labels(workflows), options, strict=True
        ):
            header = Header(
                workflow=label,
                strategy=repr(strategy),
                options={name: _plain(value) for name, value in (workflow.options | chosen).items()},
                task=task.name,
                limit=limit,
                seed=seed,
                budget=repr(budget),
                models=specs,
                verifiers={role: str(named) for role, named in chosen_for(workflow, models.verifiers).items()},
                **known,
            )
            log = Log(folder / f"{label}.jsonl", header)
            records: list[Record] = []

            def done(record: Record, kept: list[Record] = records) -> None:
                kept.append(record)
                meter.advance(record)

            meter.begin(label, len(examples))
            began = time.monotonic()
            try:
                await evaluate(
                    strategy, examples, budget=budget, seed=seed, connections=connections, log=log, done=done
                )
            except (asyncio.CancelledError, Exception, BaseExceptionGroup) as error:
                stopped = error
            finally:
                log.close()
            if records or not isinstance(stopped, Exception | BaseExceptionGroup):
                summaries.append(Summary.of(label, records, time.monotonic() - began))
            if stopped:
                break
    await models.aclose()
    done_of = f"{min((s.n for s in summaries), default=0)} of {len(examples)}" if stopped else f"{len(examples)}"
    title = f"{task.name}, {done_of} problem{'s' * (len(examples) != 1)}, seed {seed}"
    title = f"stopped early: {title}" if stopped else title
    if summaries or not stopped:
        _conclude(summaries, title, folder, plot=plot and not stopped, as_json=as_json)
    if isinstance(stopped, asyncio.CancelledError):
        stderr().print(f"interrupted; the finished records are in {folder}", highlight=False, soft_wrap=True)
        raise KeyboardInterrupt
    if stopped:
        raise stopped
    if any(s.n and s.errors == s.n for s in summaries):
        raise typer.Exit(1)


def _labels(workflows: Sequence[Workflow]) -> list[str]:
    """A name for each workflow's rows and file: its own, numbered where several share it."""
    labels: list[str] = []
    for workflow in workflows:
        again = [w.name for w in workflows[: len(labels)]].count(workflow.name)
        labels.append(f"{workflow.name}-{again + 1}" if again else workflow.name)
    return labels


def _plain(value: object) -> object:
    """An option's value as JSON can hold it."""
    return value if isinstance(value, str | int | float | bool | None) else getattr(value, "__name__", repr(value))


def _fresh(folder: Path) -> Path:
    """Make a folder that was not there: two runs of one second get two."""
    again, made = 2, folder
    while True:
        try:
            made.mkdir(parents=True)
            return made
        except FileExistsError:
            if not made.is_dir():
                raise
            made, again = folder.with_name(f"{folder.name}-{again}"), again + 1


def _conclude(
    summaries: Sequence[Summary],
    title: str,
    folder: Path,
    *,
    plot: bool,
    as_json: bool,
) -> None:
    picture = folder / "accuracy.png"
    if plot:
        try:
            draw(summaries, picture, title)
        except BadInput as error:
            stderr().print(f"no picture: {error}", highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps([_as_data(s) for s in summaries], indent=2))
        return
    console = stdout()
    console.print(table(summaries, title, console.width))
    if (sure := confidence_table(summaries, console.width)) is not None:
        console.print("", sure)
    if broken := [s for s in summaries if s.errors]:
        for s in broken:
            told = f"{s.label}: {s.errors} of {s.n} failed, the first with: {s.first_error}"
            console.print(told, style="red", highlight=False, markup=False, soft_wrap=True)
    if limited := [s for s in summaries if s.limited]:
        told = ", ".join(f"{s.label} {s.limited}" for s in limited)
        console.print(f"stopped by the budget: {told} problems", highlight=False)
    for s in (s for s in summaries if s.saved):
        told = f"{s.cut / s.n:.1f} tokens a problem in samples cut early, at most {s.saved / s.n:.1f} saved by it"
        console.print(f"{s.label}: {told}", highlight=False, soft_wrap=True)
    console.print(f"records  {folder}", highlight=False, soft_wrap=True)
    if picture.exists():
        console.print(f"picture  {picture}", highlight=False, soft_wrap=True)


def _as_data(s: Summary) -> dict[str, Any]:
    low, high = s.interval
    return {
        "workflow": s.label,
        "n": s.n,
        "accuracy": s.accuracy,
        "interval": [low, high],
        "no_answer": s.no_answer,
        "abstained": s.confidence.abstained if s.confidence else 0,
        "errors": s.errors,
        "first_error": s.first_error,
        "stopped_by_budget": s.limited,
        "tokens": {model: usage.tokens for model, usage in s.usage.items()},
        "flops": s.total.flops,
        "usd": s.total.usd,
        "seconds": s.seconds,
        "cut_tokens": s.cut,
        "saved_tokens": s.saved,
        "confidence": s.confidence.data if s.confidence else None,
    }


@app.command("solve")
def solve_(
    problem: Annotated[str, typer.Argument(help="The problem, in words.")],
    workflow: Annotated[str, typer.Option(help="A workflow by name, or file.py:function.")] = "best-of-n",
    small: SmallFlag = None,
    large: LargeFlag = None,
    prm: PrmFlag = None,
    model_role: RoleFlag = None,
    models: ModelsFlag = None,
    up: UpFlag = None,
    budget: BudgetFlag = "",
    seed: SeedFlag = 0,
    setting: SetFlag = None,
    verifier: VerifierFlag = None,
    verifier_setting: VerifierSetFlag = None,
    trace: Annotated[Path | None, typer.Option(help="Append every event to this JSONL file.")] = None,
    graph: Annotated[
        Path | None, typer.Option(help="Draw what happened into this file (.svg, .mmd, .md or .txt).", metavar="FILE")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Solve one problem and show the answer, the solution behind it and what it cost."""
    with manners():
        if not problem.strip():
            raise BadInput("there is no problem to solve: the text is empty")
        if not is_text(problem):
            raise BadInput("the problem's text is not UTF-8")
        if graph is not None:
            form_of(graph)
        found, limits = Workflow.named(workflow), Budget.parse(budget)
        verifiers = verifiers_of(verifier or [], verifier_setting or [], [found])
        check_roles([found], limits, model_role or [], verifiers)
        (options,) = settings_of(setting or [], [found])
        specs = partial(specs_of, "lab", {"small": small, "large": large, "prm": prm}, model_role or [])
        with served_roles(models, up, [found], specs, verifiers) as served:
            opened = Models(specs(served), served, verifiers)
            result = asyncio.run(_solve(problem, found, opened, options, limits, seed, trace, graph))
        _show(result, as_json)


async def _solve(
    problem: str,
    workflow: Workflow,
    models: Models,
    options: Mapping[str, Any],
    budget: Budget,
    seed: int,
    trace: Path | None,
    graph: Path | None,
) -> Result:
    strategy, _ = models.bind(workflow, options)
    models.warn_of(budget)
    tracer, happened = Jsonl(trace) if trace else None, Happened()
    try:
        told = both(tracer, happened if graph is not None else None)
        result = await asolve(Problem(problem), strategy, budget=budget, seed=seed, trace=told)
        if graph is not None:
            draw_run(strategy, happened, graph, title=workflow.name)
        return result
    finally:
        if tracer:
            tracer.close()
        await models.aclose()


def _show(result: Result, as_json: bool) -> None:
    usage = {name: spent.tokens for name, spent in result.usage.items()}
    if as_json:
        told = {
            "answer": result.answer,
            "confidence": result.confidence,
            "abstained": result.answer is None and result.candidates.abstains,
            "solution": result.text,
            "tokens": usage,
            "flops": result.total.flops,
            "seconds": result.seconds,
            "stopped": result.stopped,
            "errors": list(result.errors),
        }
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    none = "none (it abstains)" if result.candidates.abstains else "none"
    sure = "" if result.confidence is None else f"  (confidence {result.confidence:.2f})"
    print(f"{result.text.rstrip()}\n\nanswer: {result.answer or none}{sure}")
    spent = ", ".join(f"{name} {tokens:,}" for name, tokens in usage.items()) or "none"
    print(f"tokens: {spent}; FLOPs {scaled(result.total.flops)}; {result.seconds:.2f} s")
    if result.stopped:
        print(f"stopped: {result.stopped}")
    for error in result.errors[:1]:
        print(f"error: {error}")


ModelsFile = Annotated[Path, typer.Argument(help="A models file (docs/serving.md).", metavar="MODELS.TOML")]
PythonFlag = Annotated[str | None, typer.Option(help="A Python that has vLLM.", metavar="PATH")]


@app.command("up")
def up_(
    models: ModelsFile,
    python: PythonFlag = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the servers.", min=1)] = 900,
) -> None:
    """Start vLLM for each role of a models file that has no URL, and wait until all answer."""
    with manners():
        servers().up(models, python, timeout)


@app.command("down")
def down(models: ModelsFile) -> None:
    """End the servers that `up` started for a models file."""
    with manners():
        servers().down(models)


@app.command("status")
def status(models: ModelsFile) -> None:
    """Show the servers that `up` started for a models file."""
    with manners():
        servers().status(models)


@app.command("doctor")
def doctor(
    models: Annotated[Path, typer.Option("--models", help="A models file.", metavar="MODELS.TOML")],
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Start servers that are not up, for the time of the report.")
    ] = True,
) -> None:
    """Say for each role what works, what will be slower or unavailable, and how to switch it on."""
    with manners(), servers().examined(models, start) as served:
        if servers().doctor(served):
            raise typer.Exit(1)


app.command("replay")(manners()(replay_))


app.command("list")(manners()(list_))
app.command("verify-quality")(manners()(verify_quality))
app.command("graph")(manners()(graph_))
app.command("tune")(manners()(tune_))


def main() -> None:
    """The console script. SIGTERM ends a run as Ctrl-C does: finished records stay."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    app(prog_name="reasonweave")


if __name__ == "__main__":
    main()
