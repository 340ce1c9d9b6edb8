"""One model behind one or several base URLs: connections, retries, back-off, and which replica a problem goes to.

Everything here is about HTTP; what to ask a server, and what its answers mean, is in `server`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AsyncStream,
    DefaultAsyncHttpxClient,
    Timeout,
)
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from reasonweave.orchestrator.errors import BadInput, ModelError
from reasonweave.orchestrator.types import Usage

Body = Mapping[str, Any]
Again = Callable[[Usage | None], bool]
"""Asks the door whether the budget has room for another attempt; the argument is what the failed one cost, None for all
that was held."""
T = TypeVar("T")

TURNED_AWAY = frozenset({409, 429, 503})
"""Statuses of a server that did no work: a retry costs a call and no tokens."""
BROKEN = frozenset({408, 500, 502, 504})
"""Statuses after which nobody knows how much work was done: the attempt is charged in full."""
REST = 10.0
"""Seconds for which a replica that could not be reached is passed over."""
CONNECT = 10.0
"""Seconds to wait for a connection: a host that is off the network does not refuse one."""
CALM = 2.0
"""Seconds between two cuts of the concurrency: a burst of refusals is one sign, not many."""


class Transient(Exception):
    """An attempt that failed in a way that another may not. `spent` is its cost, None where nobody can know."""

    def __init__(self, why: str, *, spent: Usage | None, after: float = 0.0) -> None:
        super().__init__(why)
        self.spent, self.after = spent, after


class Failed(ModelError):
    """A request that failed for good. `spent` is what its last attempt cost, None where nobody can know."""

    def __init__(self, why: str, *, spent: Usage | None) -> None:
        super().__init__(why)
        self.spent = spent


class OutOfBudget(Exception):
    """The budget has no room for another attempt."""


class Throttle:
    """At most `limit` requests at once: halved when the server turns one away, and slowly raised again (AIMD)."""

    def __init__(self, most: int) -> None:
        self.most, self.limit, self.busy = most, float(most), 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._cut = -CALM

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the places, waiting for it in turn."""
        if self.busy < int(self.limit) and not self._queue:
            self.busy += 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            try:
                await turn  # who sets it has taken the place for us
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def turned_away(self) -> None:
        """The server had too much to do."""
        if time.monotonic() - self._cut >= CALM:
            self._cut, self.limit = time.monotonic(), max(1.0, self.limit / 2)

    def served(self) -> None:
        """The server answered."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self._call()

    def _leave(self) -> None:
        self.busy -= 1
        self._call()

    def _call(self) -> None:
        while self._queue and self.busy < int(self.limit):
            turn = self._queue.popleft()
            if not turn.done():
                self.busy += 1
                turn.set_result(None)


@dataclass(slots=True)
class Replica:
    """One base URL: a client of its own loop, and how much the server takes."""

    root: str
    client: AsyncOpenAI
    throttle: Throttle
    rests_until: float = 0.0

    async def ask(self, path: str, body: Body | None, headers: Mapping[str, str], timeout: float) -> Any:
        """One request; `body` None is a GET. Raises `Transient` where another attempt may do better, else `ModelError`."""
        options = _options(headers, timeout)
        async with self._judged():
            if body is None:
                return await self.client.get(self.root + path, cast_to=object, options=options)
            return await self.client.post(self.root + path, cast_to=object, body=body, options=options)

    @asynccontextmanager
    async def stream(
        self, path: str, body: Body, headers: Mapping[str, str], timeout: float, sent: Callable[[], None]
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """One request whose answer comes in pieces. Leaving the block closes the connection, which aborts the request.

        `sent` is called once the request has its place in the queue, and is on its way.
        """
        options = _options(headers, timeout)
        async with self._judged():
            sent()
            pieces = await self.client.post(
                self.root + path,
                cast_to=object,
                body=body,
                options=options,
                stream=True,
                stream_cls=AsyncStream[object],
            )
            read = aiter(pieces)
            try:
                yield read
            finally:
                await pieces.close()
                with suppress(Exception):  # left in the middle, the client's generators end now, and not some day
                    async for _ in read:
                        pass

    @asynccontextmanager
    async def _judged(self) -> AsyncIterator[None]:
        """A place in the queue, and this client's errors told as ours."""
        async with self.throttle.place():
            try:
                yield
            except APIConnectionError as error:  # timeouts are of this kind too
                cause = error.__cause__
                if type(cause).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout"):
                    self.rests_until = time.monotonic() + REST
                    why = f"cannot reach {self.root} ({str(cause) or 'no connection in time'})"
                    raise Transient(why, spent=Usage(calls=1)) from error
                if isinstance(error, APITimeoutError):
                    raise Transient(f"no answer from {self.root} in time", spent=None) from error
                raise Transient(f"connection to {self.root} lost ({cause or error})", spent=None) from error
            except json.JSONDecodeError as error:
                raise Transient(f"{self.root} answered with broken JSON", spent=None) from error
            except APIStatusError as error:
                why = f"{self.root} answered {error.status_code}: {_said(error)}"
                if error.status_code in TURNED_AWAY:
                    self.throttle.turned_away()
                    after = _seconds(error.response.headers.get("retry-after"))
                    raise Transient(why, spent=Usage(calls=1), after=after) from error
                if error.status_code in BROKEN or error.status_code > 504:
                    raise Transient(why, spent=None) from error
                raise Failed(why, spent=Usage(calls=1)) from error
            except APIError as error:  # told in the middle of a stream
                raise Transient(f"{self.root} broke off: {_said(error)}", spent=None) from error
            self.throttle.served()


def _options(headers: Mapping[str, str], timeout: float) -> Any:
    """Headers and limits of one request."""
    return {"headers": dict(headers), "timeout": Timeout(timeout, connect=min(CONNECT, timeout))}


def _said(error: APIError) -> str:
    """What a server gave as the reason, in one line."""
    body = error.body
    inner = body.get("error", body) if isinstance(body, dict) else body
    text = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(text or error.message).split())[:500]


def _seconds(header: str | None) -> float:
    """A Retry-After in seconds; dates and nonsense count as nothing."""
    try:
        return min(600.0, max(0.0, float(header or 0)))
    except ValueError:
        return 0.0


@dataclass(slots=True)
class _Bound:
    """What belongs to one event loop."""

    replicas: list[Replica]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Endpoint:
    """Where a model is served. `urls` are replicas of one another, with or without the closing `/v1`.

    `connections` bounds the requests under way at each replica; `timeout` is seconds for one attempt; `attempts` is how
    often a request is tried. Connections are kept, per event loop.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        key: str = "EMPTY",
        connections: int = 64,
        timeout: float = 600.0,
        attempts: int = 6,
    ) -> None:
        self.roots = tuple(url.rstrip("/").removesuffix("/v1") for url in urls)
        self.key = key.strip() or "EMPTY"
        if not (self.key.isascii() and self.key.isprintable()):
            raise BadInput(f"the API key for {self} has characters that no HTTP header can carry")
        self.connections, self.timeout, self.attempts = connections, timeout, attempts
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Bound] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return ",".join(self.roots)

    def bound(self) -> _Bound:
        """This loop's clients, made on first use."""
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            for gone in [other for other in self._loops if other.is_closed()]:
                del self._loops[gone]  # nobody can close its connections properly any more; the collector does
            near = all(urlsplit(root).hostname in ("localhost", "127.0.0.1", "::1") for root in self.roots)
            transport = DefaultAsyncHttpxClient(trust_env=False) if near else None  # no proxy on the way to oneself
            first = AsyncOpenAI(base_url=self.roots[0] + "/v1", api_key=self.key, max_retries=0, http_client=transport)
            clients = [first.with_options(base_url=root + "/v1") for root in self.roots]
            self._loops[loop] = _Bound(
                [Replica(r, c, Throttle(self.connections)) for r, c in zip(self.roots, clients, strict=True)]
            )
        return self._loops[loop]

    def replica(self, session: str) -> Replica:
        """The replica that holds this session's prefix: always the same one, as long as it can be reached."""
        now = time.monotonic()

        def rank(replica: Replica) -> tuple[bool, bytes]:
            return replica.rests_until <= now, hashlib.sha256(f"{session}@{replica.root}".encode()).digest()

        return max(self.bound().replicas, key=rank)

    async def call(
        self,
        path: str,
        body: Body | None = None,
        *,
        session: str = "",
        deadline: float | None = None,
        again: Again | None = None,
        attempts: int | None = None,
    ) -> Any:
        """Ask for JSON and get it, after as many attempts as it takes. `path` starts at the root (`/v1/completions`).

        Raises `ModelError` when the attempts are used up or the server refuses for good, `OutOfBudget` when `again` says
        no.
        """

        async def once(replica: Replica) -> Any:
            return await replica.ask(path, body, headers(session), self.timeout)

        return await self.attempt(once, session=session, deadline=deadline, again=again, attempts=attempts)

    async def attempt(
        self,
        once: Callable[[Replica], Awaitable[T]],
        *,
        session: str = "",
        deadline: float | None = None,
        again: Again | None = None,
        attempts: int | None = None,
    ) -> T:
        """Run `once` on the session's replica until it succeeds: exponential back-off with jitter, Retry-After honoured,
        no waiting past the deadline."""
        tries = attempts or self.attempts
        pause = wait_exponential(multiplier=0.25, max=20) + wait_random(0, 0.5)

        def wait(state: RetryCallState) -> float:
            failed = state.outcome.exception() if state.outcome else None
            return max(pause(state), failed.after if isinstance(failed, Transient) else 0.0)

        def late(state: RetryCallState) -> bool:
            return deadline is not None and time.monotonic() + state.upcoming_sleep >= deadline

        def charge(state: RetryCallState) -> None:
            failed = state.outcome.exception() if state.outcome else None
            if again is not None and isinstance(failed, Transient) and not again(failed.spent):
                raise OutOfBudget

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Transient),
            stop=lambda state: stop_after_attempt(tries)(state) or late(state),
            wait=wait,
            before_sleep=charge,
            reraise=True,
        )
        made = 0

        async def one() -> T:
            nonlocal made
            made += 1
            return await once(self.replica(session))

        try:
            return await retrying(one)
        except Transient as error:
            tried = f" (tried {made} times)" if made > 1 else ""
            raise Failed(f"{error}{tried}", spent=error.spent) from error

    async def aclose(self) -> None:
        """Close this loop's connections."""
        if bound := self._loops.pop(asyncio.get_running_loop(), None):
            await bound.replicas[0].client.close()


def headers(session: str) -> dict[str, str]:
    """What routers read to keep a problem's requests together."""
    return {"X-Session-ID": session} if session else {}
