"""Presets that search over steps with a reward model, or without one."""

from __future__ import annotations

from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.strategies.aggregators.vote import first
from reasonweave.strategies.presets.common import STEPS, searched, steps
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.adaptive_branching import AdaptiveBranching
from reasonweave.strategies.searches.astar import AStar
from reasonweave.strategies.searches.beam import DVTS, Beam, StochasticBeam
from reasonweave.strategies.searches.foresight import Newest, OwnConfidence
from reasonweave.strategies.searches.mcts import MCTS
from reasonweave.strategies.searches.particle import ParticleFilter, ParticleGibbs, entropic, twisted
from reasonweave.strategies.searches.phi import PhiDecoding
from reasonweave.strategies.searches.power import PowerSampling
from reasonweave.strategies.searches.rebase import REBASE
from reasonweave.strategies.searches.refiners import Redo, Refiner, Revise
from reasonweave.strategies.searches.tree_bon import TreeBoN
from reasonweave.strategies.searches.tree_of_thoughts import TreeOfThought
from reasonweave.strategies.searches.weighing import Entropic, Steady, by_ess


def particle_filter(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    heat: float = 1.0,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Particle filtering (Puri et al., 2025): n solutions drawn anew at every step by the odds of their rewards.

    `heat` is the temperature of the drawing.
    """
    policy = steps(small, temperature, max_tokens)
    search = ParticleFilter(policy, Newest(prm), n, temperature=Steady(heat), max_steps=max_steps)
    return searched(search, end, small)


def particle_gibbs(
    small: Model,
    prm: Verifier,
    *,
    n: int = 4,
    sweeps: int = 4,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Particle Gibbs (Puri et al., 2025): particle filters one after another, each around a solution of the one before."""
    inner = ParticleFilter(steps(small, temperature, max_tokens), Newest(prm), n, max_steps=max_steps)
    return searched(ParticleGibbs(inner, sweeps), end, small)


def entropic_particle_filter(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    horizon: int = 32,
    threshold: float = 0.5,
    early: float = 0.5,
    look_ahead: bool = False,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Entropic particle filtering (ePF, 2025): a particle filter that keeps its particles apart early on.

    `horizon` is about how many steps a solution takes.
    """
    policy, heat = steps(small, temperature, max_tokens), Entropic(by_ess, threshold, early, horizon)
    search = entropic(policy, Newest(prm), n, temperature=heat, look_ahead=look_ahead, max_steps=max_steps)
    return searched(search, end, small)


def twisted_smc(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    power: float = 0.5,
    end: str = "vote",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Twisted sequential Monte Carlo (Feng et al., 2025): proper weights from the values of prefixes, and a vote by weight."""
    search = twisted(steps(small, temperature, max_tokens), Newest(prm), n, power=power, max_steps=max_steps)
    return searched(search, end, small)


def self_certainty_filter(
    small: Model,
    *,
    n: int = 16,
    end: str = "majority",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """A particle filter weighed by how sure the model is of each step: no reward model."""
    search = ParticleFilter(steps(small, temperature, max_tokens), OwnConfidence(), n, max_steps=max_steps)
    return searched(search, end, small)


def beam(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    width: int = 4,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Beam search (Snell et al., 2024): n partial solutions, the n / width best of which branch at every step."""
    search = Beam(steps(small, temperature, max_tokens), Newest(prm), n, min(width, n), max_steps=max_steps)
    return searched(search, end, small)


def dvts(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    width: int = 4,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Diverse verifier tree search (Beeching et al., 2024): n / width subtrees, each of which follows its best step."""
    search = DVTS(steps(small, temperature, max_tokens), Newest(prm), n, min(width, n), max_steps=max_steps)
    return searched(search, end, small)


def stochastic_beam(
    small: Model,
    prm: Verifier,
    *,
    beams: int = 5,
    samples: int = 16,
    scale: float = 0.0,
    trust: float = 0.5,
    tau: float = 0.5,
    decay: float = 1.0,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Self-evaluation guided stochastic beam search (Xie et al., 2023).

    `prm` says whether a step is right, from 0 to `scale`; where that is 0, to what the verifier calls its highest score, or 1.
    """
    policy = steps(small, temperature, max_tokens)
    search = StochasticBeam(policy, prm, beams, samples, trust, tau, decay, scale or None, max_steps)
    return searched(search, end, small)


def rebase(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    balance: float = 0.2,
    end: str = "weighted",
    max_steps: int = STEPS,
    temperature: float = 1.0,
    max_tokens: int = 256,
) -> Strategy:
    """REBASE (Wu et al., 2024): a tree whose width is shared out by reward; `balance` is the temperature of the sharing."""
    search = REBASE(steps(small, temperature, max_tokens), Newest(prm), n, balance, max_steps)
    return searched(search, end, small)


def astar(
    small: Model,
    prm: Verifier,
    *,
    n: int = 4,
    expansions: int = 64,
    batch: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """A*-decoding (2025): n steps from the partial solution whose reward, and whose drops of reward, look best."""
    search = AStar(steps(small, temperature, max_tokens), Newest(prm), n, expansions, batch=batch, max_steps=max_steps)
    return chain(search, first, finish=ForceAnswer(small))


def tree_bon(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    children: int = 4,
    layers: int = 4,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """TreeBoN (Qiu et al., 2024): best-of-n that prunes and branches in its first layers."""
    policy, depth = steps(small, temperature, max_tokens), max(layers, max_steps)
    search = TreeBoN(policy, Newest(prm), n, min(children, n), layers, prm, depth)
    return searched(search, end, small)


def mcts(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    width: int = 4,
    exploration: float = 1.4142135623730951,
    rollout: bool = True,
    batch: int = 4,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Monte Carlo tree search (UCT): n simulations, each written to its end and scored."""
    judge = prm if rollout else Newest(prm)
    search = MCTS(steps(small, temperature, max_tokens), judge, n, width, exploration, rollout, batch, max_steps)
    return searched(search, end, small)


def ab_mcts(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    words: bool = False,
    batch: int = 4,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Adaptive branching tree search (AB-MCTS-A; Inoue et al., 2025): a fresh answer, or a better version of one?

    A better version is written from the step that scored lowest, or with `words` by asking the model for one.
    """
    refiner: Refiner = Redo(steps(small, temperature, max_tokens), max_steps)
    if words:
        refiner = Revise(small, temperature=temperature, max_tokens=max_tokens)
    return searched(AdaptiveBranching({"small": refiner}, prm, n, batch=batch), end, small)


def phi_decoding(
    small: Model,
    *,
    beams: int = 4,
    rollouts: int = 4,
    clusters: int = 3,
    least: int = 4,
    most: int = 8,
    end: str = "sample",
    max_steps: int = STEPS,
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Strategy:
    """φ-decoding (Xu et al., 2025): steps weighed by what the model makes of them, no reward model."""
    policy = steps(small, temperature, max_tokens)
    search = PhiDecoding(policy, beams, rollouts, clusters=clusters, least=least, most=most, max_steps=max_steps)
    return searched(search, end, small)


def power_sampling(
    small: Model,
    *,
    n: int = 1,
    alpha: float = 4.0,
    block: int = 192,
    blocks: int = 16,
    moves: int = 10,
    end: str = "majority",
) -> Strategy:
    """Power sampling (Karan & Du, 2025): Metropolis–Hastings on p^alpha, no reward model."""
    return searched(PowerSampling(small, n, alpha, block, blocks, moves), end, small)


def tree_of_thoughts(
    small: Model,
    judge: Verifier,
    *,
    samples: int = 5,
    breadth: int = 5,
    greedy: bool = True,
    end: str = "argmax",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Tree of thoughts (Yao et al., 2023), breadth first: several thoughts a node, and a judge of which stay."""
    search = TreeOfThought(steps(small, temperature, max_tokens), judge, samples, breadth, greedy, max_steps)
    return searched(search, end, small)
