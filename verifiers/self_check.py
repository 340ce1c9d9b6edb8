"""A model's own doubt, read from one token: P(True) of an answer (Kadavath et al., 2022, arXiv 2207.05221), with and without
other samples in view, and P(correct) of each step (Xie et al., 2023, arXiv 2305.00633)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Completion, Context, Message, Problem, Sampling, Score
from reasonweave.verifiers.consistency import same_problem
from reasonweave.verifiers.judge import ONE_TOKEN, Unreadable, chances, judged, not_judged, spoken, turn

SELF_CHECK_PROMPT = "Is the answer above right? Reply True or False."
BRAINSTORM = """\
Other answers to this problem that were thought of: {samples}.

"""
"""What stands before the question where other samples are shown."""
STEP_PROMPT = """\
Is the last step above:
(A) Correct
(B) Incorrect
Reply A or B."""
STEP_PREFIX = "The last step above is ("

_TRUTH = ("True", "False")


def p_true(answer: Completion) -> float:
    """P(True) / (P(True) + P(False)). Raises `Unreadable` where the answer begins with neither."""
    return chances(answer, _TRUTH)[0]


@dataclass(frozen=True)
class SelfCheck:
    """P(True) / (P(True) + P(False)) for each candidate's answer, read from one token.

    With `drawn` > 0 the model is first shown the answers of so many solutions of its own, sampled at `temperature` for this
    call (Kadavath et al. call them brainstormed): seeing what else comes to its mind, it knows better what it does not know. A
    reply that begins with neither word is no judgement, nor is one that the budget or a failure prevented: nan, with the reason.

    Costs: one token of the model a candidate, on the cached prefix of its solution; and `drawn` solutions of at most `max_tokens`
    tokens a problem and call.
    """

    model: Model
    prompt: str = SELF_CHECK_PROMPT
    drawn: int = 0
    temperature: float = 1.0
    max_tokens: int = 512
    brainstorm: str = BRAINSTORM

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        _check(self, self.drawn >= 0, f"drawn={self.drawn}; it is 0 or more", self.brainstorm)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        if not self.drawn:
            return await _checked(self.model, [_question(c, self.prompt) for c in candidates], run)
        problems = sorted({c.problem for c in candidates}, key=lambda p: (p.prompt, p.id))
        contexts = [Context(problem.messages) for problem in problems for _ in range(self.drawn)]
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        written = iter(await self.model.generate(contexts, run.child("draw"), sampling=sampling))
        samples: dict[Problem, list[str]] = {}
        for problem in problems:
            answers = [problem.answers.extract(next(written).text) for _ in range(self.drawn)]
            samples[problem] = [answer for answer in answers if answer is not None]
        asked = [_question(c, _among(samples[c.problem], self.brainstorm) + self.prompt) for c in candidates]
        return await _checked(self.model, asked, run.child("check"))


@dataclass(frozen=True)
class BrainstormedCheck:
    """P(True) for each candidate's answer, the model being shown up to k answers of the problem's other candidates.

    As `SelfCheck` with samples (Kadavath et al., 2022), but those that are there already: nothing else is sampled. Which of
    them, and in which order, is drawn by the run's seed; answers that were given several times are shown several times. Where no
    other candidate has an answer, it is the plain question.

    Costs: one token of the model a candidate, on the cached prefix of its solution.
    """

    model: Model
    k: int = 5
    prompt: str = SELF_CHECK_PROMPT
    brainstorm: str = BRAINSTORM

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0
    relative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self, self.k >= 1, f"k={self.k}; it is 1 or more", self.brainstorm)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        asked = [Context(())] * len(candidates)
        for own in same_problem(candidates).values():
            lots = {i: _lot(run, candidates[i].text) for i in own}
            drawn = [
                (i, answer) for i in sorted(own, key=lots.__getitem__) if (answer := candidates[i].answer) is not None
            ]
            for i in own:
                others = [answer for j, answer in drawn if j != i][: self.k]
                asked[i] = _question(candidates[i], _among(others, self.brainstorm) + self.prompt)
        return await _checked(self.model, asked, run.child("check"))


@dataclass(frozen=True)
class SelfEvaluation:
    """Self-evaluation by step: how sure its author was of each step, and how sure the model is that it is correct.

        sₜ = cₜ^r · pₜ^(1−r)      value = (s₁ s₂ … s_T)^(1/T)

    (Xie et al., 2023, arXiv 2305.00633.) c = P(A) / (P(A) + P(B)) after the step, from one token; p is the geometric mean
    probability of the step's tokens under its author; r is `ratio`. `Score.steps` has the step scores, one a passage. With
    `ratio=1` only c counts; below it, every step that was generated needs its log-probability. A candidate of which one step
    cannot be judged is not judged (nan).

    Costs: one token of the model a step, on the cached prefix of the solution; steps that candidates share once.
    Needs: log-probabilities of the candidates' tokens, unless `ratio` is 1.
    """

    model: Model
    ratio: float = 0.5
    prompt: str = STEP_PROMPT
    prefix: str = STEP_PREFIX
    words: tuple[str, str] = ("A", "B")

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise BadInput(
                f"SelfEvaluation: ratio={self.ratio}; it is above 0, where the model would not be heard, up to 1"
            )

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        asked = Message("user", self.prompt)
        contexts: list[list[Context]] = []
        for candidate in candidates:
            read, own = "", list[Context]()
            for passage in candidate.passages:
                read += passage
                own.append(Context((*candidate.problem.messages, spoken(read), asked), self.prefix))
            contexts.append(own)
        whole = {own[-1]: None for own in contexts if own}
        parts = {context: None for own in contexts for context in own if context not in whole}
        answers: dict[Context, Completion] = {}
        for name, some in (("whole", whole), ("part", parts)):  # the longest first: the others are then cached prefixes
            work = self.model.generate(list(some), run.child(name), sampling=ONE_TOKEN)
            replies = await work if name == "whole" else await afforded(work, run)
            answers |= zip(some, replies or [Completion("", "budget")] * len(some), strict=True)
        return [self._score(c, [answers[a] for a in own]) for c, own in zip(candidates, contexts, strict=True)]

    def _score(self, candidate: Candidate, answers: Sequence[Completion]) -> Score:
        if not answers:
            return not_judged("there is no step to judge")
        logs = list[float]()
        for number, (answer, p) in enumerate(zip(answers, _likelihoods(candidate), strict=True), 1):
            try:
                c = chances(answer, self.words)[0]
            except Unreadable as why:
                return not_judged(f"step {number}: {why}")
            if self.ratio < 1 and p is None:
                return not_judged(f"step {number} has no log-probability; take ratio=1, or a model that gives some")
            logs.append((self.ratio * math.log(c) if c > 0 else -math.inf) + (1 - self.ratio) * (p or 0.0))
        steps = tuple(math.exp(log) for log in logs)
        return Score(min(1.0, math.exp(math.fsum(logs) / len(logs))) if min(steps) > 0 else 0.0, steps)


def _likelihoods(candidate: Candidate) -> list[float | None]:
    """The mean log-probability of a token of each passage, 0 at most; 0 for what no model wrote, None where it is not known."""
    found, part = list[float | None](), list[tuple[int, float | None]]()
    for step in candidate.steps:
        part.append((step.tokens, step.logprob))
        if not step.open:
            found.append(_mean(part))
            part = []
    return [*found, _mean(part)] if part else found


def _mean(steps: Sequence[tuple[int, float | None]]) -> float | None:
    written = [(tokens, logprob) for tokens, logprob in steps if tokens]
    known = [logprob for _, logprob in written if logprob is not None]
    if len(known) < len(written):
        return None
    return min(0.0, math.fsum(known) / sum(tokens for tokens, _ in written)) if written else 0.0


def _question(candidate: Candidate, prompt: str) -> Context:
    return Context((*candidate.problem.messages, turn(candidate), Message("user", prompt)))


async def _checked(model: Model, contexts: Sequence[Context], run: Run) -> list[Score]:
    return [judged(answer, p_true) for answer in await asked_once(model, contexts, run, ONE_TOKEN)]


def _among(samples: Sequence[str], template: str) -> str:
    return filled(template, samples="; ".join(samples)) if samples else ""


def _lot(run: Run, text: str) -> bytes:
    return hashlib.sha256(f"{run.seed('samples')}/{text}".encode()).digest()


def _check(part: object, holds: bool, told: str, brainstorm: str) -> None:
    if not holds or "{samples}" not in brainstorm:
        raise BadInput(f"{type(part).__name__}: {told if not holds else 'brainstorm needs {samples} in it'}")
