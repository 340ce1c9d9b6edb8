"""A rubric: a model grades a solution criterion by criterion, in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Context, Message, Score
from reasonweave.verifiers.judge import (
    Unreadable,
    last_readable,
    not_judged,
    number_in,
    turn,
    understood,
)

RUBRIC_PROMPT = """\
Grade the solution above. Say first, in a few sentences, what is right and what is wrong about it. Then give your grades as one
JSON object that follows this schema:
{schema}"""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing to grade: its `name` in the JSON, what it `asks`, its weight in the total, and the grades from worst to best."""

    name: str
    asks: str
    weight: float = 1.0
    worst: float = 0.0
    best: float = 10.0

    def __post_init__(self) -> None:
        if not self.name or not 0 < self.weight < math.inf or not -math.inf < self.worst < self.best < math.inf:
            raise BadInput(f"{self}: a criterion has a name, a weight above 0, and a worst grade below the best one")


CRITERIA = (
    Criterion("result", "Is the final result right, as far as you can check it?", weight=2.0),
    Criterion("steps", "Does each step follow from the problem and the steps before it?"),
    Criterion("complete", "Is all that the problem asks for dealt with, with no condition of it left out?"),
)
"""For problems with a result that is right or wrong."""


@dataclass(frozen=True)
class Rubric:
    """A model's grades by several criteria, as JSON by a schema that it is shown; their weighted mean.

        value = Σ wᵢ (gᵢ − worstᵢ) / (bestᵢ − worstᵢ) / Σ wᵢ      in 0..1

    Every criterion has to be there, with a number within its range. A reply that cannot be read is shown to the model with what
    is wrong about it, up to `tries` replies in all; a solution without readable grades then is not judged: nan, with the reason.
    Replies are greedy. The last object of a reply that can be read counts.

    Costs: a reply of the model of at most `max_tokens` tokens a candidate, `tries` of them at most.
    """

    model: Model
    criteria: Sequence[Criterion] = CRITERIA
    tries: int = 2
    max_tokens: int = 512
    prompt: str = RUBRIC_PROMPT

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        names = [criterion.name for criterion in self.criteria]
        if not names or len(set(names)) < len(names):
            raise BadInput(f"Rubric: criteria named {names}; give at least one, each with a name of its own")
        if self.tries < 1 or "{schema}" not in self.prompt:
            raise BadInput(f"Rubric: tries={self.tries}, which is 1 or more; and the prompt needs {{schema}} in it")

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a reply."""
        grades = {
            c.name: {"type": "number", "minimum": c.worst, "maximum": c.best, "description": c.asks}
            for c in self.criteria
        }
        return {"type": "object", "properties": grades, "required": list(grades)}

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        asked = Message("user", filled(self.prompt, schema=json.dumps(self.schema, ensure_ascii=False)))
        contexts = [Context((*c.problem.messages, turn(c), asked)) for c in candidates]
        totals = await understood(
            self.model, contexts, run, lambda i, text: self._total(text), tries=self.tries, max_tokens=self.max_tokens
        )
        return [not_judged(total) if isinstance(total, Unreadable) else Score(total) for total in totals]

    def _total(self, text: str) -> float:
        return last_readable(text, self._weighted, f"the grades {', '.join(c.name for c in self.criteria)}")

    def _weighted(self, grades: dict[str, Any]) -> float:
        for c in self.criteria:
            if c.name not in grades:
                raise Unreadable(f"no grade for {c.name}")
        shares = [
            (number_in(grades[c.name], c.worst, c.best, c.name) - c.worst) / (c.best - c.worst) for c in self.criteria
        ]
        total = math.fsum(c.weight * share for c, share in zip(self.criteria, shares, strict=True))
        return total / math.fsum(c.weight for c in self.criteria)
