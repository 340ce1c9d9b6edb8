"""Names for parts: entry points, for built-ins and plugins alike, and functions in a user's own file.

Groups: `reasonweave.strategies` (workflows: functions that take roles and options and return a strategy),
`reasonweave.verifiers`, `reasonweave.tasks`, `reasonweave.models` (providers: the part of a model spec before the slash).
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar

from reasonweave.orchestrator.errors import BadInput, NotFound, described
from reasonweave.orchestrator.types import Candidate

GROUPS = {
    "workflow": "reasonweave.strategies",
    "verifier": "reasonweave.verifiers",
    "task": "reasonweave.tasks",
    "model provider": "reasonweave.models",
}


@cache
def _found(kind: str) -> Mapping[str, EntryPoint]:
    """The entry points of a kind by name. Two packages that take one name: the one that comes first by its own name has it, and
    `find` refuses it."""
    points = sorted(entry_points(group=GROUPS[kind]), key=_package, reverse=True)
    return {point.name: point for point in points}


@cache
def _claimed(kind: str, name: str) -> tuple[str, ...]:
    """The packages that take this name, sorted."""
    return tuple(sorted({_package(point) for point in entry_points(group=GROUPS[kind], name=name)}))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def names(kind: str) -> list[str]:
    """All names of a kind, built-in or from plugins, sorted."""
    return sorted(_found(kind))


def find(kind: str, name: str, *, hint: str = "") -> Any:
    """Load what a name stands for. Raises `NotFound` with the nearest names, or `BadInput` where a plugin is broken."""
    if (point := _found(kind).get(name)) is None:
        raise NotFound(kind, name, _found(kind), hint=hint)
    if len(packages := _claimed(kind, name)) > 1:
        raise BadInput(f"{kind} {name!r}: the packages {' and '.join(packages)} both bring one; uninstall one of them")
    try:
        return point.load()
    except Exception as error:
        raise BadInput(f"{kind} {name!r} ({point.value}) cannot be loaded: {described(error)}") from error


def origin(kind: str, name: str) -> str:
    """Which distribution a name comes from, with its version.

    >>> origin("verifier", "prm").split()[0]
    'reasonweave'
    """
    distribution = _found(kind)[name].dist
    return f"{distribution.name} {distribution.version}" if distribution else "an entry point without a distribution"


def is_file(reference: str) -> bool:
    """Is this `path/to/file.py:name`, or a file without the name?"""
    return ".py:" in reference or reference.endswith(".py")


def from_file(reference: str, kind: str, wanted: Callable[[object], bool]) -> Any:
    """What stands under `path/to/file.py:name`, which has to be `wanted` and to be made in that file.

    Raises `BadInput` for a file that is none, or fails, and `NotFound` with the names in it that would do.
    """
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
    made = {n: v for n, v in vars(module).items() if not n.startswith("_") and wanted(v)}
    foreign = [n for n, v in made.items() if (inspect.isroutine(v) or inspect.isclass(v)) and v.__module__ != spec.name]
    found = {n: v for n, v in made.items() if n not in foreign}
    if not name:
        one = "function" if kind == "workflow" else kind
        raise BadInput(f"{reference!r}: name a {one} of it, as {path}:{next(iter(found), one)}")
    if name not in found:
        raise NotFound(kind, name, found, hint=f"(looked in {path})")
    return found[name]


@dataclass(frozen=True)
class Recipe:
    """A named function (or class) from roles and options to a part, with what its signature says about both."""

    name: str
    make: Callable[..., Any]

    kind: ClassVar[str] = "part"

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.make) or "").split("\n")[0]

    @property
    def hints(self) -> dict[str, Any]:
        """The types of its parameters, by name."""
        plain = inspect.isclass(self.make) and not is_dataclass(self.make)
        try:
            return typing.get_type_hints(self.make.__init__ if plain else self.make)
        except NameError as error:
            raise BadInput(
                f"{self.name}: a type in its signature is unknown when it runs ({error}); import it"
            ) from error

    @property
    def roles(self) -> dict[str, Any]:
        """The parameters without a default, by name: the models and verifiers that it needs."""
        hints, needed = self.hints, [p for p in self._parameters if p.default is inspect.Parameter.empty]
        for p in needed:
            if hints.get(p.name) in _NAMES or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                raise BadInput(
                    f"{self.kind} {self.name}: its parameter {p.name!r} has no default, so it is a role, and a role takes a "
                    "model; give it a default to make it an option"
                )
        return {p.name: hints.get(p.name, object) for p in needed}

    @property
    def options(self) -> dict[str, Any]:
        """The parameters with a default: what may be set from the command line."""
        return {p.name: p.default for p in self._parameters if p.default is not inspect.Parameter.empty}

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        try:
            return list(inspect.signature(self.make).parameters.values())
        except (TypeError, ValueError) as error:
            raise BadInput(f"{self.kind} {self.name} has no signature to read ({error})") from error

    def option(self, name: str, text: str) -> Any:
        """Read an option's value from text, by the type of its default."""
        if name not in self.options:
            raise NotFound(f"option of {self.name}", name, self.options)
        default = self.options[name]
        hint = self.hints.get(name, type(default))
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


class Workflow(Recipe):
    """A recipe for a strategy."""

    kind: ClassVar[str] = "workflow"

    @classmethod
    def named(cls, reference: str) -> Workflow:
        """A registered workflow, or `file.py:function`."""
        if is_file(reference):
            return cls(
                reference.rpartition(":")[2].replace("_", "-"), from_file(reference, cls.kind, inspect.isfunction)
            )
        return cls(reference, find("workflow", reference, hint="Or give your own as file.py:function"))


class VerifierRecipe(Recipe):
    """A recipe for a verifier: a function that makes one, its class, or one that is ready."""

    kind: ClassVar[str] = "verifier"

    @classmethod
    def named(cls, reference: str) -> VerifierRecipe:
        """A registered verifier, or `file.py:name`."""
        if is_file(reference):
            found = from_file(reference, cls.kind, lambda each: inspect.isfunction(each) or hasattr(each, "score"))
            return cls(reference.rpartition(":")[2].replace("_", "-"), _maker(found))
        return cls(reference, _maker(find("verifier", reference, hint="Or give your own as file.py:name")))

    @property
    def is_rule(self) -> bool:
        """Is it a plain function that judges a candidate itself? Its one parameter without a default is a `Candidate`, or says
        nothing of its type."""
        needed = [p.name for p in self._parameters if p.default is inspect.Parameter.empty]
        if not inspect.isfunction(self.make) or len(needed) != 1:
            return False
        return self.hints.get(needed[0], Candidate) is Candidate

    @property
    def roles(self) -> dict[str, Any]:
        return {} if self.is_rule else super().roles

    def told(self, what: str) -> str:
        """What its docstring says after `Costs:` or `Needs:`, to the end of that sentence's paragraph; empty where it does not.

        >>> VerifierRecipe.named("confidence").told("Costs")
        'nothing.'
        """
        lines = iter((inspect.getdoc(self.make) or "").split("\n"))
        for line in lines:
            if line.startswith(f"{what}: "):
                return " ".join([line.removeprefix(f"{what}: "), *itertools.takewhile(_goes_on, lines)]).strip()
        return ""


def _goes_on(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(("Costs: ", "Needs: "))


def _maker(found: Any) -> Callable[..., Any]:
    """What makes the verifier: the class or function found, or a function that gives the one that is ready."""
    if inspect.isclass(found) or inspect.isfunction(found):
        return typing.cast("Callable[..., Any]", found)

    def ready() -> Any:
        return found

    ready.__doc__ = inspect.getdoc(found)
    return ready


_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_READERS: dict[Any, Callable[[str], Any]] = {
    bool: lambda text: _TRUTH[text.lower()],
    type(None): lambda text: {"none": None}[text.lower()],
    int: int,
    float: float,
    str: str,
}
_NAMES: dict[Any, str] = {bool: "true or false", type(None): "none", int: "whole number", float: "number", str: "text"}
