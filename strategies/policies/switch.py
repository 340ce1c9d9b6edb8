"""Two models take turns by how sure the one at work is: entropy-adaptive switching, fallback and rollback, nudging."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.signals import TOP, Signal, doubt, entropy, latest, told, windowed
from reasonweave.orchestrator.types import DELIMITER, Candidate, Completion, Sampling, Step, Token
from reasonweave.strategies.policies.sample import Sample, continued, labelled, put_in


@dataclass(frozen=True)
class Switch:
    """The rolling mean of a token signal decides who writes next: `large` above `threshold`, `small` at or below it.

    Entropy-adaptive decoding (EAD; Simonds, 2025, arXiv 2502.06833) at step level, with no verification. The mean runs over the
    last `window` tokens, whoever wrote them; after a change, the new writer keeps the pen for `dwell` steps at least. Both
    policies must keep their tokens (`Sample(…, top_logprobs=20)`); where the last step's are not told, the small one writes.
    Policies that label steps themselves (`Handoff`, `BudgetForcing`, `Nudge`) do not go inside: the labels are `Switch`'s own.
    """

    small: StepPolicy
    large: StepPolicy
    threshold: float
    window: int = 16
    signal: Signal = entropy
    dwell: int = 1

    def __post_init__(self) -> None:
        if self.window < 1 or self.dwell < 1:
            raise BadInput(f"Switch(window={self.window}, dwell={self.dwell}): both are 1 or more")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """Two calls, at the same time."""
        writers = [self._large(candidate) for candidate in candidates]
        parts = []
        for large in (False, True):
            which = [i for i, writer in enumerate(writers) if writer is large]
            parts.append((which, self.large if large else self.small, run.child("large" if large else "small")))
        extended = dict(enumerate(candidates))
        async with asyncio.TaskGroup() as group:
            made = [
                (which, group.create_task(_labelled(policy, [candidates[i] for i in which], where)))
                for which, policy, where in parts
                if which
            ]
        for which, task in made:
            extended |= zip(which, task.result(), strict=True)
        return [extended[i] for i in range(len(candidates))]

    def _large(self, candidate: Candidate) -> bool:
        labels = [step.label for step in candidate.steps]
        now = labels[-1] if labels else "small"
        streak = next((n for n, label in enumerate(reversed(labels)) if label != now), len(labels))
        if labels and streak < self.dwell and streak < len(labels):
            return now == "large"
        level = windowed(self.signal, latest(candidate.steps, self.window), self.window)
        return level > self.threshold  # nan is not


async def _labelled(policy: StepPolicy, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
    """Extend, and write the writer's name on the new steps."""
    label = str(run.path[-1])
    extended = await policy.extend(candidates, run)
    return [labelled(old, new, label) for old, new in zip(candidates, extended, strict=True)]


@dataclass(frozen=True)
class Fallback:
    """Big little decoding (BiLD; Kim et al., NeurIPS 2023, arXiv 2302.07863) at step level: fallback and rollback.

    The small model drafts a step. At the first token whose most probable alternative has a probability below `fallback`, the
    draft is cut, and the large model goes on from there to the end of the step. Before it does, it reads the small model's text
    since its own last turn: at the first token whose negative log-probability under the large model exceeds `rollback` (nats),
    the text is rolled back, and the large model goes on from there. With `rollback=inf` nothing is read.
    """

    small: Model
    large: Model
    fallback: float = 0.6
    rollback: float = 5.0
    until: str = DELIMITER
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """At most three calls: drafts, readings, continuations."""
        draft = Sample(
            self.small, self.until, self.temperature, self.top_p, max_tokens=self.max_tokens, top_logprobs=TOP
        )
        items = await draft.extend(candidates, run.child("draft"))
        places = [told(new.steps[len(old.steps) :]) for old, new in zip(candidates, items, strict=True)]
        unsure: list[int] = []
        whole = list(items)
        for i, (old, tokens) in enumerate(zip(candidates, places, strict=True)):
            at = next((n for n, token in enumerate(tokens) if doubt(token) > 1 - self.fallback), None)
            if at is not None and not items[i].failed:
                unsure.append(i)
                kept = sum(len(token.text) for token in tokens[:at])
                items[i] = cut(items[i], len(old.text) + kept, ended=False)
        if math.isfinite(self.rollback) and unsure:
            await self._roll_back(unsure, items, run.child("read"))
        if unsure:
            target = Sample(self.large, self.until, self.temperature, self.top_p, max_tokens=self.max_tokens)
            redone = await target.extend([items[i] for i in unsure], run.child("target"))
            for i, candidate in zip(unsure, redone, strict=True):
                stuck = (
                    candidate.steps == items[i].steps and not candidate.failed
                )  # no budget to go on: the draft is better
                items[i] = whole[i] if stuck else candidate
        return items

    async def _roll_back(self, which: list[int], items: list[Candidate], run: Run) -> None:
        texts = {i: _trailing(items[i], self.small.name) for i in which}
        asked = [i for i in which if texts[i]]
        sampling = Sampling(temperature=0.0, max_tokens=1, prefix_logprobs=True)
        contexts = [items[i].context for i in asked]
        for i, read in zip(asked, await self.large.generate(contexts, run, sampling=sampling), strict=True):
            start = len(items[i].text) - len(texts[i])
            reached = len(items[i].text) - sum(len(token.text) for token in read.prefix)
            for token in read.prefix:
                if reached >= start and token.logprob is not None and -token.logprob > self.rollback:
                    items[i] = cut(items[i], reached)
                    break
                reached += len(token.text)


def _trailing(candidate: Candidate, author: str) -> str:
    """The text at the end that this author wrote without interruption."""
    text = ""
    for step in reversed(candidate.steps):
        if step.author != author:
            break
        text = step.text + text
    return text


def cut(candidate: Candidate, length: int, *, ended: bool = True) -> Candidate:
    """A candidate's first `length` characters; a step that this shortens is open, its tokens counted as far as they were told.

    `ended=False` also opens a last step that the model had ended there by itself.
    """
    kept: list[Step] = []
    left = length
    for step in candidate.steps:
        if left <= 0:
            break
        if len(step.text) <= left:
            kept.append(step)
        else:
            tokens, reached = list[Token](), 0
            for token in step.told:
                if (reached := reached + len(token.text)) <= left:
                    tokens.append(token)
            share = len(tokens) if step.told else round(step.tokens * left / len(step.text))
            known = [token.logprob for token in tokens if token.logprob is not None]
            logprob = math.fsum(known) if step.told and len(known) == len(tokens) else None
            kept.append(
                replace(step, text=step.text[:left], tokens=share, logprob=logprob, told=tuple(tokens), open=True)
            )
        left -= len(step.text)
    if kept and not ended and not kept[-1].text.endswith(DELIMITER):
        silent = sum(not token.text for token in kept[-1].told)  # the model's own end is a token without a text
        told_ = tuple(token for token in kept[-1].told if token.text)
        kept[-1] = replace(kept[-1], open=True, tokens=kept[-1].tokens - silent, told=told_)
    return replace(candidate, steps=tuple(kept), done=False, score=None)


@dataclass(frozen=True)
class Nudge:
    """Nudging (Fei et al., 2024, arXiv 2410.09300): where the base model is unsure of the next token, a guide writes a word.

    One extension is `chunk` tokens of the base model, cut at the first token whose most probable alternative has a probability
    below `threshold`, and there one word of the guide. The original goes on word by word until the base model agrees; here the
    base model is asked again after each word, which accepts the same words. `repeats` equal words in a row end a solution, and
    so does a guide that has nothing to say.
    """

    base: Model
    guide: Model
    threshold: float = 0.3
    chunk: int = 16
    repeats: int = 3
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.repeats < 1:
            raise BadInput(f"Nudge(chunk={self.chunk}, repeats={self.repeats}): both are 1 or more")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """Two calls: the base model's chunks, and the guide's words."""
        contexts = [candidate.context for candidate in candidates]
        asked = Sampling(self.temperature, max_tokens=self.chunk, top_logprobs=TOP)
        items, unsure = list(candidates), list[int]()
        for i, written in enumerate(await self.base.generate(contexts, run.child("base"), sampling=asked)):
            at = next((n for n, token in enumerate(written.tokens) if doubt(token) > 1 - self.threshold), None)
            if at is not None and written.finish_reason not in ("error", "budget"):
                unsure.append(i)
                written = head(written, at)
                if not written.text:
                    continue
            items[i] = continued(items[i], written, self.base.name, whole=False, told=True)
        contexts = [items[i].context for i in unsure]
        if unsure:
            asked = Sampling(self.temperature, max_tokens=self.chunk)
            for i, said in zip(
                unsure, await self.guide.generate(contexts, run.child("nudge"), sampling=asked), strict=True
            ):
                items[i] = self._nudged(items[i], said)
        return items

    def _nudged(self, candidate: Candidate, said: Completion) -> Candidate:
        if said.finish_reason == "error" or (said.finish_reason == "budget" and not said.text):
            return continued(candidate, said, self.guide.name, whole=False)
        stripped = said.text.lstrip()
        if not stripped and said.finish_reason == "eos":
            return replace(candidate, done=True)
        word = said.text[: len(said.text) - len(stripped)] + (stripped.split()[0] if stripped else "")
        if not word:
            return candidate
        count = next((n for n, reached in _reaches(said) if reached >= len(word)), said.usage.completion)
        nudged = put_in(candidate, word, self.guide.name, count, label="nudge")
        nudges = [step.text.strip() for step in nudged.steps if step.label == "nudge" and step.text.strip()]
        circles = nudges[-self.repeats :] == [word.strip()] * self.repeats
        ended = said.finish_reason == "eos" and word == said.text.rstrip()
        return replace(nudged, done=circles or ended)


def _reaches(written: Completion) -> list[tuple[int, int]]:
    """How many characters the first n tokens have, for n = 1, 2, …"""
    reached, found = 0, []
    for n, token in enumerate(written.tokens, 1):
        reached += len(token.text)
        found.append((n, reached))
    return found


def head(written: Completion, n: int) -> Completion:
    """A completion's first n tokens, as if it had stopped there."""
    tokens = written.tokens[:n]
    text = "".join(token.text for token in tokens)
    return replace(written, text=text, tokens=tokens, finish_reason="length")
