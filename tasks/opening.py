"""From what a user writes on the command line to parts: models for roles, options, tasks."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.errors import BadInput, NotFound, ReasonweaveError, described
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.models.spec import open_model
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.registry import Workflow, find
from reasonweave.tasks.base import Task
from reasonweave.tasks.evaluation.display import stderr
from reasonweave.tasks.jsonl import JsonlTask
from reasonweave.verifiers.judge import UtilityDigit
from reasonweave.verifiers.prm import ProcessReward

if TYPE_CHECKING:
    from reasonweave.orchestrator.models.roles import RoleSpec  # heavy: it brings the HTTP client

JUDGE = "judge"
"""A verifier role of this name is the large model's, by one token, where nobody else is named for it."""
LAB = {"small": "lab/small", "large": "lab/large", "prm": "lab/prm"}


class Models:
    """The models of a command, opened once a spec and role."""

    def __init__(self, specs: Mapping[str, str], served: Mapping[str, RoleSpec] | None = None) -> None:
        self.served = dict(served or {})
        self.specs = {role: str(spec) for role, spec in self.served.items()} | dict(specs)
        self._said = set(specs)
        self._open: dict[str, Model | RewardModel] = {}

    def bind(self, workflow: Workflow, options: Mapping[str, Any]) -> tuple[Strategy, dict[str, str]]:
        """The strategy of a workflow over these models, and the spec of each role that it uses."""
        self.check([workflow])
        parts = fill(workflow, {role: self._opened(role) for role in workflow.roles if role in self.specs})
        try:
            strategy = workflow.make(**parts, **options)
        except ReasonweaveError:
            raise
        except Exception as error:
            raise BadInput(f"workflow {workflow.name} cannot be made: {described(error)}{where(error)}") from error
        if not isinstance(strategy, Strategy):
            raise BadInput(f"workflow {workflow.name} returned {type(strategy).__name__}, not a strategy")
        return strategy, {role: self.specs[role] for role in workflow.roles if role in self.specs}

    def _opened(self, role: str) -> Model | RewardModel:
        if role not in self._open:
            served = self.served.get(role) if role not in self._said else None
            opened = served.open(role) if served else open_model(self.specs[role], role=role)
            for other, known in self._open.items():
                if known.name == opened.name and self.specs[other] != self.specs[role]:
                    opened.name = self.specs[role]  # two folders of one name are two models
            self._open[role] = opened
        return self._open[role]

    def check(self, workflows: Sequence[Workflow]) -> None:
        """Raises `BadInput` where a workflow has a role that nobody is named for."""
        for workflow in workflows:
            for role in workflow.roles:
                if role not in self.specs and not (role == JUDGE and "large" in workflow.roles):
                    flag = f"--{role} SPEC" if role in LAB else f"--model-role {role}=SPEC"
                    raise BadInput(
                        f"workflow {workflow.name} needs a model for its role {role!r}: add {flag}, as in "
                        f"{flag.replace('SPEC', LAB.get(role, 'lab/large'))}"
                    )

    def warn_of(self, budget: Budget) -> None:
        """Say it where a limit in money can limit nothing. Raises `BadInput` for a limit on a judge that is the large model."""
        if JUDGE in budget.roles and JUDGE not in self.specs:
            raise BadInput(
                "a limit for the role 'judge' limits nothing here: the large model judges, and pays for it; limit large, or "
                "name a judge of its own with --model-role judge=SPEC"
            )
        limited = [budget, *budget.roles.values()]
        priced = [m.rates.usd_prompt or m.rates.usd_completion for m in self._open.values()]
        if any(b.usd is not None for b in limited) and not any(priced):
            stderr().print("note: no model here has a price, so usd limits nothing", highlight=False)

    async def aclose(self) -> None:
        for model in self._open.values():
            await model.aclose()


def fill(workflow: Workflow, models: Mapping[str, Model | RewardModel]) -> dict[str, Any]:
    """What a workflow is given for each of its roles: a model, or the verifier that a model makes.

    A verifier's role is filled by a reward model, or by a model as a one-token judge; the role `judge`, where nobody is named
    for it, by the large model. Raises `BadInput` for a reward model in a role that generates text.
    """
    parts: dict[str, Any] = {}
    for role, kind in workflow.roles.items():
        model = models[role] if role in models or role != JUDGE else models["large"]
        if kind is Verifier:
            parts[role] = ProcessReward(model) if isinstance(model, RewardModel) else UtilityDigit(model)
        elif isinstance(model, RewardModel):
            raise BadInput(f"role {role!r}: {model.name} is a reward model; this role generates text")
        else:
            parts[role] = model
    return parts


def specs_of(
    task: str, given: Mapping[str, str | None], roles: Sequence[str], served: Mapping[str, RoleSpec] | None = None
) -> dict[str, str]:
    """Which spec fills which role: the flags, and on the lab task its own models where they say nothing and there is no
    models file."""
    specs = dict(LAB) if task == "lab" and not served else {}
    specs |= {role: spec for role, spec in given.items() if spec}
    for pair in roles:
        role, found, spec = pair.partition("=")
        if not found or not spec:
            raise BadInput(f"--model-role {pair!r}: write ROLE=SPEC")
        specs[role] = spec
    return specs


def check_roles(workflows: Sequence[Workflow], budget: Budget, given: Sequence[str]) -> None:
    """A role that no workflow has is a typing error, and would limit or name nothing."""
    known = {role for workflow in workflows for role in workflow.roles}
    for role in (*budget.roles, *(pair.partition("=")[0] for pair in given)):
        if role not in known:
            raise NotFound("role", role, known, hint=f"Those are the roles of {', '.join(w.name for w in workflows)}")


def settings_of(pairs: Sequence[str], workflows: Sequence[Workflow]) -> list[dict[str, Any]]:
    """Each workflow's options. A name must be known to one of them at least."""
    chosen: list[dict[str, Any]] = [{} for _ in workflows]
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found:
            raise BadInput(f"-S {pair!r}: write NAME=VALUE")
        takers = [i for i, workflow in enumerate(workflows) if name in workflow.options]
        if not takers:
            raise NotFound("option", name, {option for workflow in workflows for option in workflow.options})
        for i in takers:
            chosen[i][name] = workflows[i].option(name, value)
    return chosen


def open_task(name: str, instruction: str | None = None) -> Task:
    """A registered task, or a JSONL file; `instruction` is added to the file's questions."""
    path = Path(name)
    if name.endswith((".jsonl", ".json")) or (path.exists() and not path.is_dir()):
        if not path.exists() or path.is_dir():
            raise BadInput(f"task {name!r}: {'that is a folder' if path.is_dir() else 'there is no such file'}")
        return JsonlTask(path) if instruction is None else JsonlTask(path, instruction)
    if instruction is not None:
        raise BadInput(f"--instruction is for JSONL files; task {name} brings its own")
    task = find("task", name, hint="Or give a .jsonl file with problem/answer lines")()
    if not isinstance(task, Task):
        raise BadInput(f"task {name!r} has no examples()")
    return task


def where(error: BaseException) -> str:
    """The place in the code that raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames and not isinstance(error, OSError) else ""
