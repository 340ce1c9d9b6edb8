"""Aggregators: pure functions on a candidate set."""

from reasonweave.strategies.aggregators.vote import Drawn, best, first, heaviest, majority, posterior, weighted

__all__ = ["Drawn", "best", "first", "heaviest", "majority", "posterior", "weighted"]
