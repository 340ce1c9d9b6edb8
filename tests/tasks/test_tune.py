"""Tuning: models that remember, halving by hand, a front against brute force, a study that is killed and goes on, the command."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result as Ended
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from typer.testing import CliRunner

from reasonweave.orchestrator import (
    Budget,
    Candidate,
    Context,
    Model,
    Problem,
    Run,
    Sampling,
    Score,
    Step,
    Strategy,
    chain,
    open_model,
)
from reasonweave.orchestrator._sync import wait
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Request, RewardModel
from reasonweave.orchestrator.models.remembered import Memory, RememberedModel, RememberedReward
from reasonweave.orchestrator.registry import Workflow
from reasonweave.orchestrator.solve import Result, asolve, solve
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.types import Completion, Token, Usage
from reasonweave.strategies import BestOfN, ForceAnswer, majority, weighted, whole
from reasonweave.strategies.presets import beam, self_consistency, short_m_at_k, spec_reason
from reasonweave.tasks.base import Example
from reasonweave.tasks.flags import manners
from reasonweave.tasks.lab.task import LabTask
from reasonweave.tasks.opening import fill
from reasonweave.tasks.tuning.command import front_file, tune_
from reasonweave.tasks.tuning.fingerprint import fingerprint
from reasonweave.tasks.tuning.front import pareto
from reasonweave.tasks.tuning.halving import beaten, rungs, sign_test
from reasonweave.tasks.tuning.outcomes import Difference, Figures, Outcome, Outcomes, problem_key, whole_lines
from reasonweave.tasks.tuning.split import Split

PROBLEM = Problem("How many?", "p")
CONTEXT = Context(PROBLEM.messages)


def tear(path: Path) -> None:
    """Leave the beginning of a line at a file's end, as a kill may."""
    with path.open("ab") as file:
        file.write(b'{"key":"torn')


# Models that remember.


def counting() -> ScriptedModel:
    """A model whose n-th draw says n."""
    drawn = iter(range(1, 10_000))
    return ScriptedModel(lambda request: f"draw {next(drawn)}\n\nso \\boxed{{7}}")


def remembered(folder: Path, inner: Model | None = None) -> RememberedModel:
    return RememberedModel(inner or counting(), Memory(folder / "samples.jsonl"))


def said(model: Model, *counts: int, session: Run | None = None, **how: Any) -> list[str]:
    """What a new run is told that asks so often, in calls of these sizes."""
    run = session or Run()

    async def asked() -> list[str]:
        texts = []
        for call, count in enumerate(counts):
            found = await model.generate([CONTEXT] * count, run.child("call", call), sampling=Sampling(**how))
            texts += [each.text.split("\n")[0] for each in found]
        return texts

    return wait(asked())


def test_the_kth_request_of_a_run_gets_the_kth_sample_and_a_new_one_where_there_are_too_few(tmp_path: Path) -> None:
    model = remembered(tmp_path)
    assert said(model, 2) == ["draw 1", "draw 2"]
    assert said(model, 1, 2) == ["draw 1", "draw 2", "draw 3"]  # however the calls are cut
    assert said(model, 5) == [f"draw {k}" for k in range(1, 6)]
    assert said(model, 2, temperature=0.5) == ["draw 6", "draw 7"]  # other samples
    assert said(model, 1, max_tokens=64) == ["draw 8"]
    assert (model.fresh, model.dealt) == (8, 2 + 3)


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=5))
def test_within_a_run_no_sample_comes_twice(tmp_path_factory: pytest.TempPathFactory, runs: list[list[int]]) -> None:
    model = remembered(tmp_path_factory.mktemp("memory"))
    told = [said(model, *counts) for counts in runs]
    assert all(len(set(texts)) == len(texts) for texts in told)
    longest = max(told, key=len)
    assert all(texts == longest[: len(texts)] for texts in told)  # and runs share theirs


def test_greedy_requests_all_get_the_first_sample(tmp_path: Path) -> None:
    model = remembered(tmp_path)
    assert said(model, 3, 1, temperature=0.0) == ["draw 1"] * 4
    assert said(model, 2, temperature=0.0) == ["draw 1"] * 2
    assert model.fresh == 1


def test_another_model_and_another_role_have_samples_of_their_own(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "samples.jsonl")
    draw = counting()
    assert said(RememberedModel(draw, memory, "one"), 1) == ["draw 1"]
    assert said(RememberedModel(draw, memory, "two"), 1) == ["draw 2"]
    other = ScriptedModel(["draw 3"], role="large")
    assert said(RememberedModel(other, memory, "one"), 1) == ["draw 3"]


def test_what_was_drawn_outlives_the_process(tmp_path: Path) -> None:
    first = remembered(tmp_path)
    told = said(first, 3)
    first.memory.close()
    again = remembered(tmp_path, ScriptedModel(["new"]))
    assert said(again, 4) == [*told, "new"]


def test_a_torn_last_line_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    model = remembered(tmp_path)
    said(model, 3)
    model.memory.close()
    path = tmp_path / "samples.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    for kept in range(1, len(lines[-1])):
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
        memory = Memory(path)
        assert (len(memory), memory.dropped) == (2, kept)
        again = RememberedModel(ScriptedModel(["new"]), memory, "scripted")
        assert said(again, 3) == ["draw 1", "draw 2", "new"]
        memory.close()
        assert len(path.read_bytes().splitlines()) == 3
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_file_that_is_no_memory_is_told_by_its_line(tmp_path: Path) -> None:
    model = remembered(tmp_path)
    said(model, 1)
    model.memory.close()
    path = tmp_path / "samples.jsonl"
    path.write_bytes(path.read_bytes() + b'{"problem": 3}\n')
    with pytest.raises(BadInput, match=r"samples.jsonl, line 2: neither a sample nor a rating"):
        Memory(path)


finite = st.floats(allow_nan=False, width=64)
short = st.floats(allow_nan=False, width=32)


@settings(max_examples=60)
@given(st.data())
def test_a_sample_comes_back_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    number = data.draw(st.sampled_from([finite, short, st.none(), st.none() | finite]))
    text = st.text(max_size=4)
    top = st.lists(st.tuples(text, finite), max_size=2).map(tuple)
    tokens = data.draw(st.lists(st.builds(Token, text, number, top), max_size=6).map(tuple))
    written = data.draw(st.just("".join(token.text for token in tokens)) | text)
    usage = Usage(prompt=7, cached=3, completion=len(tokens), calls=1)
    drawn = Completion(written, "stop", usage, tokens, prefix=tokens[:2])

    class Once(Model):
        async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
            return [drawn] * len(requests)

    folder = tmp_path_factory.mktemp("memory")
    found = []
    for _ in range(2):
        model = RememberedModel(Once("once"), Memory(folder / "samples.jsonl"))
        sampling = Sampling(prefix_logprobs=True)
        found += wait(model.generate([CONTEXT], Run(), sampling=sampling))
        model.memory.close()
    assert found[0] == found[1] == drawn


@pytest.mark.parametrize("reason", ["error", "budget"])
def test_what_failed_or_came_late_is_not_kept(reason: Any, tmp_path: Path) -> None:
    class Failing(ScriptedModel):
        async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
            if len(self.calls) == 1:
                self.calls.append(list(requests))
                return [Completion("", reason, Usage(calls=1), error="gone" if reason == "error" else None)] * len(
                    requests
                )
            return await super()._generate(requests)

    inner = Failing(["draw 1", "draw 2", "draw 3"])
    model = remembered(tmp_path, inner)
    assert said(model, 1, 1) == ["draw 1", ""]
    assert said(model, 2) == ["draw 1", "draw 2"]


LAB = LabTask().examples(4)


def lab_parts(memory: Memory | None, roles: Sequence[str], workflow: Workflow) -> dict[str, Any]:
    """The lab's models for a workflow's roles, behind a memory or not."""
    opened: dict[str, Model | RewardModel] = {}
    for role in roles:
        inner = open_model(f"lab/{role}", role=role)
        if memory is not None:
            inner = RememberedModel(inner, memory) if isinstance(inner, Model) else RememberedReward(inner, memory)
        opened[role] = inner
    return fill(workflow, opened)


def runs(
    workflow: Workflow, parts: dict[str, Any], options: dict[str, Any], budget: Budget | None = None
) -> list[Result]:
    strategy = workflow.make(**parts, **options)

    async def main() -> list[Result]:
        found = [await asolve(each.problem, strategy, seed=3, budget=budget) for each in LAB]
        for part in parts.values():
            await getattr(part, "aclose", getattr(getattr(part, "model", None), "aclose", lambda: asyncio.sleep(0)))()
        return found

    return asyncio.run(main())


def shape(result: Result) -> Any:
    """All of a result but the time."""
    return result.answer, result.confidence, result.candidates, dict(result.usage), result.stopped, result.cut


@pytest.mark.parametrize(
    ("make", "roles", "options", "limit"),
    [
        (self_consistency, ["small"], {"n": 5}, None),
        (self_consistency, ["small"], {"n": 5}, Budget(completion_tokens=150)),
        (beam, ["small", "prm"], {"n": 4, "width": 2}, None),
        (beam, ["small", "prm"], {"n": 4, "width": 2}, Budget(flops=3e8)),
        (spec_reason, ["small", "large"], {"n": 2}, None),
        (short_m_at_k, ["small"], {"n": 6, "m": 2}, None),
    ],
    ids=["votes", "votes-in-a-budget", "beam", "beam-in-a-budget", "two-models", "race"],
)
def test_the_first_run_is_what_it_is_without_a_memory_and_the_second_costs_nothing_and_is_charged_the_same(
    make: Any, roles: list[str], options: dict[str, Any], limit: Budget | None, tmp_path: Path
) -> None:
    """To the last bit and the last cached token. Who loses a race depends on the machine, so only its answers count."""
    workflow = Workflow("w", make)
    plain = runs(workflow, lab_parts(None, roles, workflow), options, limit)
    with_memory = []
    for _ in range(2):
        memory = Memory(tmp_path / "samples.jsonl")
        parts = lab_parts(memory, roles, workflow)
        with_memory.append(runs(workflow, parts, options, limit))
        memory.close()
        doors = [part if isinstance(part, RememberedModel) else part.model for part in parts.values()]
        fresh = sum(door.fresh for door in doors)
        assert (fresh == 0) is (len(with_memory) == 2)
    first, second = with_memory
    assert list(map(shape, first)) == list(map(shape, second))
    if make is short_m_at_k:
        assert [(r.answer, r.candidates) for r in plain] == [(r.answer, r.candidates) for r in first]
    else:
        assert list(map(shape, plain)) == list(map(shape, first))


@pytest.mark.parametrize("calls", [0, 1, 3, 6])
def test_budgets_hold_for_samples_that_cost_nothing(calls: int, tmp_path: Path) -> None:
    model = remembered(tmp_path, ScriptedModel())
    flow = chain(BestOfN(whole(model), n=6, max_steps=1), majority, finish=ForceAnswer(model))
    assert solve(PROBLEM, flow).total.calls == 6
    limited = solve(PROBLEM, flow, budget=Budget(calls=calls))
    assert limited.total.calls <= calls
    assert limited.stopped is not None
    inner = ScriptedModel()
    plain = chain(BestOfN(whole(inner), n=6, max_steps=1), majority, finish=ForceAnswer(inner))
    assert shape(limited) == shape(solve(PROBLEM, plain, budget=Budget(calls=calls)))


def test_a_cut_sample_is_charged_what_it_wrote_and_kept_whole(tmp_path: Path) -> None:
    text = " ".join(f"w{k}" for k in range(20))
    model = remembered(tmp_path, ScriptedModel([text]))

    def after_five() -> Any:
        shown: list[str] = []
        return lambda token: shown.append(token.text) or len(shown) == 5

    async def ask(watch: Any) -> Completion:
        run = Run()
        (found,) = await model.generate([CONTEXT], run, sampling=Sampling(), watch=watch)
        run.session.close()
        return found

    for _ in range(2):
        cut = wait(ask(after_five))
        assert (cut.text, cut.finish_reason, cut.usage.completion) == ("w0 w1 w2 w3 w4", "cancelled", 5)
    assert wait(ask(None)).text == text
    assert model.fresh == 1


def test_ratings_are_remembered_by_problem_and_steps_and_failures_are_not(tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    def rate(problem: Problem, steps: Sequence[str]) -> float:
        asked.append((problem.prompt, len(steps)))
        return 0.1 * len(steps)

    def candidate(problem: Problem, *texts: str) -> Candidate:
        return Candidate(problem, tuple(Step(text, "m", 1) for text in texts))

    def scores(candidates: list[Candidate]) -> list[Score]:
        inner = ScriptedReward(rate)
        model = RememberedReward(inner, Memory(tmp_path / "samples.jsonl"))
        run = Run()
        found = wait(model.rate(candidates, run))
        assert run.ledger.spent.calls == len(candidates)  # charged, known or not
        model.memory.close()
        return found

    one, two = candidate(PROBLEM, "a\n\n", "b"), candidate(Problem("Why?"), "a\n\n", "b")
    first = scores([one, two])
    assert len(asked) == 2 * 2
    assert scores([two, one, candidate(PROBLEM, "a\n\n", "c")]) == [*reversed(first), Score(0.2, (0.1, 0.2))]
    assert len(asked) == 2 * 3  # the new one alone

    class Broken(ScriptedReward):
        async def _rate(self, ratings: Any) -> Any:
            return [(Score(math.nan, error="gone"), Usage(calls=1)) for _ in ratings]

    memory = Memory(tmp_path / "broken.jsonl")
    wait(RememberedReward(Broken(), memory).rate([one], Run()))
    assert len(memory) == 0


# The rule of halving.


def outcomes(right: str, cost: float = 1.0) -> list[Outcome]:
    """One a letter: + is right."""
    costs = dict.fromkeys(("flops", "tokens", "usd", "seconds"), cost)
    return [Outcome(letter == "+", True, costs) for letter in right]


def test_rungs() -> None:
    assert [rungs(n) for n in (1, 25, 49, 50, 199, 200, 1000)] == [
        [1],
        [25],
        [49],
        [25, 50],
        [25, 199],
        [25, 100, 200],
        [25, 100, 400, 1000],
    ]


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_sign_test_against_scipy(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("own", "other", "price", "ends"),
    [
        ("----++", "++++++", 1.0, True),  # four wins, no loss: 1 in 16
        ("---+++", "++++++", 1.0, False),  # three: 1 in 8
        ("----++", "++++++", 1.1, False),  # it costs more
        ("----++", "++++++", 0.5, True),
        ("-----+", "+++++-", 1.0, False),  # five wins, one loss: 7 in 64
        ("------+", "++++++-", 1.0, True),  # six and one: 8 in 128
        ("++++++", "++++++", 0.1, False),  # as good and cheaper is not clearly better: more problems may tell
        ("++++++", "------", 0.1, False),
    ],
)
def test_what_ends_a_trial_by_hand(own: str, other: str, price: float, ends: bool) -> None:
    assert beaten(outcomes(own), outcomes(other, price), "flops") is ends


def test_halving_lets_the_better_one_through_as_often_as_it_says() -> None:
    """Two equal workflows of equal cost: each of 400 pairs on 25 problems ends by chance in at most one case of ten; 60 or more
    would have a chance below 1e-3."""
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(400):
        a, b = ("".join("+" if right else "-" for right in rng.random(25) < 0.7) for _ in range(2))
        ended += beaten(outcomes(a), outcomes(b), "flops")
    assert ended < 60


# The front, the split, the statistics.


@given(st.lists(st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), max_size=12))
def test_the_front_against_brute_force(points: list[tuple[float, float]]) -> None:
    def better(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    expected = [
        i
        for i, point in enumerate(points)
        if not any(better(other, point) for other in points) and point not in points[:i]
    ]
    found = pareto(points)
    assert sorted(found) == expected
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


class Listed:
    """A task of these words."""

    name = "listed"

    def __init__(self, *words: str) -> None:
        self.words = words

    def examples(self, limit: int | None = None) -> list[Example]:
        return [Example(Problem(word, f"id-{i % 3}"), "1") for i, word in enumerate(self.words[:limit])]


@given(st.lists(st.sampled_from([f"p{k}" for k in range(30)]), min_size=4, max_size=60), st.integers(0, 3))
def test_held_out_problems_are_others(words: list[str], seed: int) -> None:
    task, distinct = Listed(*words), len(set(words))
    if distinct < 4:
        with pytest.raises(BadInput, match="different problems"):
            Split.of(task, None, None, seed)
        return
    split = Split.of(task, None, None, seed)
    sides = [{problem_key(example) for example in side} for side in (split.search, split.held_out)]
    assert sides[0].isdisjoint(sides[1])
    assert sides[0] | sides[1] == {problem_key(example) for example in task.examples()}
    assert (len(sides[0]), len(sides[1])) == (len(split.search), len(split.held_out))
    assert len(split.search) - len(split.held_out) in (0, 1)
    assert split.digest == Split.of(task, None, None, seed).digest


def test_a_split_of_given_sizes() -> None:
    task = LabTask()
    assert [len(side) for side in (Split.of(task, 20, 10, 0).search, Split.of(task, 20, 10, 0).held_out)] == [20, 10]
    assert len(Split.of(task, 20, None, 0).held_out) == len(Split.of(task, None, 20, 0).search) == 20
    assert Split.of(task, 20, 10, 0).digest != Split.of(task, 20, 10, 1).digest
    with pytest.raises(
        BadInput, match="10 different problems of the 12 that are asked for: 6 to search with and 6 held"
    ):
        Split.of(Listed(*map(str, range(10))), 6, None, 0)


def test_differences_are_paired() -> None:
    """Two that are right on the same problems differ by at most what 80 problems can hide (3.84 / 83.84, Wilson's for none of
    them), whatever their accuracy; on different ones by more."""
    own = outcomes("+-" * 40, 2.0)
    same = Difference.of(own, outcomes("+-" * 40, 4.0), "flops")
    assert (same.accuracy, same.cost) == (0.0, 0.5)
    assert same.interval == pytest.approx((-0.0458, 0.0458), abs=1e-4)
    apart = Difference.of(own, outcomes("-+" * 40, 4.0), "flops")
    assert apart.accuracy == 0.0
    assert apart.interval[0] < -0.1 < 0.1 < apart.interval[1]
    assert Figures.of(own, "tokens").interval == pytest.approx((0.3930, 0.6070), abs=1e-4)


def test_outcomes_are_kept_but_for_failures(tmp_path: Path) -> None:
    example, other = (Example(Problem(text, "same id"), "1") for text in ("a", "b"))
    first = Outcomes(tmp_path / "outcomes.jsonl")
    (good,) = outcomes("+", 3.5)
    first.add("flow", example, good)
    first.add("flow", other, Outcome(False, False, good.costs, error="gone"))
    assert first.of("flow", [example, other]) is not None
    first.close()
    tear(tmp_path / "outcomes.jsonl")
    again = Outcomes(tmp_path / "outcomes.jsonl")
    assert again.of("flow", [example]) == [good]
    assert again.get("flow", other) is None
    again.add("flow", other, good)
    again.close()
    assert len(whole_lines(tmp_path / "outcomes.jsonl")) == 2
    (tmp_path / "outcomes.jsonl").write_text("[]\n")
    with pytest.raises(BadInput, match="line 1: no outcome of a problem"):
        Outcomes(tmp_path / "outcomes.jsonl")


# Which workflow it is.


def above(limit: float) -> Any:
    return lambda found: (found.confidence or 0) > limit


def test_a_fingerprint_tells_closures_apart_and_not_equal_parts() -> None:
    small, large = ScriptedModel(name="a", role="small"), ScriptedModel(name="a", role="large")

    def flow(n: int = 4, model: Model = small, limit: float = 0.5, vote: Any = majority) -> Strategy:
        from_graph = chain(BestOfN(whole(model), n=n), vote)
        from_graph.add(
            "more", BestOfN(whole(model), n=1), after="majority" if vote is majority else "weighted", when=above(limit)
        )
        return from_graph

    assert fingerprint(flow()) == fingerprint(flow())
    assert repr(flow()) == repr(flow(limit=0.6))  # what a repr cannot tell
    different = [flow(), flow(n=5), flow(model=large), flow(limit=0.6), flow(vote=weighted)]
    assert len({fingerprint(each) for each in different}) == len(different)
    assert fingerprint(partial(above, 0.5)) != fingerprint(partial(above, 0.6))
    assert fingerprint(np.arange(5000)) != fingerprint(np.append(np.arange(4999), 7))


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    """Whatever Python's hashes are there."""
    made = "[chain(BestOfN(whole(ScriptedModel()), n=3), majority, ForceAnswer(ScriptedModel())), {'a', 'b', 'c'}]"
    code = (
        "from reasonweave.tasks.tuning.fingerprint import fingerprint; from reasonweave.orchestrator import chain\n"
        "from reasonweave.strategies import BestOfN, ForceAnswer, majority, whole\n"
        f"from reasonweave.orchestrator.testing import ScriptedModel\nprint(fingerprint({made}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.strip() == fingerprint(eval(made))


# The command.

FLOWS = '''
from dataclasses import replace
from typing import Annotated, Literal
from reasonweave.orchestrator import Model, chain
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.space import Between
from reasonweave.strategies import BestOfN, ForceAnswer, majority, whole

def votes(small: Model, *, n: Annotated[int, Between(1, 4)] = 2, cool: bool = False):
    """Votes of the small model."""
    search = BestOfN(whole(small, temperature=0.4 if cool else 0.8, max_tokens=128), n=n, max_steps=1)
    return chain(search, majority, finish=ForceAnswer(small))

def endless(small: Model, *, heat: Annotated[float, Between(0.1, 1)] = 0.8):
    """No two trials alike."""
    return chain(BestOfN(whole(small, temperature=heat, max_tokens=128), n=2, max_steps=1), majority)

def few(small: Model, *, n: Annotated[int, Between(1, 2)] = 1, way: Literal["a", "b"] = "a", unused: bool = False):
    """Four different workflows in eight."""
    return chain(BestOfN(whole(small, max_tokens=128 if way == "a" else 127), n=n, max_steps=1), majority)

def again(found):
    return majority(found)

def once_more(found):
    return majority(found)

def same(small: Model, *, vote: Literal["majority", "again", "once more"] = "majority"):
    """Other parts, the same in effect."""
    votes = {"majority": majority, "again": again, "once more": once_more}
    return chain(BestOfN(whole(small, max_tokens=128), n=1, max_steps=1), votes[vote])

def wrong(found):
    return replace(majority(found), answer="-1")

def bad(small: Model, *, worse: bool = False):
    """One of two is wrong every time, and costs twice as much."""
    return chain(BestOfN(whole(small, max_tokens=128), n=2 if worse else 1, max_steps=1), wrong if worse else majority)

def picky(small: Model, *, n: Annotated[int, Between(1, 4)] = 1):
    """Not every value makes a workflow."""
    if n == 3:
        raise BadInput("three is too many")
    return chain(BestOfN(whole(small, max_tokens=128), n=n, max_steps=1), majority)

def nothing(small: Model, *, word: str = "Wait"):
    """Nothing to tune."""
    return chain(BestOfN(whole(small), n=1), majority)
'''

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(manners()(tune_))
COMMAND = (
    "import typer; from reasonweave.tasks.flags import manners; from reasonweave.tasks.tuning.command import front_file, tune_\n"
    "app = typer.Typer(); app.command()(manners()(tune_)); app()"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "flows.py").write_text(FLOWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tune(*arguments: object) -> Ended:
    return CliRunner().invoke(app, list(map(str, arguments)))


def found_by(*arguments: object) -> dict[str, Any]:
    ended = tune(*arguments, "--json", "--no-plot")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def refused(*arguments: object) -> str:
    ended = tune(*arguments, "--no-plot")
    assert ended.exit_code == 2, ended.output
    *_, last = ended.stderr.splitlines()
    assert last.startswith("error: ")
    return last


SIZES = ("--limit", 12, "--held-out", 8)


def test_a_search_gives_a_front_with_both_figures_that_runs_by_name(folder: Path) -> None:
    ended = tune("flows.py:votes", *SIZES, "--trials", 5, "--study", "s", "--save", "fronts/mine.json")
    assert ended.exit_code == 0, ended.output
    assert all(word in ended.stdout for word in ("held", "defaults", "points", "s/front.png", "fronts/mine.json:"))
    assert "5/5" in ended.stderr
    assert (folder / "s/front.png").stat().st_size > 10_000
    front = json.loads((folder / "fronts/mine.json").read_text())
    assert front["workflow"] == f"{folder}/flows.py:votes"
    assert [entry["search"]["n"] for entry in front["entries"]] == [12] * len(front["entries"])
    assert [entry["held_out"]["n"] for entry in front["entries"]] == [8] * len(front["entries"])
    costs = [entry["search"]["cost"] for entry in front["entries"]]
    scores = [entry["search"]["accuracy"] for entry in front["entries"]]
    assert costs == sorted(costs)
    assert scores == sorted(set(scores))
    assert front["baselines"][0]["name"] == "defaults"
    last = front["entries"][-1]
    named = Workflow.named(f"{folder}/fronts/mine.json:{last['name']}")
    assert named.options == last["options"]
    assert list(named.roles) == ["small"]


def test_what_is_measured_is_what_eval_measures(folder: Path) -> None:
    """The first trial's figures are those of a plain run with the same seed, costs included."""
    data = found_by("flows.py:votes", *SIZES, "--trials", 1, "--study", "s", "--seed", 5)
    split = Split.of(LabTask(), 12, 8, 5)
    workflow = Workflow.named("flows.py:votes")
    strategy = workflow.make(small=open_model("lab/small", role="small"))
    for side, problems in (("search", split.search), ("held_out", split.held_out)):
        results = [solve(e.problem, strategy, seed=Run(5, ("problem", e.problem.id)).seed()) for e in problems]
        told = data["entries"][0][side]
        assert told["accuracy"] == sum(e.correct(r.answer) for e, r in zip(problems, results, strict=True)) / len(
            problems
        )
        assert told["cost"] == pytest.approx(sum(r.total.flops for r in results) / len(problems), rel=1e-12)


def test_options_that_do_not_matter_cost_no_trial_and_a_spent_space_ends_the_search(folder: Path) -> None:
    data = found_by("flows.py:few", *SIZES, "--trials", 30, "--study", "s")
    assert len(data["trials"]) == 4
    assert "the search found no new workflow any more after 4" in data["notes"]


def test_a_trial_that_does_the_same_as_another_ends_at_the_first_rung_and_does_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonweave.tasks.tuning.search.PATIENCE", 4)
    asked = ("flows.py:same", "--limit", 50, "--held-out", 4, "--trials", 9)
    data = found_by(*asked, "--study", "s")
    assert [t["search"]["n"] for t in data["trials"]] == [50]
    assert "4 trials did the same as another one, and do not count" in data["notes"]
    lines = [json.loads(line) for line in (folder / "s/outcomes.jsonl").read_text().splitlines()]
    assert len(lines) == 50 + 25 + 25 + 4  # three workflows, two of them on the first rung, one held out
    again = found_by(*asked, "--study", "s")
    assert again["trials"] == data["trials"]


def test_a_trial_that_is_clearly_beaten_ends_at_its_rung_and_tells_that(folder: Path) -> None:
    """lab/small has 45 % right alone, so that of 25 problems some eleven are won and none is lost."""
    data = found_by("flows.py:bad", "--limit", 50, "--held-out", 4, "--trials", 2, "--study", "s")
    good, worse = data["trials"]
    assert (good["search"]["n"], worse["search"]["n"]) == (50, 25)
    journal = [json.loads(line) for line in (folder / "s/journal.log").read_text().splitlines()]
    values = [line["values"] for line in journal if line.get("values")]
    expected = [[t["search"]["accuracy"], math.log10(t["search"]["cost"])] for t in data["trials"]]
    assert values == pytest.approx(np.array(expected))
    assert [entry["name"] for entry in data["entries"]] == ["t0"]


def test_options_that_make_no_workflow_are_told_and_do_not_end_the_search(folder: Path) -> None:
    data = found_by("flows.py:picky", *SIZES, "--trials", 12, "--study", "s")
    assert {t["options"]["n"] for t in data["trials"]} == {1, 2, 4}
    assert any("three is too many" in note for note in data["notes"])


def test_settings_fix_options_and_a_baseline_is_compared(folder: Path) -> None:
    data = found_by("flows.py:votes", *SIZES, "--trials", 3, "--study", "s", "-S", "cool=yes", "--against", "single")
    assert {t["options"]["cool"] for t in data["trials"]} == {True}
    (baseline,) = data["baselines"]
    assert (baseline["name"], baseline["held_out"]["n"], data["reference"]) == ("single", 8, "single")
    assert all(entry["against"]["held_out"]["cost_ratio"] > 0.5 for entry in data["entries"])


def test_a_later_run_costs_no_samples_and_goes_on_where_it_was(folder: Path) -> None:
    first = found_by("flows.py:votes", *SIZES, "--trials", 3, "--study", "s")
    samples = (folder / "s/samples.jsonl").read_bytes()
    assert found_by("--study", "s", "--trials", 3) == first
    assert (folder / "s/samples.jsonl").read_bytes() == samples
    more = found_by("--study", "s", "--trials", 5)
    assert more["trials"][:3] == first["trials"]
    assert more == found_by("flows.py:votes", *SIZES, "--trials", 5, "--study", "t") | {"folder": "s"}


def begun(folder: Path, *arguments: object, lines: int) -> subprocess.Popen[str]:
    """A study under way, with so many problems measured."""
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, arguments)],
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGINT, heard)
    file, deadline = folder / "k/outcomes.jsonl", time.monotonic() + 60
    while time.monotonic() < deadline and (not file.exists() or file.read_bytes().count(b"\n") < lines):
        time.sleep(0.01)
    return process


def test_a_killed_study_goes_on_and_comes_to_the_same(folder: Path) -> None:
    """Killed in the middle of a trial, with a torn line in each file: no finished problem is measured again, and the end is that
    of a study that nobody killed."""
    asked = ["flows.py:votes", *SIZES, "--trials", 6, "--study"]
    whole_study = found_by(*asked, "s")
    process = begun(folder, *asked, "k", "--no-plot", "--max-connections", 1, lines=30)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = (folder / "k/outcomes.jsonl").read_bytes().rpartition(b"\n")[0].splitlines()
    assert 30 <= len(before) < 6 * 12
    for name in ("outcomes.jsonl", "samples.jsonl", "journal.log"):
        tear(folder / "k" / name)
    (folder / "k/journal.log.lock").symlink_to("journal.log")  # as a process leaves it that dies while it writes
    began = time.monotonic()
    again = found_by("--study", "k", "--trials", 6)
    assert time.monotonic() - began < 25  # optuna itself would wait 30 seconds for the lock
    assert again | {"folder": "s"} == whole_study
    after = (folder / "k/outcomes.jsonl").read_bytes().splitlines()
    assert after[: len(before)] == before
    keys = [(line["workflow"], line["problem"]) for line in map(json.loads, after)]
    assert len(keys) == len(set(keys))


def test_ctrl_c_ends_with_the_front_so_far(folder: Path) -> None:
    asked = ["flows.py:endless", "--limit", 40, "--held-out", 40, "--trials", 500, "--study", "k", "--no-plot"]
    process = begun(folder, *asked, lines=60)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    told, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "go on with: reasonweave tune --study k --trials 500" in errors
    front = json.loads((folder / "k/front.json").read_text())
    assert front["entries"][0]["search"]["n"] == 40
    assert front["entries"][0]["name"] in told


def test_minutes_end_the_search_and_not_what_follows(folder: Path) -> None:
    data = found_by("flows.py:endless", *SIZES, "--trials", 10_000, "--study", "s", "--minutes", 0.05)
    assert any("ended after 0.05 minutes" in note for note in data["notes"])
    assert all(entry["held_out"]["n"] == 8 for entry in data["entries"])


def test_time_is_measured_on_new_samples(folder: Path) -> None:
    data = found_by("flows.py:few", *SIZES, "--trials", 2, "--study", "s", "--cost", "seconds")
    assert not (folder / "s/samples.jsonl").exists()
    assert all(0 < t["search"]["cost"] < 60 for t in data["trials"])


def test_no_time_for_anything_is_said(folder: Path) -> None:
    told = refused("flows.py:endless", *SIZES, "--study", "s", "--minutes", 0)
    assert told == "error: nothing was measured in 0 minutes; go on with more: reasonweave tune --study s --trials 40"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["flows.py:nothing"], "nothing has nothing to tune: word is neither a number nor a choice"),
        (["flows.py:votes", "-S", "m=3"], "no option 'm'"),
        (["flows.py:votes", "-S", "n=many"], "n='many' is no whole number"),
        (["flows.py:few", "-S", "way=c"], "way='c' is not one of a, b"),
        (["flows.py:vote"], "no workflow 'vote'; did you mean 'votes'"),
        (["flows.py:votes", "--cost", "money"], "--cost money: one of flops, tokens, usd, seconds is needed"),
        (["flows.py:votes", "--cost", "usd", *SIZES], "--cost usd: no model here has a price"),
        (["flows.py:votes", "--budget", "token=3"], "did you mean tokens?"),
        (["flows.py:votes", "--against", "singel"], "no workflow 'singel'; did you mean 'single'"),
        (["flows.py:votes", "--task", "none.jsonl"], "there is no such file"),
        ([], "name a workflow to tune"),
        (["flows.py:votes", "--study", "."], "there are files in it, and none is a study"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[Any], told: str, folder: Path) -> None:
    assert told in refused(*arguments)
    made = [path for path in folder.glob("runs/*") if not (path / "study.json").exists()]
    assert not made


def test_a_study_is_about_one_thing(folder: Path) -> None:
    found_by("flows.py:few", *SIZES, "--trials", 1, "--study", "s")
    assert "this study has 0 for --seed, and 3 is given" in refused("--study", "s", "--seed", 3)
    assert "'flops' for --cost, and 'tokens' is given" in refused("--study", "s", "--cost", "tokens")
    assert "for the workflow" in refused("flows.py:votes", "--study", "s")
    (folder / "flows.py").write_text(FLOWS.replace("max_tokens=128", "max_tokens=64"))
    assert "flows.py:few is not what it was when this study began" in refused("--study", "s")
    (folder / "s/study.json").write_text('{"form": 9, "study": {}}')
    assert "upgrade reasonweave" in refused("--study", "s")
    (folder / "s/study.json").write_text("[]")
    assert "no study of `reasonweave tune`" in refused("--study", "s")


def test_two_processes_do_not_share_a_study(folder: Path) -> None:
    process = begun(folder, "flows.py:endless", "--limit", 40, "--trials", 500, "--study", "k", lines=1)
    try:
        assert "another process is at work on this study" in refused("--study", "k")
    finally:
        process.kill()
        process.communicate()


def test_without_optuna_one_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert refused("flows.py:few") == "error: tune needs optuna: pip install 'reasonweave[tune]'"


def test_the_command_line_has_it_and_does_not_load_optuna() -> None:
    code = "import sys, reasonweave.tasks.cli as c; print(*(m.name for m in c.app.registered_commands), 'optuna' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tune" in told
    assert told[-1] == "False"


def test_a_failing_server_ends_the_search_and_is_asked_again_later(folder: Path) -> None:
    """A part that raises on every problem: the study stops at the first trial and says why, and nothing of it is kept."""
    (folder / "flows.py").write_text(
        FLOWS
        + "\nbroken = True\n"
        + '''
def server(small: Model, *, n: Annotated[int, Between(1, 2)] = 1):
    """A vote that fails while a file says so."""
    from pathlib import Path
    def vote(found):
        if Path("down").exists():
            raise RuntimeError("no route to host")
        return majority(found)
    return chain(BestOfN(whole(small, max_tokens=128), n=n, max_steps=1), vote)
'''
    )
    (folder / "down").touch()
    ended = tune("flows.py:server", *SIZES, "--trials", 2, "--study", "s", "--no-plot")
    assert ended.exit_code == 1
    assert "t0: 12 of 12 problems failed, the first with" in ended.stderr
    assert "no route to host" in ended.stderr
    assert (folder / "s/outcomes.jsonl").read_text() == ""
    (folder / "down").unlink()
    assert len(found_by("--study", "s", "--trials", 2)["trials"]) == 2


TUNABLE = Path(__file__).parents[2] / "examples" / "workflows" / "tunable.py"


def test_what_cannot_work_is_told_before_anything_is_paid(tmp_path: Path) -> None:
    def told(*flags: str) -> str:
        ended = tune(
            TUNABLE, "--limit", 10, "--held-out", 10, "--display", "none", "--study", tmp_path / "study", *flags
        )
        assert ended.exit_code == 2
        assert all(not file.stat().st_size for file in (tmp_path / "study").glob("outcomes.jsonl"))
        return " ".join(ended.output.split())

    (tmp_path / "file").write_text("no folder")
    assert "no model here has a price" in told("--cost", "usd")
    assert "ends in .json" in told("--save", str(tmp_path / "front"))
    assert "nothing can be written there" in told("--save", "/proc/nowhere/front.json")
    assert "no folder can be made there" in tune(TUNABLE, "--study", tmp_path / "file").output
    assert front_file(tmp_path) == tmp_path / "front.json"
