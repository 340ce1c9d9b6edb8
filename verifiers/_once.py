"""What is found out once a run: for verifiers that ask about a problem before they look at its candidates."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from reasonweave.orchestrator.run import Run

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Once(Generic[K, V]):
    """A memory of what was found out in a run, which the end of that run (`Run.session`) clears.

    Calls of one run that want the same thing at the same time find it once: the others wait. What could not be found is not
    remembered, so that the next call tries again. At most `most` findings are kept, over all runs; the oldest go first.
    """

    def __init__(self, most: int = 4096) -> None:
        self.most = most
        self._found: dict[tuple[int, K], V] = {}
        self._sought: dict[tuple[int, K], asyncio.Event] = {}

    def __len__(self) -> int:
        return len(self._found)

    async def all(
        self, keys: Sequence[K], run: Run, find: Callable[[list[K], Run], Awaitable[Mapping[K, V]]]
    ) -> dict[K, V]:
        """What is known about these keys, after `find` has been asked about those of which nothing is.

        `find` gets the missing keys and a run of its own, and answers for as many of them as it can: the others are left out here
        too. What it raises is raised, and another call that waited for the same keys looks for them itself. What it finds must
        not depend on the path of its run, since any of several calls may be the one that looks.
        """
        session = run.session.number
        run.session.closers.setdefault(self, lambda: self._forget(session))
        known: dict[K, V] = {}
        tried: set[K] = set()
        for attempt in itertools.count():
            known |= {key: self._found[session, key] for key in keys if (session, key) in self._found}
            left = [key for key in dict.fromkeys(keys) if key not in known and key not in tried]
            mine = [key for key in left if (session, key) not in self._sought]
            if mine:
                tried.update(mine)
                known |= await self._find(mine, session, run.child("find", attempt), find)
            elif left:
                await self._sought[session, left[0]].wait()
            else:
                break
        return known

    async def _find(
        self, keys: list[K], session: int, run: Run, find: Callable[[list[K], Run], Awaitable[Mapping[K, V]]]
    ) -> Mapping[K, V]:
        ended = asyncio.Event()
        self._sought |= {(session, key): ended for key in keys}
        try:
            found = await find(keys, run)
            for key, value in found.items():
                self._found[session, key] = value
            while len(self._found) > self.most:
                self._found.pop(next(iter(self._found)))
            return found
        finally:
            for key in keys:
                del self._sought[session, key]
            ended.set()

    def _forget(self, session: int) -> None:
        for each in [each for each in self._found if each[0] == session]:
            del self._found[each]
