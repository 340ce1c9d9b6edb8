"""Cascades: when the first answer stands, what each score reads, and what a spent budget leaves."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from support import said

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Problem,
    Request,
    Run,
    Sampling,
    Score,
    Step,
    Strategy,
    Token,
    chain,
    drive,
    solve,
)
from reasonweave.orchestrator.registry import Workflow
from reasonweave.orchestrator.testing import ScriptedModel, check_strategy
from reasonweave.strategies import (
    Agreement,
    AutoMix,
    BestOfN,
    Cascade,
    Confidence,
    Measured,
    SelfVerify,
    Tier,
    Verified,
    abstain,
    avg_logprob,
    hybrid,
    majority,
    margin,
    whole,
)
from reasonweave.strategies.routers.cascade import answering, confidence_in, verdict_in
from reasonweave.verifiers import SelfCheck

PROBLEM = Problem("What is 1 + 1?")


def run(strategy: Strategy, budget: Budget | None = None) -> Candidates:
    return solve(PROBLEM, strategy, budget=budget, seed=1).candidates


def read(confidence: Confidence, *candidates: Candidate, **of_set: object) -> Score:
    found = replace(Candidates(candidates), **of_set)  # type: ignore[arg-type]
    return asyncio.run(confidence.read(found, Run(1)))


def flow(model: ScriptedModel, n: int = 1) -> Strategy:
    return chain(BestOfN(whole(model), n=n, max_steps=1), majority)


@dataclass(frozen=True)
class Sure:
    """A confidence that is told, and keeps what it was asked about."""

    value: float
    error: str | None = None
    enough: float = 0.5
    asked: list[str | None] = field(default_factory=list, compare=False)

    async def read(self, candidates: Candidates, run: Run) -> Score:
        self.asked.append(candidates.answer)
        return Score(self.value, error=self.error)


# Which answer stands.


@pytest.mark.parametrize(
    ("value", "threshold", "answer"),
    [
        (0.5, None, "1"),
        (0.49, None, "2"),
        (0.49, 0.3, "1"),
        (0.9, 0.95, "2"),
        (math.nan, 0.0, "2"),
        (math.nan, None, "2"),
    ],
)
def test_the_first_that_is_sure_enough_stands(value: float, threshold: float | None, answer: str) -> None:
    small, large, sure = ScriptedModel(["\\boxed{1}"]), ScriptedModel(["\\boxed{2}"], name="large"), Sure(value)
    found = run(Cascade((Tier(flow(small), sure, threshold), Tier(flow(large)))))
    assert found.answer == answer
    assert found.confidence == (value if answer == "1" else 1.0)
    assert (len(small.calls), len(large.calls)) == (1, int(answer == "2"))
    assert sure.asked == ["1"]


def test_three_tiers_in_order_each_from_the_problem() -> None:
    models = [ScriptedModel([f"\\boxed{{{i}}}"], name=f"m{i}") for i in range(3)]
    tiers = [Tier(flow(m), Sure(value)) for m, value in zip(models, (0.1, 0.6, 0.9), strict=True)]
    found = run(Cascade(tuple(tiers)))
    assert found.answer == "1"
    assert [len(m.calls) for m in models] == [1, 1, 0]
    assert models[1].calls[0][0].context.prefix == ""


def test_a_tier_without_an_answer_is_not_asked_how_sure_it_is() -> None:
    sure = Sure(1.0)
    mute, large = ScriptedModel(["no idea"]), ScriptedModel(["\\boxed{2}"])
    assert run(Cascade((Tier(flow(mute), sure), Tier(flow(large))))).answer == "2"
    unsure = chain(flow(ScriptedModel(["\\boxed{1}", "\\boxed{3}"]), 2), abstain(below=0.9))
    assert run(Cascade((Tier(unsure, sure), Tier(flow(large))))).answer == "2"
    assert sure.asked == []


def test_the_answer_there_was_stands_where_later_tiers_have_none() -> None:
    small, mute = ScriptedModel(["\\boxed{1}"]), ScriptedModel(["no idea"])
    assert run(Cascade((Tier(flow(small), Sure(0.1)), Tier(flow(mute))))).answer == "1"
    silent = chain(flow(ScriptedModel(["\\boxed{7}", "\\boxed{8}"]), 2), abstain(below=0.9))
    found = run(Cascade((Tier(flow(small), Sure(0.1)), Tier(silent))))
    assert (found.answer, found.abstains) == (None, True)  # to give none is a conclusion


def test_a_tier_that_spends_its_budget_keeps_what_it_has() -> None:
    small = ScriptedModel(lambda request: f"so \\boxed{{{request.seed % 2}}}")
    large = ScriptedModel(["\\boxed{2}"])
    tight = Tier(flow(small, 8), Sure(0.9), budget=Budget(calls=3))
    found = run(Cascade((tight, Tier(flow(large)))))
    assert found.answer in ("0", "1")
    assert sum(c.answer is not None for c in found) == 3
    assert large.calls == []
    broke = Tier(flow(small, 8), Sure(0.9), budget=Budget(calls=0))
    assert run(Cascade((broke, Tier(flow(large))))).answer == "2"


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_spent_budget_leaves_the_last_answer(calls: int) -> None:
    small, large = ScriptedModel(["\\boxed{1}", '{"confidence": 0.1}']), ScriptedModel(["\\boxed{2}"], name="large")
    result = solve(
        PROBLEM, Cascade((Tier(flow(small), SelfVerify(small)), Tier(flow(large)))), budget=Budget(calls=calls)
    )
    assert result.answer == ("2" if calls == 3 else "1")
    assert (result.stopped is None) == (calls == 3)
    assert result.total.calls == calls


def test_why_a_confidence_could_not_be_told_is_said() -> None:
    small, large = ScriptedModel(["\\boxed{1}"]), ScriptedModel(["no idea"])
    found = run(Cascade((Tier(flow(small), Sure(math.nan, "nobody knows")), Tier(flow(large)))))
    assert found.answer == "1"
    assert found.confidence is None
    (candidate,) = found
    assert candidate.score is not None
    assert candidate.score.error == "nobody knows"


def test_a_cascade_composes() -> None:
    small, large = ScriptedModel(["\\boxed{1}"], name="s"), ScriptedModel(["\\boxed{2}"], name="l")
    inner = Cascade((Tier(flow(small), Sure(0.4)), Tier(flow(small), Sure(0.4))))
    outer = chain(Cascade((Tier(inner, Agreement()), Tier(flow(large)))), majority)
    assert run(outer).answer == "1"  # the inner one's last tier answers with its own confidence, 1 of 1
    assert "Cascade" in repr(outer)


def test_a_tier_may_be_tried_twice() -> None:
    small, large = ScriptedModel(["no idea", "\\boxed{1}"]), ScriptedModel(["\\boxed{2}"], name="large")
    again = Tier(flow(small), Sure(0.9))
    assert run(Cascade((again, again, Tier(flow(large))))).answer == "1"
    assert run(Cascade((again, again))).answer == "1"


@pytest.mark.parametrize("tiers", [(), (Tier(flow(ScriptedModel())), Tier(flow(ScriptedModel())))])
def test_every_tier_but_the_last_needs_a_confidence(tiers: tuple[Tier, ...]) -> None:
    with pytest.raises(BadInput, match="every tier but the last"):
        Cascade(tiers)


# The scores.


def written(answer: str, *tokens: Token) -> Candidate:
    total = math.fsum(t.logprob or 0.0 for t in tokens)
    return Candidate(PROBLEM, (Step(f"\\boxed{{{answer}}}", "m", len(tokens), total, tokens),), done=True)


def token(logprob: float, *top: float) -> Token:
    return Token("x", logprob, tuple((str(i), p) for i, p in enumerate(top)))


def test_scores_by_log_probability_by_hand() -> None:
    candidate = written("1", token(-0.5, -0.5, -2.0), token(-1.0, -1.0, -5.5), token(-1.5, -1.5))
    assert avg_logprob(candidate) == pytest.approx(2 / 3)  # x = −1, the published threshold
    assert margin(candidate) == pytest.approx(1 - math.exp(-1))  # gaps 1.5 and 4.5; the third token has one alternative
    assert hybrid(candidate) == pytest.approx((2 / 3 + 1 - math.exp(-1)) / 2)
    assert avg_logprob(written("1", token(-9.0))) == 0
    assert avg_logprob(written("1", token(0.0))) == 1
    assert math.isnan(margin(written("1", token(-1.0))))
    assert math.isnan(hybrid(written("1", token(-1.0))))
    assert math.isnan(avg_logprob(said("1")))


def test_a_vote_is_read_in_those_behind_its_answer() -> None:
    three = written("1", token(-0.3)), written("1", token(-0.9)), written("2", token(-3.0))
    score = read(Measured(avg_logprob, 0.5), *three, answer="1")
    assert score.value == pytest.approx((0.9 + 0.7) / 2)
    assert read(Measured(avg_logprob, 0.5), *three, answer="2").value == pytest.approx(0)
    lost = read(Measured(margin, 0.5), *three, answer="1")
    assert math.isnan(lost.value)
    assert lost.error == "margin: the log-probabilities that it reads were not kept"


def test_agreement_is_the_sets_own() -> None:
    assert asyncio.run(Agreement().read(Candidates((said("1"),), "1", 0.75), Run())).value == 0.75
    assert "no vote" in str(read(Agreement(), said("1"), answer="1").error)


def test_the_default_thresholds_can_be_missed_and_met() -> None:
    """−1 as a threshold on a score in 0..1 would never escalate; here each score has values on either side of its own."""
    for measure, enough in ((avg_logprob, 2 / 3), (margin, 0.5), (hybrid, 0.5)):
        low, high = written("1", token(-2.9, -0.7, -0.8)), written("1", token(-0.01, -0.01, -5.0))
        assert measure(low) < enough <= measure(high)


@dataclass(frozen=True)
class Grader:
    value: float

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(self.value) for _ in candidates]


def test_a_verifier_as_confidence() -> None:
    assert read(Verified(Grader(0.8)), said("1"), answer="1").value == 0.8
    silent = read(Verified(Grader(math.nan)), said("1"), answer="1")
    assert math.isnan(silent.value)
    assert "verifier Grader gave nan without saying why" in (silent.error or "")
    told = Token("True", -0.1, (("True", math.log(0.8)), ("False", math.log(0.2))))

    class Checked(ScriptedModel):
        def _complete(self, request: Request):  # type: ignore[no-untyped-def]
            return replace(super()._complete(request), tokens=(told,))

    assert read(Verified(SelfCheck(Checked(["True"]))), said("1"), answer="1").value == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"confidence": 0.85}', 0.85),
        ('Of course:\n{"note": {"a": 1}, "confidence": 1}', 1.0),
        ('{"why": "sum"} {"confidence": 0}', 0.0),
        ('<think>{"confidence": 0.1}</think>{"confidence": 0.9}', 0.9),
        ("0.9", None),
        ('{"confidence": 85}', None),
        ('{"confidence": "high"}', None),
        ('{"confidence": true}', None),
        ('{"confidence": NaN}', None),
        ('{"confidence": 0.9', None),
        ("", None),
    ],
)
def test_self_verify_reads_json_or_is_not_sure(reply: str, value: float | None) -> None:
    assert confidence_in(reply) == value
    model = ScriptedModel([reply])
    score = read(SelfVerify(model), said("1"), answer="1")
    if value is None:
        assert math.isnan(score.value)
        assert str(score.error).startswith("self-verify: no confidence in ")
    else:
        assert (score.value, score.error) == (value, None)
    ((request,),) = model.calls
    assert [m.role for m in request.context.messages] == ["user", "assistant", "user"]
    assert request.context.messages[1].content == "\\boxed{1}"
    assert (request.sampling.temperature, request.sampling.max_tokens) == (0.1, 256)


def test_automix_is_the_share_of_yes_the_first_greedy() -> None:
    model = ScriptedModel(["It fits. Verdict: YES", "Verdict: no", "NO, wait. YES", "hm", "Verdict: YES"])
    score = read(AutoMix(model), said("4"), answer="4")
    assert score.value == 3 / 5
    assert str(score.error).startswith("automix: 1 of 5 verdicts could not be read, as 'hm'")
    requests = [request for call in model.calls for request in call]
    assert [r.sampling.temperature for r in requests] == [0.0, 0.7, 0.7, 0.7, 0.7]
    assert len({r.seed for r in requests}) == 5
    (message,) = requests[0].context.messages
    assert "Problem: q\nAnswer: 4\nCheck:" in message.content
    assert read(AutoMix(ScriptedModel(["YES"]), k=1), said("4"), answer="4") == Score(1.0)
    assert math.isnan(read(AutoMix(ScriptedModel(["hm"])), said("4"), answer="4").value)
    with pytest.raises(BadInput, match="1 or more"):
        AutoMix(model, k=0)


def test_verdicts() -> None:
    assert [verdict_in(text) for text in ("yes", "No.", "nothing", "YES NO", "<think>no</think>")] == [
        True,
        False,
        None,
        False,
        None,
    ]


def test_those_behind_an_answer() -> None:
    some = Candidates((said("1", 0.2), said("2", 0.9), said("1", 0.7), said(None)))
    assert [c.score.value for c in answering(replace(some, answer="1")) if c.score] == [0.7, 0.2]
    assert [c.answer for c in answering(some)] == ["2"]
    assert answering(Candidates((said(None),))) == []
    assert [c.answer for c in answering(replace(some, answer="9"))] == ["2"]  # nobody says what was concluded
    assert answering(Candidates(())) == []


# The preset.


def preset(small: ScriptedModel, large: ScriptedModel, **options: object) -> Strategy:
    return Workflow.named("cascade").make(small=small, large=large, **options)  # type: ignore[no-any-return]


@pytest.mark.parametrize("score", ["avg_logprob", "margin", "hybrid", "self_verify", "automix", "agreement"])
def test_the_preset_keeps_its_promises_with_every_score(score: str) -> None:
    flow = preset(ScriptedModel(name="small"), ScriptedModel(name="large"), score=score, n=3)
    check_strategy(flow, PROBLEM)


def test_the_preset_with_scripts() -> None:
    def asked(script: Callable[[Request], str], **options: object) -> tuple[str | None, int]:
        small, large = ScriptedModel(script), ScriptedModel(["\\boxed{9}"], name="large")
        return solve(PROBLEM, preset(small, large, **options), seed=2).answer, len(large.calls)

    assert asked(lambda r: "\\boxed{1}", score="agreement", n=4) == ("1", 0)
    assert asked(lambda r: f"\\boxed{{{r.seed % 50}}}", score="agreement", n=4) == ("9", 1)
    assert asked(lambda r: "\\boxed{1}", score="avg_logprob") == ("1", 0)  # scripted log-probabilities are above −1
    assert asked(lambda r: "\\boxed{1}", score="avg_logprob", threshold=0.99) == ("9", 1)
    assert asked(lambda r: "\\boxed{1}", score="margin") == ("9", 1)  # a script has no alternatives
    assert asked(lambda r: "\\boxed{1}", score="automix") == ("9", 1)
    with pytest.raises(BadInput, match="always agrees with itself"):
        preset(ScriptedModel(), ScriptedModel(), score="agreement")
    with pytest.raises(BadInput, match="one of avg_logprob, margin"):
        preset(ScriptedModel(), ScriptedModel(), score="luck")


def test_what_was_yielded_before_a_failure_is_not_lost() -> None:
    @dataclass(frozen=True)
    class Two:
        async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
            yield replace(Candidates((said("5"),)), answer="5", confidence=0.2)
            await ScriptedModel().generate([roots[0].context], run, sampling=Sampling())
            yield replace(Candidates((said("6"),)), answer="6", confidence=0.9)

    found = asyncio.run(
        drive(Cascade((Tier(Two(), Agreement(), budget=Budget(calls=0)),)), Candidates.of(PROBLEM), Run())
    )
    assert found.answer == "5"
