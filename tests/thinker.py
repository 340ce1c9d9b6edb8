"""A model that thinks aloud, for tests of how long it does: one text, and given answers to probes with given probabilities."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from reasonweave.orchestrator import Candidate, Completion, Problem, Request, Run, Token
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies.policies.thinking import FINAL

PROBLEM = Problem("What is 1 + 1?", id="sum")


class Thinker(ScriptedModel):
    """Writes one text from wherever it is, and answers probes in turn, with these probabilities token by token (then 1).

    A prefix that ends with `cue` is a probe. Once the text is left (a tag, a put-in word), it writes `otherwise`. A probability
    of None is not told.
    """

    def __init__(
        self,
        text: str,
        *probes: tuple[str, Sequence[float | None]],
        cue: str = FINAL,
        otherwise: str = "so \\boxed{9}",
    ) -> None:
        super().__init__(self._next, name="m")
        self.text, self.probes, self.cue, self.otherwise = text, list(probes), cue, otherwise
        self.probed = 0

    def is_probe(self, request: Request) -> bool:
        return request.context.prefix.endswith(self.cue) and request.sampling.max_tokens == 20

    def _next(self, request: Request) -> str:
        if self.is_probe(request):
            return self.probes[min(self.probed, len(self.probes) - 1)][0]
        written = request.context.prefix
        return self.text[len(written) :] if self.text.startswith(written) else self.otherwise

    def _complete(self, request: Request) -> Completion:
        made = super()._complete(request)
        if not self.is_probe(request):
            return made
        told = itertools.chain(self.probes[min(self.probed, len(self.probes) - 1)][1], itertools.repeat(1.0))
        self.probed += 1
        tokens = (Token(t.text, None if p is None else math.log(p)) for t, p in zip(made.tokens, told, strict=False))
        return replace(made, tokens=tuple(tokens))


def asked(model: ScriptedModel) -> list[tuple[str, int, tuple[str, ...]]]:
    """(prefix, token limit, stops) of every request, in order."""
    return [(r.context.prefix, r.max_tokens, r.sampling.stop) for call in model.calls for r in call]


def grow(policy: StepPolicy, steps: int = 30, candidate: Candidate | None = None, seed: int = 1) -> Candidate:
    """Extended until it is done; what was there is never touched."""
    candidate = candidate or Candidate(PROBLEM)
    for k in range(steps):
        if candidate.done:
            break
        (new,) = asyncio.run(policy.extend([candidate], Run(seed).child(k)))
        assert new.steps[: len(candidate.steps)] == candidate.steps
        candidate = new
    return candidate


def told(candidate: Candidate) -> list[tuple[str, str, str, int]]:
    return [(s.text, s.author, s.label, s.tokens) for s in candidate.steps]


THOUGHT = "one two\n\nWait three\n\nSo. Wait four</think>\n\nfive"
