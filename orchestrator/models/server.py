"""Models behind an OpenAI-compatible server, vLLM first.

With a server that tokenizes (vLLM), a chat is rendered once a problem, through the server, and generation goes through
`/v1/completions` on token ids: what a model has written is continued on the very ids it wrote, prompts are counted
exactly before a call, and step delimiters stay in the text. Any other server is asked for chat completions, which serve
whole answers only: a chat cannot be continued in the middle of an assistant's turn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.errors import BadInput, ModelError, NotFound
from reasonweave.orchestrator.models.base import Model, Request, cut_at, seconds_left, unwatched
from reasonweave.orchestrator.models.endpoint import (
    Again,
    Endpoint,
    Failed,
    OutOfBudget,
    Replica,
    Transient,
    headers,
)
from reasonweave.orchestrator.models.texts import (
    TEMPLATE,
    Ids,
    Texts,
    finite,
    prefix_of,
    reason_of,
    tokens_of,
)
from reasonweave.orchestrator.types import Completion, Context, Message, Sampling, Token, Usage

SALT = uuid4().hex[:12]
"""Sets this process's prefix-cache salts apart from those of others."""


THINK, THOUGHT = "<think>", "</think>\n\n"
"""What stands around the reasoning that a chat tells apart from its answer."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server can do, as far as it tells without being asked for tokens."""

    model: str
    served: tuple[str, ...]
    version: str | None
    paths: frozenset[str]
    fields: frozenset[str]
    """Fields that `/v1/completions` knows."""
    context_length: int | None
    whole_pieces: bool = False
    """Whether a text's pieces, tokenized one by one, are the text tokenized: true of byte-level tokenizers."""

    @property
    def completions(self) -> bool:
        """Can this server be driven token by token: rendering, tokenizing and completing?"""
        return {"/tokenize", "/v1/completions"} <= self.paths


async def probe(endpoint: Endpoint, name: str | None) -> Abilities:
    """Ask a server what it is. Raises `NotFound` where it serves other models only, `ModelError` where it cannot be reached."""
    listed = await endpoint.call("/v1/models", attempts=3)
    if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
        raise ModelError(
            f"{endpoint}/v1/models is no list of models: is this the base URL of an OpenAI-compatible server?"
        )
    entries = {str(e["id"]): e for e in listed["data"] if isinstance(e, dict) and "id" in e}
    if name and entries and name not in entries:
        raise NotFound("model", name, entries, hint=f"That is what {endpoint} serves")
    model = name or next(iter(entries), "")
    schema = await _optional(endpoint, "/openapi.json")
    version = (await _optional(endpoint, "/version")).get("version")
    fields = schema.get("components", {}).get("schemas", {}).get("CompletionRequest", {}).get("properties", {})
    found = Abilities(
        model=model,
        served=tuple(entries),
        version=version if isinstance(version, str) else None,
        paths=frozenset(schema.get("paths", {})) or await _tried(endpoint, model),
        fields=frozenset(fields),
        context_length=entries.get(model, {}).get("max_model_len"),
    )
    if not found.completions:
        return found
    shown = await endpoint.call(
        "/tokenize", {"model": model, "prompt": "a b", "add_special_tokens": False, "return_token_strs": True}
    )
    spaced = any("\u2581" in str(piece) for piece in shown.get("token_strs") or ["\u2581"])
    return replace(found, whole_pieces=not spaced)


async def _optional(endpoint: Endpoint, path: str) -> dict[str, Any]:
    """What a server tells on a path that not all have."""
    try:
        told = await endpoint.call(path, attempts=3)
    except Failed as error:
        if error.spent is None:  # broken, not absent
            raise
        return {}
    return told if isinstance(told, dict) else {}


async def _tried(endpoint: Endpoint, model: str) -> frozenset[str]:
    """The paths of a server that publishes no list of them, found by asking one that costs nothing."""
    try:
        shown = await endpoint.call("/tokenize", {"model": model, "prompt": "a"}, attempts=1)
    except ModelError:
        return frozenset()
    vllm_s = frozenset({"/tokenize", "/detokenize", "/v1/completions", "/pooling", "/classify"})
    return vllm_s if isinstance(shown, dict) and "tokens" in shown else frozenset()


class _Served:
    """A server's `/tokenize` and `/detokenize`, for `Texts`."""

    def __init__(self, endpoint: Endpoint, template: dict[str, Any]) -> None:
        self.endpoint, self.template = endpoint, template
        self.model, self.whole_pieces = "", False

    async def render(self, messages: Sequence[Message], session: int) -> Ids:
        body = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "add_generation_prompt": True,
            **({"chat_template_kwargs": self.template} if self.template else {}),
        }
        return tuple((await self.endpoint.call("/tokenize", body, session=session_label(session)))["tokens"])

    async def tokenize(self, text: str, session: int) -> Ids:
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return tuple((await self.endpoint.call("/tokenize", body, session=session_label(session)))["tokens"])

    async def detokenize(self, ids: Ids, session: int) -> str:
        body = {"model": self.model, "tokens": list(ids)}
        return str((await self.endpoint.call("/detokenize", body, session=session_label(session)))["prompt"])


class ServerModel(Model):
    """A model behind an OpenAI-compatible server.

    `name` is what the server calls it (None: whatever it serves). `rates` prices its tokens (`Rates(active=…)` for
    FLOPs). `template` goes to the chat template (`{"enable_thinking": False}`). `salt` keeps one run's prefix cache from
    another's, so that what a run is charged does not depend on what ran before it; `priority` is the server's, lower
    first. With a `seconds` budget answers are streamed, so that a late one is cut and not lost.
    """

    def __init__(
        self,
        name: str | None,
        endpoint: Endpoint,
        *,
        role: str | None = None,
        rates: Rates | None = None,
        template: dict[str, Any] | None = None,
        salt: bool = True,
        priority: int | None = None,
        max_tokens_field: str = "max_tokens",
    ) -> None:
        super().__init__(name or str(endpoint), role=role, rates=rates)
        self.served, self.endpoint = name, endpoint
        self.salt, self.priority, self.max_tokens_field = salt, priority, max_tokens_field
        self._tokenizer = _Served(endpoint, template or {})
        self.texts = Texts(self._tokenizer)
        self.able: Abilities | None = None

    async def abilities(self) -> Abilities:
        """What the server can do; asked once."""
        if self.able is None:
            async with self.endpoint.bound().lock:
                if self.able is None:
                    self.able = await probe(self.endpoint, self.served)
                    self.exact = self.able.completions  # only then is a prompt's length known well enough to hold it
                    self.context_length = self.able.context_length if self.exact else None
                    self._tokenizer.model, self._tokenizer.whole_pieces = self.able.model, self.able.whole_pieces
        return self.able

    def count(self, context: Context) -> int:
        ids = self.texts.ids(context)
        return len(ids) if ids is not None else super().count(context) + TEMPLATE

    def forget(self, session: int) -> None:
        self.texts.forget(session)

    async def aclose(self) -> None:
        await self.endpoint.aclose()

    async def _prepare(self, contexts: Sequence[Context], session: int) -> None:
        able = await self.abilities()
        if able.completions:
            self.texts.use(session, contexts)
            await self.texts.learn(contexts, session)
        elif any(context.prefix for context in contexts):
            raise BadInput(
                f"{self.name}: {self.endpoint} offers chat completions only, and a chat cannot be continued in the middle "
                "of a turn, so steps cannot be sampled from it; use a workflow of whole answers, or a vLLM server"
            )

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        able = await self.abilities()
        alike: dict[object, list[int]] = {}
        for i, request in enumerate(requests):
            # A stream each, so that each can be cut by itself; and servers refuse several greedy choices of one prompt.
            streamed = _streamed(request, able)
            if streamed:
                request.meter.usage = Usage()  # nothing is asked yet
            alone = streamed or request.sampling.temperature == 0
            alike.setdefault((request.context, request.max_tokens, i if alone else None), []).append(i)
        answers: dict[int, Completion] = {}

        async def serve(group: list[int]) -> None:
            part = [requests[i] for i in group]
            answers.update(zip(group, await self._together(part, able), strict=True))

        await together(serve(group) for group in alike.values())
        return [answers[i] for i in range(len(requests))]

    async def _together(self, requests: Sequence[Request], able: Abilities) -> list[Completion]:
        """Requests with one context, in one call. One that fails for good takes no others with it."""
        first, live = requests[0], list(requests)

        def again(spent: Usage | None) -> bool:
            live[:] = [request for request in live if request.meter.retry(spent)]
            return bool(live)

        if first.sampling.prefix_logprobs and "prompt_logprobs" not in able.fields:
            told = f"{self.name}: {self.endpoint} does not tell what it thinks of a given text (prompt_logprobs)"
            return [Completion("", "error", Usage(calls=1), error=told) for _ in requests]

        try:
            if able.completions and self.texts.ids(first.context) is None:  # another run let go of this chat
                await self.texts.learn([first.context], first.session)
            if _streamed(first, able):
                return [await self._stream(first, able, again)]
            found = await (self._complete if able.completions else self._chat)(live, able, again)
        except OutOfBudget:
            return [Completion("", "budget") for _ in requests]
        except ModelError as error:
            known = error.spent if isinstance(error, Failed) else None
            worst = [self.rates.worst(prompt=r.prompt, completion=r.max_tokens) for r in requests]
            charge = [known or r.meter.usage or most for r, most in zip(requests, worst, strict=True)]
            return [Completion("", "error", c, error=f"{self.name}: {error}") for c in charge]
        served = {id(request): completion for request, completion in zip(live, found, strict=True)}
        return [served.get(id(request)) or Completion("", "budget") for request in requests]

    # Completions on token ids.

    def _body(self, request: Request, able: Abilities, n: int) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": able.model,
            "prompt": list(self.texts.ids(request.context) or ()),
            "max_tokens": request.max_tokens,
            "n": n,
            "logprobs": sampling.top_logprobs,
            "prompt_logprobs": 0 if sampling.prefix_logprobs else None,
            "include_stop_str_in_output": True,
            "return_token_ids": True,
            "add_special_tokens": False,
            "cache_salt": f"{SALT}-{request.session}" if self.salt else None,
            "session_id": session_label(request.session),
            "priority": self.priority,
            "top_k": sampling.top_k or None,
            **_common(request),
        }
        known = able.fields or frozenset(body)
        return {name: value for name, value in body.items() if value is not None and name in known}

    async def _complete(self, requests: list[Request], able: Abilities, again: Again) -> list[Completion]:
        """`requests` shrinks where the budget pays for another attempt at some of them only."""
        first = requests[0]
        label = session_label(first.session)

        async def once(replica: Replica) -> Any:
            body = self._body(requests[0], able, len(requests))
            return await replica.ask("/v1/completions", body, headers(label), self.endpoint.timeout)

        answer = await self.endpoint.attempt(once, session=label, deadline=first.deadline, again=again)
        prompt_ids = self.texts.ids(first.context) or ()
        choices = _choices(answer, len(requests))
        prompt, cached, completion = _counts(answer)
        length = len(self.texts.ids(first.context) or ()) if prompt is None else prompt
        completions = []
        for i, (request, choice) in enumerate(zip(requests, choices, strict=True)):
            ids = choice.get("token_ids")
            written = len(ids) if ids else _told_tokens(choice) or _share(completion, i, len(requests))
            usage = self.rates.price(
                prompt=length,
                cached=min(length, cached) if i == 0 else length,
                completion=request.max_tokens if written is None else min(written, request.max_tokens),
            )
            tokens = tokens_of(choice.get("logprobs"), request.sampling.top_logprobs)
            read = self._read(request, choice, usage, ids, tokens)
            if request.sampling.prefix_logprobs:
                head = len(self.texts.ids(Context(request.context.messages)) or ())
                read = replace(read, prefix=prefix_of(choice.get("prompt_logprobs"), prompt_ids, head))
            completions.append(read)
        return completions

    def _read(
        self,
        request: Request,
        choice: dict[str, Any],
        usage: Usage,
        ids: Sequence[int] | None,
        tokens: tuple[Token, ...],
    ) -> Completion:
        text, reason = str(choice.get("text") or ""), reason_of(choice)
        if reason == "error":
            return Completion("", "error", usage, error=f"{self.name}: ended with {choice.get('finish_reason')!r}")
        if reason != "eos":
            self._keep(request, text, tokens, ids)
        return Completion(text, reason, usage, tokens)

    def _keep(self, request: Request, text: str, tokens: Sequence[Token], ids: Sequence[int] | None) -> None:
        """Keep the ids of what was written, so that it is continued on them."""
        known = self.texts.ids(request.context)
        if ids and known is not None and "".join(t.text for t in tokens) == text:
            self.texts.remember(request.context, text, (*known, *ids))

    async def _stream(self, request: Request, able: Abilities, again: Again) -> Completion:
        """One request in pieces, until its own end, the deadline, or the token after which a watch wants no more."""
        if able.completions:
            path, body = "/v1/completions", self._body(request, able, 1)
            options = {"include_usage": True, "continuous_usage_stats": True}
            prompt = len(self.texts.ids(request.context) or ())
        else:
            path, body = "/v1/chat/completions", self._chat_body(request, able, 1)
            if request.watch is not unwatched:
                body |= {"logprobs": True}
            options, prompt = {"include_usage": True}, request.prompt
        body |= {"stream": True, "stream_options": options}

        async def once(replica: Replica) -> Completion:
            nonlocal prompt
            gathered, ids = _Gathered(), list[int]()
            watch = request.watch() if request.watch else None
            late = cut = came = False

            def sent() -> None:
                request.meter.usage = self.rates.price(prompt=prompt, completion=0)

            try:
                async with asyncio.timeout(seconds_left(request.deadline)):
                    async with replica.stream(
                        path, body, headers(session_label(request.session)), self.endpoint.timeout, sent
                    ) as pieces:
                        async for piece in pieces:
                            came = True
                            fresh = gathered.add(piece, request.sampling.top_logprobs)
                            for choice in piece.get("choices") or ():
                                ids += choice.get("token_ids") or ()
                            read, cached, completion = _counts(piece)
                            if read is not None and not able.completions:
                                prompt = min(read, request.prompt)
                            seen = len(gathered.tokens) or len(gathered.text.encode())
                            count = min(max(completion or 0, len(ids)) or seen, request.max_tokens)
                            request.meter.usage = self.rates.price(
                                prompt=prompt, cached=min(cached, prompt), completion=count
                            )
                            kept = None if watch is None else cut_at(fresh, watch, ended=gathered.ended)
                            if kept is not None:
                                gathered.drop(fresh[kept:])
                                cut = True
                                break
                if not (cut or gathered.ended):
                    raise Transient("the stream ended in the middle", spent=None)
            except TimeoutError:
                late = True
            except Transient as error:
                spent = request.meter.usage if came else error.spent
                request.meter.usage = None
                raise Transient(str(error), spent=spent, after=error.after) from error
            usage = request.meter.usage or Usage()
            if late or cut:
                self._keep(request, gathered.text, gathered.tokens, ids[: len(gathered.tokens)])
                return Completion(gathered.text, "cancelled" if cut else "budget", usage, tuple(gathered.tokens))
            return self._read(request, gathered.ending, usage, ids, tuple(gathered.tokens))

        def another(spent: Usage | None) -> bool:
            granted = again(spent)
            request.meter.usage = Usage()  # nothing is under way in the pause between two attempts
            return granted

        return await self.endpoint.attempt(
            once, session=session_label(request.session), deadline=request.deadline, again=another
        )

    # Chat completions, where there is nothing better.

    def _chat_body(self, request: Request, able: Abilities, n: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": able.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.context.messages],
            self.max_tokens_field: request.max_tokens,
            "n": n,
            **_common(request),
        }
        if request.sampling.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.sampling.top_logprobs}
        return body

    async def _chat(self, requests: list[Request], able: Abilities, again: Again) -> list[Completion]:
        first = requests[0]
        label = session_label(first.session)

        async def once(replica: Replica) -> Any:
            body = self._chat_body(requests[0], able, len(requests))
            return await replica.ask("/v1/chat/completions", body, headers(label), self.endpoint.timeout)

        answer = await self.endpoint.attempt(once, session=label, deadline=first.deadline, again=again)
        choices = _choices(answer, len(requests), fewer=True)  # some servers know no n, and answer once
        rest = requests[len(choices) :]
        prompt, cached, completion = _counts(answer)
        completions = []
        for i, (request, choice) in enumerate(zip(requests, choices, strict=False)):
            message = choice.get("message") or {}
            reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
            text = (f"{THINK}{reasoning}{THOUGHT}" if reasoning else "") + str(message.get("content") or "")
            tokens = _chat_tokens(choice.get("logprobs"))
            share = _share(completion, i, len(choices))
            read = request.prompt if prompt is None else min(prompt, request.prompt)
            usage = self.rates.price(
                prompt=read,
                cached=min(cached, read) if i == 0 else read,
                completion=min(request.max_tokens, request.max_tokens if share is None else share),
            )
            reason = reason_of(choice)
            error = f"{self.name}: ended with {choice.get('finish_reason')!r}" if reason == "error" else None
            completions.append(Completion(text, reason, usage, tokens, error=error))
        for request in rest:
            completions += await self._together([request], able)
        return completions


@dataclass(slots=True)
class _Gathered:
    """The pieces of a streamed choice, of a completion or a chat, put together."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    thinking: bool = False
    finish: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.finish.get("finish_reason") is not None

    @property
    def ending(self) -> dict[str, Any]:
        """The choice as it would have come in one piece, its log-probabilities aside."""
        return {"text": self.text + THOUGHT if self.thinking else self.text, **self.finish}

    def drop(self, tokens: Sequence[Token]) -> None:
        """Take back the newest tokens."""
        self.text = self.text.removesuffix("".join(token.text for token in tokens))
        self.tokens = self.tokens[: len(self.tokens) - len(tokens)]

    def add(self, piece: Any, top: int) -> list[Token]:
        """Take in a piece; returns the tokens that came with it, or its text as one where the server tells no tokens."""
        fresh: list[Token] = []
        before = len(self.text)
        for choice in piece.get("choices") or ():
            told = choice.get("logprobs")
            if (delta := choice.get("delta")) is None:
                self.text += choice.get("text") or ""
                fresh += tokens_of(told, top)
            else:
                if thought := delta.get("reasoning") or delta.get("reasoning_content"):
                    self.text += thought if self.thinking else THINK + thought
                    self.thinking = True
                if content := delta.get("content"):
                    self.text += THOUGHT + content if self.thinking else content
                    self.thinking = False
                fresh += _chat_tokens(told)
            for name in ("finish_reason", "stop_reason"):
                if choice.get(name) is not None:
                    self.finish[name] = choice[name]
        self.tokens += fresh
        return fresh or [Token(text) for text in (self.text[before:],) if text]


def _streamed(request: Request, able: Abilities) -> bool:
    """With a watch an answer comes in pieces, and with a deadline where it can be continued; except one that servers refuse to
    stream."""
    wanted = request.watch is not None or (able.completions and request.deadline is not None)
    return wanted and not request.sampling.prefix_logprobs


def session_label(session: int) -> str:
    """What a run is called towards routers and caches."""
    return f"{SALT}-{session}"


def _common(request: Request) -> dict[str, Any]:
    sampling: Sampling = request.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request.seed,
        **({"stop": list(sampling.stop)} if sampling.stop else {}),
    }


def _told_tokens(choice: dict[str, Any]) -> int:
    """Tokens that a choice tells log-probabilities of; 0 where it tells none."""
    return len((choice.get("logprobs") or {}).get("tokens") or ())


def _share(total: int | None, i: int, n: int) -> int | None:
    """The i-th of n parts of a count that was told for all together."""
    return None if total is None else total // n + (i < total % n)


def _choices(answer: Any, n: int, *, fewer: bool = False) -> list[dict[str, Any]]:
    """The choices in the order of their index. Raises `ModelError` for an answer that is none."""
    found = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not (len(found) == n or (fewer and 0 < len(found) < n)):
        raise ModelError(f"answered with {len(found) if isinstance(found, list) else 'no'} choices of {n}")
    return sorted(found, key=lambda choice: choice.get("index", 0))


def _counts(answer: Any) -> tuple[int | None, int, int | None]:
    """Prompt, cached and completion tokens as the server counts them; None where it does not say."""
    usage = (answer.get("usage") if isinstance(answer, dict) else None) or {}
    details = usage.get("prompt_tokens_details") or {}
    return usage.get("prompt_tokens"), int(details.get("cached_tokens") or 0), usage.get("completion_tokens")


def cached_of(answer: Any) -> int:
    """Prompt tokens that the server had in its prefix cache, as far as it tells."""
    return _counts(answer)[1]


def _chat_tokens(told: Any) -> tuple[Token, ...]:
    return tuple(
        Token(
            entry.get("token", ""),
            finite(entry.get("logprob")),
            tuple(
                (t.get("token", ""), lp)
                for t in entry.get("top_logprobs") or ()
                if (lp := finite(t.get("logprob"))) is not None
            ),
        )
        for entry in (told or {}).get("content") or ()
    )


def vllm(name: str, *, role: str | None = None) -> ServerModel:
    """The provider `vllm`: `vllm/NAME@URL`, several replicas separated by commas; key from `VLLM_API_KEY`."""
    served, at, urls = name.rpartition("@")
    if not at or not all(url.startswith(("http://", "https://")) for url in urls.split(",")):
        raise BadInput(f"vllm/{name}: write vllm/NAME@http://HOST:PORT/v1 (replicas: more URLs after commas)")
    return ServerModel(
        served or None, Endpoint(urls.split(","), key=os.environ.get("VLLM_API_KEY", "EMPTY")), role=role
    )


def openai(name: str, *, role: str | None = None) -> ServerModel:
    """The provider `openai`: any server at `OPENAI_BASE_URL` (default: OpenAI's own), with `OPENAI_API_KEY`."""
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    if not (key := os.environ.get("OPENAI_API_KEY")):
        raise BadInput(f"openai/{name}: set OPENAI_API_KEY (and OPENAI_BASE_URL for another server than OpenAI's)")
    return ServerModel(name, Endpoint([url], key=key), role=role, max_tokens_field="max_completion_tokens")
