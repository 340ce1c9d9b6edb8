"""Step policies: how a candidate gets its next step."""

from reasonweave.strategies.policies.acceptors import Always, AtLeast, Both, Either, Sure, Weighted
from reasonweave.strategies.policies.best_step import (
    Above,
    AboveMean,
    BestStep,
    ByConfidence,
    ByScore,
    Every,
    Gated,
    Momentum,
)
from reasonweave.strategies.policies.budget_forcing import BudgetForcing
from reasonweave.strategies.policies.dynasor import Probed, certaindex, dynasor
from reasonweave.strategies.policies.guard import Guard
from reasonweave.strategies.policies.guided import (
    Advantage,
    Confident,
    Guided,
    Oracle,
    RunningQuality,
    arbitrage,
    spec_search,
    steer,
)
from reasonweave.strategies.policies.handoff import Cues, Handoff
from reasonweave.strategies.policies.lookahead import Aligned, Lookahead, SameText
from reasonweave.strategies.policies.mixture import Mixture
from reasonweave.strategies.policies.reading import Reader, Reading
from reasonweave.strategies.policies.rsd import Clipped, Constant, Logistic, Sigmoid, Threshold, rsd
from reasonweave.strategies.policies.sample import Sample, whole
from reasonweave.strategies.policies.spec_reason import spec_reason
from reasonweave.strategies.policies.speculate import Speculate
from reasonweave.strategies.policies.switch import Fallback, Nudge, Switch
from reasonweave.strategies.policies.thinking import DEER, AlphaOne, NoThinking

__all__ = [
    "DEER",
    "Above",
    "AboveMean",
    "Advantage",
    "Aligned",
    "AlphaOne",
    "Always",
    "AtLeast",
    "BestStep",
    "Both",
    "BudgetForcing",
    "ByConfidence",
    "ByScore",
    "Clipped",
    "Confident",
    "Constant",
    "Cues",
    "Either",
    "Every",
    "Fallback",
    "Gated",
    "Guard",
    "Guided",
    "Handoff",
    "Logistic",
    "Lookahead",
    "Mixture",
    "Momentum",
    "NoThinking",
    "Nudge",
    "Oracle",
    "Probed",
    "Reader",
    "Reading",
    "RunningQuality",
    "SameText",
    "Sample",
    "Sigmoid",
    "Speculate",
    "Sure",
    "Switch",
    "Threshold",
    "Weighted",
    "arbitrage",
    "certaindex",
    "dynasor",
    "rsd",
    "spec_reason",
    "spec_search",
    "steer",
    "whole",
]
