"""Feedback and edit with three roles: drafts by a writer, remarks on each by a critic, edits of each by an editor."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.refining.feedback import Feedback, Remark, noted
from reasonweave.strategies.refining.writing import Reading, Writer
from reasonweave.strategies.searches.live import begin, score

EDIT_PROMPT = """\
Here are a problem, a draft of its solution, and what readers remarked on the draft. They may be wrong too.

Problem:
{problem}

Draft:
{solution}

Remarks:

{remarks}

Edit the draft: act on the remarks that are justified, leave the rest of it as it is, and write the whole solution out,
without a word about the draft or the remarks. It ends with its answer in the form that the problem asks for."""


@dataclass(frozen=True)
class FeedbackEdit:
    """Feedback and edit models (HelpSteer3; Wang et al., 2025, arXiv 2503.04378): answers, remarks on them, edits.

    There are `drafts` answers by `writer`, `remarks` on each of them by `critic`, and `edits` of each by `editor`, who reads
    `reads` of the remarks on it (None: all).

    Edit j of a draft reads the remarks j · reads, j · reads + 1, …, beginning again after the last. Roots that have an
    answer are their problem's drafts instead. A draft that all remarks on it call right is not edited; remarks that could
    not be made are left out, and a draft without any is edited without. Drafts and edits come out together; with a
    `verifier`, all are scored at the end, in one call: follow it with `best`, or with a vote. One call each for drafts,
    remarks and edits.
    """

    writer: Writer
    critic: Feedback
    editor: Writer
    drafts: int = 4
    remarks: int = 2
    edits: int = 2
    reads: int | None = None
    verifier: Verifier | None = None

    def __post_init__(self) -> None:
        numbers = {"drafts": self.drafts, "remarks": self.remarks, "edits": self.edits, "reads": self.reads or 1}
        if self.reads == 0 or min(numbers.values()) < 1:
            raise BadInput(f"FeedbackEdit({numbers}): 1 or more of each; reads may be None")

    @property
    def unscored(self) -> bool:
        """Do its candidates come without scores?"""
        return self.verifier is None

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        given = [c for c in begin(roots, len(roots)) if c.steps and not c.failed and (c.done or c.answer is not None)]
        answered = {c.problem for c in given}
        readings = [Reading(c.problem) for c in roots.fresh() if c.problem not in answered for _ in range(self.drafts)]
        drafts = given + (await self.writer.write(readings, run.child("draft")) if readings else [])
        yield Candidates(tuple(drafts))
        able = [c for c in drafts if c.steps and not c.failed]
        if not able:
            return
        said = iter(await self.critic.comment([c for c in able for _ in range(self.remarks)], run.child("feedback")))
        told = [(draft, list(islice(said, self.remarks))) for draft in able]
        drafts = [c if why is None else replace(c, score=noted(None, why)) for c, why in _told(drafts, told)]
        yield Candidates(tuple(drafts))
        open_ = [(draft, remarks) for draft, remarks in told if not all(remark.right for remark in remarks)]
        wanted = [self._reading(draft, remarks, j) for draft, remarks in open_ for j in range(self.edits)]
        edits = await self.editor.write(wanted, run.child("edit")) if wanted else []
        found = Candidates((*drafts, *edits))
        if edits:
            yield found
        if self.verifier is not None:
            unscored = Candidates(tuple(replace(c, score=None) for c in found))
            judged = await score(self.verifier, unscored, run.child("verify"))
            kept = [c if why is None else replace(c, score=noted(c.score, why)) for c, why in _told(judged, told)]
            yield judged.of_items(kept)

    def _reading(self, draft: Candidate, remarks: Sequence[Remark], j: int) -> Reading:
        reads = min(self.reads or len(remarks), len(remarks))
        chosen = [remarks[(j * reads + k) % len(remarks)] for k in range(reads)]
        return Reading(draft.problem, (draft,), tuple(dict.fromkeys(remark.text for remark in chosen if remark.text)))


def _told(
    candidates: Iterable[Candidate], told: Sequence[tuple[Candidate, Sequence[Remark]]]
) -> list[tuple[Candidate, str | None]]:
    """The candidates, each with the first reason why a remark on it could not be made or read."""
    why = {
        draft.steps: remark.score.error
        for draft, remarks in reversed(told)
        for remark in reversed(remarks)
        if remark.score is not None and math.isnan(remark.score.value)
    }
    return [(c, why.get(c.steps)) for c in candidates]
