"""Several verifiers as one: weighted, lowest, product, and learned from labelled candidates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from reasonweave.orchestrator._scipy import one_thread
from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import ask, is_relative, name_of, range_of, scored
from reasonweave.orchestrator.types import Candidate, FloatArray, Score, shown
from reasonweave.verifiers.prm import lowest, product

Combination: TypeAlias = Callable[[Sequence[float]], float]
"""From the scores of several verifiers, in their order, to one."""

LEAST = 10
"""Labelled candidates of each kind that a combination is learned from at least."""


@dataclass(frozen=True)
class Weights:
    """The weighted mean, Σ wᵢ sᵢ / Σ wᵢ."""

    of: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_weights(self.of)

    def __call__(self, scores: Sequence[float]) -> float:
        return math.fsum(w * s for w, s in zip(self.of, scores, strict=True)) / math.fsum(self.of)


@dataclass(frozen=True)
class Powers:
    """The weighted geometric mean, (Π sᵢ^wᵢ)^(1 / Σ wᵢ), of scores that are 0 or more; `Powers((α, 1 − α))` is the ensemble of
    Safe (Liu et al., 2025, arXiv 2506.04592). A score below 0 makes it nan."""

    of: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_weights(self.of)

    def __call__(self, scores: Sequence[float]) -> float:
        if min(scores) < 0:
            return math.nan
        if any(s == 0 and w > 0 for w, s in zip(self.of, scores, strict=True)):
            return 0.0
        logs = [w * math.log(s) for w, s in zip(self.of, scores, strict=True) if w > 0]
        return math.exp(math.fsum(logs) / math.fsum(self.of))


@dataclass(frozen=True)
class Logistic:
    """1 / (1 + exp(−(Σ aᵢ sᵢ + b))): the probability that a candidate is right, learned by `fit` from labelled ones."""

    coefficients: tuple[float, ...]
    intercept: float

    @classmethod
    def fit(
        cls, scores: Sequence[Sequence[float]] | FloatArray, correct: Sequence[bool], *, penalty: float = 1.0
    ) -> Logistic:
        """Maximum likelihood less ½ · penalty · |a|², on scores that are standardised first; `scores` has a row a candidate, a
        column a verifier. Rows with a score that is no finite number are left out.

        Raises `BadInput` for fewer than 10 right or 10 wrong candidates, and for a penalty that is not above 0.
        """
        x, y = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=np.float64)
        if x.ndim != 2 or len(x) != len(y):
            raise BadInput(f"Logistic.fit: scores of shape {x.shape} and {len(y)} labels; a row a candidate is needed")
        known = np.isfinite(x).all(axis=1)
        x, y = x[known], y[known]
        if min(y.sum(), len(y) - y.sum()) < LEAST:
            told = f"{int(y.sum())} right and {int(len(y) - y.sum())} wrong candidates"
            raise BadInput(f"Logistic.fit: {told} with all scores; {LEAST} of each are needed")
        if not penalty > 0:
            raise BadInput(f"Logistic.fit: penalty={penalty}: above 0 is needed")
        with one_thread():
            from scipy.optimize import minimize

        mean, spread = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
        z = np.column_stack([(x - mean) / spread, np.ones(len(x))])

        def loss(theta: FloatArray) -> tuple[float, FloatArray]:
            margin = z @ theta
            error = 1 / (1 + np.exp(-np.clip(margin, -500, 500))) - y
            shrunk = np.append(theta[:-1], 0.0)
            value = np.sum(np.logaddexp(0.0, margin) - y * margin) + penalty / 2 * shrunk @ shrunk
            return float(value), z.T @ error + penalty * shrunk

        found = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-8})
        slopes = found.x[:-1] / spread
        return cls(tuple(slopes.tolist()), float(found.x[-1] - slopes @ mean))

    def __call__(self, scores: Sequence[float]) -> float:
        z = self.intercept + math.fsum(a * s for a, s in zip(self.coefficients, scores, strict=True))
        return z if math.isnan(z) else 1 / (1 + math.exp(-z)) if z > -700 else 0.0


@dataclass(frozen=True)
class Combined:
    """Several verifiers' scores made one by `by`; asked at the same time, each once.

    `Weights`, `Powers`, `Logistic`, `min`, `product` of scores, or a function of one's own. A verifier that is broken, or that
    the budget has no room for, is left out by `min` and `product`, and by `Weights` and `Powers` with its weight; then the others
    decide. A candidate that one of those left could not judge is nan: its score could not be compared. Where all give a score a
    step, so does this.

    Costs: what its parts cost.
    """

    verifiers: tuple[Verifier, ...]
    by: Combination

    __repr__ = shown

    def __post_init__(self) -> None:
        if not self.verifiers:
            raise BadInput("Combined: at least one verifier is needed")
        numbers = getattr(self.by, "of", None) or getattr(self.by, "coefficients", None)
        if numbers is not None and len(numbers) != len(self.verifiers):
            raise BadInput(f"Combined: {len(self.verifiers)} verifiers and {len(numbers)} weights; one each is needed")

    @property
    def relative(self) -> bool:
        return any(map(is_relative, self.verifiers))

    @property
    def lowest(self) -> float:
        return self._ends[0]

    @property
    def highest(self) -> float:
        return self._ends[1]

    @property
    def _ends(self) -> tuple[float, float]:
        """The range of what comes out: known of those combinations that rise with each score."""
        if isinstance(self.by, Logistic):
            return 0.0, 1.0
        ends = [range_of(each) for each in self.verifiers]
        rising = isinstance(self.by, Weights | Powers) or self.by in (min, lowest, product)
        if not rising or not all(map(math.isfinite, itertools.chain(*ends))) or min(low for low, _ in ends) < 0:
            return -math.inf, math.inf
        return self.by([low for low, _ in ends]), self.by([high for _, high in ends])

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        asked = [ask(each, candidates, run.child("part", i)) for i, each in enumerate(self.verifiers)]
        answers = await together(afforded(each, run) for each in asked)
        missing = Score(math.nan, error="the budget has no room for all that are to be asked")
        columns = [[missing] * len(candidates) if each is None else each[0] for each in answers]
        if candidates and all(each is None for each in answers):
            return columns[0]
        broken = [
            i
            for i, each in enumerate(answers)
            if each is None or (each[1] is not None and all(math.isnan(score.value) for score in each[0]))
        ]
        by, left = _without(self.by, broken), [i for i in range(len(columns)) if i not in broken]
        if by is None or not left:
            return [self._lacking([column[i] for column in columns]) for i in range(len(candidates))]
        return [self._one([columns[k][i] for k in left], by) for i in range(len(candidates))]

    def _one(self, parts: Sequence[Score], by: Combination) -> Score:
        if any(math.isnan(part.value) for part in parts):
            return self._lacking(parts)
        lengths = {len(part.steps) for part in parts}
        steps = zip(*(part.steps for part in parts), strict=True) if len(lengths) == 1 else ()
        value = by([part.value for part in parts])
        told = f"{[part.value for part in parts]} cannot be combined by {by!r}" if math.isnan(value) else None
        return Score(value, tuple(by(step) for step in steps), error=told)

    def _lacking(self, parts: Sequence[Score]) -> Score:
        return Score(math.nan, error=next((part.error for part in parts if math.isnan(part.value)), None))


def _without(by: Combination, broken: Sequence[int]) -> Combination | None:
    """The combination without some of its parts; None where it cannot do without."""
    if not broken or by in (min, lowest, product):
        return by
    if isinstance(by, Weights | Powers):
        left = tuple(w for i, w in enumerate(by.of) if i not in broken)
        return type(by)(left) if sum(left) > 0 else None
    return None


def weighted_sum(*parts: tuple[Verifier, float]) -> Combined:
    """The weighted mean of verifiers' scores: `weighted_sum((prm, 0.7), (steps, 0.3))`."""
    return Combined(tuple(v for v, _ in parts), Weights(tuple(w for _, w in parts)))


def weakest(*verifiers: Verifier) -> Combined:
    """The lowest of the verifiers' scores: all of them must like a candidate."""
    return Combined(verifiers, lowest)


def multiplied(*verifiers: Verifier) -> Combined:
    """The product of the verifiers' scores: the probability that all are right, were they independent probabilities."""
    return Combined(verifiers, product)


async def learned(
    verifiers: Sequence[Verifier],
    candidates: Sequence[Candidate],
    correct: Sequence[bool],
    run: Run,
    *,
    penalty: float = 1.0,
) -> Combined:
    """A logistic combination, fitted to labelled candidates: what the verifiers say of them is asked once, and paid from `run`.

    Raises `BadInput` as `Logistic.fit` does, naming a verifier that could judge none.
    """
    asked = (scored(each, candidates, run.child("learn", i)) for i, each in enumerate(verifiers))
    columns = await together(asked)
    for each, column in zip(verifiers, columns, strict=True):
        if all(math.isnan(score.value) for score in column):
            raise BadInput(f"learned: {name_of(each)} judged none of {len(candidates)} candidates: {column[0].error}")
    rows = np.array([[score.value for score in column] for column in columns], dtype=np.float64).T
    return Combined(tuple(verifiers), Logistic.fit(rows, correct, penalty=penalty))


def _check_weights(weights: Sequence[float]) -> None:
    if not weights or min(weights) < 0 or not 0 < math.fsum(weights) < math.inf:
        raise BadInput(f"weights {tuple(weights)}: numbers, 0 or more, and one above 0 are needed")
