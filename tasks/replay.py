"""`reasonweave replay`: what other votes and stopping rules would have said on recorded samples, for no tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from reasonweave.orchestrator.errors import BadInput, UserError
from reasonweave.orchestrator.models.replay import TooFew
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.registry import Workflow
from reasonweave.tasks.evaluation.display import plain, stderr, stdout
from reasonweave.tasks.evaluation.plot import COLOURS, pyplot
from reasonweave.tasks.evaluation.recorded import Recorded, Replayed, replay
from reasonweave.tasks.opening import settings_of

ALIASES = {"majority": "self-consistency", "weighted": "weighted-majority", "best": "best-of-n"}
"""Votes by their own names: the workflows that sample and then vote so."""


@dataclass
class Report:
    """What could be replayed, and a line for each thing that could not."""

    recorded: Recorded
    rows: list[Replayed] = field(default_factory=list)
    refused: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Why something was not replayed, and what: the sizes by workflow."""
    notes: list[str] = field(default_factory=list)

    def refuse(self, told: str, workflow: str, size: str = "") -> None:
        self.refused.setdefault(told, {}).setdefault(workflow, []).append(size)

    @property
    def left_out(self) -> list[str]:
        lines = []
        for told, what in self.refused.items():
            sizes = {",".join(filter(None, at)) for at in what.values()}
            where = f" with n={sizes.pop()}" if len(sizes) == 1 and sizes != {""} else ""
            lines.append(f"{', '.join(what)}{where}: {told}")
        return lines


def replay_(
    run: Annotated[Path, typer.Argument(help="A folder that eval made, or one of its .jsonl files.", metavar="RUN")],
    names: Annotated[
        list[str] | None, typer.Argument(help="Workflows, as after --workflows.", metavar="[WORKFLOW]...")
    ] = None,
    workflows: Annotated[
        list[str] | None,
        typer.Option(
            "--workflows",
            help="Workflows by name, or file.py:function; several may follow. Also majority, weighted, best. Default: majority.",
            metavar="WORKFLOW...",
        ),
    ] = None,
    n: Annotated[
        str | None,
        typer.Option("--n", help="Samples a problem, as 1,2,4. Default: 1, 2, 4, … to all.", metavar="N,N,…"),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="Whose samples; default: the file with the most a problem.", metavar="WORKFLOW"),
    ] = None,
    draws: Annotated[
        int, typer.Option(help="Random orders of the samples to average over; 1 is the recorded order.", min=1)
    ] = 1,
    setting: Annotated[
        list[str] | None, typer.Option("-S", help="Set a workflow's option, as -S window=4.", metavar="NAME=VALUE")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="For ties and orders; default: that of the run.")] = None,
    limit: Annotated[int | None, typer.Option(help="The first N problems.", min=1)] = None,
    plot: Annotated[
        bool, typer.Option(help="Draw accuracy against samples into the run's folder (needs the extra plots).")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Ask what other votes and stopping rules would have said on recorded samples: no model, no tokens."""
    wanted = list(dict.fromkeys([*(workflows or []), *(names or [])] or ["majority"]))
    if not run.exists() and (paths := [name for name in wanted if Path(name).exists()]):
        raise BadInput(
            f"{run}: there is no such file or folder; RUN comes first, as in replay {paths[0]} --workflows {run}"
        )
    chosen = [_named(name) for name in wanted]
    settings = settings_of(setting or [], chosen)
    sizes = _sizes(n)
    verifying = any(kind is Verifier for workflow in chosen for kind in workflow.roles.values())
    recorded = Recorded.load(run, workflow=source, scored=verifying).first(limit)
    report = Report(recorded)
    with Progress(console=stderr(), transient=True, disable=as_json or not stderr().is_terminal) as bars:
        for workflow, options in zip(chosen, settings, strict=True):
            plans = _plans(report, workflow, options, sizes)
            bar = bars.add_task(workflow.name, total=len(plans) * draws * len(recorded.examples))
            _replayed(report, workflow, plans, draws, seed, lambda bar=bar: bars.advance(bar))  # type: ignore[misc]
    if not report.rows:
        raise BadInput("nothing could be replayed. " + "; ".join(report.left_out))
    picture = recorded.file.path.parent / "replay.png"
    if plot:
        try:
            draw(report.rows, picture, _title(report, draws))
        except BadInput as error:
            stderr().print(f"no picture: {error}", highlight=False, markup=False, soft_wrap=True)
            plot = False
    if as_json:
        typer.echo(json.dumps(_data(report, draws), indent=2))
        return
    _show(report, draws, picture if plot else None)


def _named(name: str) -> Workflow:
    """A workflow under the name that the user gave it."""
    return Workflow(name, Workflow.named(ALIASES.get(name, name)).make) if name in ALIASES else Workflow.named(name)


def _sizes(text: str | None) -> list[int] | None:
    """The numbers of a list as 1,2,4, each once."""
    if text is None:
        return None
    sizes = [int(part) if (part := each.strip()).isdecimal() else 0 for each in text.split(",") if each.strip()]
    if not sizes or min(sizes) < 1:
        raise BadInput(f"--n {text!r}: write whole numbers of 1 or more, as 1,2,4,8")
    return list(dict.fromkeys(sizes))


def _plans(
    report: Report, workflow: Workflow, options: Mapping[str, Any], sizes: Sequence[int] | None
) -> list[dict[str, Any]]:
    """The options of each replay of one workflow: one a size, or a single one where it has no size or it is set."""
    if "n" not in workflow.options or "n" in options:
        if sizes and "n" not in options:
            report.notes.append(f"{workflow.name} has no option n: it is replayed once, as it is")
        return [dict(options)]
    most = report.recorded.fewest
    if sizes is None:
        sizes = sorted({2**k for k in range(most.bit_length())} | {most})
    return [dict(options) | {"n": size} for size in sizes]


def _replayed(
    report: Report,
    workflow: Workflow,
    plans: Sequence[Mapping[str, Any]],
    draws: int,
    seed: int | None,
    tick: Callable[[], None],
) -> None:
    """Replay one workflow's plans; what cannot be is said once."""
    recorded = report.recorded
    for options in plans:
        size = options.get("n", 0)
        try:
            report.rows.append(asyncio.run(replay(recorded, workflow, options, draws=draws, seed=seed, tick=tick)))
        except UserError as error:
            told = str(error)
            if isinstance(error, TooFew) and size > recorded.fewest:
                each = (
                    f"{recorded.fewest} samples a problem" if recorded.even else f"only {recorded.fewest} of a problem"
                )
                told = f"{recorded.file.path} has {each}, and n={size} asks for more; record more with -S n={size}"
            report.refuse(told, workflow.name, str(size or ""))


def _title(report: Report, draws: int) -> str:
    header, problems = report.recorded.file.header, len(report.recorded.examples)
    order = "in their order" if draws == 1 else f"in {draws} random orders"
    return f"{header.task}, {problems} problem{'s' * (problems != 1)}, the samples of {header.workflow} {order}"


def _show(report: Report, draws: int, picture: Path | None) -> None:
    console, recorded = stdout(), report.recorded
    console.print(_table(report, _title(report, draws)))
    for line in report.left_out:
        console.print(f"not replayed  {line}", highlight=False, markup=False, soft_wrap=True)
    for line in _notes(report):
        console.print(f"note  {line}", highlight=False, markup=False, soft_wrap=True)
    each = f"{recorded.fewest}" if recorded.even else f"{recorded.fewest} to {max(recorded.counts)}"
    told = f"0 new tokens; {len(recorded.examples)} problems × {each} samples by {recorded.model} from {recorded.file.path}"
    console.print(told, highlight=False, markup=False, soft_wrap=True)
    if picture:
        console.print(f"picture  {picture}", highlight=False, markup=False, soft_wrap=True)


def _notes(report: Report) -> list[str]:
    """What a reader of the figures must know."""
    recorded, notes = report.recorded, list(report.notes)
    file = recorded.file
    if file.torn:
        notes.append(f"the last line of {file.path} is not whole (the run was killed); {len(file.items)} problems are")
    if file.repeated:
        notes.append(f"{file.repeated} problems are in {file.path} more than once; the last time counts")
    if not recorded.independent:
        notes.append(
            f"{file.header.workflow} wrote its solutions step by step; where it chose between them, fewer of them are not what a "
            "smaller run would have given"
        )
    elif not recorded.complete:
        drawn, kept = sum(record.drawn for record in file.items), sum(recorded.counts)
        notes.append(
            f"{file.header.workflow} drew {drawn:,} samples, and {file.path} has {kept:,}; what it chose, or added, is not what "
            "fresh ones would be"
        )
    if not recorded.whole:
        notes.append(f"some samples of {file.path} were cut by a watch")
    if not recorded.has_logprobs:
        notes.append(f"{file.path} has no log-probabilities of some samples: votes that weigh by them lack them")
    if unforced := [f"{row.label} {_size(row)} {row.unforced}" for row in report.rows if row.unforced]:
        notes.append(f"a forced answer that was not recorded counts as none: {', '.join(unforced)}")
    for row in report.rows:
        if errors := [outcome.error for outcome in row.each if outcome.error]:
            notes.append(
                f"{row.label} {_size(row)}: {len(errors)} of {len(row.each)} failed, the first with: {errors[0]}"
            )
    return notes


def _size(row: Replayed) -> str:
    return f"n={row.n}" if row.n is not None else ""


def _table(report: Report, title: str) -> Table:
    drawn = plain(title)
    drawn.add_column("workflow", no_wrap=True)
    for name in ("n", "accuracy", "95 %\ninterval", "no\nanswer", "samples", "tokens", "confidence", "ECE"):
        drawn.add_column(name, justify="right", no_wrap=True)
    last = ""
    for row in report.rows:
        low, high = row.interval
        drawn.add_row(
            row.label if row.label != last else "",
            str(row.n or "–"),
            f"{100 * row.accuracy:.1f} %",
            f"{100 * low:.1f}–{100 * high:.1f}",
            f"{100 * row.unanswered:.1f} %",
            f"{row.samples:.2f}".rstrip("0").rstrip("."),
            f"{row.tokens:,.0f}",
            "–" if row.confidence is None else f"{row.confidence:.3f}",
            "–" if row.ece is None else f"{row.ece:.3f}",
        )
        last = row.label
    drawn.caption = (
        "Accuracy with a 95 % interval, bootstrapped over problems. Samples drawn to their ends and the tokens they would have "
        "cost (prompt + completion, scores included) are means a problem. ECE: how far confidence is from accuracy."
    )
    return drawn


def _row(row: Replayed) -> dict[str, Any]:
    return {
        "workflow": row.label,
        "n": row.n,
        "problems": len(row.outcomes),
        "accuracy": row.accuracy,
        "interval": list(row.interval),
        "no_answer": row.unanswered,
        "samples": row.samples,
        "tokens": row.tokens,
        "confidence": row.confidence,
        "ece": row.ece,
        "errors": sum(outcome.error is not None for outcome in row.each),
        "unforced": row.unforced,
        "options": dict(row.options),
    }


def _data(report: Report, draws: int) -> dict[str, Any]:
    recorded = report.recorded
    return {
        "source": str(recorded.file.path),
        "task": recorded.file.header.task,
        "problems": len(recorded.examples),
        "samples": [recorded.fewest, max(recorded.counts)],
        "draws": draws,
        "new_tokens": 0,
        "rows": [_row(row) for row in report.rows],
        "not_replayed": report.left_out,
        "notes": _notes(report),
    }


def draw(rows: Sequence[Replayed], path: Path, title: str) -> None:
    """Accuracy with its 95 % interval against samples a problem (log scale), one line a workflow, as a PNG.

    Needs matplotlib (extra `plots`); raises `BadInput` without it.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(8, 5), dpi=130)
    for i, label in enumerate(dict.fromkeys(row.label for row in rows)):
        line = sorted((row for row in rows if row.label == label), key=lambda row: row.samples)
        x, y = [row.samples for row in line], [100 * row.accuracy for row in line]
        bounds = [[100 * row.interval[side] for row in line] for side in (0, 1)]
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(x, y, "o-", color=colour, markersize=4, label=label)
        axes.fill_between(x, *bounds, color=colour, alpha=0.12, linewidth=0)
        if len(line) == 1:
            axes.vlines(x, *bounds, color=colour, alpha=0.4)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("samples a problem, mean")
    axes.set_ylabel("accuracy, %  (95 % interval, bootstrap over problems)")
    axes.set_title(title)
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
