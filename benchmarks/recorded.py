"""64 solutions of each lab problem, drawn once and written down with all that votes and stopping rules read off them.

Files of 50 problems each, so that an interrupted recording goes on where it stopped; and a model that deals them out again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from reasonweave.orchestrator import Candidate, Candidates, Context, Run, Score, asolve, open_model
from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.models.base import Model, Request, RewardModel, cut_at
from reasonweave.orchestrator.types import Completion, Token
from reasonweave.strategies import BestOfN, whole
from reasonweave.strategies.policies.sample import split
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.runner import problem_seed
from reasonweave.tasks.lab.task import LabTask
from reasonweave.verifiers import ProcessReward

SAMPLES = 64
TEMPERATURE = 0.8
TOP = 20
"""Alternatives a token: what DeepConf's token confidence is the mean of."""
CHUNK = 50
CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Sampled:
    """One solution. `logprobs` and `confidences` are one number a token, a confidence being minus the mean log-probability of
    the 20 most probable tokens there; `reward` is the product of the reward model's step scores, `last` the last of them."""

    text: str
    answer: str | None
    right: bool
    ended: bool
    logprobs: tuple[float, ...]
    confidences: tuple[float, ...]
    reward: float
    last: float

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens, each with one stand-in alternative that has the confidence of all 20; the text is on the first of them."""
        pieces = [self.text, *[""] * (len(self.logprobs) - 1)]
        return tuple(
            Token(piece, logprob, (("", -confidence),))
            for piece, logprob, confidence in zip(pieces, self.logprobs, self.confidences, strict=True)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """A problem and its solutions, in the order of drawing."""

    example: Example
    samples: tuple[Sampled, ...]


def record(out: Path, limit: int) -> list[Solved]:
    """Record what is missing of the first `limit` problems, and read all of it."""
    out.mkdir(parents=True, exist_ok=True)
    examples = LabTask().examples(limit)
    found: list[Solved] = []
    for start in range(0, limit, CHUNK):
        some, file = examples[start : start + CHUNK], out / f"samples-{start:05d}.json"
        if not file.exists():
            began = time.monotonic()
            small, rewards = open_model("lab/small", role="small"), open_model("lab/prm", role="prm")
            assert isinstance(small, Model)
            assert isinstance(rewards, RewardModel)
            made = asyncio.run(_drawn(some, small, rewards))
            file.with_suffix(".new").write_text(json.dumps(made))
            file.with_suffix(".new").replace(file)
            print(f"{file.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        for example, samples in zip(some, json.loads(file.read_text()), strict=False):
            found.append(Solved(example, tuple(_read(example, sample) for sample in samples)))
    return found


async def _drawn(examples: Sequence[Example], small: Model, rewards: RewardModel) -> list[list[dict[str, object]]]:
    gate = asyncio.Semaphore(CONNECTIONS)
    flow = BestOfN(whole(small, temperature=TEMPERATURE, top_logprobs=TOP), SAMPLES, max_steps=1)

    async def one(example: Example) -> list[dict[str, object]]:
        async with gate:
            seed = problem_seed(0, example.problem.id)
            found = (await asolve(example.problem, flow, seed=seed)).candidates
            run = Run(seed, ("judged",))
            judged = await ProcessReward(rewards).score(found.items, run.child("prm"))
            run.session.close()
        return [_written(*each) for each in zip(found, judged, strict=True)]

    return await asyncio.gather(*(one(example) for example in examples))


def _written(candidate: Candidate, judged: Score) -> dict[str, object]:
    told = [token for step in candidate.steps for token in step.told]
    return {
        "text": candidate.text,
        "ended": not candidate.steps[-1].open if candidate.steps else False,
        "logprobs": [round(token.logprob or 0.0, 4) for token in told],
        "confidences": [round(-float(np.mean([p for _, p in token.top])), 3) for token in told],
        "reward": judged.value,
        "last": judged.steps[-1] if judged.steps else judged.value,
    }


def _read(example: Example, data: Mapping[str, object]) -> Sampled:
    answer = example.problem.answers.extract(str(data["text"]))
    told = {name: tuple(data[name]) for name in ("logprobs", "confidences")}  # type: ignore[arg-type]
    rest = {name: data[name] for name in ("text", "ended", "reward", "last")}
    return Sampled(answer=answer, right=example.correct(answer), **told, **rest)  # type: ignore[arg-type]


def candidates(solved: Solved, order: Sequence[int], seed: int = 0) -> Candidates:
    """These solutions of a problem as candidates, with the reward model's scores."""
    made = _made(solved)
    return Candidates(tuple(made[i] for i in order), seed=seed)


@cache
def _made(solved: Solved) -> tuple[Candidate, ...]:
    root = Candidate(solved.example.problem)
    written = (root.extend(*split(_completion(s), "lab-small", told=True), done=True) for s in solved.samples)
    return tuple(replace(c, score=Score(s.reward)) for c, s in zip(written, solved.samples, strict=True))


def _completion(sample: Sampled) -> Completion:
    return Completion(sample.text, "eos" if sample.ended else "length", tokens=sample.tokens)


class Dealer(Model):
    """A model that deals the recorded solutions of each problem out, in the given order, as if it wrote them just now."""

    exact = True

    def __init__(self, solved: Sequence[Solved], orders: Sequence[Sequence[int]], *, role: str = "small") -> None:
        super().__init__("lab-small", role=role, rates=Rates(active=1.0))
        self._left: dict[Context, Iterator[Sampled]] = {
            Context(each.example.problem.messages): iter([each.samples[i] for i in order])
            for each, order in zip(solved, orders, strict=True)
        }

    def count(self, context: Context) -> int:
        return 32

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._dealt(request) for request in requests]

    def _dealt(self, request: Request) -> Completion:
        sample = next(self._left[request.context])
        tokens, reason = sample.tokens, _completion(sample).finish_reason
        if request.watch is not None and (kept := cut_at(tokens, request.watch(), ended=True)) is not None:
            usage = self.rates.price(
                prompt=32, completion=kept
            )  # how far it had come does not matter: it gives no answer
            return Completion("", "cancelled", usage, tokens[:kept])
        return Completion(sample.text, reason, self.rates.price(prompt=32, completion=len(tokens)), tokens)


class Looked:
    """A verifier that looks recorded scores up by the solution's text."""

    def __init__(self, solved: Sequence[Solved], score: str) -> None:
        self._known = {(e.example.problem, s.text): Score(getattr(s, score)) for e in solved for s in e.samples}

    async def score(self, some: Sequence[Candidate], run: Run) -> list[Score]:
        return [self._known[c.problem, c.text] for c in some]
