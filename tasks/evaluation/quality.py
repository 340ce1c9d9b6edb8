"""How good a verifier is: how well its scores tell right solutions and steps from wrong ones, what they are worth as
probabilities, what a threshold lets through, and up to how many samples choosing by them gains.

Every interval is 95 %, by a bootstrap that draws whole problems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reasonweave.orchestrator.imperfect import ceiling
from reasonweave.orchestrator.types import FloatArray, IntArray, Usage
from reasonweave.tasks.evaluation.confidence import brier, ece
from reasonweave.tasks.evaluation.stats import BoolArray, auc, bootstrap, bootstrap_mean

DRAWS = 500
"""Bootstrap draws of an interval."""
THRESHOLDS = 9
"""At most so many thresholds are shown: quantiles of the scores."""


@dataclass(frozen=True, slots=True)
class Graded:
    """One candidate, what the verifier said of it, and the truth. `value` is nan where it could not judge; `labels` say of each
    step whether it is right, None where the task cannot tell, or where the verifier has no score a step."""

    problem: int
    value: float
    right: bool
    answered: bool = True
    steps: tuple[float, ...] = ()
    labels: tuple[bool, ...] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with its interval, and how many cases it rests on; nan where it cannot be had."""

    value: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)


@dataclass(frozen=True, slots=True)
class Threshold:
    """What accepting from a score on does. `completeness`: the share of right candidates accepted; `soundness`: of wrong ones
    rejected; `precision`: of the accepted ones right; `ceiling`: the accuracy that resampling until one is accepted cannot exceed
    (Stroebl et al., 2024, arXiv 2411.17501), each problem being a type of task with its own rate of success."""

    at: float
    accepted: float
    completeness: float
    soundness: float
    precision: float
    ceiling: float


def best_of(values: Sequence[float] | FloatArray, right: Sequence[bool] | BoolArray, n: int) -> float:
    """The chance that the highest value of n candidates, drawn from these without replacement, is a right one's; ties are broken
    evenly, and nan is below every number.

    In closed form: with the values in ascending groups of equals, group g holds the highest of n with probability
    [C(mass up to g, n) − C(mass below g, n)] / C(all, n), and each of its members is as likely as another to be the one.

    >>> best_of([0.9, 0.5, 0.1], [True, False, True], 2)
    0.6666666666666666
    """
    scores, labels = np.asarray(values, dtype=np.float64), np.asarray(right, dtype=np.float64)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(group, weights=labels) / sizes
    upto = np.array([math.comb(int(m), n) for m in np.cumsum(sizes)], dtype=object)
    chances = np.diff(upto, prepend=0) / math.comb(len(scores), n)
    return float(np.sum(chances.astype(np.float64) * shares))


def any_of(right: Sequence[bool] | BoolArray, n: int) -> float:
    """pass@n, the chance that one of n drawn without replacement is right (Chen et al., 2021, arXiv 2107.03374, eq. 1): what no
    choice can exceed."""
    labels = np.asarray(right, dtype=bool)
    return 1 - math.comb(int((~labels).sum()), n) / math.comb(len(labels), n)


@dataclass(frozen=True)
class Quality:
    """A verifier's judgements on candidates of known truth. `usage` by model and `seconds` are what judging them all cost."""

    name: str
    graded: tuple[Graded, ...]
    usage: dict[str, Usage]
    seconds: float

    @property
    def judged(self) -> list[Graded]:
        """The candidates that it could judge."""
        return [g for g in self.graded if not math.isnan(g.value)]

    @property
    def unjudged(self) -> int:
        return len(self.graded) - len(self.judged)

    @property
    def first_error(self) -> str | None:
        return next((g.error for g in self.graded if math.isnan(g.value) and g.error), None)

    @cached_property
    def by_problem(self) -> list[list[Graded]]:
        """The candidates of each problem, in order."""
        found: dict[int, list[Graded]] = {}
        for each in self.graded:
            found.setdefault(each.problem, []).append(each)
        return [found[problem] for problem in sorted(found)]

    @cached_property
    def fewest(self) -> int:
        """As many candidates as nine problems in ten have: best-of-n is measured up to here, on those that have so many."""
        counts = sorted(map(len, self.by_problem))
        return counts[len(counts) // 10] if counts else 0

    @property
    def short(self) -> int:
        """Problems with fewer candidates than that."""
        return sum(len(group) < self.fewest for group in self.by_problem)

    def _auc(self, scores: Sequence[float], labels: Sequence[bool], groups: Sequence[int]) -> Measured:
        values, right = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
        value = auc(values, right) if len(values) else math.nan
        low, high = bootstrap(lambda rows: auc(values[rows], right[rows]), groups, draws=DRAWS)
        return Measured(value, low, high, len(values))

    @cached_property
    def outcome(self) -> Measured:
        """AUC over all candidates: the chance that a right one scores higher than a wrong one, of any two problems."""
        some = self.judged
        return self._auc([g.value for g in some], [g.right for g in some], [g.problem for g in some])

    @cached_property
    def within(self) -> Measured:
        """The mean AUC among the candidates of one problem, which is what choosing one of them depends on."""
        pairs = []
        for group in self.by_problem:
            some = [g for g in group if not math.isnan(g.value)]
            pairs.append(auc([g.value for g in some], [g.right for g in some]) if some else math.nan)
        known = [value for value in pairs if not math.isnan(value)]
        low, high = bootstrap_mean(known, draws=DRAWS) if known else (math.nan, math.nan)
        return Measured(float(np.mean(known)) if known else math.nan, low, high, len(known))

    @cached_property
    def step(self) -> Measured:
        """AUC over all steps; nan where the task has no labels for them or the verifier no scores."""
        scores, labels, groups = list[float](), list[bool](), list[int]()
        for g in self.judged:
            if g.labels is not None and len(g.labels) == len(g.steps):
                pairs = [(s, right) for s, right in zip(g.steps, g.labels, strict=True) if not math.isnan(s)]
                scores += [s for s, _ in pairs]
                labels += [right for _, right in pairs]
                groups += [g.problem] * len(pairs)
        return self._auc(scores, labels, groups)

    @property
    def probable(self) -> bool:
        """Do all scores lie in 0..1, so that they can be read as probabilities?"""
        return bool(self.judged) and all(0 <= g.value <= 1 for g in self.judged)

    @cached_property
    def calibration(self) -> Measured:
        """The expected calibration error in 10 bins of equal mass; nan where scores are no probabilities."""
        if not self.probable:
            return Measured(math.nan, math.nan, math.nan, 0)
        values, right, groups = self._arrays()
        low, high = bootstrap(lambda rows: ece(values[rows], right[rows], equal_mass=True), groups, draws=DRAWS)
        return Measured(ece(values, right, equal_mass=True), low, high, len(values))

    @cached_property
    def brier(self) -> float:
        values, right, _ = self._arrays()
        return brier(values, right) if self.probable else math.nan

    def bins(self, most: int = 10) -> list[tuple[float, float, int]]:
        """The calibration curve: mean score, share right, and size of bins of equal mass, equal scores staying together."""
        values, right, _ = self._arrays()
        edges = np.quantile(values, np.linspace(0, 1, most + 1)) if len(values) else np.zeros(most + 1)
        at = np.searchsorted(edges[1:-1], values)
        cells = [(values[at == k], right[at == k]) for k in range(most)]
        return [(float(v.mean()), float(r.mean()), len(v)) for v, r in cells if len(v)]

    def _arrays(self) -> tuple[FloatArray, BoolArray, list[int]]:
        some = self.judged
        values = np.array([g.value for g in some], dtype=np.float64)
        return values, np.array([g.right for g in some], dtype=bool), [g.problem for g in some]

    @cached_property
    def thresholds(self) -> list[Threshold]:
        """Quantiles of the scores as thresholds, and the one with the greatest completeness + soundness, in ascending order. What
        could not be judged is not accepted."""
        values = np.array([-np.inf if math.isnan(g.value) else g.value for g in self.graded], dtype=np.float64)
        right = np.array([g.right for g in self.graded], dtype=bool)
        finite = values[np.isfinite(values)]
        if not len(finite):
            return []
        chosen = set(np.quantile(finite, np.linspace(0, 1, THRESHOLDS + 2)[1:-1], method="higher").tolist())
        order = np.argsort(-values, kind="stable")
        gains = np.cumsum(np.where(right[order], 1 / max(1, right.sum()), -1 / max(1, (~right).sum())))
        last = np.append(values[order][1:] != values[order][:-1], True)  # of equal scores all are accepted, or none
        best = int(np.argmax(np.where(last & np.isfinite(values[order]), gains, -np.inf)))
        chosen.add(float(values[order][best]))
        success = [sum(g.right for g in group) / len(group) for group in self.by_problem]
        return [self._threshold(values, right, level, success) for level in sorted(chosen)]

    @property
    def best_threshold(self) -> Threshold | None:
        """The threshold with the greatest completeness + soundness (Youden's)."""
        return max(self.thresholds, key=lambda t: t.completeness + t.soundness, default=None)

    @staticmethod
    def _threshold(values: FloatArray, right: BoolArray, level: float, success: Sequence[float]) -> Threshold:
        passed = values >= level
        complete = float(passed[right].mean()) if right.any() else math.nan
        sound = float((~passed[~right]).mean()) if (~right).any() else math.nan
        known = not (math.isnan(complete) or math.isnan(sound))
        top = ceiling(success, complete, sound) if known else math.nan
        precision = float(right[passed].mean()) if passed.any() else math.nan
        return Threshold(float(level), float(passed.mean()), complete, sound, precision, top)

    @cached_property
    def sizes(self) -> list[int]:
        """The numbers of samples at which best-of-n is shown: powers of two, and all."""
        powers = [2**k for k in range(20) if 2**k <= self.fewest]
        return sorted({*powers, self.fewest}) if self.fewest else []

    @cached_property
    def _chosen(self) -> FloatArray:
        """Shape (problems, fewest): the chance that best-of-n is right, n from 1 on."""
        rows = []
        for group in self._long:
            levels = sorted(
                {g.value for g in group if not math.isnan(g.value)}
            )  # the unanswered below the unjudged below these
            ranks = [0 if not g.answered else 1 if math.isnan(g.value) else 2 + levels.index(g.value) for g in group]
            rows.append([best_of(ranks, [g.right for g in group], n) for n in range(1, self.fewest + 1)])
        return np.array(rows, dtype=np.float64)

    @property
    def _long(self) -> list[list[Graded]]:
        return [group for group in self.by_problem if len(group) >= self.fewest]

    def best_of_n(self, n: int) -> Measured:
        """The accuracy of choosing the highest score among n samples: the mean over all choices of n from those there are."""
        column = self._chosen[:, n - 1]
        low, high = bootstrap_mean(column, draws=DRAWS)
        return Measured(float(column.mean()), low, high, len(column))

    def gain_over_one(self, n: int) -> tuple[float, float]:
        """The interval of best-of-n's accuracy less one sample's, in pairs by problem."""
        return bootstrap_mean(self._chosen[:, n - 1] - self._chosen[:, 0], draws=DRAWS)

    def less(self, other: Quality, n: int) -> Measured:
        """Best-of-n's accuracy by this verifier less that by another, in pairs by problem. Both judged the same candidates."""
        gap = self._chosen[:, n - 1] - other._chosen[:, n - 1]
        low, high = bootstrap_mean(gap, draws=DRAWS)
        return Measured(float(gap.mean()), low, high, len(gap))

    def pass_at(self, n: int) -> float:
        return float(np.mean([any_of([g.right for g in group], n) for group in self._long]))

    @cached_property
    def peak(self) -> Measured:
        """The number of samples at which best-of-n is most accurate under this verifier, the smallest of equals: the largest up
        to which another sample still gains. Its interval is that of the same question to problems drawn anew."""
        curves = self._chosen

        def top(rows: IntArray) -> float:
            return float(np.argmax(np.round(curves[rows].mean(axis=0), 12)) + 1)

        if not len(curves) or not self.fewest:
            return Measured(math.nan, math.nan, math.nan, 0)
        low, high = bootstrap(top, range(len(curves)), draws=DRAWS)
        return Measured(top(np.arange(len(curves))), low, high, len(curves))

    @property
    def still_rising(self) -> bool:
        """Is best-of-n most accurate with all the samples that there are, so that its ceiling lies higher?"""
        return self.peak.value == self.fewest

    @property
    def total(self) -> Usage:
        return Usage.total(list(self.usage.values()))
