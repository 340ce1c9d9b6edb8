"""What travels from layer to layer beside the solutions: critiques of candidates, and unit tests of a problem's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.types import Candidate, Candidates, Problem

CRITIQUES = "\nA critic, who may be wrong too, says of them:\n\n{critiques}\n"
"""How critiques are put into the prompt of whoever reads the candidates."""


@dataclass(frozen=True, slots=True)
class Criticised(Candidate):
    """A candidate with what a critic said of it. It stays with the candidate through rankings and filters; a new solution that is
    written after it has none."""

    critique: str = ""


@dataclass(frozen=True, slots=True)
class WithTests(Problem):
    """A problem to whose prompt unit tests of its answers were added; they are its ``meta["statements"]``. `plain` is the problem
    without them."""

    plain: Problem | None = None


def criticised(candidate: Candidate, critique: str) -> Criticised:
    """This candidate with this critique, in place of an earlier one."""
    kept = {field.name: getattr(candidate, field.name) for field in fields(Candidate)}
    return Criticised(**kept, critique=critique)


def critiques_of(some: Sequence[Candidate]) -> str:
    """The critiques of these candidates as a prompt shows them, numbered as the candidates are; empty where there are none."""
    told = [(number, c.critique) for number, c in enumerate(some, 1) if isinstance(c, Criticised) and c.critique]
    listed = "\n\n".join(f"[{number}]\n{critique}" for number, critique in told)
    return filled(CRITIQUES, critiques=listed) if told else ""


def plain(problem: Problem) -> Problem:
    """The problem as it was asked, without unit tests in its prompt."""
    return problem.plain if isinstance(problem, WithTests) and problem.plain is not None else problem


def as_asked(candidates: Candidates) -> Candidates:
    """The same set, conclusion and all, as answers to the problem as it was asked."""
    items = (replace(c, problem=plain(c.problem)) if isinstance(c.problem, WithTests) else c for c in candidates)
    return replace(candidates, items=tuple(items))
