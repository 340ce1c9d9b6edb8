"""Samples one after another, some of them under way ahead of their turn: what strategies that stop early draw from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import replace

from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.searches.live import extend_live


async def in_order(
    policy: StepPolicy, roots: Candidates, n: int, run: Run, *, ahead: int = 1, most: int = 1
) -> AsyncGenerator[Candidate, None]:
    """At most n samples, each written to its end (in `most` extensions at most), in the order of their numbers.

    Sample i continues the i-th root, in turn, on a path of its own, ("sample", i). Up to `ahead` of them (1 or more) are under
    way at the same time, and whoever stops reading cancels those that are. So what is read does not depend on timing; only what
    the others cost does, which is what they had written: with `ahead` above 1 the run is metered. Where one fails, or the budget
    refuses it, what was written, and paid, of it and the others comes first.

        async with aclosing(in_order(...)) as samples:
            async for sample in samples: ...
    """
    run = replace(run, metered=ahead > 1 or run.metered)
    under_way: deque[asyncio.Task[Candidate]] = deque()
    written: dict[int, Candidate] = {}
    begun = 0

    async def one(i: int) -> Candidate:
        sample = Candidates((roots[i % len(roots)],))
        for t in range(most):
            if sample.all_done:
                break
            sample = await extend_live(policy, sample, run.child("sample", i, "complete", t))
            written[i] = sample[0]
        return sample[0]

    try:
        for i in range(n if roots.items else 0):
            while begun < min(n, i + ahead):
                under_way.append(asyncio.create_task(one(begun)))
                begun += 1
            await asyncio.wait([under_way[0]])
            if (error := under_way[0].exception()) is not None:
                for j in sorted(written):
                    yield written[j]
                raise error
            yield under_way.popleft().result()
            written.pop(i, None)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
