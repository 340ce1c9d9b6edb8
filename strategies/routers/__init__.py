"""Routers: what decides whether and how another part runs."""

from reasonweave.strategies.routers.abstain import Abstain, Calibrated, abstain
from reasonweave.strategies.routers.cascade import (
    Agreement,
    AutoMix,
    Cascade,
    Confidence,
    Measured,
    SelfVerify,
    Tier,
    Verified,
    avg_logprob,
    hybrid,
    margin,
)
from reasonweave.strategies.routers.escalate import Escalate, as_it_is, escalate
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.routers.select import AskModel, Bandit, Choice, Chooser, Select, TryFirst

__all__ = [
    "Abstain",
    "Agreement",
    "AskModel",
    "AutoMix",
    "Bandit",
    "Calibrated",
    "Cascade",
    "Choice",
    "Chooser",
    "Confidence",
    "Escalate",
    "ForceAnswer",
    "Measured",
    "Select",
    "SelfVerify",
    "Tier",
    "TryFirst",
    "Verified",
    "abstain",
    "as_it_is",
    "avg_logprob",
    "escalate",
    "hybrid",
    "margin",
]
