"""A model as judge of the last step, by one token: the utility digit of SpecReason (Pan et al., 2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Completion, Context, Message, Sampling, Score

GRADE_PROMPT = "Grade the last step from 0 to 9 for correctness only. Reply with one digit."
GRADE_PREFIX = "Grade: "


@dataclass(frozen=True)
class UtilityDigit:
    """Ask `model` for a digit from 0 to 9 for the last step of each candidate; one token, on a cached prefix.

    The value is the expected digit under the model's probabilities for the ten digits, renormalised; with
    `expected=False`, the greedy digit as in the paper's default. No digit among the alternatives scores 0; a judgement
    that the budget or a failure prevented is nan.
    """

    model: Model
    expected: bool = True
    prompt: str = GRADE_PROMPT
    prefix: str = GRADE_PREFIX

    highest: ClassVar[float] = 9.0
    """The best score, for those who need scores in 0..1."""

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        asked = Message("user", self.prompt)
        contexts = [Context((*c.problem.messages, turn(c), asked), self.prefix) for c in candidates]
        sampling = Sampling(temperature=0.0, max_tokens=1, top_logprobs=20)
        return [Score(self._digit(c)) for c in await asked_once(self.model, contexts, run, sampling)]

    def _digit(self, answer: Completion) -> float:
        if unanswered(answer):
            return math.nan
        if not self.expected or not answer.tokens:
            text = answer.text.strip()
            return float(text) if len(text) == 1 and text in "0123456789" else 0.0
        found = token_probabilities(answer, [str(digit) for digit in range(10)])
        total = sum(found)
        return sum(digit * p for digit, p in enumerate(found)) / total if total else 0.0


def turn(candidate: Candidate) -> Message:
    """A candidate as the assistant's turn that a judge is asked about, its thinking left open: chat templates drop what stands
    before ``</think>`` in earlier turns."""
    return Message("assistant", candidate.text.replace("</think>", ""))


def unanswered(answer: Completion) -> bool:
    """Did the budget or a failure keep the judge from answering?"""
    return answer.finish_reason in ("budget", "error", "cancelled") and not answer.text


def token_probabilities(answer: Completion, texts: Sequence[str]) -> list[float]:
    """The probability that the answer begins with each text, from its first token's top alternatives.

    White space aside, a token counts for a text that begins with it: a tokenizer may cut "False" after the F.
    """
    top = [(text.strip(), math.exp(logprob)) for text, logprob in (answer.tokens[0].top if answer.tokens else ())]
    return [sum(p for token, p in top if token and wanted.startswith(token)) for wanted in texts]
