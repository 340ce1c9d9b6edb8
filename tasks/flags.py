"""What the commands share: flags, how a mistake is told, and the servers of a models file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from reasonweave.orchestrator.errors import BadInput, ReasonweaveError, UserError, described, first_of
from reasonweave.orchestrator.registry import Recipe
from reasonweave.tasks.evaluation.display import stderr
from reasonweave.tasks.opening import Chosen, Models, needs, where

SmallFlag = Annotated[
    str | None, typer.Option("--small", help="Model spec of the small model, as lab/small.", metavar="SPEC")
]
LargeFlag = Annotated[str | None, typer.Option("--large", help="Model spec of the large model.", metavar="SPEC")]
PrmFlag = Annotated[str | None, typer.Option("--prm", help="Model spec of the process reward model.", metavar="SPEC")]
RoleFlag = Annotated[
    list[str] | None, typer.Option("--model-role", help="A model for another role.", metavar="ROLE=SPEC")
]
ModelsFlag = Annotated[
    Path | None,
    typer.Option("--models", help="A models file: which model plays which role, and where.", metavar="TOML"),
]
UpFlag = Annotated[
    Path | None,
    typer.Option("--up", help="As --models, with its servers started around this run.", metavar="TOML"),
]
SetFlag = Annotated[
    list[str] | None, typer.Option("-S", help="Set a workflow's option, as -S n=16.", metavar="NAME=VALUE")
]
VerifierFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--verifier",
        help="What judges candidates in place of the reward model: by name, or file.py:name.",
        metavar="[ROLE=]NAME",
    ),
]
VerifierSetFlag = Annotated[
    list[str] | None, typer.Option("-V", help="Set an option of the verifier.", metavar="NAME=VALUE")
]
BudgetFlag = Annotated[
    str, typer.Option("--budget", help="Hard limits a problem, as tokens=20k,usd=1,large.tokens=5k.", metavar="LIMITS")
]
SeedFlag = Annotated[int, typer.Option("--seed", help="Same seed, same result.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@contextmanager
def manners() -> Iterator[None]:
    """A user's mistake is one line and exit code 2, an error in a part one line and 1, Ctrl-C exit code 130.

    `REASONWEAVE_DEBUG=1` shows tracebacks.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (Exception, BaseExceptionGroup) as raised:
        error = first_of(raised)
        if isinstance(error, typer.Exit) or os.environ.get("REASONWEAVE_DEBUG"):
            raise
        told = str(error) if isinstance(error, ReasonweaveError) else f"{described(error)}{where(error)}"
        stderr().print(f"error: {told}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(2 if isinstance(error, UserError | OSError) else 1) from None


@contextmanager
def served_roles(
    models: Path | None,
    up: Path | None,
    recipes: Sequence[Recipe],
    specs: Callable[[Any], Mapping[str, str]],
    verifiers: Mapping[str, Chosen],
) -> Iterator[dict[str, Any]]:
    """The roles of a models file; of `up`, with the servers of those that the recipes use started for the time of the block.

    `specs` says which roles the command's flags fill, given the file's.
    """
    if models and up:
        raise BadInput("--models uses servers that run, --up starts them: name the file once")
    if up:
        known = servers().roles_of(up)
        Models(specs(known), known, verifiers).check(recipes)
        used = {role for recipe in recipes for role in needs(recipe, verifiers)}
        with servers().running(up, used - set(specs(known))) as served:
            yield served
    else:
        yield servers().roles_of(models) if models else {}


def servers() -> Any:
    """Loaded on use: the HTTP client takes longer to import than everything else."""
    return importlib.import_module("reasonweave.tasks.servers")
