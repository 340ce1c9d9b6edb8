"""Resampling with an imperfect verifier: its mathematics against direct sums, simulation and the paper's setting; the search."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import said

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Problem,
    Run,
    Score,
    Step,
    chain,
    solve,
)
from reasonweave.orchestrator.imperfect import best_attempts, ceiling, expected_value, measured, outcomes
from reasonweave.orchestrator.testing import ScriptedModel, check_strategy
from reasonweave.strategies import Accepted, Attempts, Warming, best, restarts, whole

CHANCE = st.floats(0, 1)
TYPES = st.lists(st.tuples(st.floats(0.01, 1), CHANCE), min_size=1, max_size=4)
PUBLISHED = {"success": (0.87, 0.13), "priors": (0.58, 0.42), "completeness": 1.0, "soundness": 0.75}
"""Easy and hard tasks, and the verifier, of the paper's illustration (Stroebl et al., 2024)."""


def summed(k: int, types: Sequence[tuple[float, float]], c: float, s: float) -> tuple[float, float, float, float]:
    """Right, wrong, none and the number of attempts, by going through the attempts one by one."""
    right = wrong = none = made = 0.0
    total = sum(prior for prior, _ in types)
    for prior, r in types:
        reached = prior / total
        for _ in range(k):
            made += reached
            right += reached * r * c
            wrong += reached * (1 - r) * (1 - s)
            reached *= r * (1 - c) + (1 - r) * s
        none += reached
    return right, wrong, none, made


@given(st.integers(0, 40), TYPES, CHANCE, CHANCE)
def test_closed_form_against_the_sum(k: int, types: list[tuple[float, float]], c: float, s: float) -> None:
    priors, rates = zip(*types, strict=True)
    ended = outcomes(k, rates, c, s, priors=priors)
    assert (ended.right, ended.wrong, ended.none, ended.attempts) == pytest.approx(summed(k, types, c, s), abs=1e-9)
    assert ended.right + ended.wrong + ended.none == pytest.approx(1)
    value = expected_value(k, rates, c, s, priors=priors, value=2.0, penalty=3.0, cost=0.1)
    assert value == pytest.approx(2 * ended.right - 3 * ended.wrong - 0.1 * ended.attempts, abs=1e-9)
    assert expected_value(k, rates, c, s, priors=priors) == pytest.approx(ended.right)


def test_against_simulation() -> None:
    rng, n, k = np.random.default_rng(7), 40_000, 5
    types, c, s = [(0.3, 0.8), (0.7, 0.2)], 0.9, 0.7
    rate = rng.choice([r for _, r in types], n, p=[p for p, _ in types])
    right = rng.random((n, k)) < rate[:, None]
    taken = np.where(right, rng.random((n, k)) < c, rng.random((n, k)) < 1 - s)
    first, any_taken = taken.argmax(1), taken.any(1)
    correct = any_taken & right[np.arange(n), first]
    ended = outcomes(k, [0.8, 0.2], c, s, priors=[0.3, 0.7])
    for share, p in ((correct.mean(), ended.right), ((any_taken & ~correct).mean(), ended.wrong)):
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n)  # false alarm once in a million
    made = np.where(any_taken, first + 1, k)
    assert abs(made.mean() - ended.attempts) < 5 * made.std() / math.sqrt(n)
    assert ended.precision == pytest.approx(ended.right / (ended.right + ended.wrong))


@pytest.mark.parametrize(("penalty", "attempts"), [(0.0, 200), (0.7, 3), (1.0, 2), (2.0, 1), (5.0, 1), (5.1, 0)])
def test_the_published_setting_peaks_at_a_finite_number(penalty: float, attempts: int) -> None:
    """By hand: attempt k adds .58 · .0975^(k−1) (.87 − .0325 p) + .42 · .6525^(k−1) (.13 − .2175 p)."""
    assert best_attempts(**PUBLISHED, penalty=penalty, most=200) == attempts  # type: ignore[arg-type]
    gains = [
        0.58 * 0.0975**k * (0.87 - 0.0325 * penalty) + 0.42 * 0.6525**k * (0.13 - 0.2175 * penalty) for k in range(200)
    ]
    assert int(np.argmax(np.concatenate([[0.0], np.cumsum(gains)]))) == pytest.approx(
        attempts, abs=120 * (penalty == 0)
    )


@settings(deadline=None)
@given(TYPES, CHANCE, CHANCE, st.floats(0, 5), st.floats(0, 0.2))
def test_the_best_number_against_trying_all(
    types: list[tuple[float, float]], c: float, s: float, penalty: float, cost: float
) -> None:
    priors, rates = zip(*types, strict=True)

    def worth(k: int) -> float:
        return expected_value(k, rates, c, s, priors=priors, penalty=penalty, cost=cost)

    chosen = best_attempts(rates, c, s, priors=priors, penalty=penalty, cost=cost, most=30)
    assert worth(chosen) >= max(worth(k) for k in range(31)) - 1e-12
    assert all(worth(k) < worth(chosen) + 1e-12 for k in range(chosen))
    if c + s > 1:  # better than chance: one peak, so that stopping where the next attempt loses is optimal
        gains = np.diff([worth(k) for k in range(31)])
        falling = np.flatnonzero(gains < -1e-12)
        assert not len(falling) or (gains[falling[0] :] < 1e-12).all()


@given(TYPES, CHANCE, CHANCE)
def test_no_number_of_attempts_beats_the_ceiling(types: list[tuple[float, float]], c: float, s: float) -> None:
    priors, rates = zip(*types, strict=True)
    limit = ceiling(rates, c, s, priors=priors)
    values = [expected_value(k, rates, c, s, priors=priors) for k in (1, 4, 64, 10**6)]
    assert values == sorted(values)
    assert values[-1] <= limit + 1e-12
    if all(c * r + (1 - s) * (1 - r) > 1e-3 for r in rates):
        assert values[-1] == pytest.approx(limit)


def test_ceilings_by_hand() -> None:
    assert ceiling(0.2, completeness=1.0, soundness=1.0) == 1  # a perfect verifier finds it in the end
    assert ceiling(0.2, completeness=0.0, soundness=0.5) == 0
    assert ceiling(0.5, completeness=0.4, soundness=0.8) == pytest.approx(0.2 / (0.2 + 0.1))
    assert ceiling(0.0, completeness=1.0, soundness=1.0) == 0  # nothing is ever accepted
    assert outcomes(math.inf, 0.0, 1.0, 1.0).attempts == math.inf
    assert math.isnan(outcomes(3, 0.0, 1.0, 1.0).precision)
    assert outcomes(7, 1e-18, 1.0, 1.0).attempts == pytest.approx(7)
    assert outcomes(math.inf, 1.0, 1.0, 1.0).attempts == 1
    assert ceiling([0.0, 0.5], 1.0, 1.0, priors=[0.0, 1.0]) == 1
    assert outcomes(math.inf, [0.0, 0.5], 1.0, 1.0, priors=[0.0, 1.0]).attempts == 2


def test_one_type_is_worth_all_attempts_or_none() -> None:
    assert best_attempts(0.5, 1.0, 0.75, penalty=3.9, most=50) == 50
    assert best_attempts(0.5, 1.0, 0.75, penalty=4.1, most=50) == 0


def test_measured_rates() -> None:
    accepted, right = [True] * 3 + [False] * 5, [True, True, False, True, False, False, False, False]
    assert measured(accepted, right) == pytest.approx((3 / 8, 2 / 3, 4 / 5))
    assert all(math.isnan(x) for x in measured([], []))


@pytest.mark.parametrize(
    "call",
    [
        lambda: outcomes(-1, 0.5, 1, 1),
        lambda: outcomes(1.5, 0.5, 1, 1),
        lambda: outcomes(1, 1.5, 1, 1),
        lambda: outcomes(1, 0.5, -0.1, 1),
        lambda: outcomes(1, 0.5, 1, 2),
        lambda: outcomes(1, [0.5, 0.5], 1, 1, priors=[1.0]),
        lambda: outcomes(1, [], 1, 1),
        lambda: outcomes(1, [0.5], 1, 1, priors=[0.0]),
        lambda: best_attempts(0.5, 1, 1, most=-1),
    ],
)
def test_numbers_that_are_none(call: object) -> None:
    with pytest.raises(BadInput):
        call()  # type: ignore[operator]


# The search.


@dataclass(frozen=True, eq=False)
class Sworn:
    """A verifier that reads the score off the text: "says 0.7"."""

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(float(c.text.split("says ")[1].split()[0])) for c in candidates]


def saying(*values: float) -> ScriptedModel:
    """A model whose solutions say these values one after another, and answer 0, 1, …"""
    return ScriptedModel([f"says {value} \\boxed{{{i}}}" for i, value in enumerate(values)])


def search(attempts: Attempts) -> list[Candidates]:
    async def collect() -> list[Candidates]:
        return [found async for found in attempts.search(Candidates.of(Problem("q")), Run(1))]

    return asyncio.run(collect())


def test_attempts_end_with_the_first_that_is_accepted() -> None:
    model = saying(0.2, 0.4, 0.6, 0.9)
    sets = search(Attempts(whole(model), Sworn(), 0.5, 10))
    assert [len(found) for found in sets] == [1, 1, 2, 2, 3, 3]
    assert [c.score.value for c in sets[-1] if c.score] == [0.2, 0.4, 0.6]
    assert len(model.calls) == 3
    assert Accepted(0.5)(sets[-1]).answer == "2"
    assert Accepted(0.5)(sets[-1]).confidence == 0.6


def test_where_none_is_accepted_there_is_no_answer() -> None:
    flow = chain(Attempts(whole(saying(0.2, 0.4, 0.3)), Sworn(), 0.5, 3), Accepted(0.5))
    result = solve("q", flow)
    assert (result.answer, result.confidence, result.candidates.abstains) == (None, 0.4, True)
    assert len(result.candidates) == 3
    assert solve("q", chain(Attempts(whole(saying(0.2, 0.4, 0.3)), Sworn(), 0.5, 3), best)).answer == "1"


def test_no_attempt_at_all() -> None:
    model = saying(0.9)
    result = solve("q", chain(Attempts(whole(model), Sworn(), 0.5, 0), Accepted(0.5)))
    assert (result.answer, result.candidates.abstains, model.calls) == (None, True, [])


def test_what_cannot_be_judged_or_does_not_answer_is_not_accepted() -> None:
    @dataclass(frozen=True)
    class Silent:
        async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
            return [Score(math.nan) for _ in candidates]

    assert len(search(Attempts(whole(saying(0.9)), Silent(), 0.0, 3))[-1]) == 3
    mute = ScriptedModel(["says 0.9 and nothing else"])
    assert len(search(Attempts(whole(mute), Sworn(), 0.5, 3))[-1]) == 3
    unscored = Accepted(0.0)(Candidates((said("1"), said("2", math.nan))))
    assert (unscored.answer, unscored.abstains) == (None, True)


def test_accepted_does_not_depend_on_order() -> None:
    some = Candidates((said("1", 0.6), said("2", 0.9), said("3", 0.2)))
    turned = replace(some, items=some.items[::-1])
    assert Accepted(0.5)(some).answer == Accepted(0.5)(turned).answer == "2"
    assert len(Accepted(0.5)(some)) == 3


def test_a_budget_keeps_what_was_written() -> None:
    result = solve("q", Attempts(whole(saying(0.2, 0.9)), Sworn(), 0.5, 4), budget=Budget(calls=1))
    assert [c.answer for c in result.candidates] == ["0"]
    assert result.stopped is not None


def test_attempts_rise_in_temperature() -> None:
    model = saying(0.1, 0.1, 0.1, 0.1)
    search(restarts(whole(model), Sworn(), n=4, heat=Warming(0.8)))
    assert [call[0].sampling.temperature for call in model.calls] == pytest.approx([0.0, 0.4, 0.6, 0.7])
    with pytest.raises(BadInput, match="has no temperature"):
        Attempts(Walker(), Sworn(), heat=Warming())
    with pytest.raises(BadInput, match="0 or more"):
        Attempts(whole(model), Sworn(), most=-1)


@dataclass(frozen=True)
class Walker:
    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        return [c.extend(Step("says 1 \\boxed{1}", "w", 1), done=True) for c in candidates]


def test_promises(problem: Problem) -> None:
    model = ScriptedModel(lambda request: f"says 0.{request.seed % 10} \\boxed{{{request.seed % 3}}}")
    attempts = Attempts(whole(model), Sworn(), 0.8, 6, Warming())
    check_strategy(chain(attempts, Accepted(0.8)), problem)
    assert repr(attempts) == repr(Attempts(whole(model), Sworn(), 0.8, 6, Warming()))
