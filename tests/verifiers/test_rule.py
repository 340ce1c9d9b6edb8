"""A plain function as a verifier."""

from __future__ import annotations

import asyncio
import math
import threading
import time

import pytest

from reasonweave.orchestrator import Candidate, Problem, Run, Score, Step, asolve, chain
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies import BestOfN, best, whole
from reasonweave.verifiers import Rule

ABC = [Candidate(Problem("q"), (Step(text, "m", 1),)) for text in ("a", "bb", "ccc")]


def scores(rule: Rule, some: list[Candidate] = ABC) -> list[Score]:
    return asyncio.run(rule.score(some, Run()))


def length(candidate: Candidate) -> float:
    return len(candidate.text)


def test_numbers_truths_and_scores() -> None:
    assert [s.value for s in scores(Rule(length))] == [1, 2, 3]
    assert [s.value for s in scores(Rule(lambda c: c.text == "bb"))] == [0, 1, 0]
    assert scores(Rule(lambda c: Score(0.5, (1.0,)))) == [Score(0.5, (1.0,))] * 3
    assert scores(Rule(length), []) == []
    assert Rule(length).name == "length"


def test_what_it_cannot_judge_is_nan_and_says_why() -> None:
    def picky(candidate: Candidate) -> float | None:
        if candidate.text == "bb":
            raise KeyError("bb")
        return None if candidate.text == "a" else 1.0

    first, second, third = scores(Rule(picky))
    assert (math.isnan(first.value), first.error) == (True, "picky cannot judge this")
    assert (math.isnan(second.value), second.error) == (True, "picky raised KeyError: 'bb'")
    assert third == Score(1.0)
    (odd, *_) = scores(Rule(lambda c: "high"))  # type: ignore[arg-type,return-value]
    assert odd.error == "<lambda> returned 'high', which is no number"


def test_one_that_takes_too_long_costs_its_own_candidate_alone() -> None:
    over = threading.Event()

    def slow(candidate: Candidate) -> float:
        if candidate.text == "bb":
            over.wait(30)
        return 1.0

    began = time.monotonic()
    first, second, third = scores(Rule(slow, seconds=0.2))
    over.set()
    assert time.monotonic() - began < 10
    assert (first, third) == (Score(1.0), Score(1.0))
    assert second.error == "slow took more than 0.2 seconds"


def test_a_slow_rule_holds_up_nobody_else() -> None:
    over = threading.Event()

    async def both() -> int:
        ticks = 0
        task = asyncio.create_task(Rule(lambda c: over.wait(30)).score(ABC[:1], Run()))
        for _ in range(20):
            await asyncio.sleep(0.001)
            ticks += not task.done()
        over.set()
        await task
        return ticks

    assert asyncio.run(both()) == 20


def test_cancelled_it_stops_after_the_candidate_it_is_at() -> None:
    seen: list[str] = []
    at, on = threading.Event(), threading.Event()

    def noting(candidate: Candidate) -> float:
        seen.append(candidate.text)
        at.set()
        on.wait(30)
        return 1.0

    async def cancelled() -> None:
        task = asyncio.create_task(Rule(noting).score(ABC, Run()))
        await asyncio.to_thread(at.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        on.set()
        for thread in threading.enumerate():
            if thread.name == "rule noting":
                await asyncio.to_thread(thread.join, 10)

    asyncio.run(cancelled())
    assert seen == ["a"]


def test_best_of_n_by_a_rule() -> None:
    model = ScriptedModel(["so \\boxed{1}", "so \\boxed{22}"])
    flow = chain(BestOfN(whole(model), n=2, verifier=Rule(length)), best)
    assert asyncio.run(asolve("q", flow)).answer == "22"
