"""Presets over the breadth-schedule loop: rounds of new answers, each written after reading some of the earlier ones."""

from __future__ import annotations

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.strategies.presets.common import STEPS, searched, steps
from reasonweave.strategies.refining._rounds_fitting import Tail, WhilePaid
from reasonweave.strategies.refining._rounds_prompts import (
    AGGREGATE_PROMPT,
    CRITIQUE_PROMPT,
    DEBATE_PROMPT,
    REFINE_PROMPT,
    SUMMARY_PROMPT,
    SYNTHESIS_PROMPT,
    WORKSPACE_PROMPT,
)
from reasonweave.strategies.refining.reads import Critiqued, Everything, Others, RandomK, Reads, Summarized, TopK
from reasonweave.strategies.refining.rounds import (
    Allocation,
    Rounds,
    Weighted,
    all_rounds,
    equally,
    first_only,
    in_turn,
    newest,
)
from reasonweave.strategies.refining.writing import Prompted, Refined, conclusion, full_text
from reasonweave.strategies.searches.refiners import Redo

SPREAD: dict[str, Allocation] = {"equal": equally, "round-robin": in_turn, "first": first_only}
"""How answers are shared out among models, by the name that `spread` takes; besides these, "weighted"."""


def rsa(
    small: Model,
    *,
    n: int = 16,
    k: int = 4,
    rounds: int = 10,
    thinking: bool = True,
    temperature: float = 1.0,
    max_tokens: int = 1024,
) -> Strategy:
    """RSA (Venkatraman et al., 2025): n solutions; n new ones after k random ones each, round after round; the majority.

    With `thinking`, solutions are shown with their reasoning. With k=1 it is self-refinement.
    """
    _counted(n=n, k=k, rounds=rounds)
    prompt = AGGREGATE_PROMPT if k > 1 else REFINE_PROMPT
    writer = Prompted(small, prompt, temperature, max_tokens, full_text if thinking else conclusion)
    return searched(Rounds((writer,), (n,) * rounds, RandomK(k)), "majority", small)


def pacore(small: Model, *, schedule: str = "16", temperature: float = 1.0, max_tokens: int = 1024) -> Strategy:
    """PaCoRe (2026): rounds of solutions after the conclusions of the round before, then one last solution.

    `schedule` has the breadths before the last: 4 (low), 16 (medium) or 32,4 (high) as published.
    """
    writer = Prompted(small, AGGREGATE_PROMPT, temperature, max_tokens)
    return searched(Rounds((writer,), (*_breadths(schedule), 1), Everything()), "majority", small)


def pdr(
    small: Model,
    *,
    n: int = 8,
    rounds: int = 1,
    workspace: str = "summary",
    k: int = 4,
    temperature: float = 1.0,
    max_tokens: int = 1024,
    summary_tokens: int = 512,
) -> Strategy:
    """PDR (Madaan et al., 2025): n drafts in parallel, a bounded workspace from them, and one solution written after it.

    There are `rounds` rounds of drafts, from the second one on written after the workspace too. It is a `summary` by the model,
    or `random`: k of the drafts, others for each new one.
    """
    random = RandomK(k)
    if workspace not in ("summary", "random"):
        raise BadInput(
            f"workspace={workspace!r}: summary or random is needed (pdr-top-k keeps those with the highest scores)"
        )
    notes = Prompted(small, SUMMARY_PROMPT, temperature, summary_tokens)
    return _distilled(
        small,
        n,
        rounds,
        Summarized(notes, otherwise=random) if workspace == "summary" else random,
        temperature,
        max_tokens,
    )


def pdr_top_k(
    small: Model,
    prm: Verifier,
    *,
    n: int = 8,
    rounds: int = 1,
    k: int = 4,
    temperature: float = 1.0,
    max_tokens: int = 1024,
) -> Strategy:
    """PDR (Madaan et al., 2025) with the k drafts that the reward model likes best as its workspace."""
    return _distilled(small, n, rounds, TopK(k), temperature, max_tokens, prm)


def remom(
    small: Model,
    large: Model,
    *,
    schedule: str = "32,4",
    spread: str = "equal",
    share: float = 0.75,
    tail: int = 0,
    temperature: float = 1.0,
    max_tokens: int = 1024,
) -> Strategy:
    """ReMoM (vLLM semantic router): rounds of solutions by both models after all earlier ones, a last one by the large model.

    `spread` is equal, round-robin, weighted (a `share` for the small model) or first (the small model alone). `tail` shows only
    so many tokens of each, at four characters a token; 0 shows all.
    """
    if spread != "weighted" and spread not in SPREAD:
        raise BadInput(f"spread={spread!r}: one of weighted, {', '.join(SPREAD)} is needed")
    if tail < 0:
        raise BadInput(f"tail={tail}: 0 (everything) or more")
    excerpt = Tail(4 * tail, full_text) if tail else full_text
    writers = [Prompted(model, AGGREGATE_PROMPT, temperature, max_tokens, excerpt) for model in (small, large)]
    allocation = Weighted((share, 1 - share)) if spread == "weighted" else SPREAD[spread]
    return searched(
        Rounds(writers, (*_breadths(schedule), 1), Everything(), allocation, closing=writers[1]), "majority", small
    )


def mixture_of_agents(
    small: Model,
    large: Model,
    *,
    n: int = 6,
    layers: int = 2,
    critique: bool = False,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    critique_tokens: int = 512,
) -> Strategy:
    """Mixture of agents (Wang et al., 2024): layers of n answers, half by each model, after the layer before; a synthesis.

    The large model writes the synthesis. With `critique` it says, in a call of its own before each layer but the first, what it
    thinks of the answers; with n=3 and layers=1 these are optillm's three stages.
    """
    _counted(n=n, layers=layers)
    proposers = [Prompted(model, SYNTHESIS_PROMPT, temperature, max_tokens) for model in (small, large)]
    aggregator = Prompted(large, SYNTHESIS_PROMPT, 0.1, max_tokens)
    critic = Prompted(large, CRITIQUE_PROMPT, 0.1, critique_tokens)
    reads: Reads = Critiqued(critic) if critique else Everything()
    return searched(Rounds(proposers, (n,) * layers + (1,), reads, equally, closing=aggregator), "majority", small)


def debate(
    small: Model, *, agents: int = 3, rounds: int = 2, temperature: float = 1.0, max_tokens: int = 1024
) -> Strategy:
    """Multi-agent debate (Du et al., 2023): agents answer, and answer again after the others' last answers; the majority."""
    _counted(agents=agents, rounds=rounds)
    writer = Prompted(small, DEBATE_PROMPT, temperature, max_tokens)
    return searched(Rounds((writer,), (agents,) * rounds, Others()), "majority", small)


def redo_rounds(
    small: Model,
    prm: Verifier,
    *,
    n: int = 8,
    k: int = 4,
    rounds: int = 3,
    every: bool = True,
    end: str = "weighted",
    max_steps: int = STEPS,
    temperature: float = 0.8,
    max_tokens: int = 512,
) -> Strategy:
    """Rounds without words: n solutions; n new ones, each the best of k random ones redone from its weakest step; a vote.

    `prm` scores the solutions and their steps. The vote at the `end` is weighted; it may be argmax, majority and the like. With
    `every`, the solutions of all rounds have a vote, else those of the last one.
    """
    _counted(n=n, k=k, rounds=rounds)
    policy = WhilePaid(steps(small, temperature, max_tokens))
    writer = Refined(Redo(policy, max_steps=max_steps))
    show = all_rounds if every else newest
    return searched(Rounds((writer,), (n,) * rounds, RandomK(k), verifier=prm, show=show), end, small)


def _counted(**numbers: int) -> None:
    """Raises `BadInput` for a number below 1, by the name of its option."""
    for name, number in numbers.items():
        if number < 1:
            raise BadInput(f"{name}={number}: 1 or more")


def _distilled(
    small: Model,
    n: int,
    rounds: int,
    reads: Reads,
    temperature: float,
    max_tokens: int,
    prm: Verifier | None = None,
) -> Strategy:
    _counted(n=n, rounds=rounds)
    writer = Prompted(small, WORKSPACE_PROMPT, temperature, max_tokens)
    return searched(Rounds((writer,), (n,) * rounds + (1,), reads, verifier=prm), "majority", small)


def _breadths(schedule: str) -> tuple[int, ...]:
    """The numbers of a schedule such as 32,4."""
    try:
        return tuple(int(each) for each in schedule.split(","))
    except ValueError:
        raise BadInput(f"schedule={schedule!r}: write the breadths of the rounds as in 32,4") from None
