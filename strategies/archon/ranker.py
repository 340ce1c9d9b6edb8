"""Rankings: by a model that puts all candidates in order at once, or by any verifier's scores."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute, range_of, scored
from reasonweave.orchestrator.types import Candidate, Candidates, Sampling, Score
from reasonweave.strategies.aggregators.ballots import ballots
from reasonweave.strategies.aggregators.judging import Desk, check_prompts, entrants, shuffled
from reasonweave.strategies.aggregators.vote import score_of
from reasonweave.strategies.archon.asking import ATTEMPTS, check_counts, fitting, remarked, worth_another
from reasonweave.strategies.archon.carried import critiques_of
from reasonweave.strategies.archon.conclusion import share

RANKER_PROMPT = """\
Below are a problem and {count} responses to it, numbered [1] to [{count}].

Problem:
{problem}

{solutions}
{critiques}
Put all {count} responses in order, the one that answers the problem best first. Begin your reply with one line of this
form, with every number once in place of the letters, and explain the order after it:
Answer: [N] > [M] > [K] and so on"""

_LINE = re.compile(r"^\W*answer\W*?:(.*)$", re.IGNORECASE | re.MULTILINE)
_CHAIN = re.compile(r"^.*\[\d{1,6}\]\s*>.*$", re.MULTILINE)
_ID = re.compile(r"\[(\d{1,6})\]")


def ranking_in(text: str, count: int) -> list[int] | None:
    """The order that a reply puts `count` responses in, as indices from 0, the best first; None where it says none.

    It stands in the first line that begins with "Answer:" and names a response, else in the first that has "[i] >". Numbers
    that are there twice count once, those that do not exist never, and those that are missing come last, in their order.

    >>> ranking_in("Answer: [4] > [2] > [4] > [9]\\n[1] is the worst.", 4), ranking_in("They are all good.", 4)
    ([3, 1, 0, 2], None)
    """
    said = after_thinking(text)
    lines = [line[1] for line in _LINE.finditer(said)] + [line[0] for line in _CHAIN.finditer(said)]
    for line in lines:
        named = dict.fromkeys(int(number) - 1 for number in _ID.findall(line) if 1 <= int(number) <= count)
        if named:
            return [*named, *(i for i in range(count) if i not in named)]
    return None


@dataclass(frozen=True)
class Ranker:
    """Archon's ranker: `model` puts all candidates in order in one reply; the first `top_k` go on (None: all).

    Their score is the share of the others that they are ranked before: 1 for the first, 0 for the last. With
    `use_critiques` they are shown with their critiques, where they have some. They are shown in an order that the seed
    draws. A reply without an order is asked for once more; without any, the `top_k` are those with the highest score so
    far, then those whose answer has most votes, and the first one's `Score.error` says so. Candidates without an answer
    come last if others have one; so do those that do not fit the model's context beside the others. One candidate alone is
    not asked about.
    """

    model: Model
    top_k: int | None = None
    use_critiques: bool = True
    temperature: float = 0.7
    max_tokens: int = 2048
    prompt: str = RANKER_PROMPT

    def __post_init__(self) -> None:
        check_counts(self, top_k=self.top_k)
        check_prompts(self, self.prompt)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        able, standing = entrants(roots), by_standing(roots)
        if len(able) == 1:
            yield first_of(roots, standing, self.top_k)
        if len(able) < 2:
            return
        desk = Desk(self.model, self.prompt, Sampling(self.temperature, max_tokens=self.max_tokens))
        await self.model.ready(run)
        some = shuffled(able, run.seed("order"))
        told = "two of them do not fit the ranker's context"
        for attempt in range(ATTEMPTS):
            panel = fitting(desk, some, self._parts, least=2)
            if not panel:
                break
            here = run.child("rank", attempt)
            work = desk.ask([panel], here, **self._parts(panel))
            replies = await work if attempt == 0 else await afforded(work, here)
            order = ranking_in(replies[0].text, len(panel)) if replies else None
            if order is not None:
                best = [replace(panel[i], score=Score(1 - at / (len(panel) - 1))) for at, i in enumerate(order)]
                late = [remarked(replace(c, score=None), "too long to be ranked") for c in some[len(panel) :]]
                others = [c for c in standing if all(c is not each for each in able)]
                yield first_of(roots, [*best, *late, *others], self.top_k)
                return
            told = "no ranking could be made or read"
            if not replies or not worth_another(replies[0], desk.sampling, fits=desk.fits(panel, **self._parts(panel))):
                break
        yield first_of(roots, [remarked(standing[0], told), *standing[1:]], self.top_k)

    def _parts(self, some: Sequence[Candidate]) -> dict[str, str]:
        return {"critiques": critiques_of(some) if self.use_critiques else ""}


@dataclass(frozen=True)
class Ranked:
    """The `top_k` candidates (None: all) by the scores of any verifier; of equals those whose answer has more votes, then the
    earlier.

    With `first_k` they are judged in order and the first so many that get the verifier's highest score (1 where it declares
    none) are taken and the rest is not judged; where there are fewer, all are ranked. They are judged in waves, each as
    large as the number that is still missing, so that nobody is judged who would not be, one by one. What could not be
    judged comes last. One candidate alone is not judged.
    """

    verifier: Verifier
    top_k: int | None = None
    first_k: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, top_k=self.top_k, first_k=self.first_k)
        if self.first_k is not None:
            absolute(self.verifier, type(self).__name__)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        if len(judgeable(roots)) < 2:
            if len(roots):
                yield first_of(roots, by_standing(roots), self.top_k)
            return
        highest = range_of(self.verifier)[1]
        top = highest if math.isfinite(highest) else 1.0

        def passes(score: Score) -> bool:
            return score.value >= top

        async with aclosing(in_waves(self.verifier, roots, run, self.first_k, passes)) as waves:
            async for scores in waves:
                new = [
                    replace(c, score=scores[i]) if i in scores else replace(c, score=None) for i, c in enumerate(roots)
                ]
                passed = [new[i] for i, score in scores.items() if passes(score)]
                if self.first_k is not None and len(passed) >= self.first_k:
                    yield first_of(roots, by_standing(Candidates(tuple(passed))), None)
                else:
                    yield first_of(roots, by_standing(Candidates(tuple(new))), self.top_k)


def judgeable(candidates: Candidates) -> list[int]:
    """The indices of those that have something to judge."""
    return [i for i, c in enumerate(candidates) if c.steps and not c.failed]


async def in_waves(
    verifier: Verifier, candidates: Candidates, run: Run, first_k: int | None, passes: Callable[[Score], bool]
) -> AsyncGenerator[Mapping[int, Score], None]:
    """The scores of those that have something to judge, by index, more with each wave, until `first_k` pass."""
    waiting = judgeable(candidates)
    scores: dict[int, Score] = {}
    wave = 0
    while waiting:
        missing = len(waiting) if first_k is None else first_k - sum(map(passes, scores.values()))
        if missing <= 0:
            return
        now, waiting = waiting[:missing], waiting[missing:]
        found = await scored(verifier, [candidates[i] for i in now], run.child("wave", wave))
        scores |= dict(zip(now, found, strict=True))
        wave += 1
        yield dict(scores)


def by_standing(candidates: Candidates) -> list[Candidate]:
    """Those that answer first, then by score, then by how many give the same answer, then in their order; the failed last."""
    votes = {i: len(ballot.voters) for ballot in ballots(candidates) for i in ballot.voters}

    def standing(i: int) -> tuple[bool, bool, float, int]:
        c = candidates[i]
        return not c.failed, c.answer is not None, score_of(c), votes.get(i, 0)

    return [candidates[i] for i in sorted(range(len(candidates)), key=standing, reverse=True)]


def first_of(roots: Candidates, order: Sequence[Candidate], most: int | None) -> Candidates:
    """The first of these as the set that goes on, the very first being its conclusion, with its share of the votes in the set
    before."""
    return replace(roots.of_items(order[:most]), answer=order[0].answer, confidence=share(roots, order[0]))
