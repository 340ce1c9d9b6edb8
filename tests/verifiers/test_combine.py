"""Several verifiers as one, cheap ones before expensive ones, remembered ones, calibrated ones."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Ledger,
    Problem,
    Run,
    Score,
    Step,
    Verifier,
)
from reasonweave.orchestrator.calibration import Isotonic, Platt
from reasonweave.orchestrator.scoring import range_of
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward, check_verifier
from reasonweave.verifiers import (
    Between,
    Cached,
    CalibratedScore,
    Cascaded,
    Combined,
    Logistic,
    Powers,
    ProcessReward,
    Rule,
    Scaled,
    SelfCheck,
    UtilityDigit,
    Weights,
    calibrated,
    learned,
    multiplied,
    weakest,
    weighted_sum,
)

PROBLEM = Problem("q")


def candidate(text: str, problem: Problem = PROBLEM) -> Candidate:
    return Candidate(problem, (Step(text, "m", 1),))


ABC = [candidate(text) for text in "abc"]


@dataclass(frozen=True)
class Says:
    """A verifier that says these values of a, b, c …, and counts how often it is asked about each."""

    values: dict[str, float]
    steps: bool = False
    asked: list[str] = field(default_factory=list, compare=False)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.asked.extend(c.text for c in candidates)
        return [self._one(self.values.get(c.text, math.nan)) for c in candidates]

    def _one(self, value: float) -> Score:
        if math.isnan(value):
            return Score(value, error="unheard of")
        return Score(value, (value, value / 2) if self.steps else ())


def values(verifier: Verifier, some: Sequence[Candidate] = ABC, run: Run | None = None) -> list[float]:
    return [s.value for s in asyncio.run(verifier.score(some, run or Run(1)))]


FIRST, SECOND = Says({"a": 0.9, "b": 0.4, "c": 0.1}), Says({"a": 0.1, "b": 0.5, "c": 0.8})


@pytest.mark.parametrize(
    ("verifier", "expected"),
    [
        (weighted_sum((FIRST, 3), (SECOND, 1)), [(2.7 + 0.1) / 4, (1.2 + 0.5) / 4, (0.3 + 0.8) / 4]),
        (weakest(FIRST, SECOND), [0.1, 0.4, 0.1]),
        (multiplied(FIRST, SECOND), [0.09, 0.2, 0.08]),
        (
            Combined((FIRST, SECOND), Powers((0.25, 0.75))),
            [0.9**0.25 * 0.1**0.75, 0.4**0.25 * 0.5**0.75, 0.1**0.25 * 0.8**0.75],
        ),
        (
            Combined((FIRST, SECOND), Logistic((2.0, -1.0), 0.5)),
            [1 / (1 + math.exp(-(2 * a - b + 0.5))) for a, b in ((0.9, 0.1), (0.4, 0.5), (0.1, 0.8))],
        ),
        (Combined((FIRST, SECOND), max), [0.9, 0.5, 0.8]),
    ],
)
def test_combinations(verifier: Verifier, expected: list[float]) -> None:
    assert values(verifier) == pytest.approx(expected, abs=1e-12)


def test_powers_of_nothing_and_of_less_than_nothing() -> None:
    assert Powers((1, 1))([0.0, 5.0]) == 0
    assert Powers((0, 1))([0.0, 0.25]) == 0.25
    assert math.isnan(Powers((1, 1))([-1.0, 5.0]))


def test_steps_are_combined_where_all_have_them() -> None:
    both = weighted_sum((Says({"a": 0.8}, steps=True), 1), (Says({"a": 0.4}, steps=True), 1))
    (score,) = asyncio.run(both.score(ABC[:1], Run()))
    assert score.steps == pytest.approx((0.6, 0.3))
    (score,) = asyncio.run(weighted_sum((Says({"a": 0.8}, steps=True), 1), (FIRST, 1)).score(ABC[:1], Run()))
    assert score.steps == ()


@dataclass(frozen=True)
class Broken:
    name: ClassVar[str] = "broken"

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        raise RuntimeError("no")


def test_a_part_that_breaks_is_left_out_and_one_that_cannot_judge_makes_it_nan() -> None:
    assert values(weighted_sum((FIRST, 1), (Broken(), 5))) == [0.9, 0.4, 0.1]
    assert values(multiplied(Broken(), FIRST)) == [0.9, 0.4, 0.1]
    none = asyncio.run(Combined((FIRST, Broken()), Logistic((1.0, 1.0), 0.0)).score(ABC, Run()))
    assert all(math.isnan(s.value) and s.error == "verifier broken raised RuntimeError: no" for s in none)
    lacking = Says({"a": 1.0, "c": 1.0})
    one = asyncio.run(weakest(FIRST, lacking).score(ABC, Run()))
    assert [s.value for s in one if not math.isnan(s.value)] == [0.9, 0.1]
    assert one[1].error == "unheard of"
    (alone,) = asyncio.run(weakest(FIRST, lacking).score(ABC[1:2], Run()))  # the same alone as in company
    assert alone == one[1]


def test_what_cannot_be_combined_says_so() -> None:
    (score,) = asyncio.run(Combined((Says({"a": -1.0}),), Powers((1.0,))).score(ABC[:1], Run()))
    assert score.error == "[-1.0] cannot be combined by Powers(of=(1.0,))"
    assert math.isnan(Logistic((1.0,), 0.0)([math.nan]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Combined((), min), "at least one"),
        (lambda: Combined((FIRST,), Weights((1, 2))), "1 verifiers and 2 weights"),
        (lambda: weighted_sum((FIRST, -1)), "0 or more"),
        (lambda: weighted_sum((FIRST, 0)), "above 0"),
        (lambda: Between(0.5, 0.5), "low must be below high"),
        (lambda: Cached(FIRST, most=0), "1 or more"),
        (lambda: Cached(Neighbours()), "depend on the other candidates"),
        (lambda: Rule("x"), "a function of a candidate"),
        (lambda: Rule(len, seconds=0), "above 0"),
        (lambda: Logistic.fit([[1.0]] * 30, [True] * 25 + [False] * 5), "25 right and 5 wrong"),
        (lambda: Logistic.fit([1.0, 2.0], [True, False]), "a row a candidate"),
    ],
)
def test_mistakes(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make()


def test_a_part_that_cannot_be_afforded_is_left_out_and_the_run_is_cut_short() -> None:
    run = Run(ledger=Ledger(Budget(tokens=1)))
    both = weighted_sum((FIRST, 1), (ProcessReward(ScriptedReward()), 1))
    assert values(both, run=run) == [0.9, 0.4, 0.1]
    assert "tokens" in (run.cut_short or "")
    none = asyncio.run(weakest(ProcessReward(ScriptedReward())).score(ABC, Run(ledger=Ledger(Budget(tokens=1)))))
    assert all(math.isnan(s.value) and "budget" in (s.error or "") for s in none)


def test_the_ranges_of_combinations() -> None:
    digit, check = UtilityDigit(ScriptedModel(["7"])), SelfCheck(ScriptedModel(["True"]))
    assert range_of(weighted_sum((digit, 1), (digit, 2))) == (0.0, 9.0)
    assert range_of(weighted_sum((digit, 1), (check, 1))) == (0.0, 5.0)
    assert range_of(weakest(digit, check)) == (0.0, 1.0)
    assert range_of(Cascaded(check, digit)) == (0.0, 9.0)
    assert range_of(Combined((FIRST,), Logistic((1.0,), 0.0))) == (0.0, 1.0)
    assert range_of(weakest(FIRST)) == range_of(Combined((check,), max)) == (-math.inf, math.inf)
    assert range_of(Scaled(digit)) == (0.0, 1.0)


def test_scaled_scores() -> None:
    (score,) = asyncio.run(Scaled(UtilityDigit(ScriptedModel(["6"]))).score(ABC[:1], Run()))
    assert score.value == pytest.approx(6 / 9)
    (score,) = asyncio.run(Scaled(SelfCheck(ScriptedModel(["True"])), 9.0).score(ABC[:1], Run()))
    assert score.value == 9
    with pytest.raises(BadInput, match="a lowest and a highest score"):
        Scaled(FIRST)


# Learned from labelled candidates.


def test_logistic_regression_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(3)
    for trial in range(20):
        x = rng.normal(size=(120, 3)) * [1.0, 10.0, 0.1] + [0, 5, -1]
        y = rng.random(120) < 1 / (1 + np.exp(-(x[:, 0] + 0.1 * x[:, 1] + 3 * x[:, 2])))
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        penalty = [0.1, 1.0, 10.0][trial % 3]
        theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(z, y)
        ours = Logistic.fit(x, y.tolist(), penalty=penalty)
        assert [ours(row) for row in x] == pytest.approx(theirs.predict_proba(z)[:, 1], abs=1e-5)


def test_unknown_scores_are_left_out_of_the_fit() -> None:
    x = [[float(i), 1.0] for i in range(40)]
    y = [i > 20 or i % 7 == 0 for i in range(40)]
    assert Logistic.fit([*x, [math.nan, 1.0]], [*y, True]) == Logistic.fit(x, y)


def test_a_learned_combination_trusts_the_better_verifier() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.5
    some = [candidate(str(i)) for i in range(200)]
    good = Says({str(i): float(r) + rng.normal() * 0.3 for i, r in enumerate(right)})
    bad = Says({str(i): rng.random() for i in range(200)})
    both = asyncio.run(learned([good, bad], some, right.tolist(), Run(1)))
    assert isinstance(both.by, Logistic)
    assert both.by.coefficients[0] > 5 * abs(both.by.coefficients[1])
    assert sum((v > 0.5) == r for v, r in zip(values(both, some), right, strict=True)) > 180
    with pytest.raises(BadInput, match="Says judged none of 200 candidates: unheard of"):
        asyncio.run(learned([good, Says({})], some, right.tolist(), Run(1)))


# Cheap first.


def test_the_expensive_one_is_asked_where_the_cheap_one_is_unsure() -> None:
    cheap, dear = Says({"a": 0.9, "b": 0.5}), Says({"b": 0.3, "c": 0.7})
    assert values(Cascaded(cheap, dear, Between(0.2, 0.8))) == [0.9, 0.3, 0.7]
    assert dear.asked == ["b", "c"]


def test_an_expensive_one_that_cannot_be_afforded_leaves_the_cheap_ones_word() -> None:
    run = Run(ledger=Ledger(Budget(tokens=1)))
    cheap = Says({"a": 0.9, "b": 0.5, "c": 0.4})
    assert values(Cascaded(cheap, ProcessReward(ScriptedReward())), run=run) == [0.9, 0.5, 0.4]
    assert run.cut_short


def test_what_the_cheap_one_said_stands_where_the_expensive_one_cannot_judge() -> None:
    cheap = Says({"a": 0.9, "b": 0.5})
    scores = asyncio.run(Cascaded(cheap, Says({}), Between(0.2, 0.8)).score(ABC, Run()))
    assert [s.value for s in scores[:2]] == [0.9, 0.5]
    assert math.isnan(scores[2].value)
    assert scores[2].error == "unheard of; unheard of"
    assert values(Cascaded(Broken(), FIRST)) == [0.9, 0.4, 0.1]


# Remembered.


def test_what_was_judged_is_not_judged_again() -> None:
    inner = Says({"a": 1.0, "b": 2.0})
    verifier = Cached(inner)
    assert values(verifier, [ABC[0], ABC[1], ABC[0]]) == [1.0, 2.0, 1.0]
    assert inner.asked == ["a", "b"]
    assert values(verifier, [ABC[1]]) == [2.0]
    assert inner.asked == ["a", "b"]
    for _ in range(2):  # what it could not judge is asked again
        values(verifier, [ABC[2]])
    assert inner.asked == ["a", "b", "c", "c"]
    assert values(verifier, [candidate("a", Problem("another"))]) == [1.0]
    assert inner.asked[-1] == "a"


def test_the_longest_unused_is_forgotten_first() -> None:
    inner = Says(dict.fromkeys("abcd", 1.0))
    verifier = Cached(inner, most=2)
    for text in "abac":
        values(verifier, [candidate(text)])
    assert inner.asked == list("abc")
    values(verifier, [candidate("a")])
    assert inner.asked == list("abc")
    values(verifier, [candidate("b")])
    assert inner.asked == list("abcb")


def test_a_remembered_score_costs_nothing() -> None:
    model = ScriptedReward()
    verifier = Cached(ProcessReward(model))
    first, second = Run(1, ledger=Ledger()), Run(2, ledger=Ledger())
    assert values(verifier, ABC, first) == values(verifier, ABC, second)
    assert first.ledger.spent.tokens > 0
    assert second.ledger.spent.tokens == 0


def test_a_cache_is_as_wide_as_what_it_remembers() -> None:
    assert (Cached(UtilityDigit(ScriptedModel(["7"]))).highest, Cached(FIRST).highest) == (9.0, math.inf)


# Calibrated.


def test_scores_become_probabilities() -> None:
    odd = Says({"a": 4.0, "b": 0.0, "c": -4.0}, steps=True)
    verifier = CalibratedScore(odd, Platt(1.0, 0.0))
    scores = asyncio.run(verifier.score([*ABC, candidate("z")], Run()))
    assert [s.value for s in scores[:3]] == pytest.approx([1 / (1 + math.exp(-x)) for x in (4, 0, -4)])
    assert scores[0].steps == ()
    assert math.isnan(scores[3].value)
    assert scores[3].error == "unheard of"


def test_calibrating_asks_once_and_fits() -> None:
    some = [candidate(str(i)) for i in range(40)]
    said = Says({str(i): float(i % 4) for i in range(40)})
    right = [i % 4 >= 2 for i in range(40)]
    verifier = asyncio.run(calibrated(said, some, right, Run()))
    assert said.asked == [str(i) for i in range(40)]
    assert isinstance(verifier.calibrator, Isotonic)
    assert values(verifier, [some[0], some[3]]) == [0.0, 1.0]


@dataclass(frozen=True)
class Neighbours:
    relative: ClassVar[bool] = True

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(float(len(candidates)))] * len(candidates)


def test_what_compares_candidates_makes_a_combination_that_does() -> None:
    assert weighted_sum((FIRST, 1), (Neighbours(), 1)).relative
    assert Cascaded(Neighbours(), FIRST).relative
    with pytest.raises(BadInput, match="Neighbours compares the candidates of a call"):
        Cascaded(FIRST, Neighbours())
    assert CalibratedScore(Neighbours(), Platt(1, 0)).relative
    assert not weakest(FIRST, SECOND).relative


@pytest.mark.parametrize(
    "verifier",
    [
        weighted_sum((ProcessReward(ScriptedReward()), 1), (UtilityDigit(ScriptedModel(["7"])), 2)),
        Cascaded(ProcessReward(ScriptedReward()), UtilityDigit(ScriptedModel(["7"]))),
        Cached(ProcessReward(ScriptedReward())),
        CalibratedScore(ProcessReward(ScriptedReward()), Platt(1, 0)),
        Rule(lambda c: len(c.text) / 100),
    ],
    ids=["combined", "cascaded", "cached", "calibrated", "rule"],
)
def test_they_keep_a_verifiers_promises(verifier: Verifier, problem: Problem) -> None:
    check_verifier(verifier, problem)


def test_reprs_are_the_same_in_every_process() -> None:
    assert repr(weakest(ProcessReward(ScriptedReward()))) == (
        "Combined(verifiers=(ProcessReward(ScriptedReward('scripted-prm'), product),), by=lowest)"
    )
    assert " at 0x" not in repr(Cached(Cascaded(Rule(str.isupper), ProcessReward(ScriptedReward()))))  # type: ignore[arg-type]
