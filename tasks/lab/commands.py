"""`reasonweave lab`: train the checkpoints, and measure them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from reasonweave.orchestrator.errors import BadInput, NotFound
from reasonweave.tasks.flags import JsonFlag, manners

lab = typer.Typer(name="lab", help="The lab: tiny real models, trained here.", no_args_is_help=True)


@lab.command("train")
def train(
    out: Annotated[Path, typer.Option(help="Where the checkpoints go.")],
    only: Annotated[str | None, typer.Option(help="One checkpoint alone: lab-small, lab-large or lab-prm.")] = None,
) -> None:
    """Train the lab's three checkpoints from nothing (extra `train`). Resumes where it was interrupted."""
    with manners():
        stages = ("lab-small", "lab-large", "lab-prm")
        if only is not None and only not in stages:
            raise NotFound("lab checkpoint", only, stages)
        try:
            causal = importlib.import_module("reasonweave.tasks.lab.train")
            reward = importlib.import_module("reasonweave.tasks.lab.train_prm")
        except ImportError as error:
            raise BadInput(
                f"training needs torch and transformers ({error.name}): pip install 'reasonweave[train]'"
            ) from None
        for stage in stages if only is None else (only,):
            if stage == "lab-prm":
                reward.train_prm(out, _say)
            else:
                causal.train_causal(stage, out, _say)


def _say(line: str) -> None:
    print(line, flush=True)


@lab.command("card")
def card(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder with lab-small, lab-large, lab-prm; default: shipped.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Held-out problems to measure on.", min=10)] = 2000,
    as_json: JsonFlag = False,
) -> None:
    """Measure the lab's checkpoints on held-out problems and print the figures of the model card."""
    with manners():
        measured = importlib.import_module("reasonweave.tasks.lab.card")
        measured.show(folder, limit=limit, as_json=as_json)
