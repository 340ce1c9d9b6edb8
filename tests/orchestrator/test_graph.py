from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Completion,
    Graph,
    GraphError,
    Ledger,
    ModelError,
    Node,
    Problem,
    Request,
    Run,
    Sampling,
    Score,
    chain,
    check,
    drive,
    parallel,
    solve,
    sure,
    unsure,
)
from reasonweave.orchestrator.checking import within
from reasonweave.orchestrator.conditions import Sure
from reasonweave.orchestrator.errors import described
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.trace import Event, Skipped
from reasonweave.orchestrator.types import Context
from reasonweave.strategies import (
    ESC,
    Agreement,
    BestOfN,
    Cascade,
    ForceAnswer,
    SoftBest,
    Tier,
    best,
    escalate,
    majority,
    rpc,
    weighted,
    whole,
)
from reasonweave.verifiers import ProcessReward

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


# Nodes that say more: early exit, stand-ins, names; and what is found before a token is spent.


def test_enough_ends_the_graph_there() -> None:
    dear = ScriptedModel(["x"], name="dear")
    flow = chain(Node(Mark("cheap"), enough=lambda found: found.answer == "cheap"), BestOfN(whole(dear), n=2), majority)
    events: list[Event] = []
    assert final(flow, Run(tracer=events.append)).answer == "cheap"
    assert not dear.calls
    assert [(e.path, e.why) for e in events if isinstance(e, Skipped)] == [
        (("BestOfN",), "'Mark' was enough"),
        (("majority",), "'Mark' was enough"),
    ]


def test_a_node_that_fails_is_named_by_its_path() -> None:
    inner = chain(Mark("a"), worker=Breaks())
    with pytest.raises(RuntimeError) as caught:
        final(chain(Mark("b"), outer=inner))
    assert caught.value.__notes__ == ["(in node outer/worker)"]
    assert described(caught.value) == "RuntimeError: a bug in a part (in node outer/worker)"


def test_a_vote_that_fails_is_named_too() -> None:
    def broken(found: Candidates) -> Candidates:
        raise ZeroDivisionError("nothing to divide")

    with pytest.raises(ZeroDivisionError) as caught:
        final(chain(Mark("b"), broken))
    assert caught.value.__notes__ == ["(in node broken)"]


def test_a_stand_in_runs_where_a_node_raises_and_the_result_says_so() -> None:
    flow = chain(Node(Breaks(), when_failed=Mark("instead")), Mark("after"))
    result = solve(PROBLEM, flow)
    assert result.answer == "after"
    assert len(result.candidates) == 3
    assert result.errors == (
        "RuntimeError: a bug in a part (in node Breaks; Mark(name='instead', copies=1) in its place)",
    )


class Dead(ScriptedModel):
    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise ModelError("server gone")


def test_a_stand_in_runs_where_every_candidate_failed() -> None:
    alive = ScriptedModel([r"\boxed{7}"])
    first = BestOfN(whole(Dead(name="dead")), n=2, max_steps=1)
    flow = chain(Node(first, when_failed=BestOfN(whole(alive), n=1, max_steps=1)), majority)
    result = solve(PROBLEM, flow)
    assert result.answer == "7"
    assert any("all 2 candidates failed" in error and "server gone" in error for error in result.errors)


def test_a_stand_in_is_for_failures_only() -> None:
    idle = ScriptedModel(["x"])
    result = solve(PROBLEM, chain(Node(Mark("fine"), when_failed=BestOfN(whole(idle), n=1)), Mark("after")))
    assert not idle.calls
    assert not result.errors
    spent = solve(PROBLEM, chain(Node(Spend(idle), when_failed=Mark("instead"))), budget=Budget(tokens=1))
    assert spent.answer is None  # a limit is no failure


def test_a_users_mistake_is_not_replaced() -> None:
    def mistaken(found: Candidates) -> Candidates:
        raise BadInput("no such file")

    with pytest.raises(BadInput, match="no such file"):
        final(chain(Node(mistaken, when_failed=majority)))


BAD_PARTS = {
    "a class": (BestOfN, "call it, as BestOfN"),
    "a step policy": (whole(ScriptedModel()), "step policy.*BestOfN"),
    "a verifier": (ProcessReward(ScriptedReward()), "is a verifier.*verifier="),
    "a number": (3, "neither a strategy"),
    "two arguments": (lambda a, b: a, "called with one candidate set"),
    "none": (lambda: Candidates(), "called with one candidate set"),
    "a factory": (rpc, r"returns \w+.*did you mean rpc\(…\)"),
}


@pytest.mark.parametrize(("part", "told"), BAD_PARTS.values(), ids=BAD_PARTS)
def test_what_is_no_part_is_told_when_it_is_added(part: object, told: str) -> None:
    with pytest.raises(GraphError, match=told):
        chain(part)  # type: ignore[arg-type]


def test_a_vote_that_returns_something_else_is_told() -> None:
    with pytest.raises(GraphError, match=r"node vote: .* returned int, not Candidates"):
        final(chain(Mark("a"), vote=lambda found: 3))  # type: ignore[arg-type, return-value]


def test_a_strategy_that_yields_something_else_is_told() -> None:
    class Yields:
        async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
            yield 4  # type: ignore[misc]

    with pytest.raises(GraphError, match="Yields yielded 4, not Candidates"):
        final(chain(Yields()))


def scoring(model: Model) -> BestOfN:
    return BestOfN(whole(model), n=2, verifier=ProcessReward(ScriptedReward()))


def test_votes_by_scores_where_there_are_none_are_found_before_a_token_is_spent() -> None:
    model = ScriptedModel()
    for flow in (
        chain(BestOfN(whole(model), n=2), weighted),
        chain(BestOfN(whole(model), n=2), best),
        chain(ESC(whole(model), n=4), SoftBest()),
        chain(parallel(BestOfN(whole(model), n=2), BestOfN(whole(model), n=3)), weighted),
        Cascade((Tier(chain(BestOfN(whole(model), n=2), weighted), Agreement()), Tier(scoring(model)))),
    ):
        with pytest.raises(GraphError, match=r"chooses by scores, and .* gives none"):
            solve(PROBLEM, flow)
    assert not model.calls
    for flow in (
        chain(scoring(model), weighted),
        chain(parallel(scoring(model), BestOfN(whole(model), n=1)), weighted),
        chain(BestOfN(whole(model), n=2), Mark("might score"), weighted),
        chain(weighted),
    ):
        check(flow)


def test_a_graph_inside_is_checked_before_the_one_outside_begins() -> None:
    model, two = ScriptedModel(), Graph()
    two.add("a", Mark("a"))
    two.add("b", Mark("b"))
    for flow in (chain(BestOfN(whole(model)), two), chain(BestOfN(whole(model)), escalate(two))):
        with pytest.raises(GraphError, match=r"exactly one last node.*'a' and 'b' lead nowhere"):
            solve(PROBLEM, flow)
    assert not model.calls


def test_budgets_that_can_never_be_are_found() -> None:
    inner = chain(Node(Mark("a"), budget=Budget(tokens=500)))
    with pytest.raises(GraphError, match="node outer/Mark may spend tokens=500, and the node around it only 100"):
        check(chain(outer=Node(inner, budget=Budget(tokens=100))))
    check(chain(outer=Node(inner, budget=Budget(tokens=500, calls=3))))
    model = ScriptedModel(role="small")
    with pytest.raises(GraphError, match="node BestOfN: its budget limits 'larg', and its models are small"):
        check(chain(Node(BestOfN(whole(model)), budget=Budget(larg=Budget(calls=1)))))
    both = Node(
        chain(Node(BestOfN(whole(model)), budget=Budget(small=Budget(calls=9)))), budget=Budget(small=Budget(calls=2))
    )
    with pytest.raises(GraphError, match="may spend calls=9 by small, and the node around it only 2"):
        check(chain(both))
    # a budget given for one run may be smaller than what nodes may spend: it is the run's to say
    assert solve(PROBLEM, chain(Node(Mark("a"), budget=Budget(tokens=500))), budget=Budget(tokens=1)).answer == "a"


def test_other_mistakes_in_nodes() -> None:
    with pytest.raises(GraphError, match="without '/'"):
        Graph().add("a/b", majority)
    with pytest.raises(GraphError, match=r"when=0\.6 is no function"):
        Graph().add("a", majority, when=0.6)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="write Budget"):
        Graph().add("a", majority, budget=500)  # type: ignore[arg-type]
    graph = Graph()
    graph.add("a", majority)
    with pytest.raises(GraphError, match="one of them twice"):
        graph.add("b", majority, after=["a", "a"])
    with pytest.raises(GraphError, match="is said by the chain"):
        chain(Node(majority, after=("x",)))
    with pytest.raises(GraphError, match="of nothing"):
        parallel()
    assert list(chain(majority, majority, vote=majority).nodes) == ["majority", "majority-2", "vote"]


def test_conditions() -> None:
    clear = Candidates(answer="4", confidence=0.7)
    assert sure(0.7)(clear)
    assert not sure(0.71)(clear)
    assert unsure(0.71)(clear)
    assert unsure()(Candidates(confidence=0.9))
    assert unsure()(Candidates(answer="4"))
    assert not sure(0.0)(Candidates(answer="4", confidence=float("nan")))
    assert repr(sure(0.7)) == "Sure(least=0.7)"


# Legitimate flows, and what is wrong with others: each of these was a false error, or passed.


class Judge:
    """A verifier that is no dataclass."""

    def __init__(self, model: Model) -> None:
        self.model = model

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(0.5) for _ in candidates]


@dataclass(frozen=True)
class Two:
    first: Graph
    second: Graph

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        yield roots


class Votes(Candidates):
    pass


def any_at_all(found: Candidates) -> Any:
    return found


def votes(found: Candidates) -> Votes:
    return Votes(found.items)


@functools.wraps(rpc)
def wrapped(found: Candidates) -> Candidates:
    return found


class Both:
    """An aggregator that happens to have a score method."""

    def __call__(self, found: Candidates) -> Candidates:
        return found

    async def score(self) -> None: ...


def finish(found: Candidates) -> Candidates:
    return found


def rescored(found: Candidates) -> Candidates:
    return found.scored([Score(0.5)] * len(found))


def test_legitimate_flows_pass() -> None:
    small, large = ScriptedModel(role="small"), ScriptedModel(role="large")
    of_large = Budget(large=Budget(calls=3))
    inner = chain(b=Node(Mark("b"), budget=Budget(tokens=500)))
    for flow in (
        chain(Node(BestOfN(whole(small)), budget=of_large, when_failed=BestOfN(whole(large)))),
        chain(Node(BestOfN(whole(small), verifier=Judge(large)), budget=of_large)),
        chain(BestOfN(whole(small), n=2), rescored, best),
        Two(chain(a=Node(Mark("a"), budget=Budget(tokens=100))), chain(a=inner)),
        chain(any_at_all, votes, wrapped, Both(), finish),
    ):
        check(flow)
    assert list(chain(finish).nodes) == ["finish-2"]


def test_parts_that_hold_themselves_are_checked_once() -> None:
    class Loop:
        inside: ClassVar[dict[object, object]] = {}

        async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
            yield roots

    loop = Loop()
    Loop.inside = {"again": loop, 3: [loop, Mark("a")]}
    check(loop)

    class Shy(Loop):
        @property
        def inside(self) -> Any:  # type: ignore[override]
            raise RuntimeError("not now")

    assert solve(PROBLEM, Shy()).answer is None
    deep: object = Mark("a")
    for _ in range(3_000):
        deep = [deep]
    check(Two(deep, chain(Mark("a"))))  # type: ignore[arg-type]
    graph = Graph()
    with pytest.raises(GraphError, match="the graph itself"):
        graph.add("again", graph)
    other = chain(x=graph)
    with pytest.raises(GraphError, match="'b' has the graph itself in it"):
        graph.add("b", other)

    def tower(height: int) -> Graph:
        return chain(tower(height - 1) if height else Mark("a"))

    check(tower(150))
    with pytest.raises(GraphError, match="graphs within graphs, 200 deep"):
        tower(300)


def test_memories_are_not_walked() -> None:
    @dataclass(frozen=True)
    class Remembers:
        memory: dict[int, object] = field(default_factory=dict, repr=False, compare=False)
        listed: tuple[object, ...] = ()

        async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
            yield roots

    seen = list(within(Remembers({i: Mark(str(i)) for i in range(5_000)}, tuple(Mark(str(i)) for i in range(5_000)))))
    assert len(seen) <= 250


async def slowly(found: Candidates) -> bool:
    return True


@pytest.mark.parametrize("condition", [sure, unsure, Sure, slowly, lambda: True, 3])
def test_conditions_that_were_not_called_are_told(condition: object) -> None:
    with pytest.raises(GraphError, match="enough="):
        chain(Node(Mark("a"), enough=condition))  # type: ignore[arg-type]
    with pytest.raises(GraphError, match=r"gave .* no truth value"):
        final(chain(Node(Mark("a"), when=lambda found: sure)))  # type: ignore[arg-type, return-value]
    with pytest.raises(GraphError, match="is async"):
        chain(slowly)  # type: ignore[arg-type]


def breaks(found: Candidates) -> bool:
    raise ZeroDivisionError("no")


def test_errors_name_their_node_wherever_they_come_from() -> None:
    def note(flow: Graph) -> str:
        with pytest.raises((ZeroDivisionError, RuntimeError)) as caught:
            final(flow)
        return str(caught.value.__notes__)

    assert note(chain(outer=chain(a=Node(Mark("a"), when=breaks)))) == "['(in node outer/a)']"
    assert note(chain(outer=chain(a=Node(Mark("a"), enough=breaks)))) == "['(in node outer/a)']"

    def fails(found: Candidates) -> Candidates:
        return replace(found, abstains=breaks(found))

    failing = Node(fails, when_failed=Breaks())
    with pytest.raises(RuntimeError) as caught:
        final(chain(a=failing))
    assert caught.value.__notes__ == ["(in node a/instead)"]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    once = RuntimeError("the same one")

    def same(found: Candidates) -> Candidates:
        raise once

    assert note(chain(a=same)) == "['(in node a)']"
    assert note(chain(b=same)) == "['(in node b)']"


class Unlucky(ForceAnswer):
    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        raise RuntimeError("no luck")
        yield roots


def test_mistakes_in_finishes_and_nested_graphs() -> None:
    with pytest.raises(GraphError, match="a finish has search"):
        chain(Mark("a"), finish=majority)  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="a finish has search"):
        chain(Mark("a"), finish=BestOfN(whole(ScriptedModel())))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError) as caught:
        final(chain(BestOfN(whole(ScriptedModel(["x"])), n=1), finish=Unlucky(ScriptedModel())))
    assert caught.value.__notes__ == ["(in node finish)"]
    with pytest.raises(GraphError, match="node 'a': give its part"):
        Graph().add("a", Node(majority))  # type: ignore[arg-type]
    two = Graph()
    two.add("a", Mark("a"))
    two.add("b", Mark("b"))
    with pytest.raises(GraphError, match="node outer/inner: a graph needs"):
        check(chain(outer=chain(inner=two)))


def test_an_empty_set_may_be_enough() -> None:
    rest = ScriptedModel(["x"])
    flow = chain(
        Mark("a"),
        empty=Node(lambda found: Candidates((), answer="none"), enough=lambda found: True),
        rest=BestOfN(whole(rest), n=1),
    )
    found = final(flow)
    assert (found.answer, len(found)) == ("none", 0)
    assert not rest.calls


def test_a_share_is_told_as_one() -> None:
    flow = parallel(a=Spend(ScriptedModel(["w " * 40])), b=Spend(ScriptedModel(["w " * 40])))
    assert "left of its share, Budget(tokens=" in str(solve(PROBLEM, flow, budget=Budget(tokens=70)).stopped)
