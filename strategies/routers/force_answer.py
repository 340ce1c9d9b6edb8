r"""The forced finish: when a run ends without an answer, a short cue and a few tokens make the model commit to one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.answers import box_end
from reasonweave.orchestrator.budget import Reserve
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Candidates, Completion, Context, Sampling, Step


@dataclass(frozen=True)
class ForceAnswer:
    r"""Ask `model` to complete ``The answer is \boxed{`` after the best unfinished candidate, or after the bare problem.

    A budget-forcing finish in the spirit of s1 (Muennighoff et al., 2025). It goes on from the longest solution that still
    fits the budget, greedily, for at most `max_tokens` tokens, and closes what braces are open, so one token is
    enough. It runs only where no candidate has an answer yet.
    """

    model: Model
    cue: str = "The answer is \\boxed{"
    max_tokens: int = 16

    def reserve(self, roots: Candidates) -> Reserve:
        """One call on the bare problem: what a graph keeps back for this finish."""
        prompts = [self.model.count(self._context(root, "")) for root in roots.fresh()]
        usage = self.model.rates.worst(prompt=max(prompts, default=0), completion=self.max_tokens)
        return Reserve(self.model.role, usage)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        if roots.answer is not None or not roots.items or any(c.answer is not None for c in roots):
            return
        longest = max(roots, key=lambda candidate: candidate.tokens)
        chosen = next((c for c in (longest, *roots.fresh()) if self._affordable(c, run)), roots.fresh()[0])
        prefix = chosen.text
        if prefix and not prefix.endswith(DELIMITER):
            prefix = prefix.rpartition(DELIMITER)[0] + DELIMITER if DELIMITER in prefix else ""
        sampling = Sampling(temperature=0.0, max_tokens=self.max_tokens)
        context = self._context(chosen, prefix)
        (written,) = await self.model.generate([context], run.child("force"), sampling=sampling)
        said = _closed(written.text)
        if not said.strip("} \n"):
            return
        cue = Step(self.cue, "", 0)
        finish = Step(said, self.model.name, *_cost(written, said))
        forced = replace(chosen, steps=(*_until(chosen.steps, prefix), cue, finish), done=True, score=None)
        yield replace(Candidates((*roots.items, forced)), answer=forced.answer, stopped=roots.stopped)

    def _context(self, candidate: Candidate, prefix: str) -> Context:
        return Context(candidate.problem.messages, prefix + self.cue)

    def _affordable(self, candidate: Candidate, run: Run) -> bool:
        prompt = self.model.count(self._context(candidate, candidate.text))
        context = self.model.context_length
        if context is not None and prompt + self.max_tokens > context:
            return False
        room = run.ledger.room(self.model.role, self.model.rates, prompt)
        return room is None or room >= self.max_tokens


def _closed(text: str) -> str:
    r"""The text up to the brace that closes the box, or with the braces that are missing.

    >>> _closed("x^{2}}. So"), _closed("x^{2"), _closed("4")
    ('x^{2}}', 'x^{2}}', '4}')
    """
    if (end := box_end(text)) is not None:
        return text[:end]
    unescaped = re.findall(r"(?<!\\)[{}]", text)
    return text + "}" * (1 + unescaped.count("{") - unescaped.count("}"))


def _cost(written: Completion, said: str) -> tuple[int, float | None]:
    """Tokens and log-probability of the part of a completion that was used."""
    used, reached = [], 0
    for token in written.tokens:
        if reached < len(said):
            used.append(token.logprob)
            reached += len(token.text)
    if not written.tokens:
        return written.usage.completion, None
    known = [logprob for logprob in used if logprob is not None]
    return len(used), sum(known) if len(known) == len(used) else None


def _until(steps: Sequence[Step], prefix: str) -> tuple[Step, ...]:
    """The steps whose texts, joined, are this prefix; a step that it cuts is shortened."""
    kept: list[Step] = []
    left = len(prefix)
    for step in steps:
        if left > 0:
            kept.append(step if len(step.text) <= left else replace(step, text=step.text[:left]))
            left -= len(step.text)
    return tuple(kept)
