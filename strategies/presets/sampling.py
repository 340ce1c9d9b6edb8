"""Presets that sample whole solutions and choose."""

from __future__ import annotations

from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.strategies.aggregators.vote import best, majority, weighted
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.best_of_n import BestOfN


def single(small: Model, *, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """One solution by one model: the baseline of everything else."""
    return chain(
        BestOfN(whole(small, temperature=temperature, max_tokens=max_tokens), n=1, max_steps=1),
        majority,
        finish=ForceAnswer(small),
    )


def single_large(large: Model, *, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """One solution by the large model."""
    return single(large, temperature=temperature, max_tokens=max_tokens)


def self_consistency(
    small: Model, *, n: int = 16, temperature: float = 0.8, max_tokens: int = 1024, top_logprobs: int = 0
) -> Strategy:
    """Self-consistency (Wang et al., 2023): n solutions by the small model, and a majority vote on their answers."""
    policy = whole(small, temperature=temperature, max_tokens=max_tokens, top_logprobs=top_logprobs)
    return chain(BestOfN(policy, n=n, max_steps=1), majority, finish=ForceAnswer(small))


def best_of_n(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    top_logprobs: int = 0,
) -> Strategy:
    """Best-of-n (Cobbe et al., 2021): n solutions by the small model, and the one that the reward model likes best."""
    policy = whole(small, temperature=temperature, max_tokens=max_tokens, top_logprobs=top_logprobs)
    return chain(BestOfN(policy, n=n, verifier=prm, max_steps=1), best, finish=ForceAnswer(small))


def weighted_majority(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    top_logprobs: int = 0,
) -> Strategy:
    """Weighted majority (Li et al., 2023): n solutions by the small model vote with their reward-model scores."""
    policy = whole(small, temperature=temperature, max_tokens=max_tokens, top_logprobs=top_logprobs)
    return chain(BestOfN(policy, n=n, verifier=prm, max_steps=1), weighted, finish=ForceAnswer(small))
