"""Particle filtering: extend, weigh, resample; and particle Gibbs, which repeats it around one solution that it keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import Candidate, Candidates, FloatArray, IntArray, shown, softmax
from reasonweave.strategies.policies.reading import Reader
from reasonweave.strategies.searches.live import begin, extend_live, score, unjudged
from reasonweave.strategies.searches.resampling import Resampler, multinomial, systematic
from reasonweave.strategies.searches.weighing import (
    EssBelow,
    Potential,
    Ratio,
    Replace,
    Steady,
    Temperature,
    Trigger,
    Twist,
    Weighing,
    always,
    log_odds,
)

_REPLACE, _STEADY = Replace(), Steady()


@dataclass(frozen=True)
class ParticleFilter:
    """Particle filtering over reasoning steps (Puri et al., 2025, arXiv 2502.01618): sample from a posterior, do not search
    its mode.

    Each step, every live particle is extended by `policy`, scored by `verifier` in one call and weighed by the `potential` of its
    score; where `when` says so, all are drawn anew by softmax(log weight / `temperature`). The parts' defaults are the paper's.
    With `weighing=Ratio()` and `potential=log_reward` it is the textbook's sequential Monte Carlo (Del Moral et al., 2006), whose
    weights are proper for p(solution) · reward(solution) and whose mean weight estimates the evidence without bias
    (`Candidates.log_evidence`). A policy that proposes from another distribution q than the p it stands for adds log p − log q
    to a candidate's `log_weight`; ratio weights keep it.

    Finished particles keep their weight and compete (`absorbing`); else they are set aside and the live ones are drawn among
    themselves. With `look_ahead`, particles are drawn also for the potential of one trial step each, which is then thrown
    away (look-ahead modulation, as an auxiliary particle filter; Pitt & Shephard, 1999; we found no formula of the paper's):
    twice the calls. Ratio weights take that potential back afterwards, replaced ones forget it.

    A particle that could not be scored has weight zero; where all have, they are equal. Conclude with `best` (the paper's
    argmax), `Drawn()` (a sample) or `posterior` (a vote by weight).
    """

    policy: StepPolicy
    verifier: Verifier
    n: int = 16
    potential: Potential = log_odds
    weighing: Weighing = _REPLACE
    resample: Resampler = multinomial
    when: Trigger = always
    temperature: Temperature = _STEADY
    absorbing: bool = True
    look_ahead: bool = False
    max_steps: int = 64

    __repr__ = shown

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_steps < 1:
            raise BadInput(f"ParticleFilter(n={self.n}, max_steps={self.max_steps}): both are 1 or more")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        particles, potentials = begin(roots, self.n), np.zeros(self.n)
        for t in range(self.max_steps):
            here = run.child("step", t)
            particles = await extend_live(self.policy, particles, here)
            if unjudged(particles):
                yield particles
            particles, potentials = self.weighed(await score(self.verifier, particles, here), potentials)
            yield particles
            if particles.all_done or t + 1 == self.max_steps:
                return
            if (drawn := await self.draw(particles, potentials, t, here)) is not None:
                kept, logs = drawn
                particles, potentials = particles.take(kept).reweight(logs), potentials[kept]

    def weighed(self, particles: Candidates, before: FloatArray) -> tuple[Candidates, FloatArray]:
        """Scored particles with their new log weights, and their log potentials, those before being `before`."""
        now = self.potentials(particles)
        return particles.reweight(self.weighing.update(particles.log_weights, before, now)), now

    def potentials(self, particles: Candidates) -> FloatArray:
        """log G of each particle, shape (n,): 0 for an empty one, −inf for one that failed or could not be scored."""
        return np.array([self.potential(c) if c.steps or c.done else 0.0 for c in particles], dtype=np.float64)

    async def draw(
        self, particles: Candidates, potentials: FloatArray, t: int, run: Run
    ) -> tuple[IntArray, FloatArray] | None:
        """Who lives on after step t, in ascending order, and with which log weights; None where it is not yet time."""
        among = np.array([i for i, c in enumerate(particles) if self.absorbing or not c.done])
        own = particles.log_weights[among]
        if not self.when(softmax(own)):
            return None
        logs = own
        if self.look_ahead:
            ahead = run.child("ahead")
            trial = await score(self.verifier, await extend_live(self.policy, particles, ahead), ahead)
            gain = self.weighing.update(np.zeros(len(trial)), potentials, self.potentials(trial))
            logs = own + gain[among]
        chances = softmax(logs, self.temperature(softmax(logs), t))
        drawn = self.resample(chances, len(among), run.child("resample").rng())
        kept, log_weights = np.arange(len(particles)), particles.log_weights
        kept[among], log_weights[among] = among[drawn], self.weighing.drawn(own, chances, drawn)
        return kept, log_weights


@dataclass(frozen=True)
class ParticleGibbs:
    """Particle Gibbs: `sweeps` particle filters, each but the first around a reference, a solution drawn from the sweep before
    (conditional sequential Monte Carlo; Andrieu et al., 2010; for reasoning, Puri et al., 2025).

    The reference lives in slot 0 at every step, weighed by its score at that step; the other n − 1 particles are drawn from all
    n, independently. With `weighing=Ratio()`, a sweep leaves the posterior p(solution) · G(solution) as it is, for any n of 2 or
    more. The set of the last sweep is the result.

    `ancestors` (particle Gibbs with ancestor sampling; Lindsten et al., 2014) also draws anew which particle the rest of the
    reference goes on from. It reads the rest after each particle: n readings and n ratings a step. It needs ratio weights.
    """

    filter: ParticleFilter
    sweeps: int = 4
    ancestors: Reader | None = None

    def __post_init__(self) -> None:
        inner = self.filter
        if self.sweeps < 1 or inner.n < 2:
            raise BadInput(f"ParticleGibbs(sweeps={self.sweeps}, n={inner.n}): one sweep and two particles at least")
        plain = (
            inner.resample is multinomial and inner.temperature == Steady() and inner.absorbing and not inner.look_ahead
        )
        if not plain:
            raise BadInput(
                "ParticleGibbs: the filter has to be multinomial at temperature 1, absorbing, without look-ahead"
            )
        if self.ancestors is not None and not isinstance(inner.weighing, Ratio):
            raise BadInput("ParticleGibbs: ancestor sampling needs weighing=Ratio()")

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        reference: list[Candidate] = []
        for sweep in range(self.sweeps):
            here = run.child("sweep", sweep)
            history: list[Candidates] = []
            parents: list[IntArray] = []
            async for particles in self._sweep(roots, reference, history, parents, here):
                yield particles
            k = int(here.child("reference").rng().choice(self.filter.n, p=history[-1].weights))
            reference = _trail(k, history, parents)

    async def _sweep(
        self,
        roots: Candidates,
        reference: list[Candidate],
        history: list[Candidates],
        parents: list[IntArray],
        run: Run,
    ) -> AsyncGenerator[Candidates, None]:
        """One conditional filter; the sets after each step go to `history`, who was drawn from whom to `parents`."""
        smc = self.filter
        particles, potentials = begin(roots, smc.n), np.zeros(smc.n)
        for t in range(smc.max_steps):
            here = run.child("step", t)
            others = await extend_live(smc.policy, Candidates(particles.items[bool(reference) :]), here)
            if reference:
                kept = replace(reference[min(t, len(reference) - 1)], log_weight=particles[0].log_weight)
                others = Candidates((kept, *others))
            if unjudged(others):
                yield others
            particles, potentials = smc.weighed(await score(smc.verifier, others, here), potentials)
            history.append(particles)
            yield particles
            if particles.all_done:
                return
            chosen, logs = np.arange(smc.n), particles.log_weights
            if smc.when(particles.weights):
                rng = here.child("resample").rng()
                if reference:
                    at = await self._ancestor(particles, potentials, reference, t, here.child("ancestor"))
                    _splice(reference, particles[at], t)
                    chosen = np.concatenate([[at], multinomial(particles.weights, smc.n - 1, rng)])
                else:
                    chosen = multinomial(particles.weights, smc.n, rng)
                logs = smc.weighing.drawn(particles.log_weights, particles.weights, chosen)
            parents.append(chosen)
            particles, potentials = particles.take(chosen).reweight(logs), potentials[chosen]

    async def _ancestor(
        self, particles: Candidates, potentials: FloatArray, reference: Sequence[Candidate], t: int, run: Run
    ) -> int:
        """Which particle the rest of the reference goes on from, by W · p(rest | particle) · G(joined) / G(particle); its own,
        where there is no rest or its own chance cannot be told."""
        if self.ancestors is None or t >= len(reference) - 1 or reference[t].done:
            return 0
        rest, end = reference[-1].steps[len(reference[t].steps) :], reference[-1]
        able = [i for i, c in enumerate(particles) if not c.done]
        joined = [particles[i].extend(*rest, done=end.done) for i in able]
        read = await self.ancestors.read([particles[i] for i in able], joined, run.child("read"))
        judged = await score(self.filter.verifier, Candidates(tuple(joined)), run.child("judge"))
        with np.errstate(invalid="ignore"):  # where a potential is zero
            gain = self.filter.potentials(judged) - potentials[able]
            logs = particles.log_weights[able] + np.array(read, dtype=np.float64) + gain
        return able[int(run.rng().choice(len(able), p=softmax(logs)))] if np.isfinite(logs[0]) else 0


def _trail(k: int, history: Sequence[Candidates], parents: Sequence[IntArray]) -> list[Candidate]:
    """The prefixes that particle k of the last set grew through, one a step, with their scores."""
    trail = []
    for t in range(len(history) - 1, -1, -1):
        trail.append(history[t][k])
        k = int(parents[t - 1][k]) if t else k
    return trail[::-1]


def _splice(reference: list[Candidate], onto: Candidate, t: int) -> None:
    """Let the reference's steps after step t follow another particle; what they become is still to be scored."""
    if t >= len(reference) - 1 or onto.steps == reference[t].steps:
        return
    old, reference[t] = list(reference), onto
    for s in range(t + 1, len(old)):
        new = old[s].steps[len(old[s - 1].steps) :]
        reference[s] = reference[s - 1].extend(*new, done=old[s].done)


def entropic(
    policy: StepPolicy,
    verifier: Verifier,
    n: int = 16,
    *,
    temperature: Temperature,
    look_ahead: bool = False,
    max_steps: int = 64,
) -> ParticleFilter:
    """Entropic particle filtering (ePF, 2025, arXiv 2510.05825): the published filter with systematic resampling, at a
    temperature that keeps particles apart early on (`Entropic`), and with `look_ahead` its look-ahead modulation."""
    return ParticleFilter(
        policy,
        verifier,
        n,
        resample=systematic,
        temperature=temperature,
        look_ahead=look_ahead,
        max_steps=max_steps,
    )


def twisted(
    policy: StepPolicy, value: Verifier, n: int = 16, *, power: float = 0.5, max_steps: int = 64
) -> ParticleFilter:
    """Twisted sequential Monte Carlo (Feng et al., 2025, arXiv 2410.01920): proper weights by ψ / ψ before, ψ = √V of `value`.

    V estimates the chance that a prefix ends well. Resampling is systematic, and only where the effective sample size falls
    below half; the paper draws anew at every step.
    Conclude with `posterior`, as the paper does.
    """
    return ParticleFilter(
        policy,
        value,
        n,
        potential=Twist(power),
        weighing=Ratio(),
        resample=systematic,
        when=EssBelow(0.5),
        max_steps=max_steps,
    )
