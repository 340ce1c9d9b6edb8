"""Archon's preset: a published config, or a small one of our own, all of whose components one model is."""

from __future__ import annotations

from typing import Any

from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.strategies.archon.loading import from_archon, graph_of

DEFAULT: dict[str, Any] = {
    "name": "default",
    "layers": [
        [{"type": "generator", "model": "large", "samples": 6}],
        [{"type": "critic", "model": "large"}],
        [{"type": "ranker", "model": "large", "top_k": 3}],
        [{"type": "fuser", "model": "large", "samples": 1}],
    ],
}
"""Six samples, a critic, the three that are ranked first, and a fusion of them."""


def archon(large: Model, *, config: str = "") -> Strategy:
    """Archon (Saad-Falcon et al., 2024): a JSON of layers, the large model in all; config is its path, else 6 samples are fused.

    Without one: a critic, a ranking that keeps 3, and a fuser.
    """
    return from_archon(config, large) if config else graph_of(DEFAULT, large, name="the default config")
