"""Writers: from earlier answers, and what was remarked on them, to a new answer. The step that every refinement loop repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Context, Message, Problem, Sampling, shown
from reasonweave.strategies.aggregators.judging import presented
from reasonweave.strategies.policies.sample import continued
from reasonweave.strategies.searches.live import ranked
from reasonweave.strategies.searches.refiners import Refiner

Excerpt: TypeAlias = Callable[[Candidate], str]
"""How an earlier answer is shown to the model that reads it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one new answer is written from: earlier answers, in the order in which they are shown, and remarks on them.

    Without sources a fresh answer is asked for. `remarks` are a critic's words, a verifier's findings, earlier lessons.
    """

    problem: Problem
    sources: tuple[Candidate, ...] = ()
    remarks: tuple[str, ...] = ()


class Writer(Protocol):
    """Writes a new answer for each reading, in order, all in one call; the new candidate begins without any step of its sources
    unless it says otherwise."""

    async def write(self, readings: Sequence[Reading], run: Run) -> list[Candidate]: ...


def conclusion(candidate: Candidate) -> str:
    """What an answer says after its thinking; where that is nothing, the answer alone."""
    return presented(candidate)


def full_text(candidate: Candidate) -> str:
    """An answer with its thinking."""
    return candidate.text


@dataclass(frozen=True)
class Prompted:
    """A writer that asks `model`: with the problem alone where there is nothing to read, else with `prompt`.

    In the prompt, {problem}, {solutions} (numbered from [1]), {solution} (the first of them, bare), {count} and {remarks} are
    filled in. `excerpt` says how an answer is shown. The whole solution is written in one call, at most `max_tokens` tokens.
    """

    model: Model
    prompt: str
    temperature: float = 0.8
    max_tokens: int = 1024
    excerpt: Excerpt = conclusion
    __repr__ = shown

    def __post_init__(self) -> None:
        if "{solution}" not in self.prompt and "{solutions}" not in self.prompt:
            raise BadInput(f"Prompted: the prompt {self.prompt!r} has no {{solutions}} (or {{solution}}) in it")

    async def write(self, readings: Sequence[Reading], run: Run) -> list[Candidate]:
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        written = await self.model.generate([self.context(r) for r in readings], run, sampling=sampling)
        return [
            continued(Candidate(r.problem), w, self.model.name, whole=True)
            for r, w in zip(readings, written, strict=True)
        ]

    def context(self, reading: Reading) -> Context:
        """What the model is asked for this reading."""
        if not reading.sources and not reading.remarks:
            return Candidate(reading.problem).context
        told = [self.excerpt(c) for c in reading.sources]
        parts = {
            "problem": reading.problem.prompt,
            "solutions": "\n\n".join(f"[{number}]\n{text}" for number, text in enumerate(told, 1)),
            "solution": told[0] if told else "",
            "count": str(len(told)),
            "remarks": "\n\n".join(reading.remarks),
        }
        return Context((Message("user", filled(self.prompt, **parts)),))


@dataclass(frozen=True)
class Refined:
    """A writer without words: the source with the highest score (the first of equals) goes to `refiner`, as `Redo`, which needs
    no instruction to be understood. Remarks are not read."""

    refiner: Refiner

    async def write(self, readings: Sequence[Reading], run: Run) -> list[Candidate]:
        chosen = [ranked(r.sources)[0] if r.sources else Candidate(r.problem) for r in readings]
        return await self.refiner.refine([replace(c, log_weight=0.0) for c in chosen], run)
