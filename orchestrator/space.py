"""Where to look for a workflow's options: the search space of `reasonweave tune`, read off the signature.

    def flow(
        small: Model,
        *,
        search: Literal["best-of-n", "beam"] = "best-of-n",
        n: Annotated[int, Between(1, 64, log=True)] = 16,
        temperature: Annotated[float, OneOf(0.0, 0.4, 0.8)] = 0.8,
        max_tokens: int = 1024,
    ): ...

Of an option that says nothing, the default decides: a whole number of 1 or more is looked for from 1 to four times as much,
evenly in the logarithm; a number in 0..1 evenly there; a bool is both. A `Literal` is each of its values. Everything else stays
as it is, and so do options called `max_…`: a ceiling costs nothing until it cuts an answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.registry import Exactly, Recipe, alternatives

REACH = 4
"""How many times a whole number's default the search reaches, where nothing is said."""
CEILING = "max_"
"""How options begin that stay as they are unless they are annotated."""


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included: evenly, evenly in its logarithm (`log`), or on a grid (`step`).

    Raises `BadInput` where that is no range.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        told = f"Between({self.low!r}, {self.high!r})"
        if not all(_is_number(end) for end in (self.low, self.high)) or not self.low < self.high:
            raise BadInput(f"{told}: two finite numbers are needed, the smaller one first")
        if self.log and self.low <= 0:
            raise BadInput(f"{told}, log=True: a logarithm needs a range above 0")
        if self.step is not None and (not _is_number(self.step) or self.step <= 0 or self.log):
            raise BadInput(f"{told}, step={self.step!r}: a step is a number above 0, and not for log=True")

    def __contains__(self, value: object) -> bool:
        return _is_number(value) and self.low <= float(value) <= self.high  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', by logarithm' if self.log else ''}"


@dataclass(frozen=True, init=False)
class OneOf:
    """One of these values: texts, numbers, bools, None. Raises `BadInput` for none, or one that is given twice."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)
        if not values or any(_same(a, b) for i, a in enumerate(values) for b in values[:i]):
            raise BadInput(f"OneOf{values!r}: one value or more is needed, each once")
        if wrong := [value for value in values if not isinstance(value, str | int | float | bool | None)]:
            raise BadInput(f"OneOf: {wrong[0]!r} is no text, number, bool or None")

    def __contains__(self, value: object) -> bool:
        return any(_same(value, each) for each in self.values)

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class Fixed:
    """Not looked for: the option stays at its default. `n: Annotated[int, Fixed()] = 16`."""


@dataclass(frozen=True)
class Axis:
    """One option that is looked for. `whole` says that it is a whole number."""

    name: str
    default: Any
    within: Between | OneOf
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.within}"


@dataclass(frozen=True)
class Space:
    """The options of a workflow that are looked for, those that are set, and those that are left at their defaults."""

    axes: tuple[Axis, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    """Options that stay as they are, each with why."""

    @classmethod
    def of(cls, recipe: Recipe, fixed: Mapping[str, Any] | None = None) -> Space:
        """Read a recipe's signature; `fixed` are options with a value of their own.

        Raises `BadInput` where nothing is left to look for, and for an annotation that does not fit its option.
        """
        fixed = dict(fixed or {})
        axes: list[Axis] = []
        left: dict[str, str] = {}
        for name, default in recipe.options.items():
            if name in fixed:
                continue
            found = _axis(recipe, name, default)
            if isinstance(found, Axis):
                axes.append(found)
            else:
                left[name] = found
        if not axes:
            known = "; ".join(f"{name} {why}" for name, why in left.items()) or "it has no options, or all are set"
            raise BadInput(
                f"workflow {recipe.name} has nothing to tune: {known}. Give an option a range, as "
                "n: Annotated[int, Between(1, 64, log=True)] = 16, or a choice, as Literal['beam', 'rebase']"
            )
        return cls(tuple(axes), fixed, left)

    @property
    def defaults(self) -> dict[str, Any]:
        """The value of each axis that the workflow has by itself."""
        return {axis.name: axis.default for axis in self.axes}

    def corners(self) -> Iterator[dict[str, Any]]:
        """The defaults, and the defaults with each other value of each choice: where a search had better begin."""
        yield self.defaults
        for axis in self.axes:
            if isinstance(axis.within, OneOf):
                for value in axis.within.values:
                    if not _same(value, axis.default):
                        yield self.defaults | {axis.name: value}


def _axis(recipe: Recipe, name: str, default: Any) -> Axis | str:
    """An option as an axis, or why it is none."""
    hint = recipe.annotations.get(name, type(default))
    kinds = list(alternatives(hint))
    notes = getattr(hint, "__metadata__", ())
    told = [note for note in notes if isinstance(note, Between | OneOf)]
    if len(told) > 1:
        raise BadInput(f"{recipe.name}: {name} has {len(told)} ranges; one is needed")
    if any(isinstance(note, Fixed) or note is Fixed for note in notes):
        return "is Fixed"
    within = told[0] if told else _usual(name, default, kinds)
    if isinstance(within, str):
        return within
    whole = int in kinds and float not in kinds
    if isinstance(within, Between):
        _check(recipe, name, within, kinds, whole=whole)
    if default not in within:
        raise BadInput(
            f"{recipe.name}: the default of {name}, {default!r}, is not in {within}; the search begins with it"
        )
    if isinstance(within, OneOf) and len(within.values) == 1:
        return "has one value"
    return Axis(name, default, within, whole and isinstance(within, Between))


def _usual(name: str, default: Any, kinds: list[Any]) -> Between | OneOf | str:
    """Where to look for an option that does not say, or why nowhere."""
    if values := [kind.value for kind in kinds if isinstance(kind, Exactly)]:
        return OneOf(*values, *([None] if type(None) in kinds and None not in values else []))
    if name.startswith(CEILING):
        return "is a ceiling"
    if isinstance(default, bool):
        return OneOf(False, True)
    if isinstance(default, int) and float not in kinds:
        return Between(1, REACH * default, log=True) if default >= 1 else f"has no usual range around {default}"
    if isinstance(default, int | float) and not math.isnan(default):
        return Between(0, 1) if 0 <= default <= 1 else f"has no usual range around {default}"
    return "is neither a number nor a choice"


def _check(recipe: Recipe, name: str, within: Between, kinds: list[Any], *, whole: bool) -> None:
    if not {int, float} & {kind for kind in kinds if isinstance(kind, type)}:
        raise BadInput(f"{recipe.name}: {name} is no number, and Between is a range of numbers; give OneOf(…)")
    ends = (within.low, within.high, within.step or 1)
    if whole and not all(float(end).is_integer() for end in ends):
        raise BadInput(f"{recipe.name}: {name} is a whole number, and Between({within.low:g}, {within.high:g}) is not")


def _same(a: Any, b: Any) -> bool:
    """Are these the same value? True is not 1, and 1 is 1.0."""
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
