"""The one place that asks a verifier: `scored`. A verifier that breaks its promises loses its judgement, and nothing else.

Whatever a verifier does, there is a score for each candidate afterwards, in order. Where it raises, hangs, answers for too few or
gives no number, those scores are nan with one line that names it; the candidates, and what was paid for them, stay.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace

from reasonweave.orchestrator.errors import OverBudget, SeedReuse, UserError, described, first_of
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


def is_relative(verifier: object) -> bool:
    """Does a score depend on the other candidates in the call, so that a set has to be scored as a whole? By its `relative`."""
    return bool(getattr(verifier, "relative", False))


async def scored(verifier: Verifier, candidates: Sequence[Candidate], run: Run) -> list[Score]:
    """A score for each candidate, in order, from `verifier.score`.

    Nan, with one line in `error` that names the verifier and says what to do, for all where it raises, where it does nothing for
    `PATIENCE` seconds, or gives another number of scores than it was asked for; for one that is no number, or outside the range
    that the verifier declares (`lowest`, `highest`).

    Raises `OverBudget`, also where the run's time ends while it judges; `UserError`, since such a mistake is the caller's to
    mend; and `SeedReuse`.
    """
    if not candidates:
        return []
    began, name = time.monotonic(), name_of(verifier)
    broken: str | None = None
    scores: list[Score] = []
    try:
        answered = await _answer(verifier, candidates, run)
        scores, broken = _checked(answered, verifier, len(candidates))
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
    return scores


class _Hung(Exception):
    """A verifier did nothing for too long."""


def _passed_on(error: BaseException) -> BaseException | None:
    """The error within this one that is not the verifier's own failure; cancellations are nobody's."""
    if isinstance(error, BaseExceptionGroup):
        inner = error.subgroup(lambda each: isinstance(each, _PASSED_ON) or not isinstance(each, Exception))
        return None if inner is None else first_of(inner)
    return error if isinstance(error, _PASSED_ON) else None


async def _answer(verifier: Verifier, candidates: Sequence[Candidate], run: Run) -> object:
    """What the verifier returns, waited for as long as it or the run has time."""
    task = asyncio.ensure_future(verifier.score(candidates, run))
    idle, deadline = 0.0, run.ledger.deadline
    try:
        while not task.done():
            left = math.inf if deadline is None else deadline + GRACE - run.ledger.clock()
            if left <= 0:
                raise run.late()
            if idle >= PATIENCE:
                raise _Hung(
                    f"did nothing for {PATIENCE:g} seconds and was given up; give it a limit of its own, or the run a budget of "
                    "seconds"
                )
            tick = min(TICK, left, PATIENCE - idle)
            await asyncio.wait({task}, timeout=tick)
            idle = 0.0 if run.ledger.busy else idle + tick
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE)  # one that will not be cancelled is left behind
            task.add_done_callback(lambda gone: gone.cancelled() or gone.exception())


def _checked(answered: object, verifier: Verifier, n: int) -> tuple[list[Score], str | None]:
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
            scores.append(each)
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
    if not isinstance(each.value, int | float):
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
