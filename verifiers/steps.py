"""A symbolic step checker: reads the equations and inequalities in each step and does the sums again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Score, shown
from reasonweave.verifiers.claims import Claim, Reader
from reasonweave.verifiers.prm import Reduction, lowest

BREATH = 20
"""Candidates checked between two looks at what else happens on the loop."""

_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is amiss with a step: the first is step 0.

    "wrong": the claim does not hold. "carried": it holds, but goes on from a wrong result. "unsourced": it holds, but a number on
    its left side is neither in the problem nor an earlier result. `repaired` says that the same calculation is done right later.
    """

    step: int
    kind: Literal["wrong", "carried", "unsourced"]
    text: str
    why: str
    repaired: bool = False

    def __str__(self) -> str:
        later = " (put right later)" if self.repaired else ""
        return f"step {self.step + 1}, {self.kind}: {self.text} — {self.why}{later}"


@dataclass(frozen=True)
class StepCheck:
    """Check the equations and inequalities in each step by doing them again; a step with a wrong one scores `wrong`.

    Numbers are exact, letters are tried at random points, and what may be meant otherwise is left alone: see `claims`.
    `Score.steps` has 1 for a step whose claims hold, `neutral` for one without a claim that can be told, `wrong` for one with a
    wrong claim, `carried` for one that goes on from a wrong result, and `unsourced` for one with a number that is neither in the
    problem nor an earlier result (1 leaves that out). The value is their reduction; a step put right later counts 1 in it.

    Costs: nothing; no model is asked, and some thousand steps a second are read.
    """

    reduce: Reduction = lowest
    neutral: float = 1.0
    wrong: float = 0.0
    carried: float = 0.25
    unsourced: float = 1.0

    __repr__ = shown

    def __post_init__(self) -> None:
        for name in ("neutral", "wrong", "carried", "unsourced"):
            if not 0 <= (given := getattr(self, name)) <= 1:
                raise BadInput(f"{name}={given!r}: {name} is what a step is worth, in 0..1")

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        scores = []
        for k, candidate in enumerate(candidates):
            if k % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            scores.append(self._score(candidate))
        return scores

    def explain(self, candidate: Candidate) -> list[Finding]:
        """Everything that is amiss with a candidate, in order, for people to read.

        >>> from reasonweave.orchestrator.types import Problem, Step
        >>> steps = (Step("17 + 28 = 46\\n\\n", "m", 1), Step("46 * 2 = 92", "m", 1))
        >>> for finding in StepCheck().explain(Candidate(Problem("Add 17 and 28, then double it."), steps)):
        ...     print(finding)
        step 1, wrong: 17 + 28 = 46 — the left side is 45, the right side 46
        step 2, carried: 46 * 2 = 92 — 46 comes from a wrong result
        """
        return _Solution(candidate).read()[1]

    def _score(self, candidate: Candidate) -> Score:
        told, findings = _Solution(candidate).read()
        if not told:
            return Score(self.neutral)
        steps = [1.0 if some else self.neutral for some in told]
        settled = list(steps)
        for finding in findings:
            worth: float = getattr(self, finding.kind)
            steps[finding.step] = min(steps[finding.step], worth)
            if not finding.repaired:
                settled[finding.step] = min(settled[finding.step], worth)
        return Score(self.reduce(settled), tuple(steps))


@dataclass(slots=True)
class _Solution:
    """A candidate being read: which numbers it may build on, which not, and what was found amiss."""

    candidate: Candidate
    sound: set[Fraction] = field(default_factory=set)
    spoilt: set[Fraction] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    open: dict[tuple[tuple[Fraction, ...], Fraction | None], tuple[int, Fraction | None]] = field(default_factory=dict)

    def read(self) -> tuple[list[bool], list[Finding]]:
        """For each step whether it has a claim that can be told; and the findings."""
        self.sound = _numbers(self.candidate.problem.prompt)
        reader, told = Reader(), list[bool]()
        for at, passage in enumerate(self.candidate.passages):
            known = [claim for claim in reader.read(passage) if claim.verdict != "open"]
            told.append(bool(known))
            for claim in known:
                self._take(at, claim)
            if self.spoilt and (number := self._answer(passage)) in self.spoilt - self.sound:
                self._found(at, "carried", passage.strip(), number)
        return told, self.findings

    def _take(self, at: int, claim: Claim) -> None:
        calculation = claim.operands, claim.value
        if claim.verdict == "wrong":
            self.open[calculation] = len(self.findings), claim.result
            self.findings.append(Finding(at, "wrong", claim.text, claim.why))
            self._add(self.spoilt, claim.result)
            return
        if calculation in self.open:
            self._repair(*self.open.pop(calculation))
        if spoilt := [n for n in claim.operands if n in self.spoilt and n not in self.sound]:
            self._found(at, "carried", claim.text, spoilt[0])
            self._add(self.spoilt, claim.result)
            return
        if unknown := [n for n in claim.operands if n not in self.sound]:
            self._found(at, "unsourced", claim.text, unknown[0])
        self._add(self.sound, claim.result)

    def _add(self, numbers: set[Fraction], number: Fraction | None) -> None:
        if number is not None and number not in self.sound:
            numbers.add(number)

    def _repair(self, finding: int, result: Fraction | None) -> None:
        old = self.findings[finding]
        self.findings[finding] = Finding(old.step, old.kind, old.text, old.why, repaired=True)
        if result is not None:
            self.spoilt.discard(result)

    def _found(self, at: int, kind: Literal["carried", "unsourced"], text: str, number: Fraction | None) -> None:
        why = "comes from a wrong result" if kind == "carried" else "is neither in the problem nor an earlier result"
        self.findings.append(Finding(at, kind, text, f"{number} {why}"))

    def _answer(self, passage: str) -> Fraction | None:
        """The number that a step gives as the answer, if it gives one."""
        answer = self.candidate.problem.answers.extract(passage)
        try:
            return None if answer is None else Fraction(answer.replace(",", "").strip("$ %"))
        except (ValueError, ZeroDivisionError):
            return None


def _numbers(text: str) -> set[Fraction]:
    """The numbers in a text."""
    return {Fraction(found.replace(",", "")) for found in _NUMBER.findall(text[:20_000]) if len(found) <= 40}
