"""Measure the lab's checkpoints: the figures of the model card, each with a 95 % interval."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reasonweave.orchestrator.models.embedded import EmbeddedModel, EmbeddedRewardModel
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import DELIMITER, Candidate, Context, Problem, Sampling, Step
from reasonweave.tasks.evaluation.stats import auc, auc_interval, wilson
from reasonweave.tasks.lab.corpus import label, slip
from reasonweave.tasks.lab.problems import LETTERS, LEVELS, Chain, problems
from reasonweave.tasks.lab.task import CHECKPOINTS
from reasonweave.verifiers.judge import UtilityDigit
from reasonweave.verifiers.prm import last, lowest, product
from reasonweave.verifiers.self_check import SelfCheck

CHUNK = 250
TEMPERATURE = 0.8
SAMPLES = 16
"""Solutions a problem from which the card's selections choose."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, its interval, the band it has to lie in (None: no band), and how many cases it rests on."""

    name: str
    value: float
    low: float
    high: float
    n: int
    band: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        return None if self.band is None else self.band[0] <= self.value <= self.band[1]


@dataclass(slots=True)
class Solved:
    """What one model wrote for the held-out problems."""

    candidates: list[Candidate] = field(default_factory=list)
    labels: list[list[bool]] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)


async def solve_all(
    model: EmbeddedModel, chains: Sequence[Chain], *, temperature: float = TEMPERATURE, seed: int = 0
) -> Solved:
    """One sampled solution for each problem, with the label of each of its steps."""
    solved = Solved()
    for start in range(0, len(chains), CHUNK):
        part = chains[start : start + CHUNK]
        run = Run(seed, ("lab", model.name, start))
        asked = [Context(Problem(chain.text).messages) for chain in part]
        written = await model.generate(asked, run, sampling=Sampling(temperature=temperature, max_tokens=400))
        run.session.close()
        for chain, completion in zip(part, written, strict=True):
            paragraphs = [text for text in completion.text.split(DELIMITER) if text.strip()]
            steps = tuple(
                Step(text + (DELIMITER if i + 1 < len(paragraphs) else ""), model.name, 0)
                for i, text in enumerate(paragraphs)
            )
            candidate = Candidate(Problem(chain.text), steps, done=True)
            solved.candidates.append(candidate)
            solved.labels.append(label(chain, paragraphs))
            solved.right.append(candidate.answer == str(chain.answer))
    return solved


async def measure(folder: Path, limit: int, seed: int = 0) -> list[Figure]:
    """All figures of the card, on `limit` held-out problems."""
    small = EmbeddedModel(folder / "lab-small", role="small")
    large = EmbeddedModel(folder / "lab-large", role="large")
    prm = EmbeddedRewardModel(folder / "lab-prm", role="prm")
    chains = problems(limit, split="test", seed=1)
    figures: list[Figure] = []
    solved = {model.name: await solve_all(model, chains, seed=seed) for model in (small, large)}
    bands = {"lab-small": (0.35, 0.55), "lab-large": (0.85, 0.95)}
    for name, found in solved.items():
        figures.append(_share(f"{name} pass@1", found.right, bands[name]))
        for level in LEVELS:
            figures.append(
                _share(
                    f"{name} pass@1, level {level}",
                    [r for r, c in zip(found.right, chains, strict=True) if c.level == level],
                )
            )
    figures += await _rewards(prm, solved)
    figures += await _grades(large, solved, seed)
    figures += await _checks({"lab-small": small, "lab-large": large}, solved, seed)
    figures += await _selection(small, prm, chains[: limit // 4], seed)
    for model in (small, large):
        figures += _waits(model.name, solved[model.name])
        figures += await _planted(model, chains, seed)
    for opened in (small, large, prm):
        await opened.aclose()
    return figures


def _share(name: str, right: Sequence[bool], band: tuple[float, float] | None = None) -> Figure:
    low, high = wilson(sum(right), len(right))
    return Figure(name, sum(right) / max(1, len(right)), low, high, len(right), band)


def _auc(
    name: str, scores: list[float], labels: list[bool], groups: list[int], band: tuple[float, float] | None
) -> Figure:
    low, high = auc_interval(scores, labels, groups)
    return Figure(name, auc(scores, labels), low, high, len(scores), band)


async def _rewards(prm: EmbeddedRewardModel, solved: dict[str, Solved]) -> list[Figure]:
    """How well the reward model tells right steps from wrong ones, on both models' solutions and on each one's."""
    every: tuple[list[float], list[bool], list[int]] = ([], [], [])
    figures = []
    for name, found in solved.items():
        scores: list[float] = []
        labels: list[bool] = []
        groups: list[int] = []
        for start in range(0, len(found.candidates), CHUNK):
            run = Run(0, ("prm", name, start))
            rated = await prm.rate(found.candidates[start : start + CHUNK], run)
            run.session.close()
            for i, score in enumerate(rated, start):
                scores += score.steps
                labels += found.labels[i]
                groups += [i] * len(score.steps)
        figures.append(_auc(f"lab-prm step AUC, steps of {name}", scores, labels, groups, None))
        for total, part in zip(every, (scores, labels, groups), strict=True):
            total += part  # type: ignore[operator]
    return [_auc("lab-prm step AUC", *every, (0.85, 0.97)), *figures]


async def _grades(large: EmbeddedModel, solved: dict[str, Solved], seed: int) -> list[Figure]:
    """How well the large model's utility digit tells right steps from wrong ones: two random steps of each solution."""
    figures = []
    judge = UtilityDigit(large)
    for name, found in solved.items():
        rng = random.Random(seed)
        asked: list[tuple[int, int]] = []
        for i, labels in enumerate(found.labels):
            steps = range(1, len(labels))
            asked += [(i, s) for s in rng.sample(steps, min(2, len(steps)))]
        scores: list[float] = []
        for start in range(0, len(asked), CHUNK):
            part = asked[start : start + CHUNK]
            run = Run(seed, ("grade", name, start))
            cut = [Candidate(found.candidates[i].problem, found.candidates[i].steps[:s]) for i, s in part]
            scores += [score.value for score in await judge.score(cut, run)]
            run.session.close()
        labels = [found.labels[i][s - 1] for i, s in asked]
        band = (0.85, 1.0) if name == "lab-small" else None
        figures.append(
            _auc(f"lab-large utility digit AUC, steps of {name}", scores, labels, [i for i, _ in asked], band)
        )
    return figures


async def _checks(models: dict[str, EmbeddedModel], solved: dict[str, Solved], seed: int) -> list[Figure]:
    """How well each model's True/False check tells right answers from wrong ones, on the small model's solutions."""
    figures = []
    found = solved["lab-small"]
    answered = [i for i, candidate in enumerate(found.candidates) if candidate.answer is not None]
    for name, model in models.items():
        scores: list[float] = []
        for start in range(0, len(answered), CHUNK):
            run = Run(seed, ("check", name, start))
            part = [found.candidates[i] for i in answered[start : start + CHUNK]]
            scores += [score.value for score in await SelfCheck(model).score(part, run)]
            run.session.close()
        right = [found.right[i] for i in answered]
        figures.append(_auc(f"{name} self-check AUC, answers of lab-small", scores, right, answered, None))
    return figures


async def _selection(
    small: EmbeddedModel, prm: EmbeddedRewardModel, chains: Sequence[Chain], seed: int
) -> list[Figure]:
    """What choosing among lab-small's solutions is worth: majority, best-of-n by each reduction of the step scores, and
    the share of the problems with a right solution among them, which no choice can beat."""
    solved = await solve_all(small, [chain for chain in chains for _ in range(SAMPLES)], seed=seed + 1)
    sets = [range(i, i + SAMPLES) for i in range(0, len(solved.candidates), SAMPLES)]
    steps: list[Sequence[float]] = []
    for part in sets:
        run = Run(seed, ("selection", part.start))
        steps += [score.steps for score in await prm.rate([solved.candidates[i] for i in part], run)]
        run.session.close()
    answered = [[i for i in part if solved.candidates[i].answer is not None] for part in sets]
    votes = [Counter(solved.candidates[i].answer for i in part) for part in answered]
    targets = [str(chain.answer) for chain in chains]
    won = [bool(v) and v.most_common(1)[0][0] == t for v, t in zip(votes, targets, strict=True)]
    figures = [_share(f"majority of {SAMPLES} by lab-small", won)]
    for reduce in (product, lowest, last):
        chosen = [max(part, key=lambda i: reduce(steps[i]), default=None) for part in answered]
        right = [i is not None and solved.right[i] for i in chosen]
        figures.append(_share(f"best of {SAMPLES} by lab-prm, {reduce.__name__}", right))
    return [*figures, _share(f"one of {SAMPLES} by lab-small right", [any(solved.right[i] for i in p) for p in sets])]


def _waits(name: str, found: Solved) -> list[Figure]:
    """How often a solution says "Wait", and how often a first wrong step is put right in the next paragraph."""
    said, repaired = [], []
    for candidate, labels in zip(found.candidates, found.labels, strict=True):
        texts = [step.text for step in candidate.steps]
        said.append(any(text.startswith("Wait") for text in texts))
        for i, right in enumerate(labels):
            if not right and all(labels[:i]) and not texts[i].startswith("The answer"):
                follows = i + 1 < len(texts) and texts[i + 1].startswith("Wait")
                repaired.append(follows and labels[i + 1])
    return [
        _share(f"{name} solutions with a Wait", said),
        _share(f"{name} own slips repaired", repaired),
    ]


async def _planted(model: EmbeddedModel, chains: Sequence[Chain], seed: int) -> list[Figure]:
    """The same planted slip for every model: does the next paragraph put it right? And does a right step draw a Wait?"""
    rng = random.Random(f"planted/{seed}")
    repaired, needless = [], []
    for start in range(0, len(chains), CHUNK):
        part = chains[start : start + CHUNK]
        run = Run(seed, ("planted", model.name, start))
        contexts, cases = [], []
        for chain in part:
            at = rng.randrange(len(chain.operations))
            lines, value = [], chain.start
            for letter, (symbol, operand), result in zip(
                LETTERS, chain.operations[: at + 1], chain.values, strict=False
            ):
                lines.append((f"{letter}: {value} {symbol} {operand} = ", value, operand, result))
                value = result
            right = [f"{head}{result}" for head, _, _, result in lines]
            head, before, operand, result = lines[-1]
            wrong = [*right[:-1], f"{head}{slip(rng, result, before, operand)}"]
            messages = Problem(chain.text).messages
            contexts += [Context(messages, "".join(t + DELIMITER for t in texts)) for texts in (wrong, right)]
            cases.append((chain, wrong))
        sampling = Sampling(temperature=TEMPERATURE, max_tokens=40, stop=(DELIMITER,))
        written = await model.generate(contexts, run, sampling=sampling)
        run.session.close()
        for i, (chain, wrong) in enumerate(cases):
            after, calm = written[2 * i].text.strip(), written[2 * i + 1].text
            repaired.append(after.startswith("Wait") and label(chain, [*wrong, after])[-1])
            needless.append(calm.startswith("Wait"))
    return [
        _share(f"{model.name} planted slips repaired", repaired),
        _share(f"{model.name} right steps doubted", needless),
    ]


def show(folder: Path | None, *, limit: int, as_json: bool) -> None:
    """Measure and print, bands and all."""
    began = time.monotonic()
    figures = asyncio.run(measure(folder or CHECKPOINTS, limit))
    size = sum(
        f.stat().st_size for f in (folder or CHECKPOINTS).rglob("*") if f.is_file() and ".training" not in f.parts
    )
    figures.append(Figure("size of the checkpoints, MB", size / 1e6, size / 1e6, size / 1e6, 1, (0, 12)))
    if as_json:
        print(json.dumps([_data(figure) for figure in figures], indent=2))
        return
    table = Table(title=f"Lab card, {limit} held-out problems, temperature {TEMPERATURE}", title_justify="left")
    for name in ("figure", "value", "95 % interval", "cases", "band"):
        table.add_column(name, justify="left" if name == "figure" else "right", no_wrap=True)
    for f in figures:
        met = "" if f.band is None else f"{f.band[0]:g}–{f.band[1]:g} {'met' if f.met else 'MISSED'}"
        exact = f.name.startswith("size")
        table.add_row(
            f.name, f"{f.value:.3f}", "" if exact else f"{f.low:.3f}–{f.high:.3f}", "" if exact else str(f.n), met
        )
    console = Console(width=120)
    console.print(table)
    console.print(f"measured in {time.monotonic() - began:.0f} s", highlight=False)


def _data(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "value": figure.value,
        "interval": [figure.low, figure.high],
        "cases": figure.n,
        "band": figure.band,
        "met": figure.met,
    }
