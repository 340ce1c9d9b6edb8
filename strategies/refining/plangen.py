"""PlanGEN's constraint-guided verification: constraints are drawn from the problem, and a solution is checked against them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reasonweave.orchestrator.answers import after_thinking, json_objects
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Completion, Context, Message, Problem, Sampling, Score
from reasonweave.strategies.aggregators.judging import presented
from reasonweave.strategies.refining.feedback import Remark, silence, unsaid

CONSTRAINTS_PROMPT = """\
Here is a problem. Do not solve it. Name the constraints that a right solution has to observe: what is given, limits and
conditions, what is asked for and in which form. One short sentence each, only what the problem says.

Problem:
{problem}

Reply with one JSON object of this form:
{"constraints": ["…", "…"]}"""

CHECK_PROMPT = """\
Here are a problem, the constraints of its solution, numbered 1 to {count}, and a solution that may be wrong.

Problem:
{problem}

Constraints:
{constraints}

Solution:
{solution}

Go through the constraints in their order: is each of them met, and why? Then give the solution a score from -100 (nothing
is met, or the result cannot be right) to 100 (all is met and the result is right). Reply with one JSON object of this form:
{"constraints": [{"met": true, "why": "…"}], "score": 0}"""


@dataclass(frozen=True)
class ConstraintCheck:
    """PlanGEN's constraint agent and verification agent (Parmar et al., 2025, arXiv 2502.16111) as a feedback.

    The constraints are the problem's own (`meta["constraints"]`, a list of texts), else `model` draws them from the
    problem, once a problem and run. It then says of each whether the solution meets it, and why, and gives a score s from
    -100 to 100, which becomes (s + 100) / 200. The words are the constraints that are not met, with the reasons, then those
    that are. The verdict is right from `threshold` on, in 0..1. A check that cannot be read has its words as they are, and
    a score of nan that says so.

    Costs a reply a solution, greedy, of at most `max_tokens` tokens, and one a problem.
    """

    model: Model
    threshold: float = 0.95
    max_tokens: int = 1024
    constraints_prompt: str = CONSTRAINTS_PROMPT
    prompt: str = CHECK_PROMPT
    _known: dict[int, dict[Problem, tuple[str, ...] | str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Of each run that is under way, by its session: the constraints of its problems, or why there are none."""

    def __post_init__(self) -> None:
        if "{problem}" not in self.constraints_prompt:
            raise BadInput("ConstraintCheck: constraints_prompt needs {problem} in it")
        if "{constraints}" not in self.prompt or "{solution}" not in self.prompt:
            raise BadInput("ConstraintCheck: the prompt needs {constraints} and {solution} in it")

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        wanted = await self._constraints(list(dict.fromkeys(c.problem for c in candidates)), run.child("constraints"))
        able = [c for c in candidates if not isinstance(wanted[c.problem], str)]
        contexts = [self._question(c, wanted[c.problem]) for c in able]
        sampling = Sampling(0.0, max_tokens=self.max_tokens)
        replies = iter(await asked_once(self.model, contexts, run.child("check"), sampling))
        return [
            unsaid(these) if isinstance(these := wanted[c.problem], str) else self._remark(these, next(replies))
            for c in candidates
        ]

    async def _constraints(self, problems: Sequence[Problem], run: Run) -> Mapping[Problem, tuple[str, ...] | str]:
        """The constraints of each problem, or why there are none. A reply that did not come is asked for again the next time."""
        session = run.session.number
        known = self._known.setdefault(session, {})
        run.session.closers.setdefault(("constraints", id(self)), lambda: self._forget(session))
        known |= {p: own for p in problems if (own := _own(p)) is not None}
        asked = [p for p in problems if p not in known]
        contexts = [Context((Message("user", filled(self.constraints_prompt, problem=p.prompt)),)) for p in asked]
        sampling = Sampling(0.0, max_tokens=self.max_tokens)
        replies = await self.model.generate(contexts, run, sampling=sampling)
        missing: dict[Problem, tuple[str, ...] | str] = {}
        for problem, reply in zip(asked, replies, strict=True):
            found = _listed(reply.text)
            into = known if reply.text else missing
            why = "no constraints could be read" if reply.text else silence(reply)
            into[problem] = found or f"{self.model.name}: {why}"
        return known | missing

    def _forget(self, session: int) -> None:
        self._known.pop(session, None)

    def _question(self, candidate: Candidate, constraints: Sequence[str]) -> Context:
        numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(constraints, 1))
        parts = {"problem": candidate.problem.prompt, "solution": presented(candidate)}
        asked = filled(self.prompt, **parts, constraints=numbered, count=str(len(constraints)))
        return Context((Message("user", asked),))

    def _remark(self, constraints: Sequence[str], reply: Completion) -> Remark:
        if not (text := after_thinking(reply.text)):
            return unsaid(f"{self.model.name}: {silence(reply)}")
        read = [found for each in json_objects(text) if (found := _checked(each, len(constraints))) is not None]
        if not read:
            told = (
                f"{self.model.name}: no score and verdicts on {len(constraints)} constraints could be read in its check"
            )
            return Remark(text, None, Score(math.nan, error=told))
        verdicts, stated = read[-1]
        value = (stated + 100) / 200
        return Remark(_words(constraints, verdicts), value >= self.threshold, Score(value))


def _own(problem: Problem) -> tuple[str, ...] | None:
    """The constraints that a problem brings."""
    if (own := problem.meta.get("constraints")) is None:
        return None
    if (
        isinstance(own, str)
        or not isinstance(own, Sequence)
        or not own
        or not all(isinstance(each, str) for each in own)
    ):
        raise BadInput(f"problem {problem.id or problem.prompt[:40]!r}: constraints={own!r}: give a list of texts")
    return tuple(own)


def _listed(text: str) -> tuple[str, ...]:
    """The constraints in the last JSON object of a reply that has some."""
    found: tuple[str, ...] = ()
    for each in json_objects(after_thinking(text)):
        listed = each.get("constraints")
        if isinstance(listed, list):
            found = tuple(dict.fromkeys(t.strip() for t in listed if isinstance(t, str) and t.strip())) or found
    return found


def _checked(found: Mapping[str, Any], count: int) -> tuple[list[tuple[bool, str]], float] | None:
    """What a JSON object says of each constraint, and the score; None where it does not."""
    listed, stated = found.get("constraints"), found.get("score")
    if isinstance(stated, bool) or not isinstance(stated, int | float) or not -100 <= stated <= 100:
        return None
    if not isinstance(listed, list) or len(listed) != count:
        return None
    each = [(one.get("met"), one.get("why")) if isinstance(one, dict) else (one, "") for one in listed]
    verdicts = [(met, why if isinstance(why, str) else "") for met, why in each if isinstance(met, bool)]
    return (verdicts, float(stated)) if len(verdicts) == count else None


def _words(constraints: Sequence[str], verdicts: Sequence[tuple[bool, str]]) -> str:
    """The constraints that are not met first."""
    parts = []
    for wanted, title in ((False, "Not met:"), (True, "Met:")):
        lines = [
            f"- {text}" + (f" ({why.strip()})" if why.strip() else "")
            for text, (met, why) in zip(constraints, verdicts, strict=True)
            if met is wanted
        ]
        parts += ["\n".join([title, *lines])] if lines else []
    return "\n".join(parts)
