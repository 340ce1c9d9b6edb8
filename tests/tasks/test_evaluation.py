from __future__ import annotations

import asyncio
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest, mannwhitneyu

from reasonweave.orchestrator import Budget, Problem, Strategy, Usage
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.strategies import best_of_n, self_consistency
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.display import table
from reasonweave.tasks.evaluation.plot import front
from reasonweave.tasks.evaluation.records import Header, Log, Record, provenance, without_times
from reasonweave.tasks.evaluation.runner import evaluate, problem_seed
from reasonweave.tasks.evaluation.stats import auc, auc_interval, wilson
from reasonweave.tasks.evaluation.summary import Summary, scaled
from reasonweave.verifiers import ProcessReward

EXAMPLES = [Example(Problem(f"problem {i}", f"id-{i}"), str(1 + i % 4)) for i in range(20)]


@given(st.integers(1, 3000), st.floats(0, 1))
def test_wilson_against_scipy(n: int, share: float) -> None:
    right = round(share * n)
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_without_trials_knows_nothing() -> None:
    assert wilson(0, 0) == (0, 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_against_mann_whitney(cases: list[tuple[int, bool]]) -> None:
    scores, labels = [float(s) for s, _ in cases], [right for _, right in cases]
    good = [s for s, right in zip(scores, labels, strict=True) if right]
    bad = [s for s, right in zip(scores, labels, strict=True) if not right]
    found = auc(scores, labels)
    if not good or not bad:
        assert np.isnan(found)
    else:
        expected = mannwhitneyu(good, bad, method="asymptotic").statistic / (len(good) * len(bad))
        assert found == pytest.approx(expected)


def test_auc_interval_covers_about_as_often_as_it_says() -> None:
    """60 intervals for a known AUC of 0.76 (two normals one standard deviation apart): fewer than 48 covering, or a bug,
    has probability below 1e-4 at a true coverage of 93 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        labels = rng.random(300) < 0.5
        scores = rng.standard_normal(300) + labels
        low, high = auc_interval(scores.tolist(), labels.tolist(), list(range(300)), draws=200, seed=trial)
        covered += low <= 0.7602 <= high
    assert covered >= 48


def test_the_front_drops_what_is_dearer_and_no_better() -> None:
    assert front([(1, 0.5), (2, 0.5), (3, 0.4), (3, 0.8), (2, 0.6)]) == [(1, 0.5), (2, 0.6), (3, 0.8)]
    assert front([]) == []


@pytest.mark.parametrize(("width", "by_model"), [(120, True), (80, False)])
def test_the_table_fits_the_terminal(width: int, by_model: bool) -> None:
    spent = {name: Usage(900_000, 0, 300_000, 9, 1e12) for name in ("lab-small", "lab-prm", "lab-large")}
    summary = Summary("weighted-majority", 200, 100, 1, 0, None, 0, spent, 45.2)
    console = Console(width=width, file=io.StringIO())
    console.print(table([summary], "lab", width))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in told
    assert max(map(len, told.splitlines())) <= width
    assert ("lab-prm" in told) is by_model
    assert ("6,000" if by_model else "18,000") in told


def test_numbers_are_told_in_three_figures() -> None:
    assert [scaled(x) for x in (0, 12.345, 999, 1000, 2.5e6, 3.21e9, 1e16)] == [
        "0",
        "12.3",
        "999",
        "1 k",
        "2.5 M",
        "3.21 G",
        "10 P",
    ]


def header() -> Header:
    return Header(
        workflow="w", strategy="s", options={}, task="t", limit=None, seed=0, budget="", models={}, **provenance()
    )


def run(strategy: Strategy, folder: Path, connections: int, budget: Budget | None = None) -> list[Record]:
    log = Log(folder / f"{connections}.jsonl", header())

    async def main() -> list[Record]:
        return await evaluate(
            strategy, EXAMPLES, budget=budget, seed=3, connections=connections, log=log, done=lambda record: None
        )

    try:
        return asyncio.run(main())
    finally:
        log.close()


class Jittery(ScriptedModel):
    """Takes a random time, so that problems finish in another order every time."""

    async def _generate(self, requests):  # type: ignore[no-untyped-def]
        await asyncio.sleep(random.random() / 200)
        return await super()._generate(requests)


@pytest.mark.parametrize("budget", [None, Budget(tokens=150)], ids=["free", "tight"])
def test_records_are_the_same_bytes_at_any_concurrency(tmp_path: Path, budget: Budget | None) -> None:
    flow = best_of_n(Jittery(name="small"), ProcessReward(ScriptedReward(name="prm")), n=6)
    lines = []
    for connections in (1, 8, 64):
        run(flow, tmp_path, connections, budget)
        lines.append([without_times(line) for line in (tmp_path / f"{connections}.jsonl").read_text().splitlines()])
    assert lines[0] == lines[1] == lines[2]
    assert len(lines[0]) == 21


def test_records_add_up_and_read_back(tmp_path: Path) -> None:
    records = run(self_consistency(ScriptedModel(name="small"), n=4), tmp_path, 4)
    for record in records:
        assert record.model_usage["small"].calls == 4
        assert sum(call.usage.completion for call in record.calls) == record.model_usage["small"].completion
        assert record.seed == problem_seed(3, record.id)
    read = [Record.model_validate_json(line) for line in (tmp_path / "4.jsonl").read_text().splitlines()[1:]]
    assert read == records
    summary = Summary.of("x", records, 1.0)
    assert summary.right == sum(r.answer == r.target for r in records)
    assert summary.total.tokens == sum(r.total.tokens for r in records)


class Fails(ScriptedModel):
    async def _generate(self, requests):  # type: ignore[no-untyped-def]
        if "problem 7" in requests[0].context.messages[0].content:
            raise RuntimeError("out of memory")
        return await super()._generate(requests)


def test_one_failing_problem_is_a_record_and_the_others_go_on(tmp_path: Path) -> None:
    records = run(self_consistency(Fails(), n=2), tmp_path, 8)
    assert len(records) == 20
    assert [r.error for r in records if r.error] == ["RuntimeError: out of memory (in node BestOfN)"]
    assert records[7].answer is None


def test_a_file_cut_in_the_middle_keeps_what_was_finished(tmp_path: Path) -> None:
    """As after kill -9: no close, no sorting, every finished line whole."""
    log = Log(tmp_path / "cut.jsonl", header())
    full = run(self_consistency(ScriptedModel(), n=2), tmp_path, 1)
    for record in full[:3]:
        log.add(record)
    lines = (tmp_path / "cut.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["header", "sample", "sample", "sample"]
    log.close()
