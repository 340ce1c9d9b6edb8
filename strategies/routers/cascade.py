"""A cascade: a cheap flow first, a dearer one where it is not sure of its answer; and what tells how sure it is."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from reasonweave.orchestrator.answers import after_thinking, json_objects
from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.confidence import Measure
from reasonweave.orchestrator.drive import afforded, drive
from reasonweave.orchestrator.errors import BadInput, Path
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import absolute, scored
from reasonweave.orchestrator.shares import Share
from reasonweave.orchestrator.signals import told, uncertainty
from reasonweave.orchestrator.types import (
    DELIMITER,
    Candidate,
    Candidates,
    Completion,
    Context,
    Message,
    Sampling,
    Score,
    shown,
)
from reasonweave.strategies.aggregators.vote import foremost, score_of

SELF_VERIFY_PROMPT = """\
How sure are you that the answer above is right? Reply with one JSON object and nothing else:
{"confidence": a number from 0 (certainly wrong) to 1 (certainly right)}"""

AUTOMIX_PROMPT = """\
Check whether an answer to a problem is right. First check it in a sentence or two, then give a verdict, YES or NO.

Problem: A box holds 12 eggs. How many eggs are in 3 boxes?
Answer: 36
Check: 3 boxes of 12 eggs are 3 * 12 = 36 eggs.
Verdict: YES

Problem: Tom has 15 marbles and gives away 7. How many are left?
Answer: 22
Check: He gives marbles away, so there must be fewer than 15. 15 - 7 = 8, not 22.
Verdict: NO

Problem: What is the next prime after 13?
Answer: 15
Check: 15 = 3 * 5 is no prime. The next prime is 17.
Verdict: NO

Problem: {problem}
Answer: {answer}
Check:"""

_VERDICT = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)
_SPAN = 3.0
"""Nats over which the two scores by log-probability spread, as published."""


Arrows: TypeAlias = dict[tuple[Path, Path], str]
"""Which of the parts `inside` a strategy comes before which, and on what condition, in words: for drawing."""


class Confidence(Protocol):
    """How sure a tier of a cascade may be of its answer: a number in 0..1; nan, and an `error`, where it cannot be told."""

    @property
    def enough(self) -> float:
        """From which value on the answer stands, where a tier has no threshold of its own."""

    async def read(self, candidates: Candidates, run: Run) -> Score: ...


@dataclass(frozen=True)
class Tier:
    """One flow of a cascade: its answer stands where `confidence` reads `threshold` (None: its own `enough`) or more in it.

    The last tier needs no confidence. `budget` limits what the flow may spend; what it has by then is what counts.
    """

    strategy: Strategy
    confidence: Confidence | None = None
    threshold: float | None = None
    budget: Budget | Share | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, Strategy) or isinstance(self.strategy, type):
            raise BadInput(f"Tier({self.strategy!r:.80}): a strategy is needed, as chain(BestOfN(…), majority)")


UNTOLD = Score(math.nan, error="the budget has no room to ask how sure it is")
"""The confidence that could not be afforded."""


@dataclass(frozen=True)
class Cascade:
    """Flows in order, cheap ones first; the answer of the first that is sure enough stands, else that of the last.

    A tier starts from the problem, not from what the one before wrote. One that gives no answer, or abstains, is not sure, and
    neither is one whose confidence cannot be told: the candidate behind its answer says why in `Score.error`. Where a later tier
    gives no answer (a budget may be spent), the one there was stands. The confidence that was read becomes that of the set; the
    last tier's is its own.
    """

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        if not self.tiers or any(tier.confidence is None for tier in self.tiers[:-1]):
            raise BadInput(f"Cascade of {len(self.tiers)}: every tier but the last needs a confidence to stop by")

    @property
    def inside(self) -> dict[Path, object]:
        """The flows and what tells how sure they are, by where they run."""
        found: dict[Path, object] = {("tier", i): tier.strategy for i, tier in enumerate(self.tiers)}
        return found | {
            ("confidence", i): tier.confidence for i, tier in enumerate(self.tiers) if tier.confidence is not None
        }

    @property
    def arrows(self) -> Arrows:
        """In which order the flows are asked, and when."""
        found: Arrows = {}
        for i, tier in enumerate(self.tiers[:-1]):
            if tier.confidence is not None:
                enough = tier.confidence.enough if tier.threshold is None else tier.threshold
                found[("tier", i), ("confidence", i)] = ""
                found[("confidence", i), ("tier", i + 1)] = f"below {enough:.3g}"
        return found

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        standing: Candidates | None = None
        for i, tier in enumerate(self.tiers):
            found = await drive(tier.strategy, roots, run.child("tier", i, budget=tier.budget))
            if standing is None or found.abstains or answering(found):
                standing = found
            yield standing
            if i == len(self.tiers) - 1 or tier.confidence is None:
                return
            if found.abstains or not answering(found):
                continue
            score = await afforded(tier.confidence.read(found, run.child("confidence", i)), run) or UNTOLD
            standing = told_with(found, score)
            yield standing
            if score.value >= (tier.confidence.enough if tier.threshold is None else tier.threshold):
                return


def answering(candidates: Candidates) -> list[Candidate]:
    """The candidates behind a set's answer (its best candidate's, where none was concluded), the best of them first; the best of
    all where nobody says what was concluded; none without an answer."""
    best = candidates.best
    answer = candidates.answer if candidates.answer is not None or best is None else best.answer
    if answer is None or best is None:
        return []
    behind = [c for c in candidates if c.answer is not None and c.problem.answers.same(answer, c.answer)] or [best]
    first = foremost(candidates, behind, [score_of(c) for c in behind])
    return [first, *(c for c in behind if c is not first)]


def told_with(found: Candidates, score: Score) -> Candidates:
    """A set with the confidence that was read in it; why it could not be stands with the best candidate behind its answer."""
    known = replace(found, confidence=min(1.0, max(0.0, score.value)) if not math.isnan(score.value) else None)
    if score.error is None:
        return known
    first = answering(found)[0]
    marked = replace(first, score=replace(first.score or Score(math.nan), error=score.error))
    return replace(known, items=tuple(marked if c is first else c for c in known))


def avg_logprob(candidate: Candidate) -> float:
    """(x + 3) / 3 within 0..1, x being the mean log-probability of the tokens: 1 for certainty, 0 from −3 nats on.

    nan where log-probabilities are not known of every step.
    """
    return min(1.0, max(0.0, 1 - uncertainty(*candidate.steps) / _SPAN)) if candidate.logprob is not None else math.nan


def margin(candidate: Candidate) -> float:
    """1 − exp(−m / 3), m being the mean difference of the two highest log-probabilities of a token, in nats.

    For policies that keep two alternatives or more (`top_logprobs`). Tokens without two are left out; nan where all are.
    """
    gaps = [t.top[0][1] - t.top[1][1] for t in told(candidate.steps) if len(t.top) > 1 and t.top[1][1] > -math.inf]
    return -math.expm1(-math.fsum(gaps) / len(gaps) / _SPAN) if gaps else math.nan


def hybrid(candidate: Candidate) -> float:
    """Half `avg_logprob`, half `margin`."""
    return (avg_logprob(candidate) + margin(candidate)) / 2


@dataclass(frozen=True)
class Measured:
    """The mean of a measure over the candidates behind the answer: `Measured(avg_logprob, 2 / 3)`. Costs nothing."""

    of: Measure
    enough: float
    __repr__ = shown

    async def read(self, candidates: Candidates, run: Run) -> Score:
        values = [value for c in answering(candidates) if not math.isnan(value := self.of(c))]
        if not values:
            return Score(math.nan, error=f"{_name(self.of)}: the log-probabilities that it reads were not kept")
        return Score(math.fsum(values) / len(values))


@dataclass(frozen=True)
class Agreement:
    """The confidence that the tier has of itself: of a majority vote, its share of the votes."""

    enough: float = 0.5

    async def read(self, candidates: Candidates, run: Run) -> Score:
        if candidates.confidence is None:
            return Score(math.nan, error="agreement: the tier ends with no vote that gives a confidence")
        return Score(candidates.confidence)


@dataclass(frozen=True)
class Verified:
    """A verifier's score of the best candidate behind the answer: with `SelfCheck`, P(True) from one token."""

    verifier: Verifier
    enough: float = 0.5

    def __post_init__(self) -> None:
        absolute(self.verifier, type(self).__name__)

    async def read(self, candidates: Candidates, run: Run) -> Score:
        (score,) = await scored(self.verifier, answering(candidates)[:1], run)
        return score


@dataclass(frozen=True)
class SelfVerify:
    """The model is shown its solution and asked how sure it is, 0 to 1 in JSON. A reply that cannot be read is no confidence."""

    model: Model
    enough: float = 0.7
    temperature: float = 0.1
    max_tokens: int = 256
    prompt: str = SELF_VERIFY_PROMPT

    async def read(self, candidates: Candidates, run: Run) -> Score:
        first = answering(candidates)[0]
        solution = Message("assistant", after_thinking(first.text) or first.text)
        context = Context((*first.problem.messages, solution, Message("user", self.prompt)))
        (reply,) = await self.model.generate(
            [context], run, sampling=Sampling(self.temperature, max_tokens=self.max_tokens)
        )
        found = confidence_in(reply.text)
        return Score(math.nan, error=f"self-verify: no confidence in {_said(reply)}") if found is None else Score(found)


def confidence_in(text: str) -> float | None:
    """The confidence of the first JSON object that has one in 0..1; None where there is none.

    >>> confidence_in('Sure: {"confidence": 0.9}'), confidence_in('{"confidence": 90}'), confidence_in("0.9")
    (0.9, None, None)
    """
    for found in json_objects(after_thinking(text)):
        value = found.get("confidence")
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
    return None


@dataclass(frozen=True)
class AutoMix:
    """AutoMix's self-verification (Aggarwal et al., 2023, arXiv 2310.12963): k verdicts on the answer, the share that say YES.

    The prompt has three checked answers as examples; blanks are {problem} and {answer}. The first verdict is greedy, the others
    are sampled. One that cannot be read is no YES; where none can, there is no confidence.
    """

    model: Model
    k: int = 5
    enough: float = 0.7
    temperature: float = 0.7
    max_tokens: int = 128
    prompt: str = AUTOMIX_PROMPT

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadInput(f"AutoMix(k={self.k}): 1 or more")

    async def read(self, candidates: Candidates, run: Run) -> Score:
        first = answering(candidates)[0]
        shown_as = filled(self.prompt, problem=first.problem.prompt, answer=first.answer or "")
        context = Context((Message("user", shown_as),))
        replies: list[Completion] = []
        for label, heat, count in (("greedy", 0.0, 1), ("sampled", self.temperature, self.k - 1)):
            sampling = Sampling(heat, max_tokens=self.max_tokens, stop=(DELIMITER,))
            replies += await self.model.generate([context] * count, run.child(label), sampling=sampling)
        verdicts = [verdict_in(reply.text) for reply in replies]
        if unread := [reply for reply, verdict in zip(replies, verdicts, strict=True) if verdict is None]:
            told = f"automix: {len(unread)} of {self.k} verdicts could not be read, as {_said(unread[0])}"
            return Score(math.nan if len(unread) == self.k else verdicts.count(True) / self.k, error=told)
        return Score(verdicts.count(True) / self.k)


def verdict_in(text: str) -> bool | None:
    """Whether the last yes or no in a reply is a yes; None where there is neither.

    >>> verdict_in("No number is missing. Verdict: YES"), verdict_in("Verdict: no"), verdict_in("nothing of note")
    (True, False, None)
    """
    words = _VERDICT.findall(after_thinking(text))
    return words[-1].lower() == "yes" if words else None


def _said(reply: Completion) -> str:
    """A reply as an error shows it."""
    return repr(reply.text[:80]) if reply.text else f"a reply that ended with {reply.finish_reason!r}"


def _name(measure: Measure) -> str:
    return getattr(measure, "__name__", None) or repr(measure)
