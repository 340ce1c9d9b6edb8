"""The one sync door: a background event loop that works in scripts, threads, notebooks and inside a running loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def background() -> asyncio.AbstractEventLoop:
    """The process's background loop, started on first use in a daemon thread."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="reasonweave", daemon=True).start()
        return _loop


def wait(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on the background loop and wait for it; Ctrl-C cancels it and waits for it to settle."""
    future = asyncio.run_coroutine_threadsafe(work, background())
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise
