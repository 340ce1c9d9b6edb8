"""From a published Archon config to a graph that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from reasonweave.orchestrator.errors import BadInput, UserError, described
from reasonweave.orchestrator.graph import Graph
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.registry import VerifierRecipe
from reasonweave.strategies.archon.conclusion import conclude, distinct
from reasonweave.strategies.archon.critic import Critic
from reasonweave.strategies.archon.form import (
    CRITIC,
    FUSER,
    GENERATOR,
    RANKER,
    TEST_EVALUATOR,
    TEST_GENERATOR,
    VERIFIER,
    Component,
    layers_of,
    read_config,
)
from reasonweave.strategies.archon.fuser import Fuser
from reasonweave.strategies.archon.ranker import Ranked, Ranker
from reasonweave.strategies.archon.unit_tests import AsAsked, UnitTestGenerator
from reasonweave.strategies.archon.verdict import Filter, ReasonedVerdict
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.best_of_n import BestOfN

Judge: TypeAlias = Model | RewardModel | Verifier
"""What a model's name may stand for: a model or, in a component that judges, a reward model or a verifier."""
Judges: TypeAlias = Judge | Mapping[str, Judge] | Callable[[str], Judge]
"""One for all names of a config, or the one of each name, as a mapping or a function."""

Resolve: TypeAlias = Callable[[str], object]

PAIR_RM = "llm-blender/PairRM"
"""The ranker that is no language model."""
TEMPERATURE, MAX_TOKENS = 0.7, 2048
"""Where a component says nothing of them."""


def from_archon(path: str | Path, models: Judges) -> Graph:
    """The graph of a published Archon config (Saad-Falcon et al., 2024, arXiv 2409.15254): a node a component, in layers.

    `models` says what the config's model names stand for: one model for all of them, a mapping, or a function of the name.
    What the last layer leaves is concluded (`conclude`); where there is no answer, the first generator is made to give one.

    Raises `BadInput`, naming layer and component, for what is no config: an unknown type or field, a value that cannot be,
    a name that `models` does not have, an order that is against the published rules.
    """
    return graph_of(read_config(path), models, name=Path(path).name)


def graph_of(config: Mapping[str, Any], models: Judges, *, name: str = "the config") -> Graph:
    """`from_archon` of a config that is read already; `name` is what errors call it."""
    layers, resolve = layers_of(config, name), _asked_for(models)
    parts = [[_part(component, resolve) for component in layer] for layer in layers]
    first = next(c for layer in layers for c in layer if c.type == GENERATOR)
    graph = Graph(finish=ForceAnswer(_model(first, resolve)))
    after: tuple[str, ...] = ()
    for number, (layer, made) in enumerate(zip(layers, parts, strict=True), 1):
        names = [f"{number}-{c.type}" + (f"-{at}" if len(layer) > 1 else "") for at, c in enumerate(layer, 1)]
        after = tuple([graph.add(label, part, after=after) for label, part in zip(names, made, strict=True)])
        if len(after) > 1 and layer[0].type != GENERATOR:
            after = (graph.add(f"{number}-distinct", distinct, after=after),)
    graph.add("conclude", conclude, after=after)
    return graph


def _part(component: Component, resolve: Resolve) -> Strategy:
    """The strategy of a component. Every mistake is told with its place."""
    try:
        return _MADE[component.type](component, resolve)
    except UserError as error:
        raise BadInput(f"{component.where}: {error}") from error


def _sampled(component: Component) -> dict[str, Any]:
    """How a component's replies are sampled."""
    most = component.get("max_tokens", component.get("max_context_length", MAX_TOKENS))
    return {"temperature": component.get("temperature", TEMPERATURE), "max_tokens": most}


def _generator(component: Component, resolve: Resolve) -> Strategy:
    return BestOfN(whole(_model(component, resolve), **_sampled(component)), n=component.get("samples", 1), max_steps=1)


def _fuser(component: Component, resolve: Resolve) -> Strategy:
    brief = component.get("length_control", False)
    return Fuser(_model(component, resolve), component.get("samples", 1), brief, **_sampled(component))


def _critic(component: Component, resolve: Resolve) -> Strategy:
    return Critic(_model(component, resolve), **_sampled(component))


def _ranker(component: Component, resolve: Resolve) -> Strategy:
    found, top_k = _resolved(component, resolve), component.get("top_k")
    if isinstance(found, Model) and component.get("verifier") is None and component.get("model") != PAIR_RM:
        return Ranker(found, top_k, component.get("use_critiques", True), **_sampled(component))
    return Ranked(_verifier(component, found, "pairwise"), top_k)


def _filter(component: Component, resolve: Resolve) -> Strategy:
    found = _resolved(component, resolve)
    if isinstance(found, Model) and component.get("verifier") is None:
        judge: Verifier = ReasonedVerdict(found, **_sampled(component))
    else:
        judge = _verifier(component, found, None)
    return Filter(judge, component.get("threshold"), component.get("first_k"))


def _test_generator(component: Component, resolve: Resolve) -> Strategy:
    return UnitTestGenerator(_model(component, resolve), component.get("unit_test_cap", 8), **_sampled(component))


def _test_evaluator(component: Component, resolve: Resolve) -> Strategy:
    judge = _verifier(component, _resolved(component, resolve), "unit-tests")
    shown = AsAsked(judge) if component.get("remove_unit_tests_from_prompt", False) else judge
    return Ranked(shown, component.get("top_k"), component.get("first_k", 1 if component.get("first_pass") else None))


_MADE: dict[str, Callable[[Component, Resolve], Strategy]] = {
    GENERATOR: _generator,
    FUSER: _fuser,
    CRITIC: _critic,
    RANKER: _ranker,
    VERIFIER: _filter,
    TEST_GENERATOR: _test_generator,
    TEST_EVALUATOR: _test_evaluator,
}


def _asked_for(models: Judges) -> Resolve:
    """What stands for a name in `models`; a function is asked once a name."""
    if isinstance(models, Mapping):

        def found(name: str) -> object:
            if name not in models:
                raise BadInput(f"no model for {name!r}; models has {', '.join(map(repr, models)) or 'none'}")
            return models[name]

        return found
    if isinstance(models, Model | RewardModel | Verifier) or not callable(models):
        return lambda name: models
    return cache(models)


def _resolved(component: Component, resolve: Resolve) -> Judge:
    """What stands for a component's model name. Raises `BadInput` where nothing does, or what can neither write nor judge."""
    name = str(component.get("model"))
    found = resolve(name)
    if isinstance(found, type) or not isinstance(found, Model | RewardModel | Verifier):
        raise BadInput(f"for {name!r} models gives {found!r:.60}, which is no model")
    return found


def _model(component: Component, resolve: Resolve) -> Model:
    found = _resolved(component, resolve)
    if not isinstance(found, Model):
        raise BadInput(f"{component.get('model')!r} is {found!r:.60}, which writes nothing; give a model")
    return found


def _verifier(component: Component, found: Judge, otherwise: str | None) -> Verifier:
    """The verifier that a component names, else the one that stands for its model's name, else the one called `otherwise`,
    over its model."""
    named = component.get("verifier")
    if named is None and not isinstance(found, Model | RewardModel):
        return found
    if named is None:
        named = "prm" if isinstance(found, RewardModel) else otherwise
    return _recipe(VerifierRecipe.named(str(named)), found, component)


def _recipe(recipe: VerifierRecipe, found: Judge, component: Component) -> Verifier:
    """A verifier by name, all its roles filled by one model, asked for replies as long as the component's."""
    options = component.get("options", {})
    if recipe.is_rule:
        raise BadInput(f"verifier {recipe.name} is a plain function; name a Rule of it that stands in the same file")
    if unknown := [name for name in options if name not in recipe.options]:
        known = ", ".join(recipe.options) or "none"
        raise BadInput(f"verifier {recipe.name} has no option {unknown[0]!r}; it has: {known}")
    for role, kind in recipe.roles.items():
        if not isinstance(kind, type) or not isinstance(found, kind):
            needed = getattr(kind, "__name__", str(kind))
            raise BadInput(f"verifier {recipe.name} needs a {needed} for its role {role!r}, and {found!r:.60} is none")
    try:
        made = recipe.make(**dict.fromkeys(recipe.roles, found), **options)
    except (TypeError, ValueError) as error:
        raise BadInput(f"verifier {recipe.name} cannot be made with {options}: {described(error)}") from error
    if isinstance(made, type) or not isinstance(made, Verifier):
        raise BadInput(f"verifier {recipe.name} is {made!r:.60}, which has no score(candidates, run)")
    if "max_tokens" in component.fields and "max_tokens" not in options and _has_field(made, "max_tokens"):
        return replace(made, max_tokens=component.get("max_tokens"))  # type: ignore[type-var]
    return made


def _has_field(part: object, name: str) -> bool:
    return is_dataclass(part) and any(field.name == name and field.init for field in fields(part))
