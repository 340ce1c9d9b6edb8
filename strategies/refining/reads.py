"""What each new answer of a round reads: some of the earlier answers, drawn, ranked or all, or what a model made of them.

A part of `Rounds`. Answers that failed are never read, and those without an answer only where none has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeAlias

from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, Problem, shown
from reasonweave.strategies.aggregators.judging import entrants, presented
from reasonweave.strategies.refining._rounds_fitting import write
from reasonweave.strategies.refining.writing import Reading, Writer
from reasonweave.strategies.searches.live import ranked


@dataclass(frozen=True, slots=True)
class Past:
    """The rounds so far: after each one the answers that stood, each in its place, the oldest round first."""

    problem: Problem
    sets: tuple[tuple[Candidate, ...], ...] = ()

    @property
    def standing(self) -> tuple[Candidate, ...]:
        """The answers that stand now; none before the first round."""
        return self.sets[-1] if self.sets else ()


Pool: TypeAlias = Callable[[Past], list[Candidate]]
"""Which earlier answers may be read."""


def latest(past: Past) -> list[Candidate]:
    """The answers that stand after the previous round, in their order."""
    return _able(past.standing)


def so_far(past: Past) -> list[Candidate]:
    """The answers of all rounds, each once, those of the newest round first."""
    return _able([c for standing in reversed(past.sets) for c in standing])


def _able(some: Sequence[Candidate]) -> list[Candidate]:
    """Those that can be read, each once: one that stands in for several is still one."""
    return list({id(c): c for c in entrants(Candidates(tuple(some)))}.values())


class Reads(Protocol):
    """Decides what each of `breadth` new answers is written from. Asked only where there is something to read.

    Draws come from `run`, so they do not depend on scheduling. A part that compares scores says so with `by_score = True`.
    """

    async def read(self, past: Past, breadth: int, run: Run) -> list[Reading]: ...


@dataclass(frozen=True)
class RandomK:
    """Each new answer reads `k` of the `pool`, drawn without replacement and in random order, anew for each (RSA, Venkatraman et
    al., 2025, arXiv 2509.26626); all of it where there are no more."""

    k: int = 4
    pool: Pool = latest
    __repr__ = shown

    def __post_init__(self) -> None:
        _check_k(self, self.k)

    async def read(self, past: Past, breadth: int, run: Run) -> list[Reading]:
        return _drawn(past.problem, self.pool(past), self.k, breadth, run)


@dataclass(frozen=True)
class Everything:
    """Each new answer reads all of the `pool`, in an order of its own (PaCoRe, 2026, arXiv 2601.05593)."""

    pool: Pool = latest
    __repr__ = shown

    async def read(self, past: Past, breadth: int, run: Run) -> list[Reading]:
        some = self.pool(past)
        return _drawn(past.problem, some, len(some), breadth, run)


@dataclass(frozen=True)
class TopK:
    """All new answers read the same `k` of the `pool`, those with the highest scores, the best one first; of equal texts one.

    Needs a verifier; a tie goes to what comes first in the pool. Answers that could not be scored come last.
    """

    by_score: ClassVar[bool] = True

    k: int = 4
    pool: Pool = latest
    __repr__ = shown

    def __post_init__(self) -> None:
        _check_k(self, self.k)

    async def read(self, past: Past, breadth: int, run: Run) -> list[Reading]:
        top = ranked(self.pool(past), distinct=True)[: self.k]
        return [Reading(past.problem, tuple(top))] * breadth


@dataclass(frozen=True)
class Others:
    """The i-th new answer reads the i-th that stands, its own, and after it all the others (multi-agent debate, Du et al., 2023,
    arXiv 2305.14325).

    In rounds of one breadth an agent is a place; where there are more new answers than places, they are taken in turn. An agent
    whose place has no answer reads nothing, and gives its first one.
    """

    async def read(self, past: Past, breadth: int, run: Run) -> list[Reading]:
        able, readings = latest(past), list[Reading]()
        for i in range(breadth):
            own = past.standing[i % len(past.standing)]
            others = tuple(c for c in able if c is not own)
            readings.append(Reading(past.problem, (own, *others) if any(c is own for c in able) else ()))
        return readings


NOTES = "Notes on earlier attempts:\n{}"
"""How a summary is put before a reader."""
CRITIQUE = "What a critic says of them:\n{}"
"""How a critique is put before a reader."""


@dataclass(frozen=True)
class Summarized:
    """All new answers read one summary of the `pool`, which `by` writes first, in one call of its own: a bounded workspace (PDR,
    Madaan et al., 2025, arXiv 2510.01123).

    It comes as a remark, without sources. Where no summary can be had, they read what `otherwise` says.
    """

    by: Writer
    otherwise: Reads
    pool: Pool = latest
    __repr__ = shown

    @property
    def by_score(self) -> bool:
        """Does what is read instead depend on scores?"""
        return by_score(self.otherwise)

    async def read(self, past: Past, breadth: int, run: Run) -> list[Reading]:
        told = await _said(self.by, Reading(past.problem, tuple(self.pool(past))), run)
        if told is None:
            return await self.otherwise.read(past, breadth, run.child("otherwise"))
        return [Reading(past.problem, (), (NOTES.format(told),))] * breadth


@dataclass(frozen=True)
class Critiqued:
    """All new answers read all of the `pool`, in one order that the seed draws, and one critique of it that `by` writes first, in
    one call of its own (as in optillm's mixture of agents).

    Critic and readers see the same numbers. Where no critique can be had, they read the answers alone.
    """

    by: Writer
    pool: Pool = latest
    __repr__ = shown

    async def read(self, past: Past, breadth: int, run: Run) -> list[Reading]:
        some = self.pool(past)
        (reading,) = _drawn(past.problem, some, len(some), 1, run)
        told = await _said(self.by, reading, run)
        return [reading if told is None else replace(reading, remarks=(CRITIQUE.format(told),))] * breadth


def by_score(reads: Reads) -> bool:
    """Does it need scores?"""
    return bool(getattr(reads, "by_score", False))


def _drawn(problem: Problem, some: Sequence[Candidate], k: int, breadth: int, run: Run) -> list[Reading]:
    readings = list[Reading]()
    for i in range(breadth):
        drawn = run.child(i).rng().choice(len(some), size=min(k, len(some)), replace=False)
        readings.append(Reading(problem, tuple(some[int(at)] for at in drawn)))
    return readings


async def _said(by: Writer, reading: Reading, run: Run) -> str | None:
    """What a model says of these answers, after its thinking; None where nothing could be had."""
    written = await afforded(write([(by, reading)], run.child("said")), run)
    return None if not written or written[0].failed else presented(written[0]) or None


def _check_k(part: object, k: int) -> None:
    if k < 1:
        raise BadInput(f"{type(part).__name__}(k={k}): 1 or more")
