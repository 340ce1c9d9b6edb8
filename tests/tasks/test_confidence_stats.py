"""Figures about confidences: against scikit-learn, brute force and closed forms; and where they are shown."""

from __future__ import annotations

import asyncio
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from typer.testing import CliRunner

from reasonweave.orchestrator import BadInput, Problem, Strategy, chain
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies import BestOfN, majority, whole
from reasonweave.strategies.presets import selective
from reasonweave.tasks.base import Example
from reasonweave.tasks.cli import app
from reasonweave.tasks.evaluation.confidence import (
    Confidence,
    aurc,
    best_utility,
    brier,
    coverage_at,
    coverage_risk,
    ece,
    surest,
    utility,
)
from reasonweave.tasks.evaluation.display import confidence_table
from reasonweave.tasks.evaluation.records import Header, Log, Record, Records
from reasonweave.tasks.evaluation.runner import evaluate
from reasonweave.tasks.evaluation.stats import auc, bootstrap, bootstrap_mean
from reasonweave.tasks.evaluation.summary import Summary

LEVELS = st.integers(0, 10).map(lambda k: k / 10)
PAIRS = st.lists(st.tuples(LEVELS | st.none(), st.booleans()), min_size=1, max_size=30)
KNOWN = st.lists(st.tuples(LEVELS | st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def apart(pairs: list[tuple[Any, bool]]) -> tuple[list[Any], list[bool]]:
    return [c for c, _ in pairs], [right for _, right in pairs]


def from_curve(confidences: Sequence[float], right: Sequence[bool], bins: int, strategy: str) -> float:
    """ECE from scikit-learn's curve, which leaves empty bins out, and from the counts of the bins."""
    accuracy, mean = calibration_curve(right, confidences, n_bins=bins, strategy=strategy, pos_label=True)
    cuts = np.linspace(0, 1, bins + 1)
    edges = cuts if strategy == "uniform" else np.percentile(confidences, 100 * cuts)
    counts = np.bincount([sum(c > edge for edge in edges[1:-1]) for c in confidences])
    return float((counts[counts > 0] * np.abs(accuracy - mean)).sum() / len(right))


@given(KNOWN, st.integers(1, 15))
def test_ece_against_scikit_learns_calibration_curve(pairs: list[tuple[float, bool]], bins: int) -> None:
    confidences, right = apart(pairs)
    assert ece(confidences, right, bins=bins) == pytest.approx(from_curve(confidences, right, bins, "uniform"))


@pytest.mark.parametrize("bins", [1, 4, 10, 50])
@pytest.mark.parametrize("n", [3, 40, 333])
def test_ece_of_equal_masses_against_scikit_learn(n: int, bins: int) -> None:
    rng = np.random.default_rng(n)
    confidences, right = rng.random(n), rng.random(n) < 0.4
    expected = from_curve(confidences, right, bins, "quantile")
    assert ece(confidences, right, bins=bins, equal_mass=True) == pytest.approx(expected)


def test_the_edges_of_ece_by_hand() -> None:
    """0.5 is in (0.4, 0.5], 0 in the lowest bin: |0.5 − 1| · 1/4 + |0.0 − 0| · 1/4 + |0.55 − 0.5| · 2/4."""
    assert ece([0.5, 0.0, 0.52, 0.58], [True, False, True, False]) == pytest.approx(0.125 + 0.025)
    assert ece([0.4, 0.5], [True, False], bins=2) == pytest.approx(0.05)
    assert ece([1.0] * 5 + [0.2] * 5, [True] * 4 + [False] * 6, bins=2, equal_mass=True) == pytest.approx(0.2)


@given(KNOWN)
def test_brier_against_scikit_learn(pairs: list[tuple[float, bool]]) -> None:
    confidences, right = apart(pairs)
    assert brier(confidences, right) == pytest.approx(brier_score_loss(right, confidences, pos_label=True))


@given(PAIRS, st.permutations(range(30)))
def test_the_order_of_problems_changes_nothing(pairs: list[tuple[float | None, bool]], order: list[int]) -> None:
    other = [pairs[i] for i in order if i < len(pairs)]
    for of in (aurc, brier, coverage_at, ece, surest, lambda c, r: best_utility(c, r, 1)[0]):
        assert of(*apart(pairs)) == pytest.approx(of(*apart(other)), nan_ok=True)


@given(PAIRS, st.sampled_from([0.0, 0.1, 0.3, 0.5]), st.sampled_from([0, 1, 20]))
def test_thresholds_against_brute_force(pairs: list[tuple[float | None, bool]], risk: float, lam: float) -> None:
    n = len(pairs)
    rows, utilities, coverages = [], {math.inf: 0.0}, [0.0]
    for t in sorted({c for c, _ in pairs if c is not None}, reverse=True):
        given_ = [right for c, right in pairs if c is not None and c >= t]
        wrong = given_.count(False)
        rows.append((t, len(given_) / n, wrong / len(given_)))
        utilities[t] = (given_.count(True) - lam * wrong) / n
        if wrong / len(given_) <= risk:
            coverages.append(len(given_) / n)
    assert [tuple(map(float, row)) for row in zip(*coverage_risk(*apart(pairs)), strict=True)] == [
        pytest.approx(row) for row in rows
    ]
    assert coverage_at(*apart(pairs), risk) == pytest.approx(max(coverages))
    best, threshold = best_utility(*apart(pairs), lam)
    assert best == pytest.approx(max(utilities.values()))
    assert utilities[threshold] == pytest.approx(best)


def test_aurc_of_ties_is_the_mean_over_their_orders() -> None:
    rng = np.random.default_rng(0)
    confidences, right = rng.integers(0, 4, 25) / 4, rng.random(25) < 0.6
    found = []
    for _ in range(3000):
        jittered = confidences + rng.random(25) / 100
        order = np.argsort(-jittered)
        found.append((np.cumsum(~right[order]) / np.arange(1, 26)).mean())
    error = np.std(found) / math.sqrt(len(found))
    assert abs(aurc(confidences, right) - np.mean(found)) < 4.5 * error  # by chance once in 100,000
    assert aurc([0.9, 0.8, 0.7], [True, False, True]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)


def test_the_surest_half() -> None:
    assert surest([0.9, 0.8, 0.2, 0.1], [True, False, True, True]) == 0.5
    assert surest([0.9, 0.5, 0.5, 0.5, None], [True, True, False, False, False]) == pytest.approx((1 + 1 / 3) / 2)
    assert surest([0.7] * 5, [True] * 3 + [False] * 2) == pytest.approx(0.6)


def test_utilities_by_hand() -> None:
    right, answered = [True, True, False, False, False], [True, True, True, False, False]
    assert [utility(right, answered, lam) for lam in (0, 1, 20)] == pytest.approx([0.4, 0.2, -3.6])
    assert utility([True, False], [False, False], 20) == 0
    assert best_utility([0.9, 0.8], [False, True], 20) == (0.0, math.inf)


def test_of_probabilities_the_best_threshold_is_the_theoretical_one() -> None:
    """Even confidences that are probabilities; λ = 1: answer from a half on, ∫ (2p − 1) from ½ = ¼. λ = 20: from 20/21 on, 1/42.
    100,000 problems; the tolerances are more than five standard errors."""
    rng = np.random.default_rng(1)
    p = np.round(rng.random(100_000), 3)
    right = rng.random(100_000) < p
    for lam, value, near in ((1, 1 / 4, 0.05), (20, 1 / 42, 0.02)):
        found, threshold = best_utility(p, right, lam)
        assert found == pytest.approx(value, abs=0.02)
        assert threshold == pytest.approx(lam / (1 + lam), abs=near)
    assert ece(p, right) < 0.01
    assert brier(p, right) == pytest.approx(1 / 6, abs=0.005)
    assert aurc(p, right) == pytest.approx(1 / 4, abs=0.01)  # the mean of x / 2 over 0..1


def test_nothing_known_is_nothing_told() -> None:
    for of in (aurc, brier, ece, surest):
        assert math.isnan(of([None, math.nan], [True, False]))  # type: ignore[operator]
    assert coverage_at([None], [True]) == 0
    assert best_utility([None], [True], 1) == (0.0, math.inf)
    assert math.isnan(utility([], [], 1))


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(BadInput, match=r"0\.\.1"):
        ece([1.2, 0.1], [True, False])
    with pytest.raises(BadInput, match=r"0\.\.1"):
        brier([-0.1], [True])
    with pytest.raises(BadInput, match="labels"):
        ece([0.2], [True, False])
    with pytest.raises(BadInput, match="bins=0"):
        ece([0.2], [True], bins=0)
    assert coverage_at([5.0, -3.0], [True, False]) == 0.5


# The bootstrap


def test_the_bootstrap_of_a_mean_is_the_fast_one() -> None:
    rng = np.random.default_rng(2)
    values, groups = rng.random(90), np.repeat(np.arange(30), 3)
    slow = bootstrap(lambda rows: float(values[rows].mean()), groups, draws=4000, seed=1)
    assert bootstrap_mean(values, groups, draws=4000, seed=2) == pytest.approx(slow, abs=0.006)
    uneven = np.sort(rng.integers(0, 20, 90))
    slow = bootstrap(lambda rows: float(values[rows].mean()), uneven, draws=4000, seed=1)
    assert bootstrap_mean(values, uneven, draws=4000, seed=2) == pytest.approx(slow, abs=0.008)
    assert bootstrap_mean([], []) == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert bootstrap_mean([2.0] * 5, list("aabbc")) == (2.0, 2.0)


def test_intervals_are_those_of_a_normal_mean() -> None:
    """The percentile's own error at 4,000 draws is 0.04 standard errors; the tolerance is nearly five times that."""
    values = np.random.default_rng(4).standard_normal(400)
    error = values.std() / 20
    for level, z in ((0.95, 1.96), (0.8, 1.2816)):
        low, high = bootstrap_mean(values, draws=4000, level=level)
        assert (low - values.mean()) / error == pytest.approx(-z, abs=0.2)
        assert (high - values.mean()) / error == pytest.approx(z, abs=0.2)


@pytest.mark.parametrize("clustered", [True, False])
def test_intervals_cover_the_mean_only_where_problems_are_drawn_whole(clustered: bool) -> None:
    """120 sets of 40 problems with 5 equal rows each. Drawn whole, 95 % intervals of 40 cover about 93 %; drawn by row they are
    √5 too narrow and cover about 61 %. Fewer than 99 of 120, or more than 95, has a chance below 1e-4."""
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(120):
        values = np.repeat(rng.standard_normal(40), 5)
        groups = np.repeat(np.arange(40), 5) if clustered else None
        low, high = bootstrap_mean(values, groups, draws=200, seed=trial)
        covered += low <= 0 <= high
    assert covered >= 99 if clustered else covered <= 95


def test_draws_without_a_value_do_not_count() -> None:
    values, right = np.array([0.1, 0.9]), np.array([False, True])
    assert bootstrap(lambda rows: auc(values[rows], right[rows]), [0, 1]) == (1.0, 1.0)
    assert bootstrap(lambda rows: math.nan, [0, 1], draws=5) == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert bootstrap(lambda rows: 1.0, []) == pytest.approx((math.nan, math.nan), nan_ok=True)


# From records to tables


def record(
    i: int, confidence: float | None, correct: bool, *, answer: str | None = "4", abstained: bool = False
) -> Record:
    return Record(
        index=i,
        id=str(i),
        group="",
        input="q",
        target="4",
        answer=answer,
        correct=correct,
        confidence=confidence,
        abstained=abstained,
        solution="",
        seed=0,
        model_usage={},
        calls=[],
    )


RECORDS = [
    record(0, 0.9, True),
    record(1, 0.8, False),
    record(2, 0.3, False, answer=None, abstained=True),
    record(3, None, False, answer=None),
    record(4, None, True),
    record(5, 7.0, True),
]


def test_a_summary_of_confidences_by_hand() -> None:
    summary = Summary.of("w", RECORDS, 1.0)
    assert (summary.n, summary.right, summary.no_answer) == (6, 3, 1)
    c = summary.confidence
    assert c is not None
    assert (c.known, c.abstained) == (2, 1)
    assert (c.accuracy, c.surest_half, c.coverage) == (3 / 4, 1.0, 1 / 6)
    assert c.ece == pytest.approx((0.1 + 0.8) / 2)
    assert c.brier == pytest.approx((0.01 + 0.64) / 2)
    assert c.utility == pytest.approx({0: 3 / 6, 1: 2 / 6, 20: -17 / 6})
    assert Confidence.of(RECORDS[::-1]) == c
    assert json.loads(json.dumps(c.data, allow_nan=False))["utility"]["20"] == pytest.approx(-17 / 6)


def test_nobody_is_sure_or_all_abstain() -> None:
    assert Confidence.of([record(0, None, True)]) is None
    assert Confidence.of([]) is None
    assert confidence_table([Summary.of("w", [record(0, None, True)], 1.0)]) is None
    silent = Summary.of("w", [record(i, 0.2, False, answer=None, abstained=True) for i in range(3)], 1.0)
    assert silent.confidence is not None
    assert silent.confidence.utility == {0: 0, 1: 0, 20: 0}
    told = json.loads(json.dumps(silent.confidence.data, allow_nan=False))
    assert told["ece"] is told["accuracy_answered"] is None
    assert "–" in shown([silent], 120)


def shown(summaries: list[Summary], width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    drawn = confidence_table(summaries, width)
    assert drawn is not None
    console.print(drawn)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [120, 100, 80, 60])
def test_the_table_fits_the_terminal(width: int) -> None:
    told = shown([Summary.of("entropic-particle-filter", RECORDS, 1.0)], width)
    assert "…" not in told
    assert max(map(len, told.splitlines())) <= width
    assert ("λ = 20" in told) is (width == 120)
    assert "0.450" in told


def test_the_command_line_tells_abstentions_from_missing_answers(tmp_path: Path) -> None:
    asked = ["eval", "selective", "--limit", "4", "-S", "n=2", "-S", "below=1", "--no-plot", "--log-dir", str(tmp_path)]
    shown = CliRunner().invoke(app, [*asked, "--seed", "1"])
    assert shown.exit_code == 0, shown.output
    assert "surest" in shown.stdout
    (told,) = json.loads(CliRunner().invoke(app, [*asked, "--seed", "1", "--json"]).stdout)
    assert (told["n"], told["no_answer"], told["abstained"] + told["confidence"]["n"]) == (4, 0, 4)
    assert told["abstained"] > 0
    problem = "Start with 17. A: Multiply by 28. B: Multiply by 2. C: Subtract 19. What is the result?"
    single = ["solve", problem, "--workflow", "selective", "-S", "n=2", "-S", "below=2"]
    assert "answer: none (it abstains)  (confidence " in CliRunner().invoke(app, single).stdout
    assert json.loads(CliRunner().invoke(app, [*single, "--json"]).stdout)["abstained"] is True


def recorded(flow: Strategy, file: Path) -> tuple[list[Record], list[Record]]:
    """The records of 30 problems, and the same in the order of finishing."""
    header = Header(
        workflow="w", strategy="s", options={}, task="t", limit=None, seed=0, budget="", models={}, packages={}
    )
    log, done = Log(file, header), list[Record]()
    examples = [Example(Problem(f"problem {i}", str(i)), str(1 + i % 4)) for i in range(30)]
    records = asyncio.run(evaluate(flow, examples, budget=None, seed=0, connections=4, log=log, done=done.append))
    log.close()
    return records, done


def test_records_of_a_workflow_that_abstains(tmp_path: Path) -> None:
    """Each problem's four votes come from its seed; who gets less than three abstains, on purpose and in the record."""
    records, done = recorded(selective(ScriptedModel(), n=4, below=0.75), tmp_path / "w.jsonl")
    assert 5 < sum(r.abstained for r in records) < 30
    for r in records:
        assert r.confidence is not None
        assert r.abstained == (r.answer is None) == (r.confidence < 0.75)
    summary = Summary.of("selective", records, 1.0)
    assert summary.no_answer == 0
    read = Records.read(tmp_path / "w.jsonl").items
    assert Summary.of("selective", read, 1.0) == summary
    assert Summary.of("selective", done, 1.0).confidence == summary.confidence


def test_having_no_answer_is_no_abstention(tmp_path: Path) -> None:
    silent = chain(BestOfN(whole(ScriptedModel(["who knows"])), n=2), majority)
    records, _ = recorded(silent, tmp_path / "w.jsonl")
    assert not any(r.answer or r.abstained for r in records)
    assert Summary.of("w", records, 1.0).no_answer == 30
