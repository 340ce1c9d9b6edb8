"""A few processes that compare expressions, each of them killed and replaced when it does not answer in time.

A comparison can take for ever or all memory, in code that neither a signal handler nor a thread can stop. So it runs in a
process of its own, started when it is first needed, kept for some thousand comparisons, and known only by two pipes. Safe from
any thread; after a fork the child starts workers of its own; at the end of the interpreter none is left.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import sys
import threading
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any, Generic, TypeVar

from reasonweave.verifiers._math_worker import PATIENCE, receive, send

_SCRIPT = Path(__file__).with_name("_math_worker.py")
_K = TypeVar("_K")
_V = TypeVar("_V")

SIZE = 2
MEMORY = 2 << 30
"""Bytes of address space a worker may use."""
LIFETIME = 5000
"""Comparisons after which a worker is replaced, because sympy remembers what it has seen."""
PAUSE = 30.0
"""Seconds without another try after a worker could not be started."""
START = 60.0
"""Seconds that a worker may take to import sympy."""


class Bounded(Generic[_K, _V]):
    """A dict of the `most` keys used last; safe from any thread."""

    def __init__(self, most: int) -> None:
        self.most, self._items, self._lock = most, OrderedDict[_K, _V](), threading.Lock()

    def get(self, key: _K) -> _V | None:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: _K, value: _V) -> None:
        with self._lock:
            self._items[key] = value
            self._items.move_to_end(key)
            if len(self._items) > self.most:
                self._items.popitem(last=False)

    def __len__(self) -> int:
        return len(self._items)


class NoWorker(Exception):
    """A worker could not be started."""


class _Late(Exception):
    """A worker was killed because its time was up."""


class _Worker:
    """One process and its two pipes. Not shared: whoever took it from the pool asks it."""

    def __init__(self, memory: int) -> None:
        command = [sys.executable, "-P", "-u", str(_SCRIPT), str(memory)]
        try:
            self.process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, bufsize=0)
        except (OSError, ValueError) as error:
            raise NoWorker(f"{type(error).__name__}: {error}") from error
        self.asked = 0
        try:
            said = self._timed(START, self._next)
        except (EOFError, OSError, ValueError, _Late) as error:
            self.stop()
            raise NoWorker("it ended, or did not get ready in time") from error
        except BaseException:
            self.stop()
            raise
        if said != "ready":
            self.stop()
            raise NoWorker(str(said))

    def ask(self, message: list[Any], seconds: float, at: Callable[[str], None]) -> Any:
        """Its verdict. `at` is told each stage; `_Late` where the time was up; EOFError or OSError where it is no more."""

        def exchange() -> Any:
            assert self.process.stdin is not None
            send(self.process.stdin, message)
            while isinstance(said := self._next(), str) and said in ("gold", "answer", "both"):
                at(said)
            return said

        self.asked += 1
        try:
            return self._timed(PATIENCE * seconds, exchange)
        except (EOFError, OSError) as error:
            if self.process.wait() == -getattr(signal, "SIGPROF", 0) < 0:
                raise _Late from error
            raise

    def stop(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.leave()
        self.process.wait()

    def leave(self) -> None:
        """Let go of the pipes."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _next(self) -> Any:
        assert self.process.stdout is not None
        return receive(self.process.stdout)

    def _timed(self, seconds: float, work: Callable[[], _V]) -> _V:
        late = threading.Event()

        def stop() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            return work()
        except (EOFError, OSError) as error:
            if late.is_set():
                raise _Late from error
            raise
        finally:
            timer.cancel()


class Workers:
    """A pool of at most `size` workers, the second one started when the first is busy.

    `same` never raises: what nobody can say in `seconds` is None, and stays None. An expression over which a worker hung by
    itself, or which it cannot read, is not tried again with any other. `started` counts the processes so far.
    """

    def __init__(
        self, size: int = SIZE, memory: int = MEMORY, lifetime: int = LIFETIME, remember: int = 16_384
    ) -> None:
        self.size, self.memory, self.lifetime = size, memory, lifetime
        self.started = 0
        self._verdicts = Bounded[tuple[str, str, float], tuple[bool | None]](remember)
        self._unreadable = Bounded[tuple[str, float], bool](remember)
        self._free = threading.Condition()
        self._idle, self._all = list[_Worker](), set[_Worker]()
        self._starting, self._closed, self._again = 0, False, 0.0
        _pools.add(self)

    @property
    def pids(self) -> list[int]:
        """The processes there are now."""
        with self._free:
            return sorted(worker.process.pid for worker in self._all)

    def same(self, gold: str, answer: str, seconds: float) -> bool | None:
        """Whether two expressions in LaTeX are the same; None where no worker could say."""
        key = (gold, answer, seconds)
        known = self._verdicts.get(key)
        if known is None:
            known = self._compared(gold, answer, seconds)
            if known is None:
                return None
            self._verdicts.put(key, known)
        return known[0]

    def close(self) -> None:
        """End all workers, for good."""
        with self._free:
            self._closed = True
            workers, self._all, self._idle = list(self._all), set(), []
            self._free.notify_all()
        for worker in workers:
            worker.stop()

    def _compared(self, gold: str, answer: str, seconds: float) -> tuple[bool | None] | None:
        """The verdict; None where nothing was found out, not even that it cannot be."""
        if any(self._unreadable.get((text, within)) for text in (gold, answer) for within in (0.0, seconds)):
            return (None,)
        message = [seconds, gold, answer, bool(_IMAGINARY.search(gold) or _IMAGINARY.search(answer))]
        stage = ""

        def at(said: str) -> None:
            nonlocal stage
            stage = said

        for _ in range(2):  # a worker that was killed from outside is replaced, once
            try:
                worker = self._take()
            except (NoWorker, RuntimeError) as error:  # the latter: no threads any more at the interpreter's end
                self._told(error)
                return None
            kept = False
            try:
                verdict = worker.ask(message, seconds, at)
                kept = worker.asked < self.lifetime and verdict != "memory"
            except _Late:
                if stage in ("gold", "answer"):
                    self._unreadable.put((gold if stage == "gold" else answer, seconds), True)
                return (None,)
            except (EOFError, OSError, ValueError, RuntimeError):
                continue
            finally:
                self._give(worker, kept)
            if isinstance(verdict, bool):
                return (verdict,)
            if stage in ("gold", "answer") and verdict != "memory":
                self._unreadable.put((gold if stage == "gold" else answer, 0.0), True)
            return (None,)
        return None

    def _take(self) -> _Worker:
        with self._free:
            while not self._closed and not self._idle and len(self._all) + self._starting >= self.size:
                self._free.wait()
            while self._idle and not self._closed:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                worker.leave()  # killed from outside while it had nothing to do
                self._all.discard(worker)
            if self._closed or time.monotonic() < self._again:
                raise NoWorker("closed, or the last one did not start")
            self._starting += 1
            self.started += 1
        started = None
        try:
            started = _Worker(self.memory)
        finally:
            with self._free:
                self._starting -= 1
                if started is not None:
                    self._all.add(started)
                self._free.notify()
        if self._closed:
            started.stop()
            raise NoWorker("closed")
        return started

    def _give(self, worker: _Worker, kept: bool) -> None:
        if not kept:
            worker.stop()
        with self._free:
            if kept and not self._closed:
                self._idle.append(worker)
            else:
                self._all.discard(worker)
            self._free.notify()

    def _told(self, error: Exception) -> None:
        """Say, once, that answers are compared by their exact keys only; for a while, no other worker is tried."""
        first, self._again = self._again == 0, time.monotonic() + PAUSE
        if first and not self._closed:
            told = f"mathematical answers are compared without algebra: no worker ({error})"
            warnings.warn(told, RuntimeWarning, stacklevel=4)

    def forked(self) -> None:
        """In the child of a fork: the workers are the parent's, and locks may be held by threads that are not here."""
        for worker in self._all:
            worker.leave()
            worker.process.returncode = 0  # not a child of this process
        self._free = threading.Condition()
        self._idle, self._all, self._starting = [], set(), 0
        self._verdicts, self._unreadable = Bounded(self._verdicts.most), Bounded(self._unreadable.most)


_IMAGINARY = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]?i(?![a-zA-Z])")
_pools = weakref.WeakSet[Workers]()
_shared: Workers | None = None
_lock = threading.Lock()


def shared() -> Workers:
    """The workers of this process, ended with it."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = Workers()
            atexit.register(_shared.close)
        return _shared


def _forked() -> None:
    global _lock
    _lock = threading.Lock()
    for pool in list(_pools):
        pool.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
