"""Verifiers: what scores candidates, higher is better."""

if __name__ == "verifiers":
    raise ImportError("install the project (pip install -e .) and import reasonweave.verifiers, not verifiers")

from reasonweave.verifiers.cached import Cached
from reasonweave.verifiers.calibrate import CalibratedScore, calibrated
from reasonweave.verifiers.cascade import Between, Cascaded
from reasonweave.verifiers.claims import Claim, claims
from reasonweave.verifiers.code import CodeCheck, Stdio
from reasonweave.verifiers.combine import (
    Combined,
    Logistic,
    Powers,
    Weights,
    learned,
    multiplied,
    weakest,
    weighted_sum,
)
from reasonweave.verifiers.confidence import Confidence, calm, probability
from reasonweave.verifiers.consistency import Agreement, RoundTrip
from reasonweave.verifiers.constraints import Constraints, share_met, stated
from reasonweave.verifiers.formal import Formal, State, StateLogit, Worth
from reasonweave.verifiers.judge import UtilityDigit
from reasonweave.verifiers.lean import Lean
from reasonweave.verifiers.math_answers import MathAnswers
from reasonweave.verifiers.outcome import OutcomeReward
from reasonweave.verifiers.pairwise import Pairwise, Tournament, bradley_terry, mean_win
from reasonweave.verifiers.prm import PrefixReward, ProcessReward
from reasonweave.verifiers.rubric import Criterion, Rubric
from reasonweave.verifiers.rule import Rule
from reasonweave.verifiers.scaled import Scaled
from reasonweave.verifiers.self_check import BrainstormedCheck, SelfCheck, SelfEvaluation
from reasonweave.verifiers.steps import Finding, StepCheck
from reasonweave.verifiers.unit_tests import AssertTests, StatementTests

__all__ = [
    "Agreement",
    "AssertTests",
    "Between",
    "BrainstormedCheck",
    "Cached",
    "CalibratedScore",
    "Cascaded",
    "Claim",
    "CodeCheck",
    "Combined",
    "Confidence",
    "Constraints",
    "Criterion",
    "Finding",
    "Formal",
    "Lean",
    "Logistic",
    "MathAnswers",
    "OutcomeReward",
    "Pairwise",
    "Powers",
    "PrefixReward",
    "ProcessReward",
    "RoundTrip",
    "Rubric",
    "Rule",
    "Scaled",
    "SelfCheck",
    "SelfEvaluation",
    "State",
    "StateLogit",
    "StatementTests",
    "Stdio",
    "StepCheck",
    "Tournament",
    "UtilityDigit",
    "Weights",
    "Worth",
    "bradley_terry",
    "calibrated",
    "calm",
    "claims",
    "learned",
    "mean_win",
    "multiplied",
    "probability",
    "share_met",
    "stated",
    "weakest",
    "weighted_sum",
]
