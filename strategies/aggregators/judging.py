"""How a model is asked about several candidates at once: windows that fit its context, knockouts over windows, conclusions.

A judge sees candidates without their thinking, numbered, in an order that the run's seed draws. A reply that cannot be read is no
vote for anybody: its window is decided as if there were no judge, by the best score, else by the vote, and ties by the seed.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from reasonweave.orchestrator.answers import FreeText, after_thinking
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import Aggregator
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Completion, Context, Message, Sampling, Score, Token
from reasonweave.strategies.aggregators.ballots import ballots, ticket
from reasonweave.strategies.aggregators.vote import foremost, majority, posterior, score_of
from reasonweave.strategies.policies.sample import continued

Reader: TypeAlias = Callable[[Sequence[Candidate], Completion], Candidate | None]
"""From a window and the reply about it to what comes out of the window; None where the reply cannot be read."""

_SOLUTION = re.compile(r"<solution>(.*?)(?:</solution>|(\Z))", re.DOTALL | re.IGNORECASE)
_MARGIN = 4
"""Tokens by which a candidate may be longer among others than it is alone."""


def check_prompts(part: object, *prompts: str) -> None:
    """Raises `BadInput` for a prompt that would not show the solutions."""
    for prompt in prompts:
        if "{solutions}" not in prompt:
            raise BadInput(f"{type(part).__name__}: the prompt {prompt!r} has no {{solutions}} in it")


@dataclass(frozen=True)
class Desk:
    """Where a model is asked about candidates: a prompt with {problem}, {solutions}, {count}, and how the reply is sampled."""

    model: Model
    prompt: str
    sampling: Sampling
    _counted: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def context(self, some: Sequence[Candidate], **parts: str) -> Context:
        """The question about these candidates, in their order."""
        shown = "\n\n".join(f"[{number}]\n{presented(c)}" for number, c in enumerate(some, 1))
        known = {"problem": some[0].problem.prompt, "count": str(len(some)), "solutions": shown}
        return Context((Message("user", filled(self.prompt, **(known | parts))),))

    def fits(self, some: Sequence[Candidate], **parts: str) -> bool:
        """Is there room for these candidates and a reply, which may take half of the context?"""
        room = self.model.context_length
        if room is None:
            return True
        reply = min(self.sampling.max_tokens, room // 2)
        (frame,) = self.context([replace(some[0], steps=())], **parts).messages
        return self._tokens(frame.content) + sum(self._tokens(presented(c)) + _MARGIN for c in some) + reply <= room

    def _tokens(self, text: str) -> int:
        if text not in self._counted:
            self._counted[text] = self.model.count(Context((Message("user", text),)))
        return self._counted[text]

    def readable(self, some: Sequence[Candidate]) -> list[Candidate]:
        """Those that fit beside the shortest one, which is one of them."""
        shortest = min(some, key=lambda c: self._tokens(presented(c)))
        return [c for c in some if c is shortest or self.fits([shortest, c])]

    def windows(self, some: Sequence[Candidate], most: int) -> list[Sequence[Candidate]]:
        """The candidates in as few windows as hold at most `most` each and fit, all of nearly the same size, and two at least,
        but for one that may be left over. Two that do not fit are a window that does not."""
        n = len(some)
        windows: list[Sequence[Candidate]] = []
        for count in range(math.ceil(n / most), math.ceil(n / 2) + 1):
            windows = [some[n * i // count : n * (i + 1) // count] for i in range(count)]
            if all(self.fits(window) for window in windows if len(window) > 1):
                break
        return windows

    async def ask(self, windows: Sequence[Sequence[Candidate]], run: Run, **parts: str) -> list[Completion]:
        """One call about all these windows."""
        return await self.model.generate([self.context(w, **parts) for w in windows], run, sampling=self.sampling)

    async def ask_most(self, some: Sequence[Candidate], run: Run, *, least: int, **parts: str) -> Completion | None:
        """A call about as many of these as fit, from the first on; None where not even `least` do."""
        await self.model.ready(run)
        for attempt in range(2):  # a server's context may be known only after a first call
            fitting = (some[:n] for n in range(len(some), least - 1, -1))
            if (panel := next((few for few in fitting if self.fits(few, **parts)), None)) is None:
                return None
            (reply,) = await self.ask([panel], run.child(attempt), **parts)
            if reply.finish_reason != "error" or self.fits(panel, **parts):
                break
        return reply


def presented(candidate: Candidate) -> str:
    """A candidate as a judge sees it: what it says after its thinking; where that is nothing, its answer."""
    return after_thinking(candidate.text) or candidate.answer or ""


def entrants(roots: Candidates) -> list[Candidate]:
    """The candidates that can be chosen: those that answer; where none does, those that say anything."""
    able = [c for c in roots if not c.failed and presented(c)]
    return [c for c in able if c.answer is not None] or able


def shuffled(some: Sequence[Candidate], seed: int) -> list[Candidate]:
    """In an order that depends on the seed and on what they say, not on the order they came in."""
    return sorted(some, key=lambda c: ticket(seed, c.text))


def unjudged(some: Sequence[Candidate], seed: int) -> Candidate:
    """Who wins where no judge has spoken: the highest score; without scores one of those behind the vote, which weighs; without
    answers the greatest weight. Equals are drawn by the seed."""
    pool = Candidates(tuple(some), seed=seed)
    if max(merits := [score_of(c) for c in some]) == -math.inf:
        some = _behind(pool, posterior)
        merits = [0.0] * len(some) if some[0].answer is not None else pool.weights.tolist()
    return foremost(pool, some, merits)


def _behind(pool: Candidates, vote: Aggregator) -> list[Candidate]:
    """Those who gave the answer that wins a vote; where nobody answers, all."""
    words = vote(pool).answer
    voters = next((ballot.voters for ballot in ballots(pool) if ballot.words == words), range(len(pool)))
    return [pool[i] for i in voters]


def support(candidates: Candidates, winner: Candidate) -> float | None:
    """The share of the votes cast, by weight, that the winner's answer has; None for free text, and without an answer."""
    if winner.answer is None or isinstance(winner.problem.answers, FreeText):
        return None
    weights = candidates.weights / candidates.weights.max()
    sizes = {ballot.words: math.fsum(weights[list(ballot.voters)]) for ballot in ballots(candidates)}
    mine = math.fsum(size for words, size in sizes.items() if winner.problem.answers.same(words, winner.answer))
    total = math.fsum(sizes.values())
    return mine / total if total else None


def elected(champions: Sequence[Candidate], seed: int) -> tuple[Candidate, float]:
    """Of the winners of several judgements the one that won most often, by answer and then by text; and the share that agrees."""
    pool = Candidates(tuple(champions), seed=seed)
    behind = _behind(pool, majority)
    wins = Counter(c.text for c in behind)
    winner = foremost(pool, behind, [float(wins[c.text]) for c in behind])
    agreeing = len(behind) if winner.answer is not None else wins[winner.text]
    return winner, agreeing / len(champions)


def concluded(candidates: Candidates, winner: Candidate, *, told: str | None = None) -> Candidates:
    """The set with this winner, which no judge has chosen; `told` says why, and stands in the winner's score."""
    marked = winner
    if told is not None:
        marked = replace(winner, score=replace(winner.score or Score(math.nan), error=told))
    items = [marked if c is winner else c for c in candidates]
    if winner.answer is None:  # nothing else would tell that it is the one
        items.sort(key=lambda c: c is not marked)
    return replace(candidates, items=tuple(items), answer=winner.answer, confidence=support(candidates, winner))


def judged(candidates: Candidates, champions: Sequence[Candidate], seed: int, *, told: str | None = None) -> Candidates:
    """The set with the winner of these judgements; each candidate's score is the share of them that it won.

    The confidence is the share that agrees with the winner's answer; where there was one judgement, the winner's `support`.
    """
    winner, agreeing = elected(champions, seed)
    wins = Counter(c.text for c in champions)
    scores = [Score(wins[c.text] / len(champions), error=told if c is winner else None) for c in candidates]
    confidence = agreeing if len(champions) > 1 else support(candidates, winner)
    return replace(candidates.scored(scores), answer=winner.answer, confidence=confidence)


async def knockout(
    desk: Desk,
    read: Reader,
    roots: Candidates,
    run: Run,
    *,
    window: int,
    repeats: int,
    settled: Callable[[Sequence[Candidate]], bool],
) -> AsyncGenerator[Candidates, None]:
    """Windows of candidates, what comes out of them in windows again, until one is left; all of it `repeats` times over, each
    time in another order. One call a round. What comes out of a window and was not in it joins the set.

    First it yields what holds without a judge, which is all where the candidates are `settled`.
    """
    if not (able := entrants(roots)):
        return
    seed, found = run.seed("ties"), roots
    yield concluded(found, unjudged(able, seed))
    if settled(able):
        return
    await desk.model.ready(run)
    brackets, spoken, unread, asked, dropped = [able] * repeats, [False] * repeats, 0, 0, 0
    for r in itertools.count():
        readable = [desk.readable(bracket) for bracket in brackets]
        dropped += len(brackets[0]) - len(readable[0])
        if all(len(bracket) == 1 for bracket in readable) or (asked and asked == unread):  # it does not speak as asked
            break
        here = run.child("round", r)
        order = [shuffled(bracket, here.seed("order", i)) for i, bracket in enumerate(readable)]
        plan = [(i, some) for i, bracket in enumerate(order) for some in desk.windows(bracket, window)]
        put = [len(some) > 1 and desk.fits(some) for _, some in plan]
        replies = iter(await desk.ask([some for (_, some), asks in zip(plan, put, strict=True) if asks], here))
        brackets = [[] for _ in brackets]
        for (i, some), asks in zip(plan, put, strict=True):
            reply = next(replies) if asks else None
            came = read(some, reply) if reply else None
            unfit = reply and reply.finish_reason == "error" and not desk.fits(some)  # only now its length is known
            if len(some) == 1 or unfit:
                brackets[i] += some
                continue
            asked, unread, spoken[i] = asked + 1, unread + (came is None), came is not None
            if came is not None and all(came is not c for c in some):
                found = replace(found, items=(*found, came))
            brackets[i].append(came or unjudged(some, seed))
        yield concluded(found, unjudged([c for bracket in brackets for c in bracket], seed))
    failed = f"{unread} of {asked} judgements could not be made or read" if unread else ""
    told = "; ".join(filter(None, (failed, f"{dropped} too long to be compared" if dropped else ""))) or None
    champions = [bracket[0] for bracket, last in zip(brackets, spoken, strict=True) if last]
    if champions:
        yield judged(found, champions, seed, told=told)
    else:
        yield concluded(found, unjudged(able, seed), told=told)


def alone(some: Sequence[Candidate]) -> bool:
    """Is there nothing to compare?"""
    return len(some) == 1


def unanimous(some: Sequence[Candidate]) -> bool:
    """Is there nothing to choose, all giving one answer?"""
    return alone(some) or len(ballots(Candidates(tuple(some)))) == 1


def new_solution(some: Sequence[Candidate], reply: Completion, author: str) -> Candidate | None:
    """The solution that a model has written between the tags, as a candidate; None where there is none, or where it gives no
    answer though its sources do."""
    whole = reply.finish_reason in ("eos", "stop")
    found = [m for m in _SOLUTION.finditer(after_thinking(reply.text)) if m[1].strip() and (whole or m[2] is None)]
    if not found:
        return None
    text = found[-1][1].strip()
    at, end = reply.text.rindex(text), 0
    tokens = list[Token]()
    for token in reply.tokens:
        begin, end = end, end + len(token.text)
        if begin >= at and end <= at + len(text):
            tokens.append(token)
    part = replace(reply, text=text, tokens=tuple(tokens), finish_reason="eos")
    fresh = Candidate(some[0].problem, log_weight=max(c.log_weight for c in some))
    made = continued(fresh, part, author, whole=True)
    return None if made.answer is None and any(c.answer is not None for c in some) else made
