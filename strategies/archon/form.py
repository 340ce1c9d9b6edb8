"""Archon's published JSON: which components and fields there are, and which component may stand where.

All of it is checked before a model is asked for anything. A mistake is one line that says where it is.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from reasonweave.orchestrator.errors import BadInput

GENERATOR, FUSER, CRITIC, RANKER = "generator", "fuser", "critic", "ranker"
VERIFIER, TEST_GENERATOR, TEST_EVALUATOR = "verifier", "unit_test_generator", "unit_test_evaluator"


class Kind(NamedTuple):
    """What a field holds: what to call it in an error, and whether a value is one."""

    told: str
    holds: Callable[[Any], bool]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


TEXT = Kind("a text", lambda value: isinstance(value, str))
NAME = Kind("a text that is not empty", lambda value: isinstance(value, str) and bool(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
COUNT = Kind("a whole number, 1 or more", lambda value: _number(value) and isinstance(value, int) and value >= 1)
HEAT = Kind("a number, 0 or more", lambda value: _number(value) and value >= 0)
NUMBER = Kind("a number", _number)
OPTIONS = Kind("an object with the verifier's options", lambda value: isinstance(value, dict))

COMMON = {
    "type": NAME,
    "model": NAME,
    "model_type": TEXT,
    "temperature": HEAT,
    "max_tokens": COUNT,
    "max_context_length": COUNT,
    "samples": COUNT,
    "top_k": COUNT,
    "no_system": FLAG,
}
OURS = {"verifier": NAME, "options": OPTIONS}
"""Not published: any registered verifier in a component's place, by name, with its options."""

FIELDS: dict[str, dict[str, Kind]] = {
    GENERATOR: COMMON,
    FUSER: COMMON | {"length_control": FLAG},
    CRITIC: COMMON,
    RANKER: COMMON | OURS | {"use_critiques": FLAG, "ranker_batch_size": COUNT},
    VERIFIER: COMMON | OURS | {"first_k": COUNT, "batch_num": COUNT, "threshold": NUMBER},
    TEST_GENERATOR: COMMON | {"unit_test_cap": COUNT},
    TEST_EVALUATOR: COMMON
    | OURS
    | {"unit_test_cap": COUNT, "remove_unit_tests_from_prompt": FLAG, "first_k": COUNT, "first_pass": FLAG},
}
CONFIG = "name", "layers", "custom", "save_path"
LAYER = "models", "branches"


@dataclass(frozen=True)
class Component:
    """One component of a config. `where` is its place, for errors; fields that are null are as if they were not there."""

    type: str
    fields: Mapping[str, Any]
    where: str

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)


def read_config(path: str | Path) -> Mapping[str, Any]:
    """The JSON of a config file. Raises `BadInput` for a file that is none."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"Archon config {str(path)!r} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BadInput(f"Archon config {str(path)!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f"Archon config {str(path)!r}: an object with layers is needed, not {_shown(found)}")
    return found


def layers_of(config: Mapping[str, Any], name: str) -> list[list[Component]]:
    """The layers of a config, its form and its order checked; `name` is what errors call it.

    A layer is a list of components or, in the older form, an object with them as `models`; its `branches` multiply their
    samples.
    """
    _known(name, "field", config, CONFIG)
    for field, kind in (("name", TEXT), ("custom", FLAG), ("save_path", TEXT)):
        _check(name, field, config.get(field), kind)
    given = config.get("layers")
    if not isinstance(given, list) or not given:
        raise BadInput(f"{name}: layers={_shown(given)}; a list of layers is needed, each a list of components")
    layers = [_layer(layer, f"{name}, layer {number}") for number, layer in enumerate(given, 1)]
    _check_order(layers, name)
    return layers


def _layer(given: Any, where: str) -> list[Component]:
    branches = 1
    if isinstance(given, dict):
        _known(where, "field", given, LAYER)
        _check(where, "branches", given.get("branches"), COUNT)
        branches = given.get("branches") or 1
        given = given.get("models")
    if not isinstance(given, list) or not given:
        raise BadInput(f"{where}: a list of components is needed, not {_shown(given)}")
    found = [_component(each, f"{where}, component {number}") for number, each in enumerate(given, 1)]
    return [_branched(component, branches) for component in found]


def _branched(component: Component, branches: int) -> Component:
    if branches == 1:
        return component
    if component.type not in (GENERATOR, FUSER):
        raise BadInput(f"{component.where}: branches={branches} multiplies samples, and a {component.type} makes none")
    return replace(component, fields={**component.fields, "samples": branches * component.get("samples", 1)})


def _component(given: Any, where: str) -> Component:
    if not isinstance(given, dict):
        raise BadInput(f"{where}: an object with type and model is needed, not {_shown(given)}")
    kind = given.get("type")
    if not isinstance(kind, str):
        raise BadInput(f"{where}: it has no type; known types: {', '.join(FIELDS)}")
    if kind not in FIELDS:
        raise BadInput(
            f"{where}: unknown type {kind!r}{_near(kind, FIELDS)} Known: {', '.join(FIELDS)}. Components of your own are written "
            "in Python, as strategies of a graph"
        )
    where = f"{where} ({kind})"
    _known(where, "field", given, FIELDS[kind])
    fields = {field: value for field, value in given.items() if value is not None}
    for field, value in fields.items():
        _check(where, field, value, FIELDS[kind][field])
    if "model" not in fields:
        raise BadInput(f"{where}: it has no model")
    if "options" in fields and "verifier" not in fields and kind != TEST_EVALUATOR:
        raise BadInput(f"{where}: options are those of a verifier; name it in the field verifier")
    return Component(kind, fields, where)


def _check_order(layers: Sequence[Sequence[Component]], name: str) -> None:
    """The published rules: who may stand first, who must stand alone, who needs whom before or after it."""
    candidates = tests = False
    for i, layer in enumerate(layers):
        first = layer[0]
        together = GENERATOR if first.type == GENERATOR else FUSER
        if other := next((c for c in layer[1:] if c.type != together or first.type != together), None):
            raise BadInput(
                f"{other.where}: it cannot share a layer with a {first.type}; generators stand with generators, fusers with "
                "fusers, all others alone"
            )
        if first.type == GENERATOR and candidates:
            raise BadInput(
                f"{first.where}: generators make the first candidates, and stand in one layer alone; use a fuser"
            )
        if first.type not in (GENERATOR, TEST_GENERATOR) and not candidates:
            raise BadInput(f"{first.where}: there are no candidates yet; the first layer is of generators")
        if first.type == CRITIC and not any(c.type in (RANKER, FUSER) for later in layers[i + 1 :] for c in later):
            raise BadInput(f"{first.where}: no ranker or fuser comes after it, so nobody would read what it writes")
        if first.type == TEST_EVALUATOR and not tests:
            raise BadInput(f"{first.where}: no unit_test_generator comes before it, so there are no unit tests")
        candidates = candidates or first.type == GENERATOR
        tests = tests or first.type == TEST_GENERATOR
    if not candidates:
        raise BadInput(f"{name}: no layer has a generator, so there are no candidates")


def _known(where: str, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise BadInput(f"{where}: unknown {what} {name!r}{_near(name, known)} Known: {', '.join(known)}")


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."


def _check(where: str, field: str, value: Any, kind: Kind) -> None:
    if value is not None and not kind.holds(value):
        raise BadInput(f"{where}: {field}={_shown(value)}; {kind.told} is needed")


def _shown(value: Any) -> str:
    return f"{json.dumps(value, default=repr):.60}"
