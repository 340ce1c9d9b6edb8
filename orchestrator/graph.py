"""Composition: which strategy follows which. A graph is a DAG of strategies and aggregators, and itself a strategy.

It holds names, edges and conditions, never a loop and never a model call.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace

import networkx as nx

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.budget import Budget, Ledger
from reasonweave.orchestrator.checking import (
    Inner,
    check_condition,
    check_part,
    check_roles,
    check_within,
    holds,
    part_name,
    within,
)
from reasonweave.orchestrator.conditions import Answered
from reasonweave.orchestrator.drive import drive
from reasonweave.orchestrator.errors import GraphError, Path, SeedReuse, UserError, described, located, show
from reasonweave.orchestrator.protocols import Aggregator, Condition, Finish, Strategy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.shares import Share, shared
from reasonweave.orchestrator.trace import Ended, Failed, Skipped, Started
from reasonweave.orchestrator.types import Candidates

INSTEAD = "instead"
"""The part of a path under which a node's `when_failed` runs."""
RESERVED = {"finish": "a graph's own finish", INSTEAD: "what runs in the place of a node", "run": "the whole run"}
FINISH_SHARE = 0.1
"""Share of a time limit that is kept back for the finish."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a graph: a part, and how it is run. In `chain` and `parallel` it says more than the part alone would::

        chain(Node(cheap, budget=Budget(tokens=500)), Node(majority, enough=sure(0.9)), dear, majority)

    A node with one parent gets that parent's set, with several their concatenation, in order. It runs where `when` (None:
    always) is true of what it gets, and otherwise is skipped. `budget` limits it alone; a `Share` is a part of what is left then.
    Where `enough` is true of what it gives, the graph ends there with its set, and what comes later is skipped. `when_failed`
    runs in its place, on the same set, where it raises or each of its candidates failed; without it an error ends the graph.
    """

    part: Strategy | Aggregator
    after: tuple[str, ...] = ()
    when: Condition | None = None
    budget: Budget | Share | None = None
    enough: Condition | None = None
    when_failed: Strategy | Aggregator | None = None

    @property
    def spends(self) -> bool:
        """May running it cost something?"""
        return isinstance(self.part, Strategy) or isinstance(self.when_failed, Strategy)

    def __repr__(self) -> str:
        extra = [f"after={list(self.after)}"] if self.after else []
        extra += [f"when={part_name(self.when)}"] if self.when else []
        extra += [f"budget={self.budget}"] if self.budget else []
        extra += [f"enough={part_name(self.enough)}"] if self.enough else []
        extra += [f"when_failed={part_name(self.when_failed)}"] if self.when_failed else []
        return ", ".join([part_name(self.part), *extra])


class Graph:
    """A DAG of named nodes, built with `add`; the last node in it must be its only sink.

    >>> graph = Graph()
    >>> draft = graph.add("draft", len)
    >>> graph.add("vote", len, after=draft)
    'vote'
    """

    def __init__(self, *, finish: Finish | None = None) -> None:
        if finish is not None and (isinstance(finish, type) or not isinstance(finish, Finish)):
            raise GraphError(f"finish={part_name(finish)}: a finish has search() and reserve(), as ForceAnswer(model)")
        self.finish = finish
        """What runs where the sink has no answer, on a slice of the budget that is kept back for it."""
        self._dag: nx.DiGraph[str] = nx.DiGraph()
        self._nodes: dict[str, Node] = {}

    def add(
        self,
        name: str,
        node: Strategy | Aggregator,
        *,
        after: str | Iterable[str] = (),
        when: Condition | None = None,
        budget: Budget | Share | None = None,
        enough: Condition | None = None,
        when_failed: Strategy | Aggregator | None = None,
    ) -> str:
        """Add a node after its parents and return its name; the other arguments are those of `Node`.

        Raises `GraphError` for a name used twice, an unknown parent, and a part that is neither a strategy nor an aggregator.
        """
        parents = (after,) if isinstance(after, str) else tuple(after)
        if isinstance(node, Node):
            raise GraphError(f"node {name!r}: give its part, and what the Node says as arguments of add()")
        if not isinstance(name, str) or not name or "/" in name:
            raise GraphError(
                f"a node cannot be called {name!r}: its name is a text, not empty, without '/', which separates paths"
            )
        if name in RESERVED:
            raise GraphError(f"a node cannot be called {name!r}: that is what {RESERVED[name]} is called in paths")
        if name in self._nodes:
            raise GraphError(f"node {name!r} is there already; names must differ")
        if unknown := [p for p in parents if p not in self._nodes]:
            raise GraphError(f"node {name!r} comes after {unknown[0]!r}, which is not there; add parents first")
        if len(set(parents)) < len(parents):
            raise GraphError(f"node {name!r} comes after {list(parents)}: one of them twice")
        check_part(name, node)
        if when_failed is not None:
            check_part(f"{name} (when_failed)", when_failed)
        if any(inner.part is self for part in (node, when_failed) for inner in within(part)):
            raise GraphError(f"node {name!r} has the graph itself in it, which would never end")
        for said, condition in (("when", when), ("enough", enough)):
            if condition is not None:
                check_condition(name, said, condition)
        if budget is not None and not isinstance(budget, Budget | Share):
            raise GraphError(f"node {name!r}: budget={budget!r}: write Budget(tokens={budget!r}), or another limit")
        self._nodes[name] = Node(node, parents, when, budget, enough, when_failed)
        self._dag.add_node(name)
        self._dag.add_edges_from((parent, name) for parent in parents)
        return name

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes by name, in the order of adding."""
        return dict(self._nodes)

    @property
    def generations(self) -> list[list[str]]:
        """The nodes' names in the order of running: those of one list run at the same time."""
        return [list(names) for names in nx.topological_generations(self._dag)]

    @property
    def inside(self) -> dict[tuple[str | int, ...], object]:
        """The parts within, by the end of the path at which they run."""
        found: dict[tuple[str | int, ...], object] = {}
        for name, node in self._nodes.items():
            found[name,] = node.part
            if node.when_failed is not None:
                found[name, INSTEAD] = node.when_failed
        return found | ({("finish",): self.finish} if self.finish is not None else {})

    def __repr__(self) -> str:
        inner = [f"{name}: {node!r}" for name, node in self._nodes.items()]
        inner += [f"finish: {self.finish!r}"] if self.finish else []
        return f"Graph({'; '.join(inner)})"

    @property
    def sink(self) -> str:
        """The node whose set is the graph's. Raises `GraphError` unless there is exactly one."""
        sinks = [name for name in self._nodes if self._dag.out_degree(name) == 0]
        if len(sinks) != 1:
            told = f"{' and '.join(map(repr, sinks))} lead nowhere" if sinks else "it has no node"
            raise GraphError(
                f"a graph needs exactly one last node; this one has {sinks or 'none'}: {told}"
                + ("; let one node come after them, as joined or a vote" if sinks else "")
            )
        return sinks[0]

    @property
    def unscored(self) -> bool:
        """Is it certain that the candidates which come out have no scores?"""
        return self._unscored(self.sink)

    def _unscored(self, name: str) -> bool:
        node = self._nodes[name]
        if isinstance(node.part, Strategy):
            return bool(getattr(node.part, "unscored", False)) and node.when_failed is None
        ours = getattr(node.part, "__module__", "").startswith("reasonweave.")  # others may score as they like
        return ours and bool(node.after) and all(self._unscored(parent) for parent in node.after)

    def check(self, path: Path = ()) -> None:
        """Raises `GraphError` where this graph cannot run as it stands: two last nodes, a vote by scores on a set that has none,
        or a limit for a role that no model has."""
        try:
            _ = self.sink
        except GraphError as error:
            raise GraphError(f"node {show(path)}: {error}") from None if path else error
        for name, node in self._nodes.items():
            here = (*path, name)
            if isinstance(node.budget, Budget):
                check_roles(here, (node.part, node.when_failed), node.budget)
            if getattr(node.part, "reads_scores", False) and all(map(self._unscored, node.after)) and node.after:
                before = " and ".join(map(repr, node.after))
                raise GraphError(
                    f"node {show(here)} chooses by scores, and {before} gives none: give the search a verifier=, or vote by "
                    "majority"
                )

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        """Run the nodes, yield after each generation of them; then, where nothing gave an answer, the finish."""
        last = roots
        with ExitStack() as kept:
            inner = run
            if self.finish is not None:
                kept.enter_context(run.ledger.keep(self.finish.reserve(roots)))
                seconds = run.ledger.left().get("seconds")
                inner = run if seconds is None else run.child(budget=Budget(seconds=(1 - FINISH_SHARE) * seconds))
            async with aclosing(self._generations(roots, inner)) as sets:
                async for last in sets:
                    yield last
        if self.finish is not None and not Answered()(last) and not last.abstains:
            yield await self._finish(self.finish, last, run)

    async def _generations(self, roots: Candidates, run: Run) -> AsyncGenerator[Candidates, None]:
        """Run the nodes generation by generation, those of one generation at the same time; yield after each."""
        sink, last = self.sink, roots
        results: dict[str, Candidates | None] = {}
        generations = self.generations
        for at, names in enumerate(generations):
            given = {name: self._given(name, results, roots, run) for name in names}
            busy = [n for n in names if given[n] is not None and self._nodes[n].spends]
            shares = shared(run.ledger, len(busy))
            accounts = dict(zip(busy, shares.members, strict=True)) if shares else {}

            async def one(name: str, found: Candidates | None, account: Ledger | None) -> Candidates | None:
                if found is None:
                    return None
                try:
                    return await self._run(name, found, replace(run, ledger=account) if account else run)
                finally:
                    if account is not None and shares is not None:  # noqa: B023 - the generation ends before the next begins
                        shares.end(account)  # noqa: B023

            sets = await together(one(name, given[name], accounts.get(name)) for name in names)
            results.update(zip(names, sets, strict=True))
            if (ended := self._enough(names, results, run)) is not None:
                for name in (n for later in generations[at + 1 :] for n in later):
                    run.emit(Skipped((*run.path, name), f"{ended!r} was enough"))
                found = results[ended]
                yield last if found is None else found
                return
            if (found := self._answer(sink, results)) is not None:
                last = found
            yield last

    def _enough(self, names: Sequence[str], results: Mapping[str, Candidates | None], run: Run) -> str | None:
        """The first of these nodes whose set ends the graph."""
        for name in names:
            condition, found = self._nodes[name].enough, results[name]
            if condition is not None and found is not None and self._holds(name, "enough", condition, found, run):
                return name
        return None

    def _holds(self, name: str, said: str, condition: Condition, found: Candidates, run: Run) -> bool:
        """What a condition says; an error in it is one of its node."""
        try:
            return holds(name, said, condition, found)
        except Exception as error:
            raise located(error, (*run.path, name)) from error.__cause__

    async def _finish(self, finish: Finish, last: Candidates, run: Run) -> Candidates:
        try:
            finished = await drive(finish, last, run.child("finish"))
        except Exception as error:
            raise located(error, (*run.path, "finish")) from error.__cause__
        stopped = last.stopped or finished.stopped
        return replace(finished if finished.answer is not None else last, stopped=stopped)

    def _given(
        self, name: str, results: Mapping[str, Candidates | None], roots: Candidates, run: Run
    ) -> Candidates | None:
        """What a node runs on; None where it is skipped: its condition is false, or all its parents were skipped."""
        node, given = self._nodes[name], roots
        if node.after:
            sets = [found for parent in node.after if (found := results[parent]) is not None]
            if not sets:
                run.emit(Skipped((*run.path, name), "what comes before it was skipped"))
                return None
            given = sets[0] if len(sets) == 1 else functools.reduce(Candidates.__add__, sets)
        if node.when is not None and not self._holds(name, "when", node.when, given, run):
            run.emit(Skipped((*run.path, name), f"{part_name(node.when)} is false"))
            return None
        return given

    async def _run(self, name: str, given: Candidates, run: Run) -> Candidates:
        """One node's set, or that of what stands in for it."""
        node = self._nodes[name]
        here = run.child(name, budget=node.budget)
        first: Exception | None = None
        try:
            found = await _ran(node.part, given, here)
        except Exception as error:
            if node.when_failed is None or isinstance(error, UserError | SeedReuse):
                raise located(error, here.path) from error.__cause__
            first, told = error, described(error)
        else:
            if node.when_failed is None or not found.items or not all(c.failed for c in found):
                return found
            told = f"all {len(found)} candidates failed, the first with: {found[0].failed}"
        run.emit(Failed(here.path, told, part_name(node.when_failed)))
        try:
            return await _ran(node.when_failed, given, here.child(INSTEAD))
        except Exception as error:
            raise located(error, (*here.path, INSTEAD)) from first or error.__cause__

    def _answer(self, sink: str, results: Mapping[str, Candidates | None]) -> Candidates | None:
        """The sink's set, or where it was skipped or is yet to come, that of its last finished ancestor."""
        if (found := results.get(sink)) is not None:
            return found
        ancestors = nx.ancestors(self._dag, sink)
        done = [name for name in self._nodes if name in ancestors and results.get(name) is not None]
        return results[done[-1]] if done else None


def check(strategy: object) -> None:
    """Raises `GraphError` for what can be seen to be wrong anywhere in a strategy, before a token is spent: see `Graph.check`;
    and nodes that may spend more than the node they are in."""
    for inner in within(strategy):
        if isinstance(inner.part, Graph):
            inner.part.check(inner.path)
            down = itertools.pairwise((*inner.around, inner))
            around = [limit for outer, below in down if (limit := _limit_of(outer, below)) is not None]
            for name, node in inner.part.nodes.items():
                if isinstance(node.budget, Budget):
                    check_within((*inner.path, name), node.budget, around)


def _limit_of(outer: Inner, below: Inner) -> Budget | None:
    """The limit of the node of a graph through which one goes down to a part in it; None where there is none."""
    if not isinstance(outer.part, Graph) or below.path == outer.path:
        return None
    node = outer.part.nodes.get(str(below.path[len(outer.path)]))
    return node.budget if node is not None and isinstance(node.budget, Budget) else None


async def _ran(part: Strategy | Aggregator, given: Candidates, run: Run) -> Candidates:
    """A strategy driven to its end, or what an aggregator makes of the set."""
    if isinstance(part, Strategy):
        return await drive(part, given, run)
    began = time.monotonic()
    run.emit(Started(run.path, part_name(part), len(given)))
    found = part(replace(given, seed=run.seed("ties")))
    if not isinstance(found, Candidates):
        raise GraphError(
            f"node {show(run.path)}: {part_name(part)} returned {type(found).__name__}, not Candidates; an aggregator takes a "
            "set and returns one (a function that makes an aggregator has to be called)"
        )
    found = replace(found, stopped=given.stopped)
    run.emit(Ended(run.path, len(found), found.answer, found.stopped, time.monotonic() - began))
    return found


def joined(candidates: Candidates) -> Candidates:
    """The set as it is: what ends a `parallel`, where the sets of its parts come together."""
    return candidates


def chain(
    *parts: Strategy | Aggregator | Node, finish: Finish | None = None, **named: Strategy | Aggregator | Node
) -> Graph:
    """A graph in which each part follows the one before it, those given by keyword last, under that name; the others are named
    after their parts. A `Node` says how its part is run.

    >>> chain(len, vote=max)
    Graph(len: len; vote: max, after=['len'])
    """
    graph, last = Graph(finish=finish), ()
    for name, node in _named(parts, named):
        last = (_add(graph, name, node, last),)  # type: ignore[assignment]
    return graph


def parallel(*parts: Strategy | Aggregator | Node, **named: Strategy | Aggregator | Node) -> Graph:
    """A graph whose parts start from the same set and run at the same time; their sets come out together, in order.

    Each part gives what it would give alone at the path of its name. They share the budget equally: what one leaves over goes to
    the others. What was concluded in the parts is dropped; a vote may follow.

    >>> parallel(len, second=max)
    Graph(len: len; second: max; joined: joined, after=['len', 'second'])
    """
    graph = Graph()
    made = [_add(graph, name, node, ()) for name, node in _named(parts, named)]
    if not made:
        raise GraphError("parallel() of nothing: give it one part or more")
    graph.add("joined", joined, after=made)
    return graph


def _named(
    parts: Sequence[Strategy | Aggregator | Node], named: Mapping[str, Strategy | Aggregator | Node]
) -> list[tuple[str, Node]]:
    """Each part with a name: its own class's or function's, numbered where that is taken."""
    found: dict[str, Node] = {}
    for part in parts:
        node = part if isinstance(part, Node) else Node(part)
        base = getattr(node.part, "__name__", None) or type(node.part).__name__
        name, again = base, 2
        while name in found or name in named or name in RESERVED:
            name, again = f"{base}-{again}", again + 1
        found[name] = node
    return [*found.items(), *((n, p if isinstance(p, Node) else Node(p)) for n, p in named.items())]


def _add(graph: Graph, name: str, node: Node, after: tuple[str, ...]) -> str:
    if node.after:
        raise GraphError(f"node {name!r}: after={list(node.after)} is said by the chain; use Graph.add for other edges")
    return graph.add(
        name,
        node.part,
        after=after,
        when=node.when,
        budget=node.budget,
        enough=node.enough,
        when_failed=node.when_failed,
    )
