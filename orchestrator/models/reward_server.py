"""Served reward models: process reward models over `/pooling`, next-token ones over `/v1/completions`, outcome models over
`/classify`. What each family reads and where its score stands is a `Format`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.errors import BadInput, ModelError
from reasonweave.orchestrator.models.base import Rating, RewardModel
from reasonweave.orchestrator.models.endpoint import Endpoint, Failed, OutOfBudget
from reasonweave.orchestrator.models.server import Abilities, cached_of, probe, session_label
from reasonweave.orchestrator.models.texts import tagged
from reasonweave.orchestrator.types import Problem, Score, Usage

Ids = tuple[int, ...]
Asked = tuple[Problem, tuple[str, ...]]
STEP_BY_STEP = "Please reason step by step, and put your final answer within \\boxed{}."


class Format(Protocol):
    """How one family of reward models is asked. A rating is one request, or several where `bodies` gives several."""

    @property
    def path(self) -> str:
        """The route that it is asked on."""

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        """What `/tokenize` is asked for each request: a chat or a text."""

    def body(self, ids: Ids) -> dict[str, Any]:
        """The request on these token ids."""

    def read(self, answers: Sequence[Any], steps: int) -> tuple[float, ...]:
        """A score a step in 0..1 (outcome models: one). Raises `ModelError` for an answer that does not fit."""


def _rows(answer: Any) -> list[list[float]]:
    try:
        return [[float(x) for x in row] for row in answer["data"][0]["data"]]
    except (KeyError, IndexError, TypeError, ValueError):
        raise ModelError("answered a pooling request with something else than rows of numbers") from None


def _as_many(rows: Sequence[list[float]], steps: int, hint: str) -> None:
    if len(rows) != steps:
        raise ModelError(f"gave {len(rows)} scores for {steps} steps; {hint}")


@dataclass(frozen=True)
class StepTags:
    """Qwen2.5-Math-PRM: a chat with a tag after each step; P(good) is the last number of the tag's row.

    Serve with `--runner pooling`, and for a tag that is not Qwen's own id `--pooler-config` with its `step_tag_id`.
    """

    tag: str = "<extra_0>"
    system: str | None = STEP_BY_STEP
    path: str = "/pooling"

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        chat = [{"role": m.role, "content": m.content} for m in problem.messages]
        chat = [{"role": "system", "content": self.system}, *chat] if self.system else chat
        turn = {"role": "assistant", "content": tagged(steps, self.tag)}
        return [{"messages": [*chat, turn], "add_generation_prompt": False, "continue_final_message": True}]

    def body(self, ids: Ids) -> dict[str, Any]:
        return {"input": list(ids), "task": "token_classify"}

    def read(self, answers: Sequence[Any], steps: int) -> tuple[float, ...]:
        rows = _rows(answers[0])
        _as_many(rows, steps, f"is {self.tag} the server's step tag? (--pooler-config step_tag_id)")
        return tuple(row[-1] for row in rows)


@dataclass(frozen=True)
class Shepherd:
    """Math-Shepherd: question and solution as plain text, ` ки` after each step; P(+) is the first of the two numbers.

    Serve with `--runner pooling --pooler-config '{"pooling_type":"STEP","step_tag_id":12902,"returned_token_ids":[648,387]}'`.
    """

    tag: str = "ки"
    path: str = "/pooling"

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        told = "\n".join(f"{step.replace(self.tag, '').strip()} {self.tag}" for step in steps)
        return [{"prompt": f"{problem.prompt} {told}", "add_special_tokens": True}]

    def body(self, ids: Ids) -> dict[str, Any]:
        return {"input": list(ids), "task": "token_classify"}

    def read(self, answers: Sequence[Any], steps: int) -> tuple[float, ...]:
        rows = _rows(answers[0])
        _as_many(rows, steps, "serve it with the pooler config of docs/serving.md")
        return tuple(row[0] for row in rows)


@dataclass(frozen=True)
class PlusMinus:
    """RLHFlow's process reward models: a chat in which the model answers each step with + or -; P(+) over both.

    Served as a plain causal model; one token a step, on a cached prefix.
    """

    good: str = "+"
    bad: str = "-"
    path: str = "/v1/completions"

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        chat: list[dict[str, str]] = []
        asked = []
        for i, step in enumerate(steps):
            told = f"{problem.prompt} {step.strip()}" if i == 0 else step.strip()
            chat = [*chat, {"role": "user", "content": told}]
            asked.append({"messages": chat, "add_generation_prompt": True})
            chat = [*chat, {"role": "assistant", "content": self.good}]
        return asked

    def body(self, ids: Ids) -> dict[str, Any]:
        return {"prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "logprobs": 20}

    def read(self, answers: Sequence[Any], steps: int) -> tuple[float, ...]:
        scores = []
        for answer in answers:
            try:
                told = answer["choices"][0]["logprobs"]["top_logprobs"][0]
            except (KeyError, IndexError, TypeError):
                raise ModelError("gave no log-probabilities") from None
            good, bad = (
                sum(math.exp(p) for text, p in told.items() if text.strip() == sign) for sign in (self.good, self.bad)
            )
            scores.append(good / (good + bad) if good + bad else math.nan)
        return tuple(scores)


@dataclass(frozen=True)
class Outcome:
    """An outcome reward model: one score for the whole solution, from `/classify` (the last class's probability)."""

    path: str = "/classify"

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        chat = [{"role": m.role, "content": m.content} for m in problem.messages]
        turn = {"role": "assistant", "content": "".join(steps)}
        return [{"messages": [*chat, turn], "add_generation_prompt": False}]

    def body(self, ids: Ids) -> dict[str, Any]:
        return {"input": list(ids)}

    def read(self, answers: Sequence[Any], steps: int) -> tuple[float, ...]:
        try:
            return (float(answers[0]["data"][0]["probs"][-1]),)
        except (KeyError, IndexError, TypeError, ValueError):
            raise ModelError("answered a classification with something else than probabilities") from None


FORMATS: dict[str, Format] = {
    "qwen": StepTags(),
    "tags": StepTags(system=None),
    "shepherd": Shepherd(),
    "plus-minus": PlusMinus(),
    "outcome": Outcome(),
}
"""Reward model families by the name that a models file gives them; `tags` is Qwen's without its system prompt."""


class ServerRewardModel(RewardModel):
    """A reward model behind a server. `form` says how its family is asked; see `FORMATS`."""

    def __init__(
        self,
        name: str | None,
        endpoint: Endpoint,
        form: Format,
        *,
        role: str | None = None,
        rates: Rates | None = None,
    ) -> None:
        super().__init__(name or str(endpoint), role=role, rates=rates)
        self.served, self.endpoint, self.form = name, endpoint, form
        self.able: Abilities | None = None
        self._ids: dict[Asked, list[Ids]] = {}
        self._users: dict[int, set[Asked]] = {}

    async def abilities(self) -> Abilities:
        """What the server can do; asked once."""
        if self.able is None:
            async with self.endpoint.bound().lock:
                if self.able is None:
                    able = await probe(self.endpoint, self.served)
                    if self.form.path not in able.paths:
                        raise BadInput(
                            f"{self.name}: {self.endpoint} has no {self.form.path}, which {type(self.form).__name__} needs; "
                            "serve a process reward model with --runner pooling"
                        )
                    self.able = able
        return self.able

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        known = self._ids.get((problem, tuple(steps)))
        return sum(map(len, known)) if known is not None else super().count(problem, steps)

    def forget(self, session: int) -> None:
        dropped = self._users.pop(session, set())
        for asked in dropped - set().union(*self._users.values()):
            self._ids.pop(asked, None)

    async def aclose(self) -> None:
        await self.endpoint.aclose()

    async def _prepare(self, asked: Sequence[Asked], session: int) -> None:
        able = await self.abilities()
        self._users.setdefault(session, set()).update(asked)

        async def one(key: Asked) -> None:
            problem, steps = key
            answers = [
                self.endpoint.call("/tokenize", {"model": able.model, **text}, session=session_label(session))
                for text in self.form.texts(problem, steps or ("",))
            ]
            self._ids[key] = [tuple(answer["tokens"]) for answer in await asyncio.gather(*answers)]

        await together(one(key) for key in asked if key not in self._ids)

    def _worst(self, rating: Rating) -> Usage:
        requests = len(self._ids[rating.problem, rating.steps])
        written = requests * self.form.body(()).get("max_tokens", 0)
        extra = Usage(calls=requests - 1)
        return self.rates.worst(prompt=rating.prompt, completion=written) + extra

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        able = await self.abilities()
        return list(await asyncio.gather(*(self._one(rating, able) for rating in ratings)))

    async def _one(self, rating: Rating, able: Abilities) -> tuple[Score, Usage]:
        """One candidate. A rating that fails is nan, and takes no other with it."""
        asked = self._ids[rating.problem, rating.steps]
        longest = max(map(len, asked)) + self.form.body(()).get("max_tokens", 0)
        if able.context_length is not None and longest > able.context_length:
            why = f"{self.name}: a solution of {longest} tokens does not fit the context of {able.context_length}"
            return Score(math.nan, error=why), Usage()
        worst = self._worst(rating)
        try:
            answers = [
                await self.endpoint.call(
                    self.form.path,
                    {"model": able.model, **self.form.body(ids), **self._salt(rating.session)},
                    session=session_label(rating.session),
                    deadline=rating.deadline,
                    again=rating.meter.retry,
                )
                for ids in asked
            ]
            values = self.form.read(answers, len(rating.steps) or 1)
        except OutOfBudget:
            return Score(math.nan, error=f"{self.name}: the budget had no room for another attempt"), Usage()
        except ModelError as error:
            spent = error.spent if isinstance(error, Failed) and len(asked) == 1 else None
            return Score(math.nan, error=f"{self.name}: {error}"), spent or worst
        cached = sum(min(len(ids), cached_of(answer)) for ids, answer in zip(asked, answers, strict=True))
        spent = self.rates.price(prompt=worst.prompt, cached=min(cached, worst.prompt), completion=worst.completion)
        return Score(values[-1], values), spent + Usage(calls=worst.calls - spent.calls)

    def _salt(self, session: int) -> dict[str, Any]:
        """What keeps a run's prefix cache its own, for families that profit from one."""
        return {"cache_salt": session_label(session)} if isinstance(self.form, PlusMinus) else {}
