from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from reasonweave.orchestrator import (
    Budget,
    Candidates,
    Graph,
    GraphError,
    Ledger,
    Problem,
    Run,
    Sampling,
    chain,
    drive,
    solve,
)
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.orchestrator.types import Context
from reasonweave.strategies import BestOfN, ForceAnswer, majority, whole

PROBLEM = Problem("what is it")


@dataclass(frozen=True)
class Mark:
    """Appends copies of the first root and answers with its mark."""

    name: str
    copies: int = 1

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        yield replace(roots.take([0] * (len(roots) + self.copies)), answer=self.name)


@dataclass(frozen=True)
class Spend:
    """Asks a model for as much as it may, twice, and yields after each."""

    model: Model

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        for turn in range(2):
            await self.model.generate([Context(PROBLEM.messages)], run.child(turn), sampling=Sampling(max_tokens=50))
            yield replace(roots, answer=f"turn {turn}")


def final(graph: Graph, run: Run | None = None) -> Candidates:
    return asyncio.run(drive(graph, Candidates.of(PROBLEM), run or Run()))


def test_one_parent_gives_its_set_and_several_their_concatenation_in_order() -> None:
    graph = Graph()
    a = graph.add("a", Mark("a", 1))
    b = graph.add("b", Mark("b", 2))
    graph.add("both", Mark("both", 0), after=(b, a))
    assert len(final(graph)) == 2 + 3


def test_a_skipped_node_skips_what_hangs_on_it_alone() -> None:
    graph = Graph()
    a = graph.add("a", Mark("a"))
    b = graph.add("b", Mark("b"), after=a, when=lambda given: False)
    c = graph.add("c", Mark("c"), after=b)
    graph.add("end", Mark("end"), after=(a, c))
    assert final(graph).answer == "end"


def test_a_skipped_sink_leaves_the_answer_to_its_last_finished_ancestor() -> None:
    graph = Graph()
    a = graph.add("a", Mark("a"))
    b = graph.add("b", Mark("b"), after=a)
    graph.add("end", Mark("end"), after=b, when=lambda given: given.answer != "b")
    assert final(graph).answer == "b"


def test_a_child_budget_ends_its_node_only() -> None:
    model = ScriptedModel(["w " * 50])
    graph = Graph()
    graph.add("spend", Spend(model), budget=Budget(tokens=60))
    graph.add("after", Mark("after"), after="spend")
    found = final(graph)
    assert found.answer == "after"


def test_a_spent_parent_ends_each_node_and_votes_still_happen() -> None:
    model = ScriptedModel([r"\boxed{4}"])
    flow = chain(BestOfN(whole(model), n=4), majority, BestOfN(whole(model), n=50), majority)
    result = solve(PROBLEM, flow, budget=Budget(tokens=30))
    assert result.answer == "4"
    assert result.tokens <= 30


def test_the_finish_runs_on_what_was_kept_back() -> None:
    rambling = ScriptedModel(lambda request: "7}" if request.context.prefix else "w " * 500)
    flow = chain(BestOfN(whole(rambling), n=2), majority, finish=ForceAnswer(rambling))
    result = solve(PROBLEM, flow, budget=Budget(tokens=200))
    assert result.answer == "7"
    assert result.tokens <= 200
    assert result.stopped


def test_the_graph_finds_mistakes_before_it_runs() -> None:
    graph = Graph()
    graph.add("a", Mark("a"))
    with pytest.raises(GraphError, match="'a' is there already"):
        graph.add("a", Mark("a"))
    with pytest.raises(GraphError, match="'x', which is not there"):
        graph.add("b", Mark("b"), after="x")
    with pytest.raises(GraphError, match="neither a strategy"):
        graph.add("c", 3)  # type: ignore[arg-type]
    graph.add("d", Mark("d"))
    with pytest.raises(GraphError, match=r"exactly one last node; this one has \['a', 'd'\]"):
        final(graph)
    with pytest.raises(GraphError, match="none"):
        final(Graph())


def test_nodes_of_one_generation_run_at_the_same_time() -> None:
    model = ScriptedModel([r"\boxed{1}"], latency=0.05)
    graph = Graph()
    parents = [graph.add(f"s{i}", BestOfN(whole(model), n=1)) for i in range(8)]
    graph.add("vote", majority, after=parents)
    result = solve(PROBLEM, graph)
    assert len(result.candidates) == 8
    assert result.seconds < 8 * 0.05


@dataclass(frozen=True)
class Breaks:
    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        yield roots
        raise RuntimeError("a bug in a part")


def test_a_bug_in_one_node_ends_its_siblings_and_comes_out_as_itself() -> None:
    graph = Graph()
    slow = ScriptedModel(latency=30)
    parents = [graph.add("slow", BestOfN(whole(slow), n=1)), graph.add("breaks", Breaks())]
    graph.add("vote", majority, after=parents)
    ledger = Ledger(Budget(tokens=10_000))
    with pytest.raises(RuntimeError, match="a bug in a part"):
        final(graph, Run(ledger=ledger))
    assert not ledger.busy


def test_a_graph_is_its_own_configuration() -> None:
    model = ScriptedModel(name="small")
    flow = chain(BestOfN(whole(model), n=3), majority, finish=ForceAnswer(model))
    assert "BestOfN: BestOfN(policy=Sample(model=ScriptedModel('small'), until=None" in repr(flow)
    assert "majority: majority, after=['BestOfN']" in repr(flow)
    assert repr(flow) == repr(chain(BestOfN(whole(model), n=3), majority, finish=ForceAnswer(model)))


# The finish.


def says(text: str) -> ScriptedModel:
    """Writes `text`, and where an answer is forced, 9."""
    return ScriptedModel(lambda request: "9}" if request.context.prefix.endswith("boxed{") else text, role="small")


@pytest.mark.parametrize("limits", [{"tokens": 60}, {"calls": 2}, {"completion_tokens": 30}])
def test_a_limit_on_a_role_leaves_room_for_the_finish_too(limits: dict[str, int]) -> None:
    flow = chain(BestOfN(whole(says("w " * 300)), n=1, max_steps=1), majority, finish=ForceAnswer(says("")))
    assert solve(PROBLEM, flow, budget=Budget(small=Budget(**limits))).answer == "9"


def test_the_finish_leaves_a_candidates_answer_alone() -> None:
    model = says(r"so \boxed{4}")
    result = solve(PROBLEM, chain(BestOfN(whole(model), n=3, max_steps=1), finish=ForceAnswer(model)))
    assert result.answer == "4"
    assert result.total.calls == 3


@dataclass(frozen=True)
class Nap:
    """A part that starts a moment later than its siblings."""

    part: Graph

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        await asyncio.sleep(0)
        async for found in self.part.search(roots, run):
            yield found


def test_who_starts_later_is_not_cut_to_what_siblings_happen_to_hold() -> None:
    model = ScriptedModel(
        lambda r: "9}" if r.context.prefix.endswith("boxed{") else "w " * 30 + r"\boxed{4}", latency=0.02
    )

    def four() -> Graph:
        return chain(BestOfN(whole(model, max_tokens=100), n=4, max_steps=1), majority, finish=ForceAnswer(model))

    graph = Graph()
    graph.add("a", four())
    graph.add("b", Nap(four()))
    graph.add("v", majority, after=["a", "b"])
    result = solve(PROBLEM, graph, budget=Budget(tokens=450))
    assert [c.tokens for c in result.candidates] == [31] * 8


def test_an_empty_set_is_a_result() -> None:
    flow = chain(BestOfN(whole(says(r"\boxed{1}")), n=2, max_steps=1), lambda found: Candidates((), answer="5"))
    assert solve(PROBLEM, flow).answer == "5"


@dataclass(frozen=True)
class Twice:
    """Two calls at once, in a task group of its own."""

    model: Model

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        yield roots
        async with asyncio.TaskGroup() as group:
            for i in range(2):
                group.create_task(
                    self.model.generate([Context(PROBLEM.messages)], run.child(i), sampling=Sampling(max_tokens=5))
                )
        yield roots


def test_a_limit_within_a_task_group_ends_the_strategy_and_keeps_what_it_had() -> None:
    result = solve(PROBLEM, Twice(ScriptedModel()), budget=Budget(tokens=1))
    assert "tokens" in str(result.stopped)
    assert len(result.candidates) == 1


def test_a_limit_upstream_is_told_at_the_end() -> None:
    graph = Graph()
    graph.add("a", Spend(ScriptedModel(["x"])), budget=Budget(tokens=6))
    graph.add("b", Mark("b"), after="a")
    assert "tokens" in str(solve(PROBLEM, graph).stopped)


def test_a_node_cannot_be_called_finish() -> None:
    with pytest.raises(GraphError, match="finish"):
        Graph().add("finish", majority)
