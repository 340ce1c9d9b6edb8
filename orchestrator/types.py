"""The data that flows: problems, candidates, requests' ingredients, usage. All frozen and slotted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from inspect import isroutine
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from reasonweave.orchestrator.answers import BoxedAnswers
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import AnswerSpace

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "eos", "length", "budget", "error", "cancelled"]
"""Why a completion ended: a stop string, the model's own end, its token limit, the run's budget, a failed request, or a
caller that no longer wanted it."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DELIMITER = "\n\n"
"""What separates two reasoning steps; it stays in the text of the step before it."""

CUT = "cut"
"""The label of a step in whose middle a watch ended the writing."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_BOXED = BoxedAnswers()


def softmax(logs: FloatArray, temperature: float = 1.0) -> FloatArray:
    """exp(logs / temperature), normalised, shape (n,). Where all logs are -inf (or nan) all are equal; +inf shares everything.

    >>> softmax(np.log(np.array([1.0, 3.0]))).round(2).tolist(), softmax(np.log(np.array([1.0, 9.0])), 2.0).round(2).tolist()
    ([0.25, 0.75], [0.25, 0.75])
    """
    logs = np.nan_to_num(logs, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    top = logs.max(initial=-np.inf)
    weights = np.exp((logs - top) / temperature) if np.isfinite(top) else (logs == top).astype(np.float64)
    return np.asarray(weights / weights.sum() if len(weights) else weights, dtype=np.float64)


def shown(part: object) -> str:
    """A dataclass as its repr, with functions by their names, so that the text is the same in every process.

    For classes that have functions among their fields: ``__repr__ = shown``.
    """
    values = ((each.name, getattr(part, each.name)) for each in fields(part) if each.repr)  # type: ignore[arg-type]
    inner = ", ".join(f"{name}={value.__name__ if isroutine(value) else repr(value)}" for name, value in values)
    return f"{type(part).__qualname__}({inner})"


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What to solve. `answers` decides what an answer is; `meta` is carried along and never shown to a model."""

    prompt: str
    id: str = ""
    answers: AnswerSpace = _BOXED
    meta: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, compare=False)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The chat that asks for a solution."""
        return (Message("user", self.prompt),)


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token: its text, its natural log-probability at temperature 1 (the model's own, before top-p and
    top-k), and the `top_logprobs` most probable alternatives, most probable first."""

    text: str
    logprob: float | None = None
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One reasoning step. The texts of a candidate's steps, joined, are exactly what was generated.

    `author` names the model that wrote it; `tokens` is how many it took; `logprob` is the sum of their natural
    log-probabilities under the author at temperature 1 (None where the server gives none). `told` has the tokens with
    their alternatives where the policy asked for them. `open` says that the text stops in the middle of a step, and
    that the next one goes on with it. `label` is a policy's own note of why it is there ("cue", "recap").
    """

    text: str
    author: str
    tokens: int
    logprob: float | None = None
    told: tuple[Token, ...] = ()
    open: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """A verifier's judgement: `value`, higher is better; `steps`, one value a step where the verifier has them.

    A verifier that could not judge gives nan, which is below every number, and may say why in `error`.
    """

    value: float
    steps: tuple[float, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A partial or finished solution: a particle, beam, sample, tree node or vote.

    `log_weight` is its unnormalised log weight in the set; `score` the last verifier's; `failed` says that a request
    failed for good, so that this candidate ends without an answer and its siblings go on.
    """

    problem: Problem
    steps: tuple[Step, ...] = ()
    done: bool = False
    log_weight: float = 0.0
    score: Score | None = None
    failed: str | None = None

    @property
    def text(self) -> str:
        return "".join(step.text for step in self.steps)

    @property
    def context(self) -> Context:
        """What a model is given to go on with this candidate."""
        return Context(self.problem.messages, self.text)

    @property
    def passages(self) -> tuple[str, ...]:
        """The texts of the steps, each open one joined with what goes on after it: what reward models are shown."""
        parts, begun = list[str](), ""
        for step in self.steps:
            begun += step.text
            if not step.open:
                parts.append(begun)
                begun = ""
        return (*parts, begun) if begun else tuple(parts)

    @property
    def answer(self) -> str | None:
        """What the text so far gives as its answer; None abstains."""
        return self.problem.answers.extract(self.text) if self.steps else None

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.steps)

    @property
    def cut(self) -> bool:
        """Was its writing ended by a watch, so that it is no whole solution?"""
        return any(step.label == CUT for step in self.steps)

    @property
    def logprob(self) -> float | None:
        """Sum of the steps' log-probabilities; None where one of them is missing."""
        parts = [step.logprob for step in self.steps]
        return None if not parts or None in parts else math.fsum(p for p in parts if p is not None)

    def extend(self, *steps: Step, done: bool = False) -> Candidate:
        """This candidate with more steps; its score, which was of the shorter text, is dropped."""
        return replace(self, steps=self.steps + steps, done=done, score=None)


@dataclass(frozen=True, slots=True)
class Candidates:
    """An ordered set of candidates, and what has been concluded from them.

    `answer` and `confidence` (0 to 1) are an aggregator's conclusion; `stopped` says why a driven strategy ended early.
    `abstains` says that the conclusion is to give no answer ("I don't know"), which nothing after it fills in. `seed` is
    what aggregators break ties with, and draw with where they draw; a graph sets it from the run.
    """

    items: tuple[Candidate, ...] = ()
    answer: str | None = None
    confidence: float | None = None
    stopped: str | None = None
    abstains: bool = False
    seed: int = 0

    @classmethod
    def of(cls, *problems: Problem) -> Candidates:
        """One empty candidate a problem."""
        return cls(tuple(Candidate(problem) for problem in problems))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.items)

    def __getitem__(self, index: int) -> Candidate:
        return self.items[index]

    def __add__(self, other: Candidates) -> Candidates:
        """Concatenation; conclusions are dropped, because they were about the parts, but that both give none on purpose."""
        return Candidates(self.items + other.items, abstains=self.abstains and other.abstains)

    @property
    def log_weights(self) -> FloatArray:
        return np.array([c.log_weight for c in self.items], dtype=np.float64)

    @property
    def weights(self) -> FloatArray:
        """Normalised weights, shape (n,), summing to 1. Where all log weights are -inf (or nan), they are equal."""
        return softmax(self.log_weights)

    @property
    def log_evidence(self) -> float:
        """The log of the mean weight, which a properly weighted set (a particle filter's with ratio weights) has for an
        unbiased estimate of the evidence, the normalising constant of what it stands for. -inf for an empty set."""
        logs = np.nan_to_num(self.log_weights, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        top = logs.max(initial=-np.inf)
        return float(top + np.log(np.exp(logs - top).mean())) if np.isfinite(top) else float(top)

    @property
    def ess(self) -> float:
        """Effective sample size, 1 / Σ wᵢ² (Kong, 1992): n for equal weights, 1 for a single survivor."""
        return float(1 / np.square(self.weights).sum()) if self.items else 0.0

    @property
    def all_done(self) -> bool:
        return all(c.done for c in self.items)

    @property
    def best(self) -> Candidate | None:
        """The candidate to answer with when no aggregator has chosen: answered before unanswered, then the higher score,
        then the higher weight, then the earlier one."""

        def rank(candidate: Candidate) -> tuple[bool, float, float]:
            score = -math.inf if candidate.score is None or math.isnan(candidate.score.value) else candidate.score.value
            return candidate.answer is not None, score, candidate.log_weight

        return max(self.items, key=rank, default=None)

    def repeat(self, n: int) -> Candidates:
        """n candidates, the items in turn: of (a, b), three are (a, b, a)."""
        return Candidates(tuple(self.items[i % len(self.items)] for i in range(n))) if self.items else self

    def take(self, indices: Sequence[int] | IntArray) -> Candidates:
        """The candidates at these indices (repeats allowed), with equal weights: what resampling returns."""
        return Candidates(tuple(replace(self.items[int(i)], log_weight=0.0) for i in indices))

    def reweight(self, log_weights: Sequence[float] | FloatArray) -> Candidates:
        """The same candidates with these log weights, shape (n,)."""
        return self.of_items(replace(c, log_weight=float(w)) for c, w in zip(self.items, log_weights, strict=True))

    def scored(self, scores: Sequence[Score]) -> Candidates:
        """The same candidates with these verifier scores."""
        return self.of_items(replace(c, score=s) for c, s in zip(self.items, scores, strict=True))

    def of_items(self, items: Iterator[Candidate] | Sequence[Candidate]) -> Candidates:
        """The same set with other items; the conclusion is dropped."""
        return Candidates(tuple(items))

    def by_problem(self) -> dict[Problem, Candidates]:
        """The candidates of each problem, where a set has several, in the order of first appearance."""
        found: dict[Problem, list[Candidate]] = {}
        for candidate in self.items:
            found.setdefault(candidate.problem, []).append(candidate)
        return {problem: Candidates(tuple(own), seed=self.seed) for problem, own in found.items()}

    def fresh(self) -> Candidates:
        """One empty candidate for each distinct problem: where a new search of the same problems starts."""
        return Candidates.of(*dict.fromkeys(c.problem for c in self.items))


def _number(value: object) -> float:
    """A value as a number, nan where it is none: nan fails every comparison."""
    return float(value) if isinstance(value, int | float) else math.nan


def _check(name: str, value: object, holds: bool, wanted: str) -> None:
    if not holds:
        raise BadInput(f"{name}={value!r}: {name} is {wanted}")


@dataclass(frozen=True, slots=True)
class Context:
    """What a model continues: a chat, and the beginning of the assistant's next turn."""

    messages: tuple[Message, ...]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate. `max_tokens` is a ceiling a call; `stop` strings stay in the text; `top_logprobs` alternatives a token.

    `prefix_logprobs` also tells what the model thinks of the context's prefix, token by token (`Completion.prefix`). Servers
    compute the whole prompt anew for it, so it is no part of a hot path.
    """

    temperature: float = 0.8
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    prefix_logprobs: bool = False

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0 <= _number(self.temperature) < math.inf, "a number, 0 or more")
        _check("top_p", self.top_p, 0 < _number(self.top_p) <= 1, "in 0..1, above 0")
        _check("top_k", self.top_k, _number(self.top_k) >= 0, "0 (off) or more")
        _check("max_tokens", self.max_tokens, _number(self.max_tokens) >= 1, "1 or more")
        _check("top_logprobs", self.top_logprobs, _number(self.top_logprobs) >= 0, "0 or more")
        if isinstance(self.stop, str) or not all(isinstance(stop, str) and stop for stop in self.stop):
            raise BadInput(f"stop={self.stop!r}: give a tuple of texts, none of them empty")


@dataclass(frozen=True, slots=True)
class Usage:
    """What was spent. `prompt` includes `cached`; `flops` = 2 · active parameters · (uncached prompt + completion)."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    calls: int = 0
    flops: float = 0.0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: Usage) -> Usage:  # written out: every call adds some dozen of these
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
            self.calls + other.calls,
            self.flops + other.flops,
            self.usd + other.usd,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt - other.prompt,
            self.cached - other.cached,
            self.completion - other.completion,
            self.calls - other.calls,
            self.flops - other.flops,
            self.usd - other.usd,
        )

    @classmethod
    def total(cls, parts: Iterator[Usage] | Sequence[Usage]) -> Self:
        total = cls()
        for part in parts:
            total = total + part  # type: ignore[assignment]
        return total


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model generated for one context. `tokens` is empty where the server tells no tokens apart.

    `lost` is the part of `usage` that went into attempts that failed before this answer came. `prefix` has the tokens of the
    context's prefix where `Sampling.prefix_logprobs` asked for them.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage = Usage()
    tokens: tuple[Token, ...] = ()
    error: str | None = None
    lost: Usage = Usage()
    prefix: tuple[Token, ...] = ()

    @property
    def logprob(self) -> float | None:
        parts = [token.logprob for token in self.tokens]
        return None if not parts or None in parts else math.fsum(p for p in parts if p is not None)
