"""Feedback: what is said of an answer, in words, with a verdict and a score where there are some.

By a model (its author or another one), by a verifier's scores put into words, or by two of them one after the other. What
could not be said or read is told as a score of nan with the reason, and never made up."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute, range_of, scored
from reasonweave.orchestrator.types import Candidate, Completion, Context, Message, Sampling, Score, shown
from reasonweave.strategies.aggregators.judging import presented

CRITIC_PROMPT = """\
Here are a problem and a solution of it, which may be right or wrong.

Problem:
{problem}

Solution:
{solution}

Check the solution step by step. Do not write a new one: say where it goes wrong and why, as exactly as you can, or that you
find nothing wrong. Then end with one line, which is either Verdict: right or Verdict: wrong"""

NOTHING_SAID = "No remarks could be made. Check it yourself."
"""What stands in a prompt where there are no words."""

_VERDICT = re.compile(r"verdict\W*?:[\s*_`#(\[]*(not\s+)?(right|correct|wrong|incorrect)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Remark:
    """What is said of one answer.

    `text` is for who writes the next one, empty where there are no words; `right` is the verdict, None where there is none;
    `score` is a verifier's, or nan with the reason where something could not be judged or read.
    """

    text: str = ""
    right: bool | None = None
    score: Score | None = None

    def on(self, candidate: Candidate) -> Candidate:
        """The candidate with this remark's score; as it is, where there is none."""
        return candidate if self.score is None else replace(candidate, score=self.score)


def unsaid(why: str) -> Remark:
    """No remark, and why there is none."""
    return Remark(score=noted(None, why))


def noted(score: Score | None, why: str) -> Score:
    """A score that also tells what went wrong, in one line."""
    told = " ".join(why.split())
    return Score(math.nan, error=told) if score is None else replace(score, error=score.error or told)


class Feedback(Protocol):
    """Remarks on candidates: one each, in order, all asked for together."""

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]: ...


def verdict_in(text: str) -> bool | None:
    """What the last line "Verdict: right" (or wrong, correct, incorrect) of a reply says; None where there is none.

    >>> verdict_in("Verdict: right? No.\\n**Verdict:** wrong"), verdict_in("It is right.")
    (False, None)
    """
    found = list(_VERDICT.finditer(text))
    if not found:
        return None
    negated, word = found[-1][1], found[-1][2].lower()
    good = word in ("right", "correct")
    return None if negated and not good else good and not negated


def no_verdict(text: str) -> bool | None:
    """For critics that are asked for words alone."""
    return None


def silence(reply: Completion) -> str:
    """Why a reply has no words in it."""
    if reply.error:
        return reply.error
    told = {"budget": "the budget has no room for it", "length": "there is no room for it in the model's context"}
    return "nothing was said" if reply.text else told.get(reply.finish_reason, "an empty reply")


@dataclass(frozen=True)
class Critic:
    """`model` reads each answer, without its thinking, and says what is wrong with it.

    In the prompt {problem}, {solution} and {remarks} (what was said of it before, see `Explained`) are filled in. `read`
    finds the verdict in a reply. A reply without a verdict has its words, no verdict, and nan as its score that says so;
    one that was cut off gives no verdict either. One call for all, `max_tokens` tokens a reply at most.
    """

    model: Model
    prompt: str = CRITIC_PROMPT
    temperature: float = 0.7
    max_tokens: int = 1024
    read: Callable[[str], bool | None] = verdict_in
    __repr__ = shown

    def __post_init__(self) -> None:
        if "{solution}" not in self.prompt:
            raise BadInput(f"Critic: the prompt {self.prompt!r} has no {{solution}} in it")

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        return await self.explain(candidates, [""] * len(candidates), run)

    async def explain(self, candidates: Sequence[Candidate], told: Sequence[str], run: Run) -> list[Remark]:
        """`comment`, the model being shown what was said of each before."""
        contexts = [self._context(c, said) for c, said in zip(candidates, told, strict=True)]
        sampling = Sampling(self.temperature, max_tokens=self.max_tokens)
        return [self._remark(reply) for reply in await self.model.generate(contexts, run, sampling=sampling)]

    def _context(self, candidate: Candidate, said: str) -> Context:
        parts = {"problem": candidate.problem.prompt, "solution": presented(candidate), "remarks": said or NOTHING_SAID}
        return Context((Message("user", filled(self.prompt, **parts)),))

    def _remark(self, reply: Completion) -> Remark:
        if not (text := after_thinking(reply.text)):
            return unsaid(f"{self.model.name}: {silence(reply)}")
        right = self.read(text) if reply.finish_reason in ("eos", "stop") else None
        if right is None and self.read is not no_verdict:
            return Remark(
                text, None, Score(math.nan, error=f"{self.model.name}: no verdict could be read in its remarks")
            )
        return Remark(text, right)


Wording: TypeAlias = Callable[[Candidate, Score, float], str]
"""Words made from a score; the number is the best score that there is, inf where it is not known."""


def weakest_step(candidate: Candidate, score: Score, best: float) -> str:
    """The score, and which step scored lowest: the first of equals. A verifier's own `error` is passed on.

    >>> from reasonweave.orchestrator import Problem, Step
    >>> two = Candidate(Problem("q"), (Step("1 + 1 = 3\\n\\n", "m", 5), Step("So 3.", "m", 2)))
    >>> print(weakest_step(two, Score(0.3, (0.1, 0.9)), 1.0))
    A checker gave this solution 0.3, where 1 is the best. Step 1 of 2 scored lowest, 0.1:
    1 + 1 = 3
    """
    scale = f", where {best:.4g} is the best" if math.isfinite(best) else ""
    said = f"A checker gave this solution {score.value:.2g}{scale}."
    known = [(value, at) for at, value in enumerate(score.steps) if not math.isnan(value)]
    passages = candidate.passages
    if known and len(score.steps) == len(passages):
        value, at = min(known)
        said += f" Step {at + 1} of {len(passages)} scored lowest, {value:.2g}:\n{passages[at].strip()}"
    return f"{said}\nIt says: {score.error}" if score.error else said


@dataclass(frozen=True)
class Scores:
    """A verifier's scores, put into words by `words`.

    The verdict is right from `threshold` on; with None there is no verdict. One that the verifier could not judge (nan) has no
    words and no verdict. Raises `BadInput` for a verifier that compares candidates with one another.
    """

    verifier: Verifier
    threshold: float | None = 0.5
    words: Wording = weakest_step
    __repr__ = shown

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        best = range_of(self.verifier)[1]
        scores = await scored(self.verifier, candidates, run)
        return [self._remark(c, score, best) for c, score in zip(candidates, scores, strict=True)]

    def _remark(self, candidate: Candidate, score: Score, best: float) -> Remark:
        if math.isnan(score.value):
            return Remark(score=score)
        right = None if self.threshold is None else score.value >= self.threshold
        return Remark(self.words(candidate, score, best), right, score)


@dataclass(frozen=True)
class Confirmed:
    """A check in two stages: `second` is asked about what `first` calls right, and right is what both do.

    Put the cheaper one first. What `first` does not call right keeps its remark; the others have the words and the verdict of
    `second`, and its score where it has one.
    """

    first: Feedback
    second: Feedback

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        remarks = await self.first.comment(candidates, run.child("first"))
        passed = [i for i, remark in enumerate(remarks) if remark.right]
        if passed:
            later = await self.second.comment([candidates[i] for i in passed], run.child("second"))
            for i, remark in zip(passed, later, strict=True):
                remarks[i] = replace(remark, score=remarks[i].score if remark.score is None else remark.score)
        return remarks


@dataclass(frozen=True)
class Explained:
    """The verdicts and scores of `first`; what it does not call right has the words of `critic`, who is shown those of `first`.

    Where the critic says nothing, the words of `first` stay, and the score's `error` tells why.
    """

    first: Feedback
    critic: Critic

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        remarks = await self.first.comment(candidates, run.child("first"))
        open_ = [i for i, remark in enumerate(remarks) if not remark.right]
        if open_:
            told = [remarks[i].text for i in open_]
            words = await self.critic.explain([candidates[i] for i in open_], told, run.child("words"))
            for i, said in zip(open_, words, strict=True):
                if said.text:
                    remarks[i] = replace(remarks[i], text=said.text)
                elif said.score is not None and said.score.error:
                    remarks[i] = replace(remarks[i], score=noted(remarks[i].score, said.score.error))
        return remarks


@dataclass(frozen=True)
class Unheeded:
    """The words and scores of a feedback without its verdicts: for loops that go on whatever is said."""

    feedback: Feedback

    async def comment(self, candidates: Sequence[Candidate], run: Run) -> list[Remark]:
        return [replace(remark, right=None) for remark in await self.feedback.comment(candidates, run)]
