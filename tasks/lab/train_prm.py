"""Train lab-prm: lab-large with a reward head, on solutions that the two models sampled themselves.

The steps are labelled exactly, by `reasonweave.tasks.lab.corpus.label`; planted slips are mixed in. The checkpoint has
the format of Qwen2.5-Math-PRM: a tag after each step, and a two-layer head on the tag's hidden state.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Model

from reasonweave.orchestrator.models.embedded import STEP_TAG, EmbeddedModel, render_rating
from reasonweave.orchestrator.types import Problem
from reasonweave.tasks.lab.card import solve_all
from reasonweave.tasks.lab.corpus import write
from reasonweave.tasks.lab.tokenizer import build, save
from reasonweave.tasks.lab.train import Optimiser, device, precision, train_chain

SAMPLED = 4_000
"""Problems solved by each of the two models, at temperature 1."""
PLANTED = 8_000
"""Solutions with planted slips."""
EPOCHS = 3
RATE = 2e-3
TOKENS = 6_000


@dataclass(frozen=True, slots=True)
class Judged:
    """A problem, the paragraphs of a solution, and whether each is right."""

    problem: str
    steps: tuple[str, ...]
    labels: tuple[bool, ...]


class RewardNetwork(nn.Module):
    """A Qwen2 network with Qwen2.5-Math-PRM's head: Linear, ReLU, Linear to (bad, good)."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.model = Qwen2Model(config)
        width = config.hidden_size
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (documents, length, 2) at every position."""
        return self.score(self.model(input_ids=ids).last_hidden_state)


async def _sample(folder: Path, seed: int) -> list[Judged]:
    rng = random.Random(f"reasonweave-lab/prm/{seed}")
    chains = [train_chain(rng) for _ in range(SAMPLED)]
    model = EmbeddedModel(folder)
    solved = await solve_all(model, chains, temperature=1.0, seed=seed)
    await model.aclose()
    return [
        Judged(chain.text, tuple(step.text.strip() for step in candidate.steps), tuple(labels))
        for chain, candidate, labels in zip(chains, solved.candidates, solved.labels, strict=True)
        if candidate.steps
    ]


def _planted() -> list[Judged]:
    rng = random.Random("reasonweave-lab/prm/planted")
    made = []
    for _ in range(PLANTED):
        chain = train_chain(rng)
        steps = write(chain, rng, slips=rng.choice((0.0, 0.15, 0.3)))
        made.append(Judged(chain.text, tuple(s.text for s in steps), tuple(s.right for s in steps)))
    return made


def solutions(out: Path, report: Callable[[str], None]) -> list[Judged]:
    """What the reward model learns from; the sampled part is kept in `out`/.training for resuming."""
    kept = out / ".training" / "solutions.jsonl"
    if not kept.exists():
        sampled: list[Judged] = []
        for seed, name in ((1, "lab-small"), (2, "lab-large")):
            began = time.monotonic()
            sampled += asyncio.run(_sample(out / name, seed))
            report(f"lab-prm: {SAMPLED} solutions of {name} sampled in {time.monotonic() - began:.0f} s")
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(".new")
        new.write_text("".join(json.dumps([j.problem, j.steps, j.labels]) + "\n" for j in sampled))
        new.replace(kept)
    loaded = [json.loads(line) for line in kept.read_text().splitlines()]
    return [Judged(problem, tuple(steps), tuple(labels)) for problem, steps, labels in loaded] + _planted()


def _rows(tokenizer: Tokenizer, judged: Sequence[Judged]) -> list[tuple[list[int], list[int]]]:
    """Token ids, and for each a label: 1 or 0 at a step's tag, -1 elsewhere."""
    tag = tokenizer.token_to_id(STEP_TAG)
    texts = [render_rating(Problem(j.problem), j.steps) for j in judged]
    rows = []
    for j, tokens in zip(judged, tokenizer.encode_batch(texts), strict=True):
        labels = iter(j.labels)
        rows.append((tokens.ids, [int(next(labels)) if i == tag else -1 for i in tokens.ids]))
    return rows


def _batches(rows: Sequence[tuple[list[int], list[int]]], rng: random.Random) -> list[tuple[Tensor, Tensor]]:
    order = sorted(rows, key=lambda row: len(row[0]) + rng.random())
    made: list[tuple[Tensor, Tensor]] = []
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * len(order[stop][0]) <= TOKENS:
            stop += 1
        group, width = order[start:stop], len(order[stop - 1][0])
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in group])
        labels = torch.tensor([labels + [-1] * (width - len(labels)) for _, labels in group])
        made.append((ids, labels))
        start = stop
    rng.shuffle(made)
    return made


def train_prm(out: Path, report: Callable[[str], None]) -> None:
    """Train lab-prm into `out`/lab-prm from `out`/lab-small and `out`/lab-large; resumes after a finished epoch."""
    folder, resume = out / "lab-prm", out / ".training" / "lab-prm.pt"
    if (folder / "model.safetensors").exists():
        report("lab-prm: already there")
        return
    tokenizer, judged = build(), solutions(out, report)
    rows = _rows(tokenizer, judged)
    torch.manual_seed(3)
    base = Qwen2ForCausalLM.from_pretrained(out / "lab-large", dtype=torch.float32)
    network = RewardNetwork(base.config)
    network.model.load_state_dict(base.model.state_dict())
    network.to(device())
    optimiser, first, update = Optimiser(network, RATE), 0, 0
    if resume.exists():
        state = torch.load(resume, weights_only=False)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        first, update = state["epoch"], state["update"]
        report(f"lab-prm: resuming at epoch {first + 1}/{EPOCHS}")
    dtype, began = precision(), time.monotonic()
    for epoch in range(first, EPOCHS):
        made, losses = _batches(rows, random.Random(f"reasonweave-lab/prm/epoch/{epoch}")), []
        for i, (ids, labels) in enumerate(made):
            with torch.autocast(device().type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                logits = network(ids.to(device())).float()
            loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten().to(device()), ignore_index=-1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step(update, (epoch + i / len(made)) / EPOCHS)
            update += 1
            losses.append(loss.item())
            if (i + 1) % 50 == 0 or i + 1 == len(made):
                recent = losses[-50:]
                report(
                    f"lab-prm epoch {epoch + 1}/{EPOCHS}, {i + 1}/{len(made)}  loss {sum(recent) / len(recent):.4f}  "
                    f"{(time.monotonic() - began) / 60:.1f} min"
                )
        state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save({**state, "epoch": epoch + 1, "update": update}, resume.with_suffix(".new"))
        resume.with_suffix(".new").replace(resume)
    _write(network, base.config, tokenizer, folder)


def _write(network: RewardNetwork, config: Qwen2Config, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.float().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    data = config.to_dict() | {"architectures": ["Qwen2ForProcessRewardModel"]}
    data = {name: value for name, value in data.items() if name not in ("_name_or_path", "id2label", "label2id")}
    (folder / "config.json").write_text(json.dumps(data, indent=2, sort_keys=True, default=str) + "\n")
    save(tokenizer, folder)
