"""Presets that spend more only where that looks worth it: cascades, capability-aware sampling, attempts until one is accepted."""

from __future__ import annotations

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.strategies.aggregators.vote import best, majority
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.presets.common import STEPS, searched, steps
from reasonweave.strategies.routers.cascade import (
    Agreement,
    AutoMix,
    Cascade,
    Confidence,
    Measured,
    SelfVerify,
    Tier,
    avg_logprob,
    hybrid,
    margin,
)
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.attempts import Accepted, Attempts, Warming
from reasonweave.strategies.searches.best_of_n import BestOfN
from reasonweave.strategies.searches.capability import PruneMidway, restarts
from reasonweave.strategies.searches.foresight import Newest


def _confidence(score: str, small: Model) -> Confidence:
    known: dict[str, Confidence] = {
        "avg_logprob": Measured(avg_logprob, 2 / 3),
        "margin": Measured(margin, 0.5),
        "hybrid": Measured(hybrid, 0.5),
        "self_verify": SelfVerify(small),
        "automix": AutoMix(small),
        "agreement": Agreement(),
    }
    if score not in known:
        raise BadInput(f"score={score!r}: one of {', '.join(known)} is needed")
    return known[score]


def cascade(
    small: Model,
    large: Model,
    *,
    n: int = 1,
    n_large: int = 1,
    score: str = "avg_logprob",
    threshold: float | None = None,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """A confidence cascade: the small model's vote of n stands where its score is high enough, else the large one answers.

    `score` is avg_logprob, margin, hybrid, self_verify, automix or agreement; `threshold` None is the score's own.
    """
    if score == "agreement" and n < 2:
        raise BadInput("score='agreement' with n=1: one solution always agrees with itself; give n of 2 or more")
    top = 2 if score in ("margin", "hybrid") else 0
    cheap = BestOfN(whole(small, temperature=temperature, max_tokens=max_tokens, top_logprobs=top), n=n, max_steps=1)
    dear = BestOfN(whole(large, temperature=temperature, max_tokens=max_tokens), n=n_large, max_steps=1)
    first = Tier(chain(cheap, majority), _confidence(score, small), threshold)
    return chain(Cascade((first, Tier(chain(dear, majority)))), finish=ForceAnswer(large))


def capability_aware(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    threshold: float = 0.5,
    warming: bool = False,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Capability-aware sampling (Manvi et al., 2024): another solution while `prm` gives none `threshold`; the best one answers.

    `prm` says how likely it is that starting over would do no better. `warming` samples the first solution greedily, and the next
    ones at temperatures that rise to `temperature`.
    """
    policy = whole(small, temperature=temperature, max_tokens=max_tokens)
    heat = Warming(temperature) if warming else None
    return chain(restarts(policy, prm, n, threshold, heat, max_steps=1), best, finish=ForceAnswer(small))


def prune_midway(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    at: int = 2,
    keep: float = 0.25,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Early pruning (Manvi et al., 2024): n solutions begun, the best `keep` share of them by `prm` after `at` steps finished."""
    policy = steps(small, temperature, max_tokens)
    return searched(PruneMidway(policy, Newest(prm), n, at, keep, max_steps=max_steps), end, small)


def attempts(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    threshold: float = 0.5,
    answer: bool = False,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Resampling until a verifier accepts (Stroebl et al., 2024): at most n attempts; none accepted, no answer.

    With `answer`, the attempt with the highest score answers then.
    """
    policy = whole(small, temperature=temperature, max_tokens=max_tokens)
    tries = Attempts(policy, prm, threshold, n, max_steps=1)
    return chain(tries, best, finish=ForceAnswer(small)) if answer else chain(tries, Accepted(threshold))
