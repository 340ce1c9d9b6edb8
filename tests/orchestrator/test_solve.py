from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from reasonweave.orchestrator import Budget, Context, Jsonl, Problem, Result, asolve, chain, solve
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
    assert [e["path"] for e in events if e["event"] == "started"] == ["run", "BestOfN"]
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
