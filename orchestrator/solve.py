"""One problem, one strategy, one budget, one result."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from reasonweave.orchestrator._sync import wait
from reasonweave.orchestrator.budget import Budget, Ledger
from reasonweave.orchestrator.drive import drive
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.graph import check
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.run import Run, Session
from reasonweave.orchestrator.trace import Tally, Tracer, both
from reasonweave.orchestrator.types import Candidate, Candidates, Problem, Usage


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave and what it cost. `usage` is by model name; `seconds` is wall time.

    `answer` is the strategy's conclusion or, where it drew none, the best candidate's; None means no answer, or with
    `candidates.abstains` that it was decided to give none.
    `stopped` says which limit ended it early; `errors` lists requests that failed for good.
    """

    problem: Problem
    answer: str | None
    confidence: float | None
    candidates: Candidates
    usage: Mapping[str, Usage]
    seconds: float
    seed: int
    stopped: str | None = None
    errors: tuple[str, ...] = ()
    cut: Usage = field(default_factory=Usage)
    """The part of the usage that went into calls which were ended early because nobody wanted the rest."""
    saved: Usage = field(default_factory=Usage)
    """What those calls had held and did not use: the most that ending them can have saved."""

    @property
    def total(self) -> Usage:
        """Usage of all models together."""
        return Usage.total(list(self.usage.values()))

    @property
    def tokens(self) -> int:
        return self.total.tokens

    @property
    def solution(self) -> Candidate | None:
        """The candidate behind the answer: the best one that gives it."""
        same = self.problem.answers.same
        behind = [c for c in self.candidates if c.answer and self.answer and same(self.answer, c.answer)]
        return Candidates(tuple(behind) or self.candidates.items).best

    @property
    def text(self) -> str:
        """The text of the solution; empty where there is none."""
        return self.solution.text if self.solution else ""


def check_call(strategy: Strategy, budget: Budget | None) -> None:
    """Raises `BadInput` for a strategy or a budget that is none, and `GraphError` for a graph that cannot run (`graph.check`)."""
    if not isinstance(strategy, Strategy) or isinstance(strategy, type):
        raise BadInput(
            f"{strategy!r} is no strategy: it has no search(); policies and votes go into chain(...) or BestOfN"
        )
    if budget is not None and not isinstance(budget, Budget):
        raise BadInput(f"budget={budget!r}: write Budget(tokens={budget!r}), or another limit")
    check(strategy)


def answer_of(found: Candidates) -> str | None:
    """What was concluded from a set or, where nothing was, what its best candidate says."""
    best = found.best
    return found.answer if found.answer is not None or found.abstains or best is None else best.answer


async def asolve(
    problem: Problem | str,
    strategy: Strategy,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    trace: Tracer | None = None,
    within: Ledger | None = None,
) -> Result:
    """Solve one problem within a budget. The same seed gives the same result on a deterministic backend.

    Raises `BadInput` for a strategy or budget that is none, and whatever a part of the strategy raises.

    `trace` is told every event; `within` is a larger account (a whole evaluation's) that this run also draws on.
    """
    problem = Problem(problem) if isinstance(problem, str) else problem
    check_call(strategy, budget)
    tally, began = Tally(), time.monotonic()
    run = Run(operator.index(seed), ledger=Ledger(budget, within), tracer=both(tally, trace), session=Session())
    try:
        found = await drive(strategy, Candidates.of(problem), run)
    finally:
        run.session.close()
    return Result(
        problem=problem,
        answer=answer_of(found),
        confidence=found.confidence,
        candidates=found,
        usage=dict(sorted(tally.usage.items())),
        seconds=time.monotonic() - began,
        seed=seed,
        stopped=found.stopped,
        errors=tuple(tally.errors),
        cut=run.ledger.cut,
        saved=run.ledger.saved,
    )


def solve(
    problem: Problem | str,
    strategy: Strategy,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    trace: Tracer | None = None,
) -> Result:
    """`asolve` for scripts, threads and notebooks, also inside a running event loop."""
    return wait(asolve(problem, strategy, budget=budget, seed=seed, trace=trace))
