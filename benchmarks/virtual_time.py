"""How much faster two models are than the large one alone, on a virtual clock.

    python benchmarks/virtual_time.py [--problems 12] [--json FILE]

The policies are the real ones. The models are clocks: they write steps of a given length, agree at a given rate, and take the
time that their profile says, on an event loop that jumps to the next event instead of waiting. A server batches what is asked
of it at the same time, prefills what its prefix cache does not have, and decodes a token for every running sequence at once.

What is put in: hardware data sheets, model sizes, step lengths, and how often a draft is accepted (the papers' own ranges).
What comes out: the time that the calls take in the order in which the policies make them. It is a check of the policies'
structure against the papers' speed-ups, not a measurement of servers.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import selectors
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from reasonweave.orchestrator import Candidate, Problem, Run, Score
from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.models.base import Rating, Request, RewardModel
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.testing import ScriptedModel, words
from reasonweave.orchestrator.trace import Event, Generated, Rated
from reasonweave.orchestrator.types import Candidates, Completion, Usage
from reasonweave.strategies import BestOfN, Lookahead, Sample, rsd, spec_reason
from reasonweave.verifiers import ProcessReward, UtilityDigit

T = TypeVar("T")

BLOCK = 16
"""Tokens in a block of the prefix cache (vLLM's default on GPUs)."""
STEP = 45
"""Mean tokens of a step that ends with a blank line; 60 of them make 2,700 tokens, the length of a MATH-500 solution of a
reasoning model (SpecReason's budget is 8,192)."""
STEPS = 60


@dataclass(frozen=True)
class Hardware:
    """A server's GPUs together: memory bandwidth in bytes a second, dense bf16 FLOP/s, and what part of each is reached."""

    name: str
    bandwidth: float
    flops: float
    reached_bandwidth: float = 0.7
    reached_flops: float = 0.5
    overhead: float = 0.003
    """Seconds an iteration costs besides: scheduling, sampling, communication."""


# NVIDIA's data sheets: RTX A6000 768 GB/s, 154.8 TFLOP/s; H100 SXM 3.35 TB/s, 989 TFLOP/s. SpecReason: two A6000, both models on
# both (tensor parallel 2). RSD's 72B: taken here as four H100.
A6000 = Hardware("2 x RTX A6000", 2 * 768e9, 2 * 154.8e12)
H100 = Hardware("4 x H100", 4 * 3.35e12, 4 * 989e12)


@dataclass(frozen=True)
class Profile:
    """A model on hardware: parameters (bf16, two bytes each) decide both times."""

    name: str
    parameters: float
    hardware: Hardware

    def iteration(self, decoded: int, prefilled: int) -> float:
        """Seconds for one pass: reading the weights, or computing on all tokens, whichever takes longer, and the overhead."""
        h = self.hardware
        reading = 2 * self.parameters / (h.bandwidth * h.reached_bandwidth)
        computing = 2 * self.parameters * (decoded + prefilled) / (h.flops * h.reached_flops)
        return max(reading, computing) + h.overhead


QWQ, R1 = Profile("QwQ-32B", 32.5e9, A6000), Profile("R1-Distill-1.5B", 1.54e9, A6000)
LARGE, DRAFT = Profile("Qwen2.5-Math-72B", 72.7e9, H100), Profile("Qwen2.5-Math-1.5B", 1.54e9, H100)
PRM = Profile("Skywork-PRM-1.5B", 1.54e9, H100)
SIZES = {profile.name: profile.parameters for profile in (QWQ, R1, LARGE, DRAFT, PRM)}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is to be done."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._of = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0 if timeout is None or timeout > 0 else timeout)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits and nobody works: a deadlock")
        if not ready and timeout and timeout > 0:
            self._of.now += timeout
        return ready


def virtually(work: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    """Run a coroutine on a virtual clock; its result and the seconds that passed on it."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()

        async def timed() -> tuple[T, float]:
            began = loop.time()
            return await work(), loop.time() - began

        return runner.run(timed())


@dataclass
class Clock:
    """A server: sequences that run, and one task that advances them all, an iteration at a time."""

    profile: Profile
    running: list[_Job] = field(default_factory=list)
    busy: asyncio.Task[None] | None = None

    async def run(self, prefill: int, decode: int) -> None:
        job = _Job(prefill, decode, asyncio.get_running_loop().create_future())
        self.running.append(job)
        if self.busy is None or self.busy.done():
            self.busy = asyncio.create_task(self._work())
        await job.done

    async def _work(self) -> None:
        await asyncio.sleep(0)  # let those who ask at the same moment come in
        while self.running:
            fresh = sum(job.prefill for job in self.running)
            old = [job for job in self.running if not job.prefill]
            await asyncio.sleep(self.profile.iteration(len(old), fresh))
            for job in list(self.running):
                job.decode -= 1  # a prefill gives the first token too
                job.prefill = 0
                if job.decode <= 0:
                    self.running.remove(job)
                    job.done.set_result(None)


@dataclass(eq=False)
class _Job:
    prefill: int
    decode: int
    done: asyncio.Future[None]


class Prefixes:
    """What a prefix cache holds: chains of whole blocks."""

    def __init__(self) -> None:
        self.known: set[int] = set()

    def cached(self, tokens: Sequence[str]) -> int:
        """Cached tokens at the beginning, in whole blocks, at least one left out; then all of it is known."""
        found, chain, all_known = 0, 0, True
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            chain = hash((chain, tuple(tokens[start : start + BLOCK])))
            all_known = all_known and chain in self.known
            found += BLOCK if all_known and start + BLOCK < len(tokens) else 0
            self.known.add(chain)
        return found


class Timed(ScriptedModel):
    """A scripted model that takes its profile's time."""

    def __init__(self, profile: Profile, script: Callable[[Request], str], role: str) -> None:
        super().__init__(script, name=profile.name, role=role, rates=Rates(active=profile.parameters))
        self.clock, self.prefixes = Clock(profile), Prefixes()

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        async def one(request: Request) -> Completion:
            made = self._complete(request)
            tokens = [t for m in request.context.messages for t in words(m.content)] + words(request.context.prefix)
            cached = self.prefixes.cached(tokens)
            await self.clock.run(len(tokens) - cached, max(1, made.usage.completion))
            self.prefixes.cached([*tokens, *(token.text for token in made.tokens)])
            usage = self.rates.price(prompt=made.usage.prompt, cached=cached, completion=made.usage.completion)
            return Completion(made.text, made.finish_reason, usage, made.tokens)

        return list(await asyncio.gather(*(one(request) for request in requests)))


class TimedReward(RewardModel):
    """A process reward model: reads everything anew at each call, as `/pooling` does; accepts at a given rate."""

    def __init__(self, profile: Profile, accepted: float) -> None:
        super().__init__(profile.name, role="prm", rates=Rates(active=profile.parameters))
        self.clock, self.accepted = Clock(profile), accepted

    def count(self, problem: Problem, steps: Sequence[str]) -> int:
        return len(words(problem.prompt)) + sum(len(words(step)) for step in steps)

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        await asyncio.gather(*(self.clock.run(rating.prompt, 1) for rating in ratings))
        return [
            (Score(v, (v,) * len(r.steps)), self.rates.price(prompt=r.prompt, completion=0))
            for r in ratings
            for v in (0.9 if chance(r.problem.prompt, r.steps[-1]) < self.accepted else 0.1,)
        ]


def chance(*parts: object) -> float:
    """A number in 0..1 that depends on these parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


def writer(who: str) -> Callable[[Request], str]:
    """Writes one step after another, their lengths drawn once a place and writer, and ends after the last."""

    def script(request: Request) -> str:
        if request.max_tokens == 1:
            return "?"
        place = request.context.prefix.count("\n\n")
        rng = random.Random(f"{request.context.messages[0].content}/{place}")
        length = max(5, round(rng.lognormvariate(0, 0.6) * STEP / 1.2))
        text = f"{who}{place}.{request.seed % 9973}" + " so" * (length - 2)
        return f"{text}\n\n" if place + 1 < STEPS else f"{text} \\boxed{{1}}"

    return script


def judge(accepted: float, write: Callable[[Request], str]) -> Callable[[Request], str]:
    """The large model's script: a digit where one is asked for, else a step."""

    def script(request: Request) -> str:
        if request.max_tokens == 1:
            return "9" if chance(request.context.messages[1].content) < accepted else "2"
        return write(request)

    return script


@dataclass(frozen=True)
class Agreed:
    """Two steps agree at a given rate."""

    rate: float

    async def agree(
        self, before: Sequence[Candidate], drafted: Sequence[Candidate], wanted: Sequence[Candidate], run: Run
    ) -> list[bool]:
        return [chance(candidate.text) < self.rate for candidate in drafted]


@dataclass(frozen=True)
class Line:
    """One line of the report. Times in virtual seconds a problem; speed-up and FLOPs against the large model alone."""

    method: str
    models: str
    accepted: float
    at_once: int
    by_large: float
    seconds: float
    speed_up: float
    flops: float
    """Of all tokens that any model read or wrote (cached ones excepted), relative to the large model alone."""
    generation: float
    """Of generated tokens alone, the draft's, the large model's and one for each reward: RSD's figure is of this kind."""
    paper: str


@dataclass(frozen=True)
class Done:
    """What solving some problems took."""

    candidates: list[Candidate]
    spent: Usage
    generated: float
    """FLOPs of the tokens that were generated."""


async def solve_all(policy: StepPolicy, problems: int, at_once: int) -> Done:
    """Solve problems, a given number at the same time."""
    generated = 0.0

    def trace(event: Event) -> None:
        nonlocal generated
        if isinstance(event, Generated | Rated):
            generated += 2 * SIZES[event.model] * (event.usage.completion or event.usage.calls)

    gate, run, done = asyncio.Semaphore(at_once), Run(7, tracer=trace), dict[int, Candidate]()

    async def one(i: int) -> None:
        async with gate:
            roots = Candidates.of(Problem(f"problem {i} " + "word " * 90))
            async for seen in BestOfN(policy, n=1, max_steps=STEPS * 2).search(roots, run.child(i)):
                done[i] = seen[0]

    async with asyncio.TaskGroup() as group:
        for i in range(problems):
            group.create_task(one(i))
    return Done([done[i] for i in range(problems)], run.ledger.spent, generated)


def compare(
    method: str,
    make: Callable[[float], StepPolicy],
    alone: Callable[[], StepPolicy],
    large: Profile,
    models: str,
    rates: Sequence[float],
    problems: int,
    crowd: int,
    paper: str,
) -> list[Line]:
    """A method at several acceptance rates, one problem at a time and many, against the large model alone."""
    lines = []
    for at_once in (1, crowd):
        base = virtually(lambda k=at_once: solve_all(alone(), problems, k))  # type: ignore[misc]
        for rate in rates:
            found = virtually(lambda k=at_once, r=rate: solve_all(make(r), problems, k))  # type: ignore[misc]
            steps = [step for candidate in found[0].candidates for step in candidate.steps]
            lines.append(
                Line(
                    method,
                    models,
                    rate,
                    at_once,
                    sum(step.author == large.name for step in steps) / len(steps),
                    found[1] / problems,
                    base[1] / found[1],
                    found[0].spent.flops / base[0].spent.flops,
                    found[0].generated / base[0].generated,
                    paper,
                )
            )
    return lines


def report(problems: int, crowd: int) -> list[Line]:
    """All methods."""

    def spec(rate: float) -> StepPolicy:
        large = Timed(QWQ, judge(rate, writer("L")), "large")
        return spec_reason(Timed(R1, writer("s"), "small"), large, UtilityDigit(large, expected=False))

    def ahead(rate: float) -> StepPolicy:
        return Lookahead(
            Sample(Timed(R1, writer("s"), "small")), Sample(Timed(QWQ, writer("L"), "large")), Agreed(rate), 4
        )

    def reward(rate: float) -> StepPolicy:
        prm = ProcessReward(TimedReward(PRM, rate))
        return rsd(Timed(DRAFT, writer("s"), "small"), Timed(LARGE, writer("L"), "large"), prm, temperature=0.6)

    def only(profile: Profile) -> Callable[[], StepPolicy]:
        return lambda: Sample(Timed(profile, writer("L"), "large"))

    small_scale = f"{R1.name} + {QWQ.name}, {A6000.name}"
    large_scale = f"{DRAFT.name} + {PRM.name} + {LARGE.name}, {H100.name}"
    common = (problems, crowd)
    return [
        *compare(
            "spec-reason",
            spec,
            only(QWQ),
            QWQ,
            small_scale,
            (0.38, 0.6, 0.8),
            *common,
            "speed-up 1.5–2.5, 1.4–3.0 over all pairs",
        ),
        *compare(
            "rsd", reward, only(LARGE), LARGE, large_scale, (0.5, 0.7, 0.9), *common, "FLOPs down to 23 % (4.4x fewer)"
        ),
        *compare(
            "lookahead",
            ahead,
            only(QWQ),
            QWQ,
            small_scale,
            (0.3, 0.5, 0.7),
            *common,
            "speed-up 1.4, 2.1 with token-level speculation",
        ),
    ]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("--crowd", type=int, default=12, help="problems at the same time, beside one at a time")
    parser.add_argument("--json", metavar="FILE")
    asked = parser.parse_args()
    lines = report(asked.problems, asked.crowd)
    if asked.json:
        with open(asked.json, "w") as out:
            json.dump([asdict(line) for line in lines], out, indent=1)
    print(
        "| method | accepted | at once | steps by large | seconds | speed-up | all FLOPs | generation FLOPs | paper |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    for line in lines:
        print(
            f"| {line.method} | {line.accepted:.0%} | {line.at_once} | {line.by_large:.0%} | {line.seconds:.1f} "
            f"| {line.speed_up:.2f}x | {line.flops:.0%} | {line.generation:.0%} | {line.paper} |"
        )
    for models in dict.fromkeys(line.models for line in lines):
        print(f"\n{', '.join(dict.fromkeys(m.method for m in lines if m.models == models))}: {models}", end="")
    print(f"\n\n{STEPS} steps of about {STEP} tokens; seconds are virtual, a problem.")


if __name__ == "__main__":
    sys.exit(main())
