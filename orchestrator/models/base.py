"""The only two doors to tokens: `Model.generate` and `RewardModel.rate`. Both hold, call, settle, trace.

A backend implements the private method and cannot skip the ledger.
"""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, final

from reasonweave.orchestrator.budget import Hold, Rates
from reasonweave.orchestrator.errors import ModelError, OverBudget, described
from reasonweave.orchestrator.protocols import Watching
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.trace import Generated, Rated
from reasonweave.orchestrator.types import Candidate, Completion, Context, Problem, Sampling, Score, Token, Usage

_T = TypeVar("_T")

GRACE = 1.0
"""The most seconds after a deadline in which a backend may still hand over what it has, before its call is cancelled."""
GRACE_SHARE = 0.05
"""Where little time is left, the grace is this share of it: a forced finish needs the rest."""


BREATH = 256
"""Requests prepared between two looks at what else happens on the loop."""


class Late(Exception):
    """A deadline has passed. Apart from TimeoutError, which a backend's own connections may raise."""


@dataclass(slots=True)
class Meter:
    """What one request costs while it is under way: a backend's side of the account.

    `usage` is the running usage of the attempt in flight, which a backend may keep so that a cut call is charged what it
    produced; left at None, a cancelled call is charged its full hold.
    """

    usage: Usage | None = None
    _again: Callable[[Usage | None], bool] = lambda spent: True

    def retry(self, spent: Usage | None = None) -> bool:
        """This attempt failed and the backend wants another: charge what was `spent` (None: all that was held, the answer
        being lost on its way) and hold anew. False where the budget has no room for another attempt: give up then, with
        finish reason "budget"."""
        return self._again(spent)


@dataclass(frozen=True, slots=True)
class Request:
    """One generation for a backend: at most `max_tokens` tokens after `context`, with this seed.

    `session` names the run, for prefix caches and routers; `deadline` is a `time.monotonic()` after which to stop and
    return what there is; `prompt` is the bound on the prompt's tokens that was held. Where there is a `watch`, each attempt
    makes one and shows it each token; once it says True, the attempt ends with finish reason "cancelled" and what there is.
    """

    context: Context
    sampling: Sampling
    max_tokens: int
    seed: int
    prompt: int
    session: int
    deadline: float | None = None
    meter: Meter = field(default_factory=Meter, compare=False)
    watch: Watching | None = field(default=None, compare=False)


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
    exact: bool = False
    """Whether `count` is exact. Only then does the door itself answer a prompt that fills the context."""

    def count(self, context: Context) -> int:
        """Prompt tokens of a context: exact, or an upper bound. The default counts UTF-8 bytes, and 16 a message."""
        written = sum(len(message.content.encode()) + 16 for message in context.messages)
        return written + len(context.prefix.encode()) + 16

    async def _prepare(self, contexts: Sequence[Context], session: int) -> None:
        """Called before `count`, for backends that must ask somebody to count. Costs no tokens."""

    @abstractmethod
    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request, in order. A request that fails for good gives `Completion("", "error", error=…)`."""

    @final
    async def generate(
        self, contexts: Sequence[Context], run: Run, *, sampling: Sampling, watch: Watching | None = None
    ) -> list[Completion]:
        """Continue each context, in order: hold, call, settle, trace.

        With a `watch`, answers are read token by token, one that it says True of is cut there (finish reason "cancelled"),
        and a call that is cancelled is charged what it had produced; `unwatched` cuts none, and is what a metered run has.

        A request whose full hold does not fit waits for its siblings to settle, then runs with fewer tokens; one that
        cannot have a single token comes back empty with finish reason "budget". Where that is true of all of them,
        raises `OverBudget`. A prompt that fills the model's context comes back empty without a call: with finish reason
        "length" where a solution has grown to it, as an error where the problem alone does. Raises `SeedReuse` where this
        path was used before.
        """
        if not contexts:
            return []
        run.claim()
        watch = watch or (unwatched if run.metered else None)
        began = time.monotonic()
        done: dict[int, Completion] = {}
        try:
            if failed := await self._ready(contexts, run):
                done = dict.fromkeys(range(len(contexts)), failed)
                return [failed] * len(contexts)
            waiting = [(i, context, self.count(context)) for i, context in enumerate(contexts)]
            if self.exact and self.context_length is not None:
                done = {i: self._overfull(context, n) for i, context, n in waiting if n >= self.context_length}
                waiting = [each for each in waiting if each[0] not in done]
            refused: OverBudget | None = None
            while waiting:
                wave, left = await self._admit(waiting, run, sampling, watch)
                if wave:
                    await self._serve(wave, run, done)
                elif run.ledger.waits(self.role, self._worst(sampling, waiting[0][2])):
                    await _until(run.ledger.deadline, run.ledger.freed())
                else:  # this one can never be had; another may be smaller
                    refused = self._refusal(run, left.pop(0)[2], 1)
                waiting = left
            if refused:
                if not done:
                    raise refused
                run.cut(refused)
            return [done.get(i) or Completion("", "budget") for i in range(len(contexts))]
        finally:
            if done:
                asked, got = tuple(contexts[i] for i in done), tuple(done.values())
                usage, seconds = Usage.total([c.usage for c in got]), time.monotonic() - began
                run.emit(Generated(run.path, self.name, self.role, asked, sampling, got, usage, seconds))

    async def ready(self, run: Run) -> None:
        """Let the backend find out what it is, so that `context_length` is known where it can be, before a call needs it. Costs
        no tokens; a failure shows at the next call."""
        await self._ready((), run)

    async def _ready(self, contexts: Sequence[Context], run: Run) -> Completion | None:
        """Let the backend prepare; a failure is what every request fails with."""
        try:
            await within(run.ledger.deadline, self._prepare(contexts, self._remember(run)))
        except Late:
            raise run.late() from None
        except (ModelError, OSError) as error:
            return Completion("", "error", error=described(error))
        return None

    async def _admit(
        self, waiting: Sequence[tuple[int, Context, int]], run: Run, sampling: Sampling, watch: Watching | None
    ) -> tuple[list[_Admitted], list[tuple[int, Context, int]]]:
        """Hold for as many requests as fit now, in order; also what is left."""
        wave: list[_Admitted] = []
        try:
            for start in range(0, len(waiting), BREATH):
                if start:
                    await asyncio.sleep(0)
                held, left = self._held(waiting[start : start + BREATH], run, sampling, watch)
                wave += held
                if left:
                    return wave, [*left, *waiting[start + BREATH :]]
        except BaseException:
            for admitted in wave:
                admitted.held.settle(Usage())
            raise
        return wave, []

    def _held(
        self, waiting: Sequence[tuple[int, Context, int]], run: Run, sampling: Sampling, watch: Watching | None
    ) -> tuple[list[_Admitted], list[tuple[int, Context, int]]]:
        """`_admit` for a few requests. Not a moment passes between check and hold."""
        wave: list[_Admitted] = []
        ledger, session = run.ledger, run.session.number
        for at, (i, context, prompt) in enumerate(waiting):
            full = self._worst(sampling, prompt)
            if ledger.waits(self.role, full, grow=False):  # better a whole answer a little later than a cut one now
                return wave, list(waiting[at:])
            asked, room = full.completion, ledger.room(self.role, self.rates, prompt)
            allowed = asked if room is None else min(asked, room)
            worst = self.rates.worst(prompt=prompt, completion=allowed)
            if allowed < 1 or ledger.refusal(self.role, worst):
                return wave, list(waiting[at:])
            request = Request(context, sampling, allowed, run.seed(i), prompt, session, ledger.deadline, watch=watch)
            cut = self._refusal(run, prompt, asked) if allowed < asked else None
            wave.append(_Admitted(i, request, _Held(self.role, run, worst, request.meter), cut))
        return wave, []

    def _overfull(self, context: Context, prompt: int) -> Completion:
        """A solution that has filled the context is at its length's end; a problem that fills it is an error."""
        if context.prefix:
            return Completion("", "length")
        told = f"{self.name}: the prompt's {prompt} tokens fill the context of {self.context_length}"
        return Completion("", "error", error=told)

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
                got, answers = len(answers), ()
                raise ModelError(f"{self.name} answered {got} of {len(wave)} requests")
        except Late:
            answers = [Completion("", "budget", a.held.charge) for a in wave]
        except (ModelError, OSError) as error:
            answers = [Completion("", "error", a.held.charge, error=described(error)) for a in wave]
        finally:
            cancelled = [Completion("", "cancelled", a.held.charge) for a in wave]
            for admitted, answer in zip(wave, answers or cancelled, strict=True):
                done[admitted.index] = self._settled(admitted, answer, run)

    def _settled(self, admitted: _Admitted, answer: Completion, run: Run) -> Completion:
        """Book an answer, and tell with it what was booked."""
        held = admitted.held
        if answer.finish_reason == "error" and not answer.usage.calls:
            answer = replace(answer, usage=held.charge)
        booked = held.settle(answer.usage, cancelled=answer.finish_reason == "cancelled")
        if (over := booked.tokens - held.worst.tokens) > 0:
            told = f"{self.name} used {over} tokens more than the {held.worst.tokens} that it said it would"
            answer = replace(answer, error=answer.error or told)
        answer = replace(answer, usage=booked + held.lost, lost=held.lost)
        if admitted.cut and answer.finish_reason == "length":
            answer = replace(answer, finish_reason="budget")
        if answer.finish_reason == "budget":
            run.cut(admitted.cut or self._refusal(run, admitted.request.prompt, 1))
        return answer


def unwatched() -> Callable[[Token], bool]:
    """A watch that cuts nothing: it makes a backend count as it goes, so that a cancelled call is charged what it produced."""
    return lambda token: False


def either(*watches: Watching | None) -> Watching:
    """A watch that cuts where one of these does. Each of them is shown every token."""

    def make() -> Callable[[Token], bool]:
        over = [watch() for watch in watches if watch is not None]
        return lambda token: sum(watch(token) for watch in over) > 0

    return make


def cut_at(tokens: Sequence[Token], over: Callable[[Token], bool], *, ended: bool) -> int | None:
    """After how many of these new tokens a watch wants no more; None where it wants all, and may want more.

    It is shown them in order, but not the one that ended the generation: after that there is nothing to cut. So what is cut does
    not depend on how many tokens come together.
    """
    shown = tokens[:-1] if ended else tokens
    return next((count for count, token in enumerate(shown, 1) if over(token)), None)


async def asked_once(model: Model, contexts: Sequence[Context], run: Run, sampling: Sampling) -> list[Completion]:
    """What a model answers to each context, equal ones being asked, and paid, once: for greedy questions."""
    distinct = list(dict.fromkeys(contexts))
    answers = dict(zip(distinct, await model.generate(distinct, run, sampling=sampling), strict=True))
    return [answers[context] for context in contexts]


@dataclass(slots=True)
class _Held:
    """The money for one request: a hold, and what earlier attempts at it have lost."""

    role: str
    run: Run
    worst: Usage
    meter: Meter
    lost: Usage = field(default_factory=Usage)
    hold: Hold | None = None

    def __post_init__(self) -> None:
        self.hold = self.run.ledger.set_aside(self.role, self.worst)
        self.meter._again = self.again

    @property
    def charge(self) -> Usage:
        """What to charge when no answer came: what the backend metered, else all that is held."""
        return Usage() if self.hold is None else self.meter.usage or self.worst

    def again(self, spent: Usage | None) -> bool:
        """Charge a lost attempt, and hold for another one if the budget has room for it."""
        lost = self.charge if spent is None else spent
        self.settle(lost)
        self.lost, self.meter.usage = self.lost + lost, None
        if self.run.ledger.refusal(self.role, self.worst):
            return False
        self.hold = self.run.ledger.set_aside(self.role, self.worst)
        return True

    def settle(self, spent: Usage, *, cancelled: bool = False) -> Usage:
        """Replace the hold by what was spent; returns what was booked: nothing after a refused retry, which was charged."""
        if self.hold is None:
            return Usage()
        self.run.ledger.settle(self.hold, spent, cancelled=cancelled)
        self.hold = None
        return spent


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request with its hold; `cut` is the limit that set its ceiling, where the caller's own did not."""

    index: int
    request: Request
    held: _Held
    cut: OverBudget | None


def seconds_left(deadline: float | None) -> float | None:
    """Seconds until a `time.monotonic()` deadline, never below 0; None without one."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


async def within(deadline: float | None, call: Awaitable[_T]) -> _T:
    """Await a call until a `time.monotonic()` deadline and a short grace for the backend to end by itself; raises `Late`."""
    if (left := seconds_left(deadline)) is None:
        return await call
    try:
        async with asyncio.timeout(left + min(GRACE, GRACE_SHARE * left)) as limit:
            return await call
    except TimeoutError:
        if limit.expired():
            raise Late from None
        raise


async def _until(deadline: float | None, event: Awaitable[None]) -> None:
    """Await an event, or the deadline."""
    try:
        async with asyncio.timeout(seconds_left(deadline)):
            await event
    except TimeoutError:
        pass


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

    async def _prepare(self, asked: Sequence[tuple[Problem, tuple[str, ...]]], session: int) -> None:
        """Called before `count`, for backends that must ask somebody to count. Costs no tokens."""

    def _worst(self, rating: Rating) -> Usage:
        """The most that a rating may cost; for backends that make several requests of it."""
        return self.rates.worst(prompt=rating.prompt, completion=0)

    @abstractmethod
    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        """Score each candidate, in order, and say what it cost."""

    @final
    async def rate(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        """Score each candidate's steps (`Candidate.passages`), in order: hold, call, settle, trace.

        Identical candidates are rated, and paid, once. One that could not be rated has the value nan and
        says why in `error`, so that a reward model that fails loses no candidate. Raises `OverBudget` where not all
        of them can be afforded: half a set of scores cannot be compared.
        Raises `SeedReuse` where this path was used before.
        """
        if not candidates:
            return []
        run.claim()
        began = time.monotonic()
        keys = [(c.problem, c.passages) for c in candidates]
        asked = list(dict.fromkeys(keys))
        found: dict[object, Score] = {}
        spent: list[Usage] = []
        try:
            try:
                ratings, held = await self._admit(asked, run)
            except (ModelError, OSError) as error:  # the backend could not even count
                return [Score(math.nan, error=described(error))] * len(keys)
            answers = await self._serve(ratings, held, run, spent)
            found = dict(zip(asked, (score for score, _ in answers), strict=True))
            return [found[key] for key in keys]
        finally:
            if spent:
                scores, usage = tuple(found[key] for key in keys if key in found), Usage.total(spent)
                run.emit(Rated(run.path, self.name, self.role, scores, usage, time.monotonic() - began))

    async def _admit(
        self, asked: Sequence[tuple[Problem, tuple[str, ...]]], run: Run
    ) -> tuple[list[Rating], list[_Held]]:
        """Hold for all, or raise `OverBudget`."""
        ledger, session = run.ledger, self._remember(run)
        try:
            await within(ledger.deadline, self._prepare(asked, session))
        except Late:
            raise run.late() from None
        ratings = [Rating(p, steps, self.count(p, steps), session, ledger.deadline) for p, steps in asked]
        worst = [self._worst(rating) for rating in ratings]
        together = Usage.total(worst)
        while ledger.waits(self.role, together):
            await _until(ledger.deadline, ledger.freed())
        if refused := ledger.refusal(self.role, together, run.path):
            raise refused
        return ratings, [_Held(self.role, run, most, rating.meter) for rating, most in zip(ratings, worst, strict=True)]

    async def _serve(
        self, ratings: Sequence[Rating], held: Sequence[_Held], run: Run, spent: list[Usage]
    ) -> Sequence[tuple[Score, Usage]]:
        """Call the backend and settle every hold, whatever happens; what was booked is added to `spent`."""
        answers: Sequence[tuple[Score, Usage]] = ()
        try:
            answers = await within(run.ledger.deadline, self._rate(ratings))
            if len(answers) != len(ratings):
                got, answers = len(answers), ()
                raise ModelError(f"{self.name} answered {got} of {len(ratings)} ratings")
        except Late:
            raise run.late() from None
        except (ModelError, OSError) as error:
            answers = [(Score(math.nan, error=described(error)), each.charge) for each in held]
        finally:
            booked = [usage for _, usage in answers] or [each.charge for each in held]
            for each, usage in zip(held, booked, strict=True):
                spent.append(each.settle(usage) + each.lost)
        return answers
