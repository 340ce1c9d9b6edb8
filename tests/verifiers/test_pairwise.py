"""Pairs and knockouts: against probabilities worked by hand, and against judges that know who is strong."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Completion,
    Ledger,
    OverBudget,
    Problem,
    Run,
    Step,
    Token,
)
from reasonweave.orchestrator.models.base import Request
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.testing import ScriptedModel, check_verifier
from reasonweave.verifiers.pairwise import Pairwise, Tournament, bradley_terry, mean_win

PROMPT = "{problem}|{a}|{b}"


class Judge(ScriptedModel):
    """Says A with a probability that depends on the two texts; None: says neither. Without alternatives, the likelier word."""

    def __init__(self, first: Callable[[str, str], float | None], *, tells: bool = True) -> None:
        super().__init__(["A"])
        self.first, self.tells = first, tells

    def _complete(self, request: Request) -> Completion:
        _, a, b = request.context.messages[0].content.split("|")
        p = self.first(a, b)
        words = {"A": p, "B": 1 - p} if p is not None else {"I": 1.0}
        top = tuple((word, math.log(max(q, 1e-300))) for word, q in sorted(words.items(), key=lambda each: -each[1]))
        usage = self.rates.price(prompt=self.count(request.context), completion=1)
        return Completion(top[0][0], "length", usage, (Token(top[0][0], top[0][1], top if self.tells else ()),))


def solution(text: str, problem: str = "q") -> Candidate:
    return Candidate(Problem(problem), (Step(text, "m", 1),))


def strength(text: str) -> float:
    return float(text.split()[0])


def by_strength(a: str, b: str) -> float:
    """P(a beats b) where strengths are Bradley–Terry's θ."""
    return 1 / (1 + math.exp(strength(b) - strength(a)))


def stronger(a: str, b: str) -> float:
    return 1.0 if strength(a) > strength(b) else 0.0


def values(verifier: Verifier, candidates: Sequence[Candidate], seed: int = 1) -> list[float]:
    return [score.value for score in asyncio.run(verifier.score(candidates, Run(seed)))]


def solutions(*strengths: float) -> list[Candidate]:
    return [solution(f"{s:g}") for s in strengths]


# Pairwise.


def test_both_orders_are_averaged() -> None:
    """x is preferred with 0.9 when first and 0.6 when second: (0.9 + 0.6) / 2."""
    judge = Judge(lambda a, b: 0.9 if a == "x" else 0.4)
    assert values(Pairwise(judge, prompt=PROMPT), [solution("x"), solution("y")]) == pytest.approx([0.75, 0.25])
    asked = {request.context.messages[0].content for request in judge.calls[0]}
    assert asked == {"q|x|y", "q|y|x"}
    assert {request.context.prefix for request in judge.calls[0]} == {"Answer:"}


def test_a_judge_that_always_prefers_the_first_sees_ties() -> None:
    judge = Judge(lambda a, b: 1.0)
    assert values(Pairwise(judge, prompt=PROMPT), solutions(1, 2, 3)) == [0.5, 0.5, 0.5]


def test_a_score_is_the_mean_over_the_others() -> None:
    """P(x>y)=0.9, P(x>z)=0.7, P(y>z)=0.6."""
    table = {("x", "y"): 0.9, ("x", "z"): 0.7, ("y", "z"): 0.6}
    judge = Judge(lambda a, b: table[a, b] if (a, b) in table else 1 - table[b, a])
    candidates = [solution(t) for t in "xyz"]
    assert values(Pairwise(judge, prompt=PROMPT), candidates) == pytest.approx([0.8, (0.1 + 0.6) / 2, (0.3 + 0.4) / 2])
    assert len(judge.calls) == 1
    assert len(judge.calls[0]) == 6  # n (n − 1)


def test_the_token_itself_counts_where_there_are_no_alternatives() -> None:
    assert values(Pairwise(Judge(by_strength, tells=False), prompt=PROMPT), solutions(3, 1, 2)) == [1.0, 0.0, 0.5]


def test_the_same_texts_and_the_same_answers_are_ties_that_nobody_is_asked_about() -> None:
    judge = Judge(stronger)
    candidates = [solution(t) for t in (r"3 \boxed{4}", r"2 \boxed{4.0}", r"1 \boxed{5}", r"3 \boxed{4}")]
    assert values(Pairwise(judge, prompt=PROMPT), candidates) == pytest.approx([2 / 3, 2 / 3, 0, 2 / 3])
    assert len(judge.calls[0]) == 4  # two distinct solutions with answer 4, each against the one with 5, both orders
    assert values(Pairwise(judge, prompt=PROMPT), candidates[:2]) == [0.5, 0.5]


def test_only_the_candidates_of_a_problem_meet() -> None:
    judge = Judge(stronger)
    candidates = [solution("1", "p"), solution("2", "q"), solution("2", "p"), solution("1", "q")]
    assert values(Pairwise(judge, prompt=PROMPT), candidates) == pytest.approx([0.0, 1.0, 1.0, 0.0])
    assert len(judge.calls) == 1
    assert len(judge.calls[0]) == 4


@pytest.mark.parametrize("verifier", [Pairwise, Tournament])
def test_a_candidate_that_is_alone_is_not_judged(verifier: type[Pairwise] | type[Tournament]) -> None:
    judge = Judge(stronger)
    (score,) = asyncio.run(verifier(judge).score([solution("1")], Run()))
    assert math.isnan(score.value)
    assert score.error == "there is no other candidate of this problem to compare it with"
    assert judge.calls == []
    assert asyncio.run(verifier(judge).score([], Run())) == []


def test_pairs_that_cannot_be_read_do_not_count() -> None:
    """Of x and y only one order is answered, so neither order counts; z meets both."""
    judge = Judge(lambda a, b: None if (a, b) == ("x", "y") else 0.8 if a == "z" else 0.2)
    assert values(Pairwise(judge, prompt=PROMPT), [solution(t) for t in "xyz"]) == pytest.approx([0.2, 0.2, 0.8])
    scores = asyncio.run(Pairwise(judge, prompt=PROMPT).score([solution(t) for t in "xy"], Run()))
    assert all(math.isnan(score.value) and "none of A, B" in (score.error or "") for score in scores)


def test_a_judge_that_cannot_be_read_at_all_makes_no_winners_of_those_who_agree() -> None:
    judge = Judge(lambda a, b: None)
    candidates = [solution(t) for t in (r"1 \boxed{4}", r"2 \boxed{4}", r"3 \boxed{5}")]
    assert all(math.isnan(v) for v in values(Pairwise(judge, prompt=PROMPT), candidates))
    assert all(math.isnan(v) for v in values(Tournament(judge, PROMPT), candidates))


@pytest.mark.parametrize("n", [2, 3, 5, 8])
@pytest.mark.parametrize("most", [1, 4, 7, 100])
def test_at_most_so_many_pairs_are_asked_about_and_all_meet_about_as_many(n: int, most: int) -> None:
    judge = Judge(by_strength)
    asyncio.run(Pairwise(judge, most, prompt=PROMPT).score(solutions(*range(n)), Run(3)))
    pairs = {frozenset(r.context.messages[0].content.split("|")[1:]) for r in judge.calls[0]}
    assert len(pairs) == min(most, n * (n - 1) // 2)
    assert len(judge.calls[0]) == 2 * len(pairs)
    met = Counter(text for pair in pairs for text in pair)
    counts = [met[f"{i}"] for i in range(n)]
    assert max(counts) - min(counts) <= (1 if n % 2 == 0 else 2)


def test_which_pairs_are_asked_about_depends_on_the_seed_and_on_nothing_else() -> None:
    def pairs(seed: int, candidates: Sequence[Candidate]) -> frozenset[str]:
        judge = Judge(by_strength)
        asyncio.run(Pairwise(judge, 3, prompt=PROMPT).score(candidates, Run(seed)))
        return frozenset(r.context.messages[0].content for r in judge.calls[0])

    candidates = solutions(*range(6))
    assert pairs(1, candidates) == pairs(1, candidates[::-1])
    assert len({pairs(seed, candidates) for seed in range(8)}) > 1


def test_ties_count_as_pairs_drawn_so_that_they_do_not_outnumber_the_others() -> None:
    """Of 3 pairs, one a tie and one to be asked about: where the tie comes last, it is not among them, and one has met nobody."""
    candidates = [solution(t) for t in (r"1 \boxed{4}", r"2 \boxed{4}", r"3 \boxed{5}")]
    unmet = [
        sum(map(math.isnan, values(Pairwise(Judge(stronger), 1, prompt=PROMPT), candidates, seed)))
        for seed in range(60)
    ]
    assert set(unmet) == {0, 1}
    assert abs(sum(unmet) / 60 - 1 / 3) < 4 * math.sqrt(2 / 9 / 60)  # 1 in 16,000


def test_a_candidate_that_was_not_drawn_says_so() -> None:
    scores = asyncio.run(Pairwise(Judge(by_strength), 1, prompt=PROMPT).score(solutions(1, 2, 3), Run()))
    (missing,) = [score for score in scores if math.isnan(score.value)]
    assert "most=" in (missing.error or "")


@pytest.mark.parametrize(
    "make",
    [
        lambda j: Pairwise(j, 5, prompt=PROMPT),
        lambda j: Pairwise(j, 5, bradley_terry, PROMPT),
        lambda j: Tournament(j, PROMPT),
    ],
    ids=["mean", "bradley-terry", "tournament"],
)
def test_scores_follow_the_candidates_whatever_their_order(make: Callable[[Judge], Verifier]) -> None:
    candidates = [solution(t) for t in (r"1 \boxed{1}", r"2 \boxed{2}", r"3 \boxed{2}", r"1 \boxed{1}", "5", "0.5")]
    expected = values(make(Judge(by_strength)), candidates, seed=4)
    for order in random.Random(0).sample(list(itertools.permutations(range(6))), 12):
        assert values(make(Judge(by_strength)), [candidates[i] for i in order], seed=4) == pytest.approx(
            [expected[i] for i in order]
        )


# Bradley–Terry.


def test_bradley_terry_is_the_mean_win_where_all_have_met_all() -> None:
    """The maximum's equations: Σⱼ mⱼ wᵢⱼ = Σⱼ mⱼ σ(θᵢ − θⱼ)."""
    rng = np.random.default_rng(5)
    for n in (2, 3, 6):
        wins = np.full((n, n), np.nan)
        for i, j in itertools.combinations(range(n), 2):
            wins[i, j] = rng.uniform(0.02, 0.98)
            wins[j, i] = 1 - wins[i, j]
        counts = rng.integers(1, 4, n).astype(float)
        assert bradley_terry(wins, counts) == pytest.approx(mean_win(wins, counts), abs=1e-5)


def test_bradley_terry_knows_who_would_win_without_a_meeting() -> None:
    """A chain 0–1–2: θ₀ − θ₁ = logit 0.8, θ₁ − θ₂ = logit 0.7, so P(0 beats 2) = σ(logit 0.8 + logit 0.7) = 28/31."""
    nan = math.nan
    wins = np.array([[nan, 0.8, nan], [0.2, nan, 0.7], [nan, 0.3, nan]])
    expected = [(0.8 + 28 / 31) / 2, (0.2 + 0.7) / 2, (0.3 + 3 / 31) / 2]
    assert bradley_terry(wins, np.ones(3)) == pytest.approx(expected, abs=1e-5)
    assert mean_win(wins, np.ones(3)) == pytest.approx([0.8, 0.45, 0.3])


def test_bradley_terry_orders_a_drawn_schedule_better_than_the_mean() -> None:
    """20 leagues of 10 with 15 of 45 pairs: strengths are recovered exactly, so their order is; seeds are fixed."""
    wrong = Counter[str]()
    for seed in range(20):
        strengths = np.random.default_rng(seed).permutation(10) / 2
        candidates = solutions(*strengths)
        for rank in (bradley_terry, mean_win):
            got = values(Pairwise(Judge(by_strength), 15, rank, PROMPT), candidates, seed)
            wrong[rank.__name__] += [strengths[i] for i in np.argsort(got)] != sorted(strengths)
    assert wrong["bradley_terry"] == 0
    assert wrong["mean_win"] > 10


def test_bradley_terry_survives_those_who_win_always() -> None:
    for n in (2, 12):
        wins = np.array([[math.nan if i == j else float(i > j) for j in range(n)] for i in range(n)])
        assert bradley_terry(wins, np.ones(n)) == pytest.approx([i / (n - 1) for i in range(n)], abs=1e-4)
        assert np.isnan(bradley_terry(np.full((n, n), math.nan), np.ones(n))).all()


# The knockout.


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 8, 13])
def test_the_best_wins_a_knockout_in_n_minus_1_matches(n: int) -> None:
    """The winner has 1; with R rounds, a match decided in round r leaves its loser (r − 1) / R."""
    rounds = math.ceil(math.log2(n))
    for seed in range(5):
        judge = Judge(stronger)
        got = values(Tournament(judge, PROMPT), solutions(*range(n)), seed)
        assert got[-1] == 1
        assert sum(len(call) for call in judge.calls) == 2 * (n - 1)
        assert len(judge.calls) == rounds
        losers = Counter(round(v * rounds) for v in got[:-1])
        first = n - 2 ** (rounds - 1)
        assert losers == Counter({0: first} | {r: 2 ** (rounds - 1 - r) for r in range(1, rounds)})


def test_who_meets_whom_is_drawn_by_the_seed() -> None:
    """Of four, the second best loses the final or, one time in three, at once: 200 draws within 4 sigma (1 in 16,000)."""
    early = sum(values(Tournament(Judge(stronger), PROMPT), solutions(0, 1, 2, 3), seed)[2] == 0 for seed in range(200))
    assert abs(early / 200 - 1 / 3) < 4 * math.sqrt(1 / 3 * 2 / 3 / 200)


def test_those_who_agree_play_as_one() -> None:
    judge = Judge(stronger)
    candidates = [solution(t) for t in (r"1 \boxed{4}", r"9 \boxed{4.0}", r"5 \boxed{5}", r"6 \boxed{6}")]
    got = values(Tournament(judge, PROMPT), candidates)
    assert got[0] == got[1]
    assert sum(len(call) for call in judge.calls) == 4
    judge = Judge(stronger)
    assert values(Tournament(judge, PROMPT), candidates[:2]) == [1.0, 1.0]
    assert judge.calls == []


def test_even_matches_are_drawn_by_lot() -> None:
    """A judge that favours A whatever it is decides nothing: each of two wins for half of 200 seeds (4 sigma: 1 in 16,000)."""
    wins = sum(values(Tournament(Judge(lambda a, b: 0.9), PROMPT), solutions(1, 2), seed)[0] for seed in range(200))
    assert abs(wins / 200 - 0.5) < 4 * math.sqrt(0.25 / 200)


def test_who_came_on_unheard_is_not_judged_and_a_silent_judge_is_not_asked_on() -> None:
    judge = Judge(lambda a, b: None)
    assert all(math.isnan(v) for v in values(Tournament(judge, PROMPT), solutions(*range(8))))
    assert len(judge.calls) == 1
    assert len(judge.calls[0]) == 8
    judge = Judge(lambda a, b: None if "0" in (a, b) else stronger(a, b))  # never says a word about 0
    for seed in range(10):
        got = values(Tournament(judge, PROMPT), solutions(0, 1, 2, 3), seed)
        assert math.isnan(got[0])
        assert max(v for v in got if not math.isnan(v)) > 0


def test_several_problems_play_their_rounds_together() -> None:
    judge = Judge(stronger)
    candidates = [*(solution(f"{i}", "p") for i in range(4)), *(solution(f"{i}", "q") for i in range(2))]
    got = values(Tournament(judge, PROMPT), candidates)
    assert (got[3], got[4], got[5]) == (1.0, 0.0, 1.0)
    assert [len(call) for call in judge.calls] == [6, 2]


# What both promise.


@pytest.mark.parametrize("verifier", [Pairwise, Tournament])
def test_a_spent_budget_is_raised(verifier: type[Pairwise] | type[Tournament]) -> None:
    with pytest.raises(OverBudget):
        asyncio.run(verifier(Judge(stronger)).score(solutions(1, 2), Run(ledger=Ledger(Budget(tokens=3)))))


class Short(Judge):
    """Answers the first two requests of a call, and has no budget for the others."""

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        got = await super()._generate(requests)
        return [*got[:2], *[Completion("", "budget")] * (len(got) - 2)]


def test_where_the_budget_ends_half_way_the_others_are_not_judged() -> None:
    for verifier in (Pairwise(Short(stronger), prompt=PROMPT), Tournament(Short(stronger), PROMPT)):
        scores = asyncio.run(verifier.score(solutions(1, 2, 3, 4), Run()))
        unheard = [score for score in scores if math.isnan(score.value)]
        assert unheard
        assert {score.error for score in unheard} == {"the budget has no room for the judgement"}
        assert len(unheard) < 4


@pytest.mark.parametrize("make", [Pairwise, Tournament, lambda model: Pairwise(model, 2, bradley_terry)])
def test_they_keep_the_promises_of_verifiers(make: Callable[[ScriptedModel], Verifier], problem: Problem) -> None:
    check_verifier(make(ScriptedModel(["A"])), problem)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pairwise(ScriptedModel(), 0),
        lambda: Pairwise(ScriptedModel(), prompt="Which?"),
        lambda: Tournament(ScriptedModel(), "{a} or {b}?"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        make()


def test_the_repr_names_the_ranking_and_no_address() -> None:
    assert "rank=bradley_terry" in repr(Pairwise(ScriptedModel(), rank=bradley_terry))


def test_how_far_they_have_come_stands_where_the_next_round_cannot_be_afforded() -> None:
    run = Run(1, ledger=Ledger(Budget(calls=4)))  # two matches, each in both orders: the first round of four
    scores = asyncio.run(Tournament(Judge(stronger), PROMPT).score(solutions(1, 2, 3, 4), run))
    low, _, _, high = sorted(score.value for score in scores)
    assert sorted(score.value for score in scores) == [low, low, high, high]
    assert low < high < 1
    assert "calls" in (run.cut_short or "")
