"""Constraints: extracted once a problem and run, also at the same time; checked reply by reply."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Completion,
    Ledger,
    OverBudget,
    Problem,
    Run,
    Step,
)
from reasonweave.orchestrator.models.base import Request
from reasonweave.orchestrator.testing import ScriptedModel, check_verifier
from reasonweave.verifiers._once import Once
from reasonweave.verifiers.constraints import Check, Constraints, share_met, stated


def solution(text: str, problem: Problem | None = None) -> Candidate:
    return Candidate(problem or Problem("Seat four people."), (Step(text, "m", 1),))


def extracting(request: Request) -> bool:
    return "Do not solve it." in request.context.messages[0].content


def listed(*constraints: str) -> str:
    return json.dumps({"constraints": constraints})


def checked(score: object, *met: object) -> str:
    return json.dumps({"constraints": [{"met": each, "why": "so {it} is"} for each in met], "score": score})


class Agent(ScriptedModel):
    """Lists constraints, or checks against them, by these scripts."""

    def __init__(
        self,
        lists: Callable[[Request], str] = lambda r: f"Here: {listed('four seats', 'Ann left of Bob')}",
        checks: Callable[[Request], str] = lambda r: f"Hm. {checked(40, True, False)}",
        **options: Any,
    ) -> None:
        super().__init__(lambda r: lists(r) if extracting(r) else checks(r), **options)

    @property
    def asked(self) -> tuple[int, int]:
        """How many extractions and checks."""
        requests = [extracting(r) for call in self.calls for r in call]
        return sum(requests), len(requests) - sum(requests)


def scores(verifier: Constraints, candidates: Sequence[Candidate], run: Run | None = None) -> list[tuple[float, str]]:
    found = asyncio.run(verifier.score(candidates, run or Run()))
    return [(score.value, score.error or "") for score in found]


def test_the_constraints_are_found_once_and_each_solution_is_checked_against_them() -> None:
    model = Agent()
    assert scores(Constraints(model), [solution("a"), solution("b"), solution("a")]) == [(0.7, "")] * 3
    assert model.asked == (1, 2)
    first, second = model.calls[1]
    assert "Seat four people." in model.calls[0][0].context.messages[0].content
    assert [m.role for m in first.context.messages] == ["user", "assistant", "user"]
    assert (first.context.messages[1].content, second.context.messages[1].content) == ("a", "b")
    assert "numbered 1 to 2:\n1. four seats\n2. Ann left of Bob\n" in first.context.messages[2].content


def test_the_value_is_the_stated_score_or_the_share_that_is_met() -> None:
    assert [stated(Check((True,), s)) for s in (-100, 0, 100)] == [0, 0.5, 1]
    model = Agent(checks=lambda r: checked(-100, True, False))
    assert scores(Constraints(model), [solution("a")]) == [(0.0, "")]
    assert scores(Constraints(model, value=share_met), [solution("a")]) == [(0.5, "")]
    assert "value=share_met" in repr(Constraints(model, value=share_met))


def test_given_constraints_are_not_looked_for_and_the_problems_own_come_first() -> None:
    model = Agent(checks=lambda r: checked(100, *[True] * r.context.messages[2].content.count("rule")))
    own = Problem("p", meta={"constraints": ["rule a", "rule b", "rule c"]})
    assert scores(Constraints(model, ("rule 1",)), [solution("a"), solution("a", own)]) == [(1.0, "")] * 2
    assert model.asked == (0, 2)
    shown = [r.context.messages[2].content for r in model.calls[0]]
    assert "1. rule 1\n" in shown[0]
    assert "3. rule c\n" in shown[1]


def test_blanks_and_repetitions_are_no_constraints() -> None:
    model = Agent(lambda r: listed("one", " ", "one ", "two"))
    assert scores(Constraints(model), [solution("a")]) == [(0.7, "")]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("Four seats.", "no constraints: no JSON object with constraints in 'Four seats.'"),
        ('{"constraints": "four seats"}', "no constraints: the object has no list of texts named constraints"),
        ('{"constraints": [4]}', "no constraints: the object has no list of texts named constraints"),
    ],
)
def test_constraints_that_cannot_be_read_are_asked_for_again_and_their_candidates_not_checked(
    reply: str, why: str
) -> None:
    model = Agent(lambda r: reply)
    ((value, error),) = scores(Constraints(model, tries=3), [solution("a")])
    assert math.isnan(value)
    assert error == why
    assert model.asked == (3, 0)


def test_a_problem_without_constraints_is_not_judged() -> None:
    model = Agent(lambda r: listed())
    ((value, error),) = scores(Constraints(model), [solution("a")])
    assert math.isnan(value)
    assert error == "the problem has no constraints"
    assert model.asked == (1, 0)
    ((value, error),) = scores(Constraints(Agent(), ("x",)), [solution("a", Problem("p", meta={"constraints": []}))])
    assert error == "the problem has no constraints"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (checked(40, True), "does not say of each of 2 constraints"),
        (checked(40, True, "yes"), "does not say of each of 2 constraints"),
        ('{"constraints": 2, "score": 40}', "does not say of each of 2 constraints"),
        (checked(140, True, True), "score is '140', not a number from -100 to 100"),
        (checked(None, True, True), "score is 'None', not a number from -100 to 100"),
        ("Fine.", "no JSON object"),
    ],
)
def test_a_check_that_cannot_be_read_is_no_judgement(reply: str, why: str) -> None:
    model = Agent(checks=lambda r: reply)
    ((value, error),) = scores(Constraints(model), [solution("a")])
    assert math.isnan(value)
    assert why in error
    assert model.asked == (1, 2)  # the check was asked for twice


# Once a run.


def test_a_second_call_of_the_run_asks_no_more_and_another_run_does() -> None:
    model = Agent()
    verifier, run = Constraints(model), Run()
    for k in range(3):
        scores(verifier, [solution("a")], run.child(k))
    assert model.asked == (1, 3)
    scores(verifier, [solution("a")], Run())
    assert model.asked == (2, 4)
    run.session.close()
    assert len(verifier._known) == 1
    scores(verifier, [solution("a")], run.child("after"))
    assert model.asked == (3, 5)


def test_calls_at_the_same_time_extract_once() -> None:
    model = Agent(latency=0.01)
    verifier, run = Constraints(model), Run()

    async def several() -> list[list[float]]:
        calls = [
            verifier.score([solution(f"{k}"), solution("x", Problem(f"p{k % 2}"))], run.child(k)) for k in range(5)
        ]
        return [[s.value for s in found] for found in await asyncio.gather(*calls)]

    assert asyncio.run(several()) == [[0.7, 0.7]] * 5
    assert model.asked == (3, 10)


def test_a_failed_extraction_is_not_remembered() -> None:
    replies = iter(["no", "no", listed("four seats", "Ann left of Bob")])
    model = Agent(lambda r: next(replies))
    verifier, run = Constraints(model), Run()
    assert math.isnan(scores(verifier, [solution("a")], run.child(0))[0][0])
    assert scores(verifier, [solution("a")], run.child(1)) == [(0.7, "")]
    assert scores(verifier, [solution("a")], run.child(2)) == [(0.7, "")]
    assert model.asked == (3, 2)


def test_when_the_one_that_looks_is_cancelled_another_looks() -> None:
    model = Agent(latency=0.02)
    verifier, run = Constraints(model), Run()

    async def cut() -> float:
        first = asyncio.create_task(verifier.score([solution("a")], run.child(0)))
        await asyncio.sleep(0.005)
        second = asyncio.create_task(verifier.score([solution("a")], run.child(1)))
        await asyncio.sleep(0.005)
        first.cancel()
        (score,) = await second
        assert first.cancelled()
        return score.value

    assert asyncio.run(cut()) == 0.7
    assert model.asked == (2, 1)


def test_what_a_search_raises_is_raised_and_those_who_wait_search_themselves() -> None:
    memory: Once[str, int] = Once()
    looked = []

    async def find(keys: list[str], run: Run) -> dict[str, int]:
        looked.append((keys, run.path[0]))
        await asyncio.sleep(0.01)
        if len(looked) < 3:
            raise ValueError("not yet")
        return {key: len(key) for key in keys if key != "unknown"}

    async def several() -> list[object]:
        run = Run()
        calls = [memory.all(["a", "unknown"], run.child(k), find) for k in range(4)]
        return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(several())
    assert [type(each) for each in found] == [ValueError, ValueError, dict, dict]
    assert found[2:] == [{"a": 1}, {"a": 1}]
    assert looked == [
        (["a", "unknown"], 0),
        (["a", "unknown"], 1),
        (["a", "unknown"], 2),
        (["unknown"], 3),
    ]  # "a" was known by then


def test_the_memory_is_bounded_and_the_oldest_go_first() -> None:
    memory: Once[int, int] = Once(most=3)

    async def find(keys: list[int], run: Run) -> dict[int, int]:
        return {key: -key for key in keys}

    async def fill() -> None:
        run = Run()
        for k in range(5):
            assert await memory.all([k, k], run.child(k), find) == {k: -k}
        assert len(memory) == 3
        assert sorted(key for _, key in memory._found) == [2, 3, 4]
        run.session.close()
        assert len(memory) == 0

    asyncio.run(fill())


# What it promises.


class Short(Agent):
    """Answers the first request of a call, and has no budget for the others."""

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        got = await super()._generate(requests)
        return [got[0], *[Completion("", "budget")] * (len(got) - 1)]


def test_where_the_budget_ends_the_others_are_not_judged() -> None:
    (first, _), (second, why) = scores(Constraints(Short()), [solution("a"), solution("b")])
    assert first == 0.7
    assert math.isnan(second)
    assert why == "the budget has no room for the judgement"
    (first, _), (second, why) = scores(Constraints(Short()), [solution("a"), solution("b", Problem("p"))])
    assert first == 0.7
    assert math.isnan(second)
    assert why == "no constraints: the budget has no room for the judgement"
    with pytest.raises(OverBudget):
        scores(Constraints(Agent()), [solution("a")], Run(ledger=Ledger(Budget(tokens=5))))


def test_it_keeps_the_promises_of_verifiers(problem: Problem) -> None:
    check_verifier(Constraints(Agent()), problem)
    check_verifier(Constraints(Agent(), ("a", "b"), share_met), problem)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constraints(ScriptedModel(), "one rule"),
        lambda: Constraints(ScriptedModel(), (1,)),  # type: ignore[arg-type]
        lambda: Constraints(ScriptedModel(), tries=0),
        lambda: Constraints(ScriptedModel(), extract_prompt="List them."),
        lambda: Constraints(ScriptedModel(), check_prompt="Check it."),
        lambda: scores(Constraints(Agent()), [solution("a", Problem("p", meta={"constraints": "one rule"}))]),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        make()
