"""Verifiers: what scores candidates, higher is better."""

if __name__ == "verifiers":
    raise ImportError("install the project (pip install -e .) and import reasonweave.verifiers, not verifiers")

from reasonweave.verifiers.cached import Cached
from reasonweave.verifiers.calibrate import CalibratedScore, calibrated
from reasonweave.verifiers.cascade import Between, Cascaded
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
from reasonweave.verifiers.judge import UtilityDigit
from reasonweave.verifiers.math_answers import MathAnswers
from reasonweave.verifiers.outcome import OutcomeReward
from reasonweave.verifiers.prm import PrefixReward, ProcessReward
from reasonweave.verifiers.rule import Rule
from reasonweave.verifiers.self_check import SelfCheck

__all__ = [
    "Between",
    "Cached",
    "CalibratedScore",
    "Cascaded",
    "Combined",
    "Confidence",
    "Logistic",
    "MathAnswers",
    "OutcomeReward",
    "Powers",
    "PrefixReward",
    "ProcessReward",
    "Rule",
    "SelfCheck",
    "UtilityDigit",
    "Weights",
    "calibrated",
    "calm",
    "learned",
    "multiplied",
    "probability",
    "weakest",
    "weighted_sum",
]
