"""Routers: what decides whether and how another part runs."""

from reasonweave.strategies.routers.force_answer import ForceAnswer

__all__ = ["ForceAnswer"]
