"""The only two doors to tokens: `Model.generate` and `RewardModel.rate`. Both hold, call, settle, trace.

A backend implements the private method and cannot skip the ledger.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, final

from reasonweave.orchestrator.budget import Hold, Rates
from reasonweave.orchestrator.errors import ModelError, OverBudget
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.trace import Generated, Rated
from reasonweave.orchestrator.types import Candidate, Completion, Context, Problem, Sampling, Score, Usage

_T = TypeVar("_T")

GRACE = 1.0
"""Seconds after a deadline in which a backend may still hand over what it has, before its call is cancelled."""


@dataclass(slots=True)
class Meter:
    """Running usage that a backend may keep for a request in flight, so that a cut call is charged what it produced.

    Left at None, a cancelled call is charged its full hold.
    """

    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One generation for a backend: at most `max_tokens` tokens after `context`, with this seed.

    `session` names the run, for prefix caches and routers; `deadline` is a `time.monotonic()` after which to stop and
    return what there is; `prompt` is the bound on the prompt's tokens that was held.
    """

    context: Context
    sampling: Sampling
    max_tokens: int
    seed: int
    prompt: int
    session: int
    deadline: float | None = None
    meter: Meter = field(default_factory=Meter, compare=False)


class _Door:
    """What both doors share: a name for the books, a role for the limits, and what a token costs."""

    def __init__(self, name: str, *, role: str | None = None, rates: Rates | None = None) -> None:
        self.name = name
        self.role = role or name
        self.rates = rates or Rates()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})" if self.role == self.name else f"{self.role}={self.name!r}"

    def forget(self, session: int) -> None:
        """A run is over: drop what was cached for it. Backends without such a cache need not care."""

    async def aclose(self) -> None:
        """Let go of threads, connections and memory."""

    def _remember(self, run: Run) -> int:
        session = run.session.number
        run.session.closers.setdefault(self, lambda: self.forget(session))
        return session


class Model(_Door, ABC):
    """A language model. Subclasses implement `_generate`, and `count` where they know better than the UTF-8 bound."""

    context_length: int | None = None
    """The most tokens that prompt and completion may have together; None where unknown."""

    def count(self, context: Context) -> int:
        """Prompt tokens of a context: exact, or an upper bound. The default counts UTF-8 bytes, and 16 a message."""
        written = sum(len(message.content.encode()) + 16 for message in context.messages)
        return written + len(context.prefix.encode()) + 16

    @abstractmethod
    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request, in order. A request that fails for good gives `Completion("", "error", error=…)`."""

    @final
    async def generate(self, contexts: Sequence[Context], run: Run, *, sampling: Sampling) -> list[Completion]:
        """Continue each context, in order: hold, call, settle, trace.

        A request whose full hold does not fit waits for its siblings to settle, then runs with fewer tokens; one that
        cannot have a single token comes back empty with finish reason "budget". Where that is true of all of them,
        raises `OverBudget`. Raises `SeedReuse` where this path was used before.
        """
        if not contexts:
            return []
        run.claim()
        began = time.monotonic()
        session = self._remember(run)
        waiting = [(i, context, self.count(context)) for i, context in enumerate(contexts)]
        done: dict[int, Completion] = {}
        try:
            while waiting:
                wave = self._admit(waiting, run, sampling, session)
                if wave:
                    await self._serve(wave, run, done)
                    waiting = waiting[len(wave) :]
                elif run.ledger.waits(self.role, self._worst(sampling, waiting[0][2])):
                    await run.ledger.freed()
                else:
                    refused = self._refusal(run, waiting[0][2], 1)
                    if not done:
                        raise refused
                    run.cut(refused)
                    break
            return [done.get(i) or Completion("", "budget") for i in range(len(contexts))]
        finally:
            if done:
                asked, got = tuple(contexts[i] for i in done), tuple(done.values())
                usage, seconds = Usage.total([c.usage for c in got]), time.monotonic() - began
                run.emit(Generated(run.path, self.name, self.role, asked, sampling, got, usage, seconds))

    def _admit(
        self, waiting: Sequence[tuple[int, Context, int]], run: Run, sampling: Sampling, session: int
    ) -> list[_Admitted]:
        """Hold for as many requests as fit now, in order. Not a moment passes between check and hold."""
        wave: list[_Admitted] = []
        ledger = run.ledger
        for i, context, prompt in waiting:
            full = self._worst(sampling, prompt)
            if ledger.waits(self.role, full):
                break  # more may come free; better a whole answer a little later than a cut one now
            asked, room = full.completion, ledger.room(self.role, self.rates, prompt)
            allowed = asked if room is None else min(asked, room)
            worst = self.rates.worst(prompt=prompt, completion=allowed)
            if allowed < 1 or ledger.refusal(self.role, worst):
                break
            request = Request(context, sampling, allowed, run.seed(i), prompt, session, ledger.deadline)
            cut = self._refusal(run, prompt, asked) if allowed < asked else None
            wave.append(_Admitted(i, request, ledger.hold(self.role, worst, run.path), cut))
        return wave

    def _worst(self, sampling: Sampling, prompt: int) -> Usage:
        """The most that one call may cost: what the caller asks for, within the model's context."""
        asked = sampling.max_tokens
        if self.context_length is not None:
            asked = max(1, min(asked, self.context_length - prompt))
        return self.rates.worst(prompt=prompt, completion=asked)

    def _refusal(self, run: Run, prompt: int, completion: int) -> OverBudget:
        """The limit that stands in the way of a call of this size."""
        asked = self.rates.worst(prompt=prompt, completion=completion)
        refused = run.ledger.refusal(self.role, asked, run.path)
        return refused or OverBudget(what="tokens", asked=asked.tokens, left=0, limit=run.ledger.limit, path=run.path)

    async def _serve(self, wave: Sequence[_Admitted], run: Run, done: dict[int, Completion]) -> None:
        """Call the backend for one wave and settle every hold, whatever happens."""
        answers: Sequence[Completion] = ()
        try:
            answers = await within(wave[0].request.deadline, self._generate([a.request for a in wave]))
            if len(answers) != len(wave):
                raise ModelError(f"{self.name} answered {len(answers)} of {len(wave)} requests")
        except TimeoutError:
            answers = [Completion("", "budget", a.charge) for a in wave]
        except ModelError as error:
            answers = [Completion("", "error", a.charge, error=str(error)) for a in wave]
        finally:
            got: Sequence[Completion | None] = answers or [None] * len(wave)
            for admitted, answer in zip(wave, got, strict=True):
                run.ledger.settle(admitted.hold, answer.usage if answer else admitted.charge)
                if answer and admitted.cut and answer.finish_reason == "length":
                    answer = replace(answer, finish_reason="budget")
                if answer and answer.finish_reason == "budget":
                    run.cut(admitted.cut or self._refusal(run, admitted.request.prompt, 1))
                if answer:
                    done[admitted.index] = answer


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request with its hold; `cut` is the limit that set its ceiling, where the caller's own did not."""

    index: int
    request: Request
    hold: Hold
    cut: OverBudget | None

    @property
    def charge(self) -> Usage:
        """What to charge when no answer came: what the backend metered, else all that was held."""
        return self.request.meter.usage or self.hold.worst


async def within(deadline: float | None, call: Awaitable[_T]) -> _T:
    """Await a call until a `time.monotonic()` deadline and a grace of a second for the backend to end by itself."""
    if deadline is None:
        return await call
    async with asyncio.timeout(max(0.0, deadline - time.monotonic()) + GRACE):
        return await call


@dataclass(frozen=True, slots=True)
class Rating:
    """One candidate for a reward model: the problem and the texts of the steps to judge."""

    problem: Problem
    steps: tuple[str, ...]
    prompt: int
    session: int
    deadline: float | None = None
    meter: Meter = field(default_factory=Meter, compare=False)


class RewardModel(_Door, ABC):
    """A served reward model: the second door. `rate` gives a score a step, and the last one as the value."""

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        """Prompt tokens of a candidate: exact, or an upper bound. The default counts UTF-8 bytes, and 16 a step."""
        return len(problem.prompt.encode()) + sum(len(step.encode()) + 16 for step in steps) + 64

    @abstractmethod
    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        """Score each candidate, in order, and say what it cost."""

    @final
    async def rate(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        """Score each candidate's steps, in order: hold, call, settle, trace.

        Identical candidates are rated, and paid, once. Raises `OverBudget` where not all of them can be afforded: half a
        set of scores cannot be compared. Raises `SeedReuse` where this path was used before.
        """
        if not candidates:
            return []
        run.claim()
        began, session, deadline = time.monotonic(), self._remember(run), run.ledger.deadline
        asked = {(c.problem, tuple(step.text for step in c.steps)): None for c in candidates}
        ratings = [Rating(p, steps, self.count(p, steps), session, deadline) for p, steps in asked]
        worst = [self.rates.worst(prompt=rating.prompt, completion=0) for rating in ratings]
        together = Usage.total(worst)
        while run.ledger.waits(self.role, together):
            await run.ledger.freed()
        hold = run.ledger.hold(self.role, together, run.path)
        usage, scores = together, []
        try:
            answers = await within(deadline, self._rate(ratings))
            usage = Usage.total([spent for _, spent in answers])
            found = dict(zip(asked, (score for score, _ in answers), strict=True))
            scores = [found[c.problem, tuple(step.text for step in c.steps)] for c in candidates]
        except TimeoutError:
            refused = run.ledger.refusal(self.role, Usage(calls=1), run.path)
            raise refused or ModelError(f"{self.name}: timed out") from None
        except BaseException:
            usage = Usage.total([r.meter.usage or w for r, w in zip(ratings, worst, strict=True)])
            raise
        finally:
            run.ledger.settle(hold, usage)
            run.emit(Rated(run.path, self.name, self.role, tuple(scores), usage, time.monotonic() - began))
        return scores
