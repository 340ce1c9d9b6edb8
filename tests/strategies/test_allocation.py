"""Batch allocation: whose turn it is, against rules worked out anew, and what it costs."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from reasonweave.orchestrator import (
    BadInput,
    Batch,
    Budget,
    Candidate,
    Candidates,
    Ledger,
    Problem,
    Run,
    Step,
    Usage,
    asolve_each,
    drive,
    solve_each,
)
from reasonweave.orchestrator.testing import ScriptedModel, check_strategy
from reasonweave.orchestrator.trace import Generated
from reasonweave.strategies import (
    Allocation,
    Sharpened,
    Until,
    evenly,
    likelihood,
    majority,
    optimistic,
    posterior,
    regret,
    unsettled,
    whole,
)
from reasonweave.strategies.searches.allocation import Rule

RULES: list[Rule] = [regret, optimistic, unsettled, evenly]


@dataclass(frozen=True, eq=False)
class Recorded:
    """Gives sample k of a problem its k-th answer, with its log-probability; keeps the order, and how many are under way."""

    answers: dict[str, Sequence[str | None]]
    logprobs: dict[str, Sequence[float]] = field(default_factory=dict)
    order: list[tuple[str, int]] = field(default_factory=list)
    busy: list[int] = field(default_factory=lambda: [0])
    at_most: list[int] = field(default_factory=lambda: [0])

    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        k = int(run.path[run.path.index("sample") + 1])
        (candidate,) = candidates
        name = candidate.problem.id
        self.order.append((name, k))
        self.busy[0] += 1
        self.at_most[0] = max(self.at_most[0], self.busy[0])
        await asyncio.sleep(0)
        self.busy[0] -= 1
        answer = self.answers[name][k]
        text = "no idea" if answer is None else f"\\boxed{{{answer}}}"
        logprob = self.logprobs[name][k] if name in self.logprobs else None
        return [candidate.extend(Step(text, "record", 4, logprob), done=True)]


def problems(record: Recorded) -> list[Problem]:
    return [Problem(f"q {name}", name) for name in record.answers]


def allocate(allocation: Allocation, asked: Sequence[Problem], seed: int = 1) -> Candidates:
    return asyncio.run(drive(allocation, Candidates.of(*asked), Run(seed)))


def counts(found: Candidates) -> dict[str, int]:
    return {problem.id: sum(bool(c.steps) for c in own) for problem, own in found.by_problem().items()}


def record_of(seed: int, size: int, length: int = 12) -> Recorded:
    """Problems of all kinds: the chance of each of six answers is drawn anew for each problem."""
    rng = np.random.default_rng(seed)
    answers = {}
    for name in "abcdefgh"[:size]:
        shares = rng.dirichlet(np.full(6, 0.7))
        answers[name] = [None if rng.random() < 0.05 else str(x) for x in rng.choice(6, length, p=shares)]
    return Recorded(answers)


# What one more sample is worth.


def beta_expectation(a: float, b: float, of: object) -> float:
    density = stats.beta(a + 1, b + 1).pdf
    return float(integrate.quad(lambda x: density(x) * of(x), 0, 1, points=[0.5])[0])  # type: ignore[operator]


VOTES = st.tuples(st.floats(0, 20), st.floats(0, 20)).map(lambda pair: (max(pair), min(pair)))


@settings(deadline=None, max_examples=50)
@given(VOTES, st.floats(0, 40))
def test_rules_against_integration(votes: tuple[float, float], further: float) -> None:
    a, b = votes
    n = a + b + further
    arrays = [np.array([x]) for x in (a, b, n)]
    behind = beta_expectation(a, b, lambda x: x < 0.5)
    assert unsettled(*arrays)[0] == pytest.approx(behind, abs=1e-7)
    loss = beta_expectation(a, b, lambda x: max(0.0, 1 - 2 * x))
    assert regret(*arrays)[0] == pytest.approx((a + b + 2) / (n + 3) * loss, abs=1e-7)

    def right(a: float, b: float) -> float:
        p = beta_expectation(a, b, lambda x: x > 0.5)
        return max(p, 1 - p)

    gain = max(right(a + 1, b), right(a, b + 1)) - right(a, b)
    assert optimistic(*arrays)[0] == pytest.approx(gain, abs=1e-6)


def test_rules_by_hand() -> None:
    """Beta(2, 1) and Beta(3, 1) have the densities 2x and 3x²; Beta(2, 2) has 6x(1 − x)."""
    a, b, n = np.array([1.0, 2.0, 1.0]), np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 2.0])
    assert unsettled(a, b, n) == pytest.approx([1 / 4, 1 / 8, 1 / 2])
    assert regret(a, b, n) == pytest.approx([3 / 4 / 12, 4 / 5 / 32, 4 / 5 * 3 / 16])
    assert optimistic(a, b, n) == pytest.approx([1 / 8, 1 / 16, 3 / 16])
    assert evenly(a, b, n).tolist() == [-1, -2, -2]
    assert Until(0.8)(a, b, n).tolist() == [-1, -math.inf, -2]


def test_a_problem_without_a_winner_is_left_alone_in_the_end() -> None:
    """Where all answers differ, regret falls with every sample, and the doubt about the leader does not."""
    n = np.arange(2.0, 40.0)
    tie = np.ones_like(n)
    assert (np.diff(regret(tie, tie, n)) < 0).all()
    assert (np.diff(unsettled(tie, tie, n)) == 0).all()


# Whose turn it is.


def turns(record: Recorded, rule: Rule, total: int, least: int, most: int) -> Counter[str]:
    """How many samples each problem gets, one at a time, worked out with plain loops. Equals are left out of it: None."""
    drawn: Counter[str] = Counter(dict.fromkeys(record.answers, least))
    for _ in range(total - sum(drawn.values())):
        worth = {}
        for name, answers in record.answers.items():
            if drawn[name] < most:
                votes = Counter(a for a in answers[: drawn[name]] if a is not None)
                a, b = (*sorted(votes.values(), reverse=True), 0, 0)[:2]
                worth[name] = float(rule(np.array([float(a)]), np.array([float(b)]), np.array([float(drawn[name])]))[0])
        if not worth:
            break
        top = max(worth.values())
        fewest = min(drawn[name] for name, value in worth.items() if value == top)
        first = [name for name, value in worth.items() if value == top and drawn[name] == fewest]
        if len(first) > 1:
            drawn["tied"] = 1
            return drawn
        drawn[first[0]] += 1
    return drawn


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from(RULES), st.floats(2, 8), st.integers(1, 2))
def test_against_plain_loops(seed: int, size: int, rule: Rule, average: float, least: int) -> None:
    record = record_of(seed, size)
    total = round(average * size)
    found = allocate(Allocation(record, average, least, most=10, rule=rule, batch=1), problems(record))
    wanted = turns(record, rule, total, least, 10)
    if not wanted.pop("tied", 0):
        assert counts(found) == dict(wanted)
    assert len(record.order) == total == len(found)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 8),
    st.sampled_from(RULES),
    st.floats(3, 6),
    st.integers(1, 3),
    st.integers(1, 9),
    st.randoms(),
)
def test_promises(seed: int, size: int, rule: Rule, average: float, least: int, batch: int, shuffle: object) -> None:
    record = record_of(seed, size)
    allocation = Allocation(record, average, least, most=8, rule=rule, batch=batch)
    asked = problems(record)
    found = allocate(allocation, asked)
    mine = counts(found)
    assert sum(mine.values()) == round(average * size)
    assert all(least <= k <= 8 for k in mine.values())
    assert record.at_most[0] <= batch
    assert Counter(record.order).most_common(1)[0][1] == 1
    assert [c.problem.id for c in found] == sorted(c.problem.id for c in found)
    again = record_of(seed, size)
    shuffle.shuffle(asked)  # type: ignore[attr-defined]
    turned = allocate(Allocation(again, average, least, most=8, rule=rule, batch=batch), asked)
    assert counts(turned) == mine
    assert again.order == record.order  # to the last sample, ties included


def test_a_sample_is_the_same_whatever_the_rule_and_the_company() -> None:
    model = ScriptedModel()
    asked = [Problem(f"question {i}", str(i)) for i in range(6)]
    texts = [
        {
            p.id: [c.text for c in own]
            for p, own in allocate(Allocation(whole(model), average, rule=rule), some).by_problem().items()
        }
        for average, rule, some in [(6.0, evenly, asked), (4.0, regret, asked), (5.0, optimistic, asked[3:])]
    ]
    for fewer in texts[1:]:
        for name, own in fewer.items():
            shared = min(len(own), 6)
            assert own[:shared] == texts[0][name][:shared]


def test_ties_are_drawn_by_the_seed() -> None:
    answers = {name: ["1"] * 4 for name in "abcd"}
    first: Counter[str] = Counter()
    for seed in range(200):
        found = allocate(Allocation(Recorded(answers), 2.25, batch=1), problems(Recorded(answers)), seed)
        first.update(name for name, k in counts(found).items() if k == 3)
    assert sum(first.values()) == 200
    assert min(first[name] for name in answers) > 20  # below by chance once in a hundred million


def test_more_goes_where_it_matters() -> None:
    sure, torn = ["1"] * 16, ["1", "2"] * 8
    record = Recorded({f"{i}": torn if i % 4 == 0 else sure for i in range(16)})
    mine = counts(allocate(Allocation(record, 4.0, rule=regret), problems(record)))
    assert min(mine[str(i)] for i in range(0, 16, 4)) > 2 * max(mine[str(i)] for i in range(16) if i % 4)


def test_until_leaves_what_is_not_needed() -> None:
    record = Recorded({"a": ["1"] * 12, "b": ["1", "2"] * 6})
    mine = counts(allocate(Allocation(record, 12.0, 1, 12, rule=Until(0.95)), problems(record)))
    assert mine == {"a": 4, "b": 12}  # four votes are enough for 0.95, see BetaStop


def test_weights_count_in_units_of_their_mean() -> None:
    """Twice every weight changes nothing; a sure lead and an unsure one of as many votes are told apart."""
    answers = {"a": ["1", "2", "1", "1"], "b": ["1", "2", "1", "1"], "c": ["1", "1", "1", "1"]}
    for shift in (0.0, math.log(2)):
        logs = {
            "a": [x - shift for x in (-0.1, -5.0, -1.0, -1.0)],
            "b": [-2.0 - shift] * 4,
            "c": [-1.0 - shift] * 4,
        }
        record = Recorded(answers, logs)
        found = allocate(Allocation(record, 7 / 3, batch=1, weigh=likelihood), problems(record))
        assert counts(found) == {"a": 2, "b": 3, "c": 2}
        assert found[0].log_weight == pytest.approx(-0.1 - shift)
    flat = allocate(Allocation(Recorded(answers), 3.0, weigh=likelihood), problems(Recorded(answers)))
    assert counts(flat) == counts(allocate(Allocation(Recorded(answers), 3.0), problems(Recorded(answers))))
    assert set(flat.log_weights) == {-math.inf}  # nothing is known: each counts one, and the vote is a majority
    assert posterior(flat.by_problem()[Problem("q a", "a")]).answer == "1"


def test_measures() -> None:
    known = Candidate(Problem("q"), (Step("a", "m", 2, -1.0), Step("b", "m", 2, -1.0)))
    assert likelihood(known) == pytest.approx(math.exp(-2))
    assert Sharpened(power=4)(known) == pytest.approx(math.exp(-2))
    assert math.isnan(likelihood(Candidate(Problem("q"), (Step("a", "m", 2),))))


def test_roots_of_one_problem_are_continued_in_turn() -> None:
    model = ScriptedModel(["so \\boxed{1}"])
    problem = Problem("q", "a")
    roots = Candidates(tuple(Candidate(problem, (Step(f"start {i}\n\n", "m", 2),)) for i in range(2)))
    found = asyncio.run(drive(Allocation(whole(model), 4.0), roots, Run()))
    assert sorted(c.steps[0].text for c in found) == ["start 0\n\n"] * 2 + ["start 1\n\n"] * 2


@pytest.mark.parametrize(
    "wrong", [{"average": 1.0}, {"least": 0}, {"most": 4}, {"batch": 0}, {"average": math.nan}, {"max_steps": 0}]
)
def test_numbers_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="least <= average <= most"):
        Allocation(whole(ScriptedModel()), **wrong)  # type: ignore[arg-type]


def test_it_is_a_strategy_for_one_problem_too(problem: Problem) -> None:
    check_strategy(Allocation(whole(ScriptedModel()), 4.0), problem)


# One budget for all.


class Short(ScriptedModel):
    """Writes one of three answers, in four words."""

    def __init__(self, **further: object) -> None:
        super().__init__(lambda request: f"so it is \\boxed{{{request.seed % 3}}}", **further)  # type: ignore[arg-type]


QUESTIONS = [Problem(f"question {i}", f"p{i}") for i in range(20)]


def batch(tokens: float | None = None, **further: object) -> tuple[Batch, Ledger]:
    ledger = Ledger(Budget(tokens=tokens))
    allocation = Allocation(whole(Short(latency=0.001), max_tokens=4), **further)  # type: ignore[arg-type]
    return asyncio.run(asolve_each(QUESTIONS, allocation, majority, seed=3, within=ledger)), ledger


def test_results_of_a_batch() -> None:
    found, ledger = batch()
    assert [r.problem for r in found] == QUESTIONS
    assert len(found) == 20
    assert found[-1].problem is QUESTIONS[-1]
    assert Usage.total([r.total for r in found]) == found.total == ledger.spent
    assert found.total.calls == 120
    for result in found:
        assert result.total.calls == len(result.candidates)
        assert all(c.problem == result.problem for c in result.candidates)
        votes = Counter(c.answer for c in result.candidates)
        assert votes[result.answer] == max(votes.values())
        assert result.confidence == pytest.approx(max(votes.values()) / len(result.candidates))
        assert result.stopped is None
    assert (
        solve_each(QUESTIONS, Allocation(whole(Short(), max_tokens=4)), majority, seed=3)[4].answer == found[4].answer
    )


@pytest.mark.parametrize("tokens", [0, 3, 50, 333, 700])
def test_a_budget_holds_for_the_whole_batch(tokens: int) -> None:
    found, ledger = batch(tokens)
    assert found.tokens == ledger.spent.tokens <= tokens
    assert ledger.held == Usage()
    assert len(found) == 20
    assert Usage.total([r.total for r in found]) == found.total
    assert found.stopped is not None
    assert all(r.stopped == found.stopped for r in found)
    samples = sum(len(r.candidates) for r in found if r.total.calls)
    assert samples == found.total.calls  # what was paid for is there, the last batch's too
    assert sum(r.answer is not None for r in found) == sum(bool(r.total.calls) for r in found)


def test_a_broken_part_is_heard() -> None:
    def broken(request: object) -> str:
        raise ZeroDivisionError("no script")

    with pytest.raises(ZeroDivisionError, match="no script"):
        solve_each(QUESTIONS, Allocation(whole(ScriptedModel(broken))), majority)


def test_problems_need_names_of_their_own() -> None:
    with pytest.raises(BadInput, match="two problems are called 'a'"):
        solve_each([Problem("x", "a"), Problem("y", "a")], Allocation(whole(Short())), majority)
    with pytest.raises(BadInput, match="is no strategy"):
        solve_each(["x"], majority, majority)  # type: ignore[arg-type]
    assert len(solve_each(["x", "y"], Allocation(whole(Short())), majority)) == 2
    assert len(solve_each([], Allocation(whole(Short())), majority)) == 0


def test_calls_are_told_apart_by_problem() -> None:
    paths = []
    solve_each(
        QUESTIONS[:2],
        Allocation(whole(Short()), 2.0),
        majority,
        trace=lambda event: paths.append(event.path[:4]) if isinstance(event, Generated) else None,
    )
    assert sorted(paths) == [("problem", f"p{i}", "sample", k) for i in range(2) for k in range(2)]
