"""The server backend against a real HTTP server that misbehaves on demand: nothing hangs, sinks a population or
overspends."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from misbehaving import Fault, Misbehaving, reset, serving, stall, status, truncated

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Completion,
    Context,
    Ledger,
    NotFound,
    Problem,
    Run,
    Sampling,
    Step,
    Usage,
    solve,
)
from reasonweave.orchestrator._sync import wait
from reasonweave.orchestrator.models.endpoint import Endpoint, Throttle
from reasonweave.orchestrator.models.launch import command, shares, to_start
from reasonweave.orchestrator.models.reward_formats import (
    FORMATS,
    Format,
    Outcome,
    PlusMinus,
    Shepherd,
    Skywork,
    StepTags,
)
from reasonweave.orchestrator.models.reward_server import ServerRewardModel
from reasonweave.orchestrator.models.roles import load
from reasonweave.orchestrator.models.server import ServerModel
from reasonweave.orchestrator.testing import check_model
from reasonweave.strategies import Sample, self_consistency, single

CONTEXT = Context(Problem("What is 1 + 1?").messages)
RENDERED = "<user>What is 1 + 1?\n<assistant>"


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    with serving(Misbehaving()) as running:
        yield running


OPENED: list[ServerModel] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what `solve` opened on the background loop."""
    yield
    for served in OPENED:
        wait(served.aclose())
    OPENED.clear()


def model(server: Misbehaving, **options: Any) -> ServerModel:
    settings = {"attempts": 3, "timeout": 5.0} | options
    OPENED.append(ServerModel("tiny", Endpoint([server.url], **settings)))
    return OPENED[-1]


def ask(
    served: ServerModel,
    n: int = 1,
    *,
    run: Run | None = None,
    seconds: float | None = None,
    context: Context = CONTEXT,
    **sampling: Any,
) -> list[Completion]:
    chosen = Sampling(**({"max_tokens": 100} | sampling))

    async def once() -> list[Completion]:
        try:
            if seconds is not None:
                await served.abilities()  # connecting is not what these tests time
            where = run or Run(1, ledger=Ledger(Budget(seconds=seconds)))
            return await served.generate([context] * n, where, sampling=chosen)
        finally:
            await served.aclose()

    return asyncio.run(asyncio.wait_for(once(), 20))


# What is asked, and what is made of the answer.


def test_it_keeps_a_models_promises(server: Misbehaving) -> None:
    check_model(model(server))


def test_a_prompt_is_rendered_once_and_equal_prompts_are_one_request(server: Misbehaving) -> None:
    answers = ask(model(server), n=4)
    (body,) = server.generations()
    assert "".join(map(chr, body["prompt"])) == RENDERED
    assert (body["n"], body["seed"]) == (4, Run(1).seed(0))
    assert [path for path, _, _ in server.asked].count("/tokenize") == 2  # the chat, and a look at the tokenizer
    assert {a.text for a in answers} == {server.reply}
    usages = [a.usage for a in answers]
    assert [u.cached for u in usages] == [0, *[len(RENDERED)] * 3]
    assert all(u.prompt == len(RENDERED) and u.completion == len(server.reply) for u in usages)


def test_a_template_that_opens_the_thinking_is_thought_on(server: Misbehaving) -> None:
    server.opening = "<assistant><think>\n"
    server.reply = "Hm.\n\nSo 2.</think>\n\nThe answer is \\boxed{2}"
    result = solve("What is 1 + 1?", single(model(server)), seed=1)
    policy, candidate = Sample(model(server)), Candidate(Problem("What is 1 + 1?"))

    async def two(candidate: Candidate) -> Candidate:
        for step in range(2):
            (candidate,) = await policy.extend([candidate], Run(1, (step,)))
        return candidate

    candidate = wait(two(candidate))
    opened = RENDERED.replace("<assistant>", server.opening)
    assert ["".join(map(chr, body["prompt"])) for body in server.generations()] == [opened, opened, opened + "Hm.\n\n"]
    assert result.answer == "2"
    assert candidate.text.startswith("Hm.\n\n")


def test_equal_greedy_prompts_are_asked_one_by_one(server: Misbehaving) -> None:
    answers = ask(model(server), n=3, temperature=0.0, max_tokens=4)
    assert [a.error for a in answers] == [None] * 3
    assert [body["n"] for body in server.generations()] == [1, 1, 1]


def test_steps_go_on_from_the_very_ids_that_were_written(server: Misbehaving) -> None:
    served = model(server)

    async def two() -> None:
        run = Run(1)
        policy = Sample(served)
        (first,) = await policy.extend([Candidate(Problem("What is 1 + 1?"))], run.child(1))
        assert first.text.endswith("\n\n")
        await policy.extend([first], run.child(2))
        await served.aclose()

    asyncio.run(two())
    first, second = server.generations()
    assert "".join(map(chr, second["prompt"])) == RENDERED + "A: 1 + 1 = 2\n\n"
    assert [path for path, _, _ in server.asked].count("/tokenize") == 2  # none for the second step
    assert first["stop"] == ["\n\n"]
    assert first["cache_salt"] == second["cache_salt"]
    sessions = {headers["x-session-id"] for path, _, headers in server.asked if path == "/v1/completions"}
    assert len(sessions) == 1


def test_the_text_of_another_author_is_tokenized_from_where_it_is_known(server: Misbehaving) -> None:
    ask(model(server), context=Context(CONTEXT.messages, "other words"))
    assert [body["prompt"] for path, body, _ in server.asked if path == "/tokenize" and "prompt" in body][
        -1
    ] == "other words"
    (body,) = server.generations()
    assert "".join(map(chr, body["prompt"])) == RENDERED + "other words"


def test_finish_reasons_tell_a_stop_from_an_end_and_a_length(server: Misbehaving) -> None:
    served = model(server)
    assert ask(served)[0].finish_reason == "eos"
    assert ask(served, stop=("\n\n",))[0].finish_reason == "stop"
    assert ask(served, max_tokens=3)[0].finish_reason == "length"


def test_a_prompt_that_fills_the_context_is_not_sent(server: Misbehaving) -> None:
    (answer,) = ask(model(server), context=Context(Problem("x" * 500).messages))
    assert answer.finish_reason == "error"
    assert "fill the context of 400" in str(answer.error)
    assert server.generations() == []


def test_a_wrong_model_name_names_what_is_served(server: Misbehaving) -> None:
    with pytest.raises(NotFound, match="no model 'tinny'; did you mean 'tiny'"):
        ask(ServerModel("tinny", Endpoint([server.url])))


@pytest.mark.parametrize("logprob", [math.nan, None, math.inf])
def test_broken_logprobs_are_missing_ones(server: Misbehaving, logprob: float | None) -> None:
    def broken(answer: dict[str, Any]) -> dict[str, Any]:
        told = answer["choices"][0]["logprobs"]
        told["token_logprobs"][0] = logprob
        told["top_logprobs"][0] = {"2": logprob}
        return answer

    server.change = broken
    (answer,) = ask(model(server), top_logprobs=5)
    assert answer.tokens[0].logprob is None
    assert answer.tokens[0].top == ()
    assert answer.logprob is None


def test_an_answer_without_logprobs_or_usage_is_charged_by_its_tokens(server: Misbehaving) -> None:
    def bare(answer: dict[str, Any]) -> dict[str, Any]:
        return {
            "choices": [
                {"text": c["text"], "finish_reason": "stop", "token_ids": c["token_ids"]} for c in answer["choices"]
            ]
        }

    server.change = bare
    (answer,) = ask(model(server))
    assert answer.usage == Usage(prompt=len(RENDERED), completion=len(server.reply), calls=1)


def test_an_answer_that_does_not_say_what_it_cost_is_charged_in_full(server: Misbehaving) -> None:
    server.change = lambda answer: {"choices": [{"text": "hi", "finish_reason": "stop"}]}
    (answer,) = ask(model(server), max_tokens=30)
    assert answer.usage.completion == 30


# Faults. Each is given once, then the server behaves: the answer comes, and the attempt is charged.


@pytest.mark.parametrize(
    ("fault", "free"),
    [
        (status("429 Too Many Requests", after=0.2), True),
        (status("503 Service Unavailable"), True),
        (status("500 Internal Server Error"), False),
        (status("408 Request Timeout"), False),
        (reset, False),
        (truncated, False),
    ],
)
def test_a_passing_fault_is_retried_and_charged(server: Misbehaving, fault: Fault, free: bool) -> None:
    server.faults = [fault]
    run = Run(1, ledger=Ledger(Budget(tokens=10_000)))
    (answer,) = ask(model(server), run=run)
    assert answer.text == server.reply
    assert answer.lost == Usage(prompt=0 if free else len(RENDERED), completion=0 if free else 100, calls=1)
    assert run.ledger.spent == answer.usage
    assert not run.ledger.busy


def test_retry_after_is_honoured(server: Misbehaving) -> None:
    server.faults = [status("429 Too Many Requests", after=1.2)]
    began = time.monotonic()
    ask(model(server))
    assert time.monotonic() - began >= 1.2


@pytest.mark.parametrize("fault", [status("500 Oh"), reset, truncated, status("429 No")])
def test_a_lasting_fault_fails_the_request_after_three_attempts(server: Misbehaving, fault: Fault) -> None:
    server.always = fault
    (answer,) = ask(model(server))
    assert answer.finish_reason == "error"
    assert "tried 3 times" in str(answer.error)
    assert len(server.generations()) == 3


def test_a_refusal_for_good_is_not_retried(server: Misbehaving) -> None:
    server.always = status("400 Bad Request", said="logprobs above the server's limit")
    (answer,) = ask(model(server))
    assert "logprobs above the server's limit" in str(answer.error)
    assert len(server.generations()) == 1


def test_a_stall_ends_with_the_attempts_timeout(server: Misbehaving) -> None:
    server.faults = [stall]
    began = time.monotonic()
    (answer,) = ask(model(server, timeout=0.5))
    assert answer.text == server.reply
    assert time.monotonic() - began < 5


def test_a_stall_ends_with_the_runs_time(server: Misbehaving) -> None:
    server.always = stall
    began = time.monotonic()
    (answer,) = ask(model(server), seconds=1.0)
    assert answer.finish_reason == "budget"
    assert time.monotonic() - began < 10


def test_nobody_there_says_so(server: Misbehaving) -> None:
    served = ServerModel("tiny", Endpoint(["http://127.0.0.1:9"], attempts=2))
    (answer,) = ask(served)
    assert "cannot reach http://127.0.0.1:9" in str(answer.error)
    assert answer.usage == Usage()


@pytest.mark.parametrize("tokens", [60, 130, 150, 200, 280, 400])
def test_a_storm_never_overspends(server: Misbehaving, tokens: int) -> None:
    server.faults = [reset, status("500 Oh"), truncated]
    result = solve("What is 1 + 1?", self_consistency(model(server), n=3, max_tokens=60), budget=Budget(tokens=tokens))
    assert result.tokens <= tokens


def test_one_request_that_fails_loses_its_own_candidate(server: Misbehaving) -> None:
    served = model(server, attempts=1)
    server.faults = [reset]
    contexts = [Context(Problem(f"What is 1 + {i}?").messages) for i in range(4)]

    async def once() -> list[Completion]:
        try:
            return await served.generate(contexts, Run(1), sampling=Sampling(max_tokens=50))
        finally:
            await served.aclose()

    reasons = sorted(c.finish_reason for c in asyncio.run(once()))
    assert reasons == ["eos", "eos", "eos", "error"]


# Time, streams and cancelling.


def test_a_late_answer_is_cut_and_charged_for_what_came(server: Misbehaving) -> None:
    server.latency = 1.0  # and a tenth of that a token
    (answer,) = ask(model(server), seconds=3.0)
    assert answer.finish_reason == "budget"
    assert server.reply.startswith(answer.text)
    assert 0 < len(answer.text) < len(server.reply)
    assert answer.usage.completion == len(answer.text)


def test_a_stream_in_time_is_a_whole_answer(server: Misbehaving) -> None:
    (answer,) = ask(model(server), seconds=30)
    assert (answer.text, answer.finish_reason) == (server.reply, "eos")
    assert answer.usage.completion == len(server.reply)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_cancelling_half_of_hundreds_leaks_nothing(server: Misbehaving, host: str) -> None:
    server.latency, server.host = 0.5, host
    served = model(server, connections=64)

    async def storm() -> int:
        run = Run(1, ledger=Ledger())
        await served.abilities()

        async def one(i: int) -> list[Completion]:
            context = Context(Problem(f"{i}").messages)
            return await served.generate([context], run.child(i), sampling=Sampling(max_tokens=20))

        tasks = [asyncio.create_task(one(i)) for i in range(300)]
        await asyncio.sleep(0.7)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        (replica,) = served.endpoint.bound().replicas
        assert replica.throttle.busy == 0
        assert not run.ledger.busy
        await served.aclose()
        return sum(isinstance(each, list) for each in ended)

    finished = asyncio.run(asyncio.wait_for(storm(), 60))
    assert finished >= 150
    assert server.most <= 64
    began = time.monotonic()
    while server.connections and time.monotonic() - began < 5:
        time.sleep(0.05)
    assert server.connections == 0


def test_the_throttle_halves_once_a_burst_and_recovers() -> None:
    async def play() -> None:
        throttle = Throttle(16)
        for _ in range(5):
            throttle.turned_away()
        assert throttle.limit == 8
        for _ in range(200):
            throttle.served()
        assert throttle.limit == 16

    asyncio.run(play())


def test_a_busy_server_gets_fewer_requests_at_once(server: Misbehaving) -> None:
    server.latency = 0.05
    server.faults = [status("429 No", after=0.01) for _ in range(8)]
    served = model(server, connections=16, attempts=20)

    async def storm() -> float:
        contexts = [Context(Problem(f"{i}").messages) for i in range(24)]
        answers = await served.generate(contexts, Run(1), sampling=Sampling(max_tokens=20))
        assert all(a.finish_reason in ("length", "eos") for a in answers)
        (replica,) = served.endpoint.bound().replicas
        limit = replica.throttle.limit
        await served.aclose()
        return limit

    assert asyncio.run(asyncio.wait_for(storm(), 60)) < 16


def test_a_problem_stays_on_its_replica_and_moves_when_that_is_gone(server: Misbehaving) -> None:
    with serving(Misbehaving()) as other:
        endpoint = Endpoint([server.url, other.url], attempts=4)

        async def play() -> None:
            chosen = [{endpoint.replica(f"s{i}").root for _ in range(5)} for i in range(40)]
            assert all(len(roots) == 1 for roots in chosen)
            assert len(set().union(*chosen)) == 2
            first = endpoint.replica("s0")
            first.rests_until = time.monotonic() + 5
            assert endpoint.replica("s0") is not first
            await endpoint.aclose()

        asyncio.run(play())


# Chat completions only.


def test_a_chat_server_serves_whole_answers_and_refuses_steps() -> None:
    with serving(Misbehaving(chat_only=True)) as server:
        result = solve("What is 1 + 1?", self_consistency(model(server), n=3))
        assert result.answer == "2"
        assert result.candidates[0].text.startswith("<think>hm</think>")
        assert result.total.completion == 15
        with pytest.raises(BadInput, match="chat completions only"):
            ask(model(server), context=Context(CONTEXT.messages, "So far"))


# Reward models.


def rate(
    server: Misbehaving, *texts: str, form: Format | None = None, shorten: bool = False, **options: Any
) -> list[Any]:
    endpoint = Endpoint([server.url], **({"attempts": 2} | options))
    served = ServerRewardModel("tiny", endpoint, form or StepTags("#", system=None), shorten=shorten)

    async def once() -> list[Any]:
        candidates = [Candidate(Problem("q"), tuple(Step(t, "m", 1) for t in text.split("|"))) for text in texts]
        try:
            return await served.rate(candidates, Run(1))
        finally:
            await served.aclose()

    return asyncio.run(once())


def test_a_reward_model_gives_a_score_a_step(server: Misbehaving) -> None:
    first, second = rate(server, "a|b|c", "d")
    assert first.steps == (0.9, 0.9, 0.9)
    assert second.steps == (0.9,)
    asked = {"".join(map(chr, body["input"])) for body in server.generations()}
    assert asked == {"<user>q\n<assistant>a#b#c#\n", "<user>q\n<assistant>d#\n"}


def test_a_tag_in_a_step_is_taken_out(server: Misbehaving) -> None:
    (score,) = rate(server, "a#b")
    assert score.steps == (0.9,)


def test_a_rating_that_fails_is_nan_and_says_why(server: Misbehaving) -> None:
    server.change = lambda answer: {"data": [{"data": []}]}
    (score,) = rate(server, "a")
    assert math.isnan(score.value)
    assert "gave 0 scores for 1 steps" in score.error


def test_every_family_is_asked_in_its_own_way(server: Misbehaving) -> None:
    said = {"data": [{"data": [[0.7, 0.3], [0.6, 0.4]]}]}
    server.change = lambda answer: said
    (score,) = rate(server, "one|two", form=Shepherd())
    assert score.steps == (0.7, 0.6)
    assert "".join(map(chr, server.generations()[-1]["input"])) == "q one ки\ntwo ки"
    signs = {"choices": [{"logprobs": {"top_logprobs": [{"+": math.log(0.6), " -": math.log(0.2), "x": -9.0}]}}]}
    server.change = lambda answer: signs
    (score,) = rate(server, "one|two", form=PlusMinus())
    assert score.steps == pytest.approx((0.75, 0.75))
    server.change = lambda answer: answer
    (score,) = rate(server, "one|two", form=Outcome())
    assert (score.value, score.steps) == (0.75, (0.75,))


def test_skywork_is_read_at_the_end_of_each_line(server: Misbehaving) -> None:
    (score,) = rate(server, "a\n\nb|cd\n\n", form=Skywork())
    assert "".join(map(chr, server.generations()[-1]["input"])) == "q\na b\ncd\n"
    assert score.steps == pytest.approx(tuple(1 / (1 + math.exp(-at)) for at in (5, 8)))
    server.change = lambda answer: {"data": [{"embedding": [0.0]}]}
    (score,) = rate(server, "a", form=Skywork())
    assert "gave 1 values for 4 tokens; is the Skywork plug-in there?" in score.error


def test_what_does_not_fit_is_not_rated_and_says_so(server: Misbehaving) -> None:
    (score,) = rate(server, "|".join(["x" * 99] * 5))
    assert math.isnan(score.value)
    assert "does not fit the context of 400" in score.error
    assert server.generations() == []


def test_shortened_it_is_rated_without_its_oldest_steps_and_the_question_stays(server: Misbehaving) -> None:
    steps = [letter * 99 for letter in "abcde"]
    (score,) = rate(server, "|".join(steps), shorten=True)
    assert [math.isnan(s) for s in score.steps] == [True, True, False, False, False]
    assert score.value == 0.9
    (asked,) = server.generations()
    assert "".join(map(chr, asked["input"])).startswith("<user>q\n<assistant>" + "c" * 99 + "#")
    (whole,) = rate(server, "a|b", shorten=True)
    assert whole.steps == (0.9, 0.9)
    (too_long,) = rate(server, "a|" + "x" * 500, shorten=True)
    assert "does not fit the context of 400" in too_long.error


def test_families_have_names() -> None:
    assert set(FORMATS) == {"qwen", "tags", "shepherd", "plus-minus", "skywork", "outcome"}


def test_single_on_a_server_is_single(server: Misbehaving) -> None:
    assert solve("What is 1 + 1?", single(model(server))).answer == "2"


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "examples").glob("models.*.toml")), ids=str)
def test_the_examples_models_files_are_read_and_can_be_started(path: Path) -> None:
    specs = load(path)
    assert {"small", "large"} <= set(specs)
    parts = shares(to_start(specs))
    for role, spec in to_start(specs).items():
        line = command(spec, 8000, "python", parts[role])
        assert line[line.index("--model") + 1] == spec.model
        assert ("--runner" in line) == (spec.reward is not None)
        assert 0 < parts[role] < 1


def test_salt_session_and_priority_go_along(server: Misbehaving) -> None:
    served = model(server)
    served.priority = 3
    ask(served)
    ask(served, run=Run(2))
    first, second = server.generations()
    assert first["priority"] == 3
    assert first["cache_salt"] == first["session_id"] != second["cache_salt"]
    labels = {headers["x-session-id"] for path, _, headers in server.asked if path == "/v1/completions"}
    assert labels == {first["session_id"], second["session_id"]}


def test_a_host_that_is_off_the_network_is_passed_over(server: Misbehaving) -> None:
    """192.0.2.0/24 is for documentation: nobody answers, and nobody refuses."""
    served = ServerModel("tiny", Endpoint(["http://192.0.2.1:9/v1", server.url], attempts=4, timeout=1.0))
    OPENED.append(served)
    began = time.monotonic()
    answers = [ask(served, run=Run(seed)) for seed in range(3)]
    assert [a.text for (a,) in answers] == [server.reply] * 3
    assert time.monotonic() - began < 15


def test_a_key_is_stripped_and_one_that_no_header_carries_is_refused() -> None:
    assert Endpoint(["http://x"], key=" sk-1\n").key == "sk-1"
    assert Endpoint(["http://x"], key=" ").key == "EMPTY"
    with pytest.raises(BadInput) as raised:
        Endpoint(["http://x"], key="sk-\u2028secret")
    assert "secret" not in str(raised.value)


def test_a_stream_that_breaks_off_with_an_error_is_tried_again(server: Misbehaving) -> None:
    async def broken(writer: Any) -> None:
        event = b'data: {"error": {"message": "engine died", "code": 500}}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        writer.write(head + event)
        await writer.drain()
        writer.close()

    server.faults = [broken]
    (answer,) = ask(model(server), seconds=20.0)
    assert answer.text == server.reply
    assert answer.lost.calls == 1


def test_a_refused_request_costs_a_call(server: Misbehaving) -> None:
    server.always = status("429 Too Many Requests")
    (answer,) = ask(model(server, attempts=2))
    assert answer.finish_reason == "error"
    assert (answer.usage.calls, answer.usage.tokens) == (2, 0)


def test_a_budget_for_some_retries_retries_those(server: Misbehaving) -> None:
    server.faults = [status("429 Too Many Requests")]
    run = Run(1, ledger=Ledger(Budget(calls=7)))
    answers = ask(model(server), n=4, run=run)
    assert [a.finish_reason for a in answers] == ["eos"] * 3 + ["budget"]
    assert run.ledger.spent.calls == 7


def test_a_server_that_cannot_tokenize_loses_candidates_and_not_the_run(server: Misbehaving) -> None:
    about = server.about
    server.about = lambda path, body: None if path == "/tokenize" and "messages" in body else about(path, body)  # type: ignore[method-assign]
    answers = ask(model(server), n=2)
    assert [a.finish_reason for a in answers] == ["error"] * 2


def test_what_is_no_server_of_this_kind_says_so(server: Misbehaving) -> None:
    server.about = lambda path, body: "<html>"  # type: ignore[method-assign]
    (answer,) = ask(model(server))
    assert "is no list of models" in str(answer.error)


def test_a_chat_server_that_knows_no_n_is_asked_for_each(server: Misbehaving) -> None:
    server.chat_only = True
    server.change = lambda answer: answer | {"choices": answer["choices"][:1]}
    answers = ask(model(server), n=3)
    assert [a.finish_reason for a in answers] == ["eos"] * 3
    assert len(server.generations()) == 3


def test_a_server_that_cannot_read_a_text_says_so(server: Misbehaving) -> None:
    (answer,) = ask(model(server), prefix_logprobs=True, context=Context(CONTEXT.messages, "so"))
    assert "prompt_logprobs" in str(answer.error)


def test_connections_of_dead_loops_are_let_go(server: Misbehaving) -> None:
    served = ServerModel("tiny", Endpoint([server.url]))
    for seed in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.run(served.generate([CONTEXT], Run(seed), sampling=Sampling(max_tokens=5)))
            gc.collect()
    assert len(served.endpoint._loops) == 1
    served.endpoint._loops.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[small]\nspec = "lab/small"\ntimeout = 3', "of no effect beside spec"),
        ('[small]\nmodel = "m"\nurl = "localhost:1"', "is no URL"),
        ('[small]\nmodel = "m"\nvllm = { port = 1 }', "vllm.port"),
    ],
)
def test_a_models_file_that_would_mislead_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(BadInput, match=why):
        load(tmp_path / "m.toml")


def test_prices_beside_a_spec_and_comments_with_variables(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('# ${NOBODY_SETS_THIS}\n[small]\nspec = "lab/small"\nusd_prompt = 1.0')
    model = load(tmp_path / "m.toml")["small"].open("small")
    assert model.rates.usd_prompt == pytest.approx(1e-6)
    assert model.rates.active > 0
    wait(model.aclose())
