"""Strategies: step policies, searches, aggregators, routers, and the presets that combine them.

The presets' functions are in `reasonweave.strategies.presets`.
"""

if __name__ == "strategies":
    raise ImportError("install the project (pip install -e .) and import reasonweave.strategies, not strategies")

from reasonweave.strategies import aggregators, policies, routers, searches
from reasonweave.strategies.aggregators import *  # noqa: F403
from reasonweave.strategies.policies import *  # noqa: F403
from reasonweave.strategies.presets import best_of_n, self_consistency, single, single_large, weighted_majority
from reasonweave.strategies.routers import *  # noqa: F403
from reasonweave.strategies.searches import *  # noqa: F403

__all__ = [
    "best_of_n",
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
