"""The verifier: a model that argues for a response and then says whether it is right; and the filter that keeps what passes."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute, range_of
from reasonweave.orchestrator.types import Candidate, Candidates, Completion, Context, Message, Sampling, Score
from reasonweave.strategies.aggregators.judging import presented
from reasonweave.strategies.archon.asking import ATTEMPTS, check_counts, remarked, worth_another
from reasonweave.strategies.archon.ranker import in_waves, judgeable

REASONS_PROMPT = """\
Below are a problem and a response to it.

Problem:
{problem}

Response:
{response}

Give the reasons for which this response is right and complete, step by step, as far as there are any. Reply with the reasons
alone."""

VERDICT_PROMPT = """\
Below are a problem, a response to it, and reasons that somebody gave for the response.

Problem:
{problem}

Response:
{response}

Reasons:
{reasons}

Is the response right? Check whether the reasons hold, whether they are enough, and whether the response does what the problem
asks for. Explain what you find in a few sentences, and end with your verdict, which is one of these in square brackets:
[Correct]
[Incorrect]"""

_MARK = re.compile(r"\[\W*(correct|incorrect)\W*\]", re.IGNORECASE)
_WORD = re.compile(r"\b(correct|incorrect)\b", re.IGNORECASE)


def verdict_in(text: str) -> bool | None:
    """Whether a reply calls a response right: by its marks in square brackets or, where it has none, by its last line; None where
    it says both, or neither.

    >>> verdict_in("It holds. [Correct]"), verdict_in("[Correct]? No: [Incorrect]"), verdict_in("Correct?\\nVerdict: incorrect")
    (True, None, False)
    """
    said = after_thinking(text)
    marks = _MARK.findall(said) or _WORD.findall((said.splitlines() or [""])[-1])
    words = {mark.lower() for mark in marks}
    return words == {"correct"} if len(words) == 1 else None


@dataclass(frozen=True)
class ReasonedVerdict:
    """Archon's verifier: `model` writes reasons why a candidate is right, and then reads them for a verdict, 1 or 0.

    A verdict that says both or neither is asked for once more; then the candidate is not judged (nan), and neither is one
    for which no reasons came. Candidates that say the same share a verdict.

    Costs: two replies of up to `max_tokens` tokens a candidate.
    """

    model: Model
    temperature: float = 0.7
    max_tokens: int = 2048
    reasons_prompt: str = REASONS_PROMPT
    prompt: str = VERDICT_PROMPT

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        for prompt, blank in (
            (self.reasons_prompt, "{response}"),
            (self.prompt, "{response}"),
            (self.prompt, "{reasons}"),
        ):
            if blank not in prompt:
                raise BadInput(f"ReasonedVerdict: the prompt {prompt!r} has no {blank} in it")

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        asked = [self._context(self.reasons_prompt, c) for c in candidates]
        reasons = await asked_once(self.model, asked, run.child("reasons"), sampling)
        scores = [_lost("reasons", reply) for reply in reasons]
        left = [i for i, reply in enumerate(reasons) if after_thinking(reply.text)]
        for attempt in range(ATTEMPTS):
            if not left:
                break
            contexts = [
                self._context(self.prompt, candidates[i], reasons=after_thinking(reasons[i].text)) for i in left
            ]
            here = run.child("verdict", attempt)
            work = asked_once(self.model, contexts, here, sampling)
            replies = await work if attempt == 0 else await afforded(work, here)
            unread: list[int] = []
            for i, reply in zip(left, replies or [], strict=replies is not None):
                verdict = verdict_in(reply.text)
                scores[i] = _lost("verdict", reply) if verdict is None else Score(float(verdict))
                if verdict is None and worth_another(reply, sampling):
                    unread.append(i)
            left = unread
        return scores

    def _context(self, prompt: str, candidate: Candidate, **parts: str) -> Context:
        known = {"problem": candidate.problem.prompt, "response": presented(candidate)}
        return Context((Message("user", filled(prompt, **(known | parts))),))


def _lost(what: str, reply: Completion) -> Score:
    """No judgement, and why."""
    said = f"in {reply.text[:80]!r}" if reply.text else f"came; the request ended with {reply.finish_reason!r}"
    return Score(math.nan, error=f"no {what}: {reply.error}" if reply.error else f"no {what} {said}")


@dataclass(frozen=True)
class Filter:
    """Archon's filter: the candidates that a verifier gives `threshold` or more go on; where none passes, all do.

    A `threshold` of None stands for the middle of the verifier's range, 0.5 where it declares none. With `first_k` they are
    judged in order until so many pass, in waves as in `Ranked`. Those who go on do so as they are, with the scores that
    they had; one that could not be judged does not pass, and says so in `Score.error` where all go on. One candidate alone is
    not judged.
    """

    verifier: Verifier
    threshold: float | None = None
    first_k: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, first_k=self.first_k)
        if self.first_k is not None:
            absolute(self.verifier, type(self).__name__)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        if len(judgeable(roots)) < 2:
            return
        enough = self._enough

        def passes(score: Score) -> bool:
            return score.value >= enough

        async with aclosing(in_waves(self.verifier, roots, run, self.first_k, passes)) as waves:
            async for scores in waves:
                passed = tuple(roots[i] for i, score in scores.items() if passes(score))
                errors = {i: score.error for i, score in scores.items() if math.isnan(score.value)}
                told = [remarked(c, errors[i] or "not judged") if i in errors else c for i, c in enumerate(roots)]
                yield roots.of_items(passed or told)

    @property
    def _enough(self) -> float:
        if self.threshold is not None:
            return self.threshold
        low, high = range_of(self.verifier)
        return (low + high) / 2 if math.isfinite(low) and math.isfinite(high) else 0.5
