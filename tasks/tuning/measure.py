"""Run a workflow over problems for its outcomes alone: nothing else of a run is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.errors import UserError, described
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.models.remembered import Memory, RememberedModel, RememberedReward
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.solve import asolve
from reasonweave.orchestrator.types import Usage
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.runner import problem_seed
from reasonweave.tasks.opening import Chosen, Models
from reasonweave.tasks.tuning.fingerprint import fingerprint
from reasonweave.tasks.tuning.outcomes import Figures, Outcome, Outcomes

if TYPE_CHECKING:
    from reasonweave.orchestrator.models.roles import RoleSpec  # heavy: it brings the HTTP client


class RememberingModels(Models):
    """The models of a command, each behind a memory of what it said; without one, as they are."""

    def __init__(
        self,
        specs: Mapping[str, str],
        served: Mapping[str, RoleSpec] | None = None,
        verifiers: Mapping[str, Chosen] | None = None,
    ) -> None:
        super().__init__(specs, served, verifiers)
        self.memory: Memory | None = None
        self._doors: dict[str, RememberedModel | RememberedReward] = {}

    def _opened(self, role: str) -> Model | RewardModel:
        inner = super()._opened(role)
        if self.memory is None:
            return inner
        if role not in self._doors:
            kept, spec = self.memory, self.specs[role]
            self._doors[role] = (
                RememberedModel(inner, kept, spec) if isinstance(inner, Model) else RememberedReward(inner, kept, spec)
            )
        return self._doors[role]

    @property
    def fresh(self) -> int:
        """Samples and ratings that had to be made."""
        return sum(door.fresh for door in self._doors.values())

    @property
    def dealt(self) -> int:
        """Samples and ratings that were known."""
        return sum(door.dealt for door in self._doors.values())


@dataclass(frozen=True)
class Subject:
    """A workflow that is ready to be measured. `key` says which it is, whatever made it."""

    strategy: Strategy
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", fingerprint(self.strategy))


@dataclass(frozen=True)
class Bench:
    """Where workflows are measured: each on a problem once, at most `connections` problems at a time."""

    outcomes: Outcomes
    cost: str
    budget: Budget
    seed: int
    connections: int
    tick: Callable[[], None] = lambda: None

    async def measure(self, subject: Subject, examples: Sequence[Example]) -> list[Outcome]:
        """The outcomes of these problems, in their order; those that are known are not measured again.

        A model failure is an outcome with an error; a user's mistake (`UserError`) ends it.
        """
        gate = asyncio.Semaphore(self.connections)

        async def one(example: Example) -> None:
            async with gate:
                self.outcomes.add(subject.key, example, await self._outcome(subject.strategy, example))
                self.tick()

        async with asyncio.TaskGroup() as group:
            for example in examples:
                if self.outcomes.get(subject.key, example) is None:
                    group.create_task(one(example))
                else:
                    self.tick()
        found = self.outcomes.of(subject.key, examples)
        assert found is not None
        return found

    async def _outcome(self, strategy: Strategy, example: Example) -> Outcome:
        began, seed = time.monotonic(), problem_seed(self.seed, example.problem.id)
        try:
            result = await asolve(example.problem, strategy, budget=self.budget, seed=seed)
        except UserError:
            raise
        except Exception as error:
            seconds = time.monotonic() - began
            return Outcome.of(
                right=False, answered=False, usage=Usage(), seconds=seconds, limited=False, error=described(error)
            )
        return Outcome.of(
            right=example.correct(result.answer),
            answered=result.answer is not None,
            usage=result.total,
            seconds=time.monotonic() - began,
            limited=result.stopped is not None,
            error=result.errors[0] if result.errors else None,
        )

    def figures(self, subject: Subject, examples: Sequence[Example]) -> Figures | None:
        """What is known of a workflow on these problems; None where it was not measured on all of them."""
        found = self.outcomes.of(subject.key, examples)
        return Figures.of(found, self.cost) if found is not None else None
