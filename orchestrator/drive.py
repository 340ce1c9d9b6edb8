"""The one place that drives a strategy to its end, and the one place that catches `OverBudget`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from reasonweave.orchestrator.errors import OverBudget
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.trace import Ended, Snapshot, Started
from reasonweave.orchestrator.types import Candidates


async def drive(strategy: Strategy, roots: Candidates, run: Run) -> Candidates:
    """Run a strategy until it ends or a limit does; return its last snapshot (the roots, where there is none).

    Where a limit ended it, `stopped` says which, and nothing that was yielded is lost.
    """
    began = time.monotonic()
    run.emit(Started(run.path, repr(strategy), len(roots)))
    last = replace(roots, answer=None, confidence=None, stopped=None)
    try:
        search = strategy.search(roots, run)
        async with aclosing(cast("AsyncGenerator[Candidates, None]", search)) as snapshots:
            async for snapshot in snapshots:
                last = snapshot
                run.emit(Snapshot(run.path, len(last), sum(c.done for c in last), last.answer))
    except OverBudget as limit:
        last = replace(last, stopped=str(limit))
    if last.stopped is None and run.cut_short:
        last = replace(last, stopped=run.cut_short)
    run.emit(Ended(run.path, len(last), last.answer, last.stopped, time.monotonic() - began))
    return last
