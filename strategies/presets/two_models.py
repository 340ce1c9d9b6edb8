"""Presets that write step by step, most of them with two models."""

from __future__ import annotations

from dataclasses import replace

from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.signals import TOP
from reasonweave.strategies.policies import rsd as rsd_steps
from reasonweave.strategies.policies import spec_reason as spec_reason_steps
from reasonweave.strategies.policies.best_step import BestStep, ByScore, Gated, Momentum
from reasonweave.strategies.policies.budget_forcing import BudgetForcing
from reasonweave.strategies.policies.guard import Guard
from reasonweave.strategies.policies.guided import Guided
from reasonweave.strategies.policies.handoff import Cues, Handoff
from reasonweave.strategies.policies.lookahead import Aligned, Lookahead, SameText
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.policies.switch import Switch
from reasonweave.strategies.presets.common import STEPS, stepwise


def spec_reason(
    small: Model,
    large: Model,
    judge: Verifier,
    *,
    threshold: float = 7.0,
    first: int = 0,
    sure: float = 0.0,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.6,
    top_p: float = 0.95,
    max_tokens: int = 512,
) -> Strategy:
    """SpecReason (Pan et al., 2025): the small model drafts steps, the large one redoes those that its judgement rejects."""
    policy = spec_reason_steps(
        small,
        large,
        judge,
        threshold,
        first=first,
        sure=sure,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
    )
    return stepwise(policy, n, large, max_steps)


def speculative_thinking(
    small: Model,
    large: Model,
    *,
    every: bool = False,
    cues: str = "",
    one_step: bool = False,
    cue_tokens: int = 20,
    check_tokens: int = 125,
    recap_tokens: int = 125,
    recap_after: int = 15,
    begin_tokens: int = 0,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.6,
    top_p: float = 0.95,
    top_k: int = 50,
    max_tokens: int = 1024,
) -> Strategy:
    """Speculative Thinking (Yang et al., 2025): the large model writes where the small one affirms, reflects or verifies.

    `cues` adds words to those that show reflection, separated by commas.
    """
    known, added = Cues(), tuple(word for part in cues.split(",") if (word := part.strip()))
    policy = Handoff(
        small,
        large,
        every=every,
        cues=replace(known, reflection=known.reflection + added),
        one_step=one_step,
        cue_tokens=cue_tokens,
        check_tokens=check_tokens,
        recap_tokens=recap_tokens,
        recap_after=recap_after,
        begin_tokens=begin_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_tokens=max_tokens,
    )
    return stepwise(Guard(policy, repeats=3), n, large, max_steps)


def rsd(
    small: Model,
    large: Model,
    prm: Verifier,
    *,
    delta: float = 0.7,
    sure: float = 0.0,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 512,
) -> Strategy:
    """Reward-guided speculative decoding (Liao et al., 2025): the large model redoes steps with a reward below delta."""
    policy = rsd_steps(small, large, prm, delta, sure=sure, temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    return stepwise(policy, n, large, max_steps)


def entropy_switch(
    small: Model,
    large: Model,
    *,
    threshold: float = 0.5,
    window: int = 16,
    dwell: int = 1,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Entropy-adaptive switching (Simonds, 2025): the large model writes on where the mean token entropy is above a threshold."""
    draft, target = (
        Sample(model, temperature=temperature, max_tokens=max_tokens, top_logprobs=TOP) for model in (small, large)
    )
    return stepwise(Guard(Switch(draft, target, threshold, window=window, dwell=dwell)), n, large, max_steps)


def mur(
    small: Model,
    prm: Verifier,
    *,
    width: int = 4,
    gamma: float = 0.9,
    alpha: float = 0.9,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Strategy:
    """Momentum uncertainty (MUR; Yan et al., 2025): more drafts of a step, the best by reward, where it looks uncertain."""
    policy = Sample(small, temperature=temperature, max_tokens=max_tokens)
    return stepwise(
        Guard(Gated(policy, Momentum(gamma, alpha), BestStep(policy, ByScore(prm), n=width))), n, small, max_steps
    )


def gsi(
    small: Model,
    large: Model,
    prm: Verifier,
    *,
    width: int = 16,
    beta: float = 20.0,
    threshold: float = 10.0,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.7,
    max_tokens: int = 512,
) -> Strategy:
    """Guided speculative inference (Geuter et al., 2025): soft best-of-n over drafts, tilted to the large model."""
    policy = Guided(small, large, prm, width, beta, threshold, temperature=temperature, max_tokens=max_tokens)
    return stepwise(Guard(policy), n, large, max_steps)


def lookahead(
    small: Model,
    large: Model,
    *,
    gamma: int = 4,
    exact: bool = True,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.0,
    max_tokens: int = 512,
) -> Strategy:
    """Lookahead reasoning (Fu et al., 2025): gamma steps drafted ahead, kept as far as the large model agrees.

    `exact` compares texts; without it the large model is asked whether two steps say the same.
    """
    draft, target = (Sample(model, temperature=temperature, max_tokens=max_tokens) for model in (small, large))
    agreement = SameText() if exact else Aligned(large)
    return stepwise(Guard(Lookahead(draft, target, agreement, gamma)), n, large, max_steps)


def budget_forcing(
    small: Model,
    *,
    waits: int = 1,
    limit: int | None = None,
    word: str = "Wait",
    think_end: str = "</think>",
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Strategy:
    """Budget forcing (s1; Muennighoff et al., 2025): "Wait" where the model would stop, an end where it would not."""
    policy = BudgetForcing(small, waits, limit, word, think_end, temperature=temperature, max_tokens=max_tokens)
    return stepwise(Guard(policy, repeats=3), n, small, max_steps)
