"""The parts that users write: what each one is asked, and what it promises. Structural; nothing to inherit from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from reasonweave.orchestrator.run import Run
    from reasonweave.orchestrator.types import Candidate, Candidates, Score, Token


@runtime_checkable
class AnswerSpace(Protocol):
    """What counts as an answer, and when two are the same."""

    def extract(self, text: str) -> str | None:
        """The answer that a solution gives, or None where it gives none (it then abstains)."""

    def canonical(self, answer: str) -> Hashable:
        """A key that equal answers share, used to count votes."""

    def same(self, a: str, b: str) -> bool:
        """Are these two answers the same? Used for grading: a is the reference."""


@runtime_checkable
class StepPolicy(Protocol):
    """Extends candidates by one step each, in the same order. Stateless: a step's `author` says who wrote it."""

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]: ...


@runtime_checkable
class Acceptor(Protocol):
    """Says for each drafted candidate whether its new step stays; `before` are the candidates that were extended."""

    async def accept(self, before: Sequence[Candidate], drafted: Sequence[Candidate], run: Run) -> list[bool]: ...


@runtime_checkable
class Verifier(Protocol):
    """Scores candidates, higher is better, in the same order."""

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]: ...


@runtime_checkable
class Strategy(Protocol):
    """Searches from a set of candidates. Anytime: each item it yields is a usable answer so far.

    Never yields inside a task group or a timeout, and never catches `OverBudget`.
    """

    def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]: ...


@runtime_checkable
class Finish(Strategy, Protocol):
    """A strategy that a graph runs when the rest has no answer, on a slice of the budget kept back for it."""

    def reserve(self, roots: Candidates) -> Reserve:
        """The most that a finish from these roots, without any step, can cost."""


if TYPE_CHECKING:
    from reasonweave.orchestrator.budget import Reserve

Aggregator: TypeAlias = Callable[["Candidates"], "Candidates"]
"""A pure function on a candidate set: a vote, a choice, a filter. It draws and breaks ties by the set's `seed` alone."""

Watching: TypeAlias = Callable[[], Callable[["Token"], bool]]
"""Makes a watch for one generation, which is shown each token as it comes and says True where the rest is not wanted."""

Condition: TypeAlias = Callable[["Candidates"], bool]
"""Whether a graph node runs, given what its parents produced."""
