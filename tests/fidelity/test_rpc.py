"""RPC against a second implementation: another likelihood, another pruning, another count, all in plain loops."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.optimize
from scipy.stats import weibull_min
from threadpoolctl import threadpool_limits

from reasonweave.orchestrator import Candidate, Candidates, Problem, Step, chain, solve
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies import (
    RPC,
    BestOfN,
    Pruning,
    Weibulls,
    majority,
    mean_logprob,
    perplexity,
    perplexity_consistency,
    rpc,
    total_logprob,
    whole,
)
from reasonweave.strategies.aggregators.perplexity import _unlikely
from reasonweave.strategies.presets import rpc as rpc_workflow

START, BOUNDS = (0.5, 1.0, 1.0, 1.5, 2.0), [(0.2, 0.8), *[(0.01, None)] * 4]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The optimiser's matrices are tiny; threads for them only wait for each other."""
    with threadpool_limits(1):
        yield


@dataclass(frozen=True)
class Path:
    """A solution: its answer, its words, and its mean log-probability."""

    answer: str | None
    text: str
    logprob: float | None

    @property
    def candidate(self) -> Candidate:
        tokens = 1 + len(self.text) % 7
        said_it = f"{self.text} \\boxed{{{self.answer}}}" if self.answer else self.text
        total = None if self.logprob is None else self.logprob * tokens
        return Candidate(Problem("q"), (Step(said_it, "m", tokens, total),), done=True)


def candidates(paths: list[Path]) -> Candidates:
    return Candidates(tuple(path.candidate for path in paths))


def paths(*ps: float | None, answers: str = "1", same: bool = False) -> list[Path]:
    logs = [None if p is None else (math.log(p) if p > 0 else -math.inf) if p == p else p for p in ps]
    return [Path(answers[i % len(answers)], "so" if same else f"so {i}", x) for i, x in enumerate(logs)]


# The second implementation


def likelihood(at: np.ndarray, ps: np.ndarray) -> float:
    share, k1, scale1, k2, scale2 = at
    with np.errstate(all="ignore"):
        one = np.log(share) + weibull_min.logpdf(ps, k1, scale=scale1)
        other = np.log1p(-share) + weibull_min.logpdf(ps, k2, scale=scale2)
    return float(np.logaddexp(one, other).sum())


def fitted(ps: np.ndarray) -> tuple[np.ndarray, float]:
    """From the published start within the published bounds, on densities, with slopes by differences."""

    def density(k: float, scale: float) -> np.ndarray:
        return (k / scale) * (ps / scale) ** (k - 1) * np.exp(-((ps / scale) ** k))

    def lost(at: np.ndarray) -> float:
        return -np.log(at[0] * density(*at[1:3]) + (1 - at[0]) * density(*at[3:])).sum()

    with np.errstate(all="ignore"):
        found = scipy.optimize.minimize(lost, START, bounds=BOUNDS, options={"maxfun": 100_000})
    return found.x, likelihood(found.x, ps)


def pruned(at: np.ndarray, ps: np.ndarray) -> list[bool]:
    share, k1, scale1, k2, scale2 = at
    out = []
    swap = weibull_min.mean(k1, scale=scale1) < weibull_min.mean(k2, scale=scale2)
    for p in ps:
        mine = math.log(share) + weibull_min.logpdf(p, k1, scale=scale1)
        its = math.log(1 - share) + weibull_min.logpdf(p, k2, scale=scale2)
        low, high = (mine, its) if swap else (its, mine)
        out.append(bool(high < low and p < sum(ps) / len(ps)))
    return out


def winner(some: list[Path], gone: set[int]) -> tuple[set[str], float]:
    """The answers with the greatest sum over distinct texts, and its share."""
    sums: dict[str, float] = {}
    for i, path in enumerate(some):
        earlier = any(path == other for other in some[:i])
        if path.answer and path.logprob is not None and path.logprob == path.logprob and not earlier and i not in gone:
            sums[path.answer] = sums.get(path.answer, 0.0) + math.exp(path.logprob)
    top, total = max(sums.values()), sum(sums.values())
    return {answer for answer, found in sums.items() if found > top - 1e-9}, top / total


def drawn(rng: np.random.Generator) -> list[Path]:
    """A random problem: from one to 100 paths, of one kind of spread or another, some without what they need."""
    n, kind = int(rng.integers(1, 101)), rng.integers(4)
    if kind == 0:
        ps = rng.beta(*rng.uniform(1, 20, 2), n)
    elif kind == 1:
        ps = np.where(rng.random(n) < rng.uniform(0.2, 0.8), rng.beta(40, 5, n), rng.beta(8, 8, n))
    else:
        ps = np.exp(-rng.gamma(rng.uniform(1, 5), rng.uniform(0.02, 0.3), n))
    made = [Path(str(rng.integers(1, 5)), f"way {i}", float(np.log(p))) for i, p in enumerate(ps)]
    if kind == 3:
        made = [made[i] for i in rng.integers(0, n, n)]  # some texts several times
    for i in range(n):
        if (chance := rng.random()) < 0.1:
            nothing = (None, math.nan, -math.inf)[int(30 * chance)]
            made[i] = Path(made[i].answer, f"blind {i}", nothing)
        elif chance < 0.15:
            made[i] = Path(None, f"mute {i}", made[i].logprob)
    return made


def test_rpc_against_the_second_implementation() -> None:
    rng = np.random.default_rng(20251015)
    fits = agreeing = pruning = 0
    for _ in range(200):
        some = drawn(rng)
        set_ = candidates(some)
        found, vote = RPC().pruned(set_), RPC()(set_)
        known = [i for i, p in enumerate(some) if p.answer and p.logprob is not None and math.exp(p.logprob) > 0]
        ps = np.exp([some[i].logprob for i in known])
        assert (found.fit is None) == (found.fallback is not None) == (len(known) < 8)
        gone: set[int] = set()
        if found.fit is not None:
            fits += 1
            ours = np.array([found.fit.share, *found.fit.high, *found.fit.low])
            assert 0.2 - 1e-9 <= ours[0] <= 0.8 + 1e-9
            assert (ours[1:] >= 0.01).all()
            theirs, reached = fitted(ps)
            if (
                abs(likelihood(ours, ps) - reached) < 1e-3
            ):  # else another of several maxima, and the other fit is no measure
                agreeing += 1
                gone = {i for i, out in zip(known, pruned(theirs, ps), strict=True) if out}
            else:
                gone = {i for i, out in zip(known, pruned(ours, ps), strict=True) if out}
            pruning += bool(gone)
        assert found.kept == tuple(i not in gone for i in range(len(some)))
        if known:
            answers, share = winner(some, gone)
            assert vote.answer in answers
            assert vote.confidence == pytest.approx(share)
        else:
            assert vote == majority(set_)
    assert fits > 150
    assert pruning > 0.9 * fits
    assert agreeing > 0.9 * fits


# The fit


def test_the_likelihood_and_its_slopes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ps = rng.beta(4, 2, 20)
        at = np.array([rng.uniform(0.2, 0.8), *rng.uniform(0.3, 8, 4)])
        value, slopes = _unlikely(at, np.log(ps))
        assert value == pytest.approx(-likelihood(at, ps))
        assert slopes == pytest.approx(
            scipy.optimize.approx_fprime(at, lambda x, ps=ps: -likelihood(x, ps)), rel=1e-3, abs=1e-3
        )


def test_the_fit_finds_what_was_drawn() -> None:
    rng = np.random.default_rng(1)
    high, low = (
        weibull_min.rvs(12, scale=0.9, size=3000, random_state=rng),
        weibull_min.rvs(4, scale=0.4, size=7000, random_state=rng),
    )
    fit = Weibulls.fit([*high, *low])
    assert fit is not None
    assert fit.share == pytest.approx(0.3, abs=0.02)  # errors of estimation are a quarter of these
    assert fit.high == pytest.approx((12, 0.9), rel=0.06)
    assert fit.low == pytest.approx((4, 0.4), rel=0.04)
    assert [fit.is_low(x) for x in (0.2, 0.4, 0.85, 0.95)] == [True, True, False, False]


def test_the_higher_mean_comes_first_whichever_way_the_fit_ran() -> None:
    for share in (0.3, 0.7):
        rng = np.random.default_rng(2)
        ps = np.where(rng.random(60) < share, rng.beta(60, 10, 60), rng.beta(10, 20, 60))
        fit = Weibulls.fit(ps.tolist())
        assert fit is not None
        assert weibull_min.mean(fit.high[0], scale=fit.high[1]) > weibull_min.mean(fit.low[0], scale=fit.low[1])


@pytest.mark.parametrize("broken", [{"success": False}, {"x": np.array([0.5, math.nan, 1, 1, 1])}, {"fun": math.inf}])
def test_a_failed_fit_prunes_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch, broken: dict[str, object]) -> None:
    real, some = scipy.optimize.minimize, candidates(paths(*np.linspace(0.2, 0.9, 12), answers="112"))
    assert RPC().pruned(some).fit is not None

    def broke(*args: object, **rest: object) -> object:
        found = real(*args, **rest)
        found.update(broken)
        return found

    monkeypatch.setattr(scipy.optimize, "minimize", broke)
    assert RPC().pruned(some) == Pruning((True,) * 12, None, "two Weibull distributions could not be fitted")
    assert RPC()(some) == perplexity_consistency(some)


# What degenerates


@pytest.mark.parametrize(
    ("some", "reason"),
    [
        (paths(0.5), "probability: 1, fewer"),
        (paths(*[0.3, 0.9] * 3, 0.5, answers="12"), "probability: 7, fewer"),
        (paths(*[0.7] * 20, answers="12"), "span 0"),
        (paths(*[0.7, 0.7 + 5e-7] * 20, answers="12"), "less than 1e-06"),
        (paths(*[None] * 9, *[math.nan] * 9, 0.4, answers="12"), "probability: 1, fewer"),
        (paths(*[0.0] * 20, answers="112"), "probability: 0, fewer"),
        (paths(*[None] * 20, answers="112"), "probability: 0, fewer"),
        ([Path(None, f"so {i}", -i / 9) for i in range(20)], "probability: 0, fewer"),
        ([], "probability: 0, fewer"),
    ],
    ids=["one", "seven", "equal", "nearly equal", "unknown", "impossible", "blind", "mute", "empty"],
)
def test_what_degenerates_falls_back_and_says_why(some: list[Path], reason: str) -> None:
    set_ = candidates(some)
    found = RPC().pruned(set_)
    assert found.kept == (True,) * len(some)
    assert found.fit is None
    assert reason in (found.fallback or "")
    assert RPC()(set_) == perplexity_consistency(set_)
    if not any(p.logprob is not None and p.logprob > -math.inf for p in some):
        assert RPC()(set_) == majority(set_) == perplexity(set_)


def test_zero_and_unknown_probabilities_stay_out_of_the_fit() -> None:
    known = paths(*np.linspace(0.2, 0.9, 12), answers="112")
    odd = [
        Path("3", "a", -math.inf),
        Path("3", "b", None),
        Path("3", "c", math.nan),
        Path("3", "d", -800.0),
        Path(None, "e", -0.1),
    ]
    with_them, without = RPC().pruned(candidates(known + odd)), RPC().pruned(candidates(known))
    assert (with_them.fit, with_them.kept[:12]) == (without.fit, without.kept)
    assert RPC()(candidates(known + odd)).answer == RPC()(candidates(known)).answer != "3"


def test_equal_texts_count_once() -> None:
    some = [*paths(0.5, 0.5, 0.5, answers="1", same=True), Path("2", "other", math.log(0.6))]
    vote = perplexity_consistency(candidates(some))
    assert (vote.answer, vote.confidence) == ("2", pytest.approx(0.6 / 1.1))
    assert majority(candidates(some)).answer == "1"


def test_the_probability_of_whole_solutions() -> None:
    def wrote(answer: str, text: str, tokens: int, logprob: float) -> Candidate:
        return Candidate(Problem("q"), (Step(f"{text} \\boxed{{{answer}}}", "m", tokens, logprob),), done=True)

    some = Candidates(
        (wrote("1", "a", 10, -3.0), wrote("1", "a", 10, -3.0), wrote("2", "b", 40, -8.0), wrote("2", "c", 40, -8.5))
    )
    assert perplexity_consistency(some).answer == rpc()(some).answer == "2"  # e⁻⁰·³ once against e⁻⁰·² + e⁻⁰·²¹
    joint = rpc(by=total_logprob)(some)
    assert (joint.answer, joint.confidence) == ("1", pytest.approx(1 / (1 + math.exp(-5) + math.exp(-5.5))))
    long = Candidates(
        tuple(wrote(a, t, 9000, x) for a, t, x in (("1", "a", -5000.0), ("2", "b", -5001.0), ("2", "c", -5001.5)))
    )
    vote = rpc(by=total_logprob)(long)  # far below the smallest number there is
    assert (vote.answer, vote.confidence) == ("1", pytest.approx(1 / (1 + math.exp(-1) + math.exp(-1.5))))


def test_perplexity_by_hand() -> None:
    some = candidates(
        [Path("1", "a", -0.5), Path("1", "b", -0.4), Path("2", "c", -0.3), Path("3", "d", None), Path(None, "e", -0.1)]
    )
    assert (perplexity(some).answer, perplexity(some).confidence) == ("2", pytest.approx(math.exp(-0.3)))
    consistent = perplexity_consistency(some)
    one = math.exp(-0.5) + math.exp(-0.4)
    assert (consistent.answer, consistent.confidence) == ("1", pytest.approx(one / (one + math.exp(-0.3))))


def test_nothing_at_the_mean_or_above_is_pruned_and_of_one_mode_about_a_third_is() -> None:
    rng, gone = np.random.default_rng(3), 0
    for _ in range(20):
        ps = np.clip(rng.normal(0.82, 0.04, 64), 0.01, 1)
        kept = RPC().pruned(candidates(paths(*ps, answers="123"))).kept
        assert all(k for k, p in zip(kept, ps, strict=True) if p >= ps.mean() + 1e-12)
        gone += kept.count(False)
    assert 0.2 < gone / (20 * 64) < 0.5


# How it is used


def test_in_a_chain_and_on_a_result() -> None:
    model = ScriptedModel()
    flow = chain(BestOfN(whole(model), n=24, max_steps=1), rpc())
    assert "RPC(least=8, spread=1e-06, by=mean_logprob)" in repr(flow)
    found = solve(Problem("q"), flow, seed=5).candidates
    assert rpc()(found) == found
    assert rpc().pruned(found).fit is not None  # what the vote did can be asked of its result
    for joint, by in ((False, mean_logprob), (True, total_logprob)):
        preset = solve(Problem("q"), rpc_workflow(ScriptedModel(), n=24, joint=joint), seed=5).candidates
        assert len(preset) == 24
        assert rpc(by=by)(preset) == preset


@pytest.mark.parametrize(("least", "spread"), [(0, 1e-6), (8, -1.0), (8, math.nan)])
def test_impossible_parameters_are_refused(least: int, spread: float) -> None:
    with pytest.raises(BadInput):
        rpc(least, spread)
