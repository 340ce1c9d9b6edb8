"""The named workflows. Roles come in by parameter name (`small`, `large`, `prm`); numbers with defaults are options."""

from __future__ import annotations

from dataclasses import replace

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Aggregator, StepPolicy, Strategy, Verifier
from reasonweave.strategies.aggregators.vote import Drawn, best, first, heaviest, majority, posterior, weighted
from reasonweave.strategies.policies import rsd as rsd_steps
from reasonweave.strategies.policies import spec_reason as spec_reason_steps
from reasonweave.strategies.policies.best_step import BestStep, ByScore, Gated, Momentum
from reasonweave.strategies.policies.budget_forcing import BudgetForcing
from reasonweave.strategies.policies.guard import Guard
from reasonweave.strategies.policies.guided import Guided
from reasonweave.strategies.policies.handoff import Cues, Handoff
from reasonweave.strategies.policies.lookahead import Aligned, Lookahead, SameText
from reasonweave.strategies.policies.sample import Sample, whole
from reasonweave.strategies.policies.signals import TOP
from reasonweave.strategies.policies.switch import Switch
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.adaptive_branching import AdaptiveBranching
from reasonweave.strategies.searches.astar import AStar
from reasonweave.strategies.searches.beam import DVTS, Beam, StochasticBeam
from reasonweave.strategies.searches.best_of_n import BestOfN
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

STEPS = 512
"""Extensions of a solution that step-wise workflows allow: reasoning models write hundreds of short steps."""


def single(small: Model, *, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """One solution by one model: the baseline of everything else."""
    return chain(
        BestOfN(whole(small, temperature=temperature, max_tokens=max_tokens), n=1, max_steps=1),
        majority,
        finish=ForceAnswer(small),
    )


def single_large(large: Model, *, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """One solution by the large model."""
    return single(large, temperature=temperature, max_tokens=max_tokens)


def self_consistency(small: Model, *, n: int = 16, temperature: float = 0.8, max_tokens: int = 1024) -> Strategy:
    """Self-consistency (Wang et al., 2023): n solutions by the small model, and a majority vote on their answers."""
    return chain(
        BestOfN(whole(small, temperature=temperature, max_tokens=max_tokens), n=n, max_steps=1),
        majority,
        finish=ForceAnswer(small),
    )


def best_of_n(
    small: Model, prm: Verifier, *, n: int = 16, temperature: float = 0.8, max_tokens: int = 1024
) -> Strategy:
    """Best-of-n (Cobbe et al., 2021): n solutions by the small model, and the one that the reward model likes best."""
    return chain(
        BestOfN(whole(small, temperature=temperature, max_tokens=max_tokens), n=n, verifier=prm, max_steps=1),
        best,
        finish=ForceAnswer(small),
    )


def weighted_majority(
    small: Model, prm: Verifier, *, n: int = 16, temperature: float = 0.8, max_tokens: int = 1024
) -> Strategy:
    """Weighted majority (Li et al., 2023): n solutions by the small model vote with their reward-model scores."""
    return chain(
        BestOfN(whole(small, temperature=temperature, max_tokens=max_tokens), n=n, verifier=prm, max_steps=1),
        weighted,
        finish=ForceAnswer(small),
    )


def _steps(policy: StepPolicy, n: int, finish: Model, max_steps: int) -> Strategy:
    """n solutions step by step, at most `max_steps` extensions each, and a majority vote on their answers."""
    return chain(BestOfN(policy, n=n, max_steps=max_steps), majority, finish=ForceAnswer(finish))


def spec_reason(
    small: Model,
    large: Model,
    judge: Verifier,
    *,
    threshold: float = 7.0,
    first: int = 0,
    sure: float = 0.0,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.6,
    top_p: float = 0.95,
    max_tokens: int = 512,
) -> Strategy:
    """SpecReason (Pan et al., 2025): the small model drafts steps, the large one redoes those that its judgement rejects."""
    policy = spec_reason_steps(
        small,
        large,
        judge,
        threshold,
        first=first,
        sure=sure,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
    )
    return _steps(policy, n, large, max_steps)


def speculative_thinking(
    small: Model,
    large: Model,
    *,
    every: bool = False,
    cues: str = "",
    one_step: bool = False,
    cue_tokens: int = 20,
    check_tokens: int = 125,
    recap_tokens: int = 125,
    recap_after: int = 15,
    begin_tokens: int = 0,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.6,
    top_p: float = 0.95,
    top_k: int = 50,
    max_tokens: int = 1024,
) -> Strategy:
    """Speculative Thinking (Yang et al., 2025): the large model writes where the small one affirms, reflects or verifies.

    `cues` adds words to those that show reflection, separated by commas.
    """
    known, added = Cues(), tuple(word for part in cues.split(",") if (word := part.strip()))
    policy = Handoff(
        small,
        large,
        every=every,
        cues=replace(known, reflection=known.reflection + added),
        one_step=one_step,
        cue_tokens=cue_tokens,
        check_tokens=check_tokens,
        recap_tokens=recap_tokens,
        recap_after=recap_after,
        begin_tokens=begin_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_tokens=max_tokens,
    )
    return _steps(Guard(policy, repeats=3), n, large, max_steps)


def rsd(
    small: Model,
    large: Model,
    prm: Verifier,
    *,
    delta: float = 0.7,
    sure: float = 0.0,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 512,
) -> Strategy:
    """Reward-guided speculative decoding (Liao et al., 2025): the large model redoes steps with a reward below delta."""
    policy = rsd_steps(small, large, prm, delta, sure=sure, temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    return _steps(policy, n, large, max_steps)


def entropy_switch(
    small: Model,
    large: Model,
    *,
    threshold: float = 0.5,
    window: int = 16,
    dwell: int = 1,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Entropy-adaptive switching (Simonds, 2025): the large model writes on where the mean token entropy is above a threshold."""
    draft, target = (
        Sample(model, temperature=temperature, max_tokens=max_tokens, top_logprobs=TOP) for model in (small, large)
    )
    return _steps(Guard(Switch(draft, target, threshold, window=window, dwell=dwell)), n, large, max_steps)


def mur(
    small: Model,
    prm: Verifier,
    *,
    width: int = 4,
    gamma: float = 0.9,
    alpha: float = 0.9,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Strategy:
    """Momentum uncertainty (MUR; Yan et al., 2025): more drafts of a step, the best by reward, where it looks uncertain."""
    policy = Sample(small, temperature=temperature, max_tokens=max_tokens)
    return _steps(
        Guard(Gated(policy, Momentum(gamma, alpha), BestStep(policy, ByScore(prm), n=width))), n, small, max_steps
    )


def gsi(
    small: Model,
    large: Model,
    prm: Verifier,
    *,
    width: int = 16,
    beta: float = 20.0,
    threshold: float = 10.0,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.7,
    max_tokens: int = 512,
) -> Strategy:
    """Guided speculative inference (Geuter et al., 2025): soft best-of-n over drafts, tilted to the large model."""
    policy = Guided(small, large, prm, width, beta, threshold, temperature=temperature, max_tokens=max_tokens)
    return _steps(Guard(policy), n, large, max_steps)


def lookahead(
    small: Model,
    large: Model,
    *,
    gamma: int = 4,
    exact: bool = True,
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.0,
    max_tokens: int = 512,
) -> Strategy:
    """Lookahead reasoning (Fu et al., 2025): gamma steps drafted ahead, kept as far as the large model agrees.

    `exact` compares texts; without it the large model is asked whether two steps say the same.
    """
    draft, target = (Sample(model, temperature=temperature, max_tokens=max_tokens) for model in (small, large))
    agreement = SameText() if exact else Aligned(large)
    return _steps(Guard(Lookahead(draft, target, agreement, gamma)), n, large, max_steps)


def budget_forcing(
    small: Model,
    *,
    waits: int = 1,
    limit: int | None = None,
    word: str = "Wait",
    think_end: str = "</think>",
    n: int = 1,
    max_steps: int = STEPS,
    temperature: float = 0.6,
    max_tokens: int = 512,
) -> Strategy:
    """Budget forcing (s1; Muennighoff et al., 2025): "Wait" where the model would stop, an end where it would not."""
    policy = BudgetForcing(small, waits, limit, word, think_end, temperature=temperature, max_tokens=max_tokens)
    return _steps(Guard(policy, repeats=3), n, small, max_steps)


END: dict[str, Strategy | Aggregator] = {
    "argmax": best,
    "heaviest": heaviest,
    "sample": Drawn(),
    "vote": posterior,
    "weighted": weighted,
    "majority": majority,
}
"""How a search may end, by the name that its `end` option takes."""


def _searched(search: Strategy, end: str, finish: Model) -> Strategy:
    """A search, what concludes it, and a forced answer where the budget left none."""
    if end not in END:
        raise BadInput(f"end={end!r}: one of {', '.join(END)} is needed")
    return chain(search, END[end], finish=ForceAnswer(finish))


def _some(small: Model, temperature: float, max_tokens: int) -> StepPolicy:
    """Steps by the small model, ended where they go round in circles."""
    return Guard(Sample(small, temperature=temperature, max_tokens=max_tokens))


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
    policy = _some(small, temperature, max_tokens)
    search = ParticleFilter(policy, Newest(prm), n, temperature=Steady(heat), max_steps=max_steps)
    return _searched(search, end, small)


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
    inner = ParticleFilter(_some(small, temperature, max_tokens), Newest(prm), n, max_steps=max_steps)
    return _searched(ParticleGibbs(inner, sweeps), end, small)


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
    policy, heat = _some(small, temperature, max_tokens), Entropic(by_ess, threshold, early, horizon)
    search = entropic(policy, Newest(prm), n, temperature=heat, look_ahead=look_ahead, max_steps=max_steps)
    return _searched(search, end, small)


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
    search = twisted(_some(small, temperature, max_tokens), Newest(prm), n, power=power, max_steps=max_steps)
    return _searched(search, end, small)


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
    search = ParticleFilter(_some(small, temperature, max_tokens), OwnConfidence(), n, max_steps=max_steps)
    return _searched(search, end, small)


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
    search = Beam(_some(small, temperature, max_tokens), Newest(prm), n, min(width, n), max_steps=max_steps)
    return _searched(search, end, small)


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
    search = DVTS(_some(small, temperature, max_tokens), Newest(prm), n, min(width, n), max_steps=max_steps)
    return _searched(search, end, small)


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
    policy = _some(small, temperature, max_tokens)
    search = StochasticBeam(policy, prm, beams, samples, trust, tau, decay, scale or None, max_steps)
    return _searched(search, end, small)


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
    search = REBASE(_some(small, temperature, max_tokens), Newest(prm), n, balance, max_steps)
    return _searched(search, end, small)


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
    search = AStar(_some(small, temperature, max_tokens), Newest(prm), n, expansions, batch=batch, max_steps=max_steps)
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
    policy, depth = _some(small, temperature, max_tokens), max(layers, max_steps)
    search = TreeBoN(policy, Newest(prm), n, min(children, n), layers, prm, depth)
    return _searched(search, end, small)


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
    search = MCTS(_some(small, temperature, max_tokens), judge, n, width, exploration, rollout, batch, max_steps)
    return _searched(search, end, small)


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
    refiner: Refiner = Redo(_some(small, temperature, max_tokens), max_steps)
    if words:
        refiner = Revise(small, temperature=temperature, max_tokens=max_tokens)
    return _searched(AdaptiveBranching({"small": refiner}, prm, n, batch=batch), end, small)


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
    policy = _some(small, temperature, max_tokens)
    search = PhiDecoding(policy, beams, rollouts, clusters=clusters, least=least, most=most, max_steps=max_steps)
    return _searched(search, end, small)


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
    return _searched(PowerSampling(small, n, alpha, block, blocks, moves), end, small)


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
    search = TreeOfThought(_some(small, temperature, max_tokens), judge, samples, breadth, greedy, max_steps)
    return _searched(search, end, small)
