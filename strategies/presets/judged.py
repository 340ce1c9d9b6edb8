"""Presets in which the small model samples whole solutions, and the large one reads them and concludes."""

from __future__ import annotations

from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.strategies.aggregators.fusion import Fusion
from reasonweave.strategies.aggregators.generative import GenSelect, GenSynthesis, UniversalSelfConsistency
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.best_of_n import BestOfN


def universal_self_consistency(
    small: Model,
    large: Model,
    *,
    n: int = 8,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    judge_tokens: int = 1024,
) -> Strategy:
    """Universal self-consistency (Chen et al., 2023): n solutions, of which the large model takes the one that agrees most with
    the others."""
    judge = UniversalSelfConsistency(large, max_tokens=judge_tokens)
    return _judged(small, judge, n, temperature, max_tokens)


def gen_select(
    small: Model,
    large: Model,
    *,
    n: int = 8,
    window: int = 8,
    repeats: int = 1,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    judge_tokens: int = 2048,
) -> Strategy:
    """GenSelect (Moshkov et al., 2025): n solutions, which the large model compares `window` at a time until one is left."""
    judge = GenSelect(large, window=window, repeats=repeats, max_tokens=judge_tokens)
    return _judged(small, judge, n, temperature, max_tokens)


def gen_synthesis(
    small: Model,
    large: Model,
    *,
    n: int = 8,
    window: int = 8,
    repeats: int = 1,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    judge_tokens: int = 2048,
) -> Strategy:
    """GenSynthesis (NeMo-Skills): n solutions, after which the large model writes a new one."""
    judge = GenSynthesis(large, window=window, repeats=repeats, max_tokens=judge_tokens)
    return _judged(small, judge, n, temperature, max_tokens)


def fusion(
    small: Model,
    large: Model,
    *,
    n: int = 8,
    quorum: int = 2,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    judge_tokens: int = 2048,
) -> Strategy:
    """Fusion (vLLM semantic router): n solutions, the large model's analysis of them, and a new one that it writes after both."""
    judge = Fusion(large, quorum=quorum, max_tokens=judge_tokens)
    return _judged(small, judge, n, temperature, max_tokens)


def _judged(small: Model, judge: Strategy, n: int, temperature: float, max_tokens: int) -> Strategy:
    samples = BestOfN(whole(small, temperature=temperature, max_tokens=max_tokens), n=n, max_steps=1)
    return chain(samples, judge, finish=ForceAnswer(small))
