"""The utility digit's failures, replies that are asked for again, and the rubric."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence

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
    Token,
    Usage,
)
from reasonweave.orchestrator.models.base import Request
from reasonweave.orchestrator.testing import ScriptedModel, check_verifier
from reasonweave.verifiers.judge import Unreadable, UtilityDigit, chances, heard
from reasonweave.verifiers.rubric import Criterion, Rubric

TWO = (Criterion("result", "Right?", weight=3.0, worst=0, best=10), Criterion("form", "Tidy?", worst=1, best=5))


def solution(text: str) -> Candidate:
    return Candidate(Problem("q"), (Step(text, "m", 1),))


def grades(result: object, form: object) -> str:
    return json.dumps({"result": result, "form": form})


# One token.


def test_the_words_of_an_answer_share_its_probability() -> None:
    top = (("A", math.log(0.3)), (" B", math.log(0.1)), ("C", math.log(0.6)))
    assert chances(Completion("C", "length", tokens=(Token("C", -0.5, top),)), "AB") == pytest.approx([0.75, 0.25])


def test_without_alternatives_the_answer_itself_counts() -> None:
    assert chances(Completion(" B", "length", tokens=(Token(" B", -0.5),)), "AB") == [0.0, 1.0]
    assert chances(Completion("Fal", "length"), ("True", "False")) == [0.0, 1.0]
    for text in ("10", "seven"):
        with pytest.raises(Unreadable):
            chances(Completion(text, "length"), "0123456789")


def test_the_digit_is_the_greedy_one_where_the_server_tells_no_alternatives() -> None:
    (score,) = asyncio.run(UtilityDigit(ScriptedModel(["7"])).score([solution("a")], Run()))
    assert score.value == 7


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        (Completion("", "budget"), "the budget has no room"),
        (Completion("", "error", error="server gone"), "server gone"),
        (Completion("", "error"), "failed"),
        (Completion("", "cancelled"), "cancelled"),
        (Completion("", "length"), "fills the model's context"),
        (Completion(" \n", "eos"), "an empty reply"),
    ],
)
def test_silence_says_why(completion: Completion, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        heard(completion)


# The rubric.


def test_a_rubric_is_the_weighted_mean_of_the_grades_brought_to_one_scale() -> None:
    model = ScriptedModel([f"Fine but short. {grades(8, 2)}"])
    (score,) = asyncio.run(Rubric(model, TWO).score([solution("a")], Run()))
    assert score.value == pytest.approx((3 * 0.8 + 1 * 0.25) / 4)
    ((request,),) = model.calls
    assert [m.role for m in request.context.messages] == ["user", "assistant", "user"]
    shown = request.context.messages[2].content
    schema = json.loads(shown[shown.index('{"type"') :])
    assert schema["properties"]["form"] == {"type": "number", "minimum": 1, "maximum": 5, "description": "Tidy?"}
    assert schema["required"] == ["result", "form"]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("Eight out of ten.", "no JSON object with the grades result, form in 'Eight out of ten.'"),
        (grades(11, 2), "result is '11', not a number from 0 to 10"),
        (grades(True, 2), "result is 'True', not a number from 0 to 10"),
        (grades("8", 2), "result is '8', not a number from 0 to 10"),
        ('{"result": NaN, "form": 2}', "result is 'nan', not a number from 0 to 10"),
        ('{"result": 8}', "no grade for form"),
        ('{"result": 8, "form": ', "no JSON object"),
        (f"<think>{grades(8, 2)}</think> Well.", "no JSON object"),
    ],
)
def test_a_reply_without_readable_grades_is_asked_for_again_and_then_no_judgement(reply: str, why: str) -> None:
    model = ScriptedModel([reply])
    (score,) = asyncio.run(Rubric(model, TWO, tries=3).score([solution("a")], Run()))
    assert math.isnan(score.value)
    assert score.error is not None
    assert why in score.error
    assert len(model.calls) == 3
    first, second, _ = (call[0].context for call in model.calls)
    assert second.messages[:3] == first.messages
    assert second.messages[3].role == "assistant"
    assert why in second.messages[4].content


def test_the_second_reply_counts_where_the_first_cannot_be_read_and_only_that_one_is_asked_again() -> None:
    def reply(request: Request) -> str:
        again = len(request.context.messages) > 3
        return grades(5, 3) if again or "good" in request.context.messages[1].content else "hm"

    model = ScriptedModel(reply)
    scores = asyncio.run(Rubric(model, TWO).score([solution("good"), solution("bad"), solution("good")], Run()))
    assert [s.value for s in scores] == [0.5] * 3
    assert [len(call) for call in model.calls] == [2, 1]  # equal questions are asked once


def test_the_last_object_that_can_be_read_counts() -> None:
    text = f"At first {grades(0, 1)}, but then {grades(10, 5)}. {{"
    (score,) = asyncio.run(Rubric(ScriptedModel([text]), TWO).score([solution("a")], Run()))
    assert score.value == 1


def test_a_reply_that_was_cut_says_so() -> None:
    (score,) = asyncio.run(
        Rubric(ScriptedModel(["one two three four"]), TWO, max_tokens=2).score([solution("a")], Run())
    )
    assert score.error is not None
    assert score.error.endswith("(cut off after 2 tokens)")


class Failing(ScriptedModel):
    """Answers the first request of a call; the others meet an end like this."""

    end = Completion("", "budget")

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        got = await super()._generate(requests)
        return [got[0], *[self.end] * (len(requests) - 1)]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (Completion("", "budget"), "the budget has no room for the judgement"),
        (Completion("", "error", Usage(calls=1), error="gone"), "gone"),
    ],
)
def test_what_the_budget_or_a_failure_left_unsaid_is_not_asked_again(end: Completion, why: str) -> None:
    model = Failing([grades(5, 3)])
    model.end = end
    first, second = asyncio.run(Rubric(model, TWO).score([solution("a"), solution("b")], Run()))
    assert first.value == 0.5
    assert math.isnan(second.value)
    assert second.error == why
    assert len(model.calls) == 1


def test_a_spent_budget_is_raised() -> None:
    with pytest.raises(OverBudget):
        asyncio.run(
            Rubric(ScriptedModel([grades(5, 3)]), TWO).score([solution("a")], Run(ledger=Ledger(Budget(tokens=3))))
        )


def test_a_rubric_keeps_the_promises_of_verifiers(problem: Problem) -> None:
    check_verifier(Rubric(ScriptedModel([grades(5, 3)]), TWO), problem)
    check_verifier(UtilityDigit(ScriptedModel(["7"])), problem)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rubric(ScriptedModel(), ()),
        lambda: Rubric(ScriptedModel(), (TWO[0], TWO[0])),
        lambda: Rubric(ScriptedModel(), tries=0),
        lambda: Rubric(ScriptedModel(), prompt="Grade it."),
        lambda: Criterion("", "?"),
        lambda: Criterion("a", "?", weight=0),
        lambda: Criterion("a", "?", worst=3, best=3),
    ],
)
def test_rubrics_that_cannot_be_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput):
        make()


# What a spent budget leaves.


def test_what_was_readable_stands_where_the_budget_has_no_room_to_ask_again() -> None:
    model = ScriptedModel(lambda r: "I would rather not." if "odd" in r.context.messages[1].content else grades(10, 5))
    run = Run(ledger=Ledger(Budget(calls=3)))
    scores = asyncio.run(Rubric(model, TWO).score([solution(text) for text in ("fine", "odd", "good")], run))
    assert [s.value for s in scores if not math.isnan(s.value)] == [1.0, 1.0]
    assert scores[1].error is not None
    assert "calls" in (run.cut_short or "")


def test_alternatives_are_read_though_the_greedy_token_is_blank() -> None:
    top = (("\n", math.log(0.5)), ("A", math.log(0.3)), ("B", math.log(0.1)))
    assert chances(Completion("\n", "length", tokens=(Token("\n", -0.5, top),)), "AB") == pytest.approx([0.75, 0.25])
