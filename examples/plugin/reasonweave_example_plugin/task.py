"""A task: problems with their answers."""

from __future__ import annotations

from dataclasses import dataclass

from reasonweave.orchestrator import Problem
from reasonweave.tasks.base import Example


@dataclass(frozen=True)
class Sums:
    """Sums of two numbers, as the lab's models are asked for them."""

    name: str = "sums"

    def examples(self, limit: int | None = None) -> list[Example]:
        made = []
        for i in range(20 if limit is None else limit):
            a, b, c = 3 + 7 * i % 40, 2 + 5 * i % 30, 2 + 3 * i % 20
            text = f"Start with {a}. A: Add {b}. B: Add {c}. What is the result?"
            made.append(Example(Problem(text, f"sums-{i}"), str(a + b + c)))
        return made
