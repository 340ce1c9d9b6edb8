"""For tests, yours and ours: models that answer from a script, and checks of what each kind of part promises.

    check_strategy(my_strategy, Problem("…"))

Each check raises `ContractBroken` with a sentence that says which promise was broken, on what input.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass

from reasonweave.orchestrator._sync import wait
from reasonweave.orchestrator.budget import Budget, Ledger, Rates
from reasonweave.orchestrator.drive import drive
from reasonweave.orchestrator.models.base import Model, Rating, Request, RewardModel, cut_at, unwatched
from reasonweave.orchestrator.protocols import StepPolicy, Strategy, Verifier, Watching
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.scoring import checked, is_relative, name_of
from reasonweave.orchestrator.solve import Result, asolve
from reasonweave.orchestrator.trace import Event, Snapshot
from reasonweave.orchestrator.types import (
    DELIMITER,
    Candidate,
    Candidates,
    Completion,
    Context,
    FinishReason,
    Problem,
    Sampling,
    Score,
    Step,
    Token,
    Usage,
)

_WORD = re.compile(r"\n\n|[^\S\n]*\S+|\s")


class ContractBroken(AssertionError):
    """A part does not do what its protocol promises."""


def words(text: str) -> list[str]:
    r"""How a scripted model counts tokens: words with the blanks before them; a blank line is one token.

    >>> words("so 1 + 1\n\n= 2")
    ['so', ' 1', ' +', ' 1', '\n\n', '=', ' 2']
    """
    return _WORD.findall(text)


def reasoner(request: Request) -> str:
    r"""A script that reasons at random: two to four steps and a boxed digit, decided by the request's seed alone.

    It goes on from a prefix: what it writes after k steps is what was left of a solution after k steps.
    """
    rng = random.Random(request.seed)
    done = request.context.prefix.count(DELIMITER)
    steps = [f"step {k} gives {rng.randint(0, 9)}{DELIMITER}" for k in range(done, max(done, rng.randint(2, 4)))]
    return "".join(steps) + f"The answer is \\boxed{{{rng.randint(1, 4)}}}"


class ScriptedModel(Model):
    """A model that answers from a script, for tests: no weights, no network, exact counts.

    `script` is a function from a request to the whole continuation, or texts to give one after another (the last one
    again and again). Stop strings, token limits and usage work as with a real model; `latency` seconds pass a call.
    """

    def __init__(
        self,
        script: Callable[[Request], str] | Iterable[str] = reasoner,
        *,
        name: str = "scripted",
        role: str | None = None,
        rates: Rates | None = None,
        latency: float = 0.0,
    ) -> None:
        super().__init__(name, role=role, rates=rates or Rates(active=1.0))
        self._script: Callable[[Request], str] = script if callable(script) else _in_turn(script)
        self.latency = latency
        self.calls: list[list[Request]] = []
        """Every batch that was asked for, in order."""

    exact = True

    def count(self, context: Context) -> int:
        written = sum(len(words(message.content)) + 1 for message in context.messages)
        return written + len(words(context.prefix))

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(list(requests))
        await asyncio.sleep(self.latency)
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        text: str = self._script(request)
        reason: FinishReason = "eos"
        ends = [at + len(stop) for stop in request.sampling.stop if (at := text.find(stop)) >= 0]
        if ends:
            text, reason = text[: min(ends)], "stop"
        pieces = words(text)
        if len(pieces) > request.max_tokens:
            pieces, reason = pieces[: request.max_tokens], "length"
        rng = random.Random(f"{request.seed}/logprobs")
        tokens = tuple(Token(piece, -rng.random()) for piece in pieces)
        if request.watch is not None and (kept := cut_at(tokens, request.watch(), ended=True)) is not None:
            tokens, reason = tokens[:kept], "cancelled"
        usage = self.rates.price(prompt=self.count(request.context), completion=len(tokens))
        return Completion("".join(token.text for token in tokens), reason, usage, tokens)


def _in_turn(texts: Iterable[str]) -> Callable[[Request], str]:
    left = list(texts)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


class ScriptedReward(RewardModel):
    """A reward model from a function of (problem, steps so far) to a score in 0..1; the default reads a hash."""

    def __init__(
        self,
        script: Callable[[Problem, Sequence[str]], float] | None = None,
        *,
        name: str = "scripted-prm",
        role: str | None = None,
        rates: Rates | None = None,
    ) -> None:
        super().__init__(name, role=role, rates=rates or Rates(active=1.0))
        self._script = script or (lambda problem, steps: random.Random(problem.prompt + "".join(steps)).random())

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        return len(words(problem.prompt)) + sum(len(words(step)) + 1 for step in steps)

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        await asyncio.sleep(0)
        answers = []
        for rating in ratings:
            values = tuple(self._script(rating.problem, rating.steps[: k + 1]) for k in range(len(rating.steps)))
            usage = self.rates.price(prompt=self.count(rating.problem, rating.steps), completion=0)
            answers.append((Score(values[-1] if values else 0.0, values), usage))
        return answers


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise ContractBroken(promise)


def check_model(model: Model, *, prompt: str = "What is 1 + 1?") -> None:
    """A backend keeps the door's promises: as many answers as requests, limits kept, bounds honest, seeds obeyed."""
    contexts = [Context(Problem(prompt).messages)] * 3
    sampling = Sampling(temperature=0.8, max_tokens=24)

    async def ask(
        seed: int, sampling: Sampling = sampling, watch: Watching | None = None, ledger: Ledger | None = None
    ) -> list[Completion]:
        return await model.generate(contexts, Run(seed, ledger=ledger or Ledger()), sampling=sampling, watch=watch)

    first, again, short = wait(ask(1)), wait(ask(1)), wait(ask(1, Sampling(max_tokens=1)))
    _require(len(first) == 3, f"{model}: 3 requests got {len(first)} answers")
    _require([c.text for c in first] == [c.text for c in again], f"{model}: the same seeds gave different texts")
    for completion in first:
        usage = completion.usage
        _require(
            completion.finish_reason in ("stop", "eos", "length"), f"{model}: ended with {completion.finish_reason}"
        )
        _require(
            usage.prompt <= model.count(contexts[0]), f"{model}: used {usage.prompt} prompt tokens, more than its bound"
        )
        _require(usage.completion <= 24, f"{model}: {usage.completion} tokens where 24 were allowed")
        _require(usage.calls >= 1 and usage.cached <= usage.prompt, f"{model}: impossible usage {usage}")
    _require(all(c.usage.completion <= 1 for c in short), f"{model}: more than one token where one was allowed")
    ledger, watched = Ledger(), wait(ask(1, watch=unwatched))
    for completion, cut in zip(watched, wait(ask(1, watch=_third, ledger=ledger)), strict=True):
        if len(completion.tokens) > 3:
            _require(
                cut.finish_reason == "cancelled" and cut.text == "".join(t.text for t in completion.tokens[:3]),
                f"{model}: a watch that wanted no more than three tokens got {cut.text!r} ({cut.finish_reason})",
            )
            _require(ledger.saved.completion > 0, f"{model}: what a watch saved does not show in the ledger")


def _third() -> Callable[[Token], bool]:
    """A watch that wants three tokens."""
    seen = itertools.count(1)
    return lambda token: next(seen) >= 3


def check_policy(policy: StepPolicy, problem: Problem) -> None:
    """A policy extends each candidate, in order, repeatably, and leaves what it was given alone."""
    roots = list(Candidates.of(problem).repeat(3))

    async def extend(seed: int) -> list[Candidate]:
        return await policy.extend(roots, Run(seed))

    first, again = wait(extend(1)), wait(extend(1))
    _require(len(first) == 3, f"{policy}: 3 candidates became {len(first)}")
    _require([c.text for c in first] == [c.text for c in again], f"{policy}: the same run gave different steps")
    for before, after in zip(roots, first, strict=True):
        _require(after.problem == before.problem, f"{policy}: a candidate changed its problem")
        _require(after.steps[: len(before.steps)] == before.steps, f"{policy}: earlier steps were rewritten")
        _require(after.done or len(after.steps) > len(before.steps), f"{policy}: neither a new step nor done")


def check_verifier(verifier: Verifier, problem: Problem, *, candidates: Sequence[Candidate] | None = None) -> None:
    """A verifier gives one number a candidate, in order and in its range, the same alone as in company (unless it is `relative`)
    and the same again; it stays within any budget, ends when it is cancelled, and leaves nothing held.

    `candidates` are three or more that it can judge; without them it is shown three short solutions of the problem.
    """
    texts = ("1 + 1 = 2\n\n", "1 + 1 = 3\n\n", "so \\boxed{2}")
    chosen = list(candidates or [Candidate(problem, (Step(text, "test", 5),)) for text in texts])
    kept = list(chosen)
    name = name_of(verifier)

    def score(some: Sequence[Candidate], tokens: float | None = None) -> tuple[list[Score] | None, Ledger]:
        ledger = Ledger(Budget(tokens=tokens))
        return wait(_scores(verifier, some, Run(1, ledger=ledger))), ledger

    together, free = score(chosen)
    _require(
        isinstance(together, list) and len(together) == len(chosen), f"{name}: {len(chosen)} candidates got {together}"
    )
    _require(chosen == kept, f"{name}: changed the list of candidates that it was given")
    broken = checked(together, verifier, len(chosen))[1]
    _require(broken is None, broken or "")
    for judged in together or ():
        _require(not math.isnan(judged.value), f"{name}: a score is nan ({judged.error})")
    _require(score([])[0] == [], f"{name}: gave something for no candidates")
    second, again = score(chosen)
    _require(second == together, f"{name}: gave other scores the second time")
    turned = score(chosen[::-1])[0] or []
    _require(turned[::-1] == together, f"{name}: scores depend on the order of the candidates")
    if not is_relative(verifier):
        alone = [judged for each in chosen for judged in score([each])[0] or ()]
        _require(
            alone == together,
            f"{name}: scores depend on the other candidates; a verifier that compares has relative = True",
        )
    for tokens in (0, 1, free.spent.tokens // 2, free.spent.tokens):
        said, ledger = score(chosen, tokens)
        takes = again.spent.tokens  # none, where it remembers
        unpaid = tokens < takes and said == together
        _require(not unpaid, f"{name}: said the same with {tokens} tokens as with the {takes} that it takes")
        _require(ledger.spent.tokens <= tokens, f"{name}: spent {ledger.spent.tokens} of a budget of {tokens} tokens")
        _require(ledger.held == Usage() and not ledger.busy, f"{name}: tokens are still held with a budget of {tokens}")
    ledger, ended = wait(_cancelled(verifier, chosen))
    _require(ended, f"{name}: went on for {PATIENT:g} seconds after it was cancelled")
    _require(ledger.held == Usage() and not ledger.busy, f"{name}: tokens are still held after it was cancelled")


PATIENT = 5.0
"""Seconds in which a part that is cancelled has to end."""


async def _scores(verifier: Verifier, candidates: Sequence[Candidate], run: Run) -> list[Score] | None:
    """What a verifier says, None where the budget has no room for it: as a drive would take it."""
    said: list[list[Score]] = []

    @dataclass(frozen=True)
    class Asking:
        async def search(self, roots: Candidates, inner: Run) -> AsyncIterator[Candidates]:
            said.append(await verifier.score(candidates, inner))
            yield roots

    await drive(Asking(), Candidates.of(Problem("")), run)
    return said[0] if said else None


async def _cancelled(verifier: Verifier, candidates: Sequence[Candidate]) -> tuple[Ledger, bool]:
    """Cancel a verifier once it has begun; its account, and whether it ended."""
    ledger = Ledger()
    task = asyncio.ensure_future(verifier.score(candidates, Run(1, ledger=ledger)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=PATIENT)
    return ledger, task.done()


def check_strategy(strategy: Strategy, problem: Problem, *, budgets: Iterable[int] = (0, 1, 50, 500)) -> None:
    """A strategy is repeatable, anytime and within any token budget, and leaves nothing held."""

    def run(tokens: float | None, seed: int = 1) -> tuple[Result, list[Event], Ledger]:
        events: list[Event] = []
        ledger = Ledger(Budget(tokens=tokens))
        return wait(asolve(problem, strategy, seed=seed, trace=events.append, within=ledger)), events, ledger

    free, _, _ = run(None)
    again, _, _ = run(None)
    _require(_texts(free) == _texts(again), f"{strategy}: the same seed gave different candidates")
    _require(free.answer == again.answer, f"{strategy}: the same seed gave different answers")
    for tokens in (*budgets, free.tokens // 2, free.tokens):
        result, events, ledger = run(tokens)
        _require(result.tokens <= tokens, f"{strategy}: spent {result.tokens} of a budget of {tokens} tokens")
        _require(
            ledger.spent.tokens == result.tokens, f"{strategy}: {ledger.spent.tokens} booked, {result.tokens} reported"
        )
        _require(ledger.held == Usage() and not ledger.busy, f"{strategy}: tokens are still held after the run")
        _require(bool(result.candidates.items), f"{strategy}: no candidates at all with {tokens} tokens")
        snapshots = [event for event in events if isinstance(event, Snapshot)]
        _require(all(s.candidates > 0 for s in snapshots), f"{strategy}: yielded an empty set")


def _texts(result: Result) -> list[str]:
    return [candidate.text for candidate in result.candidates]


__all__ = [
    "ContractBroken",
    "ScriptedModel",
    "ScriptedReward",
    "check_model",
    "check_policy",
    "check_strategy",
    "check_verifier",
    "reasoner",
    "words",
]
