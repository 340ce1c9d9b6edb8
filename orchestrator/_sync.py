"""The one sync door, a background event loop that works in scripts, threads, notebooks and inside a running loop; and coroutines
awaited together."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from reasonweave.orchestrator.errors import BadInput, first_of

_T = TypeVar("_T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def background() -> asyncio.AbstractEventLoop:
    """The process's background loop, started on first use in a daemon thread."""
    global _loop, _thread
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_loop.run_forever, name="reasonweave", daemon=True)
            _thread.start()
        return _loop


def _forked() -> None:
    """A forked child has the loop but not its thread: it starts one of its own."""
    global _lock, _loop, _thread
    _lock, _loop, _thread = threading.Lock(), None, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


async def together(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Await all at the same time. Where one fails, the others are cancelled, and its own exception is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as failed:
        error = first_of(failed)
        raise error from error.__cause__
    return [task.result() for task in tasks]


def wait(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on the background loop and wait for it; Ctrl-C cancels it.

    Raises `BadInput` on that loop itself, where waiting would wait for ever: an aggregator, a condition or a tracer.
    """
    if threading.current_thread() is _thread:
        work.close()
        raise BadInput("solve() was called from within a run, which would wait for itself; await asolve() instead")
    future = asyncio.run_coroutine_threadsafe(work, background())
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise
