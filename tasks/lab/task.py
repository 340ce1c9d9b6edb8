"""The lab as a task and its checkpoints as models: real language models, small enough for a laptop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reasonweave.orchestrator.errors import BadInput, NotFound
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.models.spec import embedded
from reasonweave.orchestrator.types import Problem
from reasonweave.tasks.base import Example
from reasonweave.tasks.lab.corpus import label
from reasonweave.tasks.lab.problems import parse, problems

CHECKPOINTS = Path(__file__).parent / "checkpoints"
DEFAULT_LIMIT = 500


@dataclass(frozen=True)
class LabTask:
    """Chains of arithmetic from the test split, levels 1 to 5 in equal shares. Without a limit, the first 500."""

    name: str = "lab"

    def examples(self, limit: int | None = None) -> list[Example]:
        chains = problems(DEFAULT_LIMIT if limit is None else limit)
        return [Example(Problem(c.text, c.id), str(c.answer), f"level {c.level}") for c in chains]

    def step_labels(self, example: Example, passages: Sequence[str]) -> list[bool]:
        """Is each paragraph right? True where the running value after it is the true one."""
        return label(parse(example.problem.prompt), passages)


def lab_model(name: str, *, role: str | None = None) -> Model | RewardModel:
    """The provider `lab`: the shipped checkpoints `lab/small`, `lab/large` and `lab/prm`."""
    known = ("small", "large", "prm")
    if name not in known:
        raise NotFound("lab model", name, known)
    folder = CHECKPOINTS / f"lab-{name}"
    if not (folder / "model.safetensors").exists():
        raise BadInput(f"lab/{name}: no checkpoint in {folder}; `reasonweave lab train --out {CHECKPOINTS}` makes it")
    return embedded(str(folder), role=role)
