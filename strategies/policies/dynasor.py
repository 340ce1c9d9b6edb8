"""Dynasor's probe in the middle (Fu et al., 2024, arXiv 2412.20993): thinking ends when the answers on the way agree."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reasonweave.orchestrator.answers import box_end
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import AnswerSpace
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Completion, Context, Sampling
from reasonweave.strategies.policies.budget_forcing import END, closed, opening
from reasonweave.strategies.policies.handoff import Cues
from reasonweave.strategies.policies.sample import labelled, put_in
from reasonweave.strategies.policies.thinking import FINAL, generated, grown, shortened

PROBE = "probe: "
"""How the label of a step begins before which a probe was asked; what follows is its answer, nothing where it does not count."""

EFFORTS = {"mild": (8, 64), "low": (5, 64), "mid": (3, 64), "high": (2, 64), "crazy": (2, 32)}
"""The published levels, by how much they try to save: `window` and `chunk`."""


@dataclass(frozen=True)
class Probed:
    r"""One model, `chunk` tokens at a time, asked for the answer so far between the chunks, until it keeps saying the same.

    A probe is `probe` and at most `probe_tokens` tokens after it; its text is thrown away, its tokens are charged. Its answer
    counts where it is complete (the box is closed) and no word of `hesitation` stands, as a whole word, in what follows it.
    Once the last `window` probes all count and give one answer by the problem's `AnswerSpace`, the solution ends with the last
    of them: `think_end`, `probe` and the answer, which costs nothing more. For models without think tags set `think_end=""`.
    A probe need not open a box; then all of it must be free of hesitation, and the answer space reads the answer.

    Probes run at the same time as the next chunk, except where the latest `window` − 1 agree: there this one may be the last,
    and the chunk waits for it. So no chunk is written in vain, and costs do not depend on timing.

    What a probe said is the label of the first step after it ("probe: 71"), so the policy has no state, the text has nothing in
    it that was thrown away, and verifiers see steps like any other.
    """

    model: Model
    chunk: int = 64
    window: int = 3
    probe: str = "... Oh, now I have the answer to the whole problem. " + FINAL
    probe_tokens: int = 20
    hesitation: tuple[str, ...] = ("wait", "hold", "but", "okay", "no", "hmm")
    think_end: str = "</think>"
    temperature: float = 0.7
    top_p: float = 1.0
    probe_temperature: float = 0.6
    probe_top_p: float = 0.95
    max_tokens: int = 1024
    """Of a call for the answer, after an end of thinking that the model wrote itself."""

    def __post_init__(self) -> None:
        if min(self.chunk, self.window, self.probe_tokens) < 1 or not self.probe:
            told = f"chunk={self.chunk}, window={self.window}, probe_tokens={self.probe_tokens}, probe={self.probe!r}"
            raise BadInput(f"Probed({told}): numbers of 1 or more, and a text, are needed")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """A call for the probes and at the same time one for chunks; then one for the chunks that waited. Answers after an end
        of thinking are calls of their own."""
        due = [i for i, c in enumerate(candidates) if c.tokens and not closed(c, self.think_end)]
        waiting = [i for i in due if self._near(candidates[i])]
        others = sorted(set(range(len(candidates))).difference(waiting))
        async with asyncio.TaskGroup() as group:
            # probes first: where they cannot be paid, no chunk is written and lost
            probing = group.create_task(self._probes([candidates[i] for i in due], run.child("probe")))
            writing = group.create_task(self._written([candidates[i] for i in others], run.child("chunk")))
        probes = dict(zip(due, probing.result(), strict=True))
        answers = {i: self._answer(candidates[i].problem.answers, said) for i, said in probes.items()}
        items = dict(zip(others, writing.result(), strict=True))
        rest = [i for i in waiting if not self._last(candidates[i], answers[i])]
        items |= {i: self._ended(candidates[i], probes[i]) for i in waiting if i not in rest}
        more = await self._written([candidates[i] for i in rest], run.child("after"))
        items |= zip(rest, more, strict=True)
        for i in [*rest, *(i for i in due if i not in waiting)]:
            items[i] = labelled(candidates[i], items[i], f"{PROBE}{answers[i]}", "")
        return [items[i] for i in range(len(candidates))]

    async def _probes(self, candidates: Sequence[Candidate], run: Run) -> list[Completion]:
        contexts = [Context(c.problem.messages, c.text + opening(c.text, self.probe)) for c in candidates]
        asked = Sampling(self.probe_temperature, self.probe_top_p, max_tokens=self.probe_tokens)
        return await self.model.generate(contexts, run, sampling=asked)

    async def _written(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        stops = tuple(filter(None, (self.think_end,)))
        think = Sampling(self.temperature, self.top_p, max_tokens=self.chunk, stop=stops)
        answer = Sampling(self.temperature, self.top_p, max_tokens=self.max_tokens)
        asked = [answer if closed(candidate, self.think_end) else think for candidate in candidates]
        written = await generated(self.model, candidates, asked, run)
        return [grown(old, new, self.model.name) for old, new in zip(candidates, written, strict=True)]

    def _end(self, said: Completion) -> int | None:
        """How much of a probe's text is the answer; None where it is cut off."""
        return box_end(said.text) if self._boxed else len(said.text)

    @property
    def _boxed(self) -> bool:
        return self.probe.count("{") > self.probe.count("}")

    def _answer(self, space: AnswerSpace, said: Completion) -> str:
        """What a probe answers; empty where that does not count."""
        end = self._end(said)
        after = said.text[end:] if self._boxed else said.text
        if end is None or Cues((), self.hesitation, ()).feeling(after) < 0:
            return ""
        return space.extract(self.probe + said.text[:end]) or ""

    def _latest(self, candidate: Candidate) -> list[str] | None:
        """The answers of the latest `window` − 1 probes; None before there are so many."""
        told = [step.label.removeprefix(PROBE) for step in candidate.steps if step.label.startswith(PROBE)]
        at = len(told) - (self.window - 1)
        return told[at:] if at >= 0 else None

    def _near(self, candidate: Candidate) -> bool:
        """May the next probe be the last?"""
        latest = self._latest(candidate)
        return latest is not None and agree(latest, candidate.problem.answers)

    def _last(self, candidate: Candidate, answer: str) -> bool:
        return agree([*(self._latest(candidate) or ()), answer], candidate.problem.answers)

    def _ended(self, candidate: Candidate, said: Completion) -> Candidate:
        """The solution that a probe ends: its answer stays."""
        tag = f"{self.think_end}{DELIMITER}" if self.think_end else ""
        asked = put_in(candidate, opening(candidate.text, tag + self.probe), label=END)
        return replace(grown(asked, shortened(said, self._end(said) or 0), self.model.name), done=True)


def dynasor(model: Model, effort: str = "mid", **options: Any) -> Probed:
    """Dynasor-CoT at a published level of saving; `options` are those of `Probed`. Raises `BadInput` for an unknown level."""
    if effort not in EFFORTS:
        raise BadInput(f"effort={effort!r}: one of {', '.join(EFFORTS)} is needed")
    window, chunk = EFFORTS[effort]
    return Probed(model, **{"window": window, "chunk": chunk} | options)


def agree(answers: Sequence[str], space: AnswerSpace) -> bool:
    """Are these all answers, and all the same? True of none."""
    return all(answers) and all(
        space.canonical(answers[0]) == space.canonical(other)
        or (space.same(answers[0], other) and space.same(other, answers[0]))
        for other in answers[1:]
    )


def certaindex(answers: Sequence[Hashable | None]) -> float:
    """How certain several answers are, 0 to 1: (log n − H) / log n, H being the entropy of how they fall into classes.

    Give keys that equal answers share (`AnswerSpace.canonical`). None, no answer, is a class of its own each time. nan for
    fewer than two, of which it says nothing.

    >>> certaindex(["4", "4", "4"]), certaindex(["4", "5", None]), round(certaindex(["4", "4", "5"]), 4)
    (1.0, 0.0, 0.4206)
    """
    n = len(answers)
    if n < 2:
        return math.nan
    counts = Counter(answer for answer in answers if answer is not None).values()
    certain = math.fsum(k * math.log(k) for k in counts) / (n * math.log(n))  # log n − H = Σ (k / n) log k
    return min(1.0, max(0.0, certain))
