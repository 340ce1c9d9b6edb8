"""Round trip: a solution is told back as a question, the question is solved again, and the two answers are compared."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from reasonweave.orchestrator.answers import alike
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Context, Message, Sampling, Score
from reasonweave.strategies.aggregators.judging import presented
from reasonweave.strategies.prompting.asking import needs, said
from reasonweave.strategies.prompting.wording import back, in_words
from reasonweave.strategies.refining.writing import Prompted, Reading
from reasonweave.strategies.searches.live import complete, extend_live

RESTATE = """\
Here is a solution to a problem that is not shown:

{solution}

Which problem does it solve? Write the problem, complete enough for somebody else to solve it, with all that is given and what
is asked for, and the form in which the answer is wanted. Write no part of the solution, and not its answer."""

MERGE = """\
{problem}

Here are two solutions. The second was written for the problem as it could be told from the first; they do not agree, so that
something is wrong or left out in one of them at least.

{solutions}

Find out what, and write one complete solution to the problem as it stands at the top, with its final answer in the form that
it asks for."""


@dataclass(frozen=True)
class RoundTrip:
    """Round-trip optimisation (optillm's rto): solve, tell the problem from the solution, solve that, compare, merge.

    Of each candidate with an answer, `model` writes down the problem that it solves, without having seen the problem; `policy`
    solves what was written. Where both answers are the same, by the problem's answer space, the candidate stays as it is.
    Where they are not, `model` writes a solution after both, which takes its place.

    Candidates that are not done, a bare problem too, are first finished by `policy`: the drafts. A draft without an answer is
    left alone. So is one where the way back or the merged solution gives no answer; its `Score.error` says so. It yields the
    drafts before anything else is paid.
    """

    policy: StepPolicy
    model: Model
    restate: str = RESTATE
    merge: str = MERGE
    temperature: float = 0.8
    max_tokens: int = 1024
    max_steps: int = 64

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise BadInput(f"RoundTrip(max_steps={self.max_steps}): 1 or more")
        needs(self, "restate prompt", self.restate, "solution")
        needs(self, "merge prompt", self.merge, "problem", "solutions")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        """One call of the model for all restatements and one for all merges; in between the policy's."""
        drafts = roots
        for t in range(self.max_steps):
            drafts = await extend_live(self.policy, drafts, run.child("draft", t))
            yield drafts
            if drafts.all_done:
                break
        items = list(drafts)
        able = [i for i, c in enumerate(items) if c.answer is not None and not c.failed]
        asked = [Context((Message("user", filled(self.restate, solution=presented(items[i]))),)) for i in able]
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        restated = map(said, await self.model.generate(asked, run.child("restate"), sampling=sampling))
        starts: dict[int, Candidate] = {}
        for i, words in zip(able, restated, strict=True):
            if words:
                starts[i] = in_words(Candidate(items[i].problem), words)
            else:
                items[i] = noted(items[i], "the problem could not be told from the solution")
        ways = await complete(self.policy, Candidates(tuple(starts.values())), run.child("again"), most=self.max_steps)
        readings: dict[int, Reading] = {}
        for i, way in zip(starts, ways, strict=True):
            draft, again = items[i], back(way, items[i])
            first, second = alike([draft.answer, again.answer], draft.problem.answers)
            if second is None:
                items[i] = noted(draft, "solved again, the problem told from the solution gave no answer")
            elif first != second:
                readings[i] = Reading(draft.problem, (draft, again))
        if items != list(drafts):
            yield Candidates(tuple(items))
        writer = Prompted(self.model, self.merge, self.temperature, self.max_tokens)
        for i, merged in zip(readings, await writer.write(list(readings.values()), run.child("merge")), strict=True):
            whole = merged.answer is not None
            untold = noted(items[i], "the merged solution gave no answer")
            items[i] = replace(merged, log_weight=items[i].log_weight) if whole else untold
        if readings:
            yield Candidates(tuple(items))


def noted(candidate: Candidate, why: str) -> Candidate:
    """The candidate with this in its score's error; it has the value that it had, none being nan."""
    return replace(candidate, score=replace(candidate.score or Score(math.nan), error=why))
