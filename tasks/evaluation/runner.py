"""Run a workflow over a task: problems in flight up to a limit, a record each, nothing lost when one fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.errors import UserError, described, show
from reasonweave.orchestrator.happened import Course
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.solve import Result, asolve
from reasonweave.orchestrator.trace import Event, Generated, Rated, both
from reasonweave.orchestrator.types import Candidate, Candidates, Problem, Usage
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.records import CallRecord, Log, Record, SampleRecord, Written, nodes_of

FINISH = "finish"
"""The part of a path under which a graph runs its finish."""


@dataclass(slots=True)
class Calls:
    """A tracer that keeps one line a call, how many solutions were begun and what the bare problem takes, and what a forced
    finish went on from."""

    problem: Problem
    made: list[CallRecord] = field(default_factory=list)
    prompts: dict[str, int] = field(default_factory=dict)
    drawn: int = 0
    forced: str = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Generated | Rated):
            self.made.append(CallRecord(path=show(event.path), model=event.model, role=event.role, usage=event.usage))
        if isinstance(event, Generated):
            self._look(event)

    def _look(self, event: Generated) -> None:
        if FINISH in event.path:
            self.forced = event.contexts[0].prefix
            return
        for context, written in zip(event.contexts, event.completions, strict=True):
            if context.prefix or context.messages != self.problem.messages:
                continue
            self.drawn += written.finish_reason != "cancelled" or bool(written.text)
            if written.finish_reason in ("eos", "stop", "length") and (prompt := (written.usage - written.lost).prompt):
                self.prompts.setdefault(event.model, prompt)


def problem_seed(seed: int, identity: str) -> int:
    """The root seed of one problem: it depends on the run's seed and the problem, not on its place in the file."""
    return Run(seed, ("problem", identity)).seed()


async def evaluate(
    strategy: Strategy,
    examples: Sequence[Example],
    *,
    budget: Budget | None,
    seed: int,
    connections: int,
    log: Log,
    done: Callable[[Record], None],
) -> list[Record]:
    """Solve every example, at most `connections` at a time; records come back in the examples' order.

    A model failure is a record with an error; a user's mistake (`UserError`) ends the run.
    """
    gate = asyncio.Semaphore(connections)
    records: dict[int, Record] = {}

    async def one(index: int, example: Example) -> None:
        async with gate:
            calls, course, began = Calls(example.problem), Course(), time.monotonic()
            own = problem_seed(seed, example.problem.id)
            try:
                result = await asolve(example.problem, strategy, budget=budget, seed=own, trace=both(calls, course))
            except UserError:
                raise
            except Exception as error:
                result = _failed(example, own, error)
            record = _record(index, example, result, calls, course, time.monotonic() - began)
            records[index] = record
            log.add(record)
            done(record)

    async with asyncio.TaskGroup() as group:
        for index, example in enumerate(examples):
            group.create_task(one(index, example))
    return [records[i] for i in sorted(records)]


def _failed(example: Example, seed: int, error: Exception) -> Result:
    return Result(example.problem, None, None, Candidates(), {}, 0.0, seed, errors=(described(error),))


def _authors(solution: Candidate | None) -> dict[str, Written]:
    found: dict[str, Written] = {}
    for step in solution.steps if solution else ():
        part = found.setdefault(step.author, Written())
        part.steps += not step.open
        part.tokens += step.tokens
    return found


def _samples(result: Result, forced: str) -> list[SampleRecord]:
    """The final candidates; the last one is a forced answer where it goes on from what the finish was given."""
    *others, last = result.candidates.items or (None,)
    if last is None:
        return []
    given = len(forced) if forced and last.text.startswith(forced) else 0
    return [*map(SampleRecord.of, others), SampleRecord.of(last, given)]


def _record(index: int, example: Example, result: Result, calls: Calls, course: Course, seconds: float) -> Record:
    nodes, times = nodes_of(course)
    usage: dict[str, Usage] = {}
    for call in sorted(calls.made, key=lambda c: c.model):
        usage[call.model] = usage.get(call.model, Usage()) + call.usage
    return Record(
        index=index,
        id=example.problem.id,
        group=example.group,
        input=example.problem.prompt,
        target=example.target,
        answer=result.answer,
        correct=example.correct(result.answer),
        confidence=result.confidence,
        abstained=result.answer is None and result.candidates.abstains,
        cut=result.cut if result.saved.tokens else None,
        saved=result.saved if result.saved.tokens else None,
        solution=result.text,
        authors=_authors(result.solution),
        seed=result.seed,
        model_usage=usage,
        calls=calls.made,
        limit=result.stopped,
        error=result.errors[0] if result.errors else None,
        prompt_tokens=dict(sorted(calls.prompts.items())),
        drawn=calls.drawn,
        samples=_samples(result, calls.forced),
        nodes=nodes,
        times={"total_time": round(seconds, 4), **times},
    )
