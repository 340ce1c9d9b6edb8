"""Escalation: another flow where an answer is not sure enough. A part of a chain, as a cascade is a strategy of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.drive import afforded, drive
from reasonweave.orchestrator.errors import BadInput, Path
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.shares import Share
from reasonweave.orchestrator.trace import Skipped
from reasonweave.orchestrator.types import Candidates, shown
from reasonweave.strategies.routers.cascade import UNTOLD, Agreement, Arrows, Confidence, answering, told_with


def as_it_is(candidates: Candidates) -> Candidates:
    """The set itself: for flows that read earlier answers (a fusion, a refinement)."""
    return candidates


AGREEMENT = Agreement()


@dataclass(frozen=True)
class Escalate:
    """Where what came so far is not sure enough, `strategy` answers anew; see `escalate`."""

    strategy: Strategy
    below: float = 0.6
    by: Confidence = AGREEMENT
    given: Callable[[Candidates], Candidates] = Candidates.fresh
    budget: Budget | Share | None = None
    __repr__ = shown

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, Strategy) or isinstance(self.strategy, type):
            raise BadInput(f"escalate({self.strategy!r:.80}): a strategy is needed, as chain(BestOfN(…), majority)")

    @property
    def inside(self) -> dict[Path, object]:
        """The flow and what tells how sure the set is, by where they run."""
        return {("escalated",): self.strategy, ("confidence",): self.by}

    @property
    def arrows(self) -> Arrows:
        """When the flow runs."""
        return {(("confidence",), ("escalated",)): f"below {self.below:g}"}

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        yield roots
        answered = bool(answering(roots))
        if not roots.abstains and answered:
            score = await afforded(self.by.read(roots, run.child("confidence")), run) or UNTOLD
            yield told_with(roots, score)
            if score.value >= self.below:
                run.emit(Skipped((*run.path, "escalated"), f"its confidence is not below {self.below:g}"))
                return
        found = await drive(self.strategy, self.given(roots), run.child("escalated", budget=self.budget))
        if found.abstains or answering(found):
            yield found
        elif not answered and not roots.abstains and any(c.steps for c in found):
            yield Candidates(tuple(c for c in (*roots, *found) if c.steps))  # a finish may go on from either


def escalate(
    strategy: Strategy,
    below: float = 0.6,
    by: Confidence | None = None,
    *,
    given: Callable[[Candidates], Candidates] = Candidates.fresh,
    budget: Budget | Share | None = None,
) -> Escalate:
    """A part of a chain that lets an answer stand where its confidence is `below` (0..1) or more, and else asks `strategy`.

    `by` tells the confidence: None takes the set's own (of a majority vote, its share of the votes); `Verified(verifier)`,
    `SelfVerify(model)` and the others of `Cascade` cost what they cost. No answer, an abstention and a confidence that cannot be
    told are not sure. The strategy starts from the bare problem; ``given=as_it_is`` hands it what is there (for a fusion).
    Where it gives no answer, as with a budget spent, the one that was there stands.

        chain(BestOfN(whole(small), n=8), majority, escalate(chain(BestOfN(whole(large), n=4), majority), below=0.6))
    """
    return Escalate(strategy, below, by or AGREEMENT, given, budget)
