"""Names for parts: entry points, for built-ins and plugins alike, and functions in a user's own file.

Groups: `reasonweave.strategies` (workflows: functions that take roles and options and return a strategy),
`reasonweave.verifiers`, `reasonweave.tasks`, `reasonweave.models` (providers: the part of a model spec before the slash).
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.errors import BadInput, NotFound, described

GROUPS = {
    "workflow": "reasonweave.strategies",
    "verifier": "reasonweave.verifiers",
    "task": "reasonweave.tasks",
    "model provider": "reasonweave.models",
}


@cache
def _found(kind: str) -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUPS[kind])}


def names(kind: str) -> list[str]:
    """All names of a kind, built-in or from plugins, sorted."""
    return sorted(_found(kind))


def find(kind: str, name: str, *, hint: str = "") -> Any:
    """Load what a name stands for. Raises `NotFound` with the nearest names, or `BadInput` where a plugin is broken."""
    if (point := _found(kind).get(name)) is None:
        raise NotFound(kind, name, _found(kind), hint=hint)
    try:
        return point.load()
    except Exception as error:
        raise BadInput(f"{kind} {name!r} ({point.value}) cannot be loaded: {described(error)}") from error


def from_file(reference: str) -> Callable[..., Any]:
    """The function of a `path/to/file.py:function` reference."""
    path, _, name = reference.rpartition(":") if not reference.endswith(".py") else (reference, "", "")
    file = Path(path)
    if not file.is_file():
        raise BadInput(f"{reference!r}: there is no file {path!r}")
    spec = importlib.util.spec_from_file_location(f"reasonweave_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise BadInput(f"{reference!r}: {path!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if (folder := str(file.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)  # as `python file.py` does, so that it may import what lies beside it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadInput(f"{reference!r}: running {path!r} failed: {described(error)}") from error
    functions = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == spec.name]
    if not name:
        raise BadInput(f"{reference!r}: name a function of it, as {path}:{functions[0] if functions else 'workflow'}")
    if name not in functions:
        raise NotFound("workflow", name, functions, hint=f"(looked in {path})")
    return typing.cast("Callable[..., Any]", getattr(module, name))


@dataclass(frozen=True)
class Workflow:
    """A named function from roles and options to a strategy, with what its signature says about both."""

    name: str
    make: Callable[..., Any]

    @classmethod
    def named(cls, reference: str) -> Workflow:
        """A registered workflow, or `file.py:function`."""
        if ".py:" in reference or reference.endswith(".py"):
            return cls(reference.rpartition(":")[2].replace("_", "-"), from_file(reference))
        return cls(reference, find("workflow", reference, hint="Or give your own as file.py:function"))

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.make) or "").split("\n")[0]

    @property
    def roles(self) -> dict[str, type]:
        """The parameters without a default, by name: the models and verifiers that it needs."""
        try:
            hints = typing.get_type_hints(self.make)
        except NameError as error:
            raise BadInput(
                f"{self.name}: a type in its signature is unknown when it runs ({error}); import it"
            ) from error
        parameters = inspect.signature(self.make).parameters.values()
        needed = [p for p in parameters if p.default is inspect.Parameter.empty]
        for p in needed:
            if hints.get(p.name) in _NAMES or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                raise BadInput(
                    f"workflow {self.name}: its parameter {p.name!r} has no default, so it is a role, and a role takes a "
                    "model; give it a default to make it an option"
                )
        return {p.name: hints.get(p.name, object) for p in needed}

    @property
    def options(self) -> dict[str, Any]:
        """The parameters with a default: what `-S name=value` may set."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    def option(self, name: str, text: str) -> Any:
        """Read an option's value from text, by the type of its default."""
        if name not in self.options:
            raise NotFound(f"option of {self.name}", name, self.options)
        default = self.options[name]
        hint = typing.get_type_hints(self.make).get(name, type(default))
        kinds = typing.get_args(hint) or (hint,)
        for kind in kinds:
            if kind in _READERS:
                try:
                    return _READERS[kind](text)
                except (KeyError, ValueError):
                    pass
        told = " or ".join(_NAMES[kind] for kind in kinds if kind in _NAMES)
        if not told:
            raise BadInput(f"{self.name}: {name} cannot be set from the command line; its default is {default!r}")
        raise BadInput(f"{self.name}: {name}={text!r} is no {told}; its default is {default!r}")


_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_READERS: dict[Any, Callable[[str], Any]] = {
    bool: lambda text: _TRUTH[text.lower()],
    type(None): lambda text: {"none": None}[text.lower()],
    int: int,
    float: float,
    str: str,
}
_NAMES: dict[Any, str] = {bool: "true or false", type(None): "none", int: "whole number", float: "number", str: "text"}
