"""The two doors: hold, call, settle, trace, whatever the backend does."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

import pytest

from reasonweave.orchestrator import (
    Budget,
    Candidate,
    Completion,
    Context,
    Ledger,
    ModelError,
    OverBudget,
    Problem,
    Request,
    Run,
    Sampling,
    Score,
    SeedReuse,
    Step,
    Usage,
)
from reasonweave.orchestrator.models.base import Rating
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.trace import Event, Generated

CONTEXT = Context(Problem("one two three").messages)  # 4 tokens with its message
LONG = "w " * 40


def run(tokens: float | None = None, **limits: float) -> Run:
    return Run(ledger=Ledger(Budget(tokens=tokens, **limits)))


def ask(model: ScriptedModel, where: Run, n: int = 1, **sampling: int) -> list[Completion]:
    return asyncio.run(model.generate([CONTEXT] * n, where, sampling=Sampling(**sampling)))


def test_a_path_is_used_once() -> None:
    where = run().child("pf", "step", 3)
    ask(ScriptedModel(), where)
    with pytest.raises(SeedReuse, match=r"seed reuse at pf/step/3; use run.child"):
        ask(ScriptedModel(), where)


def test_seeds_differ_within_a_batch_and_depend_on_the_path_alone() -> None:
    model = ScriptedModel()
    ask(model, Run(7).child("a"), n=3)
    ask(model, Run(7).child("a"), n=3)
    first, second = ([request.seed for request in batch] for batch in model.calls)
    assert first == second
    assert len(set(first)) == 3


def test_a_batch_that_does_not_fit_runs_in_waves() -> None:
    model = ScriptedModel(["a b c"])
    where = run(tokens=60)
    answers = ask(model, where, n=5, max_tokens=20)
    assert [a.text for a in answers] == ["a b c"] * 5
    assert [len(batch) for batch in model.calls] == [2, 1, 1, 1]
    assert where.ledger.spent == Usage(prompt=20, completion=15, calls=5, flops=70.0)


def test_the_last_call_is_clamped_and_the_rest_comes_back_empty() -> None:
    model = ScriptedModel([LONG])
    where = run(tokens=30)
    answers = ask(model, where, n=3, max_tokens=20)
    assert [(a.finish_reason, a.usage.completion) for a in answers] == [("length", 20), ("budget", 2), ("budget", 0)]
    assert where.ledger.spent.tokens == 30


def test_nothing_affordable_is_over_budget() -> None:
    with pytest.raises(OverBudget, match="asked for 5 tokens, 4 left"):
        ask(ScriptedModel(), run(tokens=4))


def test_a_cancelled_call_is_charged_its_hold() -> None:
    where = run(tokens=1000)

    async def main() -> None:
        task = asyncio.create_task(
            ScriptedModel(latency=10).generate([CONTEXT], where, sampling=Sampling(max_tokens=50))
        )
        await asyncio.sleep(0.01)
        assert where.ledger.held.tokens == 54
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert where.ledger.spent.tokens == 54
    assert where.ledger.held == Usage()


class Metered(ScriptedModel):
    """Says how far it got when it is cut."""

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        for request in requests:
            request.meter.usage = Usage(prompt=4, completion=7, calls=1)
        await asyncio.sleep(10)
        return []


def test_a_cut_stream_is_charged_what_it_produced() -> None:
    where = run(tokens=1000)

    async def main() -> None:
        task = asyncio.create_task(Metered().generate([CONTEXT], where, sampling=Sampling()))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert where.ledger.spent == Usage(prompt=4, completion=7, calls=1)


class Broken(ScriptedModel):
    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        if self.calls:
            raise ModelError("the server said 500")
        return await super()._generate(requests)


def test_a_failed_request_is_charged_and_loses_only_itself() -> None:
    where = run(tokens=40)
    first, second, third = ask(Broken(["a b"]), where, n=3, max_tokens=10)
    assert first.text == second.text == "a b"
    assert (third.finish_reason, third.error) == ("error", "the server said 500")
    assert where.ledger.spent.tokens == 6 + 6 + 14
    assert where.ledger.held == Usage()


class Short(ScriptedModel):
    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        return (await super()._generate(requests))[:-1]


def test_a_backend_that_drops_an_answer_is_named() -> None:
    answers = ask(Short(), run(), n=2)
    assert {a.error for a in answers} == {"scripted answered 1 of 2 requests"}


def test_a_deadline_ends_a_call_that_does_not_end_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reasonweave.orchestrator.models.base.GRACE", 0.05)
    where, began = run(seconds=0.1), time.monotonic()
    (answer,) = ask(ScriptedModel(latency=30), where, max_tokens=5)
    assert answer.finish_reason == "budget"
    assert time.monotonic() - began < 5
    assert where.ledger.spent.tokens == 9
    with pytest.raises(OverBudget, match="seconds"):
        ask(ScriptedModel(), where.child("later"))


def test_a_caller_waits_for_what_others_hold_rather_than_being_cut() -> None:
    where = run(tokens=30)
    model = ScriptedModel(["a b c"], latency=0.01)

    async def main() -> list[list[Completion]]:
        calls = [model.generate([CONTEXT], where.child(i), sampling=Sampling(max_tokens=20)) for i in range(3)]
        return list(await asyncio.gather(*calls))

    answers = asyncio.run(main())
    assert [a[0].finish_reason for a in answers] == ["eos", "eos", "budget"] or all(
        a[0].finish_reason == "eos" for a in answers
    )
    assert [len(batch) for batch in model.calls] == [1, 1, 1]


def test_events_carry_usage_of_what_was_paid() -> None:
    told: list[Event] = []
    ask(ScriptedModel(["a b"]), Run(tracer=told.append).child("x"), n=2)
    (event,) = told
    assert isinstance(event, Generated)
    assert (event.path, event.usage.completion, len(event.completions)) == (("x",), 4, 2)


def candidate(text: str) -> Candidate:
    return Candidate(Problem("one two"), (Step(text, "m", 1),))


def test_rating_pays_for_equal_candidates_once() -> None:
    where = run(tokens=100)
    prm = ScriptedReward(lambda problem, steps: len(steps[-1]) / 10)
    scores = asyncio.run(prm.rate([candidate("ab"), candidate("abc"), candidate("ab")], where))
    assert [s.value for s in scores] == [0.2, 0.3, 0.2]
    assert where.ledger.spent.calls == 2


def test_rating_refuses_half_a_set() -> None:
    where = run(tokens=7)
    with pytest.raises(OverBudget):
        asyncio.run(ScriptedReward().rate([candidate("ab"), candidate("abc")], where))
    assert where.ledger.spent == where.ledger.held == Usage()


# What a request that cannot be had does to the others.


def test_one_prompt_too_long_for_the_budget_does_not_refuse_the_others() -> None:
    model, where = ScriptedModel(["a b"]), run(tokens=50)
    contexts = [Context(Problem("w " * n).messages) for n in (3, 100, 3)]
    got = asyncio.run(model.generate(contexts, where, sampling=Sampling(max_tokens=10)))
    assert [c.finish_reason for c in got] == ["eos", "budget", "eos"]
    assert where.cut_short


def test_waiting_for_siblings_ends_with_the_callers_time() -> None:
    slow, quick = ScriptedModel([LONG], latency=1.0), ScriptedModel(["a"])

    async def both() -> float:
        root = Ledger(Budget(tokens=60))
        holder = asyncio.create_task(slow.generate([CONTEXT], Run(1, ledger=root), sampling=Sampling(max_tokens=50)))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        mine = Run(2, ledger=Ledger(Budget(seconds=0.1), root))
        with pytest.raises(OverBudget, match="seconds"):
            await quick.generate([CONTEXT], mine, sampling=Sampling(max_tokens=50))
        waited = time.monotonic() - began
        await holder
        return waited

    assert asyncio.run(both()) < 0.6


def test_a_little_time_has_a_little_grace() -> None:
    began = time.monotonic()
    (cut,) = ask(ScriptedModel(latency=3), run(seconds=0.4))
    assert cut.finish_reason == "budget"
    assert time.monotonic() - began < 0.8


class Failing(ScriptedModel):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise self.error


@pytest.mark.parametrize("error", [TimeoutError("read timed out"), ConnectionResetError("peer"), ModelError("broken")])
def test_a_backends_own_failure_is_an_error_and_not_the_budgets(error: BaseException) -> None:
    where = run()
    (failed,) = ask(Failing(error), where)
    assert failed.finish_reason == "error"
    assert str(error) in str(failed.error)
    assert where.ledger.spent == failed.usage != Usage()
    assert where.cut_short is None


def test_a_cancelled_call_is_told_to_the_tracer() -> None:
    events: list[Event] = []

    async def cancel() -> Run:
        where = Run(ledger=Ledger(), tracer=events.append)
        task = asyncio.create_task(ScriptedModel(latency=5).generate([CONTEXT], where, sampling=Sampling()))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return where

    where = asyncio.run(cancel())
    (event,) = events
    assert isinstance(event, Generated)
    assert event.completions[0].finish_reason == "cancelled"
    assert event.usage == where.ledger.spent


class Greedy(ScriptedModel):
    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion("x", "eos", Usage(prompt=4, completion=1000, calls=1)) for _ in requests]


def test_a_backend_that_uses_more_than_it_said_is_charged_and_reported() -> None:
    where = run(tokens=60)
    (answer,) = ask(Greedy(), where, max_tokens=10)
    assert where.ledger.spent.completion == 1000
    assert "more than" in str(answer.error)


# Retries.


class Flaky(ScriptedModel):
    """Loses its first `losses` attempts, each of which may have produced everything."""

    def __init__(self, losses: int) -> None:
        super().__init__(["a b c"])
        self.losses = losses

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        for _ in range(self.losses):
            granted = [request.meter.retry() for request in requests]
            if not all(granted):
                return [Completion("", "budget") for _ in requests]
        return await super()._generate(requests)


def test_lost_attempts_are_charged_and_shown_apart() -> None:
    where = run(tokens=100)
    (answer,) = ask(Flaky(2), where, max_tokens=20)
    assert answer.lost == Usage(prompt=8, completion=40, calls=2, flops=96.0)
    assert answer.usage == where.ledger.spent == answer.lost + Usage(prompt=4, completion=3, calls=1, flops=14.0)
    assert where.ledger.held == Usage()


@pytest.mark.parametrize("tokens", [24, 30, 47, 48, 60, 71])
def test_retries_never_overspend(tokens: int) -> None:
    where = run(tokens=tokens)
    (answer,) = ask(Flaky(2), where, max_tokens=20)
    assert answer.finish_reason == "budget"
    assert where.ledger.spent == answer.usage
    assert where.ledger.spent.tokens <= tokens
    assert not where.ledger.busy


# The other door.


class ShortReward(ScriptedReward):
    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        return (await super()._rate(ratings))[:-1]


class Down(ScriptedReward):
    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        raise ModelError("connection refused")


@pytest.mark.parametrize(("model", "told"), [(ShortReward(), "answered 1 of 2"), (Down(), "connection refused")])
def test_a_reward_model_that_fails_loses_no_candidate_and_leaks_no_hold(model: ScriptedReward, told: str) -> None:
    candidates = [Candidate(Problem("q"), (Step(text, "m", 1),)) for text in ("a", "b")]
    where = run()
    scores = asyncio.run(model.rate(candidates, where))
    assert [math.isnan(score.value) for score in scores] == [True, True]
    assert all(told in str(score.error) for score in scores)
    assert not where.ledger.busy
    assert where.ledger.spent.calls == 2


class Unprepared(ScriptedModel):
    async def _prepare(self, contexts: Sequence[Context], session: int) -> None:
        raise ModelError("cannot tokenize")


def test_a_backend_that_cannot_prepare_fails_its_requests_and_spends_nothing() -> None:
    where = run()
    got = ask(Unprepared(), where, n=2)
    assert [c.error for c in got] == ["cannot tokenize"] * 2
    assert where.ledger.spent == Usage()
