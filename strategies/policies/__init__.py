"""Step policies: how a candidate gets its next step."""

from reasonweave.strategies.policies.sample import Sample, whole

__all__ = ["Sample", "whole"]
