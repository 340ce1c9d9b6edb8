"""What an evaluation writes down: one JSONL file a workflow, a header line and then a line a problem.

The keys follow inspect's where they mean the same (id, input, target, scores, model_usage, total_time, error, limit).
Everything that may differ between two runs of one seed is under `times`.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_serializer

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.happened import Course, Visit
from reasonweave.orchestrator.outline import texts
from reasonweave.orchestrator.types import Candidate, Usage

SCHEMA = 2
"""2 added the samples; files of 1 still load, without any."""
PACKAGES = ("reasonweave", "numpy", "tokenizers", "safetensors", "networkx", "pydantic")


class CallRecord(BaseModel):
    """One trip through a model's door: where in the workflow, by which model, at what cost."""

    path: str
    model: str
    role: str
    usage: Usage


class Header(BaseModel):
    """The first line of a file: everything needed to say what was run."""

    event: str = "header"
    schema_version: int = SCHEMA
    workflow: str
    strategy: str
    options: dict[str, Any]
    task: str
    limit: int | None
    seed: int
    budget: str
    models: dict[str, str]
    verifiers: dict[str, str] = Field(default_factory=dict)
    packages: dict[str, str] = Field(default_factory=dict)
    git: str | None = None
    python: str = ""
    platform: str = ""
    flops_convention: str = "2 * active parameters * (uncached prompt + completion tokens), reward models included"


class Written(BaseModel):
    """What one author wrote of a solution; "" is nobody: words that a strategy put in."""

    steps: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One of a run's final candidates. In the file, what has its default is left out.

    `logprob` is the sum over its tokens, None where unknown; `open` says that it stops in the middle of a step; `cut`, that a
    watch ended it. `score` is the verifier's value, with `steps` where it has one a step; `unjudged` says why it has none.
    `weight` is its log weight, None for minus infinity. Of a forced answer, `given` characters were there before: what stands
    after them was written, and `tokens` and `logprob` are of that alone.
    """

    text: str = ""
    answer: str | None = None
    tokens: int = 0
    logprob: float | None = None
    done: bool = True
    open: bool = False
    cut: bool = False
    failed: str | None = None
    score: float | None = None
    steps: tuple[float, ...] = ()
    unjudged: str | None = None
    weight: float | None = 0.0
    given: int = 0

    @classmethod
    def of(cls, candidate: Candidate, given: int = 0) -> SampleRecord:
        judged, weight = candidate.score, candidate.log_weight
        number = judged is not None and math.isfinite(judged.value)
        written = candidate.steps[-1:] if given else candidate.steps
        logprob = Candidate(candidate.problem, written).logprob
        return cls(
            text=candidate.text,
            answer=candidate.answer,
            tokens=sum(step.tokens for step in written),
            logprob=logprob if logprob is not None and math.isfinite(logprob) else None,
            done=candidate.done,
            open=bool(candidate.steps) and candidate.steps[-1].open,
            cut=candidate.cut,
            failed=candidate.failed,
            score=judged.value if judged and number else None,
            steps=judged.steps if judged and all(map(math.isfinite, judged.steps)) else (),
            unjudged=judged.error or str(judged.value) if judged and not number else None,
            weight=weight if math.isfinite(weight) else None,
            given=given,
        )


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What happened at one node of the workflow (`happened.Visit`): how often it `started` and `ended`, with how many candidates
    in all, its last answer, why it was stopped or skipped, what failed and what ran in its place, and which promises a verifier
    there broke. Its cost is that of the calls at and below its path, its time is under `times`. In the file, what has its default
    is left out."""

    path: str
    started: int = 1
    ended: int = 1
    given: int = 0
    got: int = 0
    answered: int = 0
    answer: str | None = None
    stopped: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    broken: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: str, visit: Visit) -> NodeRecord:
        held: dict[str, Any] = {name: getattr(visit, name) for name in _VISIT}
        held |= {name: tuple(value) for name, value in held.items() if isinstance(value, list)}
        return cls(path, **held)

    @property
    def visit(self) -> Visit:
        """It as a tracer keeps it, without calls and time."""
        held: dict[str, Any] = {name: getattr(self, name) for name in _VISIT}
        held |= {name: list(value) for name, value in held.items() if isinstance(value, tuple)}
        return Visit(**held)


_VISIT = [field.name for field in fields(NodeRecord) if field.name != "path"]
_DEFAULTS = {kind: {field.name: field.default for field in fields(kind)} for kind in (SampleRecord, NodeRecord)}
_SPENT_AT = "node "
"""What stands before a node's path where its seconds are told, under `times`."""


def nodes_of(course: Course) -> tuple[list[NodeRecord], dict[str, float]]:
    """How a problem went, as a record keeps it: the nodes, sorted by path, and their times."""
    visits = sorted((path, visit) for path, visit in course.visits.items() if visit.told)
    named = [("/".join(path) or "run", visit) for path, visit in visits]
    times = {f"{_SPENT_AT}{path}": round(visit.seconds, 4) for path, visit in named if visit.ended}
    return [NodeRecord.of(path, visit) for path, visit in named], times


class Record(BaseModel):
    """One problem, solved. `authors` is about the solution alone: what was rejected on the way is in the usage.

    `abstained` says that there is no answer on purpose; the confidence is then of the one that was withheld.
    `cut` is the part of the usage that went into calls which were ended early because nobody wanted the rest, `saved` what those
    had held and did not use; None where there were none.
    `samples` are the final candidates, in their order, of `drawn` that were begun from the bare problem; `prompt_tokens` is how
    many tokens that takes, by model. `nodes` is what happened where in the workflow; None in files from before it was kept.
    """

    event: str = "sample"
    index: int
    id: str
    group: str
    input: str
    target: str
    answer: str | None
    correct: bool
    confidence: float | None
    abstained: bool = False
    cut: Usage | None = None
    saved: Usage | None = None
    solution: str
    authors: dict[str, Written] = Field(default_factory=dict)
    seed: int
    model_usage: dict[str, Usage]
    calls: list[CallRecord]
    limit: str | None = None
    error: str | None = None
    prompt_tokens: dict[str, int] = Field(default_factory=dict)
    drawn: int = 0
    samples: list[SampleRecord] = Field(default_factory=list)
    nodes: list[NodeRecord] | None = None
    times: dict[str, float] = Field(default_factory=dict)

    @field_serializer("samples")
    def _short_samples(self, samples: list[SampleRecord]) -> list[dict[str, Any]]:
        return list(map(_short, samples))

    @field_serializer("nodes")
    def _short_nodes(self, nodes: list[NodeRecord] | None) -> list[dict[str, Any]] | None:
        return None if nodes is None else list(map(_short, nodes))

    @property
    def course(self) -> Course:
        """How the problem went, by path, as far as it was kept."""
        course = Course(known=self.nodes is not None, timed=self.nodes is not None)
        for node in self.nodes or ():
            visit = course.visits[texts(node.path)] = node.visit
            visit.seconds = self.times.get(f"{_SPENT_AT}{node.path}", 0.0)
        for call in self.calls:
            course.called(call.path, call.model, call.usage)
        return course

    @property
    def total(self) -> Usage:
        return Usage.total(list(self.model_usage.values()))


def _short(part: SampleRecord | NodeRecord) -> dict[str, Any]:
    """What of a part has not its default."""
    defaults = _DEFAULTS[type(part)]
    return {name: value for name, default in defaults.items() if (value := getattr(part, name)) != default}


def provenance() -> dict[str, Any]:
    """Versions, git state and machine, for a header."""
    return {
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
        "git": _git(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git() -> str | None:
    """The commit of the working folder, with a + where it has uncommitted changes; None outside a checkout."""
    asked = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


class Log:
    """A file of records. Appends as problems finish, each line flushed; `close` puts them into the problems' order."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines: dict[int, tuple[int, int]] = {}
        """Where each record's line begins, and its length."""
        self._file, self._end = path.open("wb"), 0
        self._head = self._write(header.model_dump_json())

    def add(self, record: Record) -> None:
        self._lines[record.index] = self._write(record.model_dump_json())

    def _write(self, text: str) -> tuple[int, int]:
        line = text.encode() + b"\n"
        self._file.write(line)
        self._file.flush()
        self._end += len(line)
        return self._end - len(line), len(line)

    def close(self) -> None:
        self._file.close()
        new = self.path.with_suffix(".jsonl.new")
        with self.path.open("rb") as written, new.open("wb") as ordered:
            for start, length in (self._head, *(self._lines[i] for i in sorted(self._lines))):
                written.seek(start)
                ordered.write(written.read(length))
        new.replace(self.path)


@dataclass(frozen=True)
class Records:
    """A file of records as read: in the problems' order, each problem once. `torn` says that its last line is not whole, as
    after a kill; `repeated` counts lines that a later line of the same problem replaced."""

    path: Path
    header: Header
    items: list[Record]
    torn: bool = False
    repeated: int = 0

    @classmethod
    def read(cls, path: Path) -> Records:
        """Read a file. Raises `BadInput`, with the line's number, where it is no file of records."""
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
        try:
            header = Header.model_validate_json(lines[0])
        except ValidationError:
            raise BadInput(f"{path}: no file of records: its first line is no header of an evaluation") from None
        if header.schema_version > SCHEMA:
            told = (
                f"written in form {header.schema_version}, and this version reads up to {SCHEMA}: upgrade reasonweave"
            )
            raise BadInput(f"{path}: {told}")
        found: dict[tuple[str, str], Record] = {}
        torn, whole = bool(lines[-1].strip()), 0
        for number, line in enumerate(lines[1:], 2):
            if line.strip():
                try:
                    record = Record.model_validate_json(line)
                except ValidationError as error:
                    if torn and number == len(lines):
                        break
                    first = error.errors()[0]
                    at = ".".join(map(str, first["loc"])) or "the line"
                    raise BadInput(f"{path}, line {number}: no record ({at}: {first['msg']})") from None
                found[record.id, record.input] = record
                whole += 1
                torn = torn and number < len(lines)
        items = sorted(found.values(), key=lambda record: record.index)
        return cls(path, header, items, torn, whole - len(items))


def without_times(line: str) -> str:
    """A record line without its `times`: what must be the same for the same seed."""
    data: Mapping[str, Any] = json.loads(line)
    return json.dumps({key: value for key, value in data.items() if key != "times"}, sort_keys=True)
