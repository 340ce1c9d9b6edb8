"""SpecReason (Pan et al., NeurIPS 2025, arXiv 2504.07891): a small model drafts steps, one digit of a large one judges them."""

from __future__ import annotations

from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import StepPolicy, Verifier
from reasonweave.orchestrator.types import DELIMITER
from reasonweave.strategies.policies.acceptors import AtLeast, also_sure
from reasonweave.strategies.policies.guard import Guard
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.policies.speculate import Speculate


def spec_reason(
    small: Model,
    large: Model,
    judge: Verifier,
    threshold: float = 7.0,
    *,
    first: int = 0,
    sure: float = 0.0,
    repeats: int = 2,
    until: str = DELIMITER,
    temperature: float = 0.6,
    top_p: float = 0.95,
    max_tokens: int = 512,
) -> StepPolicy:
    """The small model drafts each step; the large one redoes it where the judge gives less than `threshold` of 9.

    `judge` is usually `UtilityDigit(large)` (`expected=False` for the paper's greedy digit): one token on the prefix that
    the large model continues anyway. Any verifier will do, with a threshold on its scale; `SelfCheck(large)` with 0.5 needs
    no digits. `first` steps are the large model's, `repeats` equal steps in a row end a solution. With `sure` above 0 (not in the
    paper), drafts whose mean token probability is below it are redone without asking the judge.
    """
    draft, target = (
        Sample(model, until=until, temperature=temperature, top_p=top_p, max_tokens=max_tokens)
        for model in (small, large)
    )
    return Guard(Speculate(draft, target, also_sure(AtLeast(judge, threshold), sure), first=first), repeats)
