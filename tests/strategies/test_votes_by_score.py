from __future__ import annotations

import inspect
import itertools
import math
import typing
from collections import defaultdict
from dataclasses import is_dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from support import said
from toy import p_value

import reasonweave.strategies
from reasonweave.orchestrator import Candidate, Candidates, Problem, Score, Step, Token, solve
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Aggregator, Strategy
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.types import CUT
from reasonweave.strategies import (
    BestOfMajority,
    Borda,
    DeepConfVote,
    LogOdds,
    MajorityOfBests,
    Pessimism,
    SoftBest,
    best,
    majority,
    mean_confidence,
    self_certainty,
    weighted_mean,
)
from reasonweave.strategies.presets import best_of_majority, majority_of_bests, pessimism, soft_best_of_n
from reasonweave.verifiers import ProcessReward

BALLOTS = st.lists(st.tuples(st.sampled_from("123"), st.floats(0, 1)), min_size=1, max_size=8)
TIED = st.lists(st.tuples(st.sampled_from("123"), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=5)


def candidates(*ballots: tuple[str | None, float | None], seed: int = 0) -> Candidates:
    return Candidates(tuple(said(answer, score) for answer, score in ballots), seed=seed)


def masses(shares: dict[str, float], vote: Candidates) -> None:
    """The vote is for an answer with the greatest share, and has it for its confidence."""
    total = sum(shares.values())
    assert vote.answer is not None
    assert shares[vote.answer] == pytest.approx(max(shares.values()), abs=1e-12)
    assert vote.confidence == pytest.approx(max(shares.values()) / total, abs=1e-9)


# Majority-of-the-Bests


@settings(max_examples=60)
@given(TIED, st.integers(1, 4))
def test_majority_of_bests_against_all_subsets(ballots: list[tuple[str, float]], m: int) -> None:
    won: dict[str, float] = defaultdict(float)
    for drawn in itertools.product(range(len(ballots)), repeat=m):
        top = max(ballots[i][1] for i in drawn)
        tied = {i for i in drawn if ballots[i][1] == top}  # by symmetry, each of the tied wins as often
        for i in tied:
            won[ballots[i][0]] += 1 / len(tied)
    masses(won, MajorityOfBests(m)(candidates(*ballots)))


def test_majority_of_bests_between_the_majority_and_best_of_n() -> None:
    some = candidates(("1", 0.9), ("2", 0.5), ("2", 0.4), ("2", 0.3), ("3", 0.7), ("3", 0.6))
    assert MajorityOfBests(1)(some) == majority(some)
    assert MajorityOfBests(1000)(some).answer == best(some).answer == "1"
    mid = MajorityOfBests(2)(some)  # ranks 6 | 3, 2, 1 | 5, 4: (36 − 25, 9, 25 − 9) / 36
    assert (mid.answer, mid.confidence) == ("3", pytest.approx(16 / 36))
    assert MajorityOfBests()(some) == mid  # ⌊√6⌋ = 2


@given(BALLOTS.filter(lambda some: len(some) > 1))
def test_the_adaptive_m_against_its_definition(ballots: list[tuple[str, float]]) -> None:
    n, q = len(ballots), 0.75

    def spread(m: int) -> dict[str, float]:
        order = sorted(r for _, r in ballots)
        shares: dict[str, float] = defaultdict(float)
        for answer, r in ballots:
            low, high = order.index(r), n - order[::-1].index(r)
            shares[answer] += ((high / n) ** m - (low / n) ** m) / (high - low)
        return shares

    sizes = sorted({math.floor(n * q**j) for j in range(40)} - {0}, reverse=True)
    apart = {
        after: sum(abs(spread(after)[a] - spread(before)[a]) for a in "123")
        for before, after in itertools.pairwise(sizes)
    }
    chosen = MajorityOfBests(q=q).size(candidates(*ballots))
    assert apart[chosen] == pytest.approx(min(apart.values()), abs=1e-12)
    assert MajorityOfBests(q=q)(candidates(*ballots)) == MajorityOfBests(chosen)(candidates(*ballots))


# Best-of-Majority


def test_best_of_majority_by_hand() -> None:
    some = candidates(("1", 0.95), ("2", 0.5), ("2", 0.8), ("2", 0.1), ("3", 0.7), ("3", 0.6), ("4", None), (None, 1.0))
    assert [BestOfMajority(t)(some).answer for t in (0.0, 0.2, 0.3, 1.0)] == ["1", "2", "2", "2"]
    assert BestOfMajority(0.2)(some).confidence == 0.8  # 3 and 2 votes of 7 are enough, 1 is not
    assert BestOfMajority(0.0)(some).answer == best(some).answer
    handed_on = BestOfMajority(0.2, k=3)(some)
    assert [(c.answer, c.score and c.score.value) for c in handed_on] == [("2", 0.8), ("3", 0.7)]
    assert [c.answer for c in BestOfMajority(0.0, k=2)(some)] == ["1", "2"]
    assert handed_on.answer == "2"
    assert BestOfMajority(0.2)(some).items == some.items


def test_where_no_answer_is_frequent_enough_the_most_frequent_compete() -> None:
    some = [("1", 0.2), ("1", 0.3), ("2", 0.9), ("2", 0.1), ("3", 0.95)]
    assert {BestOfMajority(0.9)(candidates(*some, seed=seed)).answer for seed in range(20)} == {"2"}


def test_a_share_of_exactly_the_threshold_is_enough() -> None:
    some = candidates(*[("1", 0.9)] * 3, *[("2", 0.1)] * 7)
    assert BestOfMajority(0.3)(some).answer == "1"


# Soft best-of-n and pessimism


@given(BALLOTS, st.floats(0.01, 10))
def test_soft_best_against_the_formula(ballots: list[tuple[str, float]], heat: float) -> None:
    shares: dict[str, float] = defaultdict(float)
    for answer, r in ballots:
        shares[answer] += math.exp((r - 1) / heat)
    masses(shares, SoftBest(heat)(candidates(*ballots)))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.floats(1e-3, 1e3))
def test_the_level_of_pessimism_against_root_finding(scores: list[float], beta: float) -> None:
    def excess(level: float) -> float:
        return sum(max(0.0, r - level) / beta for r in scores) / len(scores) - 1

    level = Pessimism(beta).level(scores)
    assert level == pytest.approx(brentq(excess, min(scores) - 2 * beta, max(scores)), abs=1e-9 * (100 + beta))
    assert excess(level) == pytest.approx(0, abs=1e-9 * (1 + 100 * len(scores) / beta))


@given(BALLOTS, st.floats(0.01, 10))
def test_pessimism_against_the_formula(ballots: list[tuple[str, float]], beta: float) -> None:
    level = brentq(lambda x: sum(max(0.0, r - x) for _, r in ballots) - beta * len(ballots), -1 - 2 * beta, 1)
    shares: dict[str, float] = defaultdict(float)
    for answer, r in ballots:
        shares[answer] += max(0.0, r - level)
    masses(shares, Pessimism(beta)(candidates(*ballots)))


def test_pessimism_is_the_optimum_that_it_claims() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        n, beta, scores = 6, float(rng.uniform(0.05, 2)), rng.random(6)
        share = np.maximum(0, scores - Pessimism(beta).level(scores.tolist())) / beta / n

        def value(p: np.ndarray, beta: float = beta, scores: np.ndarray = scores) -> float:
            return float(p @ scores - beta / 2 * (len(p) * (p**2).sum() - 1))  # χ² from the even one

        assert share.sum() == pytest.approx(1)
        others = rng.dirichlet(np.ones(n), 200)
        near = share + 0.01 * (others - share)
        assert max(value(p) for p in (*others, *near)) <= value(share) + 1e-12


@pytest.mark.parametrize(("soft", "hard"), [(SoftBest(1e-9), SoftBest(1e9)), (Pessimism(1e-300), Pessimism(1e9))])
def test_both_lie_between_best_of_n_and_the_majority(soft: Aggregator, hard: Aggregator) -> None:
    some = candidates(("1", 0.9), ("2", 0.5), ("2", 0.4), ("3", 0.7), ("2", None))
    assert (soft(some).answer, soft(some).confidence) == ("1", pytest.approx(1))
    assert (hard(some).answer, hard(some).confidence) == (
        "2",
        pytest.approx(0.5, abs=1e-6),
    )  # of the four that have a score


@pytest.mark.parametrize("vote", [SoftBest(0.5, draw=True), Pessimism(0.5, draw=True)])
def test_draws_have_the_shares_for_chances(vote: SoftBest | Pessimism) -> None:
    some = candidates(("1", 0.9), ("2", 0.5), ("2", 0.4), ("3", 0.7), (None, 0.9))
    drawn = [vote(replace(some, seed=seed)) for seed in range(4000)]
    shares = {v.answer: v.confidence for v in drawn}
    assert sum(shares.values()) == pytest.approx(1)
    mode = replace(vote, draw=False)(some)
    assert mode.confidence == max(shares.values()) == shares[mode.answer]
    counts = np.array([sum(v.answer == a for v in drawn) for a in "123"])
    assert p_value(counts, np.array([shares[a] for a in "123"])) > 1e-4  # seeds are fixed; by chance once in 10,000


# Votes over scores


def test_borda_by_hand() -> None:
    some = candidates(("1", 0.9), ("2", 0.5), ("2", 0.5), ("1", 0.1), (None, 1.0))  # points for ranks 4, 3½, 3½, 1
    half = Borda(0.5)(some)
    assert (half.answer, half.confidence) == ("2", pytest.approx((3**0.5 + 2**0.5) / (3 + 3**0.5 + 2**0.5)))
    square = Borda(2)(some)
    assert (square.answer, square.confidence) == ("1", pytest.approx(17 / 30))
    assert Borda(1)(some).confidence == 0.5  # 4 + 1 against 2½ + 2½
    assert Borda(0)(some) == majority(some)
    worst = candidates(("1", 0.9), ("2", math.nan), ("2", None))  # 3 against twice (1 + 2) / 2
    assert Borda(1)(worst).confidence == 0.5


@given(st.lists(st.tuples(st.sampled_from("123"), st.floats(0, 1)), min_size=1, max_size=8, unique_by=lambda x: x[1]))
def test_borda_against_the_formula(ballots: list[tuple[str, float]]) -> None:
    points: dict[str, float] = defaultdict(float)
    for k, (answer, _) in enumerate(sorted(ballots, key=lambda x: -x[1]), 1):
        points[answer] += (len(ballots) - k + 1) ** 0.5
    masses(points, Borda()(candidates(*ballots)))


def test_a_large_power_is_best_of_n() -> None:
    some = candidates(*[("2", 0.1 * k) for k in range(9)], ("1", 0.85))
    assert Borda(0.5)(some).answer == "2"
    assert Borda(50)(some).answer == Borda(1e6)(some).answer == "1"


def test_the_mean_by_hand() -> None:
    some = candidates(("1", 0.9), ("1", 0.2), ("2", 0.6), ("2", math.nan), ("3", None))
    assert (weighted_mean(some).answer, weighted_mean(some).confidence) == ("2", 0.6)
    assert weighted_mean(candidates(("1", 5.0), ("2", 7.0))).confidence is None
    assert weighted_mean(candidates(("1", None), ("2", None), ("2", None))).answer == "2"


@given(st.lists(st.tuples(st.sampled_from("123"), st.floats(0.01, 0.99)), min_size=1, max_size=8))
def test_log_odds_against_bayes(ballots: list[tuple[str, float]]) -> None:
    weighed = {
        truth: math.prod(p if answer == truth else 1 - p for answer, p in ballots)
        for truth in {answer for answer, _ in ballots}
    }  # a score says how likely its solution is right, whatever the truth is
    vote = LogOdds()(candidates(*ballots))
    assert vote.answer is not None
    assert weighed[vote.answer] == pytest.approx(max(weighed.values()))
    assert vote.confidence == pytest.approx(max(weighed.values()) / sum(weighed.values()))


def test_log_odds_are_clipped_and_nothing_is_no_evidence() -> None:
    sure = LogOdds(0.01)(candidates(("1", 1.0), ("2", 0.0), ("1", math.nan), ("1", None)))
    assert sure.confidence == pytest.approx(99**2 / (99**2 + 1))
    assert LogOdds()(candidates(("1", 0.4), ("1", 0.4), ("2", 0.5))).answer == "2"
    assert LogOdds()(candidates(("1", None), ("2", math.nan), ("2", None))).answer == "2"


# All aggregators


def aggregators() -> dict[str, Aggregator]:
    """Whatever `reasonweave.strategies` exports that is a function of a set to a set, or builds one without being told how."""
    found: dict[str, Aggregator] = {}
    for name in reasonweave.strategies.__all__:
        part = getattr(reasonweave.strategies, name)
        if inspect.isclass(part):
            fields = (
                inspect.signature(part).parameters.values()
                if is_dataclass(part) and "__call__" in vars(part)
                else [None]
            )
            if any(p is None or p.default is p.empty for p in fields):
                continue
            part = part()
        if callable(part) and not isinstance(part, Strategy):
            call = part if inspect.isfunction(part) else type(part).__call__
            hints = typing.get_type_hints(call)
            needed = [p.name for p in inspect.signature(part).parameters.values() if p.default is p.empty]
            if hints.get("return") is Candidates and len(needed) == 1 and hints[needed[0]] is Candidates:
                found[name] = part
    return found


ALL = aggregators()
BY_ORDER = {"first"}
"""Those that the order decides, by their definition."""
ALWAYS = {
    "majority",
    "weighted",
    "best",
    "heaviest",
    "posterior",
    "weighted_mean",
    "perplexity",
    "perplexity_consistency",
    "RPC",
    "Borda",
    "LogOdds",
    "MajorityOfBests",
    "BestOfMajority",
    "SoftBest",
    "Pessimism",
}
"""Those that answer where anybody does."""
FURTHER = [
    MajorityOfBests(3),
    MajorityOfBests(q=0.75),
    BestOfMajority(0.3),
    SoftBest(draw=True),
    Pessimism(draw=True),
    Borda(0),
    Borda(2, by=self_certainty),
    DeepConfVote(mean_confidence, keep=1.0),
    DeepConfVote(mean_confidence, keep=0.5),
]
TESTED = {name: vote for name, vote in ALL.items() if name not in BY_ORDER} | {repr(vote): vote for vote in FURTHER}


def test_the_aggregators_are_found() -> None:
    assert {"majority", "weighted", "best", "posterior", "DeepConfVote", "first"} | ALWAYS <= ALL.keys()
    assert {"GenSelect", "log_odds", "rpc"}.isdisjoint(ALL)


@st.composite
def drawn_candidates(draw: st.DrawFn) -> Candidate:
    answer = draw(st.sampled_from(["1", "2", "2.0", "3", None]))
    text = draw(st.sampled_from(["", "so ", "thus "])) + (f"\\boxed{{{answer}}}" if answer else "?")
    score = draw(st.none() | st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 0.5, 1.0]) | st.floats(0, 1))
    logprob = draw(st.none() | st.sampled_from([math.nan, -math.inf, 0.0, -1.0]) | st.floats(-9, 0))
    told = draw(st.lists(st.floats(-9, 0), max_size=3))
    step = Step(
        text,
        "m",
        3,
        logprob,
        tuple(Token("x", p, (("x", p), ("y", p - 1))) for p in told),
        label=draw(st.sampled_from(["", CUT])),
    )
    weight = draw(st.sampled_from([0.0, -1.0, -2.5]))
    return Candidate(Problem("q"), (step,), True, weight, None if score is None else Score(score))


SETS = st.lists(drawn_candidates(), max_size=12)


@pytest.mark.parametrize("name", TESTED)
@settings(max_examples=40)
@given(some=SETS, order=st.randoms(use_true_random=False), seed=st.integers(0, 9))
def test_no_aggregator_depends_on_the_order(name: str, some: list[Candidate], order: typing.Any, seed: int) -> None:
    vote, turned = TESTED[name], some.copy()
    order.shuffle(turned)
    one, other = (vote(Candidates(tuple(items), seed=seed)) for items in (some, turned))
    assert one.answer == other.answer
    assert one.confidence == pytest.approx(other.confidence, abs=1e-12)
    assert one.confidence is None or 0 <= one.confidence <= 1 + 1e-12
    if name.split("(")[0] in ALWAYS:
        assert (one.answer is None) == all(c.answer is None for c in some)


@pytest.mark.parametrize(
    "name", sorted(set(TESTED) - {"heaviest"})
)  # whose confidence is a share of all weight, as documented
@settings(max_examples=25)
@given(some=SETS, at=st.integers(0, 12))
def test_those_that_abstain_change_nothing(name: str, some: list[Candidate], at: int) -> None:
    silent = said(None, 0.7)
    with_it = TESTED[name](Candidates((*some[:at], silent, *some[at:])))
    without = TESTED[name](Candidates(tuple(c for c in some if c.answer is not None)))
    assert with_it.answer == without.answer
    assert with_it.confidence == pytest.approx(without.confidence, abs=1e-12)


@pytest.mark.parametrize("name", [*TESTED, *BY_ORDER])
def test_an_empty_set_gives_nothing(name: str) -> None:
    vote = (TESTED | ALL)[name]
    for nothing in (Candidates(), candidates((None, None)), candidates((None, math.nan), (None, 1.0))):
        concluded = vote(nothing)
        assert (concluded.answer, concluded.confidence) == (None, None)
        assert concluded.items == nothing.items


def test_equal_answers_win_equally_often() -> None:
    for vote in (MajorityOfBests(3), SoftBest(), Pessimism(), Borda(), LogOdds(), weighted_mean, BestOfMajority()):
        won = [vote(candidates(("1", 0.5), ("2", 0.5), seed=seed)).answer for seed in range(400)]
        assert 150 < won.count("1") < 250  # each outside by chance once in two million


# Parameters


@pytest.mark.parametrize(
    "make",
    [
        lambda: MajorityOfBests(0),
        lambda: MajorityOfBests(q=1.0),
        lambda: MajorityOfBests(3, 0.75),
        lambda: BestOfMajority(1.5),
        lambda: BestOfMajority(0.1, k=0),
        lambda: SoftBest(0),
        lambda: SoftBest(math.nan),
        lambda: Pessimism(-1),
        lambda: Borda(-0.5),
        lambda: Borda(math.inf),
        lambda: LogOdds(0.5),
    ],
)
def test_impossible_parameters_are_refused(make: typing.Callable[[], Aggregator]) -> None:
    with pytest.raises(BadInput):
        make()


@pytest.mark.parametrize(
    ("make", "vote"),
    [
        (lambda s, p: majority_of_bests(s, p, n=6, m=3), MajorityOfBests(3)),
        (lambda s, p: best_of_majority(s, p, n=6, threshold=0.4), BestOfMajority(0.4)),
        (lambda s, p: soft_best_of_n(s, p, n=6, heat=0.3), SoftBest(0.3)),
        (lambda s, p: pessimism(s, p, n=6, beta=0.3), Pessimism(0.3)),
    ],
)
def test_presets_score_the_samples_and_vote(make: typing.Any, vote: Aggregator) -> None:
    prm = ProcessReward(ScriptedReward())
    for seed in range(3):
        found = solve(Problem("q"), make(ScriptedModel(), prm), seed=seed).candidates
        assert len(found) == 6
        assert all(c.score is not None for c in found)
        assert vote(found) == found
