"""Power sampling: Metropolis–Hastings on p^α, block by block, with no reward model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.signals import TOP
from reasonweave.orchestrator.types import Candidate, Candidates, Completion, Context, Sampling, Token, Usage
from reasonweave.strategies.policies.sample import split
from reasonweave.strategies.searches.live import begin


@dataclass(frozen=True)
class PowerSampling:
    """Reasoning with sampling (Karan & Du, 2025, arXiv 2510.14901): sample from p(solution)^α by Metropolis–Hastings.

    `n` chains grow by `blocks` blocks of `block` tokens. After each block come `moves` moves: a position is drawn uniformly, what
    follows is written anew at `temperature` (1/α where None, as in the paper), and the new text x' replaces x with probability

        min(1, p(x')^α q(x | x') / (p(x)^α q(x' | x))),  q(x' | x) = (1 / |x|) · Π_t q(x'_t | x'_<t)

    x and x' may differ in length where one of them has ended; the published code cuts the longer one instead. p is the model
    at temperature 1, q at `temperature`. q's normaliser, Σ_v p(v)^(1/temperature), is summed over the 20 most probable
    tokens, which is exact for a vocabulary of 20 and misses next to nothing at low temperatures; at temperature 1 it is not
    needed, and q = p.

    A chain that has ended when a block's moves are over is left as it is, as published: with one block as long as a solution
    the chain is exact in the limit of many moves, with more it leans to early ends. For solutions as long as all blocks it
    takes n · blocks · block · (1 + moves · (blocks + 1) / 4) tokens, 43 times a sample at the defaults. Needs a model that
    tells its tokens.
    """

    model: Model
    n: int = 1
    alpha: float = 4.0
    block: int = 192
    blocks: int = 16
    moves: int = 10
    temperature: float | None = None

    def __post_init__(self) -> None:
        if min(self.n, self.block, self.blocks) < 1 or self.moves < 0 or not self.alpha > 0:
            raise BadInput(f"{self}: n, block and blocks are 1 or more, moves 0 or more, alpha above 0")
        if self.temperature is not None and not self.temperature > 0:
            raise BadInput(f"{self}: temperature is above 0")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        start = begin(roots, self.n)
        chains = [_Chain(c, (), c.done) for c in start]
        for b in range(self.blocks):
            here = run.child("block", b)
            live = [i for i, chain in enumerate(chains) if not chain.done]
            if not live:
                break
            ends = [len(chains[i].tokens) for i in live]
            grown = await self._written([chains[i] for i in live], ends, (b + 1) * self.block, here)
            for i, chain in zip(live, grown, strict=True):
                chains[i] = chain
            yield Candidates(tuple(chain.candidate(self.model.name) for chain in chains))
            for move in range(self.moves):
                moved = await self._moved([chains[i] for i in live], (b + 1) * self.block, here.child("move", move))
                for i, chain in zip(live, moved, strict=True):
                    chains[i] = chain
            yield Candidates(tuple(chain.candidate(self.model.name) for chain in chains))

    async def _moved(self, chains: Sequence[_Chain], length: int, run: Run) -> list[_Chain]:
        """One Metropolis–Hastings move of every chain, all at the same time."""
        able = [i for i, chain in enumerate(chains) if chain.tokens and not chain.failed]
        rng = run.child("accept").rng()
        at = [int(rng.integers(len(chains[i].tokens))) for i in able]
        made = await self._written([chains[i] for i in able], at, length, run) if able else []
        moved = list(chains)
        for i, t, new in zip(able, at, made, strict=True):
            old = chains[i]
            if new.tokens and len(new.tokens) > t and math.log(1 - rng.random()) < self._log_ratio(old, new, t):
                moved[i] = new
        return moved

    def _log_ratio(self, old: _Chain, new: _Chain, t: int) -> float:
        """log p(x')^α q(x | x') − log p(x)^α q(x' | x) for chains that share their first t tokens; −inf where it is not known."""
        gain = math.log(len(old.tokens) / len(new.tokens))  # t was one of |x| positions; back, it is one of |x'|
        for sign, chain in ((1.0, new), (-1.0, old)):
            p = math.fsum(_logprob(token) for token in chain.tokens[t:])
            q = math.fsum(self._proposed(token) for token in chain.tokens[t:])
            gain += sign * (self.alpha * p - q)
        return -math.inf if math.isnan(gain) else gain

    @property
    def _heat(self) -> float:
        return 1 / self.alpha if self.temperature is None else self.temperature

    def _proposed(self, token: Token) -> float:
        """log q of a token: its log-probability at the proposal's temperature."""
        heat, p = self._heat, _logprob(token)
        if heat == 1:
            return p
        told = [logprob for _, logprob in token.top if logprob > -math.inf]
        if p not in told:
            told.append(p)
        highest = max(told)
        return (p - highest) / heat - math.log(math.fsum(math.exp((each - highest) / heat) for each in told))

    async def _written(self, chains: Sequence[_Chain], at: Sequence[int], length: int, run: Run) -> list[_Chain]:
        """Each chain's first `at` tokens, and what the model writes after them, up to `length` tokens in all."""

        async def write(i: int) -> Completion:
            context = Context(chains[i].root.problem.messages, chains[i].root.text + chains[i].text(at[i]))
            top = 1 if self._heat == 1 else TOP
            sampling = Sampling(self._heat, max_tokens=max(1, length - at[i]), top_logprobs=top)
            (written,) = await self.model.generate([context], run.child("write", i), sampling=sampling)
            if written.text and written.logprob is None:
                raise BadInput(f"PowerSampling: {self.model} does not tell the log-probabilities of its tokens")
            return written

        async with asyncio.TaskGroup() as group:  # a ceiling belongs to a call, so each chain has its own
            tasks = [group.create_task(write(i)) for i in range(len(chains))]
        return [chain.after(t, task.result()) for chain, t, task in zip(chains, at, tasks, strict=True)]


def _logprob(token: Token) -> float:
    return math.nan if token.logprob is None else token.logprob


@dataclass(frozen=True, slots=True)
class _Chain:
    """A root and the tokens that were sampled after it."""

    root: Candidate
    tokens: tuple[Token, ...]
    done: bool
    failed: str | None = None

    def text(self, length: int | None = None) -> str:
        return "".join(token.text for token in self.tokens[:length])

    def after(self, at: int, written: Completion) -> _Chain:
        """The first `at` tokens, and these; all as it was where a proposal failed, or was cut by the budget."""
        if at < len(self.tokens) and written.finish_reason in ("error", "budget", "cancelled"):
            return self
        if written.finish_reason == "error":
            return _Chain(self.root, self.tokens, True, written.error or "request failed")
        ended = written.finish_reason == "eos" or (written.finish_reason == "length" and not written.text)
        return _Chain(self.root, (*self.tokens[:at], *written.tokens), ended)

    def candidate(self, author: str) -> Candidate:
        """The chain as a candidate, cut into steps."""
        whole = Completion(self.text(), "eos" if self.done else "length", Usage(), self.tokens)
        steps = split(whole, author)
        made = self.root.extend(*steps, done=self.done) if steps else replace(self.root, done=self.done)
        return made if self.failed is None else Candidate(made.problem, made.steps, True, failed=self.failed)
