"""What a composition consists of, as data: boxes, arrows between them, boxes within boxes. It is what `drawing` draws.

A composite strategy shows its parts through `inside`, a mapping from the end of the path at which a part runs to the part, and
may say how they follow one another through `arrows`, a mapping from (from, to), two keys of `inside`, to a condition in words,
or "". No model is asked for anything here.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Literal

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.checking import within
from reasonweave.orchestrator.conditions import Answered, Not, Scored, Sure
from reasonweave.orchestrator.errors import Path, show
from reasonweave.orchestrator.graph import INSTEAD, Graph, Node
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.shares import Share

Kind = Literal["strategy", "aggregator", "graph", "part"]
"""What a box is; "part" is what neither searches nor aggregates, as a verifier or what tells a confidence."""
Place = Literal["node", "finish", "stand-in"]
"""Why a box is where it is: in the course of things, at the end of a graph without an answer, in place of a node that fails."""
Lead = Literal["then", "finish", "failed"]
"""Why something follows: in the course of things, for want of an answer, because what is before it failed."""

TELLING = frozenset({"n", "k", "m", "width", "beams", "rounds", "sweeps", "threshold", "below", "most"})
"""Parameters that are shown also where they have their default."""
DULL = frozenset({"max_steps", "max_tokens"})
"""Parameters that are not shown: ceilings."""
LONGEST = 28
"""The most characters of a parameter's value that is shown; a longer one (a prompt) is left out."""
DEEP = 3
"""How many parts within one another the description of a part shows."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """One box follows another; `label` says under which condition."""

    start: Path
    end: Path
    label: str = ""
    lead: Lead = "then"


@dataclass(frozen=True, slots=True)
class Box:
    """One part at its place. `what` is its class or function, `params` its telling numbers, `parts` what it is made of, `roles`
    the models in it. `when`, `enough` and `budget` are those of the node, in words, empty where there are none.

    `inner` are the parts within it that have a place of their own, in the order of running, with `arrows` between them;
    `generation` counts from 0, and boxes of one generation run at the same time. `instead` stands in where this one fails.
    """

    path: Path
    name: str
    kind: Kind
    place: Place = "node"
    what: str = ""
    params: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    when: str = ""
    enough: str = ""
    budget: str = ""
    generation: int = 0
    after: tuple[Path, ...] = ()
    inner: tuple[Box, ...] = ()
    arrows: tuple[Arrow, ...] = ()
    instead: Box | None = None

    @property
    def title(self) -> str:
        """What stands at its head: its name, with the class where that says more."""
        said = not self.what or self.kind == "graph" or _plain(self.name) == self.what
        return self.name if said else f"{self.name}: {self.what}"

    @property
    def condition(self) -> str:
        """Its condition where no arrow can carry it: it belongs to what several parents give together, or to no parent."""
        return "" if len(self.after) == 1 else self.when

    def boxes(self) -> Iterator[Box]:
        """This one and all within it, stand-ins included, each before those within it."""
        yield self
        for box in self.inner:
            yield from box.boxes()
        if self.instead is not None:
            yield from self.instead.boxes()


@dataclass(frozen=True, slots=True)
class Outline:
    """A composition: its outermost box, and the names of its models by role, where they have another name than their role."""

    root: Box
    models: Mapping[str, str] = field(default_factory=dict)

    def boxes(self) -> list[Box]:
        """All boxes, each before those within it."""
        return list(self.root.boxes())

    def place(self, path: Sequence[str]) -> tuple[Box, tuple[str, ...]]:
        """The innermost box that what happened at a path (its parts as texts) belongs to, and what of the path is left there.

        Numbers on the way, which loops put in, are passed over; on the way from a strategy that is no graph to one of its parts,
        names too.
        """
        box, rest = self.root, tuple(path)
        while True:
            found: list[tuple[int, int, Box]] = []  # how much is passed over, how long the label is, whose it is
            for child in (*box.inner, *([box.instead] if box.instead else [])):
                label = texts(child.path)[len(texts(box.path)) :]
                free = box.kind != "graph" and child is not box.instead
                found += [(at, len(label), child) for at in _starts(rest, label, free)][:1]
            if not found:
                return box, rest
            at, length, box = min(found, key=lambda each: (each[0], -each[1]))
            rest = rest[at + length :]

    def data(self) -> dict[str, Any]:
        """It as plain JSON data, paths readable."""
        return {"root": _data(self.root), "models": dict(self.models)}


def texts(path: Path | str) -> tuple[str, ...]:
    """A path as texts, as it can be read back from a file.

    >>> texts(("draft", "step", 3)), texts("draft/step/3"), texts("run")
    (('draft', 'step', '3'), ('draft', 'step', '3'), ())
    """
    return () if path in ((), "run") else tuple((path if isinstance(path, str) else show(path)).split("/"))


def _starts(path: Sequence[str], label: Sequence[str], free: bool) -> Iterator[int]:
    """Where a label stands in a path: at its beginning, after numbers, or with `free` anywhere."""
    for at in range(len(path) - len(label) + 1):
        if tuple(path[at : at + len(label)]) == tuple(label):
            yield at
        if not free and not path[at].isdigit():
            return


def outline(strategy: object, *, title: str = "") -> Outline:
    """The outline of a strategy: of a graph its nodes, of any other one that has no `inside` a single box.

    >>> found = outline(Graph(), title="empty")
    >>> found.root.name, found.root.kind, found.root.inner
    ('empty', 'graph', ())
    """
    root = _box(strategy, (), title or _named(strategy))
    return Outline(root, _models(strategy))


def _box(part: object, path: Path, name: str, **more: Any) -> Box:
    """A part with all that is in it."""
    inside = _inside(part)
    what, params, parts = described(part, hidden=inside.values())
    kept = () if inside else _roles(part)
    box = Box(path, name, _kind(part, path), what=what, params=params, parts=parts, roles=kept, **more)
    if isinstance(part, Graph):
        return _graph(part, box)
    if not inside:
        return box
    arrows = tuple(
        Arrow((*path, *start), (*path, *end), label)
        for (start, end), label in getattr(part, "arrows", {}).items()
        if start in inside and end in inside
    )
    order = _generations([(*path, *key) for key in inside], arrows)
    inner = [
        _box(
            each,
            (*path, *key),
            " ".join(map(str, key)),
            generation=order[(*path, *key)],
            after=tuple(a.start for a in arrows if a.end == (*path, *key)),
        )
        for key, each in inside.items()
    ]
    return dataclasses.replace(box, inner=tuple(sorted(inner, key=lambda b: b.generation)), arrows=arrows)


def _graph(graph: Graph, box: Box) -> Box:
    """The box of a graph, with those of its nodes."""
    path, nodes, inner, arrows = box.path, graph.nodes, list[Box](), list[Arrow]()
    generations = graph.generations
    for generation, names in enumerate(generations):
        inner += [_node(nodes[name], (*path, name), generation) for name in names]
    for each in inner:
        label = each.when if len(each.after) == 1 else ""
        arrows += [Arrow(parent, each.path, label) for parent in each.after]
    if graph.finish is not None:
        end = (*path, "finish")
        sinks = [each.path for each in inner if not any(a.start == each.path for a in arrows)]
        finish = _box(graph.finish, end, "finish", generation=len(generations), after=tuple(sinks), place="finish")
        inner.append(finish)
        arrows += [Arrow(sink, end, "no answer", "finish") for sink in sinks]
    return dataclasses.replace(box, inner=tuple(inner), arrows=tuple(arrows))


def _node(node: Node, path: Path, generation: int) -> Box:
    instead = None
    if node.when_failed is not None:
        instead = _box(
            node.when_failed, (*path, INSTEAD), _named(node.when_failed), place="stand-in", generation=generation
        )
    return _box(
        node.part,
        path,
        str(path[-1]),
        generation=generation,
        after=tuple((*path[:-1], parent) for parent in node.after),
        when=condition(node.when) if node.when is not None else "",
        enough=condition(node.enough) if node.enough is not None else "",
        budget=limits(node.budget) if node.budget else "",
        instead=instead,
    )


def _generations(paths: list[Path], arrows: tuple[Arrow, ...]) -> dict[Path, int]:
    """How many arrows lead to each path on the longest way; those on a circle stay where the way there left them."""
    found = dict.fromkeys(paths, 0)
    for _ in paths:
        for arrow in arrows:
            found[arrow.end] = min(len(paths), max(found[arrow.end], found[arrow.start] + 1))
    return found


def _inside(part: object) -> dict[Path, object]:
    inside = None if isinstance(part, type) else getattr(part, "inside", None)
    return dict(inside) if isinstance(inside, Mapping) else {}


def _kind(part: object, path: Path) -> Kind:
    if isinstance(part, Graph):
        return "graph"
    if isinstance(part, Strategy):
        return "strategy"
    plain = callable(part) and not any(hasattr(part, verb) for verb in ("score", "extend", "read", "weigh"))
    return "aggregator" if plain else "part"


def _models(part: object) -> dict[str, str]:
    """The names of the models by role, where they differ from it; several of one role are all told."""
    found: dict[str, list[str]] = {}
    for inner in within(part):
        if isinstance(inner.part, Model | RewardModel):
            names = found.setdefault(inner.part.role, [])
            names += [inner.part.name] if inner.part.name not in names else []
    return {role: ", ".join(names) for role, names in sorted(found.items()) if names != [role]}


def _roles(part: object) -> tuple[str, ...]:
    found = [inner.part.role for inner in within(part) if isinstance(inner.part, Model | RewardModel)]
    return tuple(dict.fromkeys(found))


def _plain(name: str) -> str:
    """A name without the number that tells it from another node of its kind."""
    base, dash, number = name.rpartition("-")
    return base if dash and number.isdigit() else name


def _named(part: object) -> str:
    """A function by its name, anything else by its class; an unnamed function by its place in the source."""
    while isinstance(part, functools.partial):
        part = part.func
    name = getattr(part, "__name__", None)
    if isinstance(name, str) and name != "<lambda>":
        return name
    if name is not None and (code := getattr(part, "__code__", None)) is not None:
        return f"lambda ({FilePath(code.co_filename).name}, line {code.co_firstlineno})"
    return type(part).__name__


def described(part: object, hidden: Any = ()) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """What a part is, its telling parameters, and what it is made of; parts in `hidden` have boxes of their own."""
    known = [id(each) for each in hidden]
    if isinstance(part, Graph):
        return "Graph", (), ()
    params, parts = list[str](), list[str]()
    for name, value, default in _fields(part):
        if any(id(inner.part) in known for inner in _seen(value)):
            continue
        if isinstance(value, Model | RewardModel):
            parts.append(value.role if name == value.role else f"{name} {value.role}")
        elif isinstance(value, Budget | Share):
            parts += [f"at most {limits(value)}"] if value else []
        elif _is_plain(value):
            telling = name in TELLING or not (name in DULL or _same(value, default))
            if telling and (told := _value(value)) is not None:
                params.append(name if value is True else f"{name}={told}")
        elif not _same(value, default):
            parts.append(f"{name} {compact(value)}")
    return _named(part), tuple(params), tuple(parts)


def compact(part: object, depth: int = DEEP) -> str:
    """A part in a few words: its name and, in brackets, the parts and models in it, and what has no default.

    >>> compact(Not(Sure(0.6)))
    'Not(Sure)'
    """
    if isinstance(part, Model | RewardModel):
        return part.role
    if isinstance(part, Graph):
        return f"Graph of {len(part.nodes)}"
    if isinstance(part, Mapping):
        return ", ".join(f"{key} {compact(value, depth)}" for key, value in part.items())
    if isinstance(part, tuple | list):
        return ", ".join(compact(value, depth) for value in part)
    if _is_plain(part):
        return _value(part) or "…"
    if depth == 0:
        return ", ".join(_roles(part)) or _named(part)
    fields, inner = list(_fields(part)), list[str]()
    for name, value, default in fields:
        if not _is_plain(value) and (isinstance(value, Model | RewardModel) or not _same(value, default)):
            inner.append(compact(value, depth - 1))
        elif _is_plain(value) and not _same(value, default) and (told := _value(value)) is not None:
            inner += [told] if default is _NONE else [f"{name}={told}"] if name in TELLING else []
    if fields and isinstance(fields[0][1], RewardModel) and len(inner) == 1:
        return inner[0]  # a reward model as a verifier
    return f"{_named(part)}({', '.join(inner)})" if inner else _named(part)


_NONE = object()
"""The default of a field that has none."""


def _fields(part: object) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default of what a part is made of."""
    if isinstance(part, functools.partial):
        yield from ((name, value, _NONE) for name, value in part.keywords.items())
    elif isinstance(part, type) or inspect.isroutine(part):
        return
    elif dataclasses.is_dataclass(part):
        for each in dataclasses.fields(part):
            if each.repr:
                default = each.default if each.default is not dataclasses.MISSING else _NONE
                if each.default_factory is not dataclasses.MISSING:
                    default = each.default_factory()
                yield each.name, getattr(part, each.name, None), default
    else:
        for name, value in getattr(part, "__dict__", {}).items():
            if not name.startswith("_") and name not in ("inside", "arrows"):
                yield name, value, _NONE


def _seen(value: object) -> Iterator[Any]:
    return within(value)


def _is_plain(value: object) -> bool:
    """Is it a number, a text, a truth value, nothing, or some of them?"""
    if isinstance(value, tuple | list | frozenset | set):
        return all(_is_plain(each) for each in value)
    return isinstance(value, str | int | float | bool | bytes | type(None))


def _same(value: object, default: object) -> bool:
    try:
        return value is default or bool(value == default)
    except Exception:  # a part of somebody's own may refuse to be compared, or compare to an array
        return False


def _value(value: object) -> str | None:
    """A plain value as it is shown; None where it is too long, or is nothing."""
    if value is None:
        return None
    told = f"{value:.4g}" if isinstance(value, float) else str(value) if isinstance(value, str) else repr(value)
    return told if len(told) <= LONGEST and told.isprintable() else None


def condition(asked: object) -> str:
    """A condition in words.

    >>> condition(Not(Sure(0.6))), condition(Scored(0.5)), condition(len)
    ('unsure (< 0.6)', 'best score ≥ 0.5', 'len')
    """
    match asked:
        case Not(Sure(least)):
            return f"unsure (< {least:g})"
        case Not(Answered()):
            return "no answer"
        case Not(Scored(least)):
            return f"best score < {least:g}"
        case Not(inner):
            return f"not {condition(inner)}"
        case Sure(least):
            return f"sure (≥ {least:g})"
        case Scored(least):
            return f"best score ≥ {least:g}"
        case Answered():
            return "answered"
        case _:
            return _named(asked) if inspect.isroutine(asked) else compact(asked)


def limits(budget: Budget | Share) -> str:
    """A budget in words.

    >>> limits(Budget(tokens=20_000, seconds=1.5, large=Budget(calls=3))), limits(Share(0.7))
    ('20,000 tokens, 1.5 seconds, large: 3 calls', '70 % of what is left')
    """
    if isinstance(budget, Share):
        return f"{100 * budget.part:.3g} % of what is left"
    own = [
        f"{value:,.10g} {name.replace('_', ' ')}"
        for name in Budget.LIMITS
        if (value := getattr(budget, name)) is not None
    ]
    return ", ".join([*own, *(f"{role}: {limits(inner)}" for role, inner in budget.roles.items())])


def _data(box: Box) -> dict[str, Any]:
    made = {
        "path": show(box.path),
        "name": box.name,
        "kind": box.kind,
        "place": box.place,
        "what": box.what,
        "params": list(box.params),
        "parts": list(box.parts),
        "roles": list(box.roles),
        "when": box.when,
        "enough": box.enough,
        "budget": box.budget,
        "generation": box.generation,
        "after": [show(path) for path in box.after],
        "inner": [_data(each) for each in box.inner],
        "arrows": [{"start": show(a.start), "end": show(a.end), "label": a.label, "lead": a.lead} for a in box.arrows],
        "instead": _data(box.instead) if box.instead is not None else None,
    }
    return {name: value for name, value in made.items() if value not in ("", [], None)}
