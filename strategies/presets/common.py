"""What several presets share: how steps are sampled, and how a workflow ends."""

from __future__ import annotations

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Aggregator, StepPolicy, Strategy
from reasonweave.strategies.aggregators.vote import Drawn, best, heaviest, majority, posterior, weighted
from reasonweave.strategies.policies.guard import Guard
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.routers.force_answer import ForceAnswer
from reasonweave.strategies.searches.best_of_n import BestOfN

STEPS = 512
"""Extensions of a solution that step-wise workflows allow: reasoning models write hundreds of short steps."""


END: dict[str, Strategy | Aggregator] = {
    "argmax": best,
    "heaviest": heaviest,
    "sample": Drawn(),
    "vote": posterior,
    "weighted": weighted,
    "majority": majority,
}
"""How a search may end, by the name that its `end` option takes."""


def searched(search: Strategy, end: str, finish: Model) -> Strategy:
    """A search, what concludes it, and a forced answer where the budget left none."""
    if end not in END:
        raise BadInput(f"end={end!r}: one of {', '.join(END)} is needed")
    return chain(search, END[end], finish=ForceAnswer(finish))


def steps(small: Model, temperature: float, max_tokens: int) -> StepPolicy:
    """Steps by the small model, ended where they go round in circles."""
    return Guard(Sample(small, temperature=temperature, max_tokens=max_tokens))


def stepwise(policy: StepPolicy, n: int, finish: Model, max_steps: int) -> Strategy:
    """n solutions step by step, at most `max_steps` extensions each, and a majority vote on their answers."""
    return chain(BestOfN(policy, n=n, max_steps=max_steps), majority, finish=ForceAnswer(finish))
