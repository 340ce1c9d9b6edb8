"""Served reward models: what each family reads and where its score stands is a `Format` of `reward_formats`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.errors import BadInput, ModelError
from reasonweave.orchestrator.models.base import Rating, RewardModel
from reasonweave.orchestrator.models.endpoint import Endpoint, Failed, OutOfBudget
from reasonweave.orchestrator.models.reward_formats import Format, Ids, PlusMinus
from reasonweave.orchestrator.models.server import Abilities, cached_of, probe, session_label
from reasonweave.orchestrator.types import Problem, Score, Usage

Asked = tuple[Problem, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A solution as it is sent: the ids of its texts, the requests that these make, and how many steps were left out."""

    pieces: tuple[Ids, ...]
    requests: tuple[Ids, ...]
    dropped: int = 0

    @property
    def tokens(self) -> int:
        return sum(map(len, self.requests))

    @property
    def longest(self) -> int:
        return max(map(len, self.requests))


class ServerRewardModel(RewardModel):
    """A reward model behind a server. `form` says how its family is asked; see `FORMATS`.

    A solution that does not fit the server's context is not rated: nan, and it says so. With `shorten`, the oldest of its steps
    are left out instead, as many as must be; these have nan for a score, and the question is never cut.
    """

    def __init__(
        self,
        name: str | None,
        endpoint: Endpoint,
        form: Format,
        *,
        role: str | None = None,
        rates: Rates | None = None,
        shorten: bool = False,
    ) -> None:
        super().__init__(name or str(endpoint), role=role, rates=rates)
        self.served, self.endpoint, self.form, self.shorten = name, endpoint, form, shorten
        self.able: Abilities | None = None
        self._known: dict[Asked, _Prepared] = {}
        self._users: dict[int, set[Asked]] = {}

    async def abilities(self) -> Abilities:
        """What the server can do; asked once."""
        if self.able is None:
            async with self.endpoint.bound().lock:
                if self.able is None:
                    able = await probe(self.endpoint, self.served)
                    if self.form.path not in able.paths:
                        raise BadInput(
                            f"{self.name}: {self.endpoint} has no {self.form.path}, which {type(self.form).__name__} needs; "
                            "serve a process reward model with --runner pooling"
                        )
                    self.able = able
        return self.able

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        known = self._known.get((problem, tuple(steps)))
        return known.tokens if known is not None else super().count(problem, steps)

    def forget(self, session: int) -> None:
        dropped = self._users.pop(session, set())
        for asked in dropped - set().union(*self._users.values()):
            self._known.pop(asked, None)

    async def aclose(self) -> None:
        await self.endpoint.aclose()

    async def _prepare(self, asked: Sequence[Asked], session: int) -> None:
        able = await self.abilities()
        self._users.setdefault(session, set()).update(asked)

        async def one(key: Asked) -> None:
            self._known[key] = await self._fitting(*key, able, session)

        await together(one(key) for key in asked if key not in self._known)

    async def _fitting(self, problem: Problem, steps: Sequence[str], able: Abilities, session: int) -> _Prepared:
        """A solution as it is sent; shortened where it has to be, and can be."""
        whole = await self._tokenized(problem, steps, 0, able, session)
        if not self.shorten or self._fits(whole, able):
            return whole
        tried: dict[int, _Prepared] = {}
        low, high = 1, len(steps)  # the least number left out lies in low..high, `high` for none that fits
        while low < high:
            middle = (low + high) // 2
            tried[middle] = await self._tokenized(problem, steps, middle, able, session)
            low, high = (low, middle) if self._fits(tried[middle], able) else (middle + 1, high)
        return tried.get(low, whole)

    async def _tokenized(
        self, problem: Problem, steps: Sequence[str], dropped: int, able: Abilities, session: int
    ) -> _Prepared:
        texts = self.form.texts(problem, steps[dropped:] or ("",))
        asked = [
            self.endpoint.call("/tokenize", {"model": able.model, **text}, session=session_label(session))
            for text in texts
        ]
        pieces = tuple(tuple(answer["tokens"]) for answer in await asyncio.gather(*asked))
        return _Prepared(pieces, (sum(pieces, ()),) if self.form.joined else pieces, dropped)

    def _fits(self, sent: _Prepared, able: Abilities) -> bool:
        written = self.form.body(()).get("max_tokens", 0)
        return able.context_length is None or sent.longest + written <= able.context_length

    def _worst(self, rating: Rating) -> Usage:
        requests = len(self._known[rating.problem, rating.steps].requests)
        written = requests * self.form.body(()).get("max_tokens", 0)
        extra = Usage(calls=requests - 1)
        return self.rates.worst(prompt=rating.prompt, completion=written) + extra

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        able = await self.abilities()
        return list(await asyncio.gather(*(self._one(rating, able) for rating in ratings)))

    async def _one(self, rating: Rating, able: Abilities) -> tuple[Score, Usage]:
        """One candidate. A rating that fails is nan, and takes no other with it."""
        sent = self._known[rating.problem, rating.steps]
        if not self._fits(sent, able):
            why = f"{self.name}: a solution of {sent.longest} tokens does not fit the context of {able.context_length}"
            return Score(math.nan, error=why), Usage()
        worst = self._worst(rating)
        try:
            answers = [
                await self.endpoint.call(
                    self.form.path,
                    {"model": able.model, **self.form.body(ids), **self._salt(rating.session)},
                    session=session_label(rating.session),
                    deadline=rating.deadline,
                    again=rating.meter.retry,
                )
                for ids in sent.requests
            ]
            values = self.form.read(answers, sent.pieces, (len(rating.steps) or 1) - sent.dropped)
        except OutOfBudget:
            return Score(math.nan, error=f"{self.name}: the budget had no room for another attempt"), Usage()
        except ModelError as error:
            spent = error.spent if isinstance(error, Failed) and len(sent.requests) == 1 else None
            return Score(math.nan, error=f"{self.name}: {error}"), spent or worst
        cached = sum(min(len(ids), cached_of(answer)) for ids, answer in zip(sent.requests, answers, strict=True))
        spent = self.rates.price(prompt=worst.prompt, cached=min(cached, worst.prompt), completion=worst.completion)
        told = f"{self.name}: gave no score for the last step" if math.isnan(values[-1]) else None
        return Score(values[-1], (math.nan,) * sent.dropped + values, error=told), spent + Usage(
            calls=worst.calls - spent.calls
        )

    def _salt(self, session: int) -> dict[str, Any]:
        """What keeps a run's prefix cache its own, for families that profit from one."""
        return {"cache_salt": session_label(session)} if isinstance(self.form, PlusMinus) else {}
