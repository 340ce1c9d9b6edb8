"""P(True): ask a model whether the answer above is right and read the probability of one token (Kadavath et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Context, Message, Sampling, Score
from reasonweave.verifiers.judge import token_probabilities, turn, unanswered

SELF_CHECK_PROMPT = "Is the answer above right? Reply True or False."


@dataclass(frozen=True)
class SelfCheck:
    """P(True) / (P(True) + P(False)) for each candidate's answer, 0.5 where neither is among the alternatives.

    A check that the budget or a failure prevented is nan.
    """

    model: Model
    prompt: str = SELF_CHECK_PROMPT

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        asked = Message("user", self.prompt)
        contexts = [Context((*c.problem.messages, turn(c), asked)) for c in candidates]
        sampling = Sampling(temperature=0.0, max_tokens=1, top_logprobs=20)
        scores = []
        for answer in await asked_once(self.model, contexts, run, sampling):
            if unanswered(answer):
                scores.append(Score(math.nan))
                continue
            true, false = token_probabilities(answer, ["True", "False"])
            scores.append(Score(true / (true + false) if true + false > 0 else 0.5))
        return scores
