"""Resampling against its exact moments. Seeds are fixed; with others each test would fail a correct implementation with a
chance below 1e-4 (thresholds of 5 standard errors: 6e-7 a comparison)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.strategies.searches import multinomial, residual, stratified, systematic

RESAMPLERS = {each.__name__: each for each in (multinomial, stratified, systematic, residual)}
WEIGHTS = {
    "skewed": [0.02, 0.31, 0.0, 0.11, 0.46, 0.1],
    "flat": [0.21, 0.19, 0.2, 0.22, 0.18],
    "whole": [0.5, 0.25, 0.0, 0.25],
    "heavy": [0.9, 0.02, 0.05, 0.03],
    "ends of zero": [0.0, 0.3, 0.37, 0.33, 0.0],
}
DRAWS = 3000


def counts(name: str, weights: np.ndarray, n: int) -> np.ndarray:
    """How often each index is drawn, shape (DRAWS, m)."""
    rng = np.random.default_rng(7)
    return np.array([np.bincount(RESAMPLERS[name](weights, n, rng), minlength=len(weights)) for _ in range(DRAWS)])


def variance(name: str, weights: np.ndarray, n: int, f: np.ndarray) -> float:
    """The exact variance of Σ f(index)."""

    def spread(shares: np.ndarray) -> float:
        return float(shares @ f**2 - (shares @ f) ** 2)

    if name == "multinomial":
        return n * spread(weights)
    edges = np.concatenate([[0.0], np.cumsum(weights)]) * n
    if name == "stratified":
        return math.fsum(spread(np.diff(np.clip(edges, k, k + 1))) for k in range(n))
    if name == "residual":
        left = n * weights - np.floor(n * weights + 1e-9)
        left[left < 1e-9] = 0
        return left.sum() * spread(left / left.sum()) if left.any() else 0.0
    cuts = np.unique(np.concatenate([[0.0, 1.0], edges % 1]))  # between two cuts of u, the indices are the same
    middles, lengths = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    last = np.flatnonzero(weights)[-1]
    found = np.searchsorted(edges[1:], np.arange(n) + middles[:, None], side="right")  # shape (cuts, n)
    sums = f[np.minimum(found, last)].sum(axis=1)
    return float(lengths @ sums**2 - (lengths @ sums) ** 2)


@pytest.mark.parametrize("name", RESAMPLERS)
@pytest.mark.parametrize("case", WEIGHTS)
def test_counts_have_their_exact_mean_and_variance(name: str, case: str) -> None:
    # At most 6 means and 3 variances of 5 standard errors each: below 1e-5.
    weights, n = np.array(WEIGHTS[case]), 8
    drawn = counts(name, weights, n)
    assert (drawn.sum(axis=1) == n).all()
    assert not drawn[:, weights == 0].any()
    for i, column in enumerate(drawn.T):
        spread = math.sqrt(variance(name, weights, n, np.eye(len(weights))[i]))
        assert abs(column.mean() - n * weights[i]) <= 5 * spread / math.sqrt(DRAWS) + 1e-9
    for f in (np.arange(len(weights)) * 1.0, np.sin(5.0 * np.arange(len(weights))), np.eye(len(weights))[1]):
        exact, sums = variance(name, weights, n, f), drawn @ f
        around = (sums - n * weights @ f) ** 2  # the exact mean, so that their mean is unbiased
        assert abs(around.mean() - exact) <= 5 * around.std() / math.sqrt(DRAWS) + 1e-9


@given(st.data())
def test_what_is_drawn(data: st.DataObject) -> None:
    sizes = st.one_of(st.just(0.0), st.floats(1e-12, 1.0), st.floats(0.0, 1e-300), st.just(1.0))
    weights = np.array(data.draw(st.lists(sizes, min_size=1, max_size=30).filter(lambda w: sum(w) > 0)))
    weights = weights / weights.sum()
    n = data.draw(st.integers(1, 50))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for name, resample in RESAMPLERS.items():
        indices = resample(weights, n, rng)
        assert indices.shape == (n,)
        assert (np.diff(indices) >= 0).all()
        assert indices.min() >= 0
        assert indices.max() < len(weights)
        assert (weights[indices] > 0).all(), name
        if name in ("systematic", "residual"):
            drawn = np.bincount(indices, minlength=len(weights))
            assert (drawn >= np.floor(n * weights - 1e-6)).all()
            assert name == "residual" or (drawn <= np.ceil(n * weights + 1e-6)).all()


class Edge:
    """A generator that draws the greatest number below 1, or the least."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self, n: int | None = None) -> float | np.ndarray:
        return self.value if n is None else np.full(n, self.value)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("weights", [[0.0, 0.1, 0.2, 0.7, 0.0], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3, 0.0], [1.0]])
def test_the_edges_of_the_unit_interval_meet_no_weight_of_zero(u: float, weights: list[float]) -> None:
    for resample in RESAMPLERS.values():
        for n in (1, 2, 3, 7, 49, 50):
            drawn = resample(np.array(weights), n, Edge(u))  # type: ignore[arg-type]
            assert len(drawn) == n
            assert (np.array(weights)[drawn] > 0).all()


@given(st.data())
def test_what_is_known_of_the_order_of_variances(data: st.DataObject) -> None:
    """Stratified and residual are never above multinomial (Douc, Cappé & Moulines, 2005). Systematic can be; but what it draws
    from a run of neighbouring indices is the floor or ceiling of its mean, which no unbiased draw of whole numbers can have at
    less variance. Where f is monotone its strata move together, which puts it above stratified. The variances are the exact
    ones, to which the draws are held above."""
    m, n = data.draw(st.integers(2, 8)), data.draw(st.integers(1, 12))
    weights = np.array(data.draw(st.lists(st.floats(0.01, 1.0), min_size=m, max_size=m)))
    weights /= weights.sum()
    f = np.array(data.draw(st.lists(st.floats(-1.0, 1.0), min_size=m, max_size=m)))

    def of(name: str, values: np.ndarray) -> float:
        return variance(name, weights, n, values)

    assert of("stratified", f) <= of("multinomial", f) + 1e-9
    assert of("residual", f) <= of("multinomial", f) + 1e-9
    assert of("systematic", np.sort(f)) >= of("stratified", np.sort(f)) - 1e-9
    start = data.draw(st.integers(0, m - 1))
    block = (np.arange(m) >= start) & (np.arange(m) <= data.draw(st.integers(start, m - 1)))
    for other in ("multinomial", "stratified", "residual"):
        assert of("systematic", block * 1.0) <= of(other, block * 1.0) + 1e-9
