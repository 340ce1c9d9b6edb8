"""Presets that draw samples until there are enough of them, or cut those that do not help."""

from __future__ import annotations

from collections.abc import Callable

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Condition, Strategy
from reasonweave.strategies.aggregators.brevity import briefest
from reasonweave.strategies.aggregators.vote import majority, posterior
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.adaptive import (
    ESC,
    AdaptiveConsistency,
    BetaStop,
    DirichletStop,
    EntropyStop,
    MajorityStop,
)
from reasonweave.strategies.searches.deepconf import DeepConf
from reasonweave.strategies.searches.shortest import Shortest

RULES: dict[str, Callable[..., Condition]] = {
    "beta": BetaStop,
    "dirichlet": DirichletStop,
    "entropy": EntropyStop,
    "majority": MajorityStop,
}
"""When Adaptive-Consistency stops, by the name that its `rule` option takes."""


def adaptive_consistency(
    small: Model,
    *,
    n: int = 40,
    rule: str = "beta",
    level: float | None = None,
    ahead: int = 1,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Adaptive-Consistency (Aggarwal et al., 2023): up to n solutions, one by one until the leading answer is safe; majority.

    `rule` is beta, dirichlet, entropy or majority; `level` is its threshold (none: the published one, 0.95 for the first two).
    """
    if rule not in RULES:
        raise BadInput(f"rule={rule!r}: one of {', '.join(RULES)} is needed")
    stop = RULES[rule]() if level is None else RULES[rule](level)
    policy = whole(small, temperature=temperature, max_tokens=max_tokens)
    return chain(
        AdaptiveConsistency(policy, n=n, rule=stop, ahead=ahead, max_steps=1), majority, finish=ForceAnswer(small)
    )


def esc(small: Model, *, n: int = 40, window: int = 5, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """ESC (Li et al., 2024): up to n solutions in windows, until all of a window agree; else the majority."""
    policy = whole(small, temperature=temperature, max_tokens=max_tokens)
    return chain(ESC(policy, n=n, window=window, max_steps=1), majority, finish=ForceAnswer(small))


def deepconf(
    small: Model,
    *,
    n: int = 32,
    warmup: int = 16,
    keep: float = 0.9,
    window: int | None = None,
    consensus: float | None = 0.95,
    ahead: int = 1,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """DeepConf online (Fu et al., 2025): unsure solutions are cut, the others vote by confidence.

    `window` none is 2,048 tokens, or a quarter of the warm-up's solutions where they are short. `consensus` is none or in 0..1.
    """
    policy = whole(small, temperature=temperature, max_tokens=max_tokens)
    search = DeepConf(policy, n, min(warmup, n), keep, window, consensus, ahead)
    return chain(search, posterior, finish=ForceAnswer(small))


def short_m_at_k(small: Model, *, n: int = 8, m: int = 3, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """short-m@k (Hassid et al., 2025): n solutions at once, the m shortest vote, the others are cut; ties to the shortest."""
    policy = whole(small, temperature=temperature, max_tokens=max_tokens)
    return chain(Shortest(policy, k=n, m=min(m, n)), briefest, finish=ForceAnswer(small))
