"""Draft a step cheaply, keep it or redo it: the hinge of reasoning-level speculation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Acceptor, StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate


@dataclass(frozen=True)
class Speculate:
    """`draft` writes a step for each candidate; where `accept` says no, `target` writes it instead, from the same prefix.

    The first `first` steps of a candidate are the target's, unjudged. Each extension is at most three rounds for the whole
    batch: drafts together, judgements together, redos together. A draft that failed, or that ended without a word, is the
    target's to write. A redo is not judged again.
    """

    draft: StepPolicy
    target: StepPolicy
    accept: Acceptor
    first: int = 0

    def __post_init__(self) -> None:
        if self.first < 0:
            raise BadInput(f"Speculate(first={self.first}): a number of steps is 0 or more")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        extended = dict(enumerate(candidates))
        early = [sum(not step.open for step in c.steps) < self.first for c in candidates]
        redo = [i for i in extended if early[i]]
        rest = [i for i in extended if not early[i]]
        if rest:
            before = [candidates[i] for i in rest]
            drafts = await self.draft.extend(before, run.child("draft"))
            extended |= zip(rest, drafts, strict=True)
            new = {i: len(extended[i].steps) > len(candidates[i].steps) and not extended[i].failed for i in rest}
            written = [i for i in rest if new[i]]
            redo += [i for i in rest if not new[i] and extended[i].done]
            redo += await self._rejected(candidates, extended, written, run)
        if redo:
            redone = await self.target.extend([candidates[i] for i in redo], run.child("target"))
            extended |= zip(redo, redone, strict=True)
        return [extended[i] for i in range(len(candidates))]

    async def _rejected(
        self, candidates: Sequence[Candidate], drafted: dict[int, Candidate], written: list[int], run: Run
    ) -> list[int]:
        if not written:
            return []
        before, after = [candidates[i] for i in written], [drafted[i] for i in written]
        verdicts = await self.accept.accept(before, after, run.child("accept"))
        return [i for i, good in zip(written, verdicts, strict=True) if not good]
