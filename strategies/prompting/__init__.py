"""Prompt-level methods: a problem in other words, and questions on the way to it. Policies and preparations for any search."""

from reasonweave.strategies.prompting.asking import Listing
from reasonweave.strategies.prompting.leap import Example, Leap
from reasonweave.strategies.prompting.listing import AtOnce, InOrder
from reasonweave.strategies.prompting.methods import (
    cot_reflection,
    least_to_most,
    re_reading,
    self_discover,
    skeleton_of_thought,
)
from reasonweave.strategies.prompting.plan_search import PlanSearch
from reasonweave.strategies.prompting.round_trip import RoundTrip
from reasonweave.strategies.prompting.stages import Stage, Stages
from reasonweave.strategies.prompting.wording import Preparation, Prepared, Reworded, Words

__all__ = [
    "AtOnce",
    "Example",
    "InOrder",
    "Leap",
    "Listing",
    "PlanSearch",
    "Preparation",
    "Prepared",
    "Reworded",
    "RoundTrip",
    "Stage",
    "Stages",
    "Words",
    "cot_reflection",
    "least_to_most",
    "re_reading",
    "self_discover",
    "skeleton_of_thought",
]
