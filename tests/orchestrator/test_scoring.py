"""The one place that asks a verifier: whatever it does, each candidate has a score, one line says what went wrong, and what was
paid for stays."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Context,
    Ledger,
    OverBudget,
    Problem,
    Run,
    Sampling,
    Score,
    SeedReuse,
    Step,
    Usage,
    asolve,
    chain,
    scoring,
    solve,
)
from reasonweave.orchestrator.scoring import is_relative, name_of, scored
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.orchestrator.trace import Judged
from reasonweave.strategies import (
    DVTS,
    MCTS,
    REBASE,
    AdaptiveBranching,
    AdaptiveConsistency,
    AStar,
    Attempts,
    Beam,
    BestOfN,
    DepthFirst,
    Newest,
    StochasticBeam,
    TreeBoN,
    TreeOfThought,
    best,
    weighted,
    whole,
)
from reasonweave.strategies.policies.acceptors import AtLeast, Weighted
from reasonweave.strategies.routers.cascade import Verified
from reasonweave.strategies.searches.live import score
from reasonweave.verifiers import Cached, Rule, UtilityDigit

PROBLEM = Problem("q")
CANDIDATES = [Candidate(PROBLEM, (Step(text, "m", 1),)) for text in ("a", "b", "\\boxed{3}")]
FINE = [Score(0.1), Score(0.2), Score(0.3)]


@dataclass(frozen=True)
class Doing:
    """A verifier that does this."""

    what: Callable[[Sequence[Candidate], Run], Awaitable[Any]]
    lowest: float = 0.0
    highest: float = 1.0
    name: ClassVar[str] = "mine"

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return await self.what(candidates, run)  # type: ignore[no-any-return]


def gives(answer: Any) -> Doing:
    async def what(candidates: Sequence[Candidate], run: Run) -> Any:
        return answer

    return Doing(what)


def raises(error: BaseException) -> Doing:
    async def what(candidates: Sequence[Candidate], run: Run) -> Any:
        raise error

    return Doing(what)


def ask(verifier: Doing, run: Run | None = None) -> tuple[list[Score], list[Judged]]:
    events: list[Any] = []
    run = run or Run(1, tracer=events.append)
    return asyncio.run(scored(verifier, CANDIDATES, run)), [e for e in events if isinstance(e, Judged)]


def test_what_keeps_its_promises_is_passed_on_as_it_is() -> None:
    scores, (event,) = ask(gives(FINE))
    assert scores == FINE
    assert (event.verifier, event.scores, event.broken) == ("mine", tuple(FINE), None)
    assert asyncio.run(scored(gives([1]), [], Run())) == []


def test_a_judgement_that_was_not_made_and_says_why_breaks_nothing() -> None:
    scores, (event,) = ask(gives([Score(0.1), Score(math.nan, error="no digit"), Score(0.3)]))
    assert scores[1].error == "no digit"
    assert event.broken is None


@pytest.mark.parametrize(
    ("verifier", "told"),
    [
        (raises(ValueError("bad luck")), "verifier mine raised ValueError: bad luck"),
        (raises(ExceptionGroup("some", [KeyError("k")])), "verifier mine raised ExceptionGroup: some"),
        (
            gives(FINE[:2]),
            "verifier mine gave 2 scores for 3 candidates; score() returns one Score a candidate, in order",
        ),
        (
            gives(FINE * 2),
            "verifier mine gave 6 scores for 3 candidates; score() returns one Score a candidate, in order",
        ),
        (gives(None), "verifier mine gave NoneType for 3 candidates; score() returns one Score a candidate, in order"),
        (gives("abc"), "verifier mine gave 3 scores for 3 candidates; score() returns one Score a candidate, in order"),
        (gives(iter(FINE)), "verifier mine gave list_iterator for 3 candidates; score() returns"),
    ],
)
def test_without_an_answer_all_are_unjudged_and_one_line_says_why(verifier: Doing, told: str) -> None:
    scores, (event,) = ask(verifier)
    assert len(scores) == 3
    assert all(math.isnan(s.value) and s.error == event.broken for s in scores)
    assert event.broken is not None
    assert event.broken.startswith(told)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (0.5, "gave 0.5 (float) where a Score is needed: return Score(value)"),
        (None, "gave None (NoneType) where a Score is needed: return Score(value)"),
        (Score(math.nan), "gave nan without saying why"),
        (Score(math.inf), "gave a score of inf"),
        (Score(1.5), "gave a score of 1.5, outside 0 to 1"),
        (Score(-0.1), "gave a score of -0.1, outside 0 to 1"),
        (Score("high"), "gave a score of 'high', which is no number"),  # type: ignore[arg-type]
    ],
)
def test_one_wrong_score_costs_its_own_candidate_alone(wrong: Any, told: str) -> None:
    scores, (event,) = ask(gives([FINE[0], wrong, FINE[2]]))
    assert (scores[0], scores[2]) == (FINE[0], FINE[2])
    assert math.isnan(scores[1].value)
    assert told in (scores[1].error or "")
    assert event.broken == scores[1].error


def test_without_a_declared_range_any_number_will_do() -> None:
    @dataclass(frozen=True)
    class Free:
        async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
            return [Score(-7.0), Score(-math.inf), Score(400)]

    assert [s.value for s in asyncio.run(scored(Free(), CANDIDATES, Run()))] == [-7.0, -math.inf, 400]
    assert name_of(Free()) == "Free"


@pytest.mark.parametrize(
    "error",
    [
        BadInput("no sandbox here"),
        SeedReuse(("a",)),
        OverBudget(what="tokens", asked=1, left=0, limit=Budget(), path=()),
    ],
)
def test_limits_and_users_mistakes_go_on_up(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)[:9]):
        ask(raises(error))
    with pytest.raises(type(error), match=str(error)[:9]):
        ask(raises(ExceptionGroup("two", [ValueError("x"), ExceptionGroup("in", [error])])))


def test_a_cancelled_run_cancels_its_verifier() -> None:
    ended: list[str] = []

    async def slow(candidates: Sequence[Candidate], run: Run) -> Any:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("verifier")

    async def both() -> None:
        task = asyncio.create_task(scored(Doing(slow), CANDIDATES, Run()))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(both())
    assert ended == ["verifier"]


def test_one_that_hangs_is_given_up_after_doing_nothing_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PATIENCE", 0.05)

    async def hangs(candidates: Sequence[Candidate], run: Run) -> Any:
        await asyncio.Event().wait()

    began = time.monotonic()
    scores, (event,) = ask(Doing(hangs))
    assert time.monotonic() - began < 5
    assert event.broken == scores[0].error
    assert "mine did nothing for 0.05 seconds and was given up" in (event.broken or "")


def test_one_whose_model_takes_its_time_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PATIENCE", 0.05)
    monkeypatch.setattr(scoring, "TICK", 0.01)
    model = ScriptedModel(["7"], latency=0.3)

    async def asks(candidates: Sequence[Candidate], run: Run) -> Any:
        await model.generate([Context(PROBLEM.messages)], run, sampling=Sampling())
        return FINE

    scores, (event,) = ask(Doing(asks))
    assert (scores, event.broken) == (FINE, None)


def test_a_run_whose_time_is_over_does_not_wait_for_its_verifier() -> None:
    async def sleeps(candidates: Sequence[Candidate], run: Run) -> Any:
        await asyncio.sleep(60)

    began = time.monotonic()
    with pytest.raises(OverBudget, match="seconds"):
        asyncio.run(scored(Doing(sleeps), CANDIDATES, Run(ledger=Ledger(Budget(seconds=0.1)))))
    assert time.monotonic() - began < 10


def test_one_that_will_not_be_cancelled_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "GRACE", 0.05)

    async def stubborn(candidates: Sequence[Candidate], run: Run) -> Any:
        for _ in range(20):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    began = time.monotonic()
    with pytest.raises(OverBudget):
        asyncio.run(scored(Doing(stubborn), CANDIDATES, Run(ledger=Ledger(Budget(seconds=0.05)))))
    assert time.monotonic() - began < 10
    gc.collect()  # no "exception was never retrieved" afterwards


# What strategies make of it.


async def _broken(candidates: Sequence[Candidate], run: Run) -> Any:
    raise ZeroDivisionError("my mistake")


@pytest.mark.parametrize("vote", [best, weighted])
def test_a_run_goes_on_without_a_broken_verifier_and_says_so(vote: Any) -> None:
    model = ScriptedModel(["so \\boxed{2}"])
    flow = chain(BestOfN(whole(model), n=4, verifier=Doing(_broken)), vote)
    result = asyncio.run(asolve("What is 1 + 1?", flow, seed=1))
    assert (result.answer, len(result.candidates)) == ("2", 4)
    assert result.errors == ("verifier mine raised ZeroDivisionError: my mistake",)
    assert result.usage["scripted"].calls == 4
    assert all(c.score is not None and math.isnan(c.score.value) for c in result.candidates)


def test_a_verifier_that_hangs_costs_no_candidate_when_time_is_over() -> None:
    async def sleeps(candidates: Sequence[Candidate], run: Run) -> Any:
        await asyncio.sleep(60)

    model = ScriptedModel(["so \\boxed{2}"])
    flow = chain(BestOfN(whole(model), n=4, verifier=Doing(sleeps)), best)
    result = asyncio.run(asolve("What is 1 + 1?", flow, seed=1, budget=Budget(seconds=0.3)))
    assert (result.answer, len(result.candidates)) == ("2", 4)
    assert "seconds" in (result.stopped or "")


def test_an_acceptor_rejects_what_a_broken_verifier_could_not_judge() -> None:
    verdicts = asyncio.run(AtLeast(Doing(_broken), 0.0).accept(CANDIDATES, CANDIDATES, Run()))
    assert verdicts == [False] * 3


@dataclass(frozen=True)
class Ranks:
    """A score that depends on the others: how many of them are shorter."""

    relative: ClassVar[bool] = True
    asked: ClassVar[list[int]] = []

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.asked.append(len(candidates))
        return [Score(sum(len(o.text) < len(c.text) for o in candidates)) for c in candidates]


def test_where_scores_depend_on_one_another_a_set_is_scored_as_a_whole() -> None:
    first = asyncio.run(score(Ranks(), Candidates(tuple(CANDIDATES[:2])), Run(1)))
    grown = Candidates((*first, CANDIDATES[2]))
    scores = asyncio.run(score(Ranks(), grown, Run(2)))
    assert [c.score.value for c in scores if c.score] == [0, 0, 2]
    assert Ranks.asked == [2, 3]
    assert is_relative(Newest(Ranks()))
    assert not is_relative(Newest(gives(FINE)))


def test_nothing_is_held_after_a_verifier_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, model = Ledger(Budget(seconds=0.1)), ScriptedModel(["7"], latency=60)

    async def asks(candidates: Sequence[Candidate], run: Run) -> Any:
        try:
            return await model.generate([Context(PROBLEM.messages)], run, sampling=Sampling())
        finally:
            await asyncio.sleep(60)

    with pytest.raises(OverBudget):
        asyncio.run(scored(Doing(asks), CANDIDATES, Run(ledger=ledger)))
    assert ledger.held == Usage()
    assert not ledger.busy


def test_one_that_asks_another_is_as_patient_as_that_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PATIENCE", 0.1)
    monkeypatch.setattr(scoring, "TICK", 0.02)

    @dataclass(frozen=True)
    class Slow:
        patience: float

        async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
            await asyncio.sleep(0.4)
            return FINE

    inner = Slow(math.inf)

    async def asks(candidates: Sequence[Candidate], run: Run) -> Any:
        return await scored(inner, candidates, run)

    assert ask(Doing(asks))[0] == FINE
    inner = Slow(0.05)
    scores, events = ask(Doing(asks))
    assert [e.broken and e.broken[:25] for e in events] == ["verifier Slow did nothing", None]
    assert all("verifier Slow did nothing for 0.05 seconds" in (s.error or "") for s in scores)


def test_sys_exit_in_a_verifier_ends_it_alone() -> None:
    async def leaves(candidates: Sequence[Candidate], run: Run) -> Any:
        raise SystemExit(3)

    model = ScriptedModel(["so \\boxed{2}"])
    result = solve("What is 1 + 1?", chain(BestOfN(whole(model), n=2, verifier=Doing(leaves)), best), seed=1)
    assert result.answer == "2"
    assert result.errors == ("verifier mine raised RuntimeError: it called sys.exit(3)",)


def test_one_that_cancels_itself_is_broken_and_the_run_is_not_cancelled() -> None:
    async def cancels(candidates: Sequence[Candidate], run: Run) -> Any:
        raise asyncio.CancelledError

    scores, (event,) = ask(Doing(cancels))
    assert event.broken == "verifier mine was cancelled by itself"
    assert all(math.isnan(s.value) for s in scores)


def test_numbers_of_numpy_are_numbers() -> None:
    scores, (event,) = ask(gives([Score(np.float32(0.5)), Score(np.float64(0.25)), Score(1)]))  # type: ignore[arg-type]
    assert event.broken is None
    assert [(type(s.value), s.value) for s in scores] == [(float, 0.5), (np.float64, 0.25), (float, 1.0)]


POLICY = whole(ScriptedModel())
SPREAD: list[Callable[[Any], object]] = [
    lambda v: AtLeast(v, 0.5),
    lambda v: Weighted(v, float),
    lambda v: Attempts(POLICY, v, 0.5),
    lambda v: AStar(POLICY, v),
    lambda v: Beam(POLICY, v),
    lambda v: DVTS(POLICY, v),
    lambda v: StochasticBeam(POLICY, v),
    lambda v: REBASE(POLICY, v),
    lambda v: TreeBoN(POLICY, v),
    lambda v: MCTS(POLICY, v),
    lambda v: AdaptiveBranching((POLICY,), v),  # type: ignore[arg-type]
    lambda v: TreeOfThought(POLICY, v),
    lambda v: DepthFirst(POLICY, v),
    lambda v: AdaptiveConsistency(POLICY, verifier=v),
    lambda v: Verified(v),
]


@pytest.mark.parametrize("make", SPREAD)
def test_where_candidates_are_judged_apart_one_that_compares_them_is_refused(make: Callable[[Any], object]) -> None:
    with pytest.raises(BadInput, match="Ranks compares the candidates of a call with one another"):
        make(Ranks())
    assert make(gives(FINE)) is not None


def test_a_stochastic_beam_takes_a_verifier_without_an_upper_end_as_one_of_probabilities() -> None:
    assert StochasticBeam(POLICY, Cached(gives(FINE)))._highest == 1.0
    assert StochasticBeam(POLICY, Rule(len))._highest == 1.0  # type: ignore[arg-type]
    assert StochasticBeam(POLICY, Newest(UtilityDigit(ScriptedModel(["7"]))))._highest == 9.0
