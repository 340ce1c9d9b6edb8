"""Graphs against an interpreter written apart from them, on random DAGs; and how siblings share a budget."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Graph,
    Ledger,
    Node,
    OverBudget,
    Problem,
    Run,
    Sampling,
    Share,
    Step,
    Strategy,
    asolve,
    chain,
    drive,
    parallel,
    solve,
)
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.trace import Ended, Event, Skipped
from reasonweave.orchestrator.types import Context

PROBLEM = Problem("what is it")


@dataclass(frozen=True)
class Grow:
    """Adds candidates that say where in the run they were made and what its seed draws there."""

    copies: int

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        await asyncio.sleep(0)
        made = [Candidate(PROBLEM, (Step(f"{run.path} {run.seed(i)}", "m", 1),), done=True) for i in range(self.copies)]
        yield Candidates((*roots.items, *made), answer=str(len(roots) + self.copies), confidence=0.5)


@dataclass(frozen=True)
class Halve:
    """An aggregator: every second candidate."""

    def __call__(self, candidates: Candidates) -> Candidates:
        return replace(candidates, items=candidates.items[::2], answer=f"half of {len(candidates)}")


@dataclass(frozen=True)
class Odd:
    """A condition that depends on the set alone."""

    modulus: int

    def __call__(self, candidates: Candidates) -> bool:
        return len(candidates) % self.modulus != 0


@st.composite
def plans(draw: st.DrawFn) -> list[Node]:
    """Nodes named by their index, each after some earlier ones; the last one after all that would lead nowhere."""
    count = draw(st.integers(1, 7))
    nodes: list[Node] = []
    conditions = st.one_of(st.none(), st.builds(Odd, st.integers(2, 4)))
    for i in range(count):
        after = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else []
        if i == count - 1:
            used = {int(parent) for node in nodes for parent in node.after}
            after = sorted({*after, *(j for j in range(i) if j not in used)})
        part = draw(st.one_of(st.builds(Grow, st.integers(0, 3)), st.just(Halve())))
        enough = draw(st.one_of(st.none(), st.none(), st.none(), conditions))
        nodes.append(Node(part, tuple(map(str, after)), draw(conditions), None, enough))
    return nodes


def built(nodes: list[Node]) -> Graph:
    graph = Graph()
    for i, node in enumerate(nodes):
        graph.add(str(i), node.part, after=node.after, when=node.when, enough=node.enough)
    return graph


def interpreted(nodes: list[Node], roots: Candidates, run: Run) -> tuple[Candidates, set[str]]:
    """What the documentation says of a graph, one node after another: its last set, and which nodes ran."""
    depth: dict[str, int] = {}
    for i, node in enumerate(nodes):
        depth[str(i)] = 1 + max((depth[parent] for parent in node.after), default=-1)
    found: dict[str, Candidates | None] = {}
    ran: set[str] = set()

    def given_to(node: Node) -> Candidates | None:
        if not node.after:
            return roots
        sets = [found[parent] for parent in node.after if found[parent] is not None]
        if not sets:
            return None
        if len(sets) == 1:
            return sets[0]
        return Candidates(tuple(c for each in sets if each is not None for c in each.items))

    for level in range(max(depth.values()) + 1):
        here = [name for name in depth if depth[name] == level]
        for name in here:
            node, given = nodes[int(name)], given_to(nodes[int(name)])
            if given is None or (node.when is not None and not node.when(given)):
                found[name] = None
                continue
            ran.add(name)
            child = run.child(name)
            if isinstance(node.part, Grow):
                found[name] = asyncio.run(drive(node.part, given, child))
            else:
                found[name] = node.part(replace(given, seed=child.seed("ties")))  # type: ignore[operator]
        for name in here:
            enough, last = nodes[int(name)].enough, found[name]
            if enough is not None and last is not None and enough(last):
                return last, ran
    sink = str(len(nodes) - 1)
    reaching: set[str] = {sink}
    for i in reversed(range(len(nodes))):
        if str(i) in reaching:
            reaching |= set(nodes[i].after)
    finished = [name for name in sorted(reaching, key=int) if found.get(name) is not None]
    last = found[sink] if found[sink] is not None else (found[finished[-1]] if finished else None)
    return (roots if last is None else last), ran


def conclusion(found: Candidates) -> tuple[object, ...]:
    return tuple(c.text for c in found), found.answer, found.confidence


@given(plans(), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_a_graph_is_what_an_interpreter_makes_of_it(nodes: list[Node], seed: int) -> None:
    roots, events = Candidates.of(PROBLEM), list[Event]()
    found = asyncio.run(drive(built(nodes), roots, Run(seed, tracer=events.append)))
    expected, ran = interpreted(nodes, roots, Run(seed))
    assert conclusion(found) == conclusion(expected)
    assert {e.path[0] for e in events if isinstance(e, Ended) and e.path} == ran
    assert {e.path[0] for e in events if isinstance(e, Skipped)} == set(map(str, range(len(nodes)))) - ran


@given(plans(), plans(), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_a_chain_is_one_after_the_other_and_a_graph_within_is_that_graph(
    first: list[Node], second: list[Node], seed: int
) -> None:
    roots, run = Candidates.of(PROBLEM), Run(seed)
    a, b = built(first), built(second)
    found = asyncio.run(drive(chain(a=a, b=b), roots, Run(seed)))
    middle = asyncio.run(drive(a, roots, run.child("a")))
    assert conclusion(found) == conclusion(asyncio.run(drive(b, middle, run.child("b"))))


@given(st.lists(plans(), min_size=1, max_size=4), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_parallel_is_separate_runs(parts: list[list[Node]], seed: int) -> None:
    roots, names = Candidates.of(PROBLEM), [f"part {i}" for i in range(len(parts))]
    flow = parallel(**{name: built(part) for name, part in zip(names, parts, strict=True)})
    found = asyncio.run(drive(flow, roots, Run(seed)))
    apart = [asyncio.run(drive(built(p), roots, Run(seed).child(name))) for name, p in zip(names, parts, strict=True)]
    assert [c.text for c in found] == [c.text for each in apart for c in each]


# Budgets.


@dataclass(frozen=True)
class Ask:
    """Asks a model so often, one call after the other, and yields after each."""

    model: Model
    times: int
    most: int = 1

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        for turn in range(self.times):
            (written,) = await self.model.generate(
                [Context(PROBLEM.messages)], run.child(turn), sampling=Sampling(max_tokens=self.most)
            )
            step = Step(written.text, "m", len(written.tokens))
            roots = Candidates((*(c for c in roots if c.steps), Candidate(PROBLEM, (step,), done=True)))
            yield roots


def shares_of(demands: list[int], budget: Budget, *, naps: bool = False) -> list[int]:
    """How many calls each of so many siblings could make."""
    models = [ScriptedModel(["x"], name=f"m{i}", latency=0.001 * (i % 3) if naps else 0) for i in range(len(demands))]
    flow = parallel(**{f"n{i}": Ask(m, d) for i, (m, d) in enumerate(zip(models, demands, strict=True))})
    solve(PROBLEM, flow, budget=budget)
    return [len(m.calls) for m in models]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 30), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_sibling_starves_another_and_nothing_is_left_unused(demands: list[int], calls: int, naps: bool) -> None:
    got = shares_of(demands, Budget(calls=calls), naps=naps)
    assert sum(got) == min(calls, sum(demands))
    assert all(mine >= min(wanted, calls // len(demands)) for mine, wanted in zip(got, demands, strict=True))
    # max-min fair, up to the one call that cannot be halved: who got less than another has got all he wanted
    for mine, wanted in zip(got, demands, strict=True):
        assert mine == wanted or mine >= max(got) - 1 - calls % len(demands)


def test_a_greedy_sibling_leaves_the_others_their_share() -> None:
    assert shares_of([100, 2, 2], Budget(calls=12)) == [8, 2, 2]


def test_a_batch_does_not_take_what_its_sibling_needs() -> None:
    @dataclass(frozen=True)
    class Batch:
        model: Model

        async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
            written = await self.model.generate([Context(PROBLEM.messages)] * 50, run, sampling=Sampling(max_tokens=1))
            yield Candidates(tuple(Candidate(PROBLEM, (Step(w.text, "m", 1),)) for w in written if w.text))

    big, little = ScriptedModel(["x"], name="big"), ScriptedModel(["x"], name="little")
    flow = parallel(big=Batch(big), little=Ask(little, 5))
    result = solve(PROBLEM, flow, budget=Budget(calls=20))
    assert len(little.calls) == 5
    assert result.total.calls == 20


def test_roles_are_shared_too() -> None:
    large = ScriptedModel(["x"], name="large", role="large")
    flow = parallel(a=Ask(large, 9), b=Ask(large, 9))
    solve(PROBLEM, flow, budget=Budget(large=Budget(calls=6)))
    asked = [r.session for call in large.calls for r in call]
    assert len(asked) == 6
    apart = [ScriptedModel(["x"], name=n, role="large") for n in "ab"]
    solve(PROBLEM, parallel(a=Ask(apart[0], 9), b=Ask(apart[1], 9)), budget=Budget(large=Budget(calls=6)))
    assert [len(m.calls) for m in apart] == [3, 3]


def test_shares_within_shares_reach_what_is_left_over_outside() -> None:
    models = {name: ScriptedModel(["x"], name=name) for name in "abc"}
    inner = parallel(a=Ask(models["a"], 9), b=Ask(models["b"], 9))
    solve(PROBLEM, parallel(inner=inner, c=Ask(models["c"], 1)), budget=Budget(calls=13))
    assert {name: len(m.calls) for name, m in models.items()} == {"a": 6, "b": 6, "c": 1}


@st.composite
def spenders(draw: st.DrawFn) -> tuple[list[Node], Budget]:
    limits = st.builds(lambda t, c: Budget(tokens=t, calls=c), st.integers(0, 120), st.integers(0, 12))
    nodes: list[Node] = []
    count = draw(st.integers(1, 6))
    for i in range(count):
        after = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=2)) if i else []
        if i == count - 1:
            used = {int(parent) for node in nodes for parent in node.after}
            after = sorted({*after, *(j for j in range(i) if j not in used)})
        model = ScriptedModel(["w " * draw(st.integers(1, 12))], name=f"m{i}")
        part = Ask(model, draw(st.integers(0, 4)), draw(st.integers(1, 15)))
        nodes.append(Node(part, tuple(map(str, after)), None, draw(st.one_of(st.none(), limits))))
    return nodes, draw(limits)


@given(spenders())
@settings(max_examples=200, deadline=None)
def test_budgets_hold_at_every_node_and_nothing_hangs(plan: tuple[list[Node], Budget]) -> None:
    nodes, whole = plan
    graph = Graph()
    for i, node in enumerate(nodes):
        graph.add(str(i), node.part, after=node.after, budget=node.budget)
    spent: dict[object, list[int]] = {}

    def note(event: Event) -> None:
        usage = getattr(event, "usage", None)
        if usage is not None:
            mine = spent.setdefault(event.path[0], [0, 0])
            mine[0], mine[1] = mine[0] + usage.tokens, mine[1] + usage.calls

    ledger = Ledger(whole)
    run = Run(ledger=ledger, tracer=note)

    async def timed() -> Candidates:
        async with asyncio.timeout(20):
            return await drive(graph, Candidates.of(PROBLEM), run)

    asyncio.run(timed())
    assert not ledger.busy
    assert ledger.spent.tokens <= (whole.tokens or 0)
    assert ledger.spent.calls <= (whole.calls or 0)
    for i, node in enumerate(nodes):
        if node.budget is not None:
            assert spent.get(str(i), [0, 0])[0] <= (node.budget.tokens or 0)
            assert spent.get(str(i), [0, 0])[1] <= (node.budget.calls or 0)


@pytest.mark.parametrize("tokens", range(0, 200, 10))
def test_what_was_finished_within_any_budget_comes_out(tokens: int) -> None:
    model = ScriptedModel(["w " * 8 + r"\boxed{4}"])
    flow = chain(parallel(a=Ask(model, 3, 20), b=Ask(model, 3, 20)))
    result = solve(PROBLEM, flow, budget=Budget(tokens=tokens))
    assert result.tokens <= tokens
    assert len([c for c in result.candidates if c.steps]) == result.total.calls


def test_a_share_is_a_part_of_what_is_left_then() -> None:
    models = [ScriptedModel(["x"], name=name) for name in "abc"]
    first, second, third = (Ask(model, 100) for model in models)
    flow = chain(a=Node(first, budget=Share(0.5)), b=Node(second, budget=Share(0.5)), c=third)
    solve(PROBLEM, flow, budget=Budget(calls=20))
    assert [len(model.calls) for model in models] == [10, 5, 5]
    role = [ScriptedModel(["x"], name=name, role="large") for name in "ab"]
    flow = chain(a=Node(Ask(role[0], 9), budget=Share(0.5)), b=Ask(role[1], 9))
    solve(PROBLEM, flow, budget=Budget(large=Budget(calls=8)))
    assert [len(model.calls) for model in role] == [4, 4]
    free = ScriptedModel(["x"])
    solve(PROBLEM, chain(Node(Ask(free, 9), budget=Share(0.0))))
    assert len(free.calls) == 9
    with pytest.raises(BadInput, match="0 to 1"):
        Share(70)


class Ticking:
    """A clock that goes on at every look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize("looks", range(1, 60))
def test_a_deadline_in_the_middle_of_holding_leaves_nothing_held(looks: int) -> None:
    async def spend(ledger: Ledger) -> None:
        run, model = Run(ledger=ledger), ScriptedModel(["x"])
        candidates = [Candidate(PROBLEM, (Step(f"{i}", "m", 1),)) for i in range(6)]
        for each in (
            model.generate([Context(PROBLEM.messages)] * 6, run.child("m"), sampling=Sampling(max_tokens=5)),
            ScriptedReward().rate(candidates, run.child("r")),
        ):
            with contextlib.suppress(OverBudget):
                await each

    ledger = Ledger(Budget(seconds=looks, tokens=10_000), clock=Ticking(1.0))
    asyncio.run(spend(ledger))
    assert not ledger.busy
    assert not ledger.held.tokens


@pytest.mark.parametrize("latency", [0.0, 0.05])
def test_shares_within_shares_wait_for_what_is_left_over_outside(latency: float) -> None:
    models = {name: ScriptedModel(["x"], name=name, latency=latency if name == "c" else 0) for name in "abc"}
    inner = parallel(a=Ask(models["a"], 9), b=Ask(models["b"], 9))
    solve(PROBLEM, parallel(inner=inner, c=Ask(models["c"], 1)), budget=Budget(calls=13))
    assert {name: len(m.calls) for name, m in models.items()} == {"a": 6, "b": 6, "c": 1}


def test_shares_wait_for_what_others_on_the_same_account_hold() -> None:
    """As a whole evaluation has: a run that holds nearly everything for a moment, and one that finds little left."""

    async def both(flow: Strategy) -> int:
        whole = Ledger(Budget(tokens=100))
        slow = ScriptedModel(["x"], latency=0.05)
        prompt = slow.count(Context(PROBLEM.messages))

        async def big() -> None:
            run = Run(1, ledger=Ledger(None, whole))
            await slow.generate([Context(PROBLEM.messages)], run, sampling=Sampling(max_tokens=92 - prompt))

        async def small() -> int:
            await asyncio.sleep(0.01)
            return (await asolve(PROBLEM, flow, within=whole)).total.calls

        return (await asyncio.gather(big(), small()))[1]

    models = [ScriptedModel(["x"], name=name) for name in "ab"]
    parts = {m.name: Ask(m, 2, 5) for m in models}
    assert asyncio.run(both(parallel(**parts))) == 4
    assert asyncio.run(both(chain(**parts))) == 4


def test_a_stand_in_has_a_share_too() -> None:
    def boom(found: Candidates) -> Candidates:
        raise RuntimeError("boom")

    greedy, slow = ScriptedModel(["x"], name="greedy"), ScriptedModel(["x"], name="slow", latency=0.002)
    flow = parallel(a=Node(boom, when_failed=Ask(greedy, 100)), b=Ask(slow, 5))
    solve(PROBLEM, flow, budget=Budget(calls=10))
    assert [len(greedy.calls), len(slow.calls)] == [5, 5]


def test_shares_of_shares_are_worked_out_once_a_look() -> None:
    """Counted, not timed: without that, each level doubles the work."""
    looks = 0

    class Counting(Ledger):
        def left(self, role: str | None = None) -> dict[str, float]:
            nonlocal looks
            looks += 1
            return super().left(role)

    def nested(depth: int) -> Graph:
        model = ScriptedModel(["x"])
        inner = nested(depth - 1) if depth else Ask(model, 3)
        return parallel(inner=inner, other=Ask(model, 1))

    found = []
    for depth in (2, 6):
        looks = 0
        asyncio.run(drive(nested(depth), Candidates.of(PROBLEM), Run(ledger=Counting(Budget(tokens=10_000)))))
        found.append(looks)
    assert found[1] < 6 * found[0]


def test_both_abstain_and_so_do_they_together() -> None:
    @dataclass(frozen=True)
    class Silent:
        abstains: bool

        async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
            yield replace(roots, abstains=self.abstains)

    def together(*abstain: bool) -> bool:
        return solve(PROBLEM, parallel(*map(Silent, abstain))).candidates.abstains

    assert together(True, True)
    assert not together(True, False)
