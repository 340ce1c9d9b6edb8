"""The critic: what is good and what is bad in each candidate."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Sampling
from reasonweave.strategies.aggregators.judging import Desk, check_prompts, entrants
from reasonweave.strategies.archon.asking import ATTEMPTS, remarked, worth_another
from reasonweave.strategies.archon.carried import criticised

CRITIC_PROMPT = """\
Below are a problem and {count} responses to it, numbered [1] to [{count}].

Problem:
{problem}

{solutions}

Review each response by itself, from the first to the last: what in it is right and useful, and what is wrong, missing or
beside the point. Name both for each, even if there is little to say. Write no preface and no summary, and a number in
square brackets nowhere but at the head of a review. Each review has this form, N being the number of the response:
[N]
Strengths:
- one a line
Weaknesses:
- one a line"""

_HEAD = re.compile(r"^[ \t#*_>]*(?:response[ \t]*)?\[(\d{1,6})\][*_:.]*", re.IGNORECASE | re.MULTILINE)
_SIDES = "strength", "weakness"


def reviews_in(text: str, count: int) -> dict[int, str]:
    r"""The reviews in a critic's reply by the number of the response, 1 to `count`.

    A review begins with a line that has its number in square brackets, and goes on to the next one. What begins so and does
    not have both strengths and weaknesses is no review but a part of the one before it, which mentions another response. Of
    several reviews of one response the first counts. Of a single response a review needs no number.

    >>> reviews_in("[1]\nStrengths: short\nWeaknesses: wrong, see\n[2] too\n[2]\nStrengths: none\nWeaknesses: all", 2)
    {1: 'Strengths: short\nWeaknesses: wrong, see\n[2] too', 2: 'Strengths: none\nWeaknesses: all'}
    """
    said = after_thinking(text)
    heads = list(_HEAD.finditer(said))
    if not heads and count == 1 and _is_review(said):
        return {1: said.strip()}
    ends = [head.start() for head in heads[1:]] + [len(said)] * bool(heads)
    reviews: list[tuple[int, str]] = []
    for head, end in zip(heads, ends, strict=True):
        body = said[head.end() : end]
        if _is_review(body):
            reviews.append((int(head[1]), body))
        elif reviews:
            reviews[-1] = (reviews[-1][0], reviews[-1][1] + said[head.start() : end])
    found: dict[int, str] = {}
    for number, body in reviews:
        if 1 <= number <= count:
            found.setdefault(number, body.strip().rstrip("-").strip())
    return found


def _is_review(text: str) -> bool:
    return all(side in text.lower() for side in _SIDES)


@dataclass(frozen=True)
class Critic:
    """Archon's critic: `model` writes strengths and weaknesses of each candidate, which becomes a `Criticised` one.

    One call about all of them; where not all fit the model's context, several in one batch. Of whom no review can be read
    is asked about once more; a candidate that then has none goes on as it is, its `Score.error` saying so. Nothing is
    chosen or dropped.
    """

    model: Model
    temperature: float = 0.7
    max_tokens: int = 2048
    prompt: str = CRITIC_PROMPT

    def __post_init__(self) -> None:
        check_prompts(self, self.prompt)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        if not (able := entrants(roots)):
            return
        desk = Desk(self.model, self.prompt, Sampling(self.temperature, max_tokens=self.max_tokens))
        await self.model.ready(run)
        reviews: dict[int, str] = {}  # by the candidate's identity: two may say the same
        left = able
        for attempt in range(ATTEMPTS):
            windows = _packed(desk, left)
            if not windows:
                break
            if reviews:
                yield _with(reviews, roots, able)
            here = run.child("ask", attempt)
            work = desk.ask(windows, here)
            replies = await work if attempt == 0 else await afforded(work, here)
            left = []
            for window, reply in zip(windows, replies or [], strict=replies is not None):
                found = reviews_in(reply.text, len(window))
                reviews |= {id(c): found[number] for number, c in enumerate(window, 1) if number in found}
                if found or worth_another(reply, desk.sampling, fits=desk.fits(window)):
                    left += [c for c in window if id(c) not in reviews]
        yield _with(reviews, roots, able)


def _packed(desk: Desk, some: Sequence[Candidate]) -> list[list[Candidate]]:
    """As many candidates a window as fit with a reply, in order; one that does not fit alone is in none."""
    windows: list[list[Candidate]] = []
    for candidate in some:
        if windows and desk.fits([*windows[-1], candidate]):
            windows[-1].append(candidate)
        elif desk.fits([candidate]):
            windows.append([candidate])
    return windows


def _with(reviews: dict[int, str], roots: Candidates, able: Sequence[Candidate]) -> Candidates:
    """The set with the reviews; those that should have one and do not say so."""
    asked = {id(c) for c in able}

    def reviewed(c: Candidate) -> Candidate:
        if id(c) in reviews:
            return criticised(c, reviews[id(c)])
        return remarked(c, "no critique of it could be made or read") if id(c) in asked else c

    return roots.of_items([reviewed(c) for c in roots])
