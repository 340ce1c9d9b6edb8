"""Small Qwen2 checkpoints run in this process: batched, with a prefix cache and a seed per sequence.

One worker thread a model batches whatever concurrent callers ask for. A sequence's tokens depend on its prompt, sampling
and seed alone, not on what it is batched with, so a run gives the same bytes at any concurrency.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.errors import BadInput, ModelError, described
from reasonweave.orchestrator.models.base import BREATH, Model, Rating, Request, RewardModel
from reasonweave.orchestrator.models.pick import log_softmax, pick
from reasonweave.orchestrator.models.qwen2 import BUCKET, F32, Buffers, Qwen2, spread
from reasonweave.orchestrator.models.texts import tagged
from reasonweave.orchestrator.models.vocabulary import Vocabulary
from reasonweave.orchestrator.types import Completion, Context, FinishReason, Problem, Score, Token, Usage

BLOCK = 16
"""The prefix cache shares whole blocks of this many tokens."""
SEQUENCES = 128
"""The most sequences decoded at the same time."""
IDLE = 5.0
"""Seconds without work after which the engine gives its key-value buffers back."""
DRAWS = 64
"""Random numbers drawn ahead for a sequence."""
RATINGS = 32
"""Solutions rated between two looks at whether anybody still wants them."""
STEP_TAG = "<extra_0>"
"""Where a Qwen2.5-Math-PRM reads off the reward of a step."""


def render(context: Context) -> str:
    """A chat as ChatML, the assistant's next turn opened and begun with the prefix. No default system prompt.

    >>> render(Context(Problem("2 + 2?").messages, "It is "))
    '<|im_start|>user\\n2 + 2?<|im_end|>\\n<|im_start|>assistant\\nIt is '
    """
    turns = "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in context.messages)
    return f"{turns}<|im_start|>assistant\n{context.prefix}"


def render_rating(problem: Problem, steps: Sequence[str]) -> str:
    """A solution as Qwen2.5-Math-PRM reads it: a tag after each step, the delimiters left out.

    >>> render_rating(Problem("q"), ["a\\n\\n", "b"])
    '<|im_start|>user\\nq<|im_end|>\\n<|im_start|>assistant\\na<extra_0>b<extra_0>'
    """
    chat = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in problem.messages)
    return f"{chat}<|im_start|>assistant\n{tagged(steps, STEP_TAG)}"


@dataclass(slots=True)
class _Prefilled:
    """A prompt's keys, values and last logits, shared by the requests of one call that have the same prompt."""

    ids: tuple[int, ...]
    session: int
    tell: int | None = None
    """The place of the first token whose log-probability is asked for."""
    told: tuple[Token, ...] = ()
    waiting: int = 0
    keys: F32 | None = None
    values: F32 | None = None
    logits: F32 | None = None


@dataclass(slots=True, eq=False)
class _Sequence:
    """One request on its way."""

    request: Request
    prompt: _Prefilled
    job: _Job
    stops: tuple[bytes, ...]
    source: Any
    watch: Callable[[Token], bool] | None = None
    draws: list[float] = field(default_factory=list)
    cached: int = 0
    begun: bool = False
    """Whether its prompt has been computed, and must be paid."""
    ids: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    text: bytearray = field(default_factory=bytearray)
    end: FinishReason | None = None
    bucket: int = 0
    row: int = -1

    def draw(self) -> float:
        """The uniform number that decides the next token: the seed's n-th for the n-th token."""
        if len(self.draws) == len(self.ids):
            self.draws += self.source.random(DRAWS).tolist()
        return self.draws[len(self.ids)]

    @property
    def length(self) -> int:
        return len(self.prompt.ids) + len(self.ids)


@dataclass(slots=True, eq=False)
class _Job:
    """One call to the engine: its sequences, and how to answer."""

    answer: Callable[[], None]
    fail: Callable[[BaseException], None]
    sequences: list[_Sequence] = field(default_factory=list)
    ratings: list[tuple[Rating, tuple[int, ...]]] = field(default_factory=list)
    rewards: list[tuple[list[float], int]] = field(default_factory=list)
    left: int = 0
    cancelled: bool = False


class _Cache:
    """Key-value blocks by session, in a trie of token blocks. A session's blocks go when its run is over."""

    def __init__(self) -> None:
        self._sessions: dict[int, dict[tuple[int, tuple[int, ...]], tuple[int, F32, F32]]] = {}
        self.rewards: dict[int, dict[tuple[int, ...], float]] = {}
        """By session and prefix (its tag included), what a reward model said: a cache of keys and values has no hidden states."""

    def find(self, session: int, ids: Sequence[int], within: int | None = None) -> tuple[F32, F32] | None:
        """Keys and values of the longest cached prefix in whole blocks, of the first `within` tokens; at least one of all is left
        out, because a cache has no hidden states."""
        blocks = self._sessions.get(session)
        found, parent = [], 0
        reach = len(ids) - 1 if within is None else min(within, len(ids) - 1)
        for start in range(0, reach - BLOCK + 1, BLOCK) if blocks else ():
            node = blocks.get((parent, tuple(ids[start : start + BLOCK]))) if blocks else None
            if node is None:
                break
            parent = node[0]
            found.append(node)
        if not found:
            return None
        return np.concatenate([n[1] for n in found], axis=2), np.concatenate([n[2] for n in found], axis=2)

    def keep(self, session: int, ids: Sequence[int], keys: F32, values: F32) -> None:
        blocks, parent = self._sessions.setdefault(session, {}), 0
        for start in range(0, min(len(ids), keys.shape[2]) - BLOCK + 1, BLOCK):
            key = (parent, tuple(ids[start : start + BLOCK]))
            if key not in blocks:
                part = slice(start, start + BLOCK)
                blocks[key] = (len(blocks) + 1, keys[:, :, part].copy(), values[:, :, part].copy())
            parent = blocks[key][0]

    def drop(self, session: int) -> None:
        self._sessions.pop(session, None)
        self.rewards.pop(session, None)


class Engine:
    """The worker behind one checkpoint. Started on first use; `close` ends it."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        needed = ("config.json", "model.safetensors", "tokenizer.json")
        if missing := [name for name in needed if not (self.folder / name).exists()]:
            raise BadInput(
                f"no checkpoint in {self.folder}: {', '.join(missing)} missing; "
                "`reasonweave lab train --out DIR` makes the lab's"
            )
        try:
            self.network, self.vocabulary = Qwen2.load(self.folder), Vocabulary.load(self.folder)
        except BadInput:
            raise
        except Exception as error:  # what the libraries raise for broken files has no common base
            raise BadInput(f"the checkpoint in {self.folder} cannot be read: {described(error)}") from error
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._forgotten: deque[int] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._cache = _Cache()
        self._waiting: deque[_Sequence] = deque()
        self._flying: set[_Job] = set()
        self._buckets: dict[int, tuple[Buffers, list[_Sequence]]] = {}

    # Called from event loops.

    async def submit(self, job: _Job, future: asyncio.Future[None]) -> None:
        with self._wake:
            if self._closing:
                raise ModelError(f"the engine for {self.folder.name} is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"engine-{self.folder.name}", daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self._wake.notify()
        try:
            await future
        except asyncio.CancelledError:
            job.cancelled = True
            raise

    def forget(self, session: int) -> None:
        with self._wake:
            self._forgotten.append(session)
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    # The worker thread.

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._jobs or self._waiting or self._running() or self._forgotten or self._closing):
                    if not self._wake.wait(None if not self._buckets else IDLE):
                        self._buckets.clear()
                if self._closing:
                    self._flying.update(self._jobs)
                    self._abandon(ModelError("the engine was closed"))
                    return
                jobs, forgotten = list(self._jobs), list(self._forgotten)
                self._jobs.clear()
                self._forgotten.clear()
            for session in forgotten:
                self._cache.drop(session)
            self._flying = {job for job in self._flying if not job.cancelled} | set(jobs)
            for job in jobs:
                self._waiting.extend(job.sequences)
                if job.ratings:
                    self._guarded(job, self._rate, job)
            try:
                self._admit()
                self._advance()
            except Exception as error:
                self._abandon(error)

    def _guarded(self, job: _Job, work: Callable[[_Job], None], argument: _Job) -> None:
        try:
            work(argument)
        except Exception as error:
            self._flying.discard(job)
            job.fail(self._failure(error))

    def _abandon(self, error: Exception) -> None:
        """Something broke in a batch: fail every job in flight rather than hang one."""
        self._waiting.clear()
        self._buckets.clear()
        for job in self._flying:
            job.fail(self._failure(error))
        self._flying.clear()

    def _failure(self, error: Exception) -> ModelError:
        return ModelError(f"{self.folder.name}: {described(error)}")

    def _answer(self, job: _Job) -> None:
        self._flying.discard(job)
        job.answer()

    def _rate(self, job: _Job) -> None:
        tag = self.vocabulary.encode(STEP_TAG)[0]

        def rate(asked: tuple[Rating, tuple[int, ...]]) -> tuple[list[float], int, F32 | None, F32 | None]:
            rating, ids = asked
            told = self._cache.rewards.get(rating.session, {})
            tags = [i for i, token in enumerate(ids) if token == tag]
            rewards: list[float] = []
            for i in tags:
                if (reward := told.get(ids[: i + 1])) is None:
                    break
                rewards.append(reward)
            if len(rewards) == len(tags):
                return rewards, len(ids), None, None
            found = self._cache.find(rating.session, ids, tags[len(rewards)])
            cached = found[0].shape[2] if found else 0
            new = np.array(ids[cached:])
            hidden, keys, values = self.network.prefill(new, *(found or (None, None)))
            made = self.network.rewards(hidden[new == tag])
            missing = len(tags) - len(rewards)
            return [*rewards, *(float(r) for r in made[len(made) - missing :])], cached, keys, values

        # The first rating of each problem leaves the problem's text in the cache for the others, on any number of cores.
        heads = {(rating.session, rating.problem): i for i, (rating, _) in reversed(list(enumerate(job.ratings)))}
        firsts = sorted(heads.values())
        others = sorted(set(range(len(job.ratings))).difference(firsts))
        rated: dict[int, tuple[list[float], int]] = {}
        for chosen in (firsts, *(others[at : at + RATINGS] for at in range(0, len(others), RATINGS))):
            if job.cancelled:
                return
            found = spread(rate, [job.ratings[i] for i in chosen])
            for i, (rewards, cached, keys, values) in zip(chosen, found, strict=True):
                rating, ids = job.ratings[i]
                rated[i] = rewards, cached
                if keys is None or values is None:
                    continue
                self._cache.keep(rating.session, ids, keys, values)
                told = self._cache.rewards.setdefault(rating.session, {})
                told.update(zip((ids[: at + 1] for at, token in enumerate(ids) if token == tag), rewards, strict=True))
        job.rewards = [rated[i] for i in range(len(job.ratings))]
        self._answer(job)

    def _running(self) -> list[_Sequence]:
        return [s for _, members in self._buckets.values() for s in members]

    def _admit(self) -> None:
        """Prefill waiting sequences into free places."""
        free = SEQUENCES - len(self._running())
        admitted: list[_Sequence] = []
        while self._waiting and len(admitted) < free:
            sequence = self._waiting.popleft()
            sequence.prompt.waiting -= 1
            if not sequence.job.cancelled:
                admitted.append(sequence)
        if not admitted:
            return
        fresh = list({id(s.prompt): s.prompt for s in admitted if s.prompt.logits is None}.values())
        for sequence in admitted:
            sequence.begun = True
        cached = dict(zip(map(id, fresh), spread(self._prefill, fresh), strict=True))
        for sequence in admitted:  # the first reader of a prompt pays for it, the others find it whole
            sequence.cached = cached.pop(id(sequence.prompt), len(sequence.prompt.ids))
        self._choose(admitted, np.concatenate([s.prompt.logits for s in admitted if s.prompt.logits is not None]))
        for sequence in admitted:
            prompt = sequence.prompt
            if sequence.end is None and prompt.keys is not None and prompt.values is not None:
                self._place(sequence, prompt.keys, prompt.values)
            else:
                self._deliver(sequence, prompt.keys, prompt.values)
        for prompt in (s.prompt for s in admitted if s.prompt.waiting == 0):
            prompt.keys = prompt.values = prompt.logits = None

    def _prefill(self, prompt: _Prefilled) -> int:
        """Compute a prompt; returns how many of its tokens the cache had."""
        found = self._cache.find(prompt.session, prompt.ids, None if prompt.tell is None else prompt.tell - 1)
        cached = found[0].shape[2] if found else 0
        hidden, prompt.keys, prompt.values = self.network.prefill(
            np.array(prompt.ids[cached:]), *(found or (None, None))
        )
        prompt.logits = self.network.logits(hidden[-1:])
        if prompt.tell is not None:
            ids = prompt.ids[prompt.tell :]
            logs = log_softmax(self.network.logits(hidden[prompt.tell - 1 - cached : -1]))
            prompt.told = tuple(Token(self._show(i), float(row[i])) for i, row in zip(ids, logs, strict=True))
        return cached

    def _place(self, sequence: _Sequence, keys: F32, values: F32) -> None:
        capacity = -(-(sequence.length) // BUCKET) * BUCKET
        if capacity not in self._buckets:
            self._buckets[capacity] = (Buffers.empty(self.network.shape, capacity), [])
        buffers, members = self._buckets[capacity]
        sequence.bucket, sequence.row = capacity, buffers.append(keys, values)
        members.append(sequence)

    def _lift(self, sequence: _Sequence) -> tuple[F32, F32]:
        """Take a sequence out of its bucket; its keys and values so far (the newest token has none yet)."""
        buffers, members = self._buckets[sequence.bucket]
        known = buffers.take(sequence.row, sequence.length - 1)
        moved = buffers.remove(sequence.row)
        if moved != sequence.row:
            members[sequence.row] = members[moved]
            members[sequence.row].row = sequence.row
        members.pop()
        return known

    def _advance(self) -> None:
        """One token further for all running sequences."""
        for sequence in self._running():
            if sequence.job.cancelled:
                self._lift(sequence)
        running = self._running()
        if not running:
            return
        ids = np.array([s.ids[-1] for s in running])
        positions = np.array([s.length - 1 for s in running])
        logits = self.network.decode(ids, positions, [buffers for buffers, _ in self._buckets.values()])
        self._choose(running, logits)
        for sequence in running:
            if sequence.end is not None:
                keys, values = self._lift(sequence)
                self._deliver(sequence, keys, values)
            elif sequence.length > sequence.bucket:
                self._place(sequence, *self._lift(sequence))

    def _choose(self, sequences: Sequence[_Sequence], logits: F32) -> None:
        """Draw the next token of each sequence from its own stream, and see whether it ends there."""
        chosen, logprobs, tops = pick(logits, [s.request.sampling for s in sequences], [s.draw() for s in sequences])
        now = time.monotonic()
        for sequence, token, logprob, top in zip(sequences, chosen.tolist(), logprobs.tolist(), tops, strict=True):
            piece = self.vocabulary.pieces[token]
            sequence.ids.append(token)
            alternatives = tuple((self._show(i), lp) for i, lp in top)
            sequence.tokens.append(Token(piece.decode(errors="replace"), logprob, alternatives))
            if token in self.vocabulary.ends:
                sequence.end = "eos"
                continue
            sequence.text += piece
            reach = len(piece)
            for stop in sequence.stops:
                at = sequence.text.find(stop, max(0, len(sequence.text) - reach - len(stop) + 1))
                if at >= 0:
                    del sequence.text[at + len(stop) :]
                    sequence.end = "stop"
            if sequence.end is None and len(sequence.ids) >= sequence.request.max_tokens:
                sequence.end = "length"
            if sequence.end is None and sequence.length >= self.network.shape.context:
                sequence.end = "length"
            if sequence.end is None and sequence.request.deadline is not None and now > sequence.request.deadline:
                sequence.end = "budget"
            if sequence.end is None and sequence.watch is not None and self._unwanted(sequence, sequence.watch):
                sequence.end = "cancelled"

    def _unwanted(self, sequence: _Sequence, watch: Callable[[Token], bool]) -> bool:
        """Does the watch want no more? One that raises fails its own call, and nothing else that is in flight."""
        try:
            return watch(sequence.tokens[-1])
        except Exception as error:
            sequence.job.cancelled = True
            sequence.job.fail(error)
            return False

    def _show(self, token: int) -> str:
        return self.vocabulary.pieces[token].decode(errors="replace")

    def _deliver(self, sequence: _Sequence, keys: F32 | None, values: F32 | None) -> None:
        if keys is not None and values is not None:
            ids = [*sequence.prompt.ids, *sequence.ids]
            self._cache.keep(sequence.prompt.session, ids, keys, values)
        job = sequence.job
        job.left -= 1
        if job.left == 0:
            self._answer(job)


class EmbeddedModel(Model):
    """A Qwen2 checkpoint folder (config.json, model.safetensors, tokenizer.json) as a model in this process."""

    def __init__(
        self, folder: Path | str, *, name: str | None = None, role: str | None = None, rates: Rates | None = None
    ):
        self.engine = Engine(folder)
        active = Rates(active=self.engine.network.parameters)
        super().__init__(name or Path(folder).name, role=role, rates=rates or active)
        self.context_length = self.engine.network.shape.context

    exact = True

    def count(self, context: Context) -> int:
        return len(self.engine.vocabulary.encode(render(context)))

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        job = _Job(*_answers(loop, future))
        prompts: dict[object, _Prefilled] = {}
        for request in requests:
            request.meter.usage = Usage(calls=1)  # nothing is computed yet
        for at, request in enumerate(requests, 1):
            if at % BREATH == 0:
                await asyncio.sleep(0)
            ids = self.engine.vocabulary.encode(render(request.context))
            tell = None
            if request.sampling.prefix_logprobs:
                tell = len(self.engine.vocabulary.encode(render(Context(request.context.messages))))
            prompt = prompts.setdefault((ids, tell), _Prefilled(ids, request.session, tell))
            prompt.waiting += 1
            stops = tuple(stop.encode() for stop in request.sampling.stop)
            source = np.random.Generator(np.random.Philox(key=request.seed))
            sequence = _Sequence(request, prompt, job, stops, source, request.watch() if request.watch else None)
            job.sequences.append(sequence)
        job.left = len(job.sequences)
        try:
            await self.engine.submit(job, future)
        except BaseException:
            for sequence in job.sequences:
                sequence.request.meter.usage = self._usage(sequence)
            raise
        return [self._completion(sequence) for sequence in job.sequences]

    def _completion(self, sequence: _Sequence) -> Completion:
        text, tokens = sequence.text.decode(errors="replace"), tuple(sequence.tokens)
        usage = self._usage(sequence)
        return Completion(text, sequence.end or "length", usage, tokens, prefix=sequence.prompt.told)

    def _usage(self, sequence: _Sequence) -> Usage:
        if not sequence.begun:
            return Usage(calls=1)
        return self.rates.price(prompt=len(sequence.prompt.ids), cached=sequence.cached, completion=len(sequence.ids))

    def forget(self, session: int) -> None:
        self.engine.forget(session)

    async def aclose(self) -> None:
        await asyncio.to_thread(self.engine.close)


class EmbeddedRewardModel(RewardModel):
    """A process reward model in Qwen2.5-Math-PRM's format as a reward model in this process.

    `Score.steps` holds P(good) for each step, `Score.value` that of the last one.
    """

    def __init__(
        self, folder: Path | str, *, name: str | None = None, role: str | None = None, rates: Rates | None = None
    ):
        self.engine = Engine(folder)
        if self.engine.network.score is None:
            raise BadInput(f"{folder} is no process reward model: it has no score head")
        active = Rates(active=self.engine.network.parameters)
        super().__init__(name or Path(folder).name, role=role, rates=rates or active)

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        return len(self.engine.vocabulary.encode(render_rating(problem, steps or ("",))))

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        job = _Job(*_answers(loop, future))
        context = self.engine.network.shape.context
        asked = [
            (rating, self.engine.vocabulary.encode(render_rating(rating.problem, rating.steps or ("",))))
            for rating in ratings
        ]
        job.ratings = [(rating, ids) for rating, ids in asked if len(ids) <= context]
        if job.ratings:
            await self.engine.submit(job, future)
        rewards, answers = iter(job.rewards), []
        for _, ids in asked:
            if len(ids) > context:
                why = f"{self.name}: a solution of {len(ids)} tokens does not fit the context of {context}"
                answers.append((Score(math.nan, error=why), Usage(calls=1)))
                continue
            found, cached = next(rewards)
            values = tuple(found)
            answers.append((Score(values[-1], values), self.rates.price(prompt=len(ids), cached=cached, completion=0)))
        return answers

    def forget(self, session: int) -> None:
        self.engine.forget(session)

    async def aclose(self) -> None:
        await asyncio.to_thread(self.engine.close)


def _answers(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]
) -> tuple[Callable[[], None], Callable[[BaseException], None]]:
    """Two ways in which the worker thread can end a future of an event loop, harmless once it is over."""

    def settle(error: BaseException | None) -> None:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def post(error: BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, error)

    return lambda: post(None), post
