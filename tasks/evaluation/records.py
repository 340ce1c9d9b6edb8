"""What an evaluation writes down: one JSONL file a workflow, a header line and then a line a problem.

The keys follow inspect's where they mean the same (id, input, target, scores, model_usage, total_time, error, limit).
Everything that may differ between two runs of one seed is under `times`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from reasonweave.orchestrator.types import Usage

SCHEMA = 1
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
    packages: dict[str, str] = Field(default_factory=dict)
    git: str | None = None
    python: str = ""
    platform: str = ""
    flops_convention: str = "2 * active parameters * (uncached prompt + completion tokens), reward models included"


class Written(BaseModel):
    """What one author wrote of a solution; "" is nobody: words that a strategy put in."""

    steps: int = 0
    tokens: int = 0


class Record(BaseModel):
    """One problem, solved. `authors` is about the solution alone: what was rejected on the way is in the usage."""

    event: str = "sample"
    index: int
    id: str
    group: str
    input: str
    target: str
    answer: str | None
    correct: bool
    confidence: float | None
    solution: str
    authors: dict[str, Written] = Field(default_factory=dict)
    seed: int
    model_usage: dict[str, Usage]
    calls: list[CallRecord]
    limit: str | None = None
    error: str | None = None
    times: dict[str, float] = Field(default_factory=dict)

    @property
    def total(self) -> Usage:
        return Usage.total(list(self.model_usage.values()))


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
        self._head = header.model_dump_json()
        self._lines: dict[int, str] = {}
        self._file = path.open("w", encoding="utf-8")
        self._write(self._head)

    def add(self, record: Record) -> None:
        line = record.model_dump_json()
        self._lines[record.index] = line
        self._write(line)

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        ordered = [self._head, *(self._lines[i] for i in sorted(self._lines))]
        new = self.path.with_suffix(".jsonl.new")
        new.write_text("\n".join(ordered) + "\n", encoding="utf-8")
        new.replace(self.path)


def without_times(line: str) -> str:
    """A record line without its `times`: what must be the same for the same seed."""
    data: Mapping[str, Any] = json.loads(line)
    return json.dumps({key: value for key, value in data.items() if key != "times"}, sort_keys=True)
