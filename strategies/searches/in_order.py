"""Samples one after another, some of them under way ahead of their turn: what strategies that stop early draw from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates
from reasonweave.strategies.searches.live import complete


async def in_order(
    policy: StepPolicy, roots: Candidates, n: int, run: Run, *, ahead: int = 1, most: int = 1
) -> AsyncGenerator[Candidate, None]:
    """At most n samples, each written to its end (in `most` extensions at most), in the order of their numbers.

    Sample i continues the i-th root, in turn, on a path of its own, ("sample", i). Up to `ahead` of them are under way at the
    same time, and whoever stops reading cancels those that are. So what is read does not depend on timing; only what the
    others cost does. Where one fails, or the budget refuses it, those of the others that are finished, and paid, come first.

        async with aclosing(in_order(...)) as samples:
            async for sample in samples: ...
    """
    under_way: deque[asyncio.Task[Candidate]] = deque()
    begun = 0

    async def one(i: int) -> Candidate:
        root = Candidates((roots[i % len(roots)],))
        return (await complete(policy, root, run.child("sample", i), most=most))[0]

    try:
        for i in range(n if roots.items else 0):
            while begun < min(n, i + ahead):
                under_way.append(asyncio.create_task(one(begun)))
                begun += 1
            await asyncio.wait([under_way[0]])
            if (error := under_way[0].exception()) is not None:
                for other in under_way:
                    if other.done() and not other.cancelled() and other.exception() is None:
                        yield other.result()
                raise error
            yield under_way.popleft().result()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
