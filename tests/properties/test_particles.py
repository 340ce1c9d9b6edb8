"""Particle methods against the truth, on a toy whose every solution can be listed (tests/toy.py).

Seeds are fixed, so these tests give the same result every time. Their thresholds are such that with other seeds each test
would fail a correct implementation with a chance below 1e-4: a z value of 4.5 has 7e-6, and LEVEL is the p-value of a
chi-square. Tests that something wrong is noticed fail about as rarely: what they reject is off by a multiple of the threshold.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from toy import PROBLEM, Exact, Table, Toy, Walk, p_value, searched, z_value

from reasonweave.orchestrator import Candidate, Candidates, Run, Score
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.strategies import BestOfN, best
from reasonweave.strategies.searches import (
    Entropic,
    EssBelow,
    ParticleFilter,
    ParticleGibbs,
    Ratio,
    Steady,
    Tilted,
    by_entropy,
    by_ess,
    by_progress,
    log_reward,
    residual,
    stratified,
    systematic,
    twisted,
)
from reasonweave.strategies.searches.particle import _trail

LEVEL = 1e-5
TOY = Toy(6, depth=4, early=0.35)
"""Seven solutions of one, three and four letters. Its early rewards mislead: a filter of three particles is far off."""
FULL = Toy(27, depth=3, early=0.0)
"""Eight solutions of three letters, so that the rest of each can follow every prefix: ancestors matter."""
SMC = ParticleFilter(Walk(TOY), Table(TOY.rewards), 4, potential=log_reward, weighing=Ratio())

Function = Callable[[str], float]
FUNCTIONS: tuple[Function, ...] = (
    lambda text: float(text.startswith("b")),
    lambda text: float(len(text)),
    lambda text: TOY.rewards[text] ** 2,
)


def expectation(f: Function) -> float:
    """E[f] under the exact posterior."""
    return math.fsum(share * f(leaf) for share, leaf in zip(TOY.posterior, TOY.leaves, strict=True))


def estimates(f: Function, found: Sequence[Candidates]) -> np.ndarray:
    """E[f] by the normalised weights of each set."""
    return np.array([math.fsum(w * f(c.text) for w, c in zip(s.weights, s, strict=True)) for s in found])


def evidences(found: Sequence[Candidates]) -> np.ndarray:
    return np.exp([s.log_evidence for s in found])


VARIANTS = {
    "multinomial at every step": SMC,
    "systematic below half": replace(SMC, when=EssBelow(0.5), resample=systematic),
    "tempered": replace(SMC, temperature=Steady(2.0)),
    "finished ones set aside": replace(SMC, absorbing=False),
    "look-ahead": replace(SMC, look_ahead=True),
    "all of it": replace(
        SMC, absorbing=False, look_ahead=True, temperature=Steady(2.0), when=EssBelow(0.9), resample=residual
    ),
    "stratified, tilted proposal": replace(SMC, policy=Tilted(SMC.policy, SMC.verifier, 2), n=2, resample=stratified),
    "by a million": replace(SMC, temperature=Entropic(by_entropy, threshold=1.0, early=1.0), resample=systematic),
}
EXTRA = list(VARIANTS)[-3:]


@pytest.mark.parametrize("name", VARIANTS)
def test_evidence_and_unnormalised_means_are_unbiased(name: str) -> None:
    # Σ W f / n is unbiased for Z E[f], whatever the schedule of resampling. 4 z values of 4.5: 3e-5.
    found = searched(VARIANTS[name], range(1000 if name in EXTRA else 2000))
    z = evidences(found)
    assert abs(z_value(z, TOY.evidence)) < 4.5
    for f in FUNCTIONS:
        assert abs(z_value(z * estimates(f, found), TOY.evidence * expectation(f))) < 4.5


def test_posterior_means_converge_with_the_root_of_the_particles() -> None:
    # The log of an RMSE over R runs has a standard error of 1 / √(2 R), the slope through five of them one of 0.022 here. The
    # true slopes, with 5 to 15 times the runs, are -0.497 to -0.511. A band of 0.12 is 5 standard errors: 2e-6.
    runs = {4: 400, 16: 200, 64: 100, 256: 50, 1024: 25}
    errors = []
    for n, times in runs.items():
        found = searched(replace(SMC, n=n), range(n * 1000, n * 1000 + times))
        errors.append([math.sqrt(np.mean((estimates(f, found) - expectation(f)) ** 2)) for f in FUNCTIONS])
    slopes = np.polyfit(np.log(list(runs)), np.log(errors), 1)[0]
    assert np.all(np.abs(slopes + 0.5) < 0.12), slopes


# Particle Gibbs: a kernel that leaves the posterior as it is.


def after_sweeps(gibbs: ParticleGibbs, toy: Toy, runs: range, *, final: bool = False) -> list[str]:
    """From an exact posterior draw, once a run, three conditional sweeps; the last reference. `final` does it wrong: the
    reference is weighed by the score of its end at every step."""

    async def one(run: Run) -> str:
        end = run.child("exact").rng().choice(toy.leaves, p=toy.posterior)
        reference = [toy.candidate(end[: k + 1]) for k in range(len(end))]
        for sweep in range(3):
            if final:
                reference = [replace(c, score=Score(toy.rewards[reference[-1].text])) for c in reference]
            here, history, parents = run.child("sweep", sweep), list[Candidates](), list[np.ndarray]()
            async for _ in gibbs._sweep(Candidates.of(PROBLEM), reference, history, parents, here):
                pass
            k = int(here.child("reference").rng().choice(gibbs.filter.n, p=history[-1].weights))
            reference = _trail(k, history, parents)
        return reference[-1].text

    async def every() -> list[str]:
        return [await one(Run(seed)) for seed in runs]

    return asyncio.run(every())


def three(toy: Toy) -> ParticleFilter:
    return replace(SMC, policy=Walk(toy), verifier=Table(toy.rewards), n=3)


@pytest.mark.parametrize(
    ("toy", "gibbs", "runs"),
    [
        (TOY, ParticleGibbs(three(TOY)), 1200),
        (TOY, ParticleGibbs(replace(three(TOY), when=EssBelow(0.7)), ancestors=Exact(TOY)), 400),
        (FULL, ParticleGibbs(three(FULL), ancestors=Exact(FULL)), 400),
    ],
    ids=["plain", "ancestors below 0.7", "ancestors"],
)
def test_particle_gibbs_leaves_the_posterior_as_it_is(toy: Toy, gibbs: ParticleGibbs, runs: int) -> None:
    assert p_value(toy.counts(after_sweeps(gibbs, toy, range(runs))), toy.posterior) > LEVEL


def test_a_reference_weighed_by_its_end_is_noticed() -> None:
    # A noncentrality of about 100, and the threshold is 33: chi-square stays below it with a chance of 1e-6.
    texts = after_sweeps(ParticleGibbs(three(TOY)), TOY, range(1200), final=True)
    assert p_value(TOY.counts(texts), TOY.posterior) < LEVEL


def drawn(found: Sequence[Candidates]) -> list[str]:
    """One particle of each set, by weight."""
    return [s[int(Run(i).rng().choice(len(s), p=s.weights))].text for i, s in enumerate(found)]


def test_a_filter_of_three_is_noticed() -> None:
    # A noncentrality of about 300.
    assert p_value(TOY.counts(drawn(searched(three(TOY), range(1000)))), TOY.posterior) < LEVEL


def test_sweeps_take_the_filter_to_the_posterior() -> None:
    # Through the public door. After one sweep the noncentrality is about 27; after six, 1500 draws do not tell (p = 0.7).
    found = searched(ParticleGibbs(replace(SMC, n=8), sweeps=6), range(200))
    assert p_value(TOY.counts(drawn(found)), TOY.posterior) > LEVEL


class Blind(Exact):
    """A reader that does not ask whether a text may end, as models that read a text do not (`Reading`)."""

    async def read(self, before: Sequence[Candidate], after: Sequence[Candidate], run: Run) -> list[float]:
        return await super().read(before, [replace(c, done=c.text not in self.toy.chances) for c in after], run)


def test_a_finished_reference_keeps_its_end() -> None:
    short = min(TOY.leaves, key=len)
    gibbs = ParticleGibbs(SMC, ancestors=Blind(TOY))

    async def swept(run: Run) -> list[Candidates]:
        return [found async for found in gibbs._sweep(roots, [TOY.candidate(short)] * 4, [], [], run)]

    roots = Candidates.of(PROBLEM)
    for seed in range(20):
        assert {found[0].text for found in asyncio.run(swept(Run(seed)))} == {short}


@pytest.mark.parametrize("ancestors", [False, True])
@pytest.mark.parametrize("toy", [TOY, FULL], ids=["of any length", "full"])
def test_sweeps_end_in_solutions_with_their_own_scores(toy: Toy, ancestors: bool) -> None:
    gibbs = ParticleGibbs(three(toy), sweeps=4, ancestors=Exact(toy) if ancestors else None)
    for found in searched(gibbs, range(60)):
        assert {c.text for c in found} <= set(toy.leaves)
        assert all(c.score == Score(toy.rewards[c.text]) for c in found)


class Silent:
    """A reader that cannot tell."""

    async def read(self, before: Sequence[Candidate], after: Sequence[Candidate], run: Run) -> list[float]:
        return [math.nan] * len(after)


def test_a_reference_keeps_its_ancestors_where_nobody_can_read_them() -> None:
    plain, silent = (searched(ParticleGibbs(SMC, ancestors=reader), range(50)) for reader in (None, Silent()))
    assert [[c.text for c in s] for s in plain] == [[c.text for c in s] for s in silent]


# Twisted sequential Monte Carlo: exact values, exact proposals.

PERFECT = Walk(
    TOY,
    {
        prefix: {child: p * TOY.values[child] / TOY.values[prefix] for child, p in nexts.items()}
        for prefix, nexts in TOY.chances.items()
    },
)


@pytest.mark.parametrize("always", [True, False], ids=["every step", "as published"])
def test_an_exact_twist_has_weights_without_variance(always: bool) -> None:
    smc = twisted(PERFECT, Table(TOY.values), 5, power=1.0)
    for found in searched(replace(smc, when=lambda weights: True) if always else smc, range(100)):
        np.testing.assert_allclose(found.log_weights, math.log(TOY.evidence), atol=1e-9)


def test_an_exact_twist_draws_from_the_posterior() -> None:
    found = searched(twisted(PERFECT, Table(TOY.values), 1, power=1.0), range(1000))
    assert p_value(TOY.counts([s[0].text for s in found]), TOY.posterior) > LEVEL


def test_half_a_twist_is_unbiased_at_the_end() -> None:
    found = searched(twisted(Walk(TOY), Table(TOY.values), 4), range(2000))
    z = evidences(found)
    assert abs(z_value(z, TOY.evidence)) < 4.5
    for f in FUNCTIONS:
        assert abs(z_value(z * estimates(f, found), TOY.evidence * expectation(f))) < 4.5


def test_a_wider_tilt_has_less_variance() -> None:
    # It falls as 1 / width, so by 4 each time; the log of each variance has a standard error of about 0.1, so that their
    # difference is 5 of its own away from log 2.
    values = Table(TOY.values)
    spreads = []
    for width in (1, 4, 16):
        smc = replace(SMC, policy=Tilted(Walk(TOY), values, width), verifier=values, n=2)
        spreads.append(np.var([s.log_evidence for s in searched(smc, range(400))]))
    assert spreads[1] < spreads[0] / 2
    assert spreads[2] < spreads[1] / 2


# Best of n: the maximum of n draws, ties to the first.


@pytest.mark.parametrize("n", [2, 5])
def test_best_of_n_has_the_distribution_of_a_maximum(n: int) -> None:
    levels = np.array([round(2 * TOY.rewards[leaf]) / 2 for leaf in TOY.leaves])
    below = np.array([TOY.prior[levels < level].sum() for level in levels])
    upto = np.array([TOY.prior[levels <= level].sum() for level in levels])
    shares = (upto**n - below**n) * TOY.prior / (upto - below)
    assert len(set(levels)) < len(levels)
    found = searched(BestOfN(Walk(TOY), n, Table(dict(zip(TOY.leaves, levels, strict=True)))), range(2000))
    ended = [best(replace(s, seed=seed)).answer or "" for seed, s in enumerate(found)]
    assert p_value(TOY.counts(ended), shares) > LEVEL


# Entropic temperatures, by hand.

HALF = np.array([0.5, 0.5, 0.0, 0.0])  # ESS 2 of 4, entropy log 2 of log 4
ONE = np.array([1.0, 0.0, 0.0, 0.0])
MOST = np.array([0.7, 0.1, 0.1, 0.1])  # Σ w² = 0.52, ESS / n = 1 / 2.08


def test_the_schedules_by_hand() -> None:
    assert by_ess(HALF, 0.25) == pytest.approx(2 * 0.75)
    assert by_ess(ONE, 0.0) == pytest.approx(4)
    assert by_ess(MOST, 0.0) == pytest.approx(2.08)
    assert by_entropy(HALF, 0.0) == pytest.approx(2)
    assert by_entropy(HALF, 0.5) == pytest.approx(1 / 0.75)
    assert by_entropy(ONE, 0.25) == pytest.approx(4)
    assert by_entropy(ONE, 0.0) == math.inf
    entropy = -(0.7 * math.log(0.7) + 0.3 * math.log(0.1)) / math.log(4)
    assert by_entropy(MOST, 0.25) == pytest.approx(1 / (entropy + (1 - entropy) / 4))
    assert by_progress(ONE, 0.25) == 1.75


def test_the_gates_of_entropic_annealing() -> None:
    temperature = Entropic(horizon=8)
    assert temperature(MOST, 0) == pytest.approx(2.08)
    assert temperature(MOST, 3) == pytest.approx(2.08 * 5 / 8)
    assert temperature(MOST, 4) == 1  # half-way is not early
    assert temperature(MOST, 99) == 1
    assert temperature(HALF, 0) == 1  # ESS / n of one half is not below it
    assert Entropic(threshold=0.6, horizon=8)(HALF, 0) == pytest.approx(2)
    assert Entropic(threshold=0.6, early=1.0, horizon=8)(HALF, 6) == 1  # 2 · (1 − 6/8) is below 1
    assert Entropic(by_progress, horizon=4)(ONE, 1) == 1.75
    assert Entropic(by_entropy)(ONE, 0) == 1e6
    assert Entropic(by_entropy, threshold=1.0)(np.array([1.0]), 0) == 1
    assert temperature(np.array([1.0]), 0) == 1


# Nothing to go by: zero weights, nan scores, failed candidates.

NOTHING = {"zero": dict.fromkeys(TOY.rewards, 0.0), "nan": dict.fromkeys(TOY.rewards, math.nan)}


@pytest.mark.parametrize("values", NOTHING)
@pytest.mark.parametrize(
    "other",
    [{}, {"absorbing": False}, {"look_ahead": True}, {"resample": residual}],
    ids=["plain", "aside", "ahead", "residual"],
)
def test_where_nothing_has_weight_all_are_equal(values: str, other: dict[str, object]) -> None:
    smc = replace(SMC, verifier=Table(NOTHING[values]), **other)
    found = searched(smc, range(120))
    for s in found:
        np.testing.assert_allclose(s.weights, 0.25)
        assert s.log_evidence == -math.inf
    # Any particle is then a draw from the model.
    assert p_value(TOY.counts([s[0].text for s in found]), TOY.prior) > LEVEL


@pytest.mark.parametrize("values", NOTHING)
@pytest.mark.parametrize("reader", [None, Exact(TOY)], ids=["plain", "ancestors"])
def test_sweeps_go_on_where_nothing_has_weight(values: str, reader: Exact | None) -> None:
    gibbs = ParticleGibbs(replace(SMC, verifier=Table(NOTHING[values])), sweeps=2, ancestors=reader)
    found = searched(gibbs, range(120))
    assert p_value(TOY.counts([s[0].text for s in found]), TOY.prior) > LEVEL


@dataclass(frozen=True)
class Failing:
    """A policy whose requests fail for good where the text begins with these letters."""

    inner: StepPolicy
    letters: str

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        made = await self.inner.extend(candidates, run)
        return [
            replace(old, done=True, failed="gone") if new.text.startswith(self.letters) else new
            for old, new in zip(candidates, made, strict=True)
        ]


LOST = "aba"
LEFT = math.fsum(TOY.p[leaf] * TOY.rewards[leaf] for leaf in TOY.leaves if not leaf.startswith(LOST))
PARTLY = {
    "fails": replace(SMC, policy=Failing(Walk(TOY), LOST)),
    "nan": replace(SMC, verifier=Table({t: math.nan if t.startswith(LOST) else r for t, r in TOY.rewards.items()})),
    "zero": replace(SMC, verifier=Table({t: 0.0 if t.startswith(LOST) else r for t, r in TOY.rewards.items()})),
}


@pytest.mark.parametrize("name", PARTLY)
def test_what_cannot_be_scored_has_no_weight_and_the_rest_no_bias(name: str) -> None:
    found = searched(PARTLY[name], range(700))
    assert 0 < LEFT < TOY.evidence
    assert abs(z_value(evidences(found), LEFT)) < 4.5
    for s in found:
        lost = [w for c, w in zip(s, s.weights, strict=True) if c.failed or c.text.startswith(LOST)]
        assert sum(lost) == 0 or len(lost) == len(s)


def test_where_every_request_fails_the_search_ends() -> None:
    for gone in (
        replace(SMC, policy=Failing(Walk(TOY), "")),
        ParticleGibbs(replace(SMC, policy=Failing(Walk(TOY), ""))),
    ):
        for found in searched(gone, range(3)):
            assert all(c.failed and c.done for c in found)
            np.testing.assert_allclose(found.weights, 0.25)
