"""A model provider: what stands before the slash of a model spec, as `example-plugin/small`."""

from __future__ import annotations

from reasonweave.orchestrator import Model, RewardModel
from reasonweave.orchestrator import open_model as open_known


def open_model(name: str, *, role: str | None = None) -> Model | RewardModel:
    """The lab's models under another name. A provider of your own subclasses `Model` and implements `_generate`."""
    return open_known(f"lab/{name}", role=role)
