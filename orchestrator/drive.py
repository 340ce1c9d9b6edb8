"""The one place that drives a strategy to its end, and the one place that catches `OverBudget`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from reasonweave.orchestrator.errors import GraphError, OverBudget, first_of, show
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.trace import Ended, Snapshot, Started
from reasonweave.orchestrator.types import Candidates

_T = TypeVar("_T")


async def afforded(work: Awaitable[_T], run: Run) -> _T | None:
    """What this comes to, None where a limit stands in the way: for a further question that a part can do without. The run is
    marked as cut short, so that it is told."""
    try:
        return await work
    except (OverBudget, BaseExceptionGroup) as error:
        run.cut(_limit(error))
        return None


async def drive(strategy: Strategy, roots: Candidates, run: Run) -> Candidates:
    """Run a strategy until it ends or a limit does; return its last snapshot (the roots, where there is none).

    Where a limit ended it, `stopped` says which, and nothing that was yielded is lost.
    """
    last = roots
    async with aclosing(driven(strategy, roots, run)) as snapshots:
        async for snapshot in snapshots:
            last = snapshot
    return last


async def driven(strategy: Strategy, roots: Candidates, run: Run) -> AsyncGenerator[Candidates, None]:
    """`drive`, snapshot by snapshot: the last one is what `drive` returns."""
    began = time.monotonic()
    run.emit(Started(run.path, repr(strategy), len(roots)))
    last = replace(roots, answer=None, confidence=None, stopped=None)
    told: Candidates | None = None
    try:
        snapshots = strategy.search(roots, run)
        try:
            async for snapshot in snapshots:
                if not isinstance(snapshot, Candidates):
                    who = f"{show(run.path)}: {type(strategy).__name__}"
                    raise GraphError(f"{who} yielded {snapshot!r:.60}, not Candidates")
                last = told = snapshot
                run.emit(Snapshot(run.path, len(last), sum(c.done for c in last), last.answer))
                yield last
        finally:
            if isinstance(snapshots, AsyncGenerator):
                await snapshots.aclose()
    except (OverBudget, BaseExceptionGroup) as error:
        limit = _limit(error)
        run.cut(limit)
        last = replace(last, stopped=str(limit))
    if last.stopped is None and run.cut_short:
        last = replace(last, stopped=run.cut_short)
    run.emit(Ended(run.path, len(last), last.answer, last.stopped, time.monotonic() - began))
    if last is not told:
        yield last


def _limit(error: BaseException) -> OverBudget:
    """The limit that ended a strategy; its own task groups wrap it. Anything else among the errors goes on up."""
    if isinstance(error, OverBudget):
        return error
    if isinstance(error, BaseExceptionGroup):
        limits, others = error.split(OverBudget)
        if others is not None:
            raise first_of(others) from error
        if limits is not None and isinstance(limit := first_of(limits), OverBudget):
            return limit
    raise error
