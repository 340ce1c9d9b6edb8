"""Ending a generation early really ends it: the server sees the client leave, nothing leaks, and the ledger shows what it cost
and saved. Against a real HTTP server, both for completions and where there are only chats."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from misbehaving import serving, status
from streaming import Streaming

from reasonweave.orchestrator import (
    Candidate,
    Candidates,
    Completion,
    Context,
    Ledger,
    Model,
    Problem,
    Run,
    Sampling,
    Token,
    Usage,
    asolve,
)
from reasonweave.orchestrator.models.base import cut_at, either, unwatched
from reasonweave.orchestrator.models.endpoint import Endpoint
from reasonweave.orchestrator.models.server import ServerModel
from reasonweave.orchestrator.models.spec import open_model
from reasonweave.orchestrator.protocols import Watching
from reasonweave.strategies import Shortest, whole
from reasonweave.strategies.presets import adaptive_consistency
from reasonweave.strategies.searches.in_order import in_order

CONTEXT = Context(Problem("What is 1 + 1?").messages)
ROOTS = Candidates.of(Problem("What is 1 + 1?"))
RENDERED = len("<user>What is 1 + 1?\n<assistant>")
FIRST_FIVE = " 0 1 2 3 4"


def wants(count: int) -> Watching:
    """A watch that wants so many tokens."""

    def make() -> Callable[[Token], bool]:
        seen = itertools.count(1)
        return lambda token: next(seen) >= count

    return make


@pytest.fixture(params=[False, True], ids=["completions", "chats"])
def server(request: pytest.FixtureRequest) -> Iterator[Streaming]:
    with serving(Streaming(chat_only=request.param)) as running:
        yield running  # type: ignore[misc]


def on(server: Streaming, work: Callable[[ServerModel], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """Run something with a model of the server."""

    async def run() -> Any:
        model = ServerModel("tiny", Endpoint([server.url], **({"attempts": 3, "timeout": 5.0} | options)))
        try:
            await model.abilities()
            return await work(model)
        finally:
            await model.aclose()

    return asyncio.run(asyncio.wait_for(run(), 60))


def generated(
    model: ServerModel, run: Run, watch: Watching | None, n: int = 1
) -> Coroutine[Any, Any, list[Completion]]:
    return model.generate([CONTEXT] * n, run, sampling=Sampling(max_tokens=150), watch=watch)


def until(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Does it come to hold?"""
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


# What a watch is.


def test_a_watch_sees_each_token_but_the_one_that_ends() -> None:
    tokens = [Token(str(i)) for i in range(4)]
    assert cut_at(tokens, wants(3)(), ended=False) == 3
    assert cut_at(tokens, wants(4)(), ended=False) == 4
    assert cut_at(tokens, wants(4)(), ended=True) is None
    assert cut_at([], wants(1)(), ended=True) is None


def test_either_watch_cuts_and_both_see_every_token() -> None:
    seen: list[str] = []

    def listening() -> Callable[[Token], bool]:
        return lambda token: seen.append(token.text) is not None

    both = either(wants(2), None, listening)()
    assert [both(Token(text)) for text in "abc"] == [False, True, True]
    assert seen == ["a", "b", "c"]
    assert cut_at([Token("a")], either(None)(), ended=False) is None


# Cut by a watch.


def test_a_cut_closes_the_stream_and_is_charged_what_came(server: Streaming) -> None:
    run = Run(1, ledger=Ledger())

    async def cut(model: ServerModel) -> tuple[Completion, float]:
        (answer,) = await generated(model, run, wants(5))
        return answer, time.monotonic()

    answer, at = on(server, cut)
    assert (answer.text, answer.finish_reason) == (FIRST_FIVE, "cancelled")
    assert [t.text for t in answer.tokens] == FIRST_FIVE.replace(" ", ", ").split(",")[1:]
    assert until(lambda: len(server.left) == 1)
    (left, sent) = server.left[0]
    assert left - at < 1
    assert 5 <= sent < 100
    ledger = run.ledger
    assert ledger.spent == ledger.cut == answer.usage
    assert (ledger.spent.completion, ledger.spent.calls) == (5, 1)
    assert ledger.saved.completion == 150 - 5
    assert ledger.held == Usage()


def test_where_it_is_cut_does_not_depend_on_how_many_tokens_come_together(server: Streaming) -> None:
    texts, spent = [], []
    for server.together in (1, 2, 3, 5, 200):
        (answer,) = on(server, lambda model: generated(model, Run(1), wants(5)))
        texts.append((answer.text, answer.finish_reason, len(answer.tokens)))
        spent.append(answer.usage.completion)
    assert texts == [(FIRST_FIVE, "cancelled", 5)] * 5
    assert spent == [5, 6, 6, 5, 150]  # what was written is paid, wanted or not


def test_a_watch_that_cuts_nothing_changes_nothing(server: Streaming) -> None:
    server.script, server.pace = lambda body: ["so", " ", "\\boxed{2}"], 0.0
    watched, other = (on(server, lambda model, w=w: generated(model, Run(1), w)) for w in (unwatched, wants(9)))
    assert watched[0].text == other[0].text == "so \\boxed{2}"
    assert watched[0].finish_reason == other[0].finish_reason == "eos"
    assert watched[0].usage == other[0].usage
    assert watched[0].usage.completion == 3
    assert server.left == []


def test_only_a_watch_that_looks_asks_a_chat_for_log_probabilities(server: Streaming) -> None:
    server.script = lambda body: ["a"]
    on(server, lambda model: generated(model, Run(1), unwatched))
    on(server, lambda model: generated(model, Run(1), wants(9)))
    first, second = server.generations()
    if server.chat_only:
        assert "logprobs" not in first
        assert second["logprobs"] is True


def test_a_chat_that_tells_no_tokens_shows_its_pieces() -> None:
    with serving(Streaming(chat_only=True, logprobs=False, together=2)) as server:
        (answer,) = on(server, lambda model: generated(model, Run(1), wants(2)))  # type: ignore[arg-type]
    assert (answer.text, answer.finish_reason, answer.tokens) == (" 0 1 2 3", "cancelled", ())


@pytest.mark.parametrize("politely", [False, True])
def test_a_new_attempt_has_a_new_watch(server: Streaming, politely: bool) -> None:
    run = Run(1, ledger=Ledger())
    server.breaks, server.politely = [3], politely
    (answer,) = on(server, lambda model: generated(model, run, wants(5)))
    assert (answer.text, answer.finish_reason) == (FIRST_FIVE, "cancelled")
    assert answer.lost.completion == 3
    assert run.ledger.spent.completion == 8
    assert run.ledger.cut.completion == 5
    assert run.ledger.held == Usage()


# Cancelled.


def test_samples_in_flight_are_cancelled_and_charged_what_they_had_written(server: Streaming) -> None:
    server.script = lambda body: [" 1"] * (5 if len(server.generations()) == 1 else 150)
    run = Run(1, ledger=Ledger())

    async def first(model: ServerModel) -> float:
        policy = whole(model, max_tokens=150, top_logprobs=1, watch=unwatched)
        async with aclosing(in_order(policy, ROOTS, 40, run, ahead=4)) as samples:
            async for _ in samples:
                break
        assert run.ledger.held == Usage()
        return time.monotonic()

    at = on(server, first)
    assert until(lambda: len(server.left) == 3)
    assert all(left - at < 1 for left, _ in server.left)
    sent = sum(count for _, count in server.left)
    assert 0 < run.ledger.cut.completion <= sent < 3 * 100
    assert run.ledger.cut.completion > sent - 3 * 20  # but for what was on its way
    assert run.ledger.cut.calls == 3
    assert run.ledger.spent.completion == run.ledger.cut.completion + 5
    assert run.ledger.saved.completion == 3 * 150 - run.ledger.cut.completion


def test_who_waits_for_a_place_costs_nothing(server: Streaming) -> None:
    run = Run(1, ledger=Ledger())

    async def stop(model: ServerModel) -> None:
        task = asyncio.create_task(generated(model, run, unwatched, n=4))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    on(server, stop, connections=1)
    assert len(server.generations()) == run.ledger.spent.calls == 1
    assert 0 < run.ledger.spent.completion < 100


def test_who_waits_between_two_attempts_costs_only_the_first(server: Streaming) -> None:
    run = Run(1, ledger=Ledger())
    server.breaks = [3]

    async def stop(model: ServerModel) -> None:
        task = asyncio.create_task(generated(model, run, unwatched))
        await asyncio.sleep(0.15)  # three tokens, then a pause of a quarter of a second at least
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    on(server, stop)
    assert len(server.generations()) == run.ledger.spent.calls == 1
    assert run.ledger.held == Usage()
    assert run.ledger.spent.completion <= 3 * len(" 0")


def test_an_attempt_that_was_turned_away_costs_a_call(server: Streaming) -> None:
    run = Run(1, ledger=Ledger())
    server.script = lambda body: ["a"]
    refusal, streamed = status("429 Too Many Requests", after=0.01), server.answer

    async def once(path: str, body: dict[str, Any], reader: Any, writer: Any) -> None:
        if "completions" in path and len(server.generations()) == 1:
            await refusal(writer)
        else:
            await streamed(path, body, reader, writer)

    server.answer = once  # type: ignore[method-assign]
    (answer,) = on(server, lambda model: generated(model, run, unwatched))
    assert answer.text == "a"
    assert answer.lost == Usage(calls=1)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


FIRSTS = {Run(1).child("stop", i, "sample", 0, "complete", 0, "extend").seed(0) for i in range(50)}
"""The seeds of the samples that are read to their end."""


def test_nothing_leaks_after_a_thousand_early_stops() -> None:
    """500 samples cut by a watch; 100 times a sample is read to its end and the five that are under way are cancelled. On eight
    connections, completions and chats in equal parts."""
    before = open_files()
    for chat_only in (False, True):
        script = lambda body: [" 1"] * (2 if body["seed"] in FIRSTS else 150)  # noqa: E731
        with serving(Streaming(script, chat_only=chat_only, pace=0.002)) as server:
            gc.disable()  # what is not ended must not be tidied up by the collector
            try:
                ledger = on(server, five_hundred, connections=8, timeout=30.0)  # type: ignore[arg-type]
            finally:
                gc.enable()
            assert until(lambda: server.connections == server.open == 0)
            assert server.most <= 8
            assert len(server.left) > 250
        assert ledger.held == Usage()
        assert not ledger.busy
        assert ledger.cut.calls > 250
        assert ledger.saved.completion > 250 * 100
        assert ledger.spent.completion < ledger.saved.completion / 4
    assert until(lambda: open_files() <= before)


async def five_hundred(model: ServerModel) -> Ledger:
    run, tasks = Run(1, ledger=Ledger()), len(asyncio.all_tasks())
    policy = whole(model, max_tokens=150, watch=unwatched)

    async def cut(i: int) -> None:
        await generated(model, run.child("cut", i), wants(2))

    async def stopped(i: int) -> None:
        async with aclosing(in_order(policy, ROOTS, 40, run.child("stop", i), ahead=6)) as samples:
            async for _ in samples:
                return

    work = iter([*(cut(i) for i in range(250)), *(stopped(i) for i in range(50))])

    async def worker() -> None:
        for each in work:
            await each

    await asyncio.gather(*(worker() for _ in range(8)))
    (replica,) = model.endpoint.bound().replicas
    assert replica.throttle.busy == 0
    assert not replica.throttle._queue
    assert len(asyncio.all_tasks()) == tasks
    assert not [each for each in getattr(asyncio.get_running_loop(), "_asyncgens", ()) if each.ag_frame is not None]
    return run.ledger


# What strategies make of it.


def test_adaptive_consistency_on_a_server_says_what_stopping_saved(server: Streaming) -> None:
    server.script, server.pace = lambda body: ["so", *[" so"] * (body["seed"] % 30), " \\boxed{2}"], 0.003
    strategy = lambda model: adaptive_consistency(model, n=40, ahead=4, max_tokens=64)  # noqa: E731
    result = on(server, lambda model: asolve("What is 1 + 1?", strategy(model), seed=1))
    assert (result.answer, len(result.candidates), result.errors) == ("2", 4, ())
    assert result.cut.calls >= 1
    assert until(lambda: server.open == 0, 1.0)
    assert 1 <= len(server.left) <= result.cut.calls <= 3
    assert result.saved.completion > 0
    assert 4 + result.cut.calls <= result.total.calls <= 7  # one that is under way may have ended just before


def test_a_race_on_a_server_cuts_the_long_ones(server: Streaming) -> None:
    lengths = {Run(1).child("sample", i, "complete", 0, "extend").seed(0): 4 + 7 * i for i in range(6)}
    server.script, server.pace = lambda body: [*[" w"] * (lengths[body["seed"]] - 1), " \\boxed{2}"], 0.005
    run = Run(1, ledger=Ledger())

    async def race(model: ServerModel) -> list[Candidate]:
        search = Shortest(whole(model, max_tokens=100), k=6, m=2).search(ROOTS, run)
        return list([found async for found in search][-1])

    shortest = on(server, race)
    assert [len(c.text.split()) for c in shortest] == [4, 11]
    assert until(lambda: len(server.left) == 4)
    assert all(sent < 11 + 9 for _, sent in server.left)
    assert run.ledger.cut.calls == 4
    if not server.chat_only:  # chats say only at the end how many tokens there were; their bytes are charged till then
        assert run.ledger.spent.completion <= 4 + 11 + 4 * 20


# The embedded engine.


def test_a_watch_that_fails_fails_its_own_call_alone() -> None:
    async def both() -> list[Any]:
        model = open_model("lab/small", role="small")
        assert isinstance(model, Model)

        def broken() -> Callable[[Token], bool]:
            def over(token: Token) -> bool:
                raise ZeroDivisionError("a mistake of the caller's")

            return over

        run = Run(1, ledger=Ledger())
        fine = model.generate([CONTEXT] * 4, run.child(1), sampling=Sampling(max_tokens=60), watch=unwatched)
        bad = model.generate([CONTEXT] * 4, run.child(2), sampling=Sampling(max_tokens=60), watch=broken)
        found = await asyncio.gather(fine, bad, return_exceptions=True)
        (again,) = await model.generate([CONTEXT], run.child(3), sampling=Sampling(max_tokens=60), watch=wants(2))
        assert run.ledger.held == Usage()
        return [*found, again]

    fine, bad, again = asyncio.run(both())
    assert all(answer.text and answer.error is None for answer in fine)
    assert isinstance(bad, ZeroDivisionError)
    assert (again.finish_reason, len(again.tokens)) == ("cancelled", 2)
