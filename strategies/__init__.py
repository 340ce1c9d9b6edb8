"""Strategies: step policies, searches, aggregators, routers, refinement, and the presets that combine them.

The presets' functions are in `reasonweave.strategies.presets`; `refining`, `prompting` and `archon` have more than is here.
"""

if __name__ == "strategies":
    raise ImportError("install the project (pip install -e .) and import reasonweave.strategies, not strategies")

from reasonweave.strategies import aggregators, policies, routers, searches
from reasonweave.strategies.aggregators import *  # noqa: F403
from reasonweave.strategies.archon import from_archon
from reasonweave.strategies.policies import *  # noqa: F403
from reasonweave.strategies.presets import best_of_n, self_consistency, single, single_large, weighted_majority
from reasonweave.strategies.prompting import Leap, PlanSearch, Prepared, Reworded, Stages
from reasonweave.strategies.refining import (
    IAD,
    Everything,
    FeedbackEdit,
    Late,
    Others,
    Prompted,
    RandomK,
    Refine,
    Refined,
    Rounds,
    Scores,
    TopK,
    TwoStates,
)
from reasonweave.strategies.routers import *  # noqa: F403
from reasonweave.strategies.searches import *  # noqa: F403

__all__ = [
    "IAD",
    "Everything",
    "FeedbackEdit",
    "Late",
    "Leap",
    "Others",
    "PlanSearch",
    "Prepared",
    "Prompted",
    "RandomK",
    "Refine",
    "Refined",
    "Reworded",
    "Rounds",
    "Scores",
    "Stages",
    "TopK",
    "TwoStates",
    "best_of_n",
    "from_archon",
    "self_consistency",
    "single",
    "single_large",
    "weighted_majority",
]
__all__ += aggregators.__all__
__all__ += policies.__all__
__all__ += routers.__all__
__all__ += searches.__all__
__all__.sort()
