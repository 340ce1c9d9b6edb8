from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonweave.orchestrator import BadInput, Budget, Context, Ledger, OverBudget, Problem, Rates, Run, Sampling, Usage
from reasonweave.orchestrator.budget import Hold, Reserve
from reasonweave.orchestrator.testing import ScriptedModel

RATES = Rates(active=10.0, usd_prompt=0.01, usd_cached=0.002, usd_completion=0.03)


def test_parse_reads_units_and_roles() -> None:
    budget = Budget.parse("tokens=20k, usd=0.5,large.tokens=5k,large.calls=3")
    assert repr(budget) == "Budget(tokens=20000, usd=0.5, large=Budget(tokens=5000, calls=3))"
    assert Budget.parse("") == Budget()
    assert not Budget()
    assert budget


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tokens", "write LIMIT=NUMBER"),
        ("token=5", "one of tokens"),
        ("tokens=many", "'many' is not a number"),
        ("tokens=-1", "0 or more"),
        ("tokens=inf", "finite"),
        ("large.seconds=3", "time has no role"),
        ("tokens=5,tokens.calls=3", "write LIMIT=NUMBER"),
        ("a.b.tokens=5", "write LIMIT=NUMBER"),
    ],
)
def test_parse_says_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        Budget.parse(text)


def test_price_counts_cached_tokens_once() -> None:
    usage = RATES.price(prompt=100, cached=60, completion=10)
    assert usage.flops == 2 * 10 * (40 + 10)
    assert usage.usd == pytest.approx(40 * 0.01 + 60 * 0.002 + 10 * 0.03)
    assert usage.tokens == 110


def test_the_refusal_says_where_what_and_how_much() -> None:
    ledger = Ledger(Budget(tokens=100))
    ledger.settle(ledger.hold("m", Usage(prompt=20, calls=1)), Usage(prompt=20, calls=1))
    with pytest.raises(
        OverBudget, match=r"pf/step/3: asked for 512 tokens, 80 left of Budget\(tokens=100\); raise budget="
    ):
        ledger.hold("m", Usage(prompt=500, completion=12), ("pf", "step", 3))


def test_a_hold_is_settled_once() -> None:
    ledger = Ledger()
    hold = ledger.hold("m", Usage(prompt=1))
    ledger.settle(hold, Usage(prompt=1))
    with pytest.raises(KeyError):
        ledger.settle(hold, Usage(prompt=1))


def test_a_child_pays_on_every_ancestor_and_a_role_on_its_own_limit() -> None:
    root = Ledger(Budget(tokens=100, large=Budget(calls=1)))
    child = Ledger(Budget(tokens=30), root)
    child.settle(child.hold("large", Usage(prompt=10, calls=1)), Usage(prompt=10, calls=1))
    assert root.spent == child.spent == root.spent_by("large") == Usage(prompt=10, calls=1)
    with pytest.raises(OverBudget, match="calls"):
        child.hold("large", Usage(prompt=1, calls=1))
    child.hold("small", Usage(prompt=20, calls=5))
    with pytest.raises(OverBudget, match="tokens"):
        child.hold("small", Usage(prompt=1))
    root.hold("small", Usage(prompt=70))


def test_time_ends_a_ledger() -> None:
    now = [0.0]
    root = Ledger(Budget(seconds=10), clock=lambda: now[0])
    child = Ledger(Budget(seconds=3), root)
    assert child.deadline == 3
    child.settle(child.hold("m", Usage(calls=1)), Usage(calls=1))
    now[0] = 3
    with pytest.raises(OverBudget, match="seconds"):
        child.hold("m", Usage(calls=1))
    root.hold("m", Usage(calls=1))
    assert root.left()["seconds"] == 7


def test_what_is_kept_back_nobody_else_may_use_and_nobody_waits_for() -> None:
    root = Ledger(Budget(tokens=100, large=Budget(tokens=50)))
    child, sibling = Ledger(None, root), Ledger(None, root)
    with child.keep(Reserve("large", Usage(prompt=20, completion=10, calls=1))):
        assert root.left() == {"tokens": 70}
        assert root.left("large") == {"tokens": 20}
        assert sibling.room("small", RATES, 10) == 60
        assert sibling.refusal("small", Usage(prompt=71)) is not None
        assert not sibling.waits("small", Usage(prompt=71))
        hold = sibling.hold("small", Usage(prompt=70))
        assert sibling.waits("small", Usage(prompt=1))
        sibling.settle(hold, Usage(prompt=60))
    assert root.left() == {"tokens": 40}
    root.hold("large", Usage(prompt=40))


def test_less_than_the_slice_is_kept_whole() -> None:
    ledger = Ledger(Budget(tokens=10))
    with ledger.keep(Reserve("m", Usage(prompt=30))):
        assert ledger.room("m", RATES, 1) == 0
    assert ledger.room("m", RATES, 1) == 9


@given(
    tokens=st.integers(0, 400),
    completion=st.none() | st.integers(0, 60),
    flops=st.none() | st.floats(0, 5000),
    usd=st.none() | st.floats(0, 4),
    calls=st.none() | st.integers(0, 5),
    prompt=st.integers(0, 60),
)
def test_room_is_exactly_the_largest_hold(
    tokens: int, completion: int | None, flops: float | None, usd: float | None, calls: int | None, prompt: int
) -> None:
    ledger = Ledger(Budget(tokens=tokens, completion_tokens=completion, flops=flops, usd=usd, calls=calls))

    def fits(n: int) -> bool:
        return ledger.refusal("m", RATES.worst(prompt=prompt, completion=n)) is None

    room = ledger.room("m", RATES, prompt)
    assert room is not None
    assert room == max((n for n in range(1, 402) if fits(n)), default=0)


@given(st.data())
@settings(max_examples=200)
def test_nodes_never_overshoot_and_rest_holds_nothing(data: st.DataObject) -> None:
    """Random trees, random holds and settlements in any order: spent + held <= limit on every node, always."""
    limits = st.builds(Budget, tokens=st.none() | st.integers(0, 200), calls=st.none() | st.integers(0, 6))
    nodes = [Ledger(data.draw(limits))]
    for _ in range(data.draw(st.integers(0, 4))):
        nodes.append(Ledger(data.draw(limits), data.draw(st.sampled_from(nodes))))
    open_: list[tuple[Ledger, Hold]] = []
    for _ in range(data.draw(st.integers(0, 30))):
        if open_ and data.draw(st.booleans()):
            node, hold = open_.pop(data.draw(st.integers(0, len(open_) - 1)))
            share = data.draw(st.integers(0, hold.worst.prompt))
            node.settle(hold, Usage(prompt=share, calls=hold.worst.calls))
        else:
            node = data.draw(st.sampled_from(nodes))
            asked = Usage(prompt=data.draw(st.integers(0, 80)), calls=1)
            with contextlib.suppress(OverBudget):
                open_.append((node, node.hold("m", asked)))
        for node in nodes:
            total = node.spent + node.held
            assert total.tokens <= (node.limit.tokens if node.limit.tokens is not None else 1e9)
            assert total.calls <= (node.limit.calls if node.limit.calls is not None else 1e9)
    for node, hold in open_:
        node.settle(hold, Usage())
    assert all(node.held == Usage() for node in nodes)
    assert not nodes[0].busy


class Watched(Ledger):
    """A ledger that checks its limit at every move of the whole tree."""

    def hold(self, role: str, worst: Usage, path: Any = ()) -> Hold:
        hold = super().hold(role, worst, path)
        for node in self.lineage():
            assert node.limit.tokens is None or (node.spent + node.held).tokens <= node.limit.tokens
        return hold


@given(
    seed=st.integers(0, 10_000),
    tokens=st.integers(0, 600),
    tasks=st.integers(1, 12),
    batch=st.integers(1, 5),
    cancel=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_concurrent_calls_never_overshoot(seed: int, tokens: int, tasks: int, batch: int, cancel: bool) -> None:
    """Many callers on one budget through the real door, some of them cancelled in flight."""
    rng = random.Random(seed)
    model = ScriptedModel(latency=0.001, rates=Rates())
    root = Watched(Budget(tokens=tokens))
    context = Context(Problem("a b c d").messages)
    free = ScriptedModel()

    async def caller(i: int) -> int:
        got = 0
        for turn in range(3):
            run = Run(seed, ("c", i, turn), ledger=root)
            sampling = Sampling(max_tokens=rng.randint(1, 40), stop=("\n\n",))
            got += sum(c.usage.tokens for c in await model.generate([context] * batch, run, sampling=sampling))
        return got

    async def main() -> None:
        callers = [asyncio.create_task(caller(i)) for i in range(tasks)]
        if cancel:
            await asyncio.sleep(0.002)
            for task in callers[::2]:
                task.cancel()
        ends = await asyncio.gather(*callers, return_exceptions=True)
        assert all(isinstance(end, int | OverBudget | asyncio.CancelledError) for end in ends), ends
        assert sum(end for end in ends if isinstance(end, int)) <= root.spent.tokens

    asyncio.run(asyncio.wait_for(main(), 20))
    assert root.spent.tokens <= tokens
    assert root.held == Usage()
    assert not root.busy
    if tokens >= free.count(context) + 1 and not cancel:
        assert root.spent.completion > 0, "one token was affordable, none was bought"


def test_roles_do_not_nest() -> None:
    with pytest.raises(BadInput, match="no roles of its own"):
        Budget(large=Budget(small=Budget(tokens=5)))
