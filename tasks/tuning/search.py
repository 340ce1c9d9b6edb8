"""The search itself: options from the journal, measured on few problems, then on more, until the trials or the time are spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reasonweave.orchestrator.errors import BadInput, ReasonweaveError, UserError, first_of
from reasonweave.tasks.base import Example
from reasonweave.tasks.tuning.front import Trial, pareto
from reasonweave.tasks.tuning.halving import beaten, rungs
from reasonweave.tasks.tuning.measure import Bench, Subject
from reasonweave.tasks.tuning.outcomes import COSTS, Figures
from reasonweave.tasks.tuning.study import Journal, Tried

PATIENCE = 50
"""Trials in a row that bring no new workflow, after which there seem to be no more."""


class Teller(Protocol):
    """What is told of a search while it runs."""

    def begin(self, label: str, total: int) -> None:
        """Something is measured on so many problems from here on."""

    def ended(self, trial: Tried, figures: Figures | None, why: str, total: int) -> None:
        """A trial is over, of `total` so far."""


@dataclass(frozen=True)
class Measured:
    """A trial that was measured on the first `reached` problems; `why` says what ended it before the last."""

    tried: Tried
    subject: Subject
    reached: int
    why: str = ""


@dataclass
class Search:
    """All trials of a study, and how they go on.

    `make` gives the workflow of some options; `wanted` is how many trials there are to be in all. A trial whose workflow another
    one has been already gets that one's values and does not count, and neither does one that does the same as another on all
    problems of a rung; one that cannot be made counts, so that the search ends.
    """

    journal: Journal
    bench: Bench
    problems: Sequence[Example]
    make: Callable[[Mapping[str, Any]], Subject]
    wanted: int
    teller: Teller
    measured: list[Measured] = field(default_factory=list)
    failed: list[tuple[Tried, str]] = field(default_factory=list)
    repeated: int = 0
    """Trials that were the same as another one."""
    exhausted: bool = False
    """Did it end because it found nothing new any more?"""

    @property
    def count(self) -> int:
        return len(self.measured) + len(self.failed)

    async def run(self) -> None:
        """Go on until there are as many trials as wanted. Raises `UserError` where the defaults cannot be measured, and
        `ReasonweaveError` where most problems fail."""
        if not self.measured and not self.failed:
            await self._recall()
        idle = 0
        while self.count < self.wanted and idle < PATIENCE:
            before = self.count
            await self._try(self.journal.next())
            idle = idle + 1 if self.count == before else 0
        self.exhausted = idle >= PATIENCE

    async def _recall(self) -> None:
        """The trials of an earlier process, as far as they had come."""
        for tried in self.journal.tried():
            try:
                subject = self.make(tried.options)
            except UserError as error:
                self.failed.append((tried, str(error)))
                continue
            if tried.failed:
                self.failed.append((tried, ""))
                continue
            reached = self._reached(subject)
            if self._same(subject) is None and reached:
                await self._measure(tried, subject, reached)
            if self._same(subject) or (reached < len(self.problems) and self._twin(subject, reached)):
                self.repeated += 1
            else:
                self.measured.append(Measured(tried, subject, reached))

    def _reached(self, subject: Subject) -> int:
        """The problems of the highest rung on which most outcomes are known: those that failed are not."""
        reached = 0
        for size in rungs(len(self.problems)):
            part = self.problems[reached:size]
            known = sum(self.bench.outcomes.get(subject.key, example) is not None for example in part)
            if 2 * known < len(part):
                break
            reached = size
        return reached

    def _same(self, subject: Subject) -> Measured | None:
        return next((m for m in self.measured if m.subject.key == subject.key), None)

    async def _try(self, tried: Tried) -> None:
        try:
            subject = self.make(tried.options)
            found = self._same(subject) or await self._climbed(tried, subject)
        except (UserError, BaseExceptionGroup) as raised:
            error = first_of(raised)
            if not isinstance(error, UserError) or not self.count:
                raise error from None
            self.journal.fail(tried)
            self.failed.append((tried, str(error)))
            self.teller.ended(tried, None, str(error), self.count)
            return
        self.journal.tell(tried, self.figures(found))
        if found.tried is not tried:
            self.repeated += 1
            return
        self.measured.append(found)
        self.teller.ended(tried, self.figures(found), found.why, self.count)

    async def _climbed(self, tried: Tried, subject: Subject) -> Measured:
        """Rung by rung, until another one is clearly better; another one itself, where it is the same."""
        sizes = rungs(len(self.problems))
        for size in sizes:
            figures = await self._measure(tried, subject, size)
            if not figures.cost and not self.measured:
                if figures.limited == figures.n and self.bench.budget:
                    raise BadInput(
                        f"the budget {self.bench.budget!r} buys no call: no problem was even begun; raise it"
                    )
                others = " or ".join(cost for cost in COSTS if cost != self.bench.cost)
                told = f"every problem costs 0 {self.bench.cost}: no model here says what it costs"
                raise BadInput(f"{told}; take --cost {others}")
            if size < sizes[-1]:
                if (twin := self._twin(subject, size)) is not None:
                    return twin
                if (rival := self._rival(subject, size)) is not None:
                    return Measured(tried, subject, size, f"beaten by {rival.tried.name}")
        return Measured(tried, subject, sizes[-1])

    async def _measure(self, tried: Tried, subject: Subject, size: int) -> Figures:
        self.teller.begin(tried.name, size)
        outcomes = await self.bench.measure(subject, self.problems[:size])
        figures = Figures.of(outcomes, self.bench.cost)
        if 2 * figures.errors > figures.n:
            first = next(outcome.error for outcome in outcomes if outcome.error is not None)
            raise ReasonweaveError(
                f"{tried.name}: {figures.errors} of {figures.n} problems failed, the first with: {first}"
            )
        return figures

    def _twin(self, subject: Subject, size: int) -> Measured | None:
        """Another one that has the same problems right, each at the same cost."""
        own, cost = self.bench.outcomes.of(subject.key, self.problems[:size]), self.bench.cost
        for measured in self.measured:
            other = self.bench.outcomes.of(measured.subject.key, self.problems[:size])
            if own and other and measured.reached >= size:
                pairs = zip(own, other, strict=True)
                if all(a.right == b.right and a.costs[cost] == b.costs[cost] for a, b in pairs):
                    return measured
        return None

    def _rival(self, subject: Subject, size: int) -> Measured | None:
        """Another one on the front of these problems that is clearly better there."""
        own = self.bench.outcomes.of(subject.key, self.problems[:size])
        others = [(m, self.bench.outcomes.of(m.subject.key, self.problems[:size])) for m in self.measured]
        known = [(m, found) for m, found in others if found is not None and m.reached >= size]
        figures = [Figures.of(found, self.bench.cost) for _, found in known]
        best = [known[i] for i in pareto([(f.cost, f.accuracy) for f in figures])]
        cost = self.bench.cost
        return next((m for m, found in reversed(best) if own is not None and beaten(own, found, cost)), None)

    def figures(self, measured: Measured) -> Figures:
        """What a trial scored on the problems that it got to."""
        found = self.bench.outcomes.of(measured.subject.key, self.problems[: measured.reached])
        return Figures.of(found or [], self.bench.cost)

    @property
    def level(self) -> int:
        """The problems that the front is measured on: all, or as many as any trial got to."""
        return max((m.reached for m in self.measured), default=0)

    @property
    def front(self) -> list[Measured]:
        """The trials that are on the front, by cost."""
        there = [m for m in self.measured if self.level and m.reached == self.level]
        figures = [self.figures(m) for m in there]
        return [there[i] for i in pareto([(f.cost, f.accuracy) for f in figures])]

    @property
    def trials(self) -> list[Trial]:
        return [Trial(m.tried.name, m.tried.options, self.figures(m)) for m in self.measured if m.reached]
