"""Calibrators against scikit-learn, thresholds against their promise."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from reasonweave.orchestrator import BadInput
from reasonweave.orchestrator.calibration import (
    ConformalThreshold,
    Isotonic,
    Platt,
    TemperatureScaling,
    from_json,
    to_json,
)

FITS: list[Callable[..., Isotonic | Platt | TemperatureScaling]] = [Isotonic.fit, Platt.fit, TemperatureScaling.fit]
ASKED = np.array([-1.0, 0.0, 0.03, 0.25, 1 / 3, 0.5, 0.77, 1.0, 2.0])
MIXED = st.lists(st.tuples(st.integers(0, 16).map(lambda k: k / 16), st.booleans()), min_size=10, max_size=60).filter(
    lambda pairs: {right for _, right in pairs} == {True, False}
)


def drawn(n: int, seed: int, power: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences that are even over 0..1, where the chance of being right is c to this power."""
    rng = np.random.default_rng(seed)
    confidences = rng.random(n)
    return confidences, rng.random(n) < confidences**power


@given(MIXED)
def test_isotonic_against_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    confidences, right = map(np.array, zip(*pairs, strict=True))
    theirs = IsotonicRegression(out_of_bounds="clip").fit(confidences, right)
    assert Isotonic.fit(confidences, right).each(ASKED) == pytest.approx(theirs.predict(ASKED), abs=1e-12)


def test_isotonic_takes_any_score_and_keeps_only_the_knots_it_needs() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 5, 400)
    right = rng.random(400) < 1 / (1 + np.exp(-scores))
    mine = Isotonic.fit(scores, right)
    asked = np.linspace(-20, 20, 500)
    assert mine.each(asked) == pytest.approx(IsotonicRegression(out_of_bounds="clip").fit(scores, right).predict(asked))
    assert len(mine.x) < 60
    assert (mine(-math.inf), mine(math.inf)) == (mine.y[0], mine.y[-1])


def test_isotonic_by_hand() -> None:
    """Pools 0.2 and 0.3 (1 then 0) with weights 3 and 1, then goes on rising."""
    confidences = [0.1] * 4 + [0.2] * 3 + [0.3] + [0.5] * 2
    right = [False] * 3 + [True] + [True, True, True] + [False] + [True, True]
    fitted = Isotonic.fit(confidences, right)
    assert fitted == Isotonic((0.1, 0.2, 0.3, 0.5), (0.25, 0.75, 0.75, 1.0))
    assert [fitted(c) for c in (0.0, 0.15, 0.25, 0.4, 0.9)] == pytest.approx([0.25, 0.5, 0.75, 0.875, 1.0])


@pytest.mark.parametrize("seed", range(12))
def test_smooth_platt_against_scikit_learn(seed: int) -> None:
    confidences, right = drawn(12 + 5 * seed, seed)
    confidences = np.round(16 * confidences) / 16
    mine, theirs = Platt.fit(confidences, right), _SigmoidCalibration().fit(confidences, right)
    good, n = right.sum(), len(right)
    targets = np.where(right, (good + 1) / (good + 2), 1 / (n - good + 2))

    def loss(p: np.ndarray) -> float:
        return float(-(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum())

    assert loss(mine.each(confidences)) <= loss(theirs.predict(confidences)) + 1e-9
    assert mine.each(confidences) == pytest.approx(theirs.predict(confidences), abs=1e-3)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e-4])
def test_platt_against_logistic_regression(scale: float) -> None:
    confidences, right = drawn(300, 2)
    theirs = LogisticRegression(C=1e14, tol=1e-10, max_iter=10_000).fit(confidences[:, None], right)
    mine = Platt.fit(scale * confidences + scale, right, smooth=False)
    expected = theirs.predict_proba(ASKED[:, None])[:, 1]
    assert mine.each(scale * ASKED + scale) == pytest.approx(expected, abs=1e-6)


def test_platt_where_a_threshold_separates() -> None:
    confidences, right = np.arange(12.0), np.arange(12) >= 6
    with pytest.raises(BadInput, match="smooth=True"):
        Platt.fit(confidences, right, smooth=False)
    with pytest.raises(BadInput, match="smooth=True"):
        Platt.fit(-np.minimum(confidences, 6), right, smooth=False)
    assert Platt.fit(confidences, right)(5.5) == pytest.approx(0.5)
    assert Platt.fit(confidences, ~right).slope < 0


def test_platt_of_confidences_that_are_all_alike_is_the_share_of_right_answers() -> None:
    fitted = Platt.fit([1.0] * 10, [True] * 3 + [False] * 7, smooth=False)
    assert [fitted(c) for c in (0.0, 1.0, math.inf)] == pytest.approx([0.3] * 3)


def test_temperature_against_logistic_regression() -> None:
    confidences, right = drawn(400, 3, power=3.0)
    logits = np.log(confidences / (1 - confidences))
    theirs = LogisticRegression(C=1e14, tol=1e-10, max_iter=10_000, fit_intercept=False).fit(logits[:, None], right)
    mine = TemperatureScaling.fit(confidences, right, margin=1e-12)
    assert mine.temperature == pytest.approx(1 / theirs.coef_[0, 0], rel=1e-6)
    assert mine.each(confidences) == pytest.approx(theirs.predict_proba(logits[:, None])[:, 1], abs=1e-6)


def test_temperature_by_hand() -> None:
    """Of answers that say 0.9, three in four are right: log 9 / T = log 3, so T = 2; and a half stays a half."""
    fitted = TemperatureScaling.fit([0.9] * 12, [True] * 9 + [False] * 3)
    assert fitted.temperature == pytest.approx(2.0)
    assert [fitted(0.5), fitted(0.9), fitted(0.1)] == pytest.approx([0.5, 0.75, 0.25])


def test_temperature_at_the_ends() -> None:
    fitted = TemperatureScaling(1.0, margin=0.02)
    assert [fitted(c) for c in (-1.0, 0.0, 1.0, 7.0)] == pytest.approx([0.02, 0.02, 0.98, 0.98])
    unanimous = TemperatureScaling.fit([1.0] * 10, [True] * 9 + [False])
    assert unanimous(1.0) == pytest.approx(0.9)
    backwards = TemperatureScaling.fit([0.9, 0.1] * 10, [False, True] * 10)
    assert backwards.temperature == 100
    assert TemperatureScaling.fit([0.9, 0.1] * 10, [True, False] * 10)(0.6) > 0.999


@pytest.mark.parametrize("fit", FITS)
def test_a_calibrator_brings_confidences_close_to_the_truth(fit: Callable[..., Isotonic]) -> None:
    """Whoever says c is right with half its log-odds: off by 0.097 on average before."""
    rng = np.random.default_rng(4)
    confidences = rng.random(4000)
    truth = 1 / (1 + np.sqrt((1 - confidences) / confidences))
    assert np.abs(confidences - truth).mean() > 0.09
    fitted = fit(confidences, rng.random(4000) < truth)
    assert np.abs(fitted.each(confidences) - truth).mean() < 0.035  # Platt's form does not hold it


@pytest.mark.parametrize("fit", FITS)
def test_what_is_not_known_is_left_out_and_stays_unknown(fit: Callable[..., Isotonic]) -> None:
    confidences, right = drawn(50, 5)
    with_gaps = [*confidences.tolist(), None, math.nan, math.inf, -math.inf]
    fitted = fit(with_gaps, [*right.tolist(), True, False, False, True])
    assert fitted == fit(confidences, right)
    assert math.isnan(fitted(math.nan))
    assert np.isnan(fitted.each(np.array([0.2, math.nan]))).tolist() == [False, True]


@pytest.mark.parametrize("fit", FITS)
def test_one_and_many_are_the_same(fit: Callable[..., Isotonic]) -> None:
    confidences, right = drawn(80, 6)
    fitted = fit(confidences, right)
    assert [fitted(float(c)) for c in confidences] == fitted.each(confidences).tolist()
    assert all(0 <= p <= 1 for p in fitted.each(ASKED))


@pytest.mark.parametrize("fit", FITS)
def test_what_cannot_be_fitted_says_why(fit: Callable[..., Isotonic]) -> None:
    with pytest.raises(BadInput, match=r"fit: 9 answers with a known confidence; at least 10"):
        fit([0.5] * 9 + [None] * 4, [True, False] * 6 + [True])
    with pytest.raises(BadInput, match="all 12 answers are wrong"):
        fit([0.5] * 12, [False] * 12)
    with pytest.raises(BadInput, match="all 12 answers are right"):
        fit([0.5] * 12 + [None], [True] * 12 + [False])
    with pytest.raises(BadInput, match="3 confidences and 2 labels"):
        fit([0.5] * 3, [True, False])


def test_temperatures_need_confidences_in_0_to_1() -> None:
    with pytest.raises(BadInput, match=r"outside 0\.\.1"):
        TemperatureScaling.fit([1.5, *[0.5] * 10], [True, False] * 5 + [True])
    for margin in (0.0, 0.5, math.nan):
        with pytest.raises(BadInput, match="margin"):
            TemperatureScaling.fit([0.5] * 10, [True, False] * 5, margin=margin)


def test_what_was_fitted_survives_being_written_down() -> None:
    confidences, right = drawn(60, 7)
    parts = [fit(confidences, right) for fit in FITS]
    parts += [ConformalThreshold.fit(confidences, right, risk=0.2), ConformalThreshold(math.inf, 0.1, 0.05, 3)]
    for part in parts:
        assert from_json(to_json(part)) == part
        assert json.loads(to_json(part))["kind"] == type(part).__name__


@pytest.mark.parametrize("text", ["", "3", "[]", "{}", '{"kind": "Platt"}', '{"kind": "Platt", "slope": "x"}', "{"])
def test_a_text_that_is_no_calibrator_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no fitted Isotonic, Platt"):
        from_json(text)


# Thresholds


def brute_force(confidences: list[float], right: list[bool], risk: float) -> float:
    """The lowest confidence t with (wrong ones from t on + 1) / (n + 1) ≤ risk."""
    pairs = list(zip(confidences, right, strict=True))
    return min(
        (t for t in confidences if sum(c >= t and not good for c, good in pairs) + 1 <= risk * (len(pairs) + 1)),
        default=math.inf,
    )


@given(MIXED, st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_conformal_risk_control_against_brute_force(pairs: list[tuple[float, bool]], risk: float) -> None:
    confidences, right = [c for c, _ in pairs], [good for _, good in pairs]
    fitted = ConformalThreshold.fit(confidences, right, risk=risk)
    assert fitted == ConformalThreshold(brute_force(confidences, right, risk), risk, None, len(pairs))


def test_conformal_risk_control_keeps_its_promise_and_wastes_little() -> None:
    """Confidences even over 0..1, wrong with chance 1 − c: answering from t on is wrong with chance (1 − t)² / 2.

    Its mean over 4,000 fits of 39 is between risk − 2 / 40 (their theorem 2) and risk; a mean 4 standard errors beyond either has
    chance below 1e-4. Half of the confidences are unknown in another turn: these are never answered, and the promise stays.
    """
    rng = np.random.default_rng(8)
    for known in (1.0, 0.5):
        losses = []
        for _ in range(4000):
            confidences = rng.random(39)
            right = rng.random(39) < confidences
            told = np.where(rng.random(39) < known, confidences, math.nan)
            t = ConformalThreshold.fit(told, right, risk=0.2).threshold
            losses.append(known * (1 - min(t, 1.0)) ** 2 / 2)
        error = 4 * np.std(losses) / math.sqrt(len(losses))
        assert 0.2 - 2 / 40 - error <= np.mean(losses) <= 0.2 + error


def test_too_few_problems_promise_nothing() -> None:
    assert ConformalThreshold.fit([0.9] * 8, [True] * 8, risk=0.1).threshold == math.inf
    assert ConformalThreshold.fit([0.9] * 9, [True] * 9, risk=0.1).threshold == 0.9
    assert ConformalThreshold.fit([None] * 50, [True] * 50, risk=0.1).threshold == math.inf
    assert ConformalThreshold.fit([0.9], [True], risk=0.1, delta=0.1).threshold == math.inf


@pytest.mark.parametrize("shape", ["at the edge", "scores", "votes"])
def test_learn_then_test_is_wrong_no_more_often_than_delta(shape: str) -> None:
    """1,500 fits. At the edge every threshold is just not good enough, so that any answer at all is a false one: the worst case.
    More than 203 false ones of 1,500 have chance 1e-5 at delta = 0.1."""
    rng = np.random.default_rng(9)
    false = answered = 0
    for _ in range(1500):
        confidences = rng.random(150)
        if shape == "at the edge":
            wrong = np.full(150, 0.2 + 1e-9)
        elif shape == "scores":
            wrong = (1 - confidences) / 1.2
        else:
            confidences = np.round(confidences * 8) / 8
            wrong = 1 - confidences
        t = ConformalThreshold.fit(confidences, rng.random(150) >= wrong, risk=0.2, delta=0.1).threshold
        if t > 1:
            continue
        answered += 1
        if shape == "at the edge":
            false += 1
        elif shape == "scores":
            false += (1 - t) / 2 / 1.2 > 0.2
        else:
            levels = np.arange(9) / 8
            mass = np.where((levels == 0) | (levels == 1), 0.5, 1.0) * (levels >= t)
            false += (mass * (1 - levels)).sum() / mass.sum() > 0.2
    assert false <= binom.ppf(1 - 1e-5, 1500, 0.1)
    assert answered > (20 if shape == "at the edge" else 500)  # so that there is something to be false


def test_learn_then_test_by_hand() -> None:
    """100 problems, 90 of them tried; level 0.05, risk 0.1, so 29 right answers alone pass and 43 are what it begins at.

    At 1 there are 40 problems, 36 tried: too few expected to begin with. At 0.8 all 72 tried are right: passes.
    At 0.5 6 of 90 are wrong, which has chance 0.19 at 10 %: ends.
    """
    confidences = [1.0] * 40 + [0.8] * 40 + [0.5] * 20
    right = [True] * 80 + [i % 10 in (0, 1, 2, 3, 4, 5, 6) for i in range(20)]
    fitted = ConformalThreshold.fit(confidences, right, risk=0.1, delta=0.05, grid=[0.5, 0.8, 1.0])
    assert fitted == ConformalThreshold(0.8, 0.1, 0.05, 100)
    assert binom.cdf(6, 90, 0.1) > 0.05
    assert ConformalThreshold.fit(confidences, right, risk=0.1, delta=0.05).threshold == pytest.approx(0.55)
    assert ConformalThreshold.fit(confidences, right, risk=0.1, delta=0.3, grid=[0.5, 0.8, 1.0]).threshold == 0.5


@pytest.mark.parametrize("asked", [{"risk": 0.0}, {"risk": 1.0}, {"delta": 0.0}, {"delta": 1.0}, {"risk": math.nan}])
def test_risks_are_between_0_and_1(asked: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        ConformalThreshold.fit([0.5] * 30, [True] * 30, **asked)


def test_a_threshold_needs_problems_labels_and_a_grid_of_numbers() -> None:
    with pytest.raises(BadInput, match="no problem"):
        ConformalThreshold.fit([], [])
    with pytest.raises(BadInput, match="labels"):
        ConformalThreshold.fit([0.5], [])
    for grid in ([], [0.5, math.nan]):
        with pytest.raises(BadInput, match="grid"):
            ConformalThreshold.fit([0.5], [True], delta=0.1, grid=grid)
