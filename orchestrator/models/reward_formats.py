"""How families of served reward models are asked, and where their scores stand.

Process reward models answer `/pooling`, next-token ones `/v1/completions`, those of the Skywork plug-in `/v1/embeddings`, outcome
models `/classify`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reasonweave.orchestrator.errors import ModelError
from reasonweave.orchestrator.models.texts import tagged
from reasonweave.orchestrator.types import Problem

Ids = tuple[int, ...]
STEP_BY_STEP = "Please reason step by step, and put your final answer within \\boxed{}."


class Format(Protocol):
    """How one family of reward models is asked. A rating is one request, or several where `bodies` gives several."""

    @property
    def path(self) -> str:
        """The route that it is asked on."""

    @property
    def joined(self) -> bool:
        """Are the texts pieces of one request, one after another? Else each of them is a request."""

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        """What `/tokenize` is asked: chats or texts."""

    def body(self, ids: Ids) -> dict[str, Any]:
        """The request on these token ids."""

    def read(self, answers: Sequence[Any], pieces: Sequence[Ids], steps: int) -> tuple[float, ...]:
        """A score a step in 0..1 (outcome models: one), from the answers and the ids of the texts. Raises `ModelError` for an
        answer that does not fit."""


def _rows(answer: Any) -> list[list[float]]:
    try:
        return [[float(x) for x in row] for row in answer["data"][0]["data"]]
    except (KeyError, IndexError, TypeError, ValueError):
        raise ModelError("answered a pooling request with something else than rows of numbers") from None


def _at(row: list[float], index: int) -> float:
    if not row:
        raise ModelError("answered with an empty row")
    return row[index]


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
    joined: bool = False

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        chat = [{"role": m.role, "content": m.content} for m in problem.messages]
        chat = [{"role": "system", "content": self.system}, *chat] if self.system else chat
        turn = {"role": "assistant", "content": tagged(steps, self.tag)}
        return [{"messages": [*chat, turn], "add_generation_prompt": False, "continue_final_message": True}]

    def body(self, ids: Ids) -> dict[str, Any]:
        return {"input": list(ids), "task": "token_classify"}

    def read(self, answers: Sequence[Any], pieces: Sequence[Ids], steps: int) -> tuple[float, ...]:
        rows = _rows(answers[0])
        _as_many(rows, steps, f"is {self.tag} the server's step tag? (--pooler-config step_tag_id)")
        return tuple(_at(row, -1) for row in rows)


@dataclass(frozen=True)
class Shepherd:
    """Math-Shepherd: question and solution as plain text, ` ки` after each step; P(+) is the first of the two numbers.

    Serve with `--runner pooling --pooler-config '{"pooling_type":"STEP","step_tag_id":12902,"returned_token_ids":[648,387]}'`.
    """

    tag: str = "ки"
    path: str = "/pooling"
    joined: bool = False

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        told = "\n".join(f"{step.replace(self.tag, '').strip()} {self.tag}" for step in steps)
        return [{"prompt": f"{problem.prompt} {told}", "add_special_tokens": True}]

    def body(self, ids: Ids) -> dict[str, Any]:
        return {"input": list(ids), "task": "token_classify"}

    def read(self, answers: Sequence[Any], pieces: Sequence[Ids], steps: int) -> tuple[float, ...]:
        rows = _rows(answers[0])
        _as_many(rows, steps, "serve it with the pooler config of docs/serving.md")
        return tuple(_at(row, 0) for row in rows)


@dataclass(frozen=True)
class PlusMinus:
    """RLHFlow's process reward models: a chat in which the model answers each step with + or -; P(+) over both.

    Served as a plain causal model; one token a step, on a cached prefix.
    """

    good: str = "+"
    bad: str = "-"
    path: str = "/v1/completions"
    joined: bool = False

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

    def read(self, answers: Sequence[Any], pieces: Sequence[Ids], steps: int) -> tuple[float, ...]:
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
class Skywork:
    """Skywork-o1-Open-PRM: the problem and a line a step, each tokenized by itself, a line end after each; sigmoid(value) there.

    A value a token, as the makers' vLLM plug-in gives it on `/v1/embeddings`. Steps are written on one line each: a line end
    within a step would be a step of its own.
    """

    end: str = "\n"
    path: str = "/v1/embeddings"
    joined: bool = True

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        lines = [piece for step in steps for piece in (" ".join(step.split()), self.end)]
        return [{"prompt": problem.prompt + "\n"}, *({"prompt": line, "add_special_tokens": False} for line in lines)]

    def body(self, ids: Ids) -> dict[str, Any]:
        return {"input": list(ids)}

    def read(self, answers: Sequence[Any], pieces: Sequence[Ids], steps: int) -> tuple[float, ...]:
        try:
            values = [float(value) for value in answers[0]["data"][0]["embedding"]]
        except (KeyError, IndexError, TypeError, ValueError):
            raise ModelError(
                "answered with something else than a value a token; is the Skywork plug-in there?"
            ) from None
        if len(values) != (tokens := sum(map(len, pieces))):
            raise ModelError(f"gave {len(values)} values for {tokens} tokens; is the Skywork plug-in there?")
        ends = list(itertools.accumulate(map(len, pieces)))[2::2]
        return tuple(1 / (1 + math.exp(-min(700.0, max(-700.0, values[end - 1])))) for end in ends)


@dataclass(frozen=True)
class Outcome:
    """An outcome reward model: one score for the whole solution, from `/classify` (the last class's probability)."""

    path: str = "/classify"
    joined: bool = False

    def texts(self, problem: Problem, steps: Sequence[str]) -> list[dict[str, Any]]:
        chat = [{"role": m.role, "content": m.content} for m in problem.messages]
        turn = {"role": "assistant", "content": "".join(steps)}
        return [{"messages": [*chat, turn], "add_generation_prompt": False}]

    def body(self, ids: Ids) -> dict[str, Any]:
        return {"input": list(ids)}

    def read(self, answers: Sequence[Any], pieces: Sequence[Ids], steps: int) -> tuple[float, ...]:
        try:
            return (float(answers[0]["data"][0]["probs"][-1]),)
        except (KeyError, IndexError, TypeError, ValueError):
            raise ModelError("answered a classification with something else than probabilities") from None


FORMATS: dict[str, Format] = {
    "qwen": StepTags(),
    "tags": StepTags(system=None),
    "shepherd": Shepherd(),
    "plus-minus": PlusMinus(),
    "skywork": Skywork(),
    "outcome": Outcome(),
}
"""Reward model families by the name that a models file gives them; `tags` is Qwen's without its system prompt."""
