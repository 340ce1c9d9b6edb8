"""Aggregators: pure functions on a candidate set."""

from reasonweave.orchestrator.confidence import (
    Windowed,
    bottom_confidence,
    lowest_confidence,
    mean_confidence,
    self_certainty,
    tail_confidence,
)
from reasonweave.strategies.aggregators.brevity import briefest
from reasonweave.strategies.aggregators.confidence import DeepConfVote
from reasonweave.strategies.aggregators.fusion import Fusion
from reasonweave.strategies.aggregators.generative import GenSelect, GenSynthesis, UniversalSelfConsistency
from reasonweave.strategies.aggregators.perplexity import (
    RPC,
    Pruning,
    Weibulls,
    mean_logprob,
    perplexity,
    perplexity_consistency,
    rpc,
    total_logprob,
)
from reasonweave.strategies.aggregators.scores import Borda, LogOdds, weighted_mean
from reasonweave.strategies.aggregators.selection import BestOfMajority, MajorityOfBests, Pessimism, SoftBest
from reasonweave.strategies.aggregators.tool_calls import ToolCallVote, tool_call_vote
from reasonweave.strategies.aggregators.vote import Drawn, best, first, heaviest, majority, posterior, weighted

__all__ = [
    "RPC",
    "BestOfMajority",
    "Borda",
    "DeepConfVote",
    "Drawn",
    "Fusion",
    "GenSelect",
    "GenSynthesis",
    "LogOdds",
    "MajorityOfBests",
    "Pessimism",
    "Pruning",
    "SoftBest",
    "ToolCallVote",
    "UniversalSelfConsistency",
    "Weibulls",
    "Windowed",
    "best",
    "bottom_confidence",
    "briefest",
    "first",
    "heaviest",
    "lowest_confidence",
    "majority",
    "mean_confidence",
    "mean_logprob",
    "perplexity",
    "perplexity_consistency",
    "posterior",
    "rpc",
    "self_certainty",
    "tail_confidence",
    "tool_call_vote",
    "total_logprob",
    "weighted",
    "weighted_mean",
]
