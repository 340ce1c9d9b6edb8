"""What can be wrong with a composition, found before a token is spent."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Iterator, Mapping
from typing import TypeVar

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.errors import GraphError, Path, show
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.protocols import StepPolicy, Strategy, Verifier
from reasonweave.orchestrator.types import Candidates

_V = TypeVar("_V")


def reads_scores(vote: _V) -> _V:
    """Mark an aggregator that chooses by verifiers' scores, so that a graph can tell where there are none. As a decorator::

    @reads_scores
    def kindest(candidates): ...
    """
    vote.reads_scores = True  # type: ignore[attr-defined]
    return vote


def part_name(part: object) -> str:
    """A function by its name, any other part by its repr."""
    return getattr(part, "__name__", None) or repr(part)


def check_part(name: str, part: object) -> None:
    """Raises `GraphError` for what is neither a strategy nor a function of one candidate set."""
    if isinstance(part, type):
        raise GraphError(
            f"node {name!r} is the class {part.__name__}, not one of its kind: call it, as {part.__name__}(…)"
        )
    if isinstance(part, Strategy):
        return
    if isinstance(part, StepPolicy):
        raise GraphError(
            f"node {name!r} is a step policy: neither a strategy (search) nor an aggregator; try BestOfN({part!r:.60}, n=1)"
        )
    if isinstance(part, Verifier):
        raise GraphError(
            f"node {name!r} is a verifier: neither a strategy (search) nor an aggregator; give it to a search, as verifier="
        )
    if not callable(part):
        raise GraphError(f"node {name!r} is {part!r}: neither a strategy (search) nor an aggregator (a function)")
    try:
        inspect.signature(part).bind(Candidates())
    except TypeError as error:
        raise GraphError(
            f"node {name!r}: an aggregator is called with one candidate set, and {part_name(part)}{inspect.signature(part)} "
            f"cannot be ({error})"
        ) from None
    except ValueError:  # a built-in without a signature
        pass
    told = _returns(part)
    if told is not None and told is not Candidates:
        raise GraphError(
            f"node {name!r}: {part_name(part)} returns {getattr(told, '__name__', told)}, and an aggregator returns Candidates; "
            f"did you mean {part_name(part)}(…)?"
        )


def _returns(part: object) -> object | None:
    """What a plain function says that it returns, where that is a class."""
    if not inspect.isfunction(part):
        return None
    try:
        told = typing.get_type_hints(part).get("return")
    except Exception:  # a hint that cannot be read says nothing
        return None
    return told if isinstance(told, type) else None


@dataclasses.dataclass(frozen=True, slots=True)
class Inner:
    """A part within another one: where it runs (as far as that is known), and what it is."""

    path: Path
    part: object


def within(part: object, path: Path = ()) -> Iterator[Inner]:
    """A part and all parts in it, as far as they can be seen: through graphs (`inside`), fields of dataclasses, tuples, lists,
    mappings and partial functions. What hides in a plain function or another class is not seen."""
    yield from _within(part, path, set[tuple[int, Path]]())


def _within(part: object, path: Path, seen: set[tuple[int, Path]]) -> Iterator[Inner]:
    if isinstance(part, str | int | float | bool | bytes | type(None)) or (id(part), path) in seen:
        return
    seen.add((id(part), path))
    yield Inner(path, part)
    inside = getattr(part, "inside", None)
    if isinstance(inside, Mapping):
        for label, inner in inside.items():
            yield from _within(inner, (*path, *label), seen)
        return
    for inner in _held(part):
        yield from _within(inner, path, seen)


def _held(part: object) -> list[object]:
    if isinstance(part, Mapping):
        return list(part.values())
    if isinstance(part, tuple | list):
        return list(part)
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return [getattr(part, each.name, None) for each in dataclasses.fields(part)]
    return []


def roles_in(part: object) -> set[str]:
    """The roles of the models within a part, as far as they can be seen."""
    return {inner.part.role for inner in within(part) if isinstance(inner.part, Model | RewardModel)}


def check_budgets(limits: Mapping[Path, Budget]) -> None:
    """Raises `GraphError` where what may be spent at a path is more than at a path above it: that can never be."""
    for path, limit in limits.items():
        for above in (limits[path[:i]] for i in range(1, len(path)) if path[:i] in limits):
            for role, mine, whole in [("", limit, above), *((r, limit, b) for r, b in above.roles.items())]:
                own = mine if not role else mine.roles.get(role, Budget())
                for name in Budget.LIMITS:
                    cap, most = getattr(own, name), getattr(whole, name)
                    if cap is not None and most is not None and cap > most:
                        raise GraphError(
                            f"node {show(path)} may spend {name}={cap:g}{role and f' by {role}'}, and the node around it only "
                            f"{most:g}: lower the one or raise the other"
                        )


def check_roles(path: Path, part: object, budget: Budget) -> None:
    """Raises `GraphError` for a limit on a role that no model in the part has; nothing where no model can be seen."""
    known = roles_in(part)
    for role in budget.roles:
        if known and role not in known:
            raise GraphError(
                f"node {show(path)}: its budget limits {role!r}, and its models are {', '.join(sorted(known))}"
            )
