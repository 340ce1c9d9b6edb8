"""Consistency: how many of the other candidates give the same answer, and whether an answer leads back to the problem."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.answers import after_thinking, alike, last_boxed, number, usual
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Completion, Context, Message, Problem, Sampling, Score, softmax
from reasonweave.verifiers.judge import Unreadable, heard, not_judged

BACKWARD_PROMPT = """\
{problem}

One number in the text above was replaced by {unknown}. The answer to the problem is known: it is {answer}. Which number was
replaced? Think step by step, and put that number alone in \\boxed{}."""

UNKNOWNS = ("X", "Y", "Z", "U", "V", "W")
"""Names for what is hidden; the first that the problem does not use."""

ALONE = "there is no other candidate of this problem to compare it with"
_PLAIN = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?!\w|[.,]\d)")
_SIGNED = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:\s*/\s*\d+)?")


def same_problem(candidates: Sequence[Candidate]) -> dict[Problem, list[int]]:
    """The indices of each problem's candidates, in order."""
    found: dict[Problem, list[int]] = {}
    for i, candidate in enumerate(candidates):
        found.setdefault(candidate.problem, []).append(i)
    return found


@dataclass(frozen=True)
class Agreement:
    """The share of the problem's other candidates that give the same answer, by their weights: self-consistency as a score.

        value = Σ_{j ≠ i, same answer} wⱼ / Σ_{j ≠ i} wⱼ      wⱼ ∝ exp(log_weight)

    Others without an answer agree with nobody, and count below the line. A candidate without an answer scores 0: nobody has given
    its answer. One that is alone in the call is not judged (nan). With equal weights the best candidates are those behind the
    majority's answer (Wang et al., 2022).

    Costs: nothing.
    """

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0
    relative: ClassVar[bool] = True

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        scores = [not_judged(ALONE)] * len(candidates)
        for problem, own in same_problem(candidates).items():
            logs = np.array([candidates[i].log_weight for i in own])
            groups = np.array(
                [-1 if g is None else g for g in alike([candidates[i].answer for i in own], problem.answers)]
            )
            for k, i in enumerate(own if len(own) > 1 else []):
                weights = softmax(np.delete(logs, k))
                same = np.delete(groups, k) == groups[k]
                scores[i] = Score(min(1.0, math.fsum(weights[same])) if groups[k] >= 0 else 0.0)
        return scores


@dataclass(frozen=True)
class RoundTrip:
    """Backward verification: a number of the problem is hidden, the answer told, and the model asked for the number.

    Self-verification (Weng et al., 2022, arXiv 2212.09561) and FOBAR (Jiang et al., 2023, arXiv 2308.07758). Up to `maskings`
    numbers of the problem's text, drawn by the run's seed, are hidden one at a time, each question answered `samples` times; the
    value is the share of the replies that find the number. Equal answers are asked about once. A candidate without an answer is
    not judged (nan), nor is any where the problem's text has no numbers.

    Costs: `maskings` times `samples` replies of the model of at most `max_tokens` tokens for each distinct answer.
    Needs: numbers in the problem's text.
    """

    model: Model
    maskings: int = 3
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 512
    prompt: str = BACKWARD_PROMPT

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if self.maskings < 1 or self.samples < 1:
            raise BadInput(f"RoundTrip: maskings={self.maskings}, samples={self.samples}; both are 1 or more")
        if self.samples > 1 and not self.temperature > 0:
            raise BadInput(
                f"RoundTrip: {self.samples} samples at temperature 0 are all the same; give a temperature above 0"
            )
        if not all(blank in self.prompt for blank in ("{problem}", "{unknown}", "{answer}")):
            raise BadInput("RoundTrip: the prompt needs {problem}, {unknown} and {answer} in it")

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        scores = [not_judged("no answer to go back from")] * len(candidates)
        asked: list[tuple[list[int], list[tuple[Context, Fraction]]]] = []
        for problem, own in same_problem(candidates).items():
            hidden = self._hidden(problem, run)
            for members in self._answers(problem, own, candidates):
                answer = usual([a for i in members if (a := candidates[i].answer) is not None])
                asked.append((members, [(self._question(problem, answer, at), value) for at, value in hidden]))
        contexts = list(dict.fromkeys(context for _, questions in asked for context, _ in questions))
        heard_of = dict(zip(contexts, await together(self._replies(each, run) for each in contexts), strict=True))
        for members, questions in asked:
            score = _share([(reply, value) for context, value in questions for reply in heard_of[context]])
            for i in members:
                scores[i] = score
        return scores

    async def _replies(self, question: Context, run: Run) -> list[Completion]:
        """The samples of one question, on a path of its own, so that they do not depend on what else is asked."""
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        here = run.child("back", *(message.content for message in question.messages))
        return await self.model.generate([question] * self.samples, here, sampling=sampling)

    def _hidden(self, problem: Problem, run: Run) -> list[tuple[tuple[int, int], Fraction]]:
        """Which numbers are hidden: where each stands, and its value."""
        found = [
            (match.span(), value)
            for match in _PLAIN.finditer(problem.prompt)
            if (value := number(match[0])) is not None
        ]
        if len(found) <= self.maskings:
            return found
        drawn = run.child("hide", problem.prompt).rng().choice(len(found), self.maskings, replace=False)
        return [found[i] for i in sorted(drawn)]

    def _answers(self, problem: Problem, own: Sequence[int], candidates: Sequence[Candidate]) -> list[list[int]]:
        """The candidates of each distinct answer."""
        groups: dict[int, list[int]] = {}
        for i, group in zip(own, alike([candidates[i].answer for i in own], problem.answers), strict=True):
            if group is not None:
                groups.setdefault(group, []).append(i)
        return list(groups.values())

    def _question(self, problem: Problem, answer: str, at: tuple[int, int]) -> Context:
        text = problem.prompt
        used = set(re.findall(r"[A-Za-z]+", text))
        unknown = next((name for name in UNKNOWNS if name not in used), "the hidden number")
        masked = f"{text[: at[0]]}{unknown}{text[at[1] :]}"
        return Context((Message("user", filled(self.prompt, problem=masked, unknown=unknown, answer=answer)),))


def _share(replies: Sequence[tuple[Completion, Fraction]]) -> Score:
    """The share of these replies that find the number each was asked for; those that the budget or a failure cut do not count."""
    if not replies:
        return not_judged("the problem's text has no number to hide")
    found, why = list[bool](), Unreadable("")
    for reply, wanted in replies:
        try:
            text = heard(reply)
            if (value := found_number(text)) is None and reply.finish_reason in ("budget", "error", "cancelled"):
                raise Unreadable("the budget cut the reply")
            found.append(value == wanted)
        except Unreadable as unread:
            why = unread
    return Score(sum(found) / len(found)) if found else not_judged(why)


def found_number(text: str) -> Fraction | None:
    r"""The number that a reply ends on: in its last box, else the last number of the text. None where there is none.

    >>> found_number(r"2 + 3 = 5, so \boxed{X = 1,200}"), found_number("So it is 2.50."), found_number("I do not know")
    (Fraction(1200, 1), Fraction(5, 2), None)
    """
    said = after_thinking(text)
    box = last_boxed(said)
    if box is not None and (whole := number(box)) is not None:
        return whole
    written = _SIGNED.findall(said if box is None else box)
    return number(written[-1]) if written else None
