"""A pipeline of prompts, each of which reads the replies before it: the preparation behind most prompt-level methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Problem, Sampling
from reasonweave.strategies.prompting.asking import asked, needs, said
from reasonweave.strategies.prompting.wording import Words


@dataclass(frozen=True, slots=True)
class Stage:
    """One prompt of a pipeline. Later prompts read its reply as {name}."""

    name: str
    prompt: str


@dataclass(frozen=True)
class Stages:
    """Prompts one after another, with {problem} and the replies of earlier stages, by name, in them; `final` is the question
    that they lead up to.

    Each copy of a problem has replies of its own; one call a stage for all. A copy that gets no reply in one of them is asked
    nothing more, and its problem is put as it is.
    """

    model: Model
    stages: tuple[Stage, ...]
    final: str
    temperature: float = 0.8
    max_tokens: int = 512

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len({*names, "problem"}) <= len(names) or not all(name.isidentifier() for name in names):
            raise BadInput(f"Stages: the names {names} must differ, be words, and not be 'problem'")
        for at, prompt in enumerate((*(stage.prompt for stage in self.stages), self.final)):
            if late := [name for name in names[at:] if f"{{{name}}}" in prompt]:
                raise BadInput(
                    f"Stages: the prompt {prompt!r} reads {{{late[0]}}}, which no stage before it has written"
                )
        needs(self, "final question", self.final, "problem")

    async def prepare(self, problems: Sequence[Problem], run: Run) -> list[Words]:
        """One call a stage."""
        known = [{"problem": problem.prompt} for problem in problems]
        why: dict[int, str] = {}
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        for stage in self.stages:
            prompts = [None if i in why else filled(stage.prompt, **parts) for i, parts in enumerate(known)]
            for i, reply in enumerate(await asked(self.model, prompts, run.child(stage.name), sampling)):
                known[i][stage.name] = said(reply)
                if not known[i][stage.name]:
                    why.setdefault(i, f"no reply to {stage.name!r}")
        return [Words(None, why[i]) if i in why else Words(filled(self.final, **p)) for i, p in enumerate(known)]
