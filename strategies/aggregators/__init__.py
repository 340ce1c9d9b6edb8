"""Aggregators: pure functions that draw a conclusion from a candidate set."""

from reasonweave.strategies.aggregators.vote import best, majority, weighted

__all__ = ["best", "majority", "weighted"]
