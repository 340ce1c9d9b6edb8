"""How sure a model was, token by token and step by step: read off log-probabilities that are paid for already."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from reasonweave.orchestrator.types import Candidate, Step, Token

TOP = 20
"""Alternatives a token that policies ask for: what a vLLM server gives without being told to give more."""

Signal: TypeAlias = Callable[[Token], float]
"""From a token and its alternatives to how unsure the model was there, higher is less sure; nan where it cannot be told."""


def entropy(token: Token) -> float:
    """Entropy in nats of the next-token distribution; what the alternatives leave out counts as one more token.

    Exact where all tokens are told, else a lower bound.

    >>> round(entropy(Token("a", 0.0, (("a", math.log(0.5)), ("b", math.log(0.5))))), 4)
    0.6931
    """
    if not token.top:
        return math.nan
    rest = max(0.0, 1 - math.fsum(math.exp(p) for _, p in token.top))
    return -math.fsum(math.exp(p) * p for _, p in token.top if p > -math.inf) - (
        rest * math.log(rest) if rest > 1e-12 else 0.0
    )


def doubt(token: Token) -> float:
    """1 − the probability of the most probable token.

    >>> doubt(Token("b", math.log(0.25), (("a", math.log(0.75)), ("b", math.log(0.25)))))
    0.25
    """
    return 1 - math.exp(token.top[0][1]) if token.top else math.nan


def closeness(token: Token) -> float:
    """1 − the gap between the two most probable tokens (UCoT reads the mean over a step)."""
    if not token.top:
        return math.nan
    second = math.exp(token.top[1][1]) if len(token.top) > 1 else 0.0
    return 1 - (math.exp(token.top[0][1]) - second)


def confidence(token: Token) -> float:
    """Minus the mean log-probability of the alternatives told, in nats (DeepConf's token confidence, k = 20; Fu et al., 2025).

    The other way round than a `Signal`: higher is surer. log k where the k alternatives share everything evenly. Those of
    probability zero are left out; nan where none is told.

    >>> round(confidence(Token("a", 0.0, (("a", math.log(0.5)), ("b", math.log(0.5))))), 4)
    0.6931
    """
    logs = [p for _, p in token.top if p > -math.inf]
    return -math.fsum(logs) / len(logs) if logs else math.nan


def told(steps: Sequence[Step]) -> list[Token]:
    """The tokens of these steps, in order, as far as they were kept."""
    return [token for step in steps for token in step.told]


def latest(steps: Sequence[Step], window: int) -> list[Token]:
    """The last `window` tokens, none where the last step that has any did not keep them."""
    found: list[Token] = []
    for step in reversed(steps):
        if step.tokens and not step.told:
            break
        found = [*step.told, *found]
        if len(found) >= window:
            break
    return found[-window:]


def windowed(signal: Signal, tokens: Sequence[Token], window: int) -> float:
    """The mean of a signal over the last `window` tokens; nan where there is none."""
    values = [value for token in tokens[-window:] if not math.isnan(value := signal(token))]
    return math.fsum(values) / len(values) if values else math.nan


def uncertainty(*steps: Step) -> float:
    """Minus the mean log-probability of the tokens of a step, or of several, in nats: m of MUR. nan where it is not known."""
    known, tokens = [step.logprob for step in steps if step.logprob is not None], sum(step.tokens for step in steps)
    return -math.fsum(known) / tokens if len(known) == len(steps) and tokens else math.nan


def uncertainties(candidate: Candidate) -> list[float]:
    """`uncertainty` of each step of a candidate, in order."""
    return [uncertainty(step) for step in candidate.steps]
