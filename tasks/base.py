"""What a benchmark is: a name, examples with reference answers, and a way to grade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from reasonweave.orchestrator.types import Problem


@dataclass(frozen=True, slots=True)
class Example:
    """A problem with its reference answer, which no model gets to see. `group` names its level or subject."""

    problem: Problem
    target: str
    group: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def correct(self, answer: str | None) -> bool:
        """Is this the reference answer? No answer is wrong."""
        return answer is not None and self.problem.answers.same(self.target, answer)


def is_text(text: str) -> bool:
    """Can this be written as UTF-8? Half a character (a lone surrogate) cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


@runtime_checkable
class StepLabels(Protocol):
    """A task that knows of each step of a solution whether it is right: what a verifier of steps is measured against."""

    def step_labels(self, example: Example, passages: Sequence[str]) -> list[bool] | None:
        """One label a passage (`Candidate.passages`), None where it cannot tell."""


@runtime_checkable
class Task(Protocol):
    """A benchmark. `examples` gives the first `limit` problems (all, where there is an end and no limit)."""

    @property
    def name(self) -> str: ...

    def examples(self, limit: int | None = None) -> Sequence[Example]: ...
