"""Models that remember: what was once drawn is dealt out again, so that trying many workflows on the same problems costs little.

`Memory` is the file, `RememberedModel` and `RememberedReward` are doors like any other around a model's own: what they give is
held, charged and traced as if it were drawn anew.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model, Rating, Request, RewardModel
from reasonweave.orchestrator.models.embedded import (
    BLOCK,
    RATINGS,
    STEP_TAG,
    EmbeddedModel,
    EmbeddedRewardModel,
    render,
    render_rating,
)
from reasonweave.orchestrator.models.replay import Flight, Session
from reasonweave.orchestrator.types import Completion, Context, FinishReason, Problem, Score, Token, Usage

WHOLE: tuple[FinishReason, ...] = ("eos", "stop", "length")
"""How a sample ends that may be dealt out again: not by a failure, a deadline or a watch."""
_HEAD = b'{"key":"'
_DIGITS = 16
_SHIFT = 28
"""Bits of a place in the file that are the line's length."""


class Clock(Session):
    """A run's clock, which counts tokens: all that is in flight writes one a tick, and nothing lands while something is drawn."""

    __slots__ = ("_drawing", "_idle")

    def __init__(self) -> None:
        super().__init__()
        self._drawing = 0
        self._idle = asyncio.Event()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """While a sample is drawn, which takes time of another kind."""
        self._drawing += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._drawing -= 1
            if not self._drawing:
                self._idle.set()

    async def idle(self) -> None:
        """Until what is asked for at the same time is drawn."""
        await asyncio.sleep(0)
        while self._drawing:
            await self._idle.wait()


class Memory:
    """Samples and ratings by what was asked for, in one file that only grows: a line each, written as soon as it is known.

    A last line that is not whole (the process was killed) is dropped when the file is opened. Memory holds a place a line, not
    the lines. One process may have the file open at a time. Raises `BadInput` for a file that is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clocks: dict[int, Clock] = {}
        """Of each run (session) under way, the one that all its models go by."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._places: dict[int, int] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise BadInput(f"{path}: cannot be opened ({error.strerror})") from error
        self.dropped = 0
        """Bytes of a last line that was not whole."""
        self._end = 0
        self._scan()

    def _scan(self) -> None:
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    self.dropped = len(line)
                    os.truncate(self._file, self._end)
                    return
                self._note(self._key_of(line, number), len(line))

    def _key_of(self, line: bytes, number: int) -> int:
        digits = line[len(_HEAD) : len(_HEAD) + _DIGITS]
        if line.startswith(_HEAD) and line.endswith(b"}\n"):
            try:
                return int(digits, 16)
            except ValueError:
                pass
        raise BadInput(f"{self.path}, line {number}: neither a sample nor a rating; remove the line, or the file")

    def _note(self, key: int, length: int) -> None:
        self._places.setdefault(key, self._end << _SHIFT | length)
        self._end += length

    def __len__(self) -> int:
        """How many samples and ratings there are."""
        return len(self._places)

    def __contains__(self, key: int) -> bool:
        return key in self._places

    def read(self, key: int) -> dict[str, Any]:
        """What was first added under a key."""
        place = self._places[key]
        line = os.pread(self._file, place & ((1 << _SHIFT) - 1), place >> _SHIFT)
        return cast("dict[str, Any]", json.loads(line))

    def add(self, entries: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Write entries down, each a line, all at once."""
        lines: list[tuple[int, bytes]] = []
        for key, entry in entries:
            text = json.dumps({"key": f"{key:0{_DIGITS}x}", **entry}, ensure_ascii=False, separators=(",", ":"))
            lines.append((key, text.encode("utf-8", "surrogatepass") + b"\n"))
        if not lines:
            return
        written = b"".join(line for _, line in lines)
        while written:
            written = written[os.write(self._file, written) :]
        for key, line in lines:
            self._note(key, len(line))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _key(*parts: object) -> int:
    """A number of 64 bits for what is asked: of a million, two are alike with a chance of one in thirty million."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class _Blocks:
    """What one run's prefix cache holds: whole blocks of tokens, each after those before it."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def find(self, ids: Sequence[int], within: int | None = None) -> int:
        """How many of the first `within` tokens are there; at least one of all is not, because its logits are needed."""
        reach = len(ids) - 1 if within is None else min(within, len(ids) - 1)
        chain = found = 0
        while found + BLOCK <= reach:
            chain = hash((chain, tuple(ids[found : found + BLOCK])))
            if chain not in self._known:
                break
            found += BLOCK
        return found

    def keep(self, ids: Sequence[int]) -> None:
        chain = 0
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            chain = hash((chain, tuple(ids[start : start + BLOCK])))
            self._known.add(chain)


@dataclass(slots=True)
class _Run:
    """What one model knows of a run: how often each thing was asked for, and what its cache would hold."""

    asked: dict[int, int] = field(default_factory=dict)
    blocks: _Blocks = field(default_factory=_Blocks)

    def next(self, asked: int, *, greedy: bool) -> int:
        """The key of the next sample of what is asked for; of the first, where all are the same."""
        at = self.asked.get(asked, 0)
        self.asked[asked] = at + 1
        return _key(asked, 0 if greedy else at)


class RememberedModel(Model):
    """A model whose samples are remembered: the k-th request for the same thing in a run (a session) gets what the k-th was given
    in the first run that asked so often, and a new one where none did.

    The same thing is the same chat, prefix and sampling, `max_tokens` as the budget left it. So the samples of one run are
    independent of each other, and two workflows on one problem are given the same ones. Greedy requests all get the first.
    Failed, late and cut samples are not kept.

    All is charged as if it were drawn anew. `cached` prompt tokens are those that this run has had before, in whole blocks of 16,
    as the embedded engine and vLLM count them; where a model tells no token ids, they are as they were when the sample was drawn.
    Time is counted in tokens, as by `RecordedModel`: everything in flight writes one a tick. A sample under a watch is drawn
    whole, and then cut where the watch says so.

    `identity` is what the model is: samples of another are not its own.
    """

    def __init__(self, inner: Model, memory: Memory, identity: str | None = None) -> None:
        super().__init__(inner.name, role=inner.role, rates=inner.rates)
        self.inner, self.memory = inner, memory
        self.identity = identity or inner.name
        self.exact, self.context_length = inner.exact, inner.context_length
        self.fresh = self.dealt = 0
        """Samples that were drawn, and that were dealt out again."""
        self._runs: dict[int, _Run] = {}
        self._ids = _token_ids(inner)

    def __repr__(self) -> str:
        return repr(self.inner)

    def count(self, context: Context) -> int:
        return self.inner.count(context)

    async def _prepare(self, contexts: Sequence[Context], session: int) -> None:
        await self.inner._prepare(contexts, session)
        self.exact, self.context_length = self.inner.exact, self.inner.context_length

    def forget(self, session: int) -> None:
        self._runs.pop(session, None)
        self.memory.clocks.pop(session, None)
        self.inner.forget(session)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        run = self._runs.setdefault(requests[0].session, _Run())
        keys = [run.next(self._key(r), greedy=r.sampling.temperature == 0) for r in requests]
        prompts = [self._ids(request.context) for request in requests]
        cached = self._cached(requests, prompts, run)
        answers = await self._answers(requests, keys)
        answers = [
            replace(answer, usage=self.rates.price(prompt=len(ids), cached=known, completion=answer.usage.completion))
            if ids is not None and answer.finish_reason in WHOLE
            else answer
            for answer, ids, known in zip(answers, prompts, cached, strict=True)
        ]
        answers = await self._flown(requests, answers)
        await self._keep(requests, answers, run)
        return answers

    def _clock(self, requests: Sequence[Request]) -> Clock:
        return self.memory.clocks.setdefault(requests[0].session, Clock())

    def _key(self, request: Request) -> int:
        chat = [[message.role, message.content] for message in request.context.messages]
        s = request.sampling
        how = [s.temperature, s.top_p, s.top_k, s.stop, s.top_logprobs, s.prefix_logprobs, request.max_tokens]
        return _key("sample", self.identity, self.role, chat, request.context.prefix, how)

    async def _answers(self, requests: Sequence[Request], keys: Sequence[int]) -> list[Completion]:
        """The sample of each key: from the memory, or drawn in one call with all others that it lacks."""
        lacking: dict[int, Request] = {}
        for request, key in zip(requests, keys, strict=True):
            if key not in self.memory:
                lacking.setdefault(key, replace(request, watch=None))
            else:
                request.meter.usage = Usage(calls=1)  # what a cancelled call is charged before it is under way
        found = {key: self._read(key) for key in dict.fromkeys(keys) if key not in lacking}
        self.dealt += len(keys) - len(lacking)
        if lacking:
            with self._clock(requests).drawing():
                drawn = await self.inner._generate(list(lacking.values()))
            if len(drawn) != len(lacking):
                return list(drawn)  # the door says what is wrong with that
            self.fresh += len(drawn)
            found.update(zip(lacking, drawn, strict=True))
            self.memory.add((key, _written(c)) for key, c in zip(lacking, drawn, strict=True) if _whole(c))
        return [found[key] for key in keys]

    def _read(self, key: int) -> Completion:
        entry = self.memory.read(key)
        tokens = _tokens(entry.get("tokens"))
        text = entry["text"] if "text" in entry else "".join(token.text for token in tokens)
        prompt, cached, completion = entry["used"]
        usage = self.rates.price(prompt=prompt, cached=cached, completion=completion)
        return Completion(text, entry["end"], usage, tokens, prefix=_tokens(entry.get("prefix")))

    def _cached(self, requests: Sequence[Request], prompts: Sequence[tuple[int, ...] | None], run: _Run) -> list[int]:
        """How many tokens of each prompt a run of its own would have cached by now: of equal ones, all but the first are."""
        found: list[int] = []
        seen: set[object] = set()
        for request, ids in zip(requests, prompts, strict=True):
            if ids is None:
                found.append(0)
                continue
            within = None
            if request.sampling.prefix_logprobs:
                bare = self._ids(Context(request.context.messages))
                within = None if bare is None else len(bare) - 1
            found.append(len(ids) if (ids, within) in seen else run.blocks.find(ids, within))
            seen.add((ids, within))
        return found

    async def _flown(self, requests: Sequence[Request], answers: Sequence[Completion]) -> list[Completion]:
        """Let the answers of one call land when they would be written, next to all else that this run has in flight."""
        clock = self._clock(requests)
        await clock.idle()
        lengths = [len(answer.tokens) or answer.usage.completion for answer in answers]
        if not any(request.watch for request in requests):
            flights = [clock.fly(max(lengths), None)] * len(answers)
        else:
            flights = [clock.fly(n, _shown(r, a)) for n, r, a in zip(lengths, requests, answers, strict=True)]
        try:
            for flight in flights:
                await flight.landed
        except asyncio.CancelledError:
            for request, answer, flight in zip(requests, answers, flights, strict=True):
                flight.landed.cancel()
                used = answer.usage
                completion = min(used.completion, flight.written(clock.now))
                request.meter.usage = self.rates.price(prompt=used.prompt, cached=used.cached, completion=completion)
            raise
        return [self._cut(answer, flight) for answer, flight in zip(answers, flights, strict=True)]

    def _cut(self, answer: Completion, flight: Flight) -> Completion:
        if not flight.cut:
            return answer
        tokens, used = answer.tokens[: flight.length], answer.usage
        usage = self.rates.price(prompt=used.prompt, cached=used.cached, completion=flight.length)
        return replace(
            answer,
            text="".join(token.text for token in tokens),
            finish_reason="cancelled",
            usage=usage,
            tokens=tokens,
        )

    async def _keep(self, requests: Sequence[Request], answers: Sequence[Completion], run: _Run) -> None:
        """Note what a cache would hold by now: prompts and answers, but for the last token, of which it has no keys."""
        ended = [
            (Context(request.context.messages, request.context.prefix + answer.text), answer.finish_reason == "eos")
            for request, answer in zip(requests, answers, strict=True)
            if answer.finish_reason in (*WHOLE, "cancelled") and self._ids(request.context) is not None
        ]
        if ended:
            await self.inner._prepare([context for context, _ in ended], requests[0].session)
        for context, whole in ended:
            if (ids := self._ids(context)) is not None:
                run.blocks.keep(ids if whole else ids[:-1])


class RememberedReward(RewardModel):
    """A reward model whose ratings are remembered, by problem and steps; charged as if they were made anew.

    Of the embedded engine, what a run has rated before counts as cached as it does there; of others, as it was when the rating
    was made. Ratings that failed are not kept.
    """

    def __init__(self, inner: RewardModel, memory: Memory, identity: str | None = None) -> None:
        super().__init__(inner.name, role=inner.role, rates=inner.rates)
        self.inner, self.memory = inner, memory
        self.identity = identity or inner.name
        self.fresh = self.dealt = 0
        """Ratings that were made, and that were known."""
        self._read: dict[int, _Rated] = {}

    def __repr__(self) -> str:
        return repr(self.inner)

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        return self.inner.count(problem, steps)

    async def _prepare(self, asked: Sequence[tuple[Problem, tuple[str, ...]]], session: int) -> None:
        await self.inner._prepare(asked, session)

    def _worst(self, rating: Rating) -> Usage:
        return self.inner._worst(rating)

    def forget(self, session: int) -> None:
        self._read.pop(session, None)
        self.inner.forget(session)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        keys = [_key("rating", self.identity, self.role, r.problem.prompt, r.steps) for r in ratings]
        lacking = [i for i, key in enumerate(keys) if key not in self.memory]
        found = {i: self._known(key) for i, key in enumerate(keys) if key in self.memory}
        self.dealt += len(found)
        if lacking:
            made = await self.inner._rate([ratings[i] for i in lacking])
            if len(made) != len(lacking):
                return list(made)
            self.fresh += len(made)
            found.update(zip(lacking, made, strict=True))
            good = [i for i in lacking if found[i][0].error is None]
            self.memory.add((keys[i], _judged(*found[i])) for i in good)
        answers = [found[i] for i in range(len(ratings))]
        if not isinstance(self.inner, EmbeddedRewardModel):
            return answers
        read = self._read.setdefault(ratings[0].session, _Rated())
        usage = read.charged(self.inner, [r for r, (score, _) in zip(ratings, answers, strict=True) if not score.error])
        return [(score, spent if score.error else next(usage)) for score, spent in answers]

    def _known(self, key: int) -> tuple[Score, Usage]:
        entry = self.memory.read(key)
        prompt, cached = entry["used"]
        score = Score(float(entry["value"]), tuple(map(float, entry["steps"])))
        return score, self.rates.price(prompt=prompt, cached=cached, completion=0)


@dataclass(slots=True)
class _Rated:
    """What the embedded engine would have kept of a run's ratings: keys and values by blocks, rewards by prefix."""

    blocks: _Blocks = field(default_factory=_Blocks)
    told: set[tuple[int, ...]] = field(default_factory=set)

    def charged(self, model: EmbeddedRewardModel, ratings: Sequence[Rating]) -> Iterator[Usage]:
        """What each rating would cost: of several of a problem, the first is rated before the others, which find its text."""
        encode = model.engine.vocabulary.encode
        (tag,) = encode(STEP_TAG)
        texts = [encode(render_rating(rating.problem, rating.steps or ("",))) for rating in ratings]
        firsts = {rating.problem: i for i, rating in reversed(list(enumerate(ratings)))}
        heads = sorted(firsts.values())
        others = sorted(set(range(len(ratings))).difference(heads))
        cached: dict[int, int] = {}
        for part in (heads, *(others[at : at + RATINGS] for at in range(0, len(others), RATINGS))):
            rated = {i: [at + 1 for at, token in enumerate(texts[i]) if token == tag] for i in part}
            for i, ends in rated.items():
                ids = texts[i]
                unknown = next((end for end in ends if ids[:end] not in self.told), None)
                cached[i] = len(ids) if unknown is None else self.blocks.find(ids, unknown - 1)
            for i, ends in rated.items():
                if cached[i] < len(texts[i]):
                    self.blocks.keep(texts[i])
                    self.told.update(texts[i][:end] for end in ends)
        return iter([model.rates.price(prompt=len(t), cached=cached[i], completion=0) for i, t in enumerate(texts)])


def _token_ids(model: Model) -> Callable[[Context], tuple[int, ...] | None]:
    """How to tell a context's tokens: exactly where the tokenizer is at hand, None where nobody knows them."""
    if isinstance(model, EmbeddedModel):
        encode = model.engine.vocabulary.encode
        return lambda context: encode(render(context))
    texts = getattr(model, "texts", None)  # a server's, or vLLM's in this process
    if texts is None:
        return lambda context: None

    def known(context: Context) -> tuple[int, ...] | None:
        ids = texts.ids(context)
        return None if ids is None else tuple(ids)

    return known


def _whole(answer: Completion) -> bool:
    return answer.finish_reason in WHOLE and answer.error is None


def _shown(request: Request, answer: Completion) -> Callable[[Token], bool] | None:
    """The request's watch, shown the answer's own tokens one after another."""
    if request.watch is None:
        return None
    over, tokens = request.watch(), iter(answer.tokens)
    return lambda _: over(next(tokens, Token("")))


def _written(answer: Completion) -> dict[str, Any]:
    """A sample as a line has it."""
    used = answer.usage - answer.lost
    entry: dict[str, Any] = {"end": answer.finish_reason, "used": [used.prompt, used.cached, used.completion]}
    if answer.text != "".join(token.text for token in answer.tokens):
        entry["text"] = answer.text
    if answer.tokens:
        entry["tokens"] = _packed(answer.tokens)
    if answer.prefix:
        entry["prefix"] = _packed(answer.prefix)
    return entry


def _judged(score: Score, used: Usage) -> dict[str, Any]:
    return {"value": score.value, "steps": score.steps, "used": [used.prompt, used.cached]}


def _packed(tokens: Sequence[Token]) -> dict[str, Any]:
    """Tokens as JSON: texts, log-probabilities to the last bit, and alternatives where there are any."""
    packed: dict[str, Any] = {"text": [token.text for token in tokens]}
    known = [token.logprob for token in tokens]
    if None not in known:
        exact = np.array(known, dtype="<f8")
        with np.errstate(over="ignore"):
            short = exact.astype("<f4")
        form, numbers = ("f4", short) if np.array_equal(short.astype("<f8"), exact) else ("f8", exact)
        packed[form] = base64.b64encode(numbers.tobytes()).decode()
    elif any(logprob is not None for logprob in known):
        packed["logprobs"] = known
    if any(token.top for token in tokens):
        packed["top"] = [token.top for token in tokens]
    return packed


def _tokens(packed: Mapping[str, Any] | None) -> tuple[Token, ...]:
    if not packed:
        return ()
    texts = packed["text"]
    logprobs: Sequence[float | None] = packed.get("logprobs") or [None] * len(texts)
    for form in ("f4", "f8"):
        if form in packed:
            logprobs = np.frombuffer(base64.b64decode(packed[form]), dtype=f"<{form}").astype("<f8").tolist()
    tops = packed.get("top") or [()] * len(texts)
    return tuple(
        Token(text, logprob, tuple((str(t), float(p)) for t, p in top))
        for text, logprob, top in zip(texts, logprobs, tops, strict=True)
    )
