"""`reasonweave tune`: search a workflow's options for those that are worth their cost."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reasonweave.orchestrator.errors import BadInput
from reasonweave.tasks.evaluation.display import Display
from reasonweave.tasks.flags import (
    BudgetFlag,
    JsonFlag,
    LargeFlag,
    ModelsFlag,
    PrmFlag,
    RoleFlag,
    SetFlag,
    SmallFlag,
    UpFlag,
    VerifierFlag,
    VerifierSetFlag,
    served_roles,
)
from reasonweave.tasks.tuning.measure import RememberingModels
from reasonweave.tasks.tuning.outcomes import COSTS
from reasonweave.tasks.tuning.plan import Plan, located, named
from reasonweave.tasks.tuning.process import Tuning
from reasonweave.tasks.tuning.study import alone, optuna

IN_FLIGHT = 32


def tune_(
    workflow: Annotated[
        str | None, typer.Argument(help="A workflow by name, or file.py:function; that of the study, where it goes on.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="A task by name, or a JSONL file.  [default: lab]")] = None,
    trials: Annotated[
        int, typer.Option(help="Workflows to try, those of an earlier run of the study included.", min=1)
    ] = 40,
    cost: Annotated[
        str | None, typer.Option(help=f"What to save: {', '.join(COSTS)}.  [default: flops]", metavar="COST")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Problems to search with.  [default: half of the task]", min=1)
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option("--held-out", help="Other problems, to see what the choice is worth.  [default: as many]", min=1),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against", help="Workflows to compare with.  [default: the workflow's defaults]", metavar="NAME"
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option("--study", help="The folder of the study; one that is there goes on.", metavar="FOLDER"),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write the front here too; its workflows run as FILE:NAME.", metavar="FILE"),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End the search after so long; the held-out problems come after it.", min=0)
    ] = None,
    small: SmallFlag = None,
    large: LargeFlag = None,
    prm: PrmFlag = None,
    model_role: RoleFlag = None,
    models: ModelsFlag = None,
    up: UpFlag = None,
    budget: BudgetFlag = "",
    seed: Annotated[int | None, typer.Option("--seed", help="Same seed, same search.  [default: 0]")] = None,
    setting: SetFlag = None,
    verifier: VerifierFlag = None,
    verifier_setting: VerifierSetFlag = None,
    max_connections: Annotated[
        int | None, typer.Option(help="Problems in flight.  [default: 32; 1 for --cost seconds]", min=1)
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(help="What to add to each question of a JSONL file; empty for nothing.", metavar="TEXT"),
    ] = None,
    plot: Annotated[bool, typer.Option(help="Draw the front (needs the extra plots).")] = True,
    display: Annotated[Display, typer.Option(help="Progress: rich, plain or none.")] = Display.auto,
    as_json: JsonFlag = False,
) -> None:
    """Search a workflow's options for the best accuracy at each cost; the front is saved, and its workflows run by name."""
    optuna()
    save = front_file(save)
    if study is not None and not nearest(study).is_dir():
        raise BadInput(f"--study {study}: no folder can be made there")
    given = {
        "workflow": located(workflow),
        "task": str(Path(task).resolve()) if task and Path(task).is_file() else task,
        "cost": cost,
        "limit": limit,
        "held_out": held_out,
        "small": small,
        "large": large,
        "prm": prm,
        "model_role": list(model_role or []),
        "models": str(models.resolve()) if models else None,
        "budget": budget,
        "seed": seed,
        "setting": list(setting or []),
        "verifier": [named(each) for each in verifier or []],
        "verifier_setting": list(verifier_setting or []),
        "instruction": instruction,
    }
    plan = Plan.of(study, given, list(against or []))
    file = Path(plan.given["models"]) if plan.given["models"] and up is None else None
    with made(plan.folder, new=study is None), alone(plan.folder):
        served = served_roles(file, up, plan.workflows, plan.specs, plan.verifiers)
        with served as roles:
            opened = RememberingModels(plan.specs(roles), roles, plan.verifiers)
            tuning = Tuning(
                plan,
                opened,
                trials=trials,
                minutes=minutes,
                connections=max_connections or (1 if plan.given["cost"] == "seconds" else IN_FLIGHT),
                save=save,
                plot=plot,
                display=Display.none if as_json else display,
                as_json=as_json,
            )
            asyncio.run(tuning.run())


def front_file(save: Path | None) -> Path | None:
    """Where --save writes: the file, or front.json in a folder. Raises `BadInput` where it could not be written, or run
    afterwards."""
    if save is None:
        return None
    if save.is_dir():
        save = save / "front.json"
    if save.suffix != ".json":
        raise BadInput(
            f"--save {save}: give a file that ends in .json, so that its workflows can be named as {save}.json:NAME"
        )
    try:
        save.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=save.parent):
            return save
    except OSError as error:
        raise BadInput(f"--save {save}: nothing can be written there ({error.strerror})") from error


def nearest(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    return next(each for each in (path.resolve(), *path.resolve().parents) if each.exists())


@contextmanager
def made(folder: Path, *, new: bool) -> Iterator[None]:
    """A folder of ours that is taken away again where no study came to be in it."""
    try:
        yield
    finally:
        if new and not (folder / "study.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
