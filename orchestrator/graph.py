"""Composition: which strategy follows which. A graph is a DAG of strategies and aggregators, and itself a strategy.

It holds names, edges and conditions, never a loop and never a model call.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace

import networkx as nx

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.drive import drive
from reasonweave.orchestrator.errors import GraphError
from reasonweave.orchestrator.protocols import Aggregator, Condition, Finish, Strategy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidates

FINISH_SHARE = 0.1
"""Share of a time limit that is kept back for the finish."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a graph. A node with one parent gets that parent's set, with several their concatenation, in order."""

    part: Strategy | Aggregator
    after: tuple[str, ...] = ()
    when: Condition | None = None
    budget: Budget | None = None

    def __repr__(self) -> str:
        extra = [f"after={list(self.after)}"] if self.after else []
        extra += [f"when={_name(self.when)}"] if self.when else []
        extra += [f"budget={self.budget}"] if self.budget else []
        return ", ".join([_name(self.part), *extra])


class Graph:
    """A DAG of named nodes, built with `add`; the last node in it must be its only sink.

    >>> graph = Graph()
    >>> draft = graph.add("draft", len)
    >>> graph.add("vote", len, after=draft)
    'vote'
    """

    def __init__(self, *, finish: Finish | None = None) -> None:
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
        budget: Budget | None = None,
    ) -> str:
        """Add a node after its parents and return its name. `when` decides on its input whether it runs; `budget` limits
        it alone. Raises `GraphError` for a name used twice, an unknown parent, or a part that is neither a strategy nor
        a function."""
        parents = (after,) if isinstance(after, str) else tuple(after)
        if name == "finish":
            raise GraphError("a node cannot be called 'finish': that is what a graph's own finish is called")
        if name in self._nodes:
            raise GraphError(f"node {name!r} is there already; names must differ")
        if unknown := [p for p in parents if p not in self._nodes]:
            raise GraphError(f"node {name!r} comes after {unknown[0]!r}, which is not there; add parents first")
        if not isinstance(node, Strategy) and not callable(node):
            raise GraphError(f"node {name!r} is {node!r}: neither a strategy (search) nor an aggregator (a function)")
        self._nodes[name] = Node(node, parents, when, budget)
        self._dag.add_node(name)
        self._dag.add_edges_from((parent, name) for parent in parents)
        return name

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes by name, in the order of adding."""
        return dict(self._nodes)

    def __repr__(self) -> str:
        inner = [f"{name}: {node!r}" for name, node in self._nodes.items()]
        inner += [f"finish: {self.finish!r}"] if self.finish else []
        return f"Graph({'; '.join(inner)})"

    @property
    def sink(self) -> str:
        """The node whose set is the graph's. Raises `GraphError` unless there is exactly one."""
        sinks = [name for name in self._nodes if self._dag.out_degree(name) == 0]
        if len(sinks) != 1:
            raise GraphError(f"a graph needs exactly one last node; this one has {sinks or 'none'}")
        return sinks[0]

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
        answered = last.answer is not None or any(c.answer is not None for c in last)
        if self.finish is not None and not answered and not last.abstains:
            yield await self._finish(self.finish, last, run)

    async def _generations(self, roots: Candidates, run: Run) -> AsyncGenerator[Candidates, None]:
        """Run the nodes generation by generation, those of one generation at the same time; yield after each."""
        sink, last = self.sink, roots
        results: dict[str, Candidates | None] = {}
        for generation in nx.topological_generations(self._dag):
            sets = await together(self._run(name, results, roots, run) for name in generation)
            results.update(zip(generation, sets, strict=True))
            if (found := self._answer(sink, results)) is not None:
                last = found
            yield last

    async def _finish(self, finish: Finish, last: Candidates, run: Run) -> Candidates:
        finished = await drive(finish, last, run.child("finish"))
        stopped = last.stopped or finished.stopped
        return replace(finished if finished.answer is not None else last, stopped=stopped)

    async def _run(
        self, name: str, results: dict[str, Candidates | None], roots: Candidates, run: Run
    ) -> Candidates | None:
        """One node's set; None where it was skipped: its condition is false, or all its parents were skipped."""
        node = self._nodes[name]
        given = roots
        if node.after:
            sets = [found for parent in node.after if (found := results[parent]) is not None]
            if not sets:
                return None
            given = sets[0] if len(sets) == 1 else functools.reduce(Candidates.__add__, sets)
        if node.when is not None and not node.when(given):
            return None
        if isinstance(node.part, Strategy):
            return await drive(node.part, given, run.child(name, budget=node.budget))
        return replace(node.part(replace(given, seed=run.child(name).seed("ties"))), stopped=given.stopped)

    def _answer(self, sink: str, results: dict[str, Candidates | None]) -> Candidates | None:
        """The sink's set, or where it was skipped or is yet to come, that of its last finished ancestor."""
        if (found := results.get(sink)) is not None:
            return found
        ancestors = nx.ancestors(self._dag, sink)
        done = [name for name in self._nodes if name in ancestors and results.get(name) is not None]
        return results[done[-1]] if done else None


def _name(part: object) -> str:
    """A function by its name, any other part by its repr."""
    return getattr(part, "__name__", None) or repr(part)


def chain(*parts: Strategy | Aggregator, finish: Finish | None = None) -> Graph:
    """A graph in which each part follows the one before it. Nodes are named after their parts.

    >>> chain(len, max)
    Graph(len: len; max: max, after=['len'])
    """
    graph, last = Graph(finish=finish), ()
    for part in parts:
        base = getattr(part, "__name__", None) or type(part).__name__
        name, again = base, 2
        while name in graph.nodes:
            name, again = f"{base}-{again}", again + 1
        last = (graph.add(name, part, after=last),)  # type: ignore[assignment]
    return graph
