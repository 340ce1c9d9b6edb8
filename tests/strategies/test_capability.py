"""Capability-aware sampling and pruning half-way: who goes on, by traces worked by hand."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import PROBLEM as TOY
from toy import Table, Toy, Walk

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Problem,
    Run,
    Score,
    Step,
    chain,
    solve,
)
from reasonweave.orchestrator.registry import Workflow
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward, check_strategy
from reasonweave.strategies import PruneMidway, Warming, best, restarts, whole
from reasonweave.verifiers import ProcessReward

PROBLEM = Problem("q")


@dataclass(frozen=True, eq=False)
class Scripted:
    """Gives each candidate of a call its own word, "a", "b", …, which every later step repeats; a word ends after its steps."""

    lengths: dict[str, int]
    asked: list[list[str]] = field(default_factory=list)

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        self.asked.append([c.text for c in candidates])
        words = list(self.lengths)
        made = []
        for i, candidate in enumerate(candidates):
            word = candidate.text[:1] or words[i]
            steps = len(candidate.steps) + 1
            done = steps == self.lengths[word]
            text = (
                f"\\boxed{{{word}}}" if done and steps > 1 else f"{word}" if not done else f"{word} \\boxed{{{word}}}"
            )
            made.append(candidate.extend(Step(text, "s", 1), done=done))
        return made


@dataclass(frozen=True, eq=False)
class Known:
    """Scores a text by its first letter; counts how often it is asked."""

    values: dict[str, float]
    asked: list[list[str]] = field(default_factory=list)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.asked.append([c.text for c in candidates])
        return [Score(self.values[c.text[0]]) for c in candidates]


def search(strategy: PruneMidway, budget: Budget | None = None) -> list[Candidates]:
    async def collect() -> list[Candidates]:
        return [found async for found in strategy.search(Candidates.of(PROBLEM), Run(1))]

    return asyncio.run(collect())


def letters(candidates: Candidates) -> str:
    return "".join(c.text[0] for c in candidates)


def test_the_best_share_goes_on_and_who_has_ended_stays() -> None:
    policy = Scripted({"a": 4, "b": 3, "c": 1, "d": 4, "e": 4, "f": 2, "g": 4, "h": 3})
    known = Known({"a": 0.1, "b": 0.8, "c": 0.05, "d": 0.9, "e": math.nan, "f": 0.2, "g": 0.3, "h": 0.4})
    sets = search(PruneMidway(policy, known, n=8, at=2, keep=0.25))
    assert [letters(found) for found in sets] == ["abcdefgh", "abcdefgh", "bcdf", "bcdf", "bcdf", "bcdf"]
    assert [len(asked) for asked in policy.asked] == [
        8,
        7,
        2,
        1,
    ]  # c and f had ended; b and d are the best two of eight
    assert [len(asked) for asked in known.asked] == [8, 2]  # the midway score of c and f was of all that they wrote
    assert best(sets[-1]).answer == "d"
    assert all(c.done and c.score is not None for c in sets[-1])


@pytest.mark.parametrize(("keep", "left"), [(0.1, 1), (0.25, 1), (0.26, 2), (0.5, 2), (1.0, 4)])
def test_how_many_go_on(keep: float, left: int) -> None:
    policy = Scripted(dict.fromkeys("abcd", 3))
    sets = search(PruneMidway(policy, Known(dict(zip("abcd", (0.1, 0.2, 0.3, 0.4), strict=True))), 4, 1, keep))
    assert letters(sets[-1]) == "abcd"[4 - left :]


def test_nobody_is_asked_where_all_have_ended() -> None:
    known = Known(dict.fromkeys("ab", 0.5))
    sets = search(PruneMidway(Scripted({"a": 1, "b": 1}), known, 2, 3, judged=False))
    assert known.asked == []
    assert letters(sets[-1]) == "ab"
    search(PruneMidway(Scripted({"a": 1, "b": 1}), known, 2, 1))
    assert known.asked == [["a \\boxed{a}", "b \\boxed{b}"]]


def test_nobody_is_pruned_where_the_verifier_is_silent() -> None:
    known = Known(dict.fromkeys("abcd", math.nan))
    sets = search(PruneMidway(Scripted(dict.fromkeys("abcd", 2)), known, 4, 1, 0.5))
    assert letters(sets[-1]) == "ab"  # as many as asked for, whoever they are


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 3), st.floats(0.05, 1))
def test_pruning_keeps_the_best_prefixes(seed: int, n: int, at: int, keep: float) -> None:
    toy = Toy(seed)
    strategy = PruneMidway(Walk(toy), Table(toy.values), n, at, keep)

    async def collect() -> list[Candidates]:
        return [found async for found in strategy.search(Candidates.of(TOY), Run(seed))]

    sets = asyncio.run(collect())
    assert sets[-1].all_done
    assert all(c.text in toy.leaves for c in sets[-1])
    before = next((s for s in sets if max(len(c.steps) for c in s) == at and not s.all_done), None)
    if before is not None:
        values = sorted((toy.values[c.text] for c in before), reverse=True)
        bar = values[math.ceil(keep * n) - 1]
        kept = sets[sets.index(before) + 1]
        assert len(kept) >= math.ceil(keep * n)
        assert all(c.done or toy.values[c.text] >= bar for c in kept)
        assert sum(toy.values[c.text] > bar for c in before) == sum(toy.values[c.text] > bar for c in kept)


def test_pruning_by_exact_values_is_better_than_none() -> None:
    """16 begun and 4 finished, by exact values, end better than 4 that were just sampled: 4 standard errors apart."""
    toy = Toy(5, depth=6, early=0.1)
    policy, values = Walk(toy), Table(toy.values | toy.rewards)

    async def one(strategy: PruneMidway, seed: int) -> float:
        found = [s async for s in strategy.search(Candidates.of(TOY), Run(seed))][-1]
        return sum(toy.rewards[c.text] for c in found) / len(found)

    async def means(strategy: PruneMidway) -> list[float]:
        return [await one(strategy, seed) for seed in range(400)]

    pruned = asyncio.run(means(PruneMidway(policy, values, 16, 3, 0.25)))
    plain = asyncio.run(means(PruneMidway(policy, values, 4, 3, 1.0)))
    gain = [p - q for p, q in zip(pruned, plain, strict=True)]
    mean = sum(gain) / len(gain)
    deviation = math.sqrt(sum((g - mean) ** 2 for g in gain) / (len(gain) - 1))
    assert mean > 4 * deviation / math.sqrt(len(gain))


@pytest.mark.parametrize("wrong", [{"n": 0}, {"at": 0}, {"keep": 0.0}, {"keep": 1.1}, {"max_steps": 0}])
def test_numbers_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="1 or more"):
        PruneMidway(Scripted({}), Known({}), **wrong)  # type: ignore[arg-type]


# Restarts.


@dataclass(frozen=True, eq=False)
class Sworn:
    """Reads the score off the text: "says 0.7"."""

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(float(c.text.split("says ")[1].split()[0])) for c in candidates]


def saying(*values: float) -> ScriptedModel:
    return ScriptedModel([f"says {value} \\boxed{{{i}}}" for i, value in enumerate(values)])


@pytest.mark.parametrize(
    ("threshold", "samples", "answer"), [(0.1, 1, "0"), (0.5, 3, "2"), (0.7, 4, "3"), (0.9, 4, "3")]
)
def test_restarts_end_when_one_is_good_enough_and_the_best_answers(threshold: float, samples: int, answer: str) -> None:
    model = saying(0.3, 0.2, 0.6, 0.8)
    result = solve("q", chain(restarts(whole(model), Sworn(), n=4, threshold=threshold), best))
    assert (result.answer, len(model.calls)) == (answer, samples)


def test_the_best_answers_though_a_later_one_was_worse() -> None:
    assert solve("q", chain(restarts(whole(saying(0.3, 0.7, 0.2)), Sworn(), n=3, threshold=0.9), best)).answer == "1"


def test_warming_rises_from_greedy_to_the_top() -> None:
    heats = [Warming(0.8)(i) for i in range(12)]
    assert heats[:3] == pytest.approx([0, 0.4, 0.6])
    assert heats == sorted(heats)
    assert heats[-1] == pytest.approx(0.8, abs=1e-3)


# The presets.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("capability-aware", {"n": 4, "threshold": 0.8, "warming": True}),
        ("prune-midway", {"n": 6, "at": 1, "keep": 0.5, "end": "majority"}),
        ("attempts", {"n": 3, "threshold": 0.9}),
        ("attempts", {"n": 3, "threshold": 0.9, "answer": True}),
        ("attempts", {"n": 0}),
    ],
)
def test_presets_keep_their_promises(name: str, options: dict[str, object], problem: Problem) -> None:
    parts = {"small": ScriptedModel(name="small"), "prm": ProcessReward(ScriptedReward(name="prm"))}
    check_strategy(Workflow.named(name).make(**parts, **options), problem)


def test_attempts_abstain_unless_told_to_answer() -> None:
    parts = {"small": ScriptedModel(name="small"), "prm": ProcessReward(ScriptedReward(lambda p, s: 0.3, name="prm"))}
    make = Workflow.named("attempts").make
    none = solve("q", make(**parts, n=3))
    assert (none.answer, none.candidates.abstains) == (None, True)
    some = solve("q", make(**parts, n=3, answer=True))
    assert (some.answer is not None, some.candidates.abstains) == (True, False)
    assert len(none.candidates) == len(some.candidates) == 3
