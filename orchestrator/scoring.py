"""The one place that asks a verifier: `scored`. A verifier that breaks its promises loses its judgement, and nothing else.

Whatever a verifier does, there is a score for each candidate afterwards, in order. Where it raises, hangs, answers for too few or
gives no number, those scores are nan with one line that names it; the candidates, and what was paid for them, stay.
"""

from __future__ import annotations

import asyncio
import math
import numbers
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace

from reasonweave.orchestrator.errors import BadInput, OverBudget, SeedReuse, UserError, described, first_of
from reasonweave.orchestrator.models.base import GRACE
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.trace import Judged
from reasonweave.orchestrator.types import Candidate, Score

PATIENCE = 600.0
"""Seconds for which a verifier may do nothing, no call to a model being under way, before it counts as hanging."""
TICK = 1.0
"""Seconds between two looks at a verifier that takes its time."""

_PASSED_ON = (OverBudget, UserError, SeedReuse)
"""What is not the verifier's failure: a limit, a user's mistake, two calls from one path."""


def name_of(verifier: object) -> str:
    """What a verifier is called in an error: its `name` where it has one, else its class's.

    >>> name_of(OverBudget), name_of(Score(1.0))
    ('OverBudget', 'Score')
    """
    if isinstance(verifier, type):
        return verifier.__name__
    name = getattr(verifier, "name", None)
    return name if isinstance(name, str) and name else type(verifier).__name__


def range_of(verifier: object) -> tuple[float, float]:
    """The range in which a verifier's scores lie, by its `lowest` and `highest`; all numbers where it has none."""
    return float(getattr(verifier, "lowest", -math.inf)), float(getattr(verifier, "highest", math.inf))


def span(*verifiers: object) -> tuple[float, float]:
    """The range that holds the scores of all of these."""
    ranges = [range_of(verifier) for verifier in verifiers]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def is_relative(verifier: object) -> bool:
    """Does a score depend on the other candidates in the call, so that a set has to be scored as a whole? By its `relative`."""
    return bool(getattr(verifier, "relative", False))


class Around:
    """For verifiers around one other, `verifier`: they compare candidates where it does, and have its range."""

    verifier: Verifier

    @property
    def relative(self) -> bool:
        return is_relative(self.verifier)

    @property
    def lowest(self) -> float:
        return range_of(self.verifier)[0]

    @property
    def highest(self) -> float:
        return range_of(self.verifier)[1]


def absolute(verifier: Verifier, who: str) -> None:
    """Raises `BadInput` for a verifier whose scores depend on the other candidates, where candidates are judged in several calls
    and then compared."""
    if is_relative(verifier):
        raise BadInput(
            f"{who}: {name_of(verifier)} compares the candidates of a call with one another, and here they are judged in "
            "several calls; use it in best-of-n, a weighted vote or a particle filter"
        )


async def scored(verifier: Verifier, candidates: Sequence[Candidate], run: Run) -> list[Score]:
    """A score for each candidate, in order, from `verifier.score`.

    Nan, with one line in `error` that names the verifier and says what to do, for all where it raises, where it does nothing for
    `PATIENCE` seconds (its own `patience`, where it has one), or gives another number of scores than it was asked for; for one
    that is no number, or outside the range that the verifier declares (`lowest`, `highest`).

    Raises `OverBudget`, also where the run's time ends while it judges; `UserError`, since such a mistake is the caller's to
    mend; and `SeedReuse`.
    """
    return (await ask(verifier, candidates, run))[0]


async def ask(verifier: Verifier, candidates: Sequence[Candidate], run: Run) -> tuple[list[Score], str | None]:
    """`scored`, and which of its promises the verifier broke, None where it kept them."""
    if not candidates:
        return [], None
    began, name = time.monotonic(), name_of(verifier)
    broken: str | None = None
    scores: list[Score] = []
    try:
        answered = await _answer(verifier, candidates, run)
        scores, broken = checked(answered, verifier, len(candidates))
    except (Exception, BaseExceptionGroup) as error:
        if (passed := _passed_on(error)) is error:
            raise
        if passed is not None:
            raise passed from error
        broken = (
            f"verifier {name} {error}" if isinstance(error, _Hung) else f"verifier {name} raised {described(error)}"
        )
    if broken is not None and not scores:
        scores = [Score(math.nan, error=broken)] * len(candidates)
    run.emit(Judged(run.path, name, tuple(scores), broken, time.monotonic() - began))
    return scores, broken


class _Hung(Exception):
    """A verifier did nothing for too long."""


def _passed_on(error: BaseException) -> BaseException | None:
    """The error within this one that is not the verifier's own failure; cancellations are nobody's."""
    if isinstance(error, BaseExceptionGroup):
        inner = error.subgroup(lambda each: isinstance(each, _PASSED_ON) or not isinstance(each, Exception))
        return None if inner is None else first_of(inner)
    return error if isinstance(error, _PASSED_ON) else None


@dataclass(slots=True)
class _Watch:
    """How long a verifier has done nothing. One that asks another is as patient as that one is."""

    outer: _Watch | None
    idle: float = 0.0

    def busy(self) -> None:
        """Something is under way, here and in all that wait for it."""
        self.idle = 0.0
        if self.outer is not None:
            self.outer.busy()


_WATCH: ContextVar[_Watch | None] = ContextVar("reasonweave_watch", default=None)


async def _contained(verifier: Verifier, candidates: Sequence[Candidate], run: Run) -> object:
    """What the verifier returns. A `sys.exit` of its own ends it alone, and not the loop."""
    try:
        return await verifier.score(candidates, run)
    except SystemExit as error:
        raise RuntimeError(f"it called sys.exit({error.code!r})") from error


async def _answer(verifier: Verifier, candidates: Sequence[Candidate], run: Run) -> object:
    """What the verifier returns, waited for as long as it or the run has time."""
    watch = _Watch(_WATCH.get())
    token = _WATCH.set(watch)
    task = asyncio.ensure_future(_contained(verifier, candidates, run))
    _WATCH.reset(token)
    try:
        await asyncio.sleep(0)  # one that asks nobody is through by now
        patience, deadline = float(getattr(verifier, "patience", PATIENCE)), run.ledger.deadline
        while not task.done():
            left = math.inf if deadline is None else deadline + GRACE - run.ledger.clock()
            if left <= 0:
                raise run.late()
            if watch.idle >= patience:
                raise _Hung(
                    f"did nothing for {patience:g} seconds and was given up; if it may take so long, give it an attribute "
                    "patience, in seconds"
                )
            tick = min(TICK, left, patience - watch.idle)
            await asyncio.wait({task}, timeout=tick)
            watch.idle += tick
            if run.ledger.busy:
                watch.busy()
            elif watch.outer is not None:
                watch.outer.busy()
        if task.cancelled():
            raise _Hung("was cancelled by itself")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE)  # one that will not be cancelled is left behind
            task.add_done_callback(lambda gone: gone.cancelled() or gone.exception())


def checked(answered: object, verifier: Verifier, n: int) -> tuple[list[Score], str | None]:
    """The scores as far as they are some, and the first promise broken."""
    name = name_of(verifier)
    if not isinstance(answered, Sequence) or isinstance(answered, str) or len(answered) != n:
        got = f"{len(answered)} scores" if isinstance(answered, Sequence) else type(answered).__name__
        return [], f"verifier {name} gave {got} for {n} candidates; score() returns one Score a candidate, in order"
    lowest, highest = range_of(verifier)
    scores, first = list[Score](), None
    for each in answered:
        wrong = _wrong(each, lowest, highest)
        if wrong is None:
            scores.append(each if isinstance(each.value, float) else replace(each, value=float(each.value)))
            continue
        told = f"verifier {name} gave {wrong}"
        first = first or told
        scores.append(
            replace(each, value=math.nan, error=told) if isinstance(each, Score) else Score(math.nan, error=told)
        )
    return scores, first


def _wrong(each: object, lowest: float, highest: float) -> str | None:
    """What is wrong with a score; None where nothing is. nan with a reason is a judgement that was not made, and is right."""
    if not isinstance(each, Score):
        return f"{each!r:.80} ({type(each).__name__}) where a Score is needed: return Score(value)"
    if not isinstance(each.value, numbers.Real):
        return f"a score of {each.value!r:.80}, which is no number"
    if math.isnan(each.value):
        return (
            None
            if each.error
            else "nan without saying why; a judgement that was not made says so in Score(nan, error=…)"
        )
    if not lowest <= each.value <= highest or each.value == math.inf:
        said = f", outside {lowest:g} to {highest:g}" if math.isfinite(highest) or math.isfinite(lowest) else ""
        return f"a score of {each.value:g}{said}; mend it, or declare its lowest and highest"
    return None
