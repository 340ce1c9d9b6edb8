"""Lookahead reasoning (Fu et al., 2025, arXiv 2506.19830): several future steps drafted, all judged at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Context, Message, Sampling


class Agreement(Protocol):
    """Do two continuations of the same text say the same?"""

    async def agree(
        self, before: Sequence[Candidate], drafted: Sequence[Candidate], wanted: Sequence[Candidate], run: Run
    ) -> list[bool]: ...


@dataclass(frozen=True)
class SameText:
    """They agree where their texts do, white space aside. Costs nothing, and is strict."""

    async def agree(
        self, before: Sequence[Candidate], drafted: Sequence[Candidate], wanted: Sequence[Candidate], run: Run
    ) -> list[bool]:
        return [d.text.split() == w.text.split() for d, w in zip(drafted, wanted, strict=True)]


@dataclass(frozen=True)
class Aligned:
    """A model is asked for one word: are the two steps the same in meaning? Equal texts are not asked about."""

    model: Model
    prompt: str = (
        "Two people continue the same solution.\n\nFirst: {first}\n\nSecond: {second}\n\n"
        "Do the two continuations say the same? Reply aligned or unaligned."
    )

    async def agree(
        self, before: Sequence[Candidate], drafted: Sequence[Candidate], wanted: Sequence[Candidate], run: Run
    ) -> list[bool]:
        verdicts = await SameText().agree(before, drafted, wanted, run)
        open_ = [i for i, same in enumerate(verdicts) if not same]
        contexts = [
            Context((*before[i].problem.messages, Message("user", self._asked(before[i], drafted[i], wanted[i]))))
            for i in open_
        ]
        sampling = Sampling(temperature=0.0, max_tokens=2)
        for i, answer in zip(open_, await self.model.generate(contexts, run, sampling=sampling), strict=True):
            said = answer.text.strip().lower()
            verdicts[i] = bool(said) and "aligned".startswith(said[:7]) and not said.startswith("un")
        return verdicts

    def _asked(self, before: Candidate, drafted: Candidate, wanted: Candidate) -> str:
        start = len(before.text)
        return self.prompt.format(first=wanted.text[start:].strip(), second=drafted.text[start:].strip())


@dataclass(frozen=True)
class Lookahead:
    """`draft` writes `gamma` steps ahead; `target` writes its own step after each of them, all at the same time.

    Drafted steps stay up to the first that `agreement` finds to differ from the target's; there the target's own step follows.
    Where all agree, the target's step after the last draft is won as well. So each extension adds 1 to gamma + 1 steps, every
    one of them agreed to or written by the target, in the time of about one target step and gamma draft steps.
    """

    draft: StepPolicy
    target: StepPolicy
    agreement: Agreement
    gamma: int = 4

    def __post_init__(self) -> None:
        if self.gamma < 1:
            raise BadInput(f"Lookahead(gamma={self.gamma}): gamma is 1 or more")

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        chains = [[candidate] for candidate in candidates]
        written: dict[int, asyncio.Task[list[Candidate]]] = {}
        spots: dict[int, list[int]] = {}
        async with asyncio.TaskGroup() as group:  # the target writes after a draft while the next one is drafted
            for ahead in range(self.gamma + 1):
                live = [i for i, chain in enumerate(chains) if len(chain) == ahead + 1 and not chain[-1].done]
                if not live:
                    break
                heads, spots[ahead] = [chains[i][-1] for i in live], live
                written[ahead] = group.create_task(self.target.extend(heads, run.child("target", ahead)))
                if ahead < self.gamma:
                    drafts = await self.draft.extend(heads, run.child("draft", ahead))
                    for i, old, new in zip(live, heads, drafts, strict=True):
                        if new.steps != old.steps and not new.failed:
                            chains[i].append(new)
        wanted = {(i, k): c for k, live in spots.items() for i, c in zip(live, written[k].result(), strict=True)}
        pairs = [(i, k) for i, k in wanted if k + 1 < len(chains[i])]
        verdicts = dict.fromkeys(pairs, False)
        if pairs:
            before, drafted = [chains[i][k] for i, k in pairs], [chains[i][k + 1] for i, k in pairs]
            said = await self.agreement.agree(before, drafted, [wanted[pair] for pair in pairs], run.child("agree"))
            verdicts = dict(zip(pairs, said, strict=True))
        return [self._kept(i, chain, verdicts, wanted) for i, chain in enumerate(chains)]

    def _kept(
        self,
        i: int,
        chain: list[Candidate],
        verdicts: dict[tuple[int, int], bool],
        wanted: dict[tuple[int, int], Candidate],
    ) -> Candidate:
        k = 0
        while (
            verdicts.get((i, k)) and chain[k + 1].done == wanted[i, k].done
        ):  # one that ends agrees with one that ends
            k += 1
        return chain[k] if chain[k].done else wanted[i, k]
