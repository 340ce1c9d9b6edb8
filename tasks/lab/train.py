"""Train the lab checkpoints: `reasonweave lab train --out DIR`. Needs the extra `train` (torch, transformers).

Three stages, one after the other, each resumable: lab-small and lab-large learn the same documents
(`reasonweave.tasks.lab.corpus`) with different capacity and training length; lab-prm starts from lab-large's weights and
learns to label the steps of solutions that the two models sampled themselves.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from reasonweave.tasks.lab.corpus import EARLY, LATE, VERDICT, document
from reasonweave.tasks.lab.problems import LEVELS, Chain, draw
from reasonweave.tasks.lab.tokenizer import END, PAD, build, save


@dataclass(frozen=True, slots=True)
class Recipe:
    """Shape and schedule of one causal model; a batch holds about `tokens` tokens.

    Training has two phases, each with a warm-up and a cosine of its own. The first, of `documents`, is mostly solutions.
    For the second, of `verdicts` documents, the network grows by `grown` layers that begin as the identity, and most
    documents ask for a verdict: what the first phase's last layer notices at the end of a step is then there for later
    positions to read. `rate` is Muon's learning rate for the weight matrices (half of it in the second phase);
    embeddings, norms and biases take AdamW at half of that.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    documents: int
    verdicts: int
    grown: int
    seed: int
    tokens: int = 6_000
    rate: float = 1e-2


RECIPES = {
    "lab-small": Recipe(64, 2, 2, 1, 176, documents=50 * 1024, verdicts=25 * 1024, grown=0, seed=1),
    "lab-large": Recipe(96, 6, 3, 3, 256, documents=140 * 1024, verdicts=67 * 1024, grown=2, seed=2),
}
INSIGHT = 1.0
"""Weight of the second loss: linear read-outs at each delimiter say whether the step is right and whether it is
sound. They are not kept; they teach the network to notice errors from every step, where verdicts are one token a document."""

CHUNK = 1_024
"""Documents a chunk: the unit of progress and of resuming."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids, targets and loss weights, each of shape (documents, length); `labels`, with a last
    axis of 2, says of a position whether the step that ends there is right and whether it is sound (1 yes, 0 no), or that
    none ends there (-1)."""

    ids: Tensor
    targets: Tensor
    weights: Tensor
    labels: Tensor


Row = tuple[list[int], list[float], list[tuple[int, int]]]
"""A document's token ids, loss weights and labels."""
NONE = (-1, -1)
"""The label of a token that ends no step."""


def train_chain(rng: random.Random) -> Chain:
    """A random problem of the training split, levels drawn uniformly."""
    while True:
        chain = draw(rng, rng.choice(LEVELS))
        if chain.split == "train":
            return chain


def batches(tokenizer: Tokenizer, recipe: Recipe, phase: int, chunk: int) -> list[Batch]:
    """The batches of one chunk of documents, alike in length each, in random order: a function of seed, phase, chunk."""
    rng = random.Random(f"reasonweave-lab/{recipe.seed}/{phase}/{chunk}")
    mix = LATE if phase == 2 else EARLY
    documents = [document(train_chain(rng), rng, mix) for _ in range(CHUNK)]
    encoded = tokenizer.encode_batch(["".join(piece.text for piece in pieces) for pieces in documents])
    rows = []
    for pieces, tokens in zip(documents, encoded, strict=True):
        owner = [piece for piece in pieces for _ in piece.text]
        owners = [owner[start] for start, _ in tokens.offsets]
        labels = [NONE if piece.ends is None else (int(piece.ends.right), int(piece.ends.sound)) for piece in owners]
        rows.append((tokens.ids, [piece.learn for piece in owners], labels))
    rows.sort(key=lambda row: len(row[0]))
    made: list[Batch] = []
    group: list[Row] = []
    for row in rows:
        if group and (len(group) + 1) * len(row[0]) > recipe.tokens:
            made.append(_pad(group))
            group = []
        group.append(row)
    made.append(_pad(group))
    rng.shuffle(made)
    return made


def _pad(rows: Sequence[Row]) -> Batch:
    shape = len(rows), max(len(row[0]) for row in rows)
    ids, weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    labels = torch.full((*shape, 2), -1)
    for i, (row, learn, right) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = torch.tensor(learn)
        labels[i, : len(row)] = torch.tensor(right)
    return Batch(ids[:, :-1], ids[:, 1:], weights[:, 1:], labels[:, :-1])


def config(recipe: Recipe, tokenizer: Tokenizer, layers: int) -> Qwen2Config:
    """The Hugging Face configuration of a recipe's shape with this many layers."""
    return Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=recipe.width,
        num_hidden_layers=layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        intermediate_size=recipe.hidden,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(END),
        pad_token_id=tokenizer.token_to_id(PAD),
    )


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by five Newton–Schulz iterations (Jordan et al., 2024), in float32.

    torch's own Muon iterates in bfloat16, which processors without bfloat16 arithmetic emulate twenty times slower.
    Updates are scaled to AdamW's root mean square, 0.2 · sqrt(max(rows, columns)) (Liu et al., 2025, arXiv 2502.16982).
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": 0.95, "weight_decay": 0.01})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                shapes.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in shapes.items():
                directions = []
                for matrix in matrices:
                    momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                    momentum.lerp_(matrix.grad, 1 - group["momentum"])
                    directions.append(matrix.grad.lerp(momentum, group["momentum"]))
                scale = group["lr"] * 0.2 * math.sqrt(max(shape))
                for matrix, update in zip(matrices, orthogonal(torch.stack(directions)), strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values go to about 1. Shape (n, rows, columns)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    flat = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = flat / (flat.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x


class Optimiser:
    """Muon on the hidden weight matrices, AdamW on the rest, one warm-up and cosine schedule over the run."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        hidden = [p.ndim == 2 and ".layers." in name for name, p in model.named_parameters()]
        matrices = [p for p, inner in zip(model.parameters(), hidden, strict=True) if inner]
        rest = [p for p, inner in zip(model.parameters(), hidden, strict=True) if not inner]
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [
            (Muon(matrices, rate), rate),
            (torch.optim.AdamW(rest, lr=rate / 2, betas=(0.9, 0.98), weight_decay=0.0), rate / 2),
        ]

    def step(self, update: int, progress: float) -> None:
        """One update; `progress` in 0..1 places it on the schedule, `update` counts from 0 for the warm-up."""
        share = min(1.0, (update + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
        for optimiser, rate in self.parts:
            for group in optimiser.param_groups:
                group["lr"] = rate * share
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> list[Any]:
        return [optimiser.state_dict() for optimiser, _ in self.parts]

    def load_state_dict(self, states: list[Any]) -> None:
        for (optimiser, _), state in zip(self.parts, states, strict=True):
            optimiser.load_state_dict(state)


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> torch.dtype | None:
    """bfloat16 where the hardware computes in it, else None: plain float32."""
    if torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return None


def network(recipe: Recipe, tokenizer: Tokenizer, layers: int) -> nn.ModuleDict:
    """A language model and its read-outs."""
    model = Qwen2ForCausalLM(config(recipe, tokenizer, layers))
    return nn.ModuleDict({"model": model, "insight": nn.Linear(recipe.width, 2)}).to(device())


def grow(parts: nn.ModuleDict, recipe: Recipe, tokenizer: Tokenizer) -> nn.ModuleDict:
    """The same function with `recipe.grown` more layers: their output projections begin at zero."""
    if not recipe.grown:
        return parts
    grown = network(recipe, tokenizer, recipe.layers + recipe.grown)
    grown.load_state_dict(parts.state_dict(), strict=False)
    for layer in grown["model"].model.layers[recipe.layers :]:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    return grown


def train_causal(name: str, out: Path, report: Callable[[str], None], recipe: Recipe | None = None) -> None:
    """Train one causal model into `out`/name; resumes from `out`/.training/name.pt where that exists."""
    recipe = recipe or RECIPES[name]
    folder, resume = out / name, out / ".training" / f"{name}.pt"
    if (folder / "model.safetensors").exists():
        report(f"{name}: already there")
        return
    tokenizer = build()
    torch.manual_seed(recipe.seed)
    parts = network(recipe, tokenizer, recipe.layers)
    state = torch.load(resume, weights_only=False) if resume.exists() else None
    resume.parent.mkdir(parents=True, exist_ok=True)
    for phase, documents in ((1, recipe.documents), (2, recipe.verdicts)):
        if phase == 2:
            parts = grow(parts, recipe, tokenizer)
        if state is None or state["phase"] <= phase:
            progress = Progress(name, phase, documents // CHUNK, resume, report)
            _fit(parts, recipe, tokenizer, progress, state if state and state["phase"] == phase else None)
    write(parts["model"], tokenizer, folder)


@dataclass(frozen=True, slots=True)
class Progress:
    """Which phase of which model this is, how long it is, and where to keep its state."""

    name: str
    phase: int
    chunks: int
    resume: Path
    report: Callable[[str], None]


def _fit(
    parts: nn.ModuleDict, recipe: Recipe, tokenizer: Tokenizer, progress: Progress, state: dict[str, Any] | None
) -> None:
    model, insight = parts["model"], parts["insight"]
    optimiser = Optimiser(parts, recipe.rate if progress.phase == 1 else recipe.rate / 2)
    start, update, spent = 0, 0, 0.0
    if state is not None:
        parts.load_state_dict(state["parts"])
        start, update, spent = state["chunk"], state["update"], state["seconds"]
        if start < progress.chunks:
            optimiser.load_state_dict(state["optimiser"])
        progress.report(f"{progress.name}: resuming phase {progress.phase} at {start}/{progress.chunks}")
    dtype = precision()
    began = saved = time.monotonic()
    for chunk in range(start, progress.chunks):
        losses = []
        made = batches(tokenizer, recipe, progress.phase, chunk)
        for i, batch in enumerate(made):
            with torch.autocast(device().type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                hidden = model.model(input_ids=batch.ids.to(device())).last_hidden_state
                logits, hunch = model.lm_head(hidden).float(), insight(hidden).float()
            targets, weights = batch.targets.flatten().to(device()), batch.weights.flatten().to(device())
            each = functional.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
            verdict = weights == VERDICT
            loss = (each * weights).sum() / weights.sum()
            labels = batch.labels.to(device())
            judged = labels >= 0
            noticed = functional.binary_cross_entropy_with_logits(hunch[judged], labels[judged].float())
            (loss + INSIGHT * noticed).backward()
            torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
            optimiser.step(update, (chunk + i / len(made)) / progress.chunks)
            update += 1
            losses.append((loss.item(), noticed.item(), each[verdict].mean().item() if verdict.any() else math.nan))
        seconds = spent + time.monotonic() - began
        means = [_mean(column) for column in zip(*losses, strict=True)]
        progress.report(
            f"{progress.name} phase {progress.phase}, {chunk + 1}/{progress.chunks}  loss {means[0]:.4f}, "
            f"steps {means[1]:.4f}, verdicts {means[2]:.4f}  {update} updates  {seconds / 60:.1f} min, "
            f"about {(seconds - spent) / (chunk + 1 - start) * (progress.chunks - chunk - 1) / 60:.0f} left"
        )
        if time.monotonic() - saved > 60 or chunk + 1 == progress.chunks:
            saved = time.monotonic()
            kept = {"phase": progress.phase, "parts": parts.state_dict(), "optimiser": optimiser.state_dict()}
            new = progress.resume.with_suffix(".new")
            torch.save({**kept, "chunk": chunk + 1, "update": update, "seconds": seconds}, new)
            new.replace(progress.resume)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def write(model: Qwen2ForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Save a checkpoint as Hugging Face does: config.json, model.safetensors, the tokenizer's files."""
    model = model.float().cpu()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.token_to_id(END), do_sample=True, temperature=0.8)
    model.save_pretrained(folder)
    save(tokenizer, folder)
