"""Presets that sample whole solutions and vote by the model's own probabilities, or by a reward model's scores."""

from __future__ import annotations

from collections.abc import Callable

from reasonweave.orchestrator import confidence
from reasonweave.orchestrator.confidence import WINDOW, Windowed
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Aggregator, Strategy, Verifier
from reasonweave.orchestrator.signals import TOP
from reasonweave.orchestrator.types import Candidate
from reasonweave.strategies.aggregators.confidence import DeepConfVote
from reasonweave.strategies.aggregators.perplexity import RPC, mean_logprob, total_logprob
from reasonweave.strategies.aggregators.perplexity import perplexity_consistency as consistent
from reasonweave.strategies.aggregators.scores import Borda
from reasonweave.strategies.aggregators.selection import BestOfMajority, MajorityOfBests, Pessimism, SoftBest
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.best_of_n import BestOfN

CONFIDENCES: dict[str, Callable[[Candidate, int], float]] = {
    "tail": confidence.tail_confidence,
    "bottom": confidence.bottom_confidence,
    "lowest": confidence.lowest_confidence,
}
"""What DeepConf's offline votes weigh by, by the name that `by` takes; besides these, "mean"."""


def rpc(
    small: Model,
    *,
    n: int = 16,
    joint: bool = False,
    temperature: float = 0.8,
    max_tokens: int = 1024,
    top_logprobs: int = 0,
) -> Strategy:
    """RPC (Zhou et al., 2025): n solutions; unlikely ones are pruned, the others vote with their probabilities.

    That is 1 / perplexity, or with `joint` the probability of the whole solution. Chat completions tell log-probabilities only
    with `top_logprobs` 1 or more; without any, the majority decides.
    """
    return _voted(small, RPC(by=total_logprob if joint else mean_logprob), n, temperature, max_tokens, top_logprobs)


def perplexity_consistency(
    small: Model, *, n: int = 16, temperature: float = 0.8, max_tokens: int = 1024, top_logprobs: int = 0
) -> Strategy:
    """Perplexity consistency (Zhou et al., 2025): n solutions; distinct ones vote with their probabilities.

    Chat completions tell log-probabilities only with `top_logprobs` 1 or more; without any, the majority decides.
    """
    return _voted(small, consistent, n, temperature, max_tokens, top_logprobs)


def self_certainty(
    small: Model, *, n: int = 16, power: float = 0.5, temperature: float = 0.8, max_tokens: int = 1024
) -> Strategy:
    """Self-certainty (Kang et al., 2025): n solutions; they vote with points for their rank by certainty."""
    return _voted(small, Borda(power, confidence.self_certainty), n, temperature, max_tokens, TOP)


def deepconf_offline(
    small: Model,
    *,
    n: int = 16,
    by: str = "tail",
    keep: float = 0.5,
    window: int = WINDOW,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """DeepConf offline (Fu et al., 2025): n solutions; the surest `keep` of them vote with their confidence.

    `by` is tail, mean, bottom or lowest; `window` is how many tokens all of these but the mean look at. The published `keep` is
    0.1, of 512 solutions.
    """
    if by != "mean" and by not in CONFIDENCES:
        raise BadInput(f"by={by!r}: one of mean, {', '.join(CONFIDENCES)} is needed")
    measure = confidence.mean_confidence if by == "mean" else Windowed(CONFIDENCES[by], window)
    return _voted(small, DeepConfVote(measure, keep), n, temperature, max_tokens, TOP)


def majority_of_bests(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    m: int | None = None,
    q: float | None = None,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Majority-of-the-Bests (Rakhsha et al., 2025): n solutions; the most likely outcome of best-of-m among them.

    `m` is none (the root of n), or with `q` (0.75) found from the scores.
    """
    return _voted(small, MajorityOfBests(m, q), n, temperature, max_tokens, prm=prm)


def best_of_majority(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    threshold: float = 0.1,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Best-of-Majority (Di et al., 2025): n solutions; the best by reward among answers with a share of `threshold`."""
    return _voted(small, BestOfMajority(threshold), n, temperature, max_tokens, prm=prm)


def soft_best_of_n(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    heat: float = 0.1,
    draw: bool = False,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Soft best-of-n (Verdun et al., 2025): n solutions that weigh exp(reward / heat); the heaviest answer, or one drawn."""
    return _voted(small, SoftBest(heat, draw), n, temperature, max_tokens, prm=prm)


def pessimism(
    small: Model,
    prm: Verifier,
    *,
    n: int = 16,
    beta: float = 0.1,
    draw: bool = False,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Inference-time pessimism (Huang et al., 2025): n solutions that weigh what their reward is above a common level."""
    return _voted(small, Pessimism(beta, draw), n, temperature, max_tokens, prm=prm)


def _voted(
    small: Model,
    vote: Aggregator,
    n: int,
    temperature: float,
    max_tokens: int,
    top_logprobs: int = 0,
    prm: Verifier | None = None,
) -> Strategy:
    policy = whole(small, temperature=temperature, max_tokens=max_tokens, top_logprobs=top_logprobs)
    return chain(BestOfN(policy, n=n, verifier=prm, max_steps=1), vote, finish=ForceAnswer(small))
