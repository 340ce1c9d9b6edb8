"""What can be wrong with a composition, found before a token is spent. What cannot be seen is taken to be right."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.errors import GraphError, Path, show
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.protocols import StepPolicy, Strategy, Verifier
from reasonweave.orchestrator.types import Candidates

_V = TypeVar("_V")
DEEPEST, MOST = 200, 200
"""How deep parts within parts are looked at, and how many elements of one collection."""


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
        raise GraphError(f"node {name!r} is the class {part.__name__}: call it, as {part.__name__}(…)")
    if isinstance(part, Strategy):
        return
    if not callable(part):
        if isinstance(part, StepPolicy):
            hint = (
                "a step policy: neither a strategy (search) nor an aggregator; put it into a search, as BestOfN(policy)"
            )
            raise GraphError(f"node {name!r} is {hint}")
        if isinstance(part, Verifier):
            hint = "a verifier: neither a strategy (search) nor an aggregator; give it to a search, as verifier="
            raise GraphError(f"node {name!r} is {hint}")
        raise GraphError(f"node {name!r} is {part!r:.80}: neither a strategy (search) nor an aggregator (a function)")
    if inspect.iscoroutinefunction(part):
        raise GraphError(f"node {name!r}: {part_name(part)} is async, and an aggregator is a plain function of a set")
    _check_call(f"node {name!r}: an aggregator", part)
    told = _returns(part)
    if told is not None and not issubclass(told, Candidates):
        raise GraphError(
            f"node {name!r}: {part_name(part)} returns {told.__name__}, and an aggregator returns Candidates; did you mean "
            f"{part_name(part)}(…)?"
        )


def check_condition(name: str, said: str, condition: object) -> None:
    """Raises `GraphError` for what is no condition on a candidate set, as one that was not called."""
    where = f"node {name!r}: {said}={part_name(condition)}"
    if isinstance(condition, type) or not callable(condition):
        raise GraphError(f"{where} is no function of a candidate set; try {said}=sure(0.6)")
    if inspect.iscoroutinefunction(condition):
        raise GraphError(f"{where} is async, and a condition is a plain function of a set")
    _check_call(f"{where}: a condition", condition)
    if inspect.isfunction(condition) and _hint(condition) not in (None, bool, Any):
        raise GraphError(f"{where} does not return a truth value; did you mean {part_name(condition)}(…)?")


def holds(name: str, said: str, condition: object, found: Candidates) -> bool:
    """What a condition says of a set. Raises `GraphError` where that is another function, which was not called."""
    told = condition(found)  # type: ignore[operator]
    if callable(told) or inspect.isawaitable(told):
        raise GraphError(
            f"node {name!r}: {said}={part_name(condition)} gave {told!r:.60} and no truth value; call it first"
        )
    return bool(told)


def _check_call(who: str, part: Any) -> None:
    try:
        signature = inspect.signature(part, follow_wrapped=False)
        signature.bind(Candidates())
    except ValueError:  # a built-in without a signature
        return
    except TypeError as error:
        told = f"{who} is called with one candidate set, and {part_name(part)}{signature} cannot be ({error})"
        raise GraphError(told) from None


def _hint(part: object) -> object:
    """What a function says that it returns; None where it does not, or in a way that cannot be read."""
    if not inspect.isfunction(part) or hasattr(part, "__wrapped__"):
        return None
    try:
        return typing.get_type_hints(part).get("return")
    except Exception:
        return None


def _returns(part: object) -> type | None:
    """The class that a function says it returns, where it is one."""
    told = _hint(part)
    return told if isinstance(told, type) and told is not Any else None


@dataclasses.dataclass(frozen=True, slots=True)
class Inner:
    """A part within another one: where it runs (as far as that is known), and what it is. `around` are the parts it is in, from
    the outermost on."""

    path: Path
    part: object
    around: tuple[Inner, ...] = ()


def within(part: object, path: Path = ()) -> Iterator[Inner]:
    """A part and all parts in it, as far as they can be seen: through `inside`, the fields of dataclasses and the attributes of
    other parts, tuples, lists, mappings and partial functions. What hides in a plain function is not seen; models are not
    looked into."""
    yield from _within(Inner(path, part), set())


def _within(inner: Inner, seen: set[tuple[int, Path]]) -> Iterator[Inner]:
    yield inner
    if len(inner.around) >= DEEPEST and inside_of(inner.part):
        raise GraphError(
            f"node {show(inner.path)[:80]}…: graphs within graphs, {DEEPEST} deep; is one of them in itself?"
        )
    if len(inner.around) >= DEEPEST or isinstance(inner.part, Model | RewardModel):
        return
    around = (*inner.around, inner)
    above = {id(each.part) for each in around}
    for path, part in _parts(inner):
        if id(part) not in above and (id(part), path) not in seen and not isinstance(part, _PLAIN):
            seen.add((id(part), path))
            yield from _within(Inner(path, part, around), seen)


_PLAIN = (str, bytes, int, float, complex, type(None), type)


def _parts(inner: Inner) -> Iterator[tuple[Path, object]]:
    """What is directly in a part."""
    if (inside := inside_of(inner.part)) is not None:
        for label, part in inside.items():
            yield (*inner.path, *label), part
    else:
        for part in itertools.islice(_held(inner.part), MOST):
            yield inner.path, part


def inside_of(part: object) -> Mapping[Path, object] | None:
    """The `inside` of a part, by ends of paths; None where it has none that can be read."""
    try:
        inside = getattr(part, "inside", None)
    except Exception:  # somebody else's property: what it hides is not seen
        return None
    if isinstance(part, type) or not isinstance(inside, Mapping):
        return None
    return {label if isinstance(label, tuple) else (label,): each for label, each in inside.items()}


def _held(part: object) -> Iterator[object]:
    if isinstance(part, Mapping):
        return iter(part.values())
    if isinstance(part, tuple | list):
        return iter(part)
    if isinstance(part, functools.partial):
        return iter([part.func, *part.args, *part.keywords.values()])
    if dataclasses.is_dataclass(part):
        # what is neither shown nor compared is a part's memory, not its configuration
        shown = [each.name for each in dataclasses.fields(part) if each.repr or each.compare]
        return (getattr(part, name, None) for name in shown)
    if isinstance(part, Strategy | Verifier | StepPolicy):
        return (value for name, value in getattr(part, "__dict__", {}).items() if not name.startswith("__"))
    return iter(())


def roles_in(part: object) -> set[str]:
    """The roles of the models within a part, as far as they can be seen."""
    return {inner.part.role for inner in within(part) if isinstance(inner.part, Model | RewardModel)}


def check_within(path: Path, limit: Budget, around: Sequence[Budget]) -> None:
    """Raises `GraphError` where what may be spent at a path is more than at one around it: that can never be."""
    for above in around:
        for role, mine, whole in [("", limit, above), *((r, limit, b) for r, b in above.roles.items())]:
            own = mine if not role else mine.roles.get(role, Budget())
            for name in Budget.LIMITS:
                cap, most = getattr(own, name), getattr(whole, name)
                if cap is not None and most is not None and cap > most:
                    raise GraphError(
                        f"node {show(path)} may spend {name}={cap:g}{role and f' by {role}'}, and the node around it only "
                        f"{most:g}: lower the one or raise the other"
                    )


def check_roles(path: Path, parts: tuple[object, ...], budget: Budget) -> None:
    """Raises `GraphError` for a limit on a role that no model in these parts has; nothing where no model can be seen."""
    known = roles_in(parts)
    for role in budget.roles:
        if known and role not in known:
            raise GraphError(
                f"node {show(path)}: its budget limits {role!r}, and its models are {', '.join(sorted(known))}"
            )
