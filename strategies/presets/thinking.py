"""Presets that decide how long a model thinks."""

from __future__ import annotations

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.strategies.aggregators.vote import majority
from reasonweave.strategies.policies import dynasor as dynasor_steps
from reasonweave.strategies.policies.dynasor import Probed
from reasonweave.strategies.policies.guard import Guard
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.policies.thinking import (
    DEER,
    FINAL,
    AlphaOne,
    Confidence,
    NoThinking,
    arithmetic,
    geometric,
    lowest,
)
from reasonweave.strategies.presets.common import STEPS, stepwise
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.best_of_n import BestOfN

CONFIDENCES: dict[str, Confidence] = {"mean": arithmetic, "geometric": geometric, "min": lowest}
"""How DEER reads a probe, by the name that its `confidence` option takes."""


def deer(
    small: Model,
    *,
    threshold: float = 0.95,
    confidence: str = "mean",
    cues: str = "Wait,Alternatively",
    probe: str = FINAL,
    probes: int = 10,
    think_end: str = "</think>",
    length: int | None = None,
    share: float = 0.9,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.0,
    max_tokens: int = 1024,
) -> Strategy:
    """DEER (Yang et al., 2025): where the model says "Wait", a probe; thinking ends once its answer is sure.

    `cues` are separated by commas; `length` is the tokens of a solution, of which thinking may take `share`.
    """
    if confidence not in CONFIDENCES:
        raise BadInput(f"confidence={confidence!r}: one of {', '.join(CONFIDENCES)} is needed")
    policy = DEER(
        small,
        threshold,
        tuple(cue for part in cues.split(",") if (cue := part.strip())),
        probe,
        probes=probes,
        confidence=CONFIDENCES[confidence],
        think_end=think_end,
        length=length,
        share=share,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    return stepwise(Guard(policy, repeats=3), n, small, max_steps)


def alpha_one(
    small: Model,
    *,
    typical: float = 1024,
    alpha: float = 1.4,
    word: str = "Wait",
    think_end: str = "</think>",
    final: str = FINAL,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.0,
    max_tokens: int = 1024,
) -> Strategy:
    """AlphaOne (Zhang et al., 2025): "Wait" put in ever more rarely until alpha · `typical` tokens, then no more of it.

    `typical` is how many tokens the model thinks on average: measure it.
    """
    policy = AlphaOne(small, typical, alpha, word, think_end, final, temperature, max_tokens=max_tokens)
    return stepwise(Guard(policy, repeats=3), n, small, max_steps)


def no_thinking(
    small: Model,
    *,
    thought: str = NoThinking.thought,
    n: int = 1,
    temperature: float = 0.6,
    max_tokens: int = 1024,
) -> Strategy:
    """NoThinking (Ma et al., 2025): n answers after a thought that is over before it began, and a majority vote."""
    policy = NoThinking(whole(small, temperature=temperature, max_tokens=max_tokens), thought)
    return chain(BestOfN(policy, n=n, max_steps=1), majority, finish=ForceAnswer(small))


def dynasor(
    small: Model,
    *,
    effort: str = "mid",
    chunk: int | None = None,
    window: int | None = None,
    probe: str = Probed.probe,
    think_end: str = "</think>",
    n: int = 1,
    temperature: float = 0.7,
    max_tokens: int = 2048,
) -> Strategy:
    """Dynasor-CoT (Fu et al., 2024): a probe every `chunk` tokens; thinking ends once `window` of them agree.

    `effort` (mild, low, mid, high, crazy) sets both. `max_tokens` bounds the thinking, and an answer after an end of its own.
    """
    given = {name: value for name, value in (("chunk", chunk), ("window", window)) if value is not None}
    policy = dynasor_steps(
        small, effort, **given, probe=probe, think_end=think_end, temperature=temperature, max_tokens=max_tokens
    )
    return stepwise(Guard(policy, repeats=3), n, small, max_steps=-(-max_tokens // policy.chunk) + 1)
