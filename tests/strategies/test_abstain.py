from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import said

from reasonweave.orchestrator import BadInput, Budget, Candidates, Graph, Problem, Run, Strategy, chain, solve
from reasonweave.orchestrator.calibration import ConformalThreshold, Isotonic, Platt, to_json
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies import BestOfN, Calibrated, ForceAnswer, abstain, majority, whole
from reasonweave.strategies.presets import selective

PROBLEM = Problem("What is 2 + 2?")


def answers(*texts: str) -> ScriptedModel:
    """A model that gives these answers in turn; "" is none."""
    return ScriptedModel([f"\\boxed{{{text}}}" if text else "who knows" for text in texts], name="small")


def vote(*texts: str) -> BestOfN:
    return BestOfN(whole(answers(*texts)), n=len(texts), max_steps=1)


def half(confidence: float) -> float:
    return confidence / 2


@pytest.mark.parametrize(("below", "answer"), [(0.6, "4"), (0.75, "4"), (0.76, None), (1.0, None), (0.0, "4")])
def test_what_is_not_sure_enough_is_not_answered(below: float, answer: str | None) -> None:
    result = solve(PROBLEM, chain(vote("4", "4", "4", "5"), majority, abstain(below)))
    assert result.answer == answer
    assert result.confidence == 0.75
    assert result.candidates.abstains is (answer is None)
    assert len(result.candidates) == 4


@given(st.floats(0, 1) | st.none(), st.floats(0, 1))
def test_against_the_rule(confidence: float | None, below: float) -> None:
    found = abstain(below)(Candidates((said("4"),), answer="4", confidence=confidence))
    answered = confidence is not None and confidence >= below
    assert (found.answer, found.abstains, found.confidence) == ("4" if answered else None, not answered, confidence)


def test_a_set_without_a_confidence_abstains_even_where_nothing_is_asked_for() -> None:
    for sure in (None, math.nan):
        found = abstain(below=0.0)(Candidates((said("4"),), answer="4", confidence=sure))
        assert (found.answer, found.abstains) == (None, True)


def test_a_set_without_an_answer_abstains_however_sure_it_is() -> None:
    assert abstain(below=0.5)(Candidates((said(None),), confidence=0.9)).abstains


def test_no_forced_finish_guesses_after_an_abstention() -> None:
    small = answers("4", "5")
    flow = chain(BestOfN(whole(small), n=2, max_steps=1), majority, abstain(0.6), finish=ForceAnswer(small))
    result = solve(PROBLEM, flow)
    assert result.answer is None
    assert result.candidates.abstains
    assert len(small.calls) == 1
    silent = answers("", "")
    flow = chain(BestOfN(whole(silent), n=2, max_steps=1), majority, abstain(0.6), finish=ForceAnswer(silent))
    assert solve(PROBLEM, flow).candidates.abstains
    assert len(silent.calls) == 1


def test_a_conformal_threshold_says_from_where_on() -> None:
    sure = Candidates((said("4"),), answer="4", confidence=0.8)
    assert abstain(ConformalThreshold(0.8, 0.1, None, 50))(sure).answer == "4"
    assert abstain(ConformalThreshold(0.81, 0.1, None, 50))(sure).answer is None
    assert abstain(ConformalThreshold(math.inf, 0.1, None, 5))(sure).abstains


@pytest.mark.parametrize(
    ("calibrator", "confidence"),
    [(half, 0.4), (lambda c: 3 * c, 1.0), (lambda c: c - 1, 0.0), (lambda c: math.nan, None)],
)
def test_calibrated_confidences_replace_raw_ones(calibrator, confidence: float | None) -> None:  # type: ignore[no-untyped-def]
    raw = Candidates((said("4"), said("5")), answer="4", confidence=0.8, seed=7)
    found = Calibrated(calibrator)(raw)
    assert found.confidence == (None if confidence is None else pytest.approx(confidence))
    assert (found.answer, found.items, found.seed, found.abstains) == ("4", raw.items, 7, False)
    assert Calibrated(calibrator)(Candidates((said("4"),), answer="4")).confidence is None


def test_abstaining_by_a_calibrated_confidence() -> None:
    raw = Candidates((said("4"),), answer="4", confidence=0.8)
    assert abstain(0.5, half)(raw) == abstain(0.5)(Calibrated(half)(raw))
    assert (abstain(0.4, half)(raw).answer, abstain(0.41, half)(raw).answer) == ("4", None)
    assert abstain(0.41, half)(raw).confidence == pytest.approx(0.4)


def test_parts_are_shown_as_they_are_configured() -> None:
    assert repr(abstain(0.5, half)) == "Abstain(below=0.5, calibrated=half)"
    assert repr(Calibrated(Platt(2.0, -1.0))) == "Calibrated(calibrator=Platt(slope=2.0, intercept=-1.0))"
    with pytest.raises(BadInput, match="below=nan"):
        abstain(math.nan)


@dataclass(frozen=True)
class Anew:
    """Forgets what was tried, and runs another strategy."""

    strategy: Strategy

    def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        return self.strategy.search(roots.fresh(), run)


@pytest.mark.parametrize(
    ("small", "answer"), [(("4", "4", "5"), "4"), (("4", "5", "6"), "7")], ids=["sure", "referred to the larger model"]
)
def test_a_later_node_may_answer_where_an_earlier_one_abstained(small: tuple[str, ...], answer: str) -> None:
    large = ScriptedModel(["\\boxed{7}"], name="large")
    graph = Graph()
    unsure = graph.add("draft", chain(vote(*small), majority, abstain(0.6)))
    graph.add("large", Anew(chain(BestOfN(whole(large), n=2), majority)), after=unsure, when=lambda c: c.abstains)
    result = solve(PROBLEM, graph)
    assert (result.answer, result.candidates.abstains) == (answer, False)
    assert len(large.calls) == (answer == "7")


def test_where_the_later_node_cannot_be_paid_it_stays_an_abstention() -> None:
    large = ScriptedModel(["\\boxed{7}"], name="large", role="large")
    graph = Graph()
    unsure = graph.add("draft", chain(vote("4", "5", "6"), majority, abstain(0.6)))
    graph.add("large", Anew(chain(BestOfN(whole(large), n=2), majority)), after=unsure, when=lambda c: c.abstains)
    result = solve(PROBLEM, graph, budget=Budget(large=Budget(calls=0)))
    assert result.answer is None
    assert large.calls == []


def test_the_preset_answers_by_the_share_of_votes_and_by_what_was_fitted(tmp_path: Path) -> None:
    def run(**options: object) -> str | None:
        return solve(PROBLEM, selective(answers("4", "4", "4", "5"), n=4, **options)).answer  # type: ignore[arg-type]

    assert (run(), run(below=0.75), run(below=0.8)) == ("4", "4", None)
    file = tmp_path / "fitted.json"
    file.write_text(to_json(Isotonic((0.5, 1.0), (0.0, 0.9))))  # makes 0.45 of 0.75
    assert (run(below=0.44, calibration=str(file)), run(below=0.46, calibration=str(file))) == ("4", None)
    file.write_text(to_json(ConformalThreshold(0.7, 0.1, None, 50)))
    assert run(below=1.0, calibration=str(file)) == "4"
    file.write_text(to_json(ConformalThreshold(0.8, 0.1, None, 50)))
    assert run(below=0.0, calibration=str(file)) is None
