"""How long a model thinks: an end as soon as a trial answer is sure (DEER), first slower and then faster (AlphaOne), or not at
all (NoThinking)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeAlias

from reasonweave.orchestrator.answers import box_end
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, asked_once
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Completion, Context, Sampling, shown
from reasonweave.strategies.policies.budget_forcing import END, WAIT, closed, opening
from reasonweave.strategies.policies.sample import continued, put_in

PROBED, PREFILL = "probed", "prefill"
"""Labels of steps: one that ends with a cue at which a probe was not sure enough, and a thought that nobody thought."""

FINAL = "**Final Answer**\n\n\\boxed{"
"""The words that ask for an answer now."""

Confidence: TypeAlias = Callable[[Sequence[float]], float]
"""From the probabilities of an answer's tokens, at least one, to how sure the model is of it, 0 to 1."""


def arithmetic(probabilities: Sequence[float]) -> float:
    """Their mean, DEER's default.

    >>> arithmetic([0.5, 1.0]), round(geometric([0.25, 1.0]), 9), lowest([0.5, 1.0])
    (0.75, 0.5, 0.5)
    """
    return math.fsum(probabilities) / len(probabilities)


def geometric(probabilities: Sequence[float]) -> float:
    """Their geometric mean, 0 where one of them is 0: what DEER takes for models that are sure too easily."""
    return math.exp(math.fsum(map(math.log, probabilities)) / len(probabilities)) if min(probabilities) > 0 else 0.0


def lowest(probabilities: Sequence[float]) -> float:
    """The lowest of them."""
    return min(probabilities)


@dataclass(frozen=True)
class DEER:
    r"""Dynamic early exit in reasoning (Yang et al., 2025, arXiv 2504.15895): at each cue, is the answer sure already?

    Where the model writes one of `cues`, it is paused before it, and a probe asks for the answer: `probe`, then at most
    `probe_tokens` tokens, greedily, which are charged and thrown away. `confidence` is taken over the probabilities of the
    answer's tokens, up to the one that closes the box. At `threshold` or above, thinking ends and the model answers; below it,
    the cue is kept and thinking goes on. No solution is probed more than `probes` times.

    With a `length`, a solution has at most so many tokens, of which thinking may take `share`; then it is ended.

    Ending thinking means writing `think_end`. For models without think tags set `think_end=""`: then it means writing `probe`
    for good. What is put in costs nothing and is nobody's (`Step.author` is ""). One extension goes on to the next cue, and
    after the end of thinking to the end of the answer. Servers that tell no log-probabilities are never sure.
    """

    model: Model
    threshold: float = 0.95
    cues: tuple[str, ...] = ("Wait", "Alternatively")
    probe: str = FINAL
    probe_tokens: int = 20
    probes: int = 10
    confidence: Confidence = arithmetic
    think_end: str = "</think>"
    length: int | None = None
    share: float = 0.9
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024

    __repr__ = shown

    def __post_init__(self) -> None:
        if not self.probe or not self.cues or self.probe_tokens < 1 or self.probes < 0:
            told = f"probe={self.probe!r}, cues={self.cues!r}, probe_tokens={self.probe_tokens}, probes={self.probes}"
            raise BadInput(f"DEER({told}): it takes a text, a cue or more, 1 or more, and 0 or more")
        if not 0 < self.share < 1 or (self.length is not None and self.length < 2):
            raise BadInput(
                f"DEER(length={self.length}, share={self.share}): length is 2 or more, share between 0 and 1"
            )

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """A call for each ceiling and set of stops that occurs in the batch, and one for the probes."""
        items = [self._limited(candidate) for candidate in candidates]
        asked = [self._sampling(candidate) for candidate in items]
        written = await generated(self.model, items, asked, run.child("write"))
        found = [cue_at(new, self.cues, sampling) for new, sampling in zip(written, asked, strict=True)]
        paused = {i: at for i, at in enumerate(found) if at is not None}
        texts = {i: items[i].text + written[i].text[:at] for i, at in paused.items()}
        contexts = [Context(items[i].problem.messages, text + opening(text, self.probe)) for i, text in texts.items()]
        greedy = Sampling(0.0, max_tokens=self.probe_tokens)
        probes = dict(zip(paused, await asked_once(self.model, contexts, run.child("probe"), greedy), strict=True))
        made = []
        for i, (old, new) in enumerate(zip(items, written, strict=True)):
            if i not in paused:
                made.append(self._ended(grown(old, new, self.model.name)))
            elif self._sure(probes[i]) >= self.threshold:
                before = grown(old, shortened(new, paused[i]), self.model.name)
                made.append(closing(before, self.think_end, self.probe))
            else:
                on = grown(old, new, self.model.name)
                made.append(replace(on, steps=(*on.steps[:-1], replace(on.steps[-1], label=PROBED))))
        return made

    def _sampling(self, candidate: Candidate) -> Sampling:
        """What to ask for next: the answer, or a thought up to the next cue."""
        over = closed(candidate, self.think_end)
        probed = sum(step.label == PROBED for step in candidate.steps)
        cues = self.cues if probed < self.probes else ()
        stops = () if over else (*cues, *filter(None, (self.think_end,)))
        room = self.max_tokens
        if self.length is not None:
            room = min(room, max(1, (self.length if over else self._thinking) - candidate.tokens))
        return Sampling(self.temperature, self.top_p, max_tokens=room, stop=stops)

    @property
    def _thinking(self) -> int:
        """Tokens that thinking may take."""
        return max(1, int(self.share * (self.length or 0)))

    def _limited(self, candidate: Candidate) -> Candidate:
        """Ends the thinking of a candidate that has taken its share."""
        if self.length is None or candidate.tokens < self._thinking or closed(candidate, self.think_end):
            return candidate
        return closing(candidate, self.think_end, self.probe)

    def _ended(self, candidate: Candidate) -> Candidate:
        full = self.length is not None and candidate.tokens >= self.length
        return replace(candidate, done=True) if full else candidate

    def _sure(self, said: Completion) -> float:
        """Of a probe; 0 where it gives no answer, nan where its probabilities are not known."""
        end = box_end(said.text)
        kept = said if end is None else shortened(said, end)
        if said.finish_reason == "error" or not kept.tokens or not kept.text.strip("} \n"):
            return 0.0
        known = [math.exp(token.logprob) for token in kept.tokens if token.logprob is not None]
        return self.confidence(known) if len(known) == len(kept.tokens) else math.nan


@dataclass(frozen=True)
class AlphaOne:
    r"""AlphaOne (Zhang et al., 2025, arXiv 2505.24863): think slowly first, then fast.

    `typical` is L, how many tokens the model thinks on average; measure it. Until a solution has α·L tokens, `word` is written
    after each paragraph with the probability 1 − t / (α·L), t being its tokens so far, by the run's own numbers. From then on,
    the next `word` that the model writes is replaced by the end of thinking, and the model answers.

    Ending thinking means writing `think_end`. For models without think tags set `think_end=""`: then it means writing `final`.
    What is put in costs nothing and is nobody's (`Step.author` is ""). One extension is a paragraph at first, afterwards what
    comes up to the end of thinking or of the answer.
    """

    model: Model
    typical: float
    alpha: float = 1.4
    word: str = "Wait"
    think_end: str = "</think>"
    final: str = FINAL
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if not self.typical > 0 or not self.alpha > 0 or not self.word or not (self.think_end or self.final):
            told = f"typical={self.typical}, alpha={self.alpha}, word={self.word!r}, think_end={self.think_end!r}"
            raise BadInput(f"AlphaOne({told}): numbers above 0, a word, and an end tag or a final text are needed")

    def chance(self, tokens: int) -> float:
        """The probability of a `word` after a paragraph that ends a solution's first so many tokens."""
        return max(0.0, 1 - tokens / (self.alpha * self.typical))

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """At most three calls: for slow thinking, for fast thinking and for answers."""
        points = run.child(WAIT).rng().random(len(candidates)).tolist()
        items = [self._slowed(candidate, point) for candidate, point in zip(candidates, points, strict=True)]
        asked = [self._sampling(candidate) for candidate in items]
        written = await generated(self.model, items, asked, run.child("write"))
        made = []
        for old, new, sampling in zip(items, written, asked, strict=True):
            if (at := cue_at(new, (self.word,), sampling)) is None:
                made.append(grown(old, new, self.model.name))
            else:
                before = grown(old, shortened(new, at), self.model.name)
                made.append(closing(before, self.think_end, self.final))
        return made

    def _slowed(self, candidate: Candidate, point: float) -> Candidate:
        thinks = candidate.text.endswith(DELIMITER) and not closed(candidate, self.think_end)
        return (
            put_in(candidate, self.word, label=WAIT) if thinks and point < self.chance(candidate.tokens) else candidate
        )

    def _sampling(self, candidate: Candidate) -> Sampling:
        stops: tuple[str, ...] = ()
        if not closed(candidate, self.think_end):
            stops = (DELIMITER if self.chance(candidate.tokens) else self.word, *filter(None, (self.think_end,)))
        return Sampling(self.temperature, self.top_p, max_tokens=self.max_tokens, stop=stops)


@dataclass(frozen=True)
class NoThinking:
    r"""NoThinking (Ma et al., 2025, arXiv 2504.09858): a thought that is over before it began, and then any policy.

    Each solution begins with `thought`, which nobody wrote and which costs nothing but its place in the prompt. The chat
    template of most reasoning models has opened the think block by then; where the model does that itself, `thought` begins
    with ``<think>\n``. For models without think tags it is the beginning of the answer, such as "The answer is".
    """

    policy: StepPolicy
    thought: str = "Okay, I think I have finished thinking.\n</think>\n\n"

    def __post_init__(self) -> None:
        if not self.thought:
            raise BadInput("NoThinking(thought=''): without a thought it is the policy alone; give it one")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """The policy's calls."""
        begun = [c if c.steps else put_in(c, self.thought, label=PREFILL) for c in candidates]
        return await self.policy.extend(begun, run)


# What policies that end thinking share.


def closing(candidate: Candidate, think_end: str, final: str) -> Candidate:
    """The candidate with its thinking ended: by the tag or, where there is none, by the words that ask for the answer."""
    end = f"{think_end}{DELIMITER}" if think_end else final
    return put_in(candidate, opening(candidate.text, end), label=END)


async def generated(
    model: Model, candidates: Sequence[Candidate], asked: Sequence[Sampling], run: Run
) -> list[Completion]:
    """What the model writes after each candidate, in order: a call for each sampling that occurs."""
    which: dict[Sampling, list[int]] = {}
    for i, sampling in enumerate(asked):
        which.setdefault(sampling, []).append(i)
    found: dict[int, Completion] = {}
    for k, (sampling, some) in enumerate(which.items()):
        contexts = [candidates[i].context for i in some]
        found |= zip(some, await model.generate(contexts, run.child(k), sampling=sampling), strict=True)
    return [found[i] for i in range(len(candidates))]


def grown(candidate: Candidate, written: Completion, author: str) -> Candidate:
    """The candidate with what was written; where that stops in the middle of a paragraph, its last step is open."""
    new = continued(candidate, written, author, whole=False)
    if new.done or len(new.steps) == len(candidate.steps) or written.text.endswith(DELIMITER):
        return new
    return replace(new, steps=(*new.steps[:-1], replace(new.steps[-1], open=True)))


def cue_at(written: Completion, cues: Sequence[str], asked: Sampling) -> int | None:
    """Where the cue begins at which a model was stopped, spaces before it included; None where it was not, or within a word.

    >>> asked = Sampling(stop=("Wait",))
    >>> cue_at(Completion("so 3. Wait", "stop"), ("Wait",), asked), cue_at(Completion("a KWait", "stop"), ("Wait",), asked)
    (5, None)
    """
    before = (written.text.removesuffix(cue) for cue in cues if cue in asked.stop and written.text.endswith(cue))
    return next((len(text.rstrip(" ")) for text in before if not text[-1:].isalnum()), None)


def shortened(written: Completion, length: int) -> Completion:
    """A completion's first `length` characters and the tokens that begin in them, as if it had stopped there."""
    starts = accumulate((len(token.text) for token in written.tokens), initial=0)
    kept = tuple(token for token, start in zip(written.tokens, starts, strict=False) if start < length)
    return replace(written, text=written.text[:length], tokens=kept, finish_reason="stop")
