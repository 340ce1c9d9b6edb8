"""Budget forcing (s1; Muennighoff et al., 2025, arXiv 2501.19393): thinking that goes on, or ends, where the model would not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Sampling
from reasonweave.strategies.policies.sample import continued, put_in
from reasonweave.strategies.policies.switch import cut

WAIT, END = "wait", "end"


@dataclass(frozen=True)
class BudgetForcing:
    r"""One model, step by step, held to a length of thinking.

    Thinking ends at `think_end`, or where the model ends its turn. The first `waits` times that this happens, the end is taken
    back and `word` written instead, so that the model looks again ("Wait", "Alternatively", …: thinking-token steering). Once a
    solution's thinking has `limit` tokens, `think_end` and `final` are written for it, and the model answers in at most
    `answer_tokens`; an answer after an end of its own is not limited. For models without think tags set `think_end=""`.

    The words that are put in cost nothing and are nobody's (`Step.author` is "").
    """

    model: Model
    waits: int = 1
    limit: int | None = None
    word: str = "Wait"
    think_end: str = "</think>"
    final: str = "Final Answer:"
    answer_tokens: int = 128
    until: str = DELIMITER
    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if self.waits < 0 or (self.limit is not None and self.limit < 1):
            raise BadInput(
                f"BudgetForcing(waits={self.waits}, limit={self.limit}): waits is 0 or more, limit 1 or more"
            )

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """A call for each token limit that occurs in the batch; one where there is no `limit`."""
        items = [self._ended(candidate) for candidate in candidates]
        by_room: dict[int, list[int]] = {}
        for i, candidate in enumerate(items):
            by_room.setdefault(self._room(candidate), []).append(i)
        for room, which in sorted(by_room.items()):
            contexts = [items[i].context for i in which]
            stops = tuple(dict.fromkeys(stop for stop in (self.until, self.think_end) if stop))
            sampling = Sampling(self.temperature, self.top_p, max_tokens=room, stop=stops)
            written = await self.model.generate(contexts, run.child("room", room), sampling=sampling)
            for i, completion in zip(which, written, strict=True):
                new = continued(items[i], completion, self.model.name, whole=False)
                answered = self._answered(new)
                items[i] = replace(new, done=True) if answered is not None and answered >= self.answer_tokens else new
        return [self._looking_again(old, new) for old, new in zip(candidates, items, strict=True)]

    def _room(self, candidate: Candidate) -> int:
        if (answered := self._answered(candidate)) is not None:
            return max(1, min(self.max_tokens, self.answer_tokens - answered))
        if closed(candidate, self.think_end):
            return self.max_tokens
        left = self.max_tokens if self.limit is None else self.limit - candidate.tokens
        return max(1, min(self.max_tokens, left))

    def _answered(self, candidate: Candidate) -> int | None:
        """Tokens since a forced end; None where there was none."""
        at = next((n for n, step in enumerate(candidate.steps) if step.label == END), None)
        return None if at is None else sum(step.tokens for step in candidate.steps[at:])

    def _ended(self, candidate: Candidate) -> Candidate:
        """Ends the thinking of a candidate that has reached the limit."""
        if self.limit is None or candidate.tokens < self.limit or closed(candidate, self.think_end):
            return candidate
        blank = "" if candidate.text.endswith("\n") else DELIMITER
        end = f"{self.think_end}{DELIMITER}" if self.think_end else ""
        return put_in(candidate, f"{blank}{end}{self.final}", label=END)

    def _looking_again(self, before: Candidate, after: Candidate) -> Candidate:
        """Takes an end of thinking back, as long as there are waits left."""
        if after.failed or closed(before, self.think_end) or any(step.label == END for step in after.steps):
            return after
        at = after.text.find(self.think_end, len(before.text)) if self.think_end else -1
        waited = sum(step.label == WAIT and bool(step.text.strip()) for step in after.steps)
        if (at < 0 and not after.done) or waited >= self.waits:
            return after
        if len(after.steps) == len(before.steps):
            return after  # nothing was written, so there is nothing to look at again
        open_ = cut(after, at) if at >= 0 else after
        return put_in(open_, opening(open_.text, self.word), label=WAIT)


def closed(candidate: Candidate, think_end: str) -> bool:
    """Is its thinking over, so that what is written now is the answer?"""
    return any(step.label == END for step in candidate.steps) or bool(think_end and think_end in candidate.text)


def opening(text: str, more: str) -> str:
    """What to write after a text so that `more` begins a line."""
    return more if not text or text.endswith("\n") else DELIMITER + more
