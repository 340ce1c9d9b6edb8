"""Searches: loops over a step policy and a verifier that yield candidate sets."""

from reasonweave.strategies.searches.best_of_n import BestOfN

__all__ = ["BestOfN"]
