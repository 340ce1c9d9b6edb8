"""Searches: loops over a step policy and a verifier that yield candidate sets."""

from reasonweave.strategies.searches.adaptive import (
    ESC,
    AdaptiveConsistency,
    BetaStop,
    Consensus,
    DirichletStop,
    EntropyStop,
    MajorityStop,
    esc_expected,
)
from reasonweave.strategies.searches.adaptive_branching import AdaptiveBranching, Beta, Gaussian
from reasonweave.strategies.searches.allocation import (
    Allocation,
    Sharpened,
    Until,
    evenly,
    likelihood,
    optimistic,
    regret,
    unsettled,
)
from reasonweave.strategies.searches.astar import AStar
from reasonweave.strategies.searches.attempts import Accepted, Attempts, Warming
from reasonweave.strategies.searches.beam import DVTS, Beam, StochasticBeam
from reasonweave.strategies.searches.best_of_n import BestOfN
from reasonweave.strategies.searches.capability import PruneMidway, restarts
from reasonweave.strategies.searches.deepconf import DeepConf
from reasonweave.strategies.searches.foresight import (
    Foresight,
    Newest,
    OwnConfidence,
    Tilted,
    mean_entropy,
    mean_probability,
)
from reasonweave.strategies.searches.mcts import MCTS
from reasonweave.strategies.searches.particle import ParticleFilter, ParticleGibbs, entropic, twisted
from reasonweave.strategies.searches.phi import PhiDecoding
from reasonweave.strategies.searches.power import PowerSampling
from reasonweave.strategies.searches.rebase import REBASE
from reasonweave.strategies.searches.refiners import Redo, Refiner, Revise
from reasonweave.strategies.searches.resampling import multinomial, residual, stratified, systematic
from reasonweave.strategies.searches.shortest import Shortest
from reasonweave.strategies.searches.tree_bon import ImplicitReward, TreeBoN
from reasonweave.strategies.searches.tree_of_thoughts import DepthFirst, TreeOfThought
from reasonweave.strategies.searches.weighing import (
    Entropic,
    EssBelow,
    Linear,
    Ratio,
    Replace,
    Steady,
    Twist,
    always,
    by_entropy,
    by_ess,
    by_progress,
    log_odds,
    log_reward,
    raw,
)

__all__ = [
    "DVTS",
    "ESC",
    "MCTS",
    "REBASE",
    "AStar",
    "Accepted",
    "AdaptiveBranching",
    "AdaptiveConsistency",
    "Allocation",
    "Attempts",
    "Beam",
    "BestOfN",
    "Beta",
    "BetaStop",
    "Consensus",
    "DeepConf",
    "DepthFirst",
    "DirichletStop",
    "Entropic",
    "EntropyStop",
    "EssBelow",
    "Foresight",
    "Gaussian",
    "ImplicitReward",
    "Linear",
    "MajorityStop",
    "Newest",
    "OwnConfidence",
    "ParticleFilter",
    "ParticleGibbs",
    "PhiDecoding",
    "PowerSampling",
    "PruneMidway",
    "Ratio",
    "Redo",
    "Refiner",
    "Replace",
    "Revise",
    "Sharpened",
    "Shortest",
    "Steady",
    "StochasticBeam",
    "Tilted",
    "TreeBoN",
    "TreeOfThought",
    "Twist",
    "Until",
    "Warming",
    "always",
    "by_entropy",
    "by_ess",
    "by_progress",
    "entropic",
    "esc_expected",
    "evenly",
    "likelihood",
    "log_odds",
    "log_reward",
    "mean_entropy",
    "mean_probability",
    "multinomial",
    "optimistic",
    "raw",
    "regret",
    "residual",
    "restarts",
    "stratified",
    "systematic",
    "twisted",
    "unsettled",
]
