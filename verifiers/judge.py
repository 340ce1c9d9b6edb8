"""A model as judge: the utility digit of SpecReason (Pan et al., 2025), and how the replies of judges are asked for and read.

A reply that does not say what it was asked is `Unreadable`: the judgement then failed, and its score is nan and says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from reasonweave.orchestrator.answers import after_thinking, json_objects
from reasonweave.orchestrator.drive import afforded
from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Completion, Context, Message, Sampling, Score

T = TypeVar("T")

GRADE_PROMPT = "Grade the last step from 0 to 9 for correctness only. Reply with one digit."
GRADE_PREFIX = "Grade: "
AGAIN_PROMPT = "That could not be read: {why}. Reply once more, in the form that was asked for."

DIGITS = "0123456789"
ONE_TOKEN = Sampling(temperature=0.0, max_tokens=1, top_logprobs=20)
"""How a question is asked whose answer is one token."""

_NO_TEXT = {
    "budget": "the budget has no room for the judgement",
    "cancelled": "the judgement was cancelled",
    "length": "no room for a reply: what is asked fills the model's context",
}


class Unreadable(Exception):
    """A judge's reply, or its silence, from which no judgement can be read; the message says why, in one line."""


@dataclass(frozen=True)
class UtilityDigit:
    """A model's digit from 0 to 9 for the last step of each candidate (SpecReason; Pan et al., 2025).

    The value is the expected digit under the model's probabilities for the ten digits, renormalised; with
    `expected=False`, the greedy digit as in the paper's default. Where the server tells no alternatives, it is the greedy
    digit too. A reply without a digit is no judgement, nor is one that the budget or a failure prevented: nan, with the
    reason in `error`.

    Costs: one token of the model a candidate, on the cached prefix of its solution.
    """

    model: Model
    expected: bool = True
    prompt: str = GRADE_PROMPT
    prefix: str = GRADE_PREFIX

    lowest: ClassVar[float] = 0.0
    highest: ClassVar[float] = 9.0
    """The best score, for those who need scores in 0..1."""

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        asked = Message("user", self.prompt)
        contexts = [Context((*c.problem.messages, turn(c), asked), self.prefix) for c in candidates]
        return [judged(answer, self._digit) for answer in await asked_once(self.model, contexts, run, ONE_TOKEN)]

    def _digit(self, answer: Completion) -> float:
        shares = chances(answer if self.expected else replace(answer, tokens=()), DIGITS)
        return min(self.highest, math.fsum(digit * share for digit, share in enumerate(shares)))


def turn(candidate: Candidate) -> Message:
    """A candidate as the assistant's turn that a judge is asked about (see `spoken`)."""
    return spoken(candidate.text)


def spoken(text: str) -> Message:
    """A solution's text as the assistant's turn, its thinking left open: chat templates drop what stands before ``</think>`` in
    earlier turns."""
    return Message("assistant", text.replace("</think>", ""))


def presented(candidate: Candidate) -> str:
    """A candidate as text within a question: what it says after its thinking, all that there is while it still thinks.

    >>> from reasonweave.orchestrator import Problem, Step
    >>> [presented(Candidate(Problem("q"), (Step(text, "m", 4),))) for text in ("<think>4?</think> Four.", "<think>4?")]
    ['Four.', '4?']
    """
    return after_thinking(candidate.text) or candidate.text.replace("<think>", "").replace("</think>", "").strip()


def clipped(text: str, most: int = 60) -> str:
    """The beginning of a text, in quotes, for a message of one line."""
    line = " ".join(text.split())
    return repr(line if len(line) <= most else line[: most - 1] + "…")


def unanswered(answer: Completion) -> bool:
    """Did the budget or a failure keep the judge from answering?"""
    return answer.finish_reason in ("budget", "error", "cancelled") and not answer.text


def heard(answer: Completion) -> str:
    """What a judge says. Raises `Unreadable` where it says nothing at all, with the reason."""
    if answer.text.strip():
        return answer.text
    if answer.finish_reason == "error":
        raise Unreadable(answer.error or "the judge's request failed")
    raise Unreadable(_NO_TEXT.get(answer.finish_reason, "an empty reply"))


def judged(answer: Completion, read: Callable[[Completion], float]) -> Score:
    """What is read from a judge's answer as a score; nan with the reason where it is `Unreadable`."""
    try:
        return Score(read(answer))
    except Unreadable as why:
        return not_judged(why)


def not_judged(why: object) -> Score:
    """The score of a candidate that could not be judged."""
    return Score(math.nan, error=" ".join(str(why).split()))


def chances(answer: Completion, texts: Sequence[str]) -> list[float]:
    """How probable each text is as the beginning of an answer, among these texts: shares that sum to 1.

    Read from the first token's alternatives (`token_probabilities`); where the server tells none, from the answer itself, in
    which case one share is 1. Raises `Unreadable` where the answer begins with none of them.
    """
    told = bool(answer.tokens and answer.tokens[0].top)
    said = answer.text.strip() if told else heard(answer).strip()
    found = token_probabilities(answer, texts) if told else [float(wanted.startswith(said)) for wanted in texts]
    if not (total := math.fsum(found)) > 0:
        raise Unreadable(f"none of {', '.join(texts)} is among what the reply may begin with; it is {clipped(said)}")
    return [p / total for p in found]


def token_probabilities(answer: Completion, texts: Sequence[str]) -> list[float]:
    """The probability that the answer begins with each text, from its first token's top alternatives.

    White space aside, a token counts for a text that begins with it: a tokenizer may cut "False" after the F.
    """
    top = [(text.strip(), math.exp(logprob)) for text, logprob in (answer.tokens[0].top if answer.tokens else ())]
    return [sum(p for token, p in top if token and wanted.startswith(token)) for wanted in texts]


async def understood(
    model: Model, contexts: Sequence[Context], run: Run, read: Callable[[int, str], T], *, tries: int, max_tokens: int
) -> list[T | Unreadable]:
    """What a model replies to each context, greedily, as `read` reads it from the context's number and the reply.

    A reply that cannot be read (`read` raises `Unreadable`) is asked for once more, the model being shown its reply and what was
    wrong with it, up to `tries` replies in all; what is unreadable then, and what the budget or a failure left unsaid, comes
    back as the exception. Attempt k has the path `try/k` under `run`.
    """
    found: dict[int, T | Unreadable] = {}
    asking = dict(enumerate(contexts))
    for attempt in range(tries):
        sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
        work = asked_once(model, list(asking.values()), run.child("try", attempt), sampling)
        replies = await work if attempt == 0 else await afforded(work, run)
        if replies is None:  # what was readable stands
            break
        again = {}
        for (i, asked), reply in zip(list(asking.items()), replies, strict=True):
            try:
                said = heard(reply)
                found[i] = read(i, after_thinking(said))
            except Unreadable as why:
                cut = reply.finish_reason in ("budget", "length") and bool(reply.text)
                found[i] = Unreadable(f"{why} (cut off after {reply.usage.completion} tokens)" if cut else str(why))
                if reply.finish_reason in ("eos", "stop", "length") and reply.text.strip():
                    wrong = Message("user", filled(AGAIN_PROMPT, why=str(why)))
                    shown = Message("assistant", after_thinking(said) or "…")
                    again[i] = replace(asked, messages=(*contexts[i].messages, shown, wrong))
        if not again:
            break
        asking = again
    return [found[i] for i in range(len(contexts))]


def last_readable(text: str, read: Callable[[dict[str, Any]], T], wanted: str) -> T:
    """What `read` makes of the last JSON object in a text that it can read.

    Raises `Unreadable`: with what is wrong with the first object of the reply, or that there is none.
    """
    first: Unreadable | None = None
    found: list[T] = []
    for each in json_objects(text):
        try:
            found.append(read(each))
        except Unreadable as why:
            first = first or why
    if found:
        return found[-1]
    raise first or Unreadable(f"no JSON object with {wanted} in {clipped(text)}")


def number_in(value: object, lowest: float, highest: float, name: str) -> float:
    """A number of a JSON reply in this range. Raises `Unreadable` for anything else; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise Unreadable(f"{name} is {clipped(str(value))}, not a number from {lowest:g} to {highest:g}")
    return float(value)
