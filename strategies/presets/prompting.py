"""Presets in which a prompt, or several, make the difference; n solutions vote."""

from __future__ import annotations

from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.strategies.aggregators.vote import majority
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.presets.common import stepwise
from reasonweave.strategies.prompting import methods
from reasonweave.strategies.prompting.leap import Leap
from reasonweave.strategies.prompting.plan_search import PlanSearch
from reasonweave.strategies.prompting.round_trip import RoundTrip
from reasonweave.strategies.prompting.wording import Preparation, Prepared
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.best_of_n import BestOfN


def re_reading(small: Model, *, n: int = 1, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """Re-reading, RE2 (Xu et al., 2023): the question is asked twice in one prompt; n solutions vote."""
    return stepwise(methods.re_reading(whole(small, temperature=temperature, max_tokens=max_tokens)), n, small, 1)


def cot_reflection(small: Model, *, n: int = 1, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """Chain of thought with reflection (optillm): think, look back over it, answer, in one prompt; n solutions vote."""
    return stepwise(methods.cot_reflection(whole(small, temperature=temperature, max_tokens=max_tokens)), n, small, 1)


def self_discover(
    small: Model, *, n: int = 1, temperature: float = 0.8, max_tokens: int = 1024, note_tokens: int = 512
) -> Strategy:
    """Self-discover (Zhou et al., 2024): choose ways of thinking, make a form of them, fill it in; n solutions vote."""
    preparation = methods.self_discover(small, temperature=temperature, max_tokens=note_tokens)
    return _prepared(preparation, n, small, temperature, max_tokens)


def least_to_most(
    small: Model,
    *,
    n: int = 1,
    most: int = 6,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    note_tokens: int = 512,
) -> Strategy:
    """Least-to-most (Zhou et al., 2022): at most `most` sub-questions answered in order, then the problem; n solutions vote."""
    preparation = methods.least_to_most(small, most, temperature=temperature, max_tokens=note_tokens)
    return _prepared(preparation, n, small, temperature, max_tokens)


def plan_search(
    small: Model,
    *,
    n: int = 8,
    observations: int = 5,
    ideas: int = 2,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    note_tokens: int = 512,
) -> Strategy:
    """PlanSearch (Wang et al., 2024): n solutions by plans that stand on different observations, and a vote."""
    preparation = PlanSearch(small, observations, ideas=ideas, temperature=temperature, max_tokens=note_tokens)
    return _prepared(preparation, n, small, temperature, max_tokens)


def leap(
    small: Model,
    *,
    n: int = 1,
    tries: int = 4,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    note_tokens: int = 512,
) -> Strategy:
    """LEAP (Zhang et al., 2024): principles from mistakes on the examples in the problem, then an answer; n solutions vote."""
    preparation = Leap(small, tries=tries, temperature=temperature, max_tokens=note_tokens)
    return _prepared(preparation, n, small, temperature, max_tokens)


def skeleton(
    small: Model, *, most: int = 10, temperature: float = 0.8, max_tokens: int = 1024, point_tokens: int = 256
) -> Strategy:
    """Skeleton-of-thought (Ning et al., 2023): the points of an answer in prose, at most `most`, all written at the same time."""
    policy = methods.skeleton_of_thought(
        small, most, temperature=temperature, max_tokens=point_tokens, direct_tokens=max_tokens
    )
    return stepwise(policy, 1, small, 1)


def round_trip(small: Model, *, n: int = 1, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """Round trip (optillm's rto): solve, tell the problem from the solution, solve that, merge if they differ; n such vote."""
    policy = whole(small, temperature=temperature, max_tokens=max_tokens)
    trip = RoundTrip(policy, small, temperature=temperature, max_tokens=max_tokens, max_steps=1)
    return chain(BestOfN(policy, n=n, max_steps=1), trip, majority, finish=ForceAnswer(small))


def _prepared(preparation: Preparation, n: int, small: Model, temperature: float, max_tokens: int) -> Strategy:
    return stepwise(Prepared(whole(small, temperature=temperature, max_tokens=max_tokens), preparation), n, small, 1)
