"""vLLM in this process (extra `vllm`): token ids in and out, no HTTP.

vLLM's `AsyncLLM` lives on an event loop of its own, in a thread of its own; calls come to it from any loop. Cancelling a
call aborts its requests, and what they had produced by then is what is charged.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import math
import os
import threading
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.errors import BadInput, ModelError
from reasonweave.orchestrator.models.base import Model, Rating, Request, RewardModel, cut_at, seconds_left
from reasonweave.orchestrator.models.launch import QUIET
from reasonweave.orchestrator.models.reward_formats import Format, Outcome, PlusMinus, Skywork, StepTags
from reasonweave.orchestrator.models.reward_server import Asked
from reasonweave.orchestrator.models.texts import TEMPLATE, Ids, Texts, prefix_of, reason_of, tokens_of
from reasonweave.orchestrator.types import Completion, Context, Message, Problem, Score, Token, Usage

T = TypeVar("T")
_numbers = itertools.count(1)


class _Engine:
    """One `AsyncLLM`, started on first use."""

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        self.model, self.options = model, options
        self._llm: Any = None
        self._thread: threading.Thread | None = None

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and wait for it on the caller's."""
        if self._thread is None:
            self.loop, self._lock = asyncio.new_event_loop(), asyncio.Lock()
            self._thread = threading.Thread(
                target=self.loop.run_forever, name=f"vllm-{Path(self.model).name}", daemon=True
            )
            self._thread.start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    async def llm(self) -> Any:
        """The engine; on its own loop."""
        async with self._lock:
            if self._llm is None:
                for name, value in QUIET.items():
                    os.environ.setdefault(name, value)
                vllm = _vllm()
                on_cpu = importlib.import_module("vllm.platforms").current_platform.is_cpu()
                careful = {"enable_chunked_prefill": False} if on_cpu else {}  # as in launch.command
                args = vllm.AsyncEngineArgs(model=self.model, disable_log_stats=True, **(careful | self.options))
                async_llm = importlib.import_module("vllm.v1.engine.async_llm").AsyncLLM
                try:
                    self._llm = async_llm.from_engine_args(args)
                except (ValueError, OSError, RuntimeError) as error:
                    raise ModelError(f"vLLM cannot load {self.model}: {error}") from error
            return self._llm

    async def context_length(self) -> int:
        """The most tokens of prompt and completion together."""
        return int((await self.llm()).model_config.max_model_len)

    async def generate(self, prompt: dict[str, Any], params: Any, request: Request, rates: Rates) -> Any:
        """The final output of one request; keeps its meter, and ends at the request's deadline with what there is."""
        llm, last, ids = await self.llm(), None, prompt["prompt_token_ids"]
        watch, seen = request.watch() if request.watch else None, 0
        request.meter.usage = rates.price(prompt=len(ids), completion=0)
        try:
            async with asyncio.timeout(seconds_left(request.deadline)):
                async with aclosing(llm.generate(prompt, params, f"rw-{next(_numbers)}")) as outputs:
                    async for output in outputs:
                        last, found = output, output.outputs[0]
                        written = len(found.token_ids)
                        cached = min(len(ids), output.num_cached_tokens or 0)
                        request.meter.usage = rates.price(prompt=len(ids), cached=cached, completion=written)
                        if watch is None:
                            continue
                        told = _told(found.logprobs[seen:], found.token_ids[seen:])
                        fresh = tokens_of(told, request.sampling.top_logprobs)
                        kept = cut_at(fresh, watch, ended=found.finish_reason is not None)
                        if kept is not None:
                            found.text = found.text.removesuffix("".join(token.text for token in fresh[kept:]))
                            found.token_ids = found.token_ids[: seen + kept]
                            found.finish_reason = "cancelled"
                            break
                        seen = written
        except TimeoutError:
            if last is not None:
                last.outputs[0].finish_reason = "budget"
        return last

    async def rows(self, ids: Ids) -> Any:
        """A reward model's rows for one text."""
        pooling = _vllm().PoolingParams(task="token_classify")
        llm, last = await self.llm(), None
        async for output in llm.encode({"prompt_token_ids": list(ids)}, pooling, f"rw-{next(_numbers)}"):
            last = output
        if last is None:
            raise ModelError("vLLM gave no answer to a rating")
        return last.outputs.data.tolist()

    async def close(self) -> None:
        """End the engine and its loop."""
        if self._thread is None:
            return
        if self._llm is not None:
            await self.call(_shut(self._llm))
            self._llm = None
        self.loop.call_soon_threadsafe(self.loop.stop)
        await asyncio.to_thread(self._thread.join, 30)
        if not self._thread.is_alive():
            self.loop.close()
        self._thread = None


async def _shut(llm: Any) -> None:
    llm.shutdown(timeout=10)


def _vllm() -> Any:
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise BadInput(
            f"vLLM in this process needs the extra vllm ({error}): pip install 'reasonweave[vllm]'"
        ) from error


class _Tokenizer:
    """The engine's own tokenizer, for `Texts`."""

    def __init__(self, engine: _Engine, template: dict[str, Any]) -> None:
        self.engine, self.template, self.whole_pieces = engine, template, False
        self._ready = False

    async def ready(self) -> Any:
        """The tokenizer, and a look at whether it is byte-level."""
        tokenizer = (await self.engine.llm()).get_tokenizer()
        if not self._ready:
            pieces = tokenizer.convert_ids_to_tokens(tokenizer.encode("a b", add_special_tokens=False))
            self.whole_pieces, self._ready = not any("\u2581" in str(piece) for piece in pieces), True
        return tokenizer

    async def render(self, messages: Sequence[Message], session: int) -> Ids:
        return await self.chat([{"role": m.role, "content": m.content} for m in messages], add_generation_prompt=True)

    async def chat(self, chat: list[dict[str, str]], **how: Any) -> Ids:
        """A chat's ids, with the template's own switches."""
        tokenizer = await self.ready()
        text = tokenizer.apply_chat_template(chat, tokenize=False, **self.template, **how)
        return tuple(tokenizer.encode(text, add_special_tokens=False))

    async def tokenize(self, text: str, session: int) -> Ids:
        return tuple((await self.ready()).encode(text, add_special_tokens=False))

    async def detokenize(self, ids: Ids, session: int) -> str:
        return str((await self.ready()).decode(list(ids), skip_special_tokens=False))


class EngineModel(Model):
    """A checkpoint (a folder, or a name on the hub) on vLLM in this process. `options` are vLLM's engine arguments.

    `template` goes to the chat template, `salt` keeps one run's prefix cache from another's. A script that makes one needs
    `if __name__ == "__main__":`, because vLLM starts processes.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        role: str | None = None,
        rates: Rates | None = None,
        template: dict[str, Any] | None = None,
        salt: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name or Path(model).name, role=role, rates=rates)
        self.engine, self.salt = _Engine(model, options), salt
        self._tokenizer = _Tokenizer(self.engine, template or {})
        self.texts = Texts(self._tokenizer)

    exact = True

    def count(self, context: Context) -> int:
        ids = self.texts.ids(context)
        return len(ids) if ids is not None else super().count(context) + TEMPLATE

    def forget(self, session: int) -> None:
        self.texts.forget(session)

    async def aclose(self) -> None:
        await self.engine.close()

    async def _prepare(self, contexts: Sequence[Context], session: int) -> None:
        await self.engine.call(self._learn(contexts, session))

    async def _learn(self, contexts: Sequence[Context], session: int) -> None:
        if self.context_length is None:
            self.context_length = await self.engine.context_length()
        await self._tokenizer.ready()
        self.texts.use(session, contexts)
        await self.texts.learn(contexts, session)

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        answers: dict[int, Completion] = {}
        for request in requests:
            request.meter.usage = Usage()  # nothing is asked yet

        async def one(i: int, request: Request) -> None:
            try:
                answers[i] = await self._one(request)
            except (ModelError, ValueError, RuntimeError) as error:  # vLLM refuses what it cannot do with a ValueError
                answers[i] = Completion(
                    "", "error", request.meter.usage or Usage(calls=1), error=f"{self.name}: {error}"
                )

        await self.engine.call(together(one(i, request) for i, request in enumerate(requests)))
        return [answers[i] for i in range(len(requests))]

    async def _one(self, request: Request) -> Completion:
        """One request. One that fails takes no others with it."""
        if self.texts.ids(request.context) is None:
            await self.texts.learn([request.context], request.session)
        ids = self.texts.ids(request.context) or ()
        sampling = request.sampling
        params = _vllm().SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=request.seed,
            max_tokens=request.max_tokens,
            stop=list(sampling.stop),
            include_stop_str_in_output=True,
            logprobs=sampling.top_logprobs,
            prompt_logprobs=0 if sampling.prefix_logprobs else None,
        )
        prompt: dict[str, Any] = {"prompt_token_ids": list(ids)}
        if self.salt:
            prompt["cache_salt"] = f"run-{request.session}"
        output = await self.engine.generate(prompt, params, request, self.rates)
        if output is None:
            return Completion("", "budget", self.rates.price(prompt=len(ids), completion=0))
        found = output.outputs[0]
        usage = request.meter.usage or self.rates.price(prompt=len(ids), completion=len(found.token_ids))
        tokens = tokens_of(_told(found.logprobs, found.token_ids), sampling.top_logprobs)
        prefix: tuple[Token, ...] = ()
        if sampling.prefix_logprobs and output.prompt_logprobs:
            told = [
                {i: {"logprob": lp.logprob, "decoded_token": lp.decoded_token} for i, lp in (entry or {}).items()}
                for entry in output.prompt_logprobs
            ]
            prefix = prefix_of(told, ids, len(self.texts.ids(Context(request.context.messages)) or ()))
        if found.finish_reason in ("budget", "cancelled"):
            return Completion(found.text, found.finish_reason, usage, tokens)
        reason = reason_of({"finish_reason": found.finish_reason, "stop_reason": found.stop_reason})
        if reason == "error":
            return Completion("", "error", usage, error=f"{self.name}: ended with {found.finish_reason!r}")
        if reason != "eos" and "".join(token.text for token in tokens) == found.text:
            self.texts.remember(request.context, found.text, (*ids, *found.token_ids))
        return Completion(found.text, reason, usage, tokens, prefix=prefix)


def _told(logprobs: Any, ids: Sequence[int]) -> dict[str, list[Any]]:
    """vLLM's log-probabilities in the form that its server gives them."""
    told: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": []}
    for token, found in zip(ids, logprobs or (), strict=False):
        chosen = found[token]
        told["tokens"].append(chosen.decoded_token or "")
        told["token_logprobs"].append(chosen.logprob)
        told["top_logprobs"].append({each.decoded_token or "": each.logprob for each in found.values()})
    return told


class EngineRewardModel(RewardModel):
    """A process reward model on vLLM in this process. `form` says how its family is asked."""

    def __init__(
        self,
        model: str,
        form: Format | None = None,
        *,
        name: str | None = None,
        role: str | None = None,
        rates: Rates | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name or Path(model).name, role=role, rates=rates)
        self.form: Format = form or StepTags()
        if isinstance(self.form, PlusMinus | Skywork | Outcome):
            raise BadInput(
                f"{type(self.form).__name__} in this process is not there; serve the model (docs/serving.md)"
            )
        self.engine = _Engine(model, {"runner": "pooling", **options})
        self._tokenizer = _Tokenizer(self.engine, {})
        self._ids: dict[Asked, Ids] = {}

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        known = self._ids.get((problem, tuple(steps)))
        return len(known) if known is not None else super().count(problem, steps)

    async def aclose(self) -> None:
        await self.engine.close()

    async def _prepare(self, asked: Sequence[Asked], session: int) -> None:
        await self.engine.call(self._learn(asked))

    async def _learn(self, asked: Sequence[Asked]) -> None:
        for problem, steps in asked:
            (text,) = self.form.texts(problem, steps or ("",))
            if "messages" in text:
                how = {name: value for name, value in text.items() if name != "messages"}
                self._ids[problem, steps] = await self._tokenizer.chat(text["messages"], **how)
            else:
                self._ids[problem, steps] = await self._tokenizer.tokenize(text["prompt"], 0)

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        answers: dict[int, tuple[Score, Usage]] = {}

        async def one(i: int, rating: Rating) -> None:
            answers[i] = await self._one(rating)

        await self.engine.call(together(one(i, rating) for i, rating in enumerate(ratings)))
        for rating in ratings:
            self._ids.pop((rating.problem, rating.steps), None)
        return [answers[i] for i in range(len(ratings))]

    async def _one(self, rating: Rating) -> tuple[Score, Usage]:
        ids = self._ids[rating.problem, rating.steps]
        usage = self.rates.price(prompt=len(ids), completion=0)
        try:
            rows = await self.engine.rows(ids)
            values = self.form.read([{"data": [{"data": rows}]}], [ids], len(rating.steps) or 1)
        except (ModelError, ValueError) as error:  # vLLM's own refusal of a text too long is a ValueError
            return Score(math.nan, error=f"{self.name}: {error}"), usage
        return Score(values[-1], values), usage
