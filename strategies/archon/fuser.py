"""The fuser: one new response, or several, written after all that there are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Sampling
from reasonweave.strategies.aggregators.judging import (
    Desk,
    check_prompts,
    concluded,
    entrants,
    new_solution,
    presented,
    unjudged,
)
from reasonweave.strategies.archon.asking import ATTEMPTS, check_counts, fitting, worth_another
from reasonweave.strategies.archon.carried import critiques_of
from reasonweave.strategies.archon.conclusion import share

FUSER_PROMPT = """\
Below are a problem and {count} responses to it, numbered [1] to [{count}]. Each of them may be wrong, or right in parts only.

Problem:
{problem}

{solutions}
{critiques}
Write one response that is better than all of these. Check what they say; take over what holds, put right what does not, and
leave out what is beside the point. {length}Put the whole of it, without a word about the responses above, between these two tags:
<solution>
</solution>"""

LENGTH = "It may have no more words than the longest of them, which has {words}. "
"""What the prompt says of the length, where it is limited."""


@dataclass(frozen=True)
class Fuser:
    """Archon's fuser: `model` reads all candidates, with their critiques where they have some, and writes `samples` new ones,
    which take their place.

    As many candidates are shown as fit the model's context, from the first on, so that after a ranking the best are. A
    reply without its tags, or without an answer where the candidates have one, is asked for once more. What then is missing
    is missing; where nothing is new, the candidate behind the vote stays, its `Score.error` saying so. With `brief` the new
    ones may be no longer than the longest old one. `samples` calls, in one batch.
    """

    model: Model
    samples: int = 1
    brief: bool = False
    temperature: float = 0.7
    max_tokens: int = 2048
    prompt: str = FUSER_PROMPT

    def __post_init__(self) -> None:
        check_counts(self, samples=self.samples)
        check_prompts(self, self.prompt)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        if not (able := entrants(roots)):
            return
        seed = run.seed("ties")
        yield concluded(roots, unjudged(able, seed))
        desk = Desk(self.model, self.prompt, Sampling(self.temperature, max_tokens=self.max_tokens))
        await self.model.ready(run)
        made: list[Candidate] = []
        left = self.samples
        for attempt in range(ATTEMPTS):
            panel = fitting(desk, able, self._parts)
            if not panel or not left:
                break
            here = run.child("fuse", attempt)
            work = desk.ask([panel] * left, here, **self._parts(panel))
            replies = await work if attempt == 0 else await afforded(work, here)
            left = 0
            for reply in replies or ():
                if (new := new_solution(panel, reply, self.model.name)) is not None:
                    made.append(replace(new, log_weight=0.0))
                else:
                    left += worth_another(reply, desk.sampling, fits=desk.fits(panel, **self._parts(panel)))
            if made:
                yield _fused(made, seed)
        if not made:
            winner = unjudged(able, seed)
            stays = concluded(Candidates((winner,)), winner, told="no new response could be made or read")
            yield replace(stays, confidence=share(roots, winner))

    def _parts(self, some: Sequence[Candidate]) -> dict[str, str]:
        words = max(len(presented(c).split()) for c in some)
        return {"critiques": critiques_of(some), "length": LENGTH.format(words=words) if self.brief else ""}


def _fused(made: Sequence[Candidate], seed: int) -> Candidates:
    """The new responses with their vote."""
    found, winner = Candidates(tuple(made)), unjudged(made, seed)
    return replace(concluded(found, winner), confidence=share(found, winner))
