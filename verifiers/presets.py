"""The verifiers by name: what `--verifier`, `verify-quality` and `list verifiers` know. Each is a short function over the parts.

Parameters without a default are roles, which take a model; the others are options, `-V name=value`.
"""

from __future__ import annotations

from reasonweave.orchestrator.confidence import WINDOW, Windowed, bottom_confidence, lowest_confidence, tail_confidence
from reasonweave.orchestrator.errors import BadInput, NotFound
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.verifiers.confidence import MEASURES, Confidence
from reasonweave.verifiers.judge import UtilityDigit
from reasonweave.verifiers.outcome import OutcomeReward
from reasonweave.verifiers.prm import REDUCTIONS, PrefixReward, ProcessReward
from reasonweave.verifiers.self_check import SelfCheck

WINDOWED = {"tail": tail_confidence, "bottom": bottom_confidence, "lowest": lowest_confidence}


def process_reward(prm: RewardModel, *, reduce: str = "product") -> Verifier:
    """A process reward model: a score a step, made one by `reduce` (last, lowest, product, average; model: one tag at the end).

    Costs: one pass of the reward model a candidate.
    """
    if reduce == "model":
        return PrefixReward(prm)
    if reduce not in REDUCTIONS:
        raise NotFound("reduction", reduce, [*REDUCTIONS, "model"])
    return ProcessReward(prm, REDUCTIONS[reduce])


def outcome(orm: RewardModel) -> Verifier:
    """An outcome reward model: one score for the whole solution.

    Costs: one pass of the reward model a candidate.
    """
    return OutcomeReward(orm)


def judge(judge: Model, *, expected: bool = True) -> Verifier:
    """A model grades the last step from 0 to 9 (SpecReason): the expected digit, or with expected=false the greedy one.

    Costs: one token of the judge a candidate, on a cached prefix.
    """
    return UtilityDigit(judge, expected)


def self_check(judge: Model) -> Verifier:
    """P(True): a model is asked whether the answer is right (Kadavath et al., 2022).

    Costs: one token of the judge a candidate, on a cached prefix.
    """
    return SelfCheck(judge)


def confidence(*, measure: str = "probability", window: int = WINDOW) -> Verifier:
    """How sure the author was, by measure: probability, entropy, self-certainty, mean, tail, bottom or lowest confidence.

    Costs: nothing.
    Needs: log-probabilities; alternatives (-S top_logprobs=20) for all measures but probability.
    """
    if measure not in MEASURES:
        raise NotFound("measure", measure, MEASURES)
    if measure in WINDOWED:
        return Confidence(Windowed(WINDOWED[measure], window))
    if window != WINDOW:
        raise BadInput(f"confidence: window is for {', '.join(WINDOWED)}; {measure} reads the whole solution")
    return Confidence(MEASURES[measure])
