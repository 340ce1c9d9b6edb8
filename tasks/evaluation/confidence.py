"""How well confidences tell right answers from wrong ones: calibration, and what abstaining below a threshold would do.

A confidence of None or nan is not known: it counts for nothing in calibration, and no threshold answers there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.types import FloatArray
from reasonweave.tasks.evaluation.records import Record
from reasonweave.tasks.evaluation.stats import BoolArray, bootstrap, bootstrap_mean

Confidences: TypeAlias = Sequence[float | None] | FloatArray
Labels: TypeAlias = Sequence[bool] | BoolArray

LAMBDAS = (0, 1, 20)
"""What a wrong answer costs where a right one wins 1: an exam, Jeopardy, high stakes (arXiv 2502.13962)."""
RISK = 0.05
"""The share of wrong answers at which the table gives the coverage."""


def ece(confidences: Confidences, correct: Labels, *, bins: int = 10, equal_mass: bool = False) -> float:
    """Expected calibration error (Guo et al., 2017): Σ over bins of share · |accuracy − mean confidence|.

    Bins are equally wide and closed above, (a, b], the lowest with 0; with `equal_mass` their edges are quantiles, and equal
    confidences stay together. Of n answers a perfect forecaster has up to about 0.4 · √(bins / n), not 0. nan where nothing is
    known. Raises `BadInput` for a confidence outside 0..1, as `brier` does.

    >>> round(ece([0.9, 0.9, 0.6, 0.6], [True, True, True, False]), 3)
    0.1
    """
    if bins < 1:
        raise BadInput(f"ece(bins={bins}): 1 or more are needed")
    values, right = _probabilities(confidences, correct)
    return _ece(values, right, bins, equal_mass)


def _ece(values: FloatArray, right: BoolArray, bins: int, equal_mass: bool = False) -> float:
    if not len(values):
        return math.nan
    cuts = np.linspace(0, 1, bins + 1)
    edges = np.quantile(values, cuts) if equal_mass else cuts
    gaps = np.bincount(np.searchsorted(edges[1:-1], values), weights=right - values)
    return float(np.abs(gaps).sum() / len(values))


def brier(confidences: Confidences, correct: Labels) -> float:
    """Brier's score: the mean of (confidence − 1[right])², 0 at best, 0.25 for whoever always says a half.

    >>> round(brier([0.9, 0.6], [True, False]), 3)
    0.185
    """
    values, right = _probabilities(confidences, correct)
    return float(np.square(values - right).mean()) if len(values) else math.nan


def coverage_risk(confidences: Confidences, correct: Labels) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What answering from each threshold on does: thresholds, strictest first, the share of all problems that are answered, and
    the share of wrong answers among these. One entry for each distinct confidence: equal ones are answered together.

    >>> thresholds, coverage, risk = coverage_risk([0.9, 0.9, 0.6, None], [True, False, True, True])
    >>> thresholds.tolist(), coverage.tolist(), risk.round(3).tolist()
    ([0.9, 0.6], [0.5, 0.75], [0.5, 0.333])
    """
    thresholds, answered, wrong = _curve(confidences, correct)
    return thresholds, answered / max(1, len(confidences)), wrong / answered


def aurc(confidences: Confidences, correct: Labels) -> float:
    """Area under the risk–coverage curve (Geifman & El-Yaniv, 2017): the mean share of wrong answers among the k surest, over
    all k; equal confidences in a random order, on average. Of known confidences; nan where there is none."""
    _, answered, wrong = _curve(confidences, correct)
    if not len(answered):
        return math.nan
    k = np.arange(1, answered[-1] + 1)
    return float((np.interp(k, np.append(0, answered), np.append(0, wrong)) / k).mean())


def surest(confidences: Confidences, correct: Labels, share: float = 0.5) -> float:
    """Accuracy of the surest share of the answers with a known confidence, equal ones counting evenly; nan where there is none.

    >>> surest([0.9, 0.5, 0.5, 0.1], [True, True, False, False])
    0.75
    """
    _, answered, wrong = _curve(confidences, correct)
    if not len(answered):
        return math.nan
    k = share * answered[-1]
    return float(1 - np.interp(k, np.append(0, answered), np.append(0, wrong)) / k)


def coverage_at(confidences: Confidences, correct: Labels, risk: float = RISK) -> float:
    """The largest share of all problems that a threshold answers with at most this share of wrong answers; 0 where none does.

    Chosen in hindsight: `ConformalThreshold` promises something of new problems.
    """
    _, coverage, wrong = coverage_risk(confidences, correct)
    return float(coverage[wrong <= risk].max(initial=0.0))


def utility(correct: Labels, answered: Labels, lam: float) -> float:
    """(right − λ · wrong) / problems: no answer wins and loses nothing (selective QA; arXiv 2502.13962). nan for no problem.

    >>> utility([True, False, False], [True, True, False], lam=1)
    0.0
    """
    right, given = np.asarray(correct, bool), np.asarray(answered, bool)
    if not len(right):
        return math.nan
    return float(((right & given).sum() - lam * (~right & given).sum()) / len(right))


def best_utility(confidences: Confidences, correct: Labels, lam: float) -> tuple[float, float]:
    """The highest utility that a threshold has, and the threshold, the strictest of equals: (0, inf) is never to answer. In
    hindsight, so too good for new problems; for probabilities λ / (1 + λ) is the best threshold."""
    thresholds, answered, wrong = _curve(confidences, correct)
    if not len(thresholds):
        return 0.0, math.inf
    won = (answered - (1 + lam) * wrong) / len(confidences)
    at = int(won.argmax())
    return (float(won[at]), float(thresholds[at])) if won[at] > 0 else (0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Confidence:
    """What a workflow's confidences were worth. Shares are 0..1 and nan where nothing can be told.

    `known` counts answers with a confidence in 0..1, which `ece` (10 equal bins), `brier`, `surest_half` and `aurc` are of.
    `coverage` is that of all problems at 5 % risk, in hindsight. `accuracy` is of the problems that were answered, known or not,
    `utility` of what was answered, for each λ.
    """

    known: int
    abstained: int
    accuracy: float
    ece: float
    ece_interval: tuple[float, float]
    brier: float
    brier_interval: tuple[float, float]
    surest_half: float
    coverage: float
    aurc: float
    utility: dict[int, float]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Confidence | None:
        """From the records of one workflow; None where it neither says how sure it is nor abstains. Intervals: 95 %."""
        records = sorted(
            records, key=lambda record: record.index
        )  # so that the same rows are drawn, whatever ended first
        said = [None if r.answer is None else r.confidence for r in records]
        right, answered = [r.correct for r in records], [r.answer is not None for r in records]
        told = [c if c is not None and 0 <= c <= 1 else None for c in said]
        abstained = sum(r.abstained for r in records)
        values, labels = _probabilities(told, right)
        if not len(values) and not abstained:
            return None
        rows = np.arange(len(values))
        return cls(
            known=len(values),
            abstained=abstained,
            accuracy=sum(right) / sum(answered) if any(answered) else math.nan,
            ece=_ece(values, labels, 10),
            ece_interval=bootstrap(lambda drawn: _ece(values[drawn], labels[drawn], 10), rows),
            brier=brier(told, right),
            brier_interval=bootstrap_mean(np.square(values - labels)),
            surest_half=surest(told, right),
            coverage=coverage_at(told, right),
            aurc=aurc(told, right),
            utility={lam: utility(right, answered, lam) for lam in LAMBDAS},
        )

    @property
    def data(self) -> dict[str, Any]:
        """For JSON: None where nothing can be told."""
        return {
            "n": self.known,
            "ece": _number(self.ece),
            "ece_interval": [_number(edge) for edge in self.ece_interval],
            "brier": _number(self.brier),
            "brier_interval": [_number(edge) for edge in self.brier_interval],
            "accuracy_answered": _number(self.accuracy),
            "accuracy_surest_half": _number(self.surest_half),
            "coverage_at_5_percent_risk": self.coverage,
            "aurc": _number(self.aurc),
            "utility": {str(lam): _number(value) for lam, value in self.utility.items()},
        }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _pairs(confidences: Confidences, correct: Labels) -> tuple[FloatArray, BoolArray]:
    """The known confidences and their labels."""
    values, right = np.array(confidences, dtype=np.float64), np.asarray(correct, dtype=bool)
    if values.shape != right.shape:
        raise BadInput(f"{len(values)} confidences and {len(right)} labels: one label each is needed")
    known = ~np.isnan(values)
    return values[known], right[known]


def _probabilities(confidences: Confidences, correct: Labels) -> tuple[FloatArray, BoolArray]:
    values, right = _pairs(confidences, correct)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise BadInput(f"confidences from {values.min():g} to {values.max():g}: probabilities in 0..1 are needed")
    return values, right


def _curve(confidences: Confidences, correct: Labels) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The distinct known confidences, the greatest first, and how many are answered, and wrong, from each on."""
    values, right = _pairs(confidences, correct)
    levels, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    wrong = np.bincount(at, weights=~right, minlength=len(levels))
    return levels[::-1], counts[::-1].cumsum().astype(np.float64), wrong[::-1].cumsum()
