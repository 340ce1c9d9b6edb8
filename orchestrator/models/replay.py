"""Models that answer from a recording: what other votes and stopping rules would have made of the same samples, for no tokens.

`RecordedModel` deals out the recorded solutions of a problem, `RecordedReward` their recorded scores. What a recording does
not have is a `NotRecorded`, never a guess.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, Rating, Request, RewardModel, cut_at
from reasonweave.orchestrator.types import (
    DELIMITER,
    Completion,
    Context,
    FinishReason,
    Message,
    Problem,
    Score,
    Token,
    Usage,
)

QUIET = 16
"""Turns of the event loop that callers get to act on an answer before the next one comes."""


class NotRecorded(BadInput):
    """A recording lacks what is asked of it. The message says what, and how to record it."""


class TooFew(NotRecorded):
    """More samples are asked for than were recorded."""


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """One recorded solution: how many tokens it took, and the sum of their natural log-probabilities (None: unknown).

    `ended` is why it ended. One that was cut ("cancelled") is no whole solution, and is not dealt out.
    """

    text: str
    tokens: int
    logprob: float | None = None
    ended: FinishReason = "eos"
    error: str | None = None
    score: Score | None = None

    @property
    def pieces(self) -> tuple[Token, ...]:
        """As many tokens as it took, with the text and the log-probability shared out evenly: a step's first token has all of
        its text. They are multiples of the sum's last place, so that they add up to it exactly in any order and grouping."""
        if not self.tokens:
            return ()
        each = last = self.logprob
        if self.logprob is not None:
            unit = math.ulp(self.logprob)
            each = round(self.logprob / self.tokens / unit) * unit
            last = self.logprob - (self.tokens - 1) * each
        parts = re.findall(rf".*?{DELIMITER}|.+$", self.text, re.DOTALL)
        parts = parts if len(parts) <= self.tokens else [self.text]
        found: list[Token] = []
        filler, end = Token("", each), 0
        for i, part in enumerate(parts, 1):
            end += len(part)
            due = min(round(self.tokens * end / len(self.text)), self.tokens - (len(parts) - i))
            found.append(Token(part, each))
            found += [filler] * (due - len(found))
        found += [filler] * (self.tokens - len(found))
        return (*found[:-1], Token(found[-1].text, last))

    def begun(self, tokens: int) -> RecordedSample:
        """About what the first tokens were."""
        share = tokens / self.tokens
        logprob = None if self.logprob is None else self.logprob * share
        return RecordedSample(self.text[: round(len(self.text) * share)], tokens, logprob, "cancelled")


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded of one problem: its solutions in the order in which to deal them out, what its bare prompt takes and
    what a rating took (prompt tokens), and what a forced finish wrote, by the text that it went on from."""

    problem: Problem
    samples: tuple[RecordedSample, ...]
    prompt: int = 0
    rating: int = 0
    forced: Mapping[str, RecordedSample] = field(default_factory=dict)


class RecordedModel(Model):
    """A model that answers each request for a whole solution with the problem's next recorded one: the i-th that is asked for
    in a run (a session) gets the i-th.

    The text, the number of tokens, the sum of their log-probabilities, the way it ended and the prompt's tokens are the
    recorded ones. Single tokens are not known: the sum is spread evenly over as many, so that it comes out exactly, and
    anything finer means nothing. So a watch may count tokens and may not read them.

    Time is counted in tokens, one a tick for every request in flight: a call that is cancelled with a watch on it is charged
    what it would have produced until then.

    `temperature` is what the samples were drawn at, and `source` where they are from, for what `NotRecorded` says. It is
    raised for a problem without a recording, for more samples than there are, for one that was cut, for a step alone or what
    follows a prefix (a forced finish that was recorded is known), for fewer tokens than a sample has, for another temperature
    than that of the samples, and for alternatives of tokens or log-probabilities of a prefix.
    """

    def __init__(
        self,
        recordings: Iterable[Recording],
        name: str = "recorded",
        *,
        role: str | None = None,
        rates: Rates | None = None,
        temperature: float | None = None,
        source: str = "the recording",
    ) -> None:
        super().__init__(name, role=role, rates=rates)
        self.temperature, self.source = temperature, source
        self._known = {recording.problem.messages: recording for recording in recordings}
        self._dealt: dict[int, Session] = {}

    def count(self, context: Context) -> int:
        known = self._known.get(context.messages)
        return known.prompt if known and not context.prefix else super().count(context)

    def forget(self, session: int) -> None:
        self._dealt.pop(session, None)

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        session = self._dealt.setdefault(requests[0].session, Session())
        samples = [self._sample(request, session) for request in requests]
        flights = self._fly(samples, requests, session)
        prompts = [self.count(request.context) for request in requests]
        try:
            for flight in flights:
                await flight.landed
        except asyncio.CancelledError:
            for request, flight, prompt in zip(requests, flights, prompts, strict=True):
                flight.landed.cancel()
                if request.watch is not None:
                    request.meter.usage = self.rates.price(prompt=prompt, completion=flight.written(session.now))
            raise
        return [self._completion(*each) for each in zip(samples, flights, prompts, strict=True)]

    def _fly(self, samples: Sequence[RecordedSample], requests: Sequence[Request], session: Session) -> list[Flight]:
        """Put the samples of one call under way, together where nobody watches any of them."""
        if not any(request.watch for request in requests):
            return [session.fly(max(sample.tokens for sample in samples), None)] * len(samples)
        watches = [request.watch and request.watch() for request in requests]
        return [session.fly(sample.tokens, watch) for sample, watch in zip(samples, watches, strict=True)]

    def _sample(self, request: Request, session: Session) -> RecordedSample:
        known, context = self._known.get(request.context.messages), request.context
        if known is None:
            raise self._lacks(
                f"is asked about something else than a recorded problem, {_begun(context.messages)}; a judge, a probe or a "
                "problem that was not recorded needs a model"
            )
        self._check(request, known)
        if context.prefix:
            return known.forced[context.prefix]
        at = session.given[known.problem.messages] = session.given.get(known.problem.messages, -1) + 1
        if at >= len(known.samples):
            told = f"{len(known.samples)} samples of problem {known.problem.id!r}, and more are asked for"
            raise TooFew(f"{self.source} has {told}; record more with a larger -S n=")
        sample = known.samples[at]
        if sample.ended == "cancelled":
            raise self._lacks(
                f"has no whole sample {at + 1} of problem {known.problem.id!r}: a watch cut it; record with a workflow that "
                "cuts none, as self-consistency"
            )
        if sample.tokens > request.max_tokens:
            raise self._lacks(
                f"has a sample of {sample.tokens} tokens where at most {request.max_tokens} are asked for (problem "
                f"{known.problem.id!r}); record again with -S max_tokens={request.max_tokens}"
            )
        return sample

    def _check(self, request: Request, known: Recording) -> None:
        sampling, prefix = request.sampling, request.context.prefix
        if sampling.top_logprobs or sampling.prefix_logprobs:
            told = "what the model thinks of a prefix" if sampling.prefix_logprobs else "the alternatives of each token"
            raise self._lacks(f"does not have {told}, which is asked for: records keep one log-probability a sample")
        if sampling.stop or (prefix and prefix not in known.forced):
            raise self._lacks(
                "has whole solutions, and is asked for a step or for what follows a prefix; workflows that write step by step, "
                "or go on from a text, need a model"
            )
        if self.temperature is not None and sampling.temperature != self.temperature and not prefix:
            raise self._lacks(
                f"was sampled at temperature {self.temperature:g}, and {sampling.temperature:g} is asked for; record again "
                f"with -S temperature={sampling.temperature:g}"
            )

    def _completion(self, sample: RecordedSample, flight: Flight, prompt: int) -> Completion:
        if flight.unreadable:
            raise self._lacks(
                "does not have single tokens, which a watch wants to read; records keep each sample's text and the sum of its "
                "log-probabilities"
            )
        if flight.cut:
            sample = sample.begun(flight.length)
        usage = self.rates.price(prompt=prompt, completion=sample.tokens)
        return Completion(sample.text, sample.ended, usage, sample.pieces, sample.error)

    def _lacks(self, told: str) -> NotRecorded:
        return NotRecorded(f"{self.source} {told}")


class RecordedReward(RewardModel):
    """A reward model that answers with the recorded score of a solution, known by its text: the value and the step scores.

    A rating costs what ratings of that problem cost on average. Raises `NotRecorded` for a text without a score.
    """

    def __init__(
        self,
        recordings: Iterable[Recording],
        name: str = "recorded-scores",
        *,
        role: str | None = None,
        rates: Rates | None = None,
        source: str = "the recording",
    ) -> None:
        super().__init__(name, role=role, rates=rates)
        self.source = source
        self._cost: dict[str, int] = {}
        self._known: dict[tuple[str, str], Score] = {}
        for recording in recordings:
            self._cost[recording.problem.prompt] = recording.rating
            for sample in recording.samples:
                if sample.score is not None:
                    self._known.setdefault((recording.problem.prompt, sample.text), sample.score)

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        return self._cost.get(problem.prompt, 0)

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        return [(self._score(r), self.rates.price(prompt=r.prompt, completion=0)) for r in ratings]

    def _score(self, rating: Rating) -> Score:
        if (score := self._known.get((rating.problem.prompt, "".join(rating.steps)))) is None:
            raise NotRecorded(
                f"{self.source} has no score of a solution of problem {rating.problem.id!r} that is to be rated; records have "
                "the scores of whole solutions, where a verifier gave them, as in eval weighted-majority"
            )
        return score


@dataclass(slots=True, eq=False)
class Flight:
    """A sample under way. It lands when its last token is written, or when its watch cuts it or cannot read it."""

    began: int
    length: int
    landed: asyncio.Future[None]
    watch: Callable[[Token], bool] | None
    shown: int = 0
    cut: bool = False
    unreadable: bool = False

    @property
    def due(self) -> int:
        return self.began + self.length

    def written(self, now: int) -> int:
        return min(self.length, now - self.began)

    def look(self, now: int) -> None:
        """Show the watch what is written by now, the last token apart: after that there is nothing to cut."""
        fresh = min(now - self.began, self.length - 1) - self.shown
        if self.watch is None or self.cut or fresh <= 0:
            return
        try:
            kept = cut_at([cast("Token", _Hidden())] * fresh, self.watch, ended=False)
        except _Read:
            kept, self.unreadable = 1, True
        if kept is not None:
            self.length, self.cut = self.shown + kept, True
        self.shown += fresh


@dataclass(slots=True)
class Session:
    """One run's place in the recordings, and its clock, which counts tokens: samples land in the order in which they would be
    finished if all that are under way were written at one speed."""

    given: dict[tuple[Message, ...], int] = field(default_factory=dict)
    now: int = 0
    flights: list[Flight] = field(default_factory=list)
    turning: bool = False

    def fly(self, length: int, watch: Callable[[Token], bool] | None) -> Flight:
        loop = asyncio.get_running_loop()
        flight = Flight(self.now, length, loop.create_future(), watch)
        self.flights.append(flight)
        if not self.turning:
            self.turning = True
            loop.call_soon(self._turn, QUIET)
        return flight

    def _turn(self, left: int) -> None:
        """Let callers act for `left` turns of the loop, then move the clock on to what lands next."""
        if not left:
            self._land()
            left, self.turning = QUIET, bool(self.flights)
        if self.turning:
            asyncio.get_running_loop().call_soon(self._turn, left - 1)

    def _land(self) -> None:
        self.flights = [flight for flight in self.flights if not flight.landed.done()]  # the others were cancelled
        if not self.flights:
            return
        due = min(flight.due for flight in self.flights)
        for flight in self.flights:
            flight.look(due)
        first = min(self.flights, key=lambda flight: flight.due)
        self.flights.remove(first)
        self.now = max(self.now, first.due)
        first.landed.set_result(None)


class _Read(Exception):
    """A watch wanted to know more of a token than that it is there."""


class _Hidden:
    """The token that a watch is shown: there to be counted, and not to be read."""

    def __getattr__(self, name: str) -> object:
        raise _Read(name)


def _begun(messages: Sequence[Message]) -> str:
    """How the last message begins."""
    text = messages[-1].content if messages else ""
    return repr(text if len(text) <= 48 else text[:47] + "…")
