"""Recorded samples, and what workflows make of them: no model is asked, no token is spent.

recorded = Recorded.load(Path("runs/20261121-120000-lab"))
replayed = asyncio.run(replay(recorded, Workflow.named("self-consistency"), {"n": 8}))
replayed.accuracy, replayed.interval, replayed.samples
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reasonweave.orchestrator._sync import together
from reasonweave.orchestrator.answers import BoxedAnswers
from reasonweave.orchestrator.budget import Reserve
from reasonweave.orchestrator.errors import BadInput, NotFound, ReasonweaveError, UserError, described
from reasonweave.orchestrator.graph import Graph
from reasonweave.orchestrator.models.replay import (
    NotRecorded,
    RecordedModel,
    RecordedReward,
    RecordedSample,
    Recording,
)
from reasonweave.orchestrator.protocols import AnswerSpace, Finish, Strategy, Verifier
from reasonweave.orchestrator.registry import Workflow, find
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.solve import Result, asolve
from reasonweave.orchestrator.trace import Event, Generated
from reasonweave.orchestrator.types import Candidate, Candidates, FinishReason, Problem, Score
from reasonweave.tasks.base import Example, Task
from reasonweave.tasks.evaluation.confidence import ece
from reasonweave.tasks.evaluation.records import Record, Records, SampleRecord
from reasonweave.tasks.evaluation.runner import problem_seed
from reasonweave.tasks.evaluation.stats import bootstrap_mean, wilson

RESAMPLES = 2000
TOGETHER = 32
"""Problems replayed at the same time: their calls share the turns of the event loop."""


@dataclass(frozen=True)
class Recorded:
    """A file of records whose samples can be dealt out again."""

    file: Records
    examples: tuple[Example, ...]

    @classmethod
    def load(cls, run: Path, *, workflow: str | None = None, scored: bool = False) -> Recorded:
        """A file of records; of a folder, that of `workflow`, or the one with the most whole samples a problem (where several
        are equal, one with scores if `scored`, then the first by name). Raises `BadInput` where there is none."""
        if not run.exists():
            raise BadInput(f"{run}: there is no such file or folder; name one that `reasonweave eval` made")
        if not run.is_dir():
            return cls._of(Records.read(run))
        found: dict[str, Recorded] = {}
        wrong: dict[str, str] = {}
        for path in sorted(run.glob("*.jsonl")):
            try:
                found[path.stem] = cls._of(Records.read(path))
            except BadInput as error:
                wrong[path.stem] = str(error)
        if workflow in found:
            return found[workflow]
        if workflow is not None and workflow not in wrong:
            raise NotFound("workflow", workflow, found, hint=f"In {run}")
        if workflow is not None or not found:
            none = f"{run}: no records (*.jsonl) in this folder; name one that eval made"
            raise BadInput(wrong[workflow] if workflow else next(iter(wrong.values()), none))
        return max(found.values(), key=lambda r: (r.whole, r.fewest, r.complete, scored and r.scored))

    @classmethod
    def _of(cls, file: Records) -> Recorded:
        if not file.items:
            raise BadInput(f"{file.path}: no problem in it is finished")
        if not any(record.samples for record in file.items):
            told = "has no samples" if file.header.schema_version > 1 else "was written before records kept samples"
            raise BadInput(f"{file.path}: {told}; run eval again to record some")
        return cls(file, tuple(_examples(file)))

    def first(self, limit: int | None) -> Recorded:
        """The first `limit` problems alone."""
        return Recorded(replace(self.file, items=self.file.items[:limit]), self.examples[:limit])

    @cached_property
    def counts(self) -> list[int]:
        """How many samples each problem has, forced answers not among them."""
        return [sum(not s.given for s in record.samples) for record in self.file.items]

    @property
    def fewest(self) -> int:
        return min(self.counts)

    @property
    def even(self) -> bool:
        """Have all problems equally many samples?"""
        return self.fewest == max(self.counts)

    @cached_property
    def whole(self) -> bool:
        """Was no sample cut by a watch?"""
        return not any(s.cut for record in self.file.items for s in record.samples)

    @cached_property
    def complete(self) -> bool:
        """Are the samples those that were drawn? Else some were left out, or written in another way."""
        return all(record.drawn == count for record, count in zip(self.file.items, self.counts, strict=True))

    @cached_property
    def scored(self) -> bool:
        """Has any sample a score?"""
        return any(_judged(s) for record in self.file.items for s in record.samples)

    @cached_property
    def has_logprobs(self) -> bool:
        return all(
            s.logprob is not None for record in self.file.items for s in record.samples if s.tokens and not s.failed
        )

    @property
    def independent(self) -> bool:
        """Were whole solutions drawn, one call each? Else a search may have chosen between them step by step."""
        return "until=None" in self.file.header.strategy

    @cached_property
    def model(self) -> str:
        """The model that wrote most of the solutions."""
        written: Counter[str] = Counter()
        for record in self.file.items:
            written.update({name: part.tokens for name, part in record.authors.items() if name in record.prompt_tokens})
        return written.most_common(1)[0][0] if written else "recorded"

    @cached_property
    def longest(self) -> int:
        """The tokens of the longest sample."""
        return max(sample.tokens for record in self.file.items for sample in record.samples)

    @cached_property
    def in_order(self) -> list[Recording]:
        """What models answer from: one a problem, the samples in their order."""
        return [
            _recording(record, example.problem, self.model)
            for record, example in zip(self.file.items, self.examples, strict=True)
        ]

    def shuffled(self, draw: int, seed: int) -> list[Recording]:
        """The same with each problem's samples in a random order, which depends on the draw and the seed."""
        found = []
        for each in self.in_order:
            rng = Run(problem_seed(seed, each.problem.id), ("replay", draw)).rng()
            order = rng.permutation(len(each.samples))
            found.append(replace(each, samples=tuple(each.samples[i] for i in order)))
        return found


def _examples(file: Records) -> Iterable[Example]:
    """The problems as the task has them, where it is registered here and has them still, else as they were written down."""
    known: dict[tuple[str, str], Example] = {}
    try:
        task = find("task", file.header.task)()
        listed = task.examples(max(r.index for r in file.items) + 1) if isinstance(task, Task) else []
        known = {(each.problem.id, each.problem.prompt): each for each in listed}
    except UserError:
        pass
    spaces: list[AnswerSpace] = [BoxedAnswers(lenient=True), BoxedAnswers()]
    for space in spaces:
        examples = [
            known.get((r.id, r.input)) or Example(Problem(r.input, r.id, space), r.target, r.group) for r in file.items
        ]
        if all(map(_reads, examples, file.items)):
            return examples
    raise BadInput(
        f"{file.path}: its answers were read by another rule than the one here; install the task {file.header.task!r} as it was"
    )


def _reads(example: Example, record: Record) -> bool:
    """Does this example find the recorded answers, and grade as was recorded?"""
    answers = all(example.problem.answers.extract(s.text) == s.answer for s in record.samples if s.text)
    return answers and example.correct(record.answer) == record.correct


def _judged(sample: SampleRecord) -> bool:
    return sample.score is not None or sample.unjudged is not None


def _recording(record: Record, problem: Problem, model: str) -> Recording:
    samples = [_sample(s) for s in record.samples if not s.given]
    forced = {
        s.text[: s.given]: RecordedSample(s.text[s.given :], s.tokens, s.logprob) for s in record.samples if s.given
    }
    spent = [usage.prompt for name, usage in record.model_usage.items() if name not in record.prompt_tokens]
    rated = len({s.text for s in record.samples if _judged(s)})
    rating = round(sum(spent) / rated) if rated else 0
    return Recording(problem, tuple(samples), record.prompt_tokens.get(model, 0), rating, forced)


def _sample(sample: SampleRecord) -> RecordedSample:
    ended: FinishReason = "eos"
    if sample.failed is not None:
        ended = "error"
    elif sample.cut:
        ended = "cancelled"
    elif sample.open or not sample.done:
        ended = "length"
    score = None
    if sample.score is not None:
        score = Score(sample.score, sample.steps)
    elif sample.unjudged is not None:
        score = Score(math.nan, (), sample.unjudged)
    return RecordedSample(sample.text, sample.tokens, sample.logprob, ended, sample.failed, score)


@dataclass(frozen=True)
class AsRecorded:
    """The recorded scores as a verifier: values as they were, however they were made of the step scores."""

    model: RecordedReward

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return await self.model.rate(candidates, run)


@dataclass(frozen=True)
class IfRecorded:
    """A graph's finish, where the recording has what it asks for; else there is no answer."""

    finish: Finish
    missed: list[str] = field(default_factory=list, compare=False)
    """The problems that it could not finish."""

    def reserve(self, roots: Candidates) -> Reserve:
        return self.finish.reserve(roots)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        try:
            async for found in self.finish.search(roots, run):
                yield found
        except NotRecorded:
            self.missed.append(roots[0].problem.id)


@dataclass(slots=True)
class Drawn:
    """A tracer that counts the samples that were drawn to their ends."""

    samples: int = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Generated) and not event.contexts[0].prefix:
            self.samples += sum(completion.finish_reason != "cancelled" for completion in event.completions)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One problem, one order of its samples. `error` says why a part of the workflow failed."""

    answer: str | None
    right: bool
    confidence: float | None
    samples: int
    tokens: int
    error: str | None = None


@dataclass(frozen=True)
class Replayed:
    """What one workflow made of the samples: `outcomes[i][r]` is problem i, order r. `unforced` counts solutions that the
    recorded model would have been made to end with an answer, and was not."""

    label: str
    options: Mapping[str, Any]
    outcomes: tuple[tuple[Outcome, ...], ...]
    unforced: int = 0

    @property
    def n(self) -> int | None:
        return self.options.get("n")

    @property
    def each(self) -> list[Outcome]:
        return [outcome for problem in self.outcomes for outcome in problem]

    @cached_property
    def shares(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Of each problem, the share of orders that give the right answer."""
        return np.array([np.mean([o.right for o in problem]) for problem in self.outcomes])

    @property
    def accuracy(self) -> float:
        return float(self.shares.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 %: a bootstrap that draws whole problems, with the same draws for every workflow; Wilson's where all problems
        came out the same, of which a bootstrap learns nothing."""
        if np.ptp(self.shares) == 0 and self.accuracy in (0, 1):
            return wilson(round(self.shares.sum()), len(self.shares))
        return bootstrap_mean(self.shares, draws=RESAMPLES)

    @property
    def samples(self) -> float:
        """Samples a problem, on average."""
        return float(np.mean([o.samples for o in self.each]))

    @property
    def tokens(self) -> float:
        """Tokens a problem, prompt and completion, of all models."""
        return float(np.mean([o.tokens for o in self.each]))

    @property
    def unanswered(self) -> float:
        """The share without an answer."""
        return float(np.mean([o.answer is None for o in self.each]))

    @property
    def told(self) -> list[tuple[float, bool]]:
        """Confidence in 0..1 and truth of each answer that came with one."""
        return [
            (o.confidence, o.right)
            for o in self.each
            if o.answer is not None and o.confidence is not None and 0 <= o.confidence <= 1
        ]

    @property
    def confidence(self) -> float | None:
        """The mean confidence of the answers that came with one; None where none did."""
        return float(np.mean([sure for sure, _ in self.told])) if self.told else None

    @property
    def ece(self) -> float | None:
        """Expected calibration error of these confidences, 10 bins; None where there is none."""
        return ece(*zip(*self.told, strict=True)) if self.told else None


async def replay(
    recorded: Recorded,
    workflow: Workflow,
    options: Mapping[str, Any],
    *,
    draws: int = 1,
    seed: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Replayed:
    """What a workflow would have said on recorded samples: in their order, or on average over `draws` random orders.

    Options that say how samples are drawn are those of the recorded run unless they are given; the seed is the recorded one.
    In the recorded order, the recorded workflow with its own options gives the recorded answers and confidences again. `tick`
    is called for each problem of each draw. Raises `NotRecorded` where the samples do not have what the workflow asks for, and
    `BadInput` for options that it does not take.
    """
    header = recorded.file.header
    drawn = {"temperature": header.options.get("temperature"), "max_tokens": header.options.get("max_tokens")}
    if drawn["max_tokens"] is not None:  # a step's, where it was written step by step
        drawn["max_tokens"] = max(drawn["max_tokens"], recorded.longest)
    taken = {name: value for name, value in drawn.items() if value is not None and name in workflow.options}
    options, seed = taken | dict(options), header.seed if seed is None else seed
    outcomes: list[list[Outcome]] = [[] for _ in recorded.examples]
    unforced = 0
    for draw in range(draws):
        recordings = recorded.shuffled(draw, seed) if draws > 1 else recorded.in_order
        for layer in _layers(recordings):
            strategy, finishes = _bound(recorded, workflow, options, [recordings[i] for i in layer])
            for some in (layer[at : at + TOGETHER] for at in range(0, len(layer), TOGETHER)):
                roots = [problem_seed(seed, recorded.examples[i].problem.id) for i in some]
                roots = [Run(root, ("draw", draw)).seed() for root in roots] if draws > 1 else roots
                asked = [
                    _outcome(recorded.examples[i], strategy, root, tick) for i, root in zip(some, roots, strict=True)
                ]
                for i, outcome in zip(some, await together(asked), strict=True):
                    outcomes[i].append(outcome)
            unforced += sum(len(finish.missed) for finish in finishes)
    return Replayed(workflow.name, options, tuple(map(tuple, outcomes)), unforced)


def _layers(recordings: Sequence[Recording]) -> list[list[int]]:
    """The recordings' indices so that no two of a list are of one question: a model knows a problem by its words."""
    layers: list[list[int]] = []
    times: dict[str, int] = {}
    for i, recording in enumerate(recordings):
        at = times[recording.problem.prompt] = times.get(recording.problem.prompt, -1) + 1
        if at == len(layers):
            layers.append([])
        layers[at].append(i)
    return layers


def _bound(
    recorded: Recorded, workflow: Workflow, options: Mapping[str, Any], recordings: Sequence[Recording]
) -> tuple[Strategy, list[IfRecorded]]:
    """The workflow over the recorded samples and scores, its finishes answering only what was recorded."""
    source, header = str(recorded.file.path), recorded.file.header
    temperature = header.options.get("temperature")
    writers = [role for role, kind in workflow.roles.items() if kind is not Verifier]
    if len(writers) != 1:
        raise NotRecorded(f"needs {len(writers)} models ({', '.join(writers)}); {source} has the samples of one")
    parts: dict[str, Any] = {}
    for role, kind in workflow.roles.items():
        if kind is not Verifier:
            parts[role] = RecordedModel(recordings, recorded.model, role=role, temperature=temperature, source=source)
        elif recorded.scored:
            parts[role] = AsRecorded(RecordedReward(recordings, role=role, source=source))
        else:
            raise NotRecorded(f"{source} has no scores; record them with eval weighted-majority")
    try:
        strategy = workflow.make(**parts, **options)
    except ReasonweaveError:
        raise
    except Exception as error:
        raise BadInput(f"cannot be made: {described(error)}") from error
    return strategy, _lenient(strategy)


def _lenient(strategy: Strategy) -> list[IfRecorded]:
    """Let the finishes of a graph, and of those in it, leave out what was not recorded."""
    found: list[IfRecorded] = []
    if isinstance(strategy, Graph):
        if strategy.finish is not None:
            strategy.finish = IfRecorded(strategy.finish)
            found.append(strategy.finish)
        for node in strategy.nodes.values():
            if isinstance(node.part, Strategy):
                found += _lenient(node.part)
    return found


async def _outcome(example: Example, strategy: Strategy, seed: int, tick: Callable[[], None]) -> Outcome:
    drawn = Drawn()
    try:
        result: Result = await asolve(example.problem, strategy, seed=seed, trace=drawn)
    except UserError:
        raise
    except Exception as error:
        return Outcome(None, False, None, drawn.samples, 0, described(error))
    finally:
        tick()
    right = example.correct(result.answer)
    return Outcome(result.answer, right, result.confidence, drawn.samples, result.tokens)
