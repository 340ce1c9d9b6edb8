"""Archon's preset: a published config, or a small one of our own, all of whose components one model is."""

from __future__ import annotations

from typing import Any

from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.strategies.archon.loading import from_archon, graph_of


def layers_of(samples: int, max_tokens: int) -> dict[str, Any]:
    """So many samples, a critic, the three that are ranked first, and a fusion of them."""
    common = {"model": "large", "max_tokens": max_tokens}
    return {
        "name": "default",
        "layers": [
            [{"type": "generator", "samples": samples} | common],
            [{"type": "critic"} | common],
            [{"type": "ranker", "top_k": 3} | common],
            [{"type": "fuser", "samples": 1} | common],
        ],
    }


def archon(large: Model, *, config: str = "", samples: int = 6, max_tokens: int = 2048) -> Strategy:
    """Archon (Saad-Falcon et al., 2024): a JSON of layers, the large model in all; config is its path, else samples are fused.

    Without one: `samples` of at most `max_tokens` tokens, a critic, a ranking that keeps 3, and a fuser.
    """
    if config:
        return from_archon(config, large)
    return graph_of(layers_of(samples, max_tokens), large, name="the default config")
