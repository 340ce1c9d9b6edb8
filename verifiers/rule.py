"""A plain function as a verifier: the shortest plugin."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from reasonweave.orchestrator.errors import BadInput, described
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Score, shown

Judgement: TypeAlias = float | bool | Score | None
"""What a rule may return; None says that it cannot judge."""


@dataclass(frozen=True)
class Rule:
    """A function from a candidate to a number (or True, False, a `Score`; None where it cannot judge), higher being better.

    It runs in a thread of its own, so that one that takes its time holds up nothing else. What raises, or takes more than
    `seconds`, costs that candidate its score alone, which is nan and says why. A thread cannot be ended: a function that never
    returns goes on in the background until the process ends. Code that is not trusted belongs into the sandbox (`CodeCheck`).

    Costs: nothing.
    """

    function: Callable[[Candidate], Judgement]
    seconds: float = 10.0
    lowest: float = -math.inf
    highest: float = math.inf

    __repr__ = shown

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise BadInput(f"Rule({self.function!r}): a function of a candidate is needed")
        if not self.seconds > 0:
            raise BadInput(f"Rule(seconds={self.seconds}): above 0 is needed")

    patience: ClassVar[float] = math.inf
    """It has limits of its own."""

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        scores: list[Score] = []
        while len(scores) < len(candidates):  # after one that took too long, the rest in a new thread
            scores += await self._some(candidates[len(scores) :])
        return scores

    async def _some(self, candidates: Sequence[Candidate]) -> list[Score]:
        """The scores of these in order, up to and including one that takes too long."""
        loop, answers = asyncio.get_running_loop(), asyncio.Queue[Score]()
        wanted = threading.Event()
        wanted.set()

        def work() -> None:
            for candidate in candidates:
                if not wanted.is_set():
                    return
                judged = self._judged(candidate)
                try:
                    loop.call_soon_threadsafe(answers.put_nowait, judged)
                except RuntimeError:  # the loop has ended, nobody waits any more
                    return

        threading.Thread(target=work, name=f"rule {self.name}", daemon=True).start()
        scores: list[Score] = []
        try:
            for _ in candidates:
                async with asyncio.timeout(self.seconds):
                    scores.append(await answers.get())
        except TimeoutError:
            late = Score(math.nan, error=f"{self.name} took more than {self.seconds:g} seconds")
            scores.append(late if answers.empty() else answers.get_nowait())
        finally:
            wanted.clear()
        return scores

    def _judged(self, candidate: Candidate) -> Score:
        try:
            judgement = self.function(candidate)
        except BaseException as error:  # sys.exit too would end the thread without a word
            return Score(math.nan, error=f"{self.name} raised {described(error)}")
        if judgement is None:
            return Score(math.nan, error=f"{self.name} cannot judge this")
        if isinstance(judgement, Score):
            return judgement
        try:
            return Score(float(judgement))
        except (TypeError, ValueError):
            return Score(math.nan, error=f"{self.name} returned {judgement!r:.80}, which is no number")
