"""Calibration: from how sure a method says it is to how often it is then right, and from which confidence on to answer.

Everything here is fitted on problems with known answers, one confidence and one label (right or not) a problem, and holds for
problems of the same kind. A confidence of None or nan is not known, and an infinite one says no number: fitting leaves them out.

A calibrator is a function from a confidence to a probability. `to_json` and `from_json` carry a fitted one to another process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, cast

import numpy as np

from reasonweave.orchestrator._scipy import one_thread
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import FloatArray

Calibrator: TypeAlias = Callable[[float], float]
"""From a confidence to the probability (0..1) that the answer is right."""

LEAST = 10
"""Answers with a known confidence that a calibrator is fitted on at least; a few hundred give a useful one."""
LOWEST, HIGHEST = 0.01, 100.0
"""Between which a temperature is looked for."""
GRID = tuple(k / 20 for k in range(21))
"""Thresholds that `ConformalThreshold.fit` tests."""
ASIDE = 10
"""One problem in so many says where these tests begin,"""
ENOUGH = 1.5
"""which is where so many times the answers are expected that could pass, were all of them right."""


@dataclass(frozen=True)
class Isotonic:
    """The rising function closest to the labels in squares (Zadrozny & Elkan, 2002), by pooling adjacent violators.

    Straight lines join the knots `x`, `y`; below the first and above the last it is level. It bends to any rising shape, also
    of scores outside 0..1, gives equal probabilities to whole ranges, and can give 0 and 1. With few problems it overfits.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    @classmethod
    def fit(cls, confidences: Iterable[float | None], correct: Iterable[bool]) -> Isotonic:
        """Least squares. Raises `BadInput` for fewer than 10 known confidences, or where all answers are right, or all wrong.

        >>> fitted = Isotonic.fit([0.1, 0.2, 0.3, 0.4, 0.5] * 2, [False, True, False, True, True] * 2)
        >>> fitted(0.1), fitted(0.25), fitted(0.9)
        (0.0, 0.5, 1.0)
        """
        with one_thread():
            from scipy.optimize import isotonic_regression

        values, right = _both(cls.__name__, confidences, correct)
        x, at, counts = np.unique(values, return_inverse=True, return_counts=True)
        shares = np.bincount(at, weights=right) / counts
        y = np.clip(isotonic_regression(shares, weights=counts).x, 0, 1)
        rises = np.diff(y) != 0
        kept = np.append(True, rises) | np.append(rises, True)  # the ends of each level
        return cls(tuple(x[kept].tolist()), tuple(y[kept].tolist()))

    def __call__(self, confidence: float) -> float:
        return float(self.each([confidence])[0])

    def each(self, confidences: Sequence[float] | FloatArray) -> FloatArray:
        """The probabilities of many confidences, shape (n,); nan where one is nan."""
        return np.interp(np.asarray(confidences, dtype=np.float64), self.x, self.y)


@dataclass(frozen=True)
class Platt:
    """1 / (1 + exp(−(slope · confidence + intercept))) (Platt, 1999), for any real score; two numbers, so few problems do.

    A slope below 0 says that higher confidences were right less often.
    """

    slope: float
    intercept: float

    @classmethod
    def fit(cls, confidences: Iterable[float | None], correct: Iterable[bool], *, smooth: bool = True) -> Platt:
        """Maximum likelihood. With `smooth` the labels are Platt's targets, (N₊ + 1) / (N₊ + 2) for the right answers and
        1 / (N₋ + 2) for the wrong ones; else 1 and 0, which is logistic regression.

        Raises `BadInput` as `Isotonic.fit` does, and without `smooth` where a threshold tells right from wrong exactly: the
        likelihood then has no maximum.
        """
        values, right = _both(cls.__name__, confidences, correct)
        good, bad = values[right], values[~right]
        apart = good.min() >= bad.max() or good.max() <= bad.min()
        if apart and np.ptp(values) > 0 and not smooth:
            raise BadInput("Platt.fit: a threshold tells right answers from wrong ones exactly; smooth=True is needed")
        targets = right.astype(np.float64)
        if smooth:
            targets = np.where(right, (len(good) + 1) / (len(good) + 2), 1 / (len(bad) + 2))
        mean, spread = values.mean(), values.std() or 1.0
        slope, level = _logistic(np.column_stack([(values - mean) / spread, np.ones_like(values)]), targets)
        return cls(float(slope / spread), float(level - slope * mean / spread))

    def __call__(self, confidence: float) -> float:
        return float(self.each([confidence])[0])

    def each(self, confidences: Sequence[float] | FloatArray) -> FloatArray:
        """The probabilities of many confidences, shape (n,); nan where one is nan."""
        values = np.asarray(confidences, dtype=np.float64)
        return _sigmoid((self.slope * values if self.slope else 0 * np.nan_to_num(values)) + self.intercept)


@dataclass(frozen=True)
class TemperatureScaling:
    """1 / (1 + exp(−logit(confidence) / temperature)) (Guo et al., 2017), for confidences in 0..1; a half stays a half.

    A temperature above 1 makes less sure, one below 1 surer. Confidences are taken as at least `margin` away from 0 and 1,
    where the logit is infinite; one outside 0..1 counts as the nearer end.
    """

    temperature: float
    margin: float = 0.01

    @classmethod
    def fit(
        cls, confidences: Iterable[float | None], correct: Iterable[bool], *, margin: float = 0.01
    ) -> TemperatureScaling:
        """Maximum likelihood, within 0.01..100; 100 also where less sure answers are right more often.

        Raises `BadInput` as `Isotonic.fit` does, for a confidence outside 0..1, and for a margin that is not in 0..½.
        """
        if not 0 < margin < 0.5:
            raise BadInput(f"TemperatureScaling.fit: margin={margin}: between 0 and 0.5 is needed")
        values, right = _both(cls.__name__, confidences, correct)
        if values.min() < 0 or values.max() > 1:
            raise BadInput("TemperatureScaling.fit: a confidence is outside 0..1; Platt and Isotonic take any number")
        (steepness,) = _logistic(_logit(values, margin)[:, None], right.astype(np.float64))
        return cls(float(1 / np.clip(steepness, 1 / HIGHEST, 1 / LOWEST)), margin)

    def __call__(self, confidence: float) -> float:
        return float(self.each([confidence])[0])

    def each(self, confidences: Sequence[float] | FloatArray) -> FloatArray:
        """The probabilities of many confidences, shape (n,); nan where one is nan."""
        return _sigmoid(_logit(np.asarray(confidences, dtype=np.float64), self.margin) / self.temperature)


@dataclass(frozen=True)
class ConformalThreshold:
    """From which confidence on to answer, so that a stated risk is kept; `inf` says never.

    Answering means: where the confidence is known and at least `threshold`. The promise is about a new problem that comes
    from where the n fitted ones came from, and takes no model of the confidences, which may be as wrong as they like.

    * `delta=None`: P(answered and wrong) ≤ `risk`, over the drawing of the fitted problems and the new one (conformal risk
      control; Angelopoulos et al., 2022, arXiv 2208.02814; their loss is 1[answered and wrong]). Problems are exchangeable.
      Below about 1 / risk fitted problems nothing can be promised, so it never answers.
    * `delta` given: with probability 1 − `delta` over the fitted problems, P(wrong | answered) ≤ `risk` (Learn then Test;
      Angelopoulos et al., 2021, arXiv 2110.01052). Problems are independent and alike. A threshold passes with no fewer than
      log(delta) / log(1 − risk) answers, all of them right: 29 for 0.05 and 0.1.
    """

    threshold: float
    risk: float
    delta: float | None
    n: int

    @classmethod
    def fit(
        cls,
        confidences: Iterable[float | None],
        correct: Iterable[bool],
        *,
        risk: float = 0.1,
        delta: float | None = None,
        grid: Sequence[float] = GRID,
    ) -> ConformalThreshold:
        """The lowest threshold that keeps the promise: one of the confidences, or with `delta` one of `grid`.

        With `delta`, the thresholds t of the grid are tested from the strictest on, each at level `delta`, for the hypothesis
        that more than `risk` of the answers from t on are wrong. Its p-value is P(Bin(answered, risk) ≤ wrong), which is at most
        `delta` where Clopper and Pearson's upper bound at 1 − `delta` is at most `risk`. The first one that stands ends it, so
        that no true one is rejected with probability 1 − `delta`. Too few problems are that sure at the strictest ones; every
        tenth problem is set aside to say where to begin, by its confidence alone. `grid` must not be chosen by looking at the
        problems; scores outside 0..1 need one of their own.

        Raises `BadInput` for risks and deltas outside 0..1, and where there is no problem or not a label for each.
        """
        if not 0 < risk < 1 or not (delta is None or 0 < delta < 1):
            raise BadInput(f"ConformalThreshold.fit(risk={risk}, delta={delta}): both are between 0 and 1")
        values, right = _paired(cls.__name__, confidences, correct)
        if not len(values):
            raise BadInput("ConformalThreshold.fit: no problem to fit on")
        if not len(grid) or not np.isfinite(grid).all():
            raise BadInput(f"ConformalThreshold.fit: grid={grid}: numbers are needed, and at least one")
        if delta is None:
            known = ~np.isnan(values)
            rising, at = np.unique(values[known], return_inverse=True)
            above = np.bincount(at, weights=~right[known])[::-1].cumsum()[::-1]
            kept = rising[above + 1 <= risk * (len(values) + 1)]
        else:
            kept = _rejected(values, ~right, risk, delta, grid)
        return cls(float(kept.min(initial=math.inf)), risk, delta, len(values))


Saved: TypeAlias = Isotonic | Platt | TemperatureScaling | ConformalThreshold
KINDS = {kind.__name__: kind for kind in (Isotonic, Platt, TemperatureScaling, ConformalThreshold)}


def to_json(part: Saved) -> str:
    """A fitted calibrator or threshold as one JSON object, exact to the last bit."""
    return json.dumps({"kind": type(part).__name__, **asdict(part)})


def from_json(text: str) -> Saved:
    """What `to_json` wrote. Raises `BadInput` for a text that is none of that.

    >>> from_json(to_json(Platt(4.0, -2.0)))
    Platt(slope=4.0, intercept=-2.0)
    """
    from pydantic import TypeAdapter

    try:
        data = json.loads(text)
        return cast("Saved", TypeAdapter(KINDS[data["kind"]]).validate_python(data))
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"this is no fitted {', '.join(KINDS)} as JSON: {text[:80]!r}") from None


def _paired(
    name: str, confidences: Iterable[float | None], correct: Iterable[bool]
) -> tuple[FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Confidences, with nan for what is no number, and labels."""
    values = np.array(list(confidences), dtype=np.float64)
    right = np.array(list(correct), dtype=bool)
    if values.shape != right.shape:
        raise BadInput(f"{name}.fit: {len(values)} confidences and {len(right)} labels; one label each is needed")
    return np.where(np.isfinite(values), values, np.nan), right


def _both(
    name: str, confidences: Iterable[float | None], correct: Iterable[bool]
) -> tuple[FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The known confidences and their labels: enough of them, and of both kinds."""
    values, right = _paired(name, confidences, correct)
    known = ~np.isnan(values)
    values, right = values[known], right[known]
    if len(values) < LEAST:
        raise BadInput(f"{name}.fit: {len(values)} answers with a known confidence; at least {LEAST} are needed")
    if right.all() or not right.any():
        kind = "right" if right.all() else "wrong"
        raise BadInput(f"{name}.fit: all {len(right)} answers are {kind}; right and wrong ones are needed")
    return values, right


def _sigmoid(logits: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float64)


def _logit(p: FloatArray, margin: float) -> FloatArray:
    inside = np.clip(p, margin, 1 - margin)
    return np.asarray(np.log(inside) - np.log1p(-inside), dtype=np.float64)


def _logistic(design: FloatArray, targets: FloatArray) -> FloatArray:
    """The weights of a logistic regression on these columns, shape (n, k), by Newton's method with halved steps."""

    def loss(weights: FloatArray) -> float:
        logits = design @ weights
        return float(np.logaddexp(0, logits).sum() - targets @ logits)

    weights = np.zeros(design.shape[1])
    now = loss(weights)
    for _ in range(100):
        p = _sigmoid(design @ weights)
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.lstsq(hessian, design.T @ (p - targets), rcond=None)[0]
        while (then := loss(weights - step)) > now and np.abs(step).max() > 1e-12:
            step = step / 2
        if np.abs(step).max() <= 1e-12:
            break
        weights, now = weights - step, then
    return weights


def _rejected(
    values: FloatArray, wrong: np.ndarray[Any, np.dtype[np.bool_]], risk: float, delta: float, grid: Sequence[float]
) -> FloatArray:
    """The thresholds of a grid at which more than `risk` wrong answers are ruled out, all of them with probability 1 − delta."""
    with one_thread():
        from scipy.stats import binom

    thresholds = np.unique(np.asarray(grid, dtype=np.float64))[::-1]
    aside = np.arange(len(values)) % ASIDE == 0
    tried, wrong = values[~aside], wrong[~aside]
    wanted = ENOUGH * math.log(delta) / math.log(1 - risk) / max(1, len(tried))
    kept = []
    for threshold in thresholds:
        if (values[aside] >= threshold).mean() < wanted:
            continue
        answered = tried >= threshold
        if binom.cdf((wrong & answered).sum(), answered.sum(), risk) > delta:
            break
        kept.append(threshold)
    return np.array(kept, dtype=np.float64)
