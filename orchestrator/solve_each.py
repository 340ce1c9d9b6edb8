"""Many problems, one strategy that sees them all, one budget: a result each."""

from __future__ import annotations

import hashlib
import operator
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reasonweave.orchestrator._sync import wait
from reasonweave.orchestrator.budget import Budget, Ledger
from reasonweave.orchestrator.drive import drive
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Aggregator, Strategy
from reasonweave.orchestrator.run import Run, Session
from reasonweave.orchestrator.solve import Result, answer_of, check_call
from reasonweave.orchestrator.trace import Event, Tally, Tracer, both
from reasonweave.orchestrator.types import Candidates, Problem, Usage

PROBLEM = "problem"
"""The part of a path after which comes the name of the problem that everything below it is for."""


def names_of(problems: Sequence[Problem]) -> list[str]:
    """A name for each problem that does not depend on the others: its id, else a hash of its prompt.

    Raises `BadInput` where two have the same.
    """
    names = [p.id or hashlib.sha256(p.prompt.encode()).hexdigest()[:12] for p in problems]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise BadInput(f"two problems are called {twice!r}: give each an id of its own")
    return names


@dataclass(frozen=True, slots=True)
class Batch:
    """The results of a batch, in the order of the problems, and what it cost as a whole.

    `usage` (by model name), `cut` and `saved` are of everything; `usage` of a result is of the calls below its problem's path.
    `seconds` is wall time, of the whole here and in the results. `stopped` says which limit ended the batch early.
    """

    results: tuple[Result, ...]
    usage: Mapping[str, Usage]
    seconds: float
    stopped: str | None = None
    cut: Usage = field(default_factory=Usage)
    saved: Usage = field(default_factory=Usage)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Result:
        return self.results[index]

    @property
    def total(self) -> Usage:
        """Usage of all models together."""
        return Usage.total(list(self.usage.values()))

    @property
    def tokens(self) -> int:
        return self.total.tokens


@dataclass(slots=True)
class _Shares:
    """A tracer that books each call to the problem that it is below."""

    names: Sequence[str]
    tallies: dict[str, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tallies = {name: Tally() for name in self.names}

    def __call__(self, event: Event) -> None:
        if PROBLEM in event.path[:-1]:
            name = str(event.path[event.path.index(PROBLEM) + 1])
            if (own := self.tallies.get(name)) is not None:
                own(event)


async def asolve_each(
    problems: Sequence[Problem | str],
    strategy: Strategy,
    vote: Aggregator,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    trace: Tracer | None = None,
    within: Ledger | None = None,
) -> Batch:
    """Solve many problems with one strategy and one budget for all of them; `vote` concludes for each by itself.

    The strategy is given all problems as its roots, as `Allocation` wants them. Raises `BadInput` for two problems of the same
    name (`names_of`), and whatever a part of the strategy raises. The other arguments are those of `asolve`.
    """
    asked = [Problem(p) if isinstance(p, str) else p for p in problems]
    names = names_of(asked)
    check_call(strategy, budget)
    whole, shares, began = Tally(), _Shares(names), time.monotonic()
    ledger, tracer = Ledger(budget, within), both(whole, shares, trace)
    run = Run(operator.index(seed), ledger=ledger, tracer=tracer, session=Session())
    try:
        found = await drive(strategy, Candidates.of(*asked), run)
    finally:
        run.session.close()
    seconds, groups = time.monotonic() - began, found.by_problem()
    results = []
    for problem, name in zip(asked, names, strict=True):
        own, tally = groups.get(problem, Candidates.of(problem)), shares.tallies[name]
        ended = replace(vote(replace(own, seed=run.child(PROBLEM, name).seed("ties"))), stopped=found.stopped)
        results.append(
            Result(
                problem=problem,
                answer=answer_of(ended),
                confidence=ended.confidence,
                candidates=ended,
                usage=dict(sorted(tally.usage.items())),
                seconds=seconds,
                seed=seed,
                stopped=ended.stopped,
                errors=tuple(tally.errors),
            )
        )
    usage = dict(sorted(whole.usage.items()))
    return Batch(tuple(results), usage, seconds, found.stopped, run.ledger.cut, run.ledger.saved)


def solve_each(
    problems: Sequence[Problem | str],
    strategy: Strategy,
    vote: Aggregator,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    trace: Tracer | None = None,
) -> Batch:
    """`asolve_each` for scripts, threads and notebooks, also inside a running event loop."""
    return wait(asolve_each(problems, strategy, vote, budget=budget, seed=seed, trace=trace))
