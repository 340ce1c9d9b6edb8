"""In what words a problem is put to a model: the same question in other words, or a question that earlier replies have
prepared.

The words are between a policy and its model. Candidates come back under the problem itself, so that searches, verifiers, votes
and answer spaces have nothing to do with them, and what a candidate has for steps is its solution alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Problem
from reasonweave.strategies.prompting.asking import needs

DIRECT = "direct: "
"""How the label of a solution's first step begins where the problem was asked as it is for want of words; why follows."""


@dataclass(frozen=True)
class Reworded:
    """A step policy whose models are asked `template` instead of the problem, {problem} in it being the problem's text.

    It costs what the policy costs, with a longer prompt, takes its seeds, and goes on from any prefix: use it in any search.
    What the policy itself asks a verifier (as `Speculate` does) is asked about the problem in these words; a search around it
    knows nothing of them.
    """

    policy: StepPolicy
    template: str

    def __post_init__(self) -> None:
        needs(self, "template", self.template, "problem")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        posed = [in_words(c, filled(self.template, problem=c.problem.prompt)) for c in candidates]
        return [back(new, old) for new, old in zip(await self.policy.extend(posed, run), candidates, strict=True)]


@dataclass(frozen=True, slots=True)
class Words:
    """The words for a problem; None: its own, and `why` says what was missing."""

    text: str | None
    why: str = ""


class Preparation(Protocol):
    """Finds the words for problems, asking models on the way.

    Copies of one problem are candidates of it: each may get words of its own. A preparation never fails: where a reply cannot
    be read, or paid, it makes do with what it has, at last with the problem as it is.
    """

    async def prepare(self, problems: Sequence[Problem], run: Run) -> list[Words]: ...


@dataclass(frozen=True)
class Prepared:
    """A step policy that puts the problem in the words that a `preparation` has found for it.

    A candidate without steps is prepared, all of a call together, and keeps its words from then on, also when it is drawn
    again, branched, or cut back: they are in its problem's `meta`, which is no part of what makes a problem equal. So any
    search can extend it step by step; each of its candidates has a plan of its own. One with steps that were written without
    these words is prepared first and goes on from there.

    Where there are no words, and where the first request in these words fails for good (they may not fit the model's context),
    the problem is asked as it is, and the first step's label says why.

    A preparation may spend `share` of what is left of each limit on the whole, and all of a limit on its model's role; the rest
    is the policy's, so that a budget which is too small for both gives solutions to what has been prepared by then.
    """

    policy: StepPolicy
    preparation: Preparation
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BadInput(f"Prepared(share={self.share}): above 0, and 1 at most")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """The preparation's calls for those that have no words yet, then the policy's; its once more for those that failed."""
        key = f"words {hashlib.sha256(repr(self.preparation).encode()).hexdigest()[:12]}"
        words = {i: c.problem.meta[key] for i, c in enumerate(candidates) if c.steps and key in c.problem.meta}
        if new := [i for i in range(len(candidates)) if i not in words]:
            limits: dict[str, Any] = {name: self.share * rest for name, rest in run.ledger.left().items()}
            here = run.child("prepare", budget=Budget(**limits) if limits and self.share < 1 else None)
            words |= zip(new, await self.preparation.prepare([candidates[i].problem for i in new], here), strict=True)
        posed = [in_words(c, words[i].text) for i, c in enumerate(candidates)]
        made = list(await self.policy.extend(posed, run.child("write")))
        lost = [i for i, c in enumerate(candidates) if made[i].failed and not c.steps and words[i].text is not None]
        if lost:
            plain = self.policy.extend([candidates[i] for i in lost], run.child("direct"))
            for i, again in zip(lost, await afforded(plain, run) or (), strict=False):
                made[i], words[i] = again, Words(None, f"asked in other words it failed: {made[i].failed}")
        notes = {i: {key: words[i]} for i in new}
        items = [back(made[i], c, notes.get(i)) for i, c in enumerate(candidates)]
        return [marked(c, items[i], words[i]) if i in notes else items[i] for i, c in enumerate(candidates)]


def in_words(candidate: Candidate, words: str | None) -> Candidate:
    """The candidate with its problem put in these words; None: as it is."""
    return candidate if words is None else replace(candidate, problem=replace(candidate.problem, prompt=words))


def back(new: Candidate, old: Candidate, notes: dict[str, Words] | None = None) -> Candidate:
    """What became of a candidate in other words, under its own problem, with these notes and those of policies within."""
    meta = new.problem.meta if not notes else MappingProxyType({**new.problem.meta, **notes})
    return replace(new, problem=old.problem if meta is old.problem.meta else replace(old.problem, meta=meta))


def marked(before: Candidate, after: Candidate, words: Words) -> Candidate:
    """The candidate with a note on its first new step where the problem was asked as it is; a policy's own label stays."""
    at = len(before.steps)
    if words.text is not None or len(after.steps) == at or after.steps[at].label:
        return after
    noted = replace(after.steps[at], label=f"{DIRECT}{words.why}")
    return replace(after, steps=(*after.steps[:at], noted, *after.steps[at + 1 :]))
