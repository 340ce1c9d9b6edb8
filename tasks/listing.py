"""`reasonweave list`: what can be named on the command line, plugins included."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.registry import Recipe, VerifierRecipe, Workflow, find, names, origin
from reasonweave.tasks.evaluation.display import stdout
from reasonweave.tasks.jsonl import JsonlTask
from reasonweave.tasks.opening import LAB


class Kind(StrEnum):
    """What `list` can list."""

    strategies = "strategies"
    verifiers = "verifiers"
    tasks = "tasks"
    models = "models"


def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """List what can be named on the command line, plugins included."""
    drawn = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, told in _rows(kind):
        drawn.add_row(name, told)
    stdout().print(drawn, highlight=False, markup=False)


def _rows(kind: Kind) -> list[tuple[str, str]]:
    if kind is Kind.strategies:
        return [(name, _workflow(name)) for name in names("workflow")]
    if kind is Kind.models:
        providers = [(f"{name}/…", _summary(find("model provider", name))) for name in names("model provider")]
        return [(spec, f"the lab's {role} model") for role, spec in LAB.items()] + providers
    if kind is Kind.verifiers:
        return [(name, _verifier(name)) for name in names("verifier")] + [
            (
                "FILE.py:NAME",
                "A verifier of your own: a function of a candidate, one that makes a verifier, or its class.",
            )
        ]
    rows = [(name, _summary(find("task", name))) for name in names("task")]
    return [*rows, ("FILE.jsonl", _summary(JsonlTask))]


def _workflow(name: str) -> str:
    try:
        workflow = Workflow.named(name)
        return f"{workflow.summary}\nneeds {', '.join(workflow.roles)}; {_options(workflow, '-S')}"
    except BadInput as error:
        return f"{error}\nfrom {origin('workflow', name)}"


def _verifier(name: str) -> str:
    """What a verifier is, where it comes from, what it costs and needs. One that is broken says so, and hides no other."""
    source = f"from {origin('verifier', name)}"
    try:
        recipe = VerifierRecipe.named(name)
        models = ", ".join(recipe.roles) or "no model"
        needed = "; ".join(filter(None, (models, recipe.told("Needs").rstrip("."))))
        costs = recipe.told("Costs").rstrip(".") or "not told"
        return f"{recipe.summary}\ncosts {costs}\nneeds {needed}\n{source}; {_options(recipe, '-V')}"
    except BadInput as error:
        return f"{error}\n{source}"


def _options(recipe: Recipe, flag: str) -> str:
    """What may be set, with the defaults; a text that is not a line of its own as Python writes it."""
    shown = {n: repr(v) if isinstance(v, str) and not v.isprintable() else v for n, v in recipe.options.items()}
    return ", ".join(f"{flag} {name}={getattr(v, '__name__', v)}" for name, v in shown.items()) or "no options"


def _summary(part: object) -> str:
    return (getattr(part, "__doc__", None) or "").strip().split("\n")[0]
