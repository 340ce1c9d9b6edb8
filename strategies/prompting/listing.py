"""Questions that a list divides: its items one after another, each seeing what came before, or all at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Completion, Problem, Sampling, Step
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.prompting.asking import Listing, asked, needs, numbered, said
from reasonweave.strategies.prompting.wording import Words, marked

POINT = "point"
"""The label of the heading of a point, which nobody wrote there."""


@dataclass(frozen=True)
class InOrder:
    """A preparation: the items of a list are questions, answered in their order, and the problem is asked after all of them.

    `prompt` has {problem}, {item} and {pairs}, the questions answered so far with their answers, each pair followed by a blank
    line, in it; `final` has {problem} and {pairs}. An item that is the problem itself is left out, since the final question
    asks it; so is one whose answer is missing. Without a single pair the problem is put as it is.
    """

    listing: Listing
    prompt: str
    final: str
    temperature: float = 0.8
    max_tokens: int = 512

    def __post_init__(self) -> None:
        needs(self, "prompt", self.prompt, "item", "pairs")
        needs(self, "final question", self.final, "problem", "pairs")

    async def prepare(self, problems: Sequence[Problem], run: Run) -> list[Words]:
        """One call for the lists, and one for the first items of all, one for the second ones, and so on."""
        lists = await self.listing.lists([{"problem": p.prompt} for p in problems], run.child("list"))
        lists = [
            [item for item in items if item.split() != p.prompt.split()]
            for p, items in zip(problems, lists, strict=True)
        ]
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        pairs = [""] * len(problems)
        for k in range(max(map(len, lists), default=0)):
            prompts = [
                filled(self.prompt, problem=p.prompt, item=items[k], pairs=pairs[i]) if k < len(items) else None
                for i, (p, items) in enumerate(zip(problems, lists, strict=True))
            ]
            for i, reply in enumerate(await asked(self.listing.model, prompts, run.child("item", k), sampling)):
                if answer := said(reply):
                    pairs[i] += f"Q: {lists[i][k]}\nA: {answer}\n\n"
        return [
            Words(filled(self.final, problem=p.prompt, pairs=told)) if told else Words(None, _missing(items))
            for p, items, told in zip(problems, lists, pairs, strict=True)
        ]


def _missing(items: Sequence[str]) -> str:
    return "no answer to any item" if items else "no list could be read"


@dataclass(frozen=True)
class AtOnce:
    """A step policy: the items of a list are the points of the answer, all written at the same time, none seeing the others.

    `prompt` has {problem}, {item} and may have {number} and {items}, the list, in it. The solution is the points in their
    order, each after its number and its words in the list, which are nobody's and cost nothing (label "point"). A point that
    could not be written is left out. It is done then. Where no list can be read, or no point written, the problem is asked as
    it is; so is a candidate that has steps already, which goes on.
    """

    listing: Listing
    prompt: str
    temperature: float = 0.8
    max_tokens: int = 256
    direct_tokens: int = 1024
    """Of a solution that is written directly."""

    def __post_init__(self) -> None:
        needs(self, "prompt", self.prompt, "item")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """One call for the lists, one for all points of all of them, and one for those that are written directly."""
        items = list(candidates)
        fresh = [i for i, c in enumerate(candidates) if not c.steps]
        told = [{"problem": candidates[i].problem.prompt} for i in fresh]
        lists = dict(zip(fresh, await self.listing.lists(told, run.child("list")), strict=True))
        plan = [(i, k) for i in fresh for k in range(len(lists[i]))]
        prompts = [self._prompt(candidates[i].problem, lists[i], k) for i, k in plan]
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        replies = dict(zip(plan, await asked(self._model, prompts, run.child("points"), sampling), strict=True))
        for i in fresh:
            written = [(k, item, replies[i, k]) for k, item in enumerate(lists[i]) if said(replies[i, k])]
            if written:
                steps = [step for k, item, reply in written for step in self._point(k, item, reply)]
                last = replace(steps[-1], text=steps[-1].text.removesuffix(DELIMITER))
                items[i] = candidates[i].extend(*steps[:-1], last, done=True)
        if rest := [i for i, c in enumerate(candidates) if items[i] is c]:
            policy = whole(self._model, temperature=self.temperature, max_tokens=self.direct_tokens)
            work = policy.extend([candidates[i] for i in rest], run.child("direct"))
            direct = await work if len(rest) == len(items) else await afforded(work, run) or ()
            for i, new in zip(rest, direct, strict=False):
                why = Words(None, "no point could be written" if lists.get(i) else "no list could be read")
                items[i] = marked(candidates[i], new, why) if i in lists else new
        return items

    @property
    def _model(self) -> Model:
        return self.listing.model

    def _prompt(self, problem: Problem, items: Sequence[str], k: int) -> str:
        told = {"problem": problem.prompt, "item": items[k], "number": str(k + 1), "items": numbered(items)}
        return filled(self.prompt, **told)

    def _point(self, k: int, item: str, reply: Completion) -> tuple[Step, Step]:
        """A point's heading and its text. Its tokens are all that were paid for it, its thinking included."""
        text = said(reply)
        logprob = reply.logprob if text == reply.text.strip() else None
        heading = Step(f"{k + 1}. {item.rstrip(':')}: ", "", 0, 0.0, open=True, label=POINT)
        return heading, Step(text + DELIMITER, self._model.name, reply.usage.completion, logprob)
