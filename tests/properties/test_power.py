"""Power sampling against p^α, on a model of three tokens whose every text can be listed.

Seeds are fixed; with others a correct sampler would fail each of these with a chance of 1e-5, the p-value asked for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from toy import p_value, searched

from reasonweave.orchestrator import Candidate, Completion, Token
from reasonweave.orchestrator.models.base import Model, Request
from reasonweave.orchestrator.types import FinishReason
from reasonweave.strategies.searches import PowerSampling

LENGTH = 3
END = "."
"""How this test writes a model's own end, a token without a text."""


@cache
def chances(prefix: str) -> dict[str, float]:
    """The model's next token after a prefix."""
    a, b, end = np.random.default_rng([5, *prefix.encode()]).dirichlet([2.0, 2.0, 1.0]).tolist()
    return {"a": a, "b": b, "": end}


class Letters(Model):
    """Writes a and b at random until it ends; tells the probabilities of all three tokens."""

    def __init__(self) -> None:
        super().__init__("letters")

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._written(request) for request in requests]

    def _written(self, request: Request) -> Completion:
        rng, text, tokens = random.Random(request.seed), "", list[Token]()
        reason: FinishReason = "length"
        while len(tokens) < request.max_tokens and reason == "length":
            own = chances(request.context.prefix + text)
            hot = [p ** (1 / request.sampling.temperature) for p in own.values()]
            (token,) = rng.choices(list(own), hot)
            told = sorted(((t, math.log(p)) for t, p in own.items()), key=lambda each: -each[1])
            tokens.append(Token(token, math.log(own[token]), tuple(told[: request.sampling.top_logprobs])))
            text += token
            reason = "length" if token else "eos"
        usage = self.rates.price(prompt=self.count(request.context), completion=len(tokens))
        return Completion(text, reason, usage, tuple(tokens))


def texts(prefix: str = "", p: float = 1.0) -> dict[str, float]:
    """Every text of at most LENGTH tokens, with its probability."""
    if prefix.endswith(END) or len(prefix) == LENGTH:
        return {prefix: p}
    own = chances(prefix)
    return {text: q for token in own for text, q in texts(prefix + (token or END), p * own[token]).items()}


def said(candidate: Candidate) -> str:
    return candidate.text + (END if candidate.done or not candidate.text else "")


# What the moves leave of the start was computed from the kernel's matrix: a noncentrality below 0.2 for 400 chains.
@pytest.mark.parametrize(
    ("temperature", "block", "blocks", "alpha", "moves"),
    [(None, 3, 1, 2.5, 12), (1.0, 3, 1, 2.5, 24), (None, 1, 3, 2.5, 12), (2.0, 3, 1, 0.5, 8)],
    ids=["as published", "at temperature 1", "block by block", "flattened"],
)
def test_chains_come_to_follow_the_power_of_the_model(
    temperature: float | None, block: int, blocks: int, alpha: float, moves: int
) -> None:
    every = texts()
    assert math.fsum(every.values()) == pytest.approx(1)
    shares = np.array(list(every.values())) ** alpha
    shares /= shares.sum()
    (found,) = searched(PowerSampling(Letters(), 400, alpha, block, blocks, moves, temperature=temperature), range(1))
    at = {text: i for i, text in enumerate(every)}
    drawn = np.bincount([at[said(c)] for c in found], minlength=len(at))
    assert p_value(drawn, shares) > 1e-5


def test_without_moves_the_proposal_is_noticed() -> None:
    every = texts()
    shares = np.array(list(every.values())) ** 2.5
    (found,) = searched(PowerSampling(Letters(), 400, 2.5, 3, 1, moves=0), range(1))
    at = {text: i for i, text in enumerate(every)}
    assert p_value(np.bincount([at[said(c)] for c in found], minlength=len(at)), shares / shares.sum()) < 1e-5
