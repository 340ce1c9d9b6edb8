from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import said

from reasonweave.orchestrator import BadInput, Candidate, Candidates, Problem, Run, Sampling, Score, Step, Usage

LOGS = st.lists(st.floats(-50, 50) | st.just(-math.inf), min_size=1, max_size=12)


@given(LOGS)
def test_weights_are_a_softmax_and_ess_is_kongs(logs: list[float]) -> None:
    candidates = Candidates.of(Problem("q")).repeat(len(logs)).reweight(logs)
    if all(log == -math.inf for log in logs):
        expected = np.full(len(logs), 1 / len(logs))
    else:
        raw = np.exp(np.array(logs) - max(logs))
        expected = raw / raw.sum()
    np.testing.assert_allclose(candidates.weights, expected, atol=1e-12)
    assert candidates.ess == pytest.approx(1 / (expected**2).sum())
    assert 1 - 1e-9 <= candidates.ess <= len(logs) + 1e-9


def test_weights_survive_nan_and_infinity() -> None:
    assert Candidates.of(*[Problem("q")] * 3).reweight([math.nan, 0, 0]).weights.tolist() == [0, 0.5, 0.5]
    assert Candidates.of(*[Problem("q")] * 3).reweight([math.inf, 0, math.inf]).weights.tolist() == [0.5, 0, 0.5]
    assert Candidates().weights.tolist() == []
    assert Candidates().ess == 0


def test_a_nan_score_is_never_the_best() -> None:
    first, second = said("1", math.nan), said("2", 0.1)
    assert Candidates((first, second)).best == second
    assert Candidates((second, first)).best == second


def test_weights_of_nan_and_minus_infinity_are_equal() -> None:
    candidates = Candidates((said("1"), said("2"))).reweight([math.nan, -math.inf])
    assert candidates.weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": "0.8"},
        {"top_p": 0.0},
        {"top_k": -1},
        {"max_tokens": 0},
        {"stop": "x"},
        {"stop": ("",)},
        {"top_logprobs": -1},
    ],
)
def test_sampling_refuses_what_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Sampling(**wrong)


def test_repeat_take_and_concatenation() -> None:
    a, b = said("1"), said("2")
    pair = Candidates((a, b), answer="1", confidence=0.5)
    assert [c.answer for c in pair.repeat(5)] == ["1", "2", "1", "2", "1"]
    taken = pair.reweight([3, 4]).take([1, 1])
    assert [c.answer for c in taken] == ["2", "2"]
    assert taken.log_weights.tolist() == [0, 0]
    assert (pair + pair).answer is None
    assert len(pair + pair) == 4


def test_extending_drops_the_score_of_the_shorter_text() -> None:
    grown = said("1", 0.9).extend(Step("x", "m", 1))
    assert grown.score is None
    assert grown.tokens == 4


def test_best_prefers_an_answer_then_score_then_weight() -> None:
    silent, low, high = said(None, 0.9), said("1", 0.2), said("2", 0.8)
    assert Candidates((silent, low, high)).best == high
    assert Candidates((silent,)).best == silent
    heavy = Candidates((said("1"), said("2"))).reweight([0, 1])
    assert heavy.best is not None
    assert heavy.best.answer == "2"
    assert Candidates().best is None


def test_logprob_is_missing_where_a_part_is() -> None:
    problem = Problem("q")
    assert Candidate(problem, (Step("a", "m", 1, -0.5), Step("b", "m", 1, -1.0))).logprob == -1.5
    assert Candidate(problem, (Step("a", "m", 1, -0.5), Step("b", "m", 1))).logprob is None


def test_fresh_starts_each_distinct_problem_once() -> None:
    found = Candidates((said("1"), said("2"), Candidate(Problem("other")))).fresh()
    assert [(c.problem.prompt, c.steps) for c in found] == [("q", ()), ("other", ())]


def test_usage_adds_up() -> None:
    a = Usage(1, 2, 3, 4, 5.0, 6.0)
    assert a + a - a == a
    assert Usage.total([a, a]) == Usage(2, 4, 6, 8, 10.0, 12.0)


def test_seeds_are_paths() -> None:
    run = Run(3)
    assert run.child("a", 1).seed(2) == Run(3).child("a").child(1).seed(2) == Run(3).seed("a", 1, 2)
    assert run.child("a").seed() != run.child("b").seed()
    assert run.child("a", "b").seed() != run.child("ab").seed()
    assert run.child(1).seed() != run.child("1").seed()
    assert Run(4).seed() != run.seed()
    assert run.child("x").rng().random() == run.child("x").rng().random()


def test_seeds_do_not_collide() -> None:
    """48 bits, 50,000 paths: a collision has probability 5e-6, the test's false-alarm rate."""
    run = Run(0)
    assert len({run.seed("pf", "step", i // 100, i % 100) for i in range(50_000)}) == 50_000


def test_scores_keep_their_steps() -> None:
    scored = Candidates((said("1"),)).scored([Score(0.4, (0.1, 0.4))])
    assert scored[0].score == Score(0.4, (0.1, 0.4))
