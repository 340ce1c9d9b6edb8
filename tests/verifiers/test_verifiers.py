from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.orchestrator import Candidate, Completion, Problem, Request, Run, Step, Token, Usage
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.verifiers import OutcomeReward, PrefixReward, ProcessReward, SelfCheck, UtilityDigit
from reasonweave.verifiers.prm import average, last, lowest, product

CANDIDATE = Candidate(Problem("q"), (Step("one\n\n", "m", 1), Step("two\n\n", "m", 1)))
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


class Alternatives(ScriptedModel):
    """Answers one token with these alternatives."""

    def __init__(self, top: dict[str, float]) -> None:
        super().__init__([next(iter(top), "x")])
        self.top = tuple((text, math.log(p)) for text, p in top.items())

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(list(requests))
        text = self.top[0][0] if self.top else "x"
        token = Token(text, self.top[0][1] if self.top else None, self.top)
        return [Completion(text, "length", Usage(calls=1), (token,)) for _ in requests]


def value(verifier: UtilityDigit | SelfCheck | ProcessReward) -> float:
    return asyncio.run(verifier.score([CANDIDATE], Run()))[0].value


def test_the_digit_is_expected_over_the_ten_digits_renormalised() -> None:
    model = Alternatives({"9": 0.5, "3": 0.25, "I": 0.25})
    assert value(UtilityDigit(model)) == pytest.approx((9 * 0.5 + 3 * 0.25) / 0.75)
    assert value(UtilityDigit(model, expected=False)) == 9


def test_the_judge_reads_the_steps_and_one_token() -> None:
    model = Alternatives({"9": 1.0})
    value(UtilityDigit(model))
    (request,) = model.calls[0]
    roles = [m.role for m in request.context.messages]
    assert roles == ["user", "assistant", "user"]
    assert request.context.messages[1].content == "one\n\ntwo\n\n"
    assert (request.max_tokens, request.sampling.temperature, request.sampling.stop) == (1, 0.0, ())


@pytest.mark.parametrize("top", [{"I": 0.9, "so": 0.1}, {}])
def test_a_reply_without_a_digit_is_no_judgement_and_says_so(top: dict[str, float]) -> None:
    for expected in (True, False):
        (score,) = asyncio.run(UtilityDigit(Alternatives(top), expected).score([CANDIDATE], Run()))
        assert math.isnan(score.value)
        assert score.error is not None
        assert repr("I" if top else "x") in score.error


def test_a_blank_before_the_digit_does_not_matter() -> None:
    assert value(UtilityDigit(Alternatives({" 7": 1.0}))) == 7
    assert value(UtilityDigit(Alternatives({" 7": 1.0}), expected=False)) == 7


def test_p_true_is_renormalised_and_no_judgement_without_either() -> None:
    assert value(SelfCheck(Alternatives({"True": 0.6, "False": 0.2, "x": 0.2}))) == pytest.approx(0.75)
    assert math.isnan(value(SelfCheck(Alternatives({"x": 1.0}))))


@given(PROBABILITIES)
def test_reductions(steps: list[float]) -> None:
    assert last(steps) == steps[-1]
    assert lowest(steps) == min(steps)
    assert average(steps) == pytest.approx(sum(steps) / len(steps))
    expected = 1.0
    for p in steps:
        expected *= p
    assert product(steps) == pytest.approx(expected)
    assert product(steps) <= lowest(steps) <= average(steps) + 1e-12


def test_process_reward_keeps_the_steps() -> None:
    model = ScriptedReward(lambda problem, steps: {1: 0.9, 2: 0.4}[len(steps)])
    (score,) = asyncio.run(ProcessReward(model, product).score([CANDIDATE], Run()))
    assert score.steps == (0.9, 0.4)
    assert score.value == pytest.approx(0.36)


class Refusing(ScriptedModel):
    """Answers one of two, and has no budget for the other."""

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        got = await super()._generate(requests)
        return [c if i == 0 else Completion("", "budget") for i, c in enumerate(got)]


@pytest.mark.parametrize(("verifier", "reply", "value"), [(UtilityDigit, "5", 5.0), (SelfCheck, "False", 0.0)])
def test_a_judgement_that_was_not_made_is_nan_and_no_number(
    verifier: type[UtilityDigit] | type[SelfCheck], reply: str, value: float
) -> None:
    candidates = [Candidate(Problem("q"), (Step(text, "m", 1),)) for text in ("a", "b")]
    first, second = asyncio.run(verifier(Refusing([reply])).score(candidates, Run()))
    assert (first.value, first.error) == (value, None)
    assert math.isnan(second.value)
    assert second.error == "the budget has no room for the judgement"


def test_the_repr_names_the_reduction_and_no_address() -> None:
    assert repr(ProcessReward(ScriptedReward(), last)) == "ProcessReward(ScriptedReward('scripted-prm'), last)"


def test_steps_that_were_not_shown_count_for_nothing() -> None:
    model = ScriptedReward(lambda problem, steps: {1: math.nan, 2: 0.4}[len(steps)])
    (score,) = asyncio.run(ProcessReward(model, product).score([CANDIDATE], Run()))
    assert score.value == 0.4
    assert math.isnan(score.steps[0])


def test_an_outcome_has_no_steps() -> None:
    model = ScriptedReward(lambda problem, steps: {1: 0.9, 2: 0.4}[len(steps)])
    (score,) = asyncio.run(OutcomeReward(model).score([CANDIDATE], Run()))
    assert (score.value, score.steps) == (0.4, ())


def test_a_prefix_is_rewarded_as_one_step() -> None:
    model = ScriptedReward(lambda problem, steps: 0.3 if list(steps) == ["one two"] else 1.0)
    (score,) = asyncio.run(PrefixReward(model).score([CANDIDATE], Run()))
    assert (score.value, score.steps) == (0.3, ())
