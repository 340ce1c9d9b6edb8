"""When to stop, against closed forms, brute force and sequences worked by hand; ESC's cost against its formula."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate
from support import said

from reasonweave.orchestrator import BadInput, Candidate, Candidates, Problem, Run, chain, solve
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies import (
    ESC,
    AdaptiveConsistency,
    BetaStop,
    Consensus,
    DirichletStop,
    EntropyStop,
    MajorityStop,
    esc_expected,
    majority,
    weighted,
    whole,
)
from reasonweave.strategies.searches.adaptive import beta_leads, dirichlet_leads


def voted(*counts: int, silent: int = 0) -> Candidates:
    """Candidates that give answers 1, 2, … so many times, and some that give none."""
    answers = [str(i) for i, count in enumerate(counts, 1) for _ in range(count)]
    return Candidates(tuple(said(answer) for answer in [*answers, *[None] * silent]))


# Beta.


def beta_exactly(a: int, b: int) -> Fraction:
    """P(Beta(a + 1, b + 1) > ½) = P(at most a of a + b + 1 fair coins show heads)."""
    n = a + b + 1
    return Fraction(sum(math.comb(n, k) for k in range(a + 1)), 2**n)


@pytest.mark.parametrize("a", range(0, 45, 4))
def test_beta_against_the_closed_form_and_integration(a: int) -> None:
    for b in range(0, a + 1, 3):
        assert beta_leads(a, b) == pytest.approx(float(beta_exactly(a, b)), abs=1e-12)
        above, everywhere = (integrate.quad(lambda x: x**a * (1 - x) ** b, low, 1)[0] for low in (0.5, 0))  # noqa: B023
        assert BetaStop().probability(voted(a, b)) == pytest.approx(above / everywhere, abs=1e-6)


def test_four_votes_without_a_contradiction_are_enough_and_three_are_not() -> None:
    assert BetaStop().probability(voted(4)) == 1 - 2**-5
    assert BetaStop().probability(voted(3)) == 1 - 2**-4
    assert BetaStop()(voted(4))
    assert not BetaStop()(voted(3))
    assert BetaStop()(voted(6, 1))  # 1 − 9/256
    assert not BetaStop()(voted(5, 1))  # 1 − 8/128


def test_beta_reads_the_two_most_frequent_answers_alone() -> None:
    assert BetaStop().probability(voted(2, 7, 1, 2)) == pytest.approx(float(beta_exactly(7, 2)))
    assert BetaStop().probability(voted(5, 5)) == pytest.approx(0.5)


# Dirichlet.


def dirichlet_exactly(counts: Sequence[int]) -> Fraction:
    """P(the first of independent gamma variables is the greatest), their shapes being whole numbers.

    P(X < x) = 1 − e^−x Σ_{j<shape} xʲ / j!; the product over the others is written out, and each term is a gamma integral.
    """
    first, *others = (count + 1 for count in counts)
    total = Fraction(0)
    for chosen in itertools.chain.from_iterable(itertools.combinations(others, k) for k in range(len(others) + 1)):
        for powers in itertools.product(*(range(shape) for shape in chosen)):
            top = first + sum(powers) - 1
            below = math.factorial(first - 1) * math.prod(math.factorial(power) for power in powers)
            term = Fraction(math.factorial(top), below * (1 + len(chosen)) ** (top + 1))
            total += -term if len(chosen) % 2 else term
    return total


@pytest.mark.parametrize(
    "counts", [(1, 1, 1), (4, 1, 1), (3, 3, 2), (9, 5, 1), (6, 2, 1, 1), (5, 4, 3, 2, 1), (3, 3, 3, 3, 3)]
)
def test_dirichlet_against_an_exact_sum(counts: tuple[int, ...]) -> None:
    assert DirichletStop().probability(voted(*counts)) == pytest.approx(float(dirichlet_exactly(counts)), abs=1e-12)


@pytest.mark.parametrize("counts", [(3, 2, 1), (8, 3, 2)])
def test_dirichlet_against_the_integral_over_the_simplex(counts: tuple[int, int, int]) -> None:
    a, b, c = counts

    def density(y: float, x: float) -> float:
        return x**a * y**b * (1 - x - y) ** c

    def leads(x: float) -> list[float]:  # y and 1 − x − y are both below x
        return [max(0.0, 1 - 2 * x), min(x, 1 - x)]

    exact = {"epsabs": 0.0, "epsrel": 1e-8}
    above, _ = integrate.nquad(density, [leads, [1 / 3, 1]], opts=exact)
    everywhere, _ = integrate.nquad(density, [lambda x: [0.0, 1 - x], [0, 1]], opts=exact)
    assert DirichletStop().probability(voted(*counts)) == pytest.approx(above / everywhere, rel=1e-6)


@pytest.mark.parametrize("counts", [(7, 5, 3, 2, 1), (30, 20, 10, 5, 5)])
def test_dirichlet_against_draws(counts: tuple[int, ...]) -> None:
    draws = np.random.default_rng(0).dirichlet(np.array(counts) + 1, size=200_000)
    p = dirichlet_leads(counts)
    z = ((draws.argmax(axis=1) == 0).mean() - p) / math.sqrt(p * (1 - p) / len(draws))
    assert abs(z) < 4.5  # outside by chance once in 150,000


def test_dirichlet_with_fewer_than_three_answers_is_beta_and_reads_five_at_most() -> None:
    assert DirichletStop().probability(voted(4, 1)) == BetaStop().probability(voted(4, 1))
    assert DirichletStop().probability(voted(4)) == BetaStop().probability(voted(4))
    assert DirichletStop().probability(voted(9, 4, 3, 2, 1, 1, 1)) == dirichlet_leads([9, 4, 3, 2, 1])
    assert dirichlet_leads([3, 1]) == pytest.approx(beta_leads(3, 1), abs=1e-12)
    assert DirichletStop().probability(voted(9, 4, 3, 1)) < BetaStop().probability(voted(9, 4, 3, 1))
    assert dirichlet_leads([4000, 3900, 30, 5]) == pytest.approx(beta_leads(4000, 3900), abs=1e-9)


# The others.


def test_entropy_as_published() -> None:
    """A single answer counts as if one more vote had gone elsewhere: H(¾, ¼) = 0.811, H(⅘, ⅕) = 0.722."""
    assert [EntropyStop()(voted(n)) for n in range(1, 6)] == [False, False, False, True, True]
    assert EntropyStop().entropy(voted(4)) == pytest.approx(-0.8 * math.log2(0.8) - 0.2 * math.log2(0.2))
    assert EntropyStop().entropy(voted(2, 1, 1)) == pytest.approx(1.5 / math.log2(3))
    assert EntropyStop().entropy(voted(5, 5)) == pytest.approx(1.0)
    assert EntropyStop()(voted(9, 2))
    assert not EntropyStop()(voted(3, 1))
    assert [EntropyStop(1.0)(voted(*counts)) for counts in ((), (1,), (1, 1))] == [False, False, True]


def test_majority_needs_two_votes_and_the_share() -> None:
    assert [MajorityStop()(voted(*counts)) for counts in ((1,), (2,), (4, 1), (3, 1), ())] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_consensus_is_any_votes_confidence_after_so_many_samples() -> None:
    assert Consensus(0.8, by=majority, least=5)(voted(4, 1))
    assert not Consensus(0.8, by=majority, least=6)(voted(4, 1))
    assert not Consensus(0.8, by=majority, least=1)(Candidates())
    scores = Candidates((said("1", 0.9), said("2", 0.05), said("2", 0.05)))
    assert Consensus(0.9, by=weighted, least=1)(scores)
    assert not Consensus(0.9, by=majority, least=1)(scores)
    weights = Candidates(tuple(replace(said(x), log_weight=w) for x, w in (("1", 3.0), ("2", -math.inf), ("1", 0.0))))
    assert Consensus(1.0, least=3)(weights)


@pytest.mark.parametrize("rule", [BetaStop(), DirichletStop(), EntropyStop(), MajorityStop()])
def test_who_gives_no_answer_abstains(rule: BetaStop) -> None:
    for counts in ((), (1,), (4,), (6, 1), (2, 2), (5, 1, 1)):
        assert rule(voted(*counts)) == rule(voted(*counts, silent=5))
    assert not rule(Candidates())
    assert not rule(voted(silent=9))


def test_levels_outside_of_the_unit_interval_are_refused() -> None:
    for make in (BetaStop, DirichletStop, EntropyStop, MajorityStop, Consensus):
        with pytest.raises(BadInput, match=r"level is in 0\.\.1"):
            make(1.5)


def test_a_rule_is_a_graphs_condition() -> None:
    graph = chain(AdaptiveConsistency(whole(model("1 2 1 1 1 1")), n=6), majority)
    graph.add("more", majority, after="majority", when=BetaStop())
    assert solve("q", graph).answer == "1"


# Adaptive-Consistency by hand.


def model(answers: str) -> ScriptedModel:
    """Says these answers one after another; a dash is no answer."""
    return ScriptedModel(["I do not know" if answer == "-" else rf"\boxed{{{answer}}}" for answer in answers.split()])


def answers(candidates: Candidates) -> str:
    return " ".join(candidate.answer or "-" for candidate in candidates)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("1 1 1 1 1 1", "1 1 1 1"),  # 1 − 2⁻⁵
        ("1 2 1 1 1 1 1 1", "1 2 1 1 1 1 1"),  # six to one: 1 − 9/256 = 0.965; five to one: 0.9375
        ("2 1 1 1 3 1 1 1 1", "2 1 1 1 3 1 1 1"),  # six to one: the third answer does not count
        ("- 1 1 - 1 1 1", "- 1 1 - 1 1"),
        ("1 2 1 2 1 2 1 2 1 2", "1 2 1 2 1 2 1 2 1 2"),
    ],
)
def test_adaptive_consistency_on_sequences_worked_by_hand(given: str, read: str) -> None:
    scripted = model(given)
    result = solve("q", chain(AdaptiveConsistency(whole(scripted), n=10), majority), seed=1)
    assert answers(result.candidates) == read
    assert len(scripted.calls) == len(result.candidates)


# ESC by hand.


@pytest.mark.parametrize(
    ("given", "read", "answer"),
    [
        ("1 1 1 2 2 2", "1 1 1", "1"),
        ("1 1 2 2 2 2 1 1 1", "2 2 2", "2"),
        (
            "1 1 2 1 1 2 2 2 2 3 3 3",
            "2 2 2",
            "2",
        ),  # four to five of all: the window's answer, and not its count, decides
        ("1 1 2 1 1 2 3 3 3", "3 3 3", "3"),  # three to four of all: a majority of all would say 1
        ("1 1 2 1 2 2 1 2 3 1", "1 1 2 1 2 2 1 2 3 1", "1"),  # four to four; one more at the end
        ("- - - 1 1 - 1 1 1", "1 1 1", "1"),  # no answer is no agreement
        ("1 1 - 1 - 1 1 1 - 1", "1 1 - 1 - 1 1 1 - 1", "1"),
        ("1 1 2 2 1 1 2 1 2 2", "1 1 2 2 1 1 2 1 2 2", None),  # the last one is alone and agrees with itself: no window
    ],
)
def test_esc_on_sequences_worked_by_hand(given: str, read: str, answer: str | None) -> None:
    scripted = model(given)
    result = solve("q", chain(ESC(whole(scripted), n=10, window=3), majority), seed=1)
    assert answers(result.candidates) == read
    assert answer is None or result.answer == answer
    assert [len(batch) for batch in scripted.calls] == [3, 3, 3, 1][: len(scripted.calls)]


def test_a_window_of_one_is_refused() -> None:
    with pytest.raises(BadInput, match="one sample always agrees with itself"):
        ESC(whole(ScriptedModel()), window=1)


# ESC's cost.


def published(p: Sequence[float], w: int, n: int) -> float:
    """The control scheme's formula, as printed, for n a multiple of w."""
    q, k = sum(chance**w for chance in p), n // w
    return w * (sum((i + 1) * q * (1 - q) ** i for i in range(k - 1)) + k * (1 - q) ** (k - 1))


@pytest.mark.parametrize("p", [[1.0], [0.5, 0.5], [0.9, 0.05, 0.05], [0.7, 0.2], [0.0]])
@pytest.mark.parametrize(("w", "n"), [(5, 40), (2, 10), (8, 8), (3, 30)])
def test_expected_samples_as_published(p: list[float], w: int, n: int) -> None:
    assert esc_expected(p, w, n) == pytest.approx(published(p, w, n), rel=1e-12)


@dataclass(frozen=True)
class Draws:
    """A policy whose answers come with these chances; what is left over is no answer."""

    p: tuple[float, ...]

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        edges = np.cumsum(self.p)
        found = np.searchsorted(edges, run.rng().random(len(candidates)), side="right")
        return [said(str(at) if at < len(self.p) else None) for at in found]


def drawn(search: ESC | AdaptiveConsistency, seed: int) -> int:
    """How many samples it draws."""

    async def count() -> int:
        return max([len(found) async for found in search.search(Candidates.of(Problem("q")), Run(seed))])

    return asyncio.run(count())


@pytest.mark.parametrize(
    ("p", "window", "n"),
    [((0.6, 0.3, 0.1), 3, 12), ((0.8, 0.2), 5, 40), ((0.7, 0.2), 4, 10), ((0.5, 0.3), 2, 9)],
)
def test_esc_draws_as_many_samples_as_its_formula_says(p: tuple[float, ...], window: int, n: int) -> None:
    counts = np.array([drawn(ESC(Draws(p), n=n, window=window), seed) for seed in range(600)])
    z = (counts.mean() - esc_expected(p, window, n)) / (counts.std(ddof=1) / math.sqrt(len(counts)))
    assert abs(z) < 4.5  # outside by chance once in 150,000, four times


def test_adaptive_consistency_draws_as_many_samples_as_a_recursion_over_counts_says() -> None:
    """Two answers: the number of samples is that of a walk over (a, b), worked out exactly."""
    p, n = 0.75, 12

    def expected(a: int, b: int) -> float:
        if a + b == n or beta_exactly(max(a, b), min(a, b)) >= Fraction(95, 100):
            return a + b
        return p * expected(a + 1, b) + (1 - p) * expected(a, b + 1)

    counts = np.array([drawn(AdaptiveConsistency(Draws((p, 1 - p)), n=n), seed) for seed in range(300)])
    z = (counts.mean() - expected(0, 0)) / (counts.std(ddof=1) / math.sqrt(len(counts)))
    assert abs(z) < 4.5  # outside by chance once in 150,000
