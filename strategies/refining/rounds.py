"""The breadth-schedule loop: rounds of new answers, each of which is written after reading some of the earlier ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute
from reasonweave.orchestrator.types import Candidate, Candidates, Problem, shown
from reasonweave.strategies.aggregators.judging import entrants, unjudged
from reasonweave.strategies.refining._rounds_fitting import door, write
from reasonweave.strategies.refining.reads import Past, Reads, by_score, latest
from reasonweave.strategies.refining.writing import Reading, Writer
from reasonweave.strategies.searches.best_of_n import MOST
from reasonweave.strategies.searches.live import begin, score

Allocation: TypeAlias = Callable[[int, int], Sequence[int]]
"""From how many answers a round makes, and how many writers there are, to the writer, by its index, of each answer."""

Show: TypeAlias = Callable[[Past], Sequence[Candidate]]
"""Which answers of the rounds so far the loop yields, at least one."""


def newest(past: Past) -> Sequence[Candidate]:
    """Those that stand after the newest round."""
    return past.standing


def all_rounds(past: Past) -> Sequence[Candidate]:
    """Those of all rounds, each once, the oldest first."""
    return list({id(c): c for standing in past.sets for c in standing}.values())


def in_turn(breadth: int, writers: int) -> list[int]:
    """Round-robin: the writers one after another, again and again.

    >>> in_turn(5, 2)
    [0, 1, 0, 1, 0]
    """
    return [i % writers for i in range(breadth)]


def equally(breadth: int, writers: int) -> list[int]:
    """The same share for each writer, one after another; the first ones write what cannot be shared out.

    >>> equally(5, 2)
    [0, 0, 0, 1, 1]
    """
    return _blocks([breadth // writers + (w < breadth % writers) for w in range(writers)])


def first_only(breadth: int, writers: int) -> list[int]:
    """The first writer writes everything; the others are idle."""
    return [0] * breadth


@dataclass(frozen=True)
class Weighted:
    """Shares in proportion to these weights, 0 or more, as near as whole answers come: what is left over goes by the largest
    remainder, a tie to the earlier writer.

    >>> Weighted((3, 1))(8, 2), Weighted((1, 1, 1))(4, 3), Weighted((0.6, 0.4))(1, 2)
    ([0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 2], [0])
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.weights or not all(0 <= w < float("inf") for w in self.weights) or not sum(self.weights) > 0:
            raise BadInput(f"Weighted({self.weights}): a finite weight of 0 or more for each writer, and not all 0")

    def __call__(self, breadth: int, writers: int) -> list[int]:
        if len(self.weights) != writers:
            raise BadInput(f"Weighted({self.weights}): there are {writers} writers; give as many weights")
        exact = [breadth * w / sum(self.weights) for w in self.weights]
        counts = [int(share) for share in exact]
        order = sorted(range(writers), key=lambda w: counts[w] - exact[w])
        for w in order[: breadth - sum(counts)]:
            counts[w] += 1
        return _blocks(counts)


def _blocks(counts: Sequence[int]) -> list[int]:
    return [w for w, count in enumerate(counts) for _ in range(count)]


@dataclass(frozen=True)
class Rounds:
    """Round r makes `schedule[r]` new answers, each written after reading some of the earlier ones; the last round may make one.

    `reads` decides what each new answer reads, `allocation` which of the `writers` writes it; the last round is all written by
    `closing`, where there is one. The first round reads nothing and writes first answers, unless the roots have steps, as after a
    search: then it reads these. With a `verifier` these and each new answer are scored, once.

    The set it yields after each round is that of the round, in its places; with `show=all_rounds`, those of all rounds together.
    An answer never gives way to none: where a new answer failed, or gives no answer, the one that was in its place stands; in a
    round of another breadth, the one with the highest score among what it was to read, or without scores one that gives the
    usual answer. A round that gave no answer at all leaves the set as it was. With a verifier it also yields the new answers
    beside the old ones before they are scored.

    A round is one call of each model and sampling (of each writer, where it is no `Prompted`), all at the same time; prompts show
    what fits the model's context. A call that a limit stops loses its own answers; where all are stopped, only `closing` is still
    asked. Candidates of one problem only. The published methods are presets: `reasonweave.strategies.presets.rounds`.
    """

    writers: Sequence[Writer]
    schedule: Sequence[int]
    reads: Reads
    allocation: Allocation = in_turn
    closing: Writer | None = None
    verifier: Verifier | None = None
    show: Show = newest
    __repr__ = shown

    def __post_init__(self) -> None:
        if not self.writers:
            raise BadInput("Rounds: no writer; give one or more, as (Prompted(model, prompt),)")
        if not self.schedule or min(self.schedule) < 1 or max(self.schedule) > MOST:
            raise BadInput(
                f"Rounds(schedule={self.schedule!r:.80}): one round or more, each of 1 answer or more, {MOST:,} at most"
            )
        for breadth in self.schedule:
            self._writers_of(breadth, closing=False)
        if by_score(self.reads):
            if self.verifier is None:
                raise BadInput(f"Rounds: {self.reads!r} reads by score; give a verifier=")
            if getattr(self.reads, "pool", latest) is not latest:
                absolute(self.verifier, "Rounds that read by score from several rounds")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        if not roots.items:
            return
        past = Past(_only_problem(roots))
        if given := tuple(replace(c, log_weight=0.0) for c in roots if c.steps):
            if self.verifier is not None:
                given = (await score(self.verifier, begin(Candidates(given), len(given)), run.child("roots"))).items
                yield Candidates(given)
            past = Past(past.problem, (given,))
        spent = False
        for r, breadth in enumerate(self.schedule):
            here, closes = run.child("round", r), r == len(self.schedule) - 1 and self.closing is not None
            if spent and not closes:
                continue
            readings = await self._readings(past, breadth, here)
            written = await self._written(readings, here, closing=closes)
            if written is None:
                spent = True
                continue
            new = _answers(written, past.standing)
            if not new and past.sets:
                continue
            standing = Candidates(_placed(written, new, past.standing, readings, here))
            if self.verifier is not None:
                yield Candidates((*self.show(past), *new)) if past.sets else standing
                standing = await score(self.verifier, standing, here)
            past = Past(past.problem, (*past.sets, standing.items))
            yield Candidates(tuple(self.show(past)))

    async def _readings(self, past: Past, breadth: int, run: Run) -> list[Reading]:
        if not latest(past):
            return [Reading(past.problem)] * breadth
        return await self.reads.read(past, breadth, run.child("reads"))

    async def _written(self, readings: Sequence[Reading], run: Run, *, closing: bool) -> list[Candidate] | None:
        """A new answer for each reading, empty where a limit stood in the way of its call; None where of all of them."""
        writers = self._writers_of(len(readings), closing=closing)
        calls: dict[object, list[int]] = {}
        for i, writer in enumerate(writers):
            calls.setdefault(door(writer), []).append(i)
        made = await together(
            afforded(write([(writers[i], readings[i]) for i in mine], run.child("call", at)), run)
            for at, mine in enumerate(calls.values())
        )
        new = [Candidate(reading.problem) for reading in readings]
        for mine, some in zip(calls.values(), made, strict=True):
            for i, candidate in zip(mine, some or (), strict=some is not None):
                new[i] = candidate
        return None if all(some is None for some in made) else new

    def _writers_of(self, breadth: int, *, closing: bool) -> list[Writer]:
        """The writer of each answer of a round."""
        if closing and self.closing is not None:
            return [self.closing] * breadth
        who = self.allocation(breadth, len(self.writers))
        if len(who) != breadth or not all(0 <= w < len(self.writers) for w in who):
            name = getattr(self.allocation, "__name__", repr(self.allocation))
            raise BadInput(
                f"Rounds: {name} gave {list(who)} for {breadth} answers by {len(self.writers)} writers; it gives the index of a "
                "writer for each answer"
            )
        return [self.writers[w] for w in who]


def _only_problem(roots: Candidates) -> Problem:
    problems = list(dict.fromkeys(c.problem for c in roots))
    if len(problems) > 1:
        raise BadInput(f"Rounds: candidates of {len(problems)} problems; it reads and writes about one at a time")
    return problems[0]


def _answers(written: Sequence[Candidate], standing: Sequence[Candidate]) -> list[Candidate]:
    """The new ones that can take the place of an old one: those that answer; where nobody ever does, those that say anything."""
    able = {id(c) for c in entrants(Candidates((*written, *standing)))}
    return [c for c in written if id(c) in able]


def _placed(
    written: Sequence[Candidate],
    new: Sequence[Candidate],
    standing: Sequence[Candidate],
    readings: Sequence[Reading],
    run: Run,
) -> tuple[Candidate, ...]:
    """The new set: those of the written that are `new` answers, and what stands in for the others."""
    answers, able = {id(c) for c in new}, entrants(Candidates(tuple(standing)))
    kept = {id(c) for c in able}
    placed = list[Candidate]()
    for i, (candidate, reading) in enumerate(zip(written, readings, strict=True)):
        if id(candidate) not in answers and able:
            own = standing[i] if len(standing) == len(written) else None
            voted = unjudged(reading.sources or able, run.seed("stands", i))
            candidate = own if own is not None and id(own) in kept else voted
        placed.append(candidate)
    return tuple(placed)
