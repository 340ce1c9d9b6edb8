"""What a model thinks of a text that it did not write: the log-probability of a continuation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Sampling, Token


class Reader(Protocol):
    """Tells log p(after | before), natural, for each pair of a candidate and what it became; nan where it cannot be told."""

    async def read(self, before: Sequence[Candidate], after: Sequence[Candidate], run: Run) -> list[float]: ...


@dataclass(frozen=True)
class Reading:
    """`model` reads each text once, however often it is asked for (`Sampling.prefix_logprobs`), past the prefix cache.

    The probabilities are those at temperature 1. A model's own end, a token without a text, does not count: of a text that is
    read, nobody asks whether it ends.
    """

    model: Model

    async def read(self, before: Sequence[Candidate], after: Sequence[Candidate], run: Run) -> list[float]:
        sampling = Sampling(temperature=0.0, max_tokens=1, prefix_logprobs=True)
        found = await asked_once(self.model, [candidate.context for candidate in after], run, sampling)
        return [
            tail(read.prefix, len(new.text) - len(old.text))
            for read, old, new in zip(found, before, after, strict=True)
        ]


def tail(tokens: Sequence[Token], length: int) -> float:
    """The log-probability of the last `length` characters; nan where a token of them has none."""
    total = 0.0
    for token in reversed(tokens):
        if length <= 0:
            break
        if not token.text:
            continue
        if token.logprob is None:
            return math.nan
        total += token.logprob
        length -= len(token.text)
    return total if length <= 0 else math.nan
