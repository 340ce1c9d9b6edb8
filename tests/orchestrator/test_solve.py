from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidates,
    Context,
    Jsonl,
    ModelError,
    Problem,
    Result,
    Run,
    Score,
    Usage,
    asolve,
    chain,
    solve,
)
from reasonweave.orchestrator.models.base import Rating
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.strategies import BestOfN, best, best_of_n, majority, self_consistency, single, whole
from reasonweave.verifiers import ProcessReward

PROBLEM = Problem("what is it")


def test_a_string_is_a_problem_and_the_result_says_what_it_cost() -> None:
    small, prm = ScriptedModel(name="small"), ScriptedReward(name="prm")
    result = solve("what is it", best_of_n(small, ProcessReward(prm), n=4))
    assert result.answer in {"1", "2", "3", "4"}
    assert set(result.usage) == {"small", "prm"}
    assert result.usage["small"].calls == 4
    assert result.tokens == sum(usage.tokens for usage in result.usage.values())
    assert f"\\boxed{{{result.answer}}}" in result.text


def test_without_a_vote_the_best_candidate_answers() -> None:
    prm = ProcessReward(ScriptedReward(lambda problem, steps: float("{3}" in steps[-1])))
    flow = BestOfN(whole(ScriptedModel([r"\boxed{1}", r"\boxed{3}", r"\boxed{1}"])), n=3, verifier=prm)
    assert solve(PROBLEM, flow).answer == "3"
    assert solve(PROBLEM, chain(flow, best)).answer in {"1", "3"}


def test_solve_works_inside_a_running_loop_and_from_threads() -> None:
    async def inside() -> Result:
        return solve(PROBLEM, single(ScriptedModel()), seed=5)

    direct = asyncio.run(asolve(PROBLEM, single(ScriptedModel()), seed=5))
    found: list[Result] = [asyncio.run(inside())]
    threads = [
        threading.Thread(target=lambda: found.append(solve(PROBLEM, single(ScriptedModel()), seed=5))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {r.text for r in found} == {direct.text}


def test_the_trace_is_json_lines_that_add_up(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    with Jsonl(file) as trace:
        result = solve(PROBLEM, self_consistency(ScriptedModel(), n=3), trace=trace)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    paid = [e["usage"] for e in events if e["event"] in ("generated", "rated")]
    assert sum(u["prompt"] + u["completion"] for u in paid) == result.tokens
    assert [e["path"] for e in events if e["event"] == "started"] == ["run", "BestOfN", "majority"]
    assert events[-1]["event"] == "ended"
    assert events[-1]["answer"] == result.answer


@pytest.mark.parametrize("tokens", [0, 5, 30, 60, 200, 1000])
def test_a_budget_is_never_exceeded_and_one_affordable_token_gives_an_answer(tokens: int) -> None:
    model = ScriptedModel(lambda request: "9}" if request.context.prefix else "let me think " * 50)
    result = solve(PROBLEM, self_consistency(model, n=8), budget=Budget(tokens=tokens))
    assert result.tokens <= tokens
    forced = model.count(next(iter(self_prompt()))) + 1
    assert (result.answer == "9") == (tokens >= forced)
    if tokens < 1000:
        assert result.stopped


def self_prompt() -> list[Context]:
    return [Context(PROBLEM.messages, "The answer is \\boxed{")]


def test_majority_of_what_was_affordable() -> None:
    model = ScriptedModel([r"so \boxed{4}"])
    result = solve(PROBLEM, chain(BestOfN(whole(model), n=16), majority), budget=Budget(calls=5))
    assert result.answer == "4"
    assert result.total.calls == 5


def test_solve_within_a_run_says_to_await_instead_of_waiting_for_itself() -> None:
    def nested(found: Candidates) -> Candidates:
        return replace(found, answer=solve("inner", single(ScriptedModel())).answer)

    with pytest.raises(BadInput, match="await asolve"):
        solve(PROBLEM, chain(BestOfN(whole(ScriptedModel()), n=1), nested))


@pytest.mark.parametrize(
    ("strategy", "budget", "told"),
    [
        (whole(ScriptedModel()), None, "no strategy"),
        (majority, None, "no strategy"),
        (BestOfN, None, "no strategy"),
        (single(ScriptedModel()), 50, r"write Budget\(tokens=50\)"),
        (single(ScriptedModel()), 0, r"write Budget\(tokens=0\)"),
    ],
)
def test_what_is_no_strategy_or_no_budget_is_refused(strategy: Any, budget: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        solve(PROBLEM, strategy, budget=budget)


def test_numpy_numbers_are_seeds_and_labels() -> None:
    flow = single(ScriptedModel())
    assert solve(PROBLEM, flow, seed=np.int64(3)).text == solve(PROBLEM, flow, seed=3).text
    assert Run().child("step", np.int64(3)).seed() == Run().child("step", 3).seed()


def test_reward_models_that_fail_leave_the_answers_and_are_reported() -> None:
    class Down(ScriptedReward):
        async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
            raise ModelError("connection refused")

    result = solve(PROBLEM, best_of_n(ScriptedModel(), ProcessReward(Down()), n=4))
    assert result.answer is not None
    assert "connection refused" in result.errors[0]
