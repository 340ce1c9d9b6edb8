"""Names for parts: entry points, for built-ins and plugins alike, and functions in a user's own file.

Groups: `reasonweave.strategies` (workflows: functions that take roles and options and return a strategy),
`reasonweave.verifiers`, `reasonweave.tasks`, `reasonweave.models` (providers: the part of a model spec before the slash).
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import itertools
import json
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union

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


def is_saved(reference: str) -> bool:
    """Is this `path/to/front.json:name`, or such a file without the name?"""
    return ".json:" in reference or reference.endswith(".json")


def file_of(reference: str) -> Path:
    """The file that a reference to something in it names.

    >>> file_of("flows.py:vote").name, file_of("flows.py").name, file_of("front.json:t3").name
    ('flows.py', 'flows.py', 'front.json')
    """
    return Path(reference if reference.endswith((".py", ".json")) else reference.rpartition(":")[0])


def from_file(reference: str, kind: str, wanted: Callable[[object], bool]) -> Any:
    """What stands under `path/to/file.py:name`, which has to be `wanted` and to be made in that file. Without the name, what is
    called as its kind is (`workflow`), or the only thing of that kind.

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
    if not name and (kind in found or len(found) == 1):
        name = kind if kind in found else next(iter(found))  # nothing else can be meant
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
        return (inspect.getdoc(self._source) or "").split("\n")[0]

    @property
    def hints(self) -> dict[str, Any]:
        """The types of its parameters, by name."""
        return self._hints(extras=False)

    @property
    def annotations(self) -> dict[str, Any]:
        """The types of its parameters with what `Annotated` says of them, by name."""
        return self._hints(extras=True)

    @property
    def _source(self) -> Callable[..., Any]:
        """The function that was written, under the options that a saved workflow sets."""
        found = self.make
        while isinstance(found, partial):
            found = found.func
        return found

    def _hints(self, *, extras: bool) -> dict[str, Any]:
        source = self._source
        plain = inspect.isclass(source) and not is_dataclass(source)
        try:
            return typing.get_type_hints(source.__init__ if plain else source, include_extras=extras)
        except NameError as error:
            raise BadInput(
                f"{self.name}: a type in its signature is unknown when it runs ({error}); import it"
            ) from error

    @property
    def roles(self) -> dict[str, Any]:
        """The parameters without a default, by name: the models and verifiers that it needs."""
        hints, needed = self.hints, [p for p in self._parameters if p.default is inspect.Parameter.empty]
        for p in needed:
            if _is_option(hints.get(p.name)) or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
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
        """Read an option's value from text, by its annotation or the type of its default.

        Raises `NotFound` for a name that it does not have, `BadInput` for a value that the option cannot have.
        """
        if name not in self.options:
            raise NotFound(f"option of {self.name}", name, self.options)
        default = self.options[name]
        kinds = list(alternatives(self.hints.get(name, type(default))))
        for kind in kinds:
            read = _exactly(kind.value) if isinstance(kind, Exactly) else _READERS.get(kind)
            if read is not None:
                try:
                    return read(text)
                except (KeyError, ValueError):
                    pass
        values = [str(kind) for kind in kinds if isinstance(kind, Exactly)]
        types_ = [_NAMES[kind] for kind in kinds if not isinstance(kind, Exactly) and kind in _NAMES]
        if not values and not types_:
            raise BadInput(f"{self.name}: {name} cannot be set from the command line; its default is {default!r}")
        kind, choice = " or ".join(types_), f"one of {', '.join(values)}"
        told = f"neither {kind} nor {choice}" if types_ and values else f"no {kind}" if types_ else f"not {choice}"
        near = difflib.get_close_matches(text, values, n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else ";"
        raise BadInput(f"{self.name}: {name}={text!r} is {told}{guess} its default is {default!r}")


@dataclass(frozen=True)
class Exactly:
    """One value that an option may have: a member of a `Literal`."""

    value: Any

    def __str__(self) -> str:
        """The value as the command line takes it."""
        return str(self.value).lower() if self.value is None or isinstance(self.value, bool) else str(self.value)


def alternatives(hint: Any) -> Iterator[Any]:
    """What a value may be: the members of a union, each value of a `Literal` as an `Exactly`, else the type itself.

    >>> list(alternatives(int | None)), [str(kind) for kind in alternatives(Literal["beam", None])]
    ([<class 'int'>, <class 'NoneType'>], ['beam', 'none'])
    """
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from alternatives(hint.__origin__)
    elif origin is Literal:
        yield from map(Exactly, typing.get_args(hint))
    elif origin is Union or origin is types.UnionType:
        for part in typing.get_args(hint):
            yield from alternatives(part)
    else:
        yield hint


def _exactly(value: Any) -> Callable[[str], Any]:
    """A reader of this one value, written as its type is."""

    def read(text: str) -> Any:
        if _READERS[type(value)](text) != value:
            raise ValueError(text)
        return value

    return read


def _is_option(hint: Any) -> bool:
    """Is this the type of an option, and not of a role?"""
    return any(isinstance(kind, Exactly) or kind in _NAMES for kind in alternatives(hint) if kind is not type(None))


class Workflow(Recipe):
    """A recipe for a strategy."""

    kind: ClassVar[str] = "workflow"

    @classmethod
    def named(cls, reference: str) -> Workflow:
        """A registered workflow, `file.py:function` (without the function, the one called `workflow`), or `front.json:name`, as
        `reasonweave tune` saves them."""
        if is_saved(reference):
            return cls._saved(reference)
        if is_file(reference):
            made = from_file(reference, cls.kind, inspect.isfunction)
            plain = made.__name__ == cls.kind  # a file of one workflow: the file's name says more
            name = Path(reference.rpartition(":")[0] or reference).stem if plain else made.__name__
            return cls(name.replace("_", "-"), made)
        return cls(reference, find("workflow", reference, hint="Or give your own as file.py:function"))

    @classmethod
    def _saved(cls, reference: str) -> Workflow:
        """A workflow with the options of one entry of a saved front as its defaults.

        Raises `BadInput` for a file that is none, and for options that the workflow does not have any more; `NotFound` with the
        names in the file.
        """
        file = file_of(reference)
        path, name = str(file), "" if reference.endswith(".json") else reference.rpartition(":")[2]
        try:
            front = json.loads(file.read_text(encoding="utf-8"))
            entries = {str(entry["name"]): dict(entry["options"]) for entry in front["entries"]}
            written, beside = str(front["workflow"]), front.get("beside")
        except OSError as error:
            raise BadInput(f"{reference!r}: {path!r} cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(f"{reference!r}: {path!r} is no front that `reasonweave tune` saved") from None
        if not name:
            raise BadInput(f"{reference!r}: name a workflow of it, as {path}:{next(iter(entries), 'name')}")
        if name not in entries:
            raise NotFound(cls.kind, name, entries, hint=f"(looked in {path})")
        if (is_file(written) or is_saved(written)) and not file_of(written).is_file() and beside:
            written = str(file.parent / beside)
        original, options = cls.named(written), entries[name]
        if unknown := sorted(set(options) - set(original.options)):
            told = f"{path}: {name} sets {', '.join(unknown)}, and {written} has no such option any more"
            raise BadInput(f"{told}; tune it again")
        return cls(name, partial(original.make, **options))


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
