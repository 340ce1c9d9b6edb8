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
from reasonweave.strategies.routers.force_answer import ForceAnswer

__all__ = [
    "Abstain",
    "Agreement",
    "AutoMix",
    "Calibrated",
    "Cascade",
    "Confidence",
    "ForceAnswer",
    "Measured",
    "SelfVerify",
    "Tier",
    "Verified",
    "abstain",
    "avg_logprob",
    "hybrid",
    "margin",
]
