"""From what a user writes on the command line to parts: models for roles, options, tasks."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.errors import BadInput, NotFound, ReasonweaveError, described
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.models.spec import open_model
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.registry import Recipe, VerifierRecipe, Workflow, find
from reasonweave.orchestrator.scoring import range_of
from reasonweave.tasks.base import Task
from reasonweave.tasks.evaluation.display import stderr
from reasonweave.tasks.jsonl import JsonlTask
from reasonweave.verifiers.judge import UtilityDigit
from reasonweave.verifiers.prm import ProcessReward
from reasonweave.verifiers.rule import Rule
from reasonweave.verifiers.scaled import Scaled

if TYPE_CHECKING:
    from reasonweave.orchestrator.models.roles import RoleSpec  # heavy: it brings the HTTP client

JUDGE = "judge"
"""A verifier role of this name is the large model's, by one token, where nobody else is named for it."""
LAB = {"small": "lab/small", "large": "lab/large", "prm": "lab/prm"}


@dataclass(frozen=True)
class Chosen:
    """A verifier that was named on the command line, with its options."""

    recipe: VerifierRecipe
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.recipe.name, *(f"{name}={value}" for name, value in self.options.items())])


class Models:
    """The models of a command, opened once a spec and role. `verifiers` are those named for a role of a workflow, "" for every
    role that takes one."""

    def __init__(
        self,
        specs: Mapping[str, str],
        served: Mapping[str, RoleSpec] | None = None,
        verifiers: Mapping[str, Chosen] | None = None,
    ) -> None:
        self.served = dict(served or {})
        self.specs = {role: str(spec) for role, spec in self.served.items()} | dict(specs)
        self.verifiers = dict(verifiers or {})
        self._said = set(specs)
        self._open: dict[str, Model | RewardModel] = {}

    def bind(self, workflow: Workflow, options: Mapping[str, Any]) -> tuple[Strategy, dict[str, str]]:
        """The strategy of a workflow over these models, and the spec of each role that it uses."""
        self.check([workflow])
        named = chosen_for(workflow, self.verifiers)
        chosen = {role: in_range(role, self.verifier(each)) for role, each in named.items()}
        opened = {role: self._opened(role) for role in workflow.roles if role in self.specs and role not in chosen}
        parts = fill(workflow, opened, chosen)
        strategy = _made(workflow, parts, options)
        if isinstance(strategy, type):
            raise BadInput(
                f"workflow {workflow.name} returned the class {strategy.__name__}; did you mean {strategy.__name__}(…)?"
            )
        if not isinstance(strategy, Strategy):
            raise BadInput(f"workflow {workflow.name} returned {type(strategy).__name__}, not a strategy")
        used = needs(workflow, self.verifiers)
        return strategy, {role: self.specs[role] for role in used if role in self.specs}

    def verifier(self, chosen: Chosen) -> Verifier:
        """A verifier over these models."""
        self.check([chosen.recipe])
        opened = {role: self._opened(role) for role in chosen.recipe.roles if role in self.specs}
        if JUDGE in chosen.recipe.roles and JUDGE not in opened and "large" in self.specs:
            opened["large"] = self._opened("large")
        if chosen.recipe.is_rule:
            judged = partial(chosen.recipe.make, **chosen.options)
            return Rule(update_wrapper(judged, chosen.recipe.make))
        made = _made(chosen.recipe, fill(chosen.recipe, opened), chosen.options)
        if not isinstance(made, Verifier) or isinstance(made, type):
            raise BadInput(
                f"verifier {chosen.recipe.name} is {made!r:.80}, which has no score(candidates, run); return a verifier from it, "
                "or make one of a plain function with Rule(function)"
            )
        return made

    def _opened(self, role: str) -> Model | RewardModel:
        if role not in self._open:
            served = self.served.get(role) if role not in self._said else None
            opened = served.open(role) if served else open_model(self.specs[role], role=role)
            for other, known in self._open.items():
                if known.name == opened.name and self.specs[other] != self.specs[role]:
                    opened.name = self.specs[role]  # two folders of one name are two models
            self._open[role] = opened
        return self._open[role]

    def check(self, recipes: Sequence[Recipe]) -> None:
        """Raises `BadInput` where a workflow or verifier has a role that nobody is named for."""
        for recipe in recipes:
            for role, whose in needs(recipe, self.verifiers).items():
                large = "large" in self.specs if isinstance(whose, VerifierRecipe) else "large" in recipe.roles
                if role not in self.specs and not (role == JUDGE and large):
                    flag = f"--{role} SPEC" if role in LAB else f"--model-role {role}=SPEC"
                    raise BadInput(
                        f"{whose.kind} {whose.name} needs a model for its role {role!r}: add {flag}, as in "
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
        if any(b.usd is not None for b in limited) and not self.priced:
            stderr().print("note: no model here has a price, so usd limits nothing", highlight=False)

    @property
    def priced(self) -> bool:
        """Has any of the models that are open a price?"""
        return any(m.rates.usd_prompt or m.rates.usd_completion for m in self._open.values())

    async def aclose(self) -> None:
        for model in self._open.values():
            await model.aclose()


def chosen_for(recipe: Recipe, verifiers: Mapping[str, Chosen]) -> dict[str, Chosen]:
    """Which of a workflow's roles a verifier was named for; none of a verifier's own."""
    if isinstance(recipe, VerifierRecipe) or not verifiers:
        return {}
    taking = [role for role, kind in recipe.roles.items() if kind is Verifier]
    return {role: found for role in taking if (found := verifiers.get(role) or verifiers.get(""))}


def needs(recipe: Recipe, verifiers: Mapping[str, Chosen]) -> dict[str, Recipe]:
    """The roles that need a model, each with whose it is: the recipe's own and, in place of those that a verifier was named for,
    that verifier's."""
    chosen = chosen_for(recipe, verifiers)
    own: dict[str, Recipe] = dict.fromkeys((role for role in recipe.roles if role not in chosen), recipe)
    for named in chosen.values():
        for role in named.recipe.roles:
            own.setdefault(role, named.recipe)
    return own


def verifiers_of(given: Sequence[str], settings: Sequence[str], workflows: Sequence[Workflow]) -> dict[str, Chosen]:
    """The verifiers of `--verifier [ROLE=]NAME` and `-V name=value`, by role; "" where none is named.

    Raises `NotFound` for a role that no workflow has a verifier in, and `BadInput` where no workflow takes a verifier at all.
    """
    taking = {role for w in workflows for role, kind in w.roles.items() if kind is Verifier}
    found: dict[str, Chosen] = {}
    for text in given:
        role, equals, name = text.partition("=")
        role, name = (role, name) if equals else ("", text)
        if not taking:
            raise BadInput(
                f"--verifier {text}: {', '.join(w.name for w in workflows)} takes no verifier; best-of-n does"
            )
        if role and role not in taking:
            raise NotFound(
                "verifier role", role, taking, hint=f"Those are the roles of {', '.join(w.name for w in workflows)}"
            )
        if role in found:
            raise BadInput(
                f"--verifier {text}: there is one for {f'the role {role}' if role else 'every role'} already"
            )
        found[role] = Chosen(VerifierRecipe.named(name))
    if settings and not found:
        raise BadInput(f"-V {settings[0]} sets an option of a verifier: name it with --verifier")
    options = settings_of(settings, [chosen.recipe for chosen in found.values()], flag="-V")
    return {role: replace(c, options=o) for (role, c), o in zip(found.items(), options, strict=True)}


def _made(recipe: Recipe, parts: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """What a recipe makes of these parts. A mistake in it is told with its place."""
    try:
        return recipe.make(**parts, **options)
    except ReasonweaveError:
        raise
    except Exception as error:
        raise BadInput(f"{recipe.kind} {recipe.name} cannot be made: {described(error)}{where(error)}") from error


def in_range(role: str, verifier: Verifier) -> Verifier:
    """A verifier in the range that a role reads: 0..9 for a judge, as SpecReason's thresholds do, 0..1 for all others. One that
    declares no range stays as it is."""
    wanted = UtilityDigit.highest if role == JUDGE else 1.0
    ends = range_of(verifier)
    known = all(map(math.isfinite, ends)) and ends != (0.0, wanted)
    return Scaled(verifier, wanted) if known else verifier


def fill(
    recipe: Recipe, models: Mapping[str, Model | RewardModel], verifiers: Mapping[str, Verifier] | None = None
) -> dict[str, Any]:
    """What a workflow or a verifier is given for each of its roles: a model, or the verifier that a model makes.

    A verifier's role is filled by the one in `verifiers`, else by a reward model, or by a model as a one-token judge; the role
    `judge`, where nobody is named for it, by the large model. Raises `BadInput` for a reward model in a role that generates text,
    and for a model in one that rates.
    """
    parts: dict[str, Any] = dict(verifiers or {})
    for role, kind in recipe.roles.items():
        if role in parts:
            continue
        model = models[role] if role in models or role != JUDGE else models["large"]
        rates = isinstance(model, RewardModel)
        if kind is Verifier:
            judge = ProcessReward(model) if isinstance(model, RewardModel) else UtilityDigit(model)
            parts[role] = in_range(role, judge)
        elif rates and kind is not RewardModel:
            raise BadInput(f"role {role!r}: {model.name} is a reward model; this role generates text")
        elif kind is RewardModel and not rates:
            raise BadInput(f"role {role!r}: {model.name} generates text; this role is for a reward model, as lab/prm")
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


def check_roles(
    recipes: Sequence[Recipe],
    budget: Budget,
    given: Sequence[str],
    verifiers: Mapping[str, Chosen] | None = None,
) -> None:
    """A role that no workflow or verifier has is a typing error, and would limit or name nothing."""
    known = {role for recipe in recipes for role in needs(recipe, verifiers or {})}
    for role in (*budget.roles, *(pair.partition("=")[0] for pair in given)):
        if role not in known:
            raise NotFound("role", role, known, hint=f"Those are the roles of {', '.join(r.name for r in recipes)}")


def settings_of(pairs: Sequence[str], recipes: Sequence[Recipe], *, flag: str = "-S") -> list[dict[str, Any]]:
    """Each recipe's options. A name must be known to one of them at least."""
    chosen: list[dict[str, Any]] = [{} for _ in recipes]
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found:
            raise BadInput(f"{flag} {pair!r}: write NAME=VALUE")
        takers = [i for i, recipe in enumerate(recipes) if name in recipe.options]
        if not takers:
            raise NotFound("option", name, {option for recipe in recipes for option in recipe.options})
        for i in takers:
            chosen[i][name] = recipes[i].option(name, value)
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
