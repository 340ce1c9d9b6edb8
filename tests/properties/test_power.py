"""Power sampling against p^α, on a model of three tokens whose every text can be listed.

Seeds are fixed; with others a correct sampler would fail each of these with a chance of 1e-5, the p-value asked for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
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
    a, b, end = np.random.default_rng([43, *prefix.encode()]).dirichlet([6.0, 6.0, 3.0]).tolist()
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


def texts(length: int = LENGTH, prefix: str = "", p: float = 1.0) -> dict[str, float]:
    """Every text of at most `length` tokens, with its probability."""
    if prefix.endswith(END) or len(prefix) == length:
        return {prefix: p}
    own = chances(prefix)
    return {text: q for token in own for text, q in texts(length, prefix + (token or END), p * own[token]).items()}


def limit(alpha: float, block: int) -> dict[str, float]:
    """What many moves after each block lead to: p^α of what fits in the blocks so far; what has ended then stays. With a single
    block that is p^α."""
    live, ended = 1.0, dict[str, float]()
    for length in range(block, LENGTH + 1, block):
        powers = {text: p**alpha for text, p in texts(length).items()}
        shares = {text: live * power / math.fsum(powers.values()) for text, power in powers.items()}
        ended |= {text: ended.get(text, 0.0) + share for text, share in shares.items() if text.endswith(END)}
        going = {text: share for text, share in shares.items() if not text.endswith(END)}
        live = math.fsum(going.values())
    return ended | going


def said(candidate: Candidate) -> str:
    return candidate.text + (END if candidate.done else "")


def chi_square(sampling: PowerSampling, shares: Mapping[str, float]) -> float:
    """The p-value of the chains' last texts."""
    (found,) = searched(sampling, range(1))
    at = {text: i for i, text in enumerate(shares)}
    return p_value(np.bincount([at[said(c)] for c in found], minlength=len(at)), np.array(list(shares.values())))


# What the moves leave of the start was computed from the kernel's matrix: a noncentrality below 1.5.
@pytest.mark.parametrize(
    ("temperature", "block", "alpha", "moves", "n"),
    [
        (None, 3, 2.5, 30, 250),
        (1.0, 3, 2.5, 12, 300),
        (1.0, 1, 2.5, 12, 250),
        (2.0, 3, 0.5, 8, 400),
        (1.0, 3, 1, 5, 1000),
    ],
    ids=["as published", "at temperature 1", "block by block", "flattened", "where only lengths decide"],
)
def test_chains_come_to_follow_the_power_of_the_model(
    temperature: float | None, block: int, alpha: float, moves: int, n: int
) -> None:
    assert math.fsum(texts().values()) == pytest.approx(1)
    sampling = PowerSampling(Letters(), n, alpha, block, LENGTH // block, moves, temperature=temperature)
    assert chi_square(sampling, limit(alpha, block)) > 1e-5


def test_without_moves_the_proposal_is_noticed() -> None:
    assert chi_square(PowerSampling(Letters(), 400, 2.5, 3, 1, moves=0), limit(2.5, 3)) < 1e-5
