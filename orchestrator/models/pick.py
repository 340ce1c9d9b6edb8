"""Choosing the next token: temperature, top-k, top-p, and log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reasonweave.orchestrator.models.qwen2 import F32
from reasonweave.orchestrator.types import Sampling


def pick(
    logits: F32, samplings: Sequence[Sampling], draws: Sequence[float]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[list[tuple[int, float]]]]:
    """Choose a token a row: (ids, log-probabilities at temperature 1, top alternatives).

    A row is drawn by inverting its cumulative distribution at its own uniform number; temperature 0 takes the largest
    logit. top-k, then top-p, cut the distribution after the temperature, as vLLM does.
    """
    exact = logits.astype(np.float64)
    shifted = exact - exact.max(axis=1, keepdims=True)
    logs = _normalised(shifted)
    heat = np.array([s.temperature for s in samplings])
    scaled = shifted / np.where(heat > 0, heat, 1.0)[:, None]
    weights = np.exp(scaled)
    for i, sampling in enumerate(samplings):
        if heat[i] > 0 and (sampling.top_k > 0 or sampling.top_p < 1):
            weights[i] = _cut(weights[i], sampling.top_k, sampling.top_p)
    edges = np.cumsum(weights, axis=1)
    points = np.asarray(draws) * edges[:, -1]
    drawn = np.minimum((edges <= points[:, None]).sum(axis=1), logits.shape[1] - 1)
    chosen = np.where(heat > 0, drawn, exact.argmax(axis=1))
    tops: list[list[tuple[int, float]]] = []
    for i, sampling in enumerate(samplings):
        best = np.argsort(-logs[i], kind="stable")[: sampling.top_logprobs] if sampling.top_logprobs else ()
        tops.append([(int(j), float(logs[i, j])) for j in best])
    return chosen, logs[np.arange(len(logs)), chosen], tops


def log_softmax(logits: F32) -> np.ndarray[Any, Any]:
    """Log-probabilities in float64 of rows of logits."""
    exact = logits.astype(np.float64)
    return _normalised(exact - exact.max(axis=1, keepdims=True))


def _normalised(shifted: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Log-probabilities of rows whose largest logit is 0."""
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _cut(weights: np.ndarray[Any, Any], top_k: int, top_p: float) -> np.ndarray[Any, Any]:
    """Keep the top_k largest weights (0: all), then the fewest largest that reach top_p of what is left."""
    order = np.argsort(-weights, kind="stable")
    keep = order[:top_k] if top_k > 0 else order
    mass = np.cumsum(weights[keep])
    keep = keep[: int(np.searchsorted(mass, top_p * mass[-1])) + 1]
    cut = np.zeros_like(weights)
    cut[keep] = weights[keep]
    return cut
