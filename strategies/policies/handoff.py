r"""Speculative Thinking (Yang et al., 2025, arXiv 2504.12329): a small model thinks, and hands over where its words waver.

Right after a ``\n\n``, the words that the small model is about to write are looked at. Affirmation, reflection ("wait") or
verification ("check") is the large model's to write: a short span, a longer one for a verification, and a recap after too many
reflections.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Sampling
from reasonweave.strategies.policies.sample import continued, labelled, put_in
from reasonweave.strategies.policies.switch import cut

PEEK, CUE, MORE, CHECK, RECAP, BEGIN = "peek", "cue", "cue+", "check", "recap", "begin"
"""Labels of steps: a peek that stayed, the first step of a span after a cue and its further ones, a verification, …"""


@dataclass(frozen=True)
class Cues:
    """Words that show what a text is about to do. They count as whole words, case aside.

    >>> Cues().feeling("Wait, is that so?"), Cues().feeling("Yes."), Cues().feeling("17 + 28"), Cues().feeling("await")
    (-1, 1, 0, 0)
    """

    affirmation: tuple[str, ...] = ("yeah", "yes", "final answer", "confident")
    reflection: tuple[str, ...] = ("wait", "alternatively", "hold on", "another")
    verification: tuple[str, ...] = ("verify", "think again", "recap", "check")

    def feeling(self, text: str) -> int:
        """+1 for affirmation, −1 for reflection or verification (where they are as many, −1), 0 for neither."""
        good = _count(self.affirmation, text)
        bad = _count(self.reflection + self.verification, text)
        return 1 if good > bad else -1 if bad else 0

    def verifies(self, text: str) -> bool:
        """Does a verification begin here?"""
        return _count(self.verification, text) > 0


def _count(words: tuple[str, ...], text: str) -> int:
    return len(_pattern(words).findall(text)) if words else 0


@cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", re.IGNORECASE)


@dataclass(frozen=True)
class Handoff:
    r"""Small model segments, large model spans after cues. One extension is one segment and what the large model adds to it.

    `small` writes up to the next delimiter (at most `max_tokens`), then shows its next `cue_tokens` (n1). Without a cue in them,
    they stay as they are. With one, the large model writes `cue_tokens` instead, and where these verify, `check_tokens` (n2)
    more. After `recap_after` such reflections, `recap` and `recap_tokens` (n3) of the large model follow instead, and both
    numbers grow with each recap (by 5 to at most 30, by 25 to at most 200). `every` hands over after every delimiter: for small
    models that do not reason aloud. `choose_large=False` keeps the small model's words unless the two disagree. `begin_tokens`
    lets the large model begin. `one_step` ends the large model's span after a cue with the step at the latest, where the
    published code lets it run on into the next one, whose beginning is then nobody's to look at.

    The models share text, not token ids, so they need not share a tokenizer. Which spans were reflections is read off the
    candidate (`Step.label`), so the policy has no state.
    """

    small: Model
    large: Model
    every: bool = False
    choose_large: bool = True
    one_step: bool = False
    cues: Cues = Cues()
    cue_tokens: int = 20
    check_tokens: int = 125
    recap_tokens: int = 125
    recap_after: int = 15
    recap: str = "Let me check whether there are some wrong steps."
    begin_tokens: int = 0
    until: str = DELIMITER
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 50
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        for name in ("cue_tokens", "check_tokens", "recap_tokens", "recap_after"):
            if getattr(self, name) < 1:
                raise BadInput(f"Handoff({name}={getattr(self, name)}): {name} is 1 or more")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        """A call each for begin, draft, peek, cue and check, and one for each length of recap that occurs in the batch."""
        items = dict(enumerate(candidates))
        start = [i for i, c in items.items() if self.begin_tokens and not c.steps]
        await self._write(self.large, items, start, self.begin_tokens, run.child(BEGIN), label=BEGIN)
        going = sorted(set(items) - set(start))
        drafting = [i for i in going if not self._paused(items[i])]
        await self._write(self.small, items, drafting, self.max_tokens, run.child("draft"), stop=self.until)
        paused = [i for i in going if not items[i].done and items[i].text.endswith(self.until)]
        await self._recap([i for i in paused if self._reflections(items[i]) >= self._limit(items[i])], items, run)
        rest = [i for i in paused if items[i].steps[-1].label != RECAP]
        await self._hand_over(rest, items, run)
        return [items[i] for i in range(len(candidates))]

    def _paused(self, candidate: Candidate) -> bool:
        """Did a peek or a span end at a delimiter, so that what comes next has not been looked at?"""
        labels = (PEEK,) if self.every else (PEEK, CUE, MORE)
        return bool(candidate.steps) and candidate.steps[-1].label in labels and candidate.text.endswith(self.until)

    async def _hand_over(self, paused: list[int], items: dict[int, Candidate], run: Run) -> None:
        """Look at what the small model would write; where it wavers, let the large one write."""
        before = {i: items[i] for i in paused}
        peeks: dict[int, Candidate] = {}
        if not (self.every and self.choose_large):
            peeks = dict(before)
            await self._write(self.small, peeks, paused, self.cue_tokens, run.child(PEEK), label=PEEK)
        feelings = {i: self.cues.feeling(_since(before[i], peek)) for i, peek in peeks.items()}
        cued = [i for i in paused if self.every or feelings[i]]
        for i in sorted(set(paused) - set(cued)):
            items[i] = _up_to(self.until, before[i], peeks[i])
        stop = self.until if self.one_step else None
        await self._write(self.large, items, cued, self.cue_tokens, run.child(CUE), stop=stop, label=CUE)
        for i in cued:
            if not self.choose_large:
                mine, theirs = feelings[i], self.cues.feeling(_since(before[i], items[i]))
                if not (mine < 0 <= theirs or mine > 0 > theirs):
                    items[i] = _labelled(before[i], peeks[i], CUE)
        checked = [i for i in cued if not items[i].done and self.cues.verifies(_since(before[i], items[i]))]
        await self._write(self.large, items, checked, self.check_tokens, run.child(CHECK), label=CHECK)

    async def _recap(self, tired: list[int], items: dict[int, Candidate], run: Run) -> None:
        by_length: dict[int, list[int]] = {}
        for i in tired:
            grown = min(self.recap_tokens + 25 * self._recaps(items[i]), 200)
            by_length.setdefault(max(self.recap_tokens, grown), []).append(i)
            items[i] = put_in(items[i], self.recap, label=RECAP)
        for tokens, some in sorted(by_length.items()):
            await self._write(self.large, items, some, tokens, run.child(RECAP, tokens), label=RECAP)

    async def _write(
        self,
        model: Model,
        items: dict[int, Candidate],
        which: list[int],
        tokens: int,
        run: Run,
        *,
        stop: str | None = None,
        label: str = "",
    ) -> None:
        """Let a model go on with some of the items, in one call."""
        if not which:
            return
        contexts = [items[i].context for i in which]
        stops = (stop,) if stop else ()
        sampling = Sampling(self.temperature, self.top_p, self.top_k, tokens, stops)
        for i, written in zip(which, await model.generate(contexts, run, sampling=sampling), strict=True):
            items[i] = _labelled(items[i], continued(items[i], written, model.name, whole=False), label)

    def _recaps(self, candidate: Candidate) -> int:
        return sum(step.label == RECAP and step.text == self.recap for step in candidate.steps)

    def _limit(self, candidate: Candidate) -> int:
        return max(self.recap_after, min(self.recap_after + 5 * self._recaps(candidate), 30))

    def _reflections(self, candidate: Candidate) -> int:
        """Spans after a cue that reflect or verify, since the last recap."""
        spans: list[str] = []
        for step in candidate.steps:
            if step.label == RECAP:
                spans = []
            elif step.label == CUE:
                spans.append(step.text)
            elif step.label == MORE:
                spans[-1] += step.text
        return sum(self.cues.feeling(span) < 0 for span in spans)


def _since(before: Candidate, after: Candidate) -> str:
    return after.text[len(before.text) :]


def _labelled(before: Candidate, after: Candidate, label: str) -> Candidate:
    """The candidate with a label on its new steps; of a span after a cue, the first is told from the others."""
    return labelled(before, after, label, MORE if label == CUE else None)


def _up_to(until: str, before: Candidate, after: Candidate) -> Candidate:
    """The candidate with its new text up to the first delimiter: the next segment begins there."""
    at = after.text.find(until, len(before.text))
    end = at + len(until)
    if at < 0 or end == len(after.text):
        return after
    whole = next((n for n in range(len(after.steps)) if sum(len(s.text) for s in after.steps[:n]) == end), None)
    return replace(after, steps=after.steps[:whole], done=False) if whole is not None else cut(after, end)
