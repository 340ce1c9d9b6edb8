"""PlanGEN's constraint-guided verification (Parmar et al., 2025, arXiv 2502.16111): first what a solution must observe, then
whether it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Context, Message, Problem, Score, shown
from reasonweave.verifiers._once import Once
from reasonweave.verifiers.judge import (
    Unreadable,
    last_readable,
    not_judged,
    number_in,
    turn,
    understood,
)

EXTRACT_PROMPT = """\
Below is a problem. Do not solve it. List the constraints that every correct solution of it must observe: what is given, what is
asked for, limits, conditions, the form of the answer. One short sentence each, nothing that the problem does not say.

Problem:
{problem}

Reply with one JSON object of this form:
{"constraints": ["…", "…"]}"""

CHECK_PROMPT = """\
Check the solution above against these constraints, which are numbered 1 to {count}:
{constraints}

Say for each of them, in this order, whether the solution meets it, and why. Then score the solution from -100 (it meets none, or
its result cannot be right) to 100 (it meets all of them and is right). Reply with one JSON object of this form:
{"constraints": [{"met": true, "why": "…"}], "score": 0}"""


@dataclass(frozen=True, slots=True)
class Check:
    """What a model says of a solution: which constraints it meets, in their order, and its score from -100 to 100."""

    met: tuple[bool, ...]
    score: float


Reading: TypeAlias = Callable[[Check], float]
"""From a check to a candidate's value in 0..1."""


def stated(check: Check) -> float:
    """The model's own score, brought to 0..1: (score + 100) / 200.

    >>> stated(Check((True, False), -50.0))
    0.25
    """
    return (check.score + 100) / 200


def share_met(check: Check) -> float:
    """The share of the constraints that are met.

    >>> share_met(Check((True, False), -50.0))
    0.5
    """
    return sum(check.met) / len(check.met)


@dataclass(frozen=True)
class Constraints:
    """PlanGEN's check: a model extracts the constraints of a problem once, then checks each candidate against them.

    The constraints are those in the problem's `meta["constraints"]` (a list of texts), else those `given`, else what the model
    finds in the problem, once a problem in a run. For each candidate the model then says of each constraint whether it is met,
    and gives a score from -100 to 100; `value` makes of that a number in 0..1: `stated` or `share_met`. Both replies are JSON and
    greedy, and asked for up to `tries` times. Where the constraints or the check cannot be read, or there are no constraints, a
    candidate is not judged: nan, with the reason.

    Costs: a reply of the model of at most `max_tokens` tokens a candidate, and one a problem and run for its constraints; `tries`
    times that at most.
    """

    model: Model
    given: Sequence[str] = ()
    value: Reading = stated
    tries: int = 2
    max_tokens: int = 1024
    extract_prompt: str = EXTRACT_PROMPT
    check_prompt: str = CHECK_PROMPT
    _known: Once[Problem, tuple[str, ...]] = field(default_factory=Once, init=False, repr=False, compare=False)

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        _texts("Constraints: given", self.given)
        if self.tries < 1 or "{problem}" not in self.extract_prompt or "{constraints}" not in self.check_prompt:
            raise BadInput(
                f"Constraints: tries={self.tries}, which is 1 or more; extract_prompt needs {{problem}} in it, check_prompt "
                "{constraints}"
            )

    __repr__ = shown

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        wanted = await self._wanted(candidates, run)
        checkable = [
            (c, these) for c, these in zip(candidates, wanted, strict=True) if not isinstance(these, Unreadable)
        ]
        contexts = [self._question(c, these) for c, these in checkable]
        values = iter(
            await understood(
                self.model,
                contexts,
                run.child("check"),
                lambda i, text: self.value(_check(text, len(checkable[i][1]))),
                tries=self.tries,
                max_tokens=self.max_tokens,
            )
        )
        found = [these if isinstance(these, Unreadable) else next(values) for these in wanted]
        return [not_judged(value) if isinstance(value, Unreadable) else Score(value) for value in found]

    async def _wanted(self, candidates: Sequence[Candidate], run: Run) -> list[tuple[str, ...] | Unreadable]:
        """What each candidate has to observe; `Unreadable` where that is not known."""
        told = [_own(c.problem, self.given) for c in candidates]
        asked = list(dict.fromkeys(c.problem for c, own in zip(candidates, told, strict=True) if own is None))
        failed: dict[Problem, Unreadable] = {}

        async def find(problems: list[Problem], here: Run) -> dict[Problem, tuple[str, ...]]:
            contexts = [
                Context((Message("user", filled(self.extract_prompt, problem=problem.prompt)),)) for problem in problems
            ]
            replies = await understood(
                self.model, contexts, here, lambda i, text: _listed(text), tries=self.tries, max_tokens=self.max_tokens
            )
            pairs = list(zip(problems, replies, strict=True))
            failed.update({p: Unreadable(f"no constraints: {r}") for p, r in pairs if isinstance(r, Unreadable)})
            return {p: r for p, r in pairs if not isinstance(r, Unreadable)}

        found = failed | await self._known.all(asked, run.child("constraints"), find) if asked else {}
        wanted = [found[c.problem] if own is None else own for c, own in zip(candidates, told, strict=True)]
        return [these or Unreadable("the problem has no constraints") for these in wanted]

    def _question(self, candidate: Candidate, constraints: Sequence[str]) -> Context:
        numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(constraints, 1))
        asked = filled(self.check_prompt, constraints=numbered, count=str(len(constraints)))
        return Context((*candidate.problem.messages, turn(candidate), Message("user", asked)))


def _own(problem: Problem, given: Sequence[str]) -> tuple[str, ...] | None:
    """The constraints that need not be looked for; None where there are none."""
    if (own := problem.meta.get("constraints")) is not None:
        return _texts(f"problem {problem.id or problem.prompt[:40]!r}: constraints", own)
    return tuple(given) or None


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
        raise BadInput(f"{name}={value!r}: give a list of texts")
    return tuple(value)


def _listed(text: str) -> tuple[str, ...]:
    """The constraints of a reply, without blanks and repetitions."""

    def read(found: dict[str, Any]) -> tuple[str, ...]:
        listed = found.get("constraints")
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            raise Unreadable("the object has no list of texts named constraints")
        return tuple(dict.fromkeys(each.strip() for each in listed if each.strip()))

    return last_readable(text, read, "constraints")


def _check(text: str, count: int) -> Check:
    """The check of a reply about this many constraints."""

    def read(found: dict[str, Any]) -> Check:
        listed = found.get("constraints")
        met = (
            [each.get("met") if isinstance(each, dict) else each for each in listed] if isinstance(listed, list) else []
        )
        if len(met) != count or not all(isinstance(each, bool) for each in met):
            raise Unreadable(f"the object does not say of each of {count} constraints whether it is met, true or false")
        return Check(tuple(m for m in met if isinstance(m, bool)), number_in(found.get("score"), -100, 100, "score"))

    return last_readable(text, read, "constraints and score")
