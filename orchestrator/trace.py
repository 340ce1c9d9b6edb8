"""What a run tells about itself. Events come from `generate`, `rate`, `scored` and `drive` alone; a tracer is any callable.

`Jsonl` writes one object a line; `Tally` adds usage up by model. Algorithms contain no logging.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any, Self, TypeAlias

from reasonweave.orchestrator.errors import Path, show
from reasonweave.orchestrator.types import Completion, Context, Sampling, Score, Usage


@dataclass(frozen=True, slots=True)
class Generated:
    """One call to a model's door: what was asked for, what came, what it cost. `seconds` is wall time, waiting included."""

    path: Path
    model: str
    role: str
    contexts: tuple[Context, ...]
    sampling: Sampling
    completions: tuple[Completion, ...]
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True)
class Rated:
    """One call to a reward model's door."""

    path: Path
    model: str
    role: str
    scores: tuple[Score, ...]
    usage: Usage
    seconds: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A verifier was asked about candidates. `broken` says which of its promises it broke, None where it kept them; `seconds` is
    wall time, that of the models it asked included."""

    path: Path
    verifier: str
    scores: tuple[Score, ...]
    broken: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Started:
    """A strategy begins to be driven, or an aggregator of a graph is called, with so many candidates."""

    path: Path
    strategy: str
    candidates: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A strategy yielded a usable answer so far."""

    path: Path
    candidates: int
    done: int
    answer: str | None


@dataclass(frozen=True, slots=True)
class Ended:
    """A strategy is finished; `stopped` says why it ended early, None where it ran to its end."""

    path: Path
    candidates: int
    answer: str | None
    stopped: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """A node of a graph was not run; `why` says why not."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A node of a graph failed with `error`, and `instead` was run in its place."""

    path: Path
    error: str
    instead: str


Event: TypeAlias = Generated | Rated | Judged | Started | Snapshot | Ended | Skipped | Failed
Tracer: TypeAlias = Callable[[Event], None]


def to_json(event: Event) -> dict[str, Any]:
    """An event as plain JSON data, with its kind and a readable path."""
    data = asdict(event)
    data["path"] = show(event.path)
    return {"event": type(event).__name__.lower(), **data}


class Jsonl:
    """A tracer that appends one JSON object a line to a file, flushed at once so that a crash loses nothing."""

    def __init__(self, path: FilePath | str) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        line = json.dumps(to_json(event), ensure_ascii=False) + "\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True)
class Tally:
    """A tracer that adds usage up by model name, and keeps the errors of requests that failed for good, of verifiers that broke
    their promises and of nodes that were replaced."""

    usage: dict[str, Usage] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Generated | Rated):
            self.usage[event.model] = self.usage.get(event.model, Usage()) + event.usage
        if isinstance(event, Generated):
            self.errors += [c.error for c in event.completions if c.error]
        if isinstance(event, Rated):
            self.errors += [s.error for s in event.scores if s.error]
        if isinstance(event, Judged) and event.broken:
            self.errors.append(event.broken)
        if isinstance(event, Failed):
            self.errors.append(f"{event.error} (in node {show(event.path)}; {event.instead} in its place)")


def both(*tracers: Tracer | None) -> Tracer:
    """One tracer that tells each of these in turn."""
    told = [tracer for tracer in tracers if tracer is not None]

    def tell(event: Event) -> None:
        for tracer in told:
            tracer(event)

    return tell
