from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import said

from reasonweave.orchestrator import Candidate, Candidates, Problem, Step
from reasonweave.orchestrator.answers import BoxedAnswers
from reasonweave.strategies import best, majority, weighted
from reasonweave.strategies.aggregators.ballots import ballots

BALLOTS = st.lists(st.tuples(st.sampled_from(["1", "2", "2.0", "3", None]), st.floats(0, 1)), min_size=0, max_size=9)


def candidates(ballots: list[tuple[str | None, float]]) -> Candidates:
    return Candidates(tuple(said(answer, score) for answer, score in ballots))


@given(BALLOTS)
def test_majority_against_counting(ballots: list[tuple[str | None, float]]) -> None:
    counts: dict[float, int] = defaultdict(int)
    for answer, _ in ballots:
        if answer is not None:
            counts[float(answer)] += 1
    vote = majority(candidates(ballots))
    if not counts:
        assert vote.answer is None
        assert vote.confidence is None
    else:
        assert vote.answer is not None
        assert counts[float(vote.answer)] == max(counts.values())
        assert vote.confidence == pytest.approx(max(counts.values()) / sum(counts.values()))


@given(BALLOTS)
def test_weighted_against_summing(ballots: list[tuple[str | None, float]]) -> None:
    sums: dict[float, float] = defaultdict(float)
    for answer, score in ballots:
        if answer is not None:
            sums[float(answer)] += score
    vote = weighted(candidates(ballots))
    if sums and max(sums.values()) > 0:
        assert vote.answer is not None
        assert sums[float(vote.answer)] == pytest.approx(max(sums.values()))
    else:
        assert vote.answer == majority(candidates(ballots)).answer


@given(BALLOTS)
def test_best_against_the_maximum(ballots: list[tuple[str | None, float]]) -> None:
    answered = [(score, answer) for answer, score in ballots if answer is not None]
    vote = best(candidates(ballots))
    if not answered:
        assert vote.answer is None
    else:
        assert vote.confidence == max(score for score, _ in answered)


def test_a_tie_is_drawn_by_the_seed_and_order_decides_nothing() -> None:
    there, back = (
        candidates([("3", 0), ("1", 0), ("1", 0), ("3", 0)]),
        candidates([("1", 0), ("3", 0), ("3", 0), ("1", 0)]),
    )
    drawn = [majority(replace(there, seed=seed)).answer for seed in range(400)]
    assert drawn == [majority(replace(back, seed=seed)).answer for seed in range(400)]
    assert 150 < drawn.count("3") < 250  # outside by chance once in two million


def test_the_most_common_words_stand_for_an_answer() -> None:
    assert majority(candidates([("2.0", 0), ("2", 0), ("2.0", 0), ("1", 0)])).answer == "2.0"
    assert majority(candidates([("2.0", 0), ("2", 0)])).answer == "2"


def test_answers_are_one_only_where_both_say_so() -> None:
    @dataclass(frozen=True)
    class Near(BoxedAnswers):
        """Numbers at most 1 apart are the same; 9 says that of every number, but nobody says it of 9."""

        def same(self, a: str, b: str) -> bool:
            return a == "9" or abs(int(a) - int(b)) <= 1

    problem = Problem("q", answers=Near())
    said_in = [Candidate(problem, (Step(f"\\boxed{{{x}}}", "m", 1),), done=True) for x in (1, 3, 5, 9, 2, 4)]
    for order in (said_in, said_in[::-1], said_in[3:] + said_in[:3]):
        groups = sorted(sorted(int(order[i].answer or "") for i in b.voters) for b in ballots(Candidates(tuple(order))))
        assert groups == [[1, 2, 3, 4, 5], [9]]


def test_a_nan_score_weighs_nothing() -> None:
    assert weighted(candidates([("1", math.nan), ("2", 0.1)])).answer == "2"
    assert best(candidates([("1", math.nan), ("2", 0.1)])).answer == "2"


def test_best_without_any_score_is_the_majority() -> None:
    unscored = Candidates((said("1"), said("2"), said("2")))
    assert best(unscored).answer == "2"


def test_an_infinite_score_decides_and_gives_a_finite_confidence() -> None:
    vote = weighted(Candidates((said("1", 5.0), said("2", math.inf), said("1", 7.0))))
    assert (vote.answer, vote.confidence) == ("2", 1.0)
