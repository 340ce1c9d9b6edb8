from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Problem,
    Run,
    Score,
    Share,
    Step,
    chain,
    drive,
    solve,
)
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward, check_strategy
from reasonweave.orchestrator.trace import Event, Skipped
from reasonweave.orchestrator.types import DELIMITER
from reasonweave.strategies import (
    Agreement,
    AskModel,
    Bandit,
    BestOfN,
    Cascade,
    Choice,
    Escalate,
    ForceAnswer,
    Fusion,
    Select,
    SelfVerify,
    Tier,
    TryFirst,
    Verified,
    as_it_is,
    best,
    escalate,
    majority,
    whole,
)
from reasonweave.strategies.routers.select import best_arm, index, ratings_in

PROBLEM = Problem("what is it")


def said(answer: object, *, score: float | None = None) -> Candidate:
    step = Step(f"\\boxed{{{answer}}}", "m", 1)
    return Candidate(PROBLEM, (step,), done=True, score=None if score is None else Score(score))


@dataclass(frozen=True)
class Says:
    """Answers with candidates of its own, and remembers what it was given."""

    answers: tuple[object, ...]
    confidence: float | None = None
    seen: tuple[list[Candidates], ...] = ()

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        for seen in self.seen:
            seen.append(roots)
        items = tuple(said(a) for a in self.answers)
        yield Candidates(items, answer=str(self.answers[0]) if self.answers else None, confidence=self.confidence)


def final(strategy: Strategy, roots: Candidates | None = None, run: Run | None = None) -> Candidates:
    return asyncio.run(drive(strategy, roots or Candidates.of(PROBLEM), run or Run()))


# Escalation.


@pytest.mark.parametrize(("confidence", "answer"), [(0.59, "9"), (0.6, "4"), (None, "9"), (math.nan, "9")])
def test_what_is_not_sure_enough_is_asked_anew(confidence: float | None, answer: str) -> None:
    seen: list[Candidates] = []
    given = Candidates((said(4),), answer="4", confidence=confidence)
    events: list[Event] = []
    found = final(escalate(Says(("9",), 1.0, (seen,)), below=0.6), given, Run(tracer=events.append))
    assert found.answer == answer
    assert len(seen) == (answer == "9")
    assert all(not c.steps for roots in seen for c in roots)  # from the bare problem
    assert bool([e for e in events if isinstance(e, Skipped)]) == (answer == "4")


def test_an_answer_stands_where_the_escalation_gives_none() -> None:
    given = Candidates((said(4),), answer="4", confidence=0.2)
    assert final(escalate(Says(()), below=0.6), given).answer == "4"
    large = ScriptedModel(["w " * 50 + r"\boxed{9}"], name="large")
    flow = chain(Says((4,), 0.2), escalate(BestOfN(whole(large), n=1), 0.6))
    told = solve(PROBLEM, flow, budget=Budget(tokens=20))
    assert told.answer == "4"
    assert "tokens" in str(told.stopped)


def test_nothing_and_an_abstention_are_not_sure() -> None:
    assert final(escalate(Says((9,)), below=0.0)).answer == "9"
    given = Candidates((said(4),), confidence=0.9, abstains=True)
    assert final(escalate(Says((9,)), below=0.6), given).answer == "9"


def test_a_flow_that_reads_what_is_there_gets_it() -> None:
    seen: list[Candidates] = []
    given = Candidates((said(4), said(5)), answer="4", confidence=0.5)
    final(escalate(Says((9,), seen=(seen,)), below=0.6, given=as_it_is), given)
    assert [c.answer for c in seen[0]] == ["4", "5"]
    judge = ScriptedModel(["<solution>\nso \\boxed{5}\n</solution>"])
    found = final(escalate(Fusion(judge), below=0.6, given=as_it_is), given)
    assert found.answer == "5"


def test_a_verifier_may_say_how_sure() -> None:
    reward = ScriptedReward(lambda problem, steps: 0.3)
    from_verifier = Verified(Rewarded(reward))
    given = Candidates((said(4),), answer="4", confidence=1.0)
    assert final(escalate(Says((9,)), 0.6, from_verifier), given).answer == "9"
    assert final(escalate(Says((9,)), 0.2, from_verifier), given).answer == "4"


@dataclass(frozen=True)
class Rewarded:
    reward: ScriptedReward

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return await self.reward.rate(candidates, run)


def test_the_escalations_budget_is_its_own() -> None:
    large = ScriptedModel(["w " * 50 + r"\boxed{9}"], name="large")
    flow = chain(Says((4,), 0.2), escalate(BestOfN(whole(large), n=1), 0.6, budget=Budget(tokens=10)), Says((1,)))
    result = solve(PROBLEM, flow)
    assert result.answer == "1"
    assert result.tokens <= 10


def test_escalations_keep_the_contract() -> None:
    model = ScriptedModel()
    check_strategy(chain(BestOfN(whole(model), n=3), majority, escalate(BestOfN(whole(model), n=2))), PROBLEM)
    assert repr(escalate(BestOfN(whole(model), n=2))).endswith("given=fresh, budget=None)")
    with pytest.raises(BadInput, match="a strategy is needed"):
        Escalate(majority)  # type: ignore[arg-type]


# Selection.


@dataclass(frozen=True)
class Weights:
    weights: tuple[float, ...]

    async def choose(self, flows: Mapping[str, Strategy], roots: Candidates, run: Run) -> Choice:
        return Choice(self.weights)


@pytest.mark.parametrize(
    ("weights", "answer"),
    [((0.1, 0.9), "2"), ((0.5, 0.5), "1"), ((math.nan, 0.0), "2"), ((math.nan, math.nan), "1")],
)
def test_the_most_promising_flow_answers(weights: tuple[float, ...], answer: str) -> None:
    events: list[Event] = []
    found = final(Select({"a": Says((1,)), "b": Says((2,))}, Weights(weights)), run=Run(tracer=events.append))
    assert found.answer == answer
    (skipped,) = [e for e in events if isinstance(e, Skipped)]
    assert skipped.path == (("b",) if answer == "1" else ("a",))


def test_a_model_rates_the_flows() -> None:
    asked: list[str] = []

    def reply(request: object) -> str:
        asked.append(request.context.messages[-1].content)  # type: ignore[attr-defined]
        return "[1] 20\n[2]: 85/100"

    flows = {"vote": Says((1,)), "tree": Says((2,))}
    chooser = AskModel(ScriptedModel(reply), {"tree": "a search over steps"})
    assert final(Select(flows, chooser)).answer == "2"
    assert "[1] vote\n[2] a search over steps" in asked[0]
    assert PROBLEM.prompt in asked[0]


def test_ratings_are_read_line_by_line() -> None:
    assert ratings_in("<think>[1] 90</think>**[1]** = 40 %\n[2] 101\nthe best is [2] 50", 2)[0] == 0.4
    assert math.isnan(ratings_in("[2] 101", 2)[1])
    assert all(map(math.isnan, ratings_in("the first one", 2)))


@pytest.mark.parametrize(("score", "answer"), [(0.9, "7"), (0.7, "7"), (0.6, "1"), (0.2, "2"), (math.nan, "2")])
def test_a_verifiers_word_on_a_quick_try_picks_the_flow(score: float, answer: str) -> None:
    reward = ScriptedReward(lambda problem, steps: score)
    flows = {"middle": Says((1,)), "hard": Says((2,))}
    events: list[Event] = []
    found = final(Select(flows, TryFirst(Says((7,)), Rewarded(reward), (0.7, 0.5))), run=Run(tracer=events.append))
    assert found.answer == answer
    assert len([e for e in events if isinstance(e, Skipped)]) == (2 if answer == "7" else 1)


def test_no_answer_at_all_is_the_hardest_and_the_quick_try_stands_where_no_flow_answers() -> None:
    flows = {"middle": Says((1,)), "hard": Says((3,))}
    assert final(Select(flows, TryFirst(Says(()), Rewarded(ScriptedReward()), (0.7, 0.5)))).answer == "3"
    low = ScriptedReward(lambda problem, steps: 0.1)
    assert final(Select({"only": Says(())}, TryFirst(Says((7,)), Rewarded(low)))).answer == "7"


@pytest.mark.parametrize("judged", [False, True])
def test_what_a_quick_try_found_is_kept_within_any_budget(judged: bool) -> None:
    small, large = (
        ScriptedModel([r"so \boxed{4}"], name="small"),
        ScriptedModel(["w " * 20 + r"\boxed{9}"], name="large"),
    )
    low = ScriptedReward(lambda problem, steps: 0.1)
    verifier = Rewarded(low) if judged else Constant(0.1)
    flow = Select({"large": BestOfN(whole(large), n=1)}, TryFirst(BestOfN(whole(small), n=1), verifier))
    for tokens in range(60):
        finished = list[str]()
        result = solve(
            PROBLEM,
            flow,
            budget=Budget(tokens=tokens),
            trace=lambda e: finished.extend(c.text for c in getattr(e, "completions", ()) if c.finish_reason == "eos"),  # noqa: B023
        )
        assert (result.answer is not None) == bool(finished), tokens


@dataclass(frozen=True)
class Constant:
    value: float

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(self.value)] * len(candidates)


def test_a_judge_that_cannot_be_afforded_is_one_that_cannot_tell() -> None:
    judge, large = ScriptedModel(role="judge"), ScriptedModel([r"\boxed{9}"], name="large")
    spent = Budget(judge=Budget(calls=0))
    anew = BestOfN(whole(large), n=1)
    asked = solve(PROBLEM, Select({"a": anew, "b": Says((2,))}, AskModel(judge)), budget=spent)
    assert asked.answer == "9"
    assert "judge" in str(asked.stopped) or "calls" in str(asked.stopped)
    for flow in (
        chain(Says((4,), 0.2), escalate(anew, 0.6, SelfVerify(judge))),
        Cascade((Tier(Says((4,)), SelfVerify(judge)), Tier(anew))),
    ):
        assert solve(PROBLEM, flow, budget=spent).answer == "9"


def test_what_an_escalation_began_is_there_for_the_finish() -> None:
    model = ScriptedModel(lambda r: "9}" if r.context.prefix.endswith("boxed{") else "w " * 30 + DELIMITER + "w " * 500)
    found = solve(PROBLEM, escalate(BestOfN(whole(model), n=1)), budget=Budget(tokens=80))
    assert [bool(c.steps) for c in found.candidates] == [True]
    told = solve(
        PROBLEM, chain(escalate(BestOfN(whole(model), n=1)), finish=ForceAnswer(model)), budget=Budget(tokens=120)
    )
    assert told.answer == "9"


def test_shares_limit_an_escalation_and_a_tier() -> None:
    model = ScriptedModel([r"\boxed{9}"])
    half = Budget(calls=8)
    flow = chain(Says((4,), 0.2), escalate(BestOfN(whole(model), n=8), 0.6, budget=Share(0.5)))
    assert solve(PROBLEM, flow, budget=half).total.calls == 4
    flow2 = Cascade((Tier(BestOfN(whole(model), n=8), Agreement(), budget=Share(0.25)), Tier(Says((4,)))))
    assert solve(PROBLEM, flow2, budget=half).total.calls == 2


def test_mistakes_in_a_selection() -> None:
    with pytest.raises(BadInput, match="no flow to choose"):
        Select({}, Weights(()))
    with pytest.raises(BadInput, match="flow 'a' is"):
        Select({"a": majority}, Weights((1,)))  # type: ignore[dict-item]
    with pytest.raises(BadInput, match="that fall"):
        TryFirst(Says((1,)), Rewarded(ScriptedReward()), (0.2, 0.8))
    with pytest.raises(BadInput, match="there are 2 flows; give a cut for each"):
        final(Select({"a": Says((1,)), "b": Says((1,))}, TryFirst(Says((1,)), Rewarded(ScriptedReward()))))
    with pytest.raises(BadInput, match="gave 1 weights for 2 flows"):
        final(Select({"a": Says((1,)), "b": Says((1,))}, Weights((1.0,))))
    with pytest.raises(BadInput, match="cannot be called 'choose'"):
        Select({"choose": Says((1,))}, Weights((1.0,)))
    with pytest.raises(BadInput, match="cannot be called 'score'"):
        Bandit({"score": Says((1,))}, IsOne())
    with pytest.raises(BadInput, match="a strategy is needed"):
        Tier(majority)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="a strategy is needed"):
        escalate(BestOfN)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="rounds are 1 or more"):
        Bandit({"a": Says((1,))}, Rewarded(ScriptedReward()), rounds=0)


# The bandit.


def test_the_index_is_the_modified_ucb() -> None:
    # hand-worked: means .5 and .25, the best mean .5; T = 4; ln 5 = 1.609438
    first = 0.5 / 0.5 + 2 * math.sqrt(2 * 1.6094379 / 3) + 0.5 * 0.6 / 3
    second = 0.25 / 0.5 + 2 * math.sqrt(2 * 1.6094379 / 1) + 0.5 * 0.2 / 1
    assert index([3, 1], [1.5, 0.25], [0.6, 0.2], 2.0, 0.5) == pytest.approx([first, second])
    assert best_arm([3, 1], [1.5, 0.25], [0.6, 0.2], 2.0, 0.5) == 1
    assert best_arm([3, 1], [1.5, 0.25], [0.6, 0.2], 0.1, 0.5) == 0
    assert best_arm([1, 0, 0], [1.0, 0, 0], [0.0, 0.1, 0.9], 1.0, 1.0) == 2
    assert best_arm([1, 1], [0.0, 0.0], [0.0, 0.0], 1.0, 1.0) == 0


@dataclass(frozen=True)
class Coin:
    """Answers right (1) with a chance, by its run's seed."""

    chance: float

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        yield Candidates((said(int(run.rng().random() < self.chance)),))


@dataclass(frozen=True)
class IsOne:
    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(float(c.answer == "1")) for c in candidates]


def pulls(bandit: Bandit, seed: int) -> Counter[str]:
    paths: list[tuple[str | int, ...]] = []

    def note(event: Event) -> None:
        if type(event).__name__ == "Started" and len(event.path) == 3:
            paths.append(event.path)

    final(bandit, run=Run(seed, tracer=note))
    return Counter(str(path[2]) for path in paths)


def test_it_tries_each_flow_and_then_the_good_one_more_often() -> None:
    flows = {"poor": Coin(0.1), "good": Coin(0.9)}
    share = [pulls(Bandit(flows, IsOne(), rounds=40, explore=0.5), seed)["good"] / 40 for seed in range(20)]
    assert all(pulls(Bandit(flows, IsOne(), rounds=2), seed) == {"poor": 1, "good": 1} for seed in range(3))
    # an even split has a mean share of 0.5; 20 runs of 40 give it a deviation of 0.018: 0.75 is 14 of them away
    assert np.mean(share) > 0.75


def test_it_stops_at_a_reward_that_is_enough_and_keeps_all_candidates() -> None:
    bandit = Bandit({"poor": Coin(0.0), "good": Coin(1.0)}, IsOne(), rounds=9, enough=1.0)
    found = final(bandit)
    assert [c.answer for c in found] == ["0", "1"]
    assert [c.score.value for c in found if c.score] == [0.0, 1.0]
    assert solve(PROBLEM, chain(bandit, best)).answer == "1"


def test_the_prior_says_who_is_first() -> None:
    flows = {"a": Says((0,)), "b": Says((1,))}
    assert final(Bandit(flows, IsOne(), rounds=1, prior=Weights((0.1, 0.8))))[0].answer == "1"
    assert final(Bandit(flows, IsOne(), rounds=1, prior=Weights((math.nan, math.nan))))[0].answer == "0"


def test_a_bandit_keeps_what_it_has_within_any_budget() -> None:
    model = ScriptedModel([r"w w w w \boxed{1}"])
    flows = {"one": BestOfN(whole(model), n=1), "two": BestOfN(whole(model), n=2)}
    for tokens in range(0, 90, 3):
        result = solve(PROBLEM, chain(Bandit(flows, IsOne(), rounds=4), best), budget=Budget(tokens=tokens))
        assert result.tokens <= tokens
        assert (result.answer == "1") == (result.total.completion >= 5)
    check_strategy(Bandit(flows, IsOne(), rounds=3), PROBLEM)
    spent = solve(PROBLEM, Bandit(flows, IsOne(), rounds=4), budget=Budget(calls=2))
    assert [c.answer for c in spent.candidates] == ["1", "1"]
    assert not any(c.steps for c in solve(PROBLEM, Bandit(flows, IsOne()), budget=Budget(calls=0)).candidates)


def test_a_selection_keeps_the_contract() -> None:
    model = ScriptedModel()
    flows = {"one": BestOfN(whole(model), n=1), "vote": chain(BestOfN(whole(model), n=3), majority)}
    check_strategy(Select(flows, AskModel(model)), PROBLEM)
    check_strategy(Select(flows, TryFirst(flows["one"], IsOne(), (0.9, 0.5))), PROBLEM)
    assert "flows={'one': " in repr(replace(Select(flows, AskModel(model))))
