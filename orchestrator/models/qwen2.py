"""The Qwen2 architecture in numpy: weights, one prefill, one decode step for a batch. float32 throughout.

A row's result never depends on what it is batched with: matrix products go through blocks of a row count at which the
BLAS at hand gives a row the same bits wherever it stands (`invariant_rows` finds one), and attention works on key-value
buffers whose shape depends on the sequence's own length alone.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize

from reasonweave.orchestrator.errors import BadInput

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

BUCKET = 32
"""Key-value buffers come in multiples of this many positions."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@functools.cache
def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, cores() - 1), thread_name_prefix="engine-helper")


def spread(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """work(item) for each item, in order, on this thread and the helpers. All have ended when it returns or raises.

    numpy lets go of the interpreter's lock while it computes, so whole prompts side by side gain; the many small
    operations of a decoding step do not.
    """
    n = max(1, min(cores(), len(items)))

    def share(k: int) -> list[Result]:
        return [work(item) for item in items[k::n]]

    others = [_helpers().submit(share, k) for k in range(1, n)]
    try:
        mine = share(0)
    finally:
        wait(others)
    shares = [mine, *(other.result() for other in others)]
    return [shares[i % n][i // n] for i in range(len(items))]


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a config.json that the computation needs."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int
    epsilon: float
    theta: float

    @property
    def group(self) -> int:
        """Query heads that share a key-value head."""
        return self.heads // self.kv_heads

    @classmethod
    def of(cls, config: dict[str, Any], where: Path) -> Shape:
        if config.get("model_type") != "qwen2" or config.get("rope_scaling") or config.get("use_sliding_window"):
            raise BadInput(
                f"{where}: the embedded engine runs plain Qwen2 checkpoints (model_type qwen2, no rope scaling)"
            )
        heads = config["num_attention_heads"]
        rope = config.get("rope_parameters") or {}
        return cls(
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head=config.get("head_dim") or config["hidden_size"] // heads,
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            epsilon=config.get("rms_norm_eps", 1e-6),
            theta=float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
        )


def read_tensors(path: Path) -> dict[str, F32]:
    """The tensors of a safetensors file as float32; reads F32, F16 and BF16."""
    tensors: dict[str, F32] = {}
    for name, found in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
        shape, data = found["shape"], found["data"]
        match found["dtype"]:
            case "F32":
                array = np.frombuffer(data, np.float32)
            case "F16":
                array = np.frombuffer(data, np.float16).astype(np.float32)
            case "BF16":
                array = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
            case other:
                raise BadInput(f"{path}: tensor {name} is {other}; the embedded engine reads F32, F16 and BF16")
        tensors[name] = array.reshape(shape)
    return tensors


@dataclass(frozen=True, slots=True)
class Layer:
    """One block's weights, transposed for row-major products and joined where they share an input."""

    norm_in: F32
    qkv: F32
    qkv_bias: F32
    out: F32
    norm_mid: F32
    gate: F32
    up: F32
    down: F32


@dataclass(slots=True)
class Buffers:
    """Key-value buffers of the sequences that fit one capacity; sequence i of the bucket is row i.

    Shapes (layers, rows, kv_heads, capacity, head).
    """

    keys: F32
    values: F32
    rows: int = 0

    @classmethod
    def empty(cls, shape: Shape, capacity: int) -> Buffers:
        size = (shape.layers, 8, shape.kv_heads, capacity, shape.head)
        return cls(np.zeros(size, np.float32), np.zeros(size, np.float32))

    def append(self, keys: F32, values: F32) -> int:
        """Add a sequence, keys and values of shape (layers, kv_heads, length, head); returns its row."""
        row, length = self.rows, keys.shape[2]
        if row == self.keys.shape[1]:
            self.keys = np.concatenate([self.keys, np.zeros_like(self.keys)], axis=1)
            self.values = np.concatenate([self.values, np.zeros_like(self.values)], axis=1)
        self.keys[:, row, :, :length] = keys
        self.values[:, row, :, :length] = values
        self.rows += 1
        return row

    def take(self, row: int, length: int) -> tuple[F32, F32]:
        """Copies of a sequence's first `length` keys and values."""
        return self.keys[:, row, :, :length].copy(), self.values[:, row, :, :length].copy()

    def remove(self, row: int) -> int:
        """Drop a row; the last row takes its place. Returns the row that moved."""
        self.rows -= 1
        if row != self.rows:
            self.keys[:, row] = self.keys[:, self.rows]
            self.values[:, row] = self.values[:, self.rows]
        return self.rows


@dataclass(slots=True)
class Qwen2:
    """A checkpoint ready to run. `score` holds a process reward model's head, where there is one."""

    shape: Shape
    embedding: F32
    layers: tuple[Layer, ...]
    norm: F32
    head: F32
    score: tuple[F32, F32, F32, F32] | None
    parameters: int
    """Active parameters: all weights, a tied embedding counted once."""
    _cos: F32 = field(init=False)
    _sin: F32 = field(init=False)
    tile: int = field(init=False)

    def __post_init__(self) -> None:
        half = self.shape.head // 2
        angles = np.outer(np.arange(self.shape.context), self.shape.theta ** (-np.arange(half) / half))
        self._cos = np.cos(np.stack([angles, angles], axis=1)).astype(np.float32)
        self._sin = np.sin(np.stack([-angles, angles], axis=1)).astype(np.float32)
        first = self.layers[0]
        self.tile = invariant_rows([first.qkv, first.out, first.gate, first.down, self.head])

    @classmethod
    def load(cls, folder: Path) -> Qwen2:
        config = json.loads((folder / "config.json").read_text())
        shape = Shape.of(config, folder)
        t = read_tensors(folder / "model.safetensors")

        def layer(i: int) -> Layer:
            at, mlp = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
            return Layer(
                norm_in=t[f"model.layers.{i}.input_layernorm.weight"],
                qkv=_columns(*(t[f"{at}{p}_proj.weight"] for p in "qkv")),
                qkv_bias=np.concatenate([t[f"{at}{p}_proj.bias"] for p in "qkv"]),
                out=_columns(t[f"{at}o_proj.weight"]),
                norm_mid=t[f"model.layers.{i}.post_attention_layernorm.weight"],
                gate=_columns(t[f"{mlp}gate_proj.weight"]),
                up=_columns(t[f"{mlp}up_proj.weight"]),
                down=_columns(t[f"{mlp}down_proj.weight"]),
            )

        layers, wanted = tuple(layer(i) for i in range(shape.layers)), (shape.vocabulary, shape.width)
        if (found := t["model.embed_tokens.weight"].shape) != wanted:
            raise BadInput(f"{folder}: the embedding has the shape {found} where config.json says {wanted}")
        wanted = (shape.width, (shape.heads + 2 * shape.kv_heads) * shape.head)
        if wrong := [each.qkv.shape for each in layers if each.qkv.shape != wanted]:
            raise BadInput(f"{folder}: projections have the shape {wrong[0]} where config.json says {wanted}")
        score = None
        if "score.0.weight" in t:
            names = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")
            first, bias, second, last = (t[name] for name in names)
            score = (_columns(first), bias, _columns(second), last)
        return cls(
            shape=shape,
            embedding=t["model.embed_tokens.weight"],
            layers=layers,
            norm=t["model.norm.weight"],
            head=_columns(t.get("lm_head.weight", t["model.embed_tokens.weight"])),
            score=score,
            parameters=sum(tensor.size for tensor in t.values()),
        )

    def prefill(self, ids: I64, keys: F32 | None, values: F32 | None) -> tuple[F32, F32, F32]:
        """Run new tokens after a cached past; returns the normed hidden states (new, width) and the keys and values of
        all positions, (layers, kv_heads, length, head)."""
        s, new = self.shape, len(ids)
        past = 0 if keys is None else keys.shape[2]
        total = past + new
        all_keys = np.empty((s.layers, s.kv_heads, total, s.head), np.float32)
        all_values = np.empty_like(all_keys)
        if keys is not None and values is not None:
            all_keys[:, :, :past], all_values[:, :, :past] = keys, values
        where = np.arange(past, total)
        hidden, turn = self._start(ids, where)
        mixed = np.zeros((len(hidden), s.heads * s.head), np.float32)
        mask = np.where(np.arange(total)[None, :] <= where[:, None], 0, -np.inf).astype(np.float32)
        for i, layer in enumerate(self.layers):
            query, key, value = self._project(layer, hidden, turn)
            all_keys[i, :, past:] = key[:new].transpose(1, 0, 2)
            all_values[i, :, past:] = value[:new].transpose(1, 0, 2)
            # (kv, group, new, head) @ (kv, 1, head, total)
            query = query[:new].reshape(new, s.kv_heads, s.group, s.head).transpose(1, 2, 0, 3)
            weights = _softmax(query @ all_keys[i][:, None].swapaxes(-1, -2), mask)
            mixed[:new] = (weights @ all_values[i][:, None]).transpose(2, 0, 1, 3).reshape(new, -1)
            self._finish(layer, hidden, mixed)
        return self._normed(hidden[:new], self.norm), all_keys, all_values

    def logits(self, hidden: F32) -> F32:
        """Next-token logits (rows, vocabulary) of normed hidden states."""
        return self._rows(self._padded(hidden), self.head)[: len(hidden)]

    def rewards(self, hidden: F32) -> F32:
        """P(good) for each normed hidden state at a step tag, shape (rows,)."""
        if self.score is None:
            raise BadInput("this checkpoint has no reward head (score.0, score.2)")
        first, bias, second, last = self.score
        inner = np.maximum(hidden @ first + bias, 0)
        return _softmax(inner @ second, last)[:, 1]

    def decode(self, ids: I64, positions: I64, buckets: Sequence[Buffers]) -> F32:
        """One token further for every sequence: logits of shape (rows, vocabulary).

        Rows are the buckets' sequences in order; `positions` is where the given token of each stands.
        """
        s = self.shape
        hidden, turn = self._start(ids, positions)
        spans, start = [], 0
        for bucket in buckets:
            if bucket.rows:
                stop = start + bucket.rows
                at = positions[start:stop]
                mask = np.where(np.arange(bucket.keys.shape[3])[None, :] <= at[:, None], 0, -np.inf).astype(np.float32)
                spans.append((start, stop, bucket, np.arange(bucket.rows), at, mask[:, None, None, :]))
                start = stop
        mixed = np.zeros((len(hidden), s.heads * s.head), np.float32)
        for i, layer in enumerate(self.layers):
            query, key, value = self._project(layer, hidden, turn)
            query = query.reshape(-1, s.kv_heads, s.group, s.head)
            for a, b, bucket, rows, at, mask in spans:
                keys, values = bucket.keys[i, : b - a], bucket.values[i, : b - a]
                keys[rows, :, at], values[rows, :, at] = key[a:b], value[a:b]
                weights = _softmax(query[a:b] @ keys.swapaxes(-1, -2), mask)
                mixed[a:b] = (weights @ values).reshape(b - a, -1)
            self._finish(layer, hidden, mixed)
        return self._rows(self._normed(hidden, self.norm), self.head)[: len(ids)]

    def _rows(self, rows: F32, weight: F32) -> F32:
        """rows @ weight, in blocks of `tile` rows so that a row's bits do not depend on the other rows."""
        product = np.matmul(rows.reshape(-1, self.tile, rows.shape[1]), weight)
        return np.asarray(product.reshape(len(rows), -1))

    def _padded(self, rows: F32) -> F32:
        """A copy with rows of zeros added, to whole blocks."""
        padded = np.zeros((-(-len(rows) // self.tile) * self.tile, rows.shape[1]), np.float32)
        padded[: len(rows)] = rows
        return padded

    def _start(self, ids: I64, where: I64) -> tuple[F32, tuple[F32, F32]]:
        """Embedded tokens, padded to whole blocks, and their rotary cosines and signed sines, (rows, 1, 2, head // 2)."""
        hidden = self._padded(self.embedding[ids])
        where = np.concatenate([where, np.zeros(len(hidden) - len(ids), where.dtype)])
        return hidden, (self._cos[where][:, None], self._sin[where][:, None])

    def _project(self, layer: Layer, hidden: F32, turn: tuple[F32, F32]) -> tuple[F32, F32, F32]:
        """Query (scaled), key and value, rotated, each of shape (rows, heads, head)."""
        s, (cos, sin) = self.shape, turn
        joined = self._rows(self._normed(hidden, layer.norm_in), layer.qkv)
        joined += layer.qkv_bias
        split = joined.reshape(len(hidden), s.heads + 2 * s.kv_heads, s.head)
        halves = split[:, : s.heads + s.kv_heads].reshape(len(hidden), -1, 2, s.head // 2)
        turned = halves * cos
        turned += halves[:, :, ::-1] * sin
        turned = turned.reshape(len(hidden), -1, s.head)
        query = turned[:, : s.heads] * np.float32(s.head**-0.5)
        return query, turned[:, s.heads :], split[:, s.heads + s.kv_heads :]

    def _finish(self, layer: Layer, hidden: F32, mixed: F32) -> None:
        """The rest of a layer after attention, added to `hidden` in place."""
        hidden += self._rows(mixed, layer.out)
        inner = self._normed(hidden, layer.norm_mid)
        gate, up = self._rows(inner, layer.gate), self._rows(inner, layer.up)
        active = np.negative(gate)
        with np.errstate(over="ignore"):  # exp of a large number is inf, and gate / inf the 0 that it should be
            np.exp(active, out=active)
        active += 1
        np.divide(gate, active, out=active)
        active *= up
        hidden += self._rows(active, layer.down)

    def _normed(self, hidden: F32, weight: F32) -> F32:
        scale = np.einsum("ij,ij->i", hidden, hidden)
        scale /= np.float32(hidden.shape[1])
        scale += np.float32(self.shape.epsilon)
        np.sqrt(scale, out=scale)
        normed = hidden / scale[:, None]
        normed *= weight
        return np.asarray(normed)


def _columns(*weights: F32) -> F32:
    """Torch's (out, in) matrices side by side as one contiguous (in, out) matrix."""
    return np.ascontiguousarray(np.concatenate(weights, axis=0).T)


def _softmax(scores: F32, mask: F32) -> F32:
    """Softmax over the last axis of scores + mask, written over `scores`."""
    scores += mask
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def invariant_rows(weights: list[F32]) -> int:
    """A block height at which this machine's BLAS gives a row the same bits in every position of the block.

    Kernels treat the rows at a tile's edge differently, so a row of a batch of 12 may differ in the last bit from the
    same row in a batch of 16. Tries a few heights on these very weights; 1 always holds.
    """
    rng = np.random.default_rng(0)
    for tile in (8, 16, 4, 2):
        if all(_same_everywhere(weight, tile, rng) for weight in weights):
            return tile
    return 1


def _same_everywhere(weight: F32, tile: int, rng: np.random.Generator) -> bool:
    rows = rng.standard_normal((tile, weight.shape[0])).astype(np.float32)
    turned = np.stack([np.roll(rows, shift, axis=0) for shift in range(tile)])
    products = np.matmul(turned, weight)
    return all(np.array_equal(np.roll(products[shift], -shift, axis=0), products[0]) for shift in range(tile))
