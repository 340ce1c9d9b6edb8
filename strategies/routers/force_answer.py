r"""The forced finish: when a run ends without an answer, a short cue and a few tokens make the model commit to one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from reasonweave.orchestrator.budget import Reserve
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Candidates, Context, Sampling, Step


@dataclass(frozen=True)
class ForceAnswer:
    r"""Ask `model` to complete ``The answer is \boxed{`` after the best unfinished candidate, or after the bare problem.

    A budget-forcing finish in the spirit of s1 (Muennighoff et al., 2025). It goes on from the longest solution that still
    fits the budget, greedily, for at most `max_tokens` tokens, and closes the brace itself, so one token is enough. It
    runs only where there is no answer yet.
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
        if roots.answer is not None or not roots.items:
            return
        longest = max(roots, key=lambda candidate: candidate.tokens)
        chosen = next((c for c in (longest, *roots.fresh()) if self._affordable(c, run)), roots.fresh()[0])
        prefix = chosen.text
        if prefix and not prefix.endswith(DELIMITER):
            prefix = prefix.rpartition(DELIMITER)[0] + DELIMITER if DELIMITER in prefix else ""
        sampling = Sampling(temperature=0.0, max_tokens=self.max_tokens, stop=("}",))
        context = self._context(chosen, prefix)
        (written,) = await self.model.generate([context], run.child("force"), sampling=sampling)
        if not written.text.strip("} \n"):
            return
        said = written.text if "}" in written.text else written.text + "}"
        steps = (Step(prefix, "", 0),) if prefix else ()
        finish = Step(self.cue + said, self.model.name, written.usage.completion, written.logprob)
        forced = replace(chosen, steps=(*steps, finish), done=True, score=None)
        yield replace(Candidates((*roots.items, forced)), answer=forced.answer, stopped=roots.stopped)

    def _context(self, candidate: Candidate, prefix: str) -> Context:
        return Context(candidate.problem.messages, prefix + self.cue)

    def _affordable(self, candidate: Candidate, run: Run) -> bool:
        prompt = self.model.count(self._context(candidate, candidate.text))
        room = run.ledger.room(self.model.role, self.model.rates, prompt)
        return room is None or room >= self.max_tokens
