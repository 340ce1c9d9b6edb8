"""Strategies that stop early: timing changes nothing that they read, what they leave is shown, and what is paid is kept."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np
import pytest
from support import said

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Completion,
    Ledger,
    Model,
    OverBudget,
    Problem,
    Request,
    Run,
    Score,
    Step,
    Token,
    Usage,
    solve,
)
from reasonweave.orchestrator.budget import Rates
from reasonweave.orchestrator.models.base import cut_at, unwatched
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.orchestrator.registry import Workflow
from reasonweave.orchestrator.testing import ScriptedModel, check_strategy
from reasonweave.strategies import (
    ESC,
    AdaptiveConsistency,
    BetaStop,
    Consensus,
    DeepConf,
    Guard,
    Sample,
    Shortest,
    briefest,
    lowest_confidence,
    majority,
    posterior,
    weighted,
    whole,
)
from reasonweave.strategies.searches.deepconf import falls_below
from reasonweave.strategies.searches.in_order import in_order

PROBLEM = Problem("what is it")
ROOTS = Candidates.of(PROBLEM)
PRESETS = ("adaptive-consistency", "esc", "deepconf", "short-m-at-k")


def rambling(request: Request) -> str:
    """Solutions of very different lengths, some of them equally long, that may go on after their answer."""
    rng = random.Random(request.seed)
    before, after = (5 * rng.randint(0, 6) for _ in range(2))
    return "so " * before + f"\\boxed{{{rng.choice('1112234')}}}" + " so" * after


class Paced(ScriptedModel):
    """Writes token by token, each request at a pace of its own that changes from run to run, and meters as it goes.

    A token's alternatives are made up from the request's seed: more or less sure.
    """

    def __init__(self, script: Callable[[Request], str] = rambling, *, jitter: int = 0, pause: float = 2e-4) -> None:
        super().__init__(script, rates=Rates(active=1.0))
        self.rng, self.pause = random.Random(jitter), pause

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append(list(requests))
        for request in requests:
            request.meter.usage = Usage()
        return list(await asyncio.gather(*(self._written(request) for request in requests)))

    async def _written(self, request: Request) -> Completion:
        whole = self._complete(replace(request, watch=None))
        sure = random.Random(f"{request.seed}/sure")
        tokens = [
            replace(t, top=tuple((str(i), math.log(p)) for i, p in enumerate(sorted((1 - x, x), reverse=True))))
            for t, x in zip(whole.tokens, (0.05 + 0.4 * sure.random() for _ in whole.tokens), strict=True)
        ]
        if not request.sampling.top_logprobs:
            tokens = list(whole.tokens)
        over, slow = request.watch() if request.watch else None, self.rng.random()
        prompt = self.count(request.context)
        for i, token in enumerate(tokens, 1):
            if self.rng.random() < slow:
                await asyncio.sleep(self.pause * self.rng.random())
            usage = request.meter.usage = self.rates.price(prompt=prompt, completion=i)
            if over is not None and cut_at([token], over, ended=i == len(tokens)):
                text = "".join(t.text for t in tokens[:i])
                return Completion(text, "cancelled", usage, tuple(tokens[:i]))
        return replace(whole, tokens=tuple(tokens))


def snapshots(strategy: Strategy, run: Run | None = None) -> list[Candidates]:
    async def collect() -> list[Candidates]:
        return [found async for found in strategy.search(ROOTS, run or Run(1))]

    return asyncio.run(collect())


def shown(candidates: Candidates) -> list[tuple[str, float]]:
    return [(c.text, c.log_weight) for c in candidates]


# Timing changes no result.


@pytest.mark.parametrize(
    "make",
    [
        lambda model, ahead: AdaptiveConsistency(whole(model, watch=unwatched), n=30, ahead=ahead),
        lambda model, ahead: AdaptiveConsistency(Sample(model), n=30, rule=BetaStop(0.99), ahead=ahead),
        lambda model, ahead: DeepConf(whole(model), n=24, warmup=6, keep=0.5, window=4, ahead=ahead, consensus=None),
        lambda model, ahead: DeepConf(whole(model), n=24, warmup=6, keep=0.5, window=4, ahead=ahead, consensus=0.7),
    ],
    ids=["adaptive-consistency", "step by step", "deepconf", "deepconf with consensus"],
)
def test_how_many_are_under_way_and_how_fast_they_are_changes_no_candidate(
    make: Callable[[Model, int], Strategy],
) -> None:
    found = [[shown(s) for s in snapshots(make(Paced(jitter=j), ahead))] for j, ahead in enumerate((1, 3, 8, 3))]
    assert found[1] == found[2] == found[3] == found[0]
    assert len(found[0][-1]) > 4


def test_a_stop_cancels_what_is_under_way_and_pays_for_what_it_wrote() -> None:
    usage = {}
    for ahead in (1, 8):
        run, model = Run(1, ledger=Ledger()), Paced(lambda request: "so " * 200 + "\\boxed{1}", pause=1e-4)
        (*_, last) = snapshots(AdaptiveConsistency(whole(model, watch=unwatched), n=40, ahead=ahead), run)
        assert len(last) == 4
        assert run.ledger.held == Usage()
        usage[ahead] = run.ledger.spent
        read = sum(c.tokens for c in last)
        assert run.ledger.spent.completion - run.ledger.cut.completion >= read
        if ahead == 1:
            assert run.ledger.cut == run.ledger.saved == Usage()
        else:
            ledger = run.ledger
            assert ledger.spent.completion <= 11 * 201  # 4 read and 7 under way
            assert ledger.saved.completion == (ledger.cut.calls + ledger.saved.calls) * 1024 - ledger.cut.completion
            assert ledger.cut.calls > 0
    assert usage[1].completion < usage[8].completion


def test_a_sample_that_fails_comes_after_what_others_have_written() -> None:
    """The third sample is refused, the second one is in its second step, the fourth is done."""

    @dataclass(frozen=True)
    class Steps:
        async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
            at, step = run.path[1], run.path[3]
            if at == 2:
                await asyncio.sleep(0.03)
                raise OverBudget(what="tokens", asked=1, left=0, limit=Budget(tokens=0), path=run.path)
            if at == 1 and step == 1:
                await asyncio.sleep(0.01)
            return [c.extend(Step(f"{at}{step} ", "m", 1), done=at == 3 or step == 1) for c in candidates]

    read: list[str] = []

    async def collect() -> None:
        async with aclosing(in_order(Steps(), ROOTS, 9, Run(), ahead=4, most=5)) as samples:
            async for sample in samples:
                read.append(sample.text)

    with pytest.raises(OverBudget):
        asyncio.run(collect())
    assert read[:2] == ["00 01 ", "10 11 "]
    assert read[2:] == ["30 ", "40 41 ", "50 51 "]  # 4 and 5 were begun when 0 and 1 had been read


@pytest.mark.parametrize("tokens", [1, 10, 40, 90, 130, 200, 300])
@pytest.mark.parametrize(
    "make",
    [
        lambda model: AdaptiveConsistency(whole(model, watch=unwatched), n=20, ahead=3),
        lambda model: AdaptiveConsistency(Sample(model), n=20, ahead=3),
        lambda model: ESC(whole(model), n=20, window=3, max_steps=1),
        lambda model: ESC(Sample(model), n=20, window=3),
        lambda model: DeepConf(whole(model), n=20, warmup=3, window=4, ahead=2),
        lambda model: Shortest(whole(model, max_tokens=40), k=5, m=2),
    ],
    ids=["adaptive-consistency", "step by step", "esc", "esc step by step", "deepconf", "short-m@k"],
)
def test_a_budget_that_ends_in_the_middle_keeps_what_is_paid(make: Callable[[Model], Strategy], tokens: int) -> None:
    def script(request: Request) -> str:
        rng = random.Random(request.seed)
        parts = ["so so\n\n"] * (3 - request.context.prefix.count("\n\n"))
        return "".join(parts) + f"\\boxed{{{rng.randint(1, 9)}}}"

    model = ScriptedModel(script)
    result = solve(PROBLEM, make(model), budget=Budget(tokens=tokens), seed=2)
    assert result.tokens <= tokens
    kept = sum(c.tokens for c in result.candidates)
    if not isinstance(make(model), Shortest):  # which yields the m shortest alone
        assert kept == result.total.completion
    assert bool(kept) == bool(result.total.completion)
    free = solve(PROBLEM, make(model), seed=2)
    assert (result.stopped is None) == (free.tokens <= tokens)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_a_strategys_promises(name: str) -> None:
    workflow = Workflow.named(name)
    for options in ({}, {"n": 1}, {"n": 32}, {"n": 5}):
        check_strategy(workflow.make(small=ScriptedModel(), **options), PROBLEM, budgets=(0, 30, 200))


def test_rules_are_named_and_an_unknown_one_is_refused() -> None:
    make = Workflow.named("adaptive-consistency").make
    for rule in ("beta", "dirichlet", "entropy", "majority"):
        assert rule.capitalize() in repr(make(ScriptedModel(), rule=rule, level=0.5))
    with pytest.raises(BadInput, match="one of beta, dirichlet"):
        make(ScriptedModel(), rule="gamma")


@pytest.mark.parametrize(
    "make",
    [
        lambda policy: AdaptiveConsistency(policy, n=0),
        lambda policy: AdaptiveConsistency(policy, ahead=0),
        lambda policy: ESC(policy, n=0),
        lambda policy: Shortest(policy, k=2, m=3),
        lambda policy: Shortest(replace(policy, until="\n\n")),
        lambda policy: DeepConf(policy, n=8),
        lambda policy: DeepConf(policy, keep=0.0),
        lambda policy: DeepConf(replace(policy, until="\n\n")),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[Sample], Strategy]) -> None:
    with pytest.raises(BadInput):
        make(whole(ScriptedModel()))


# Adaptive-Consistency.


def test_with_a_verifier_each_sample_is_scored_as_it_comes() -> None:
    @dataclass(frozen=True)
    class Judge:
        async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
            return [Score(0.9 if c.answer == "2" else 0.1) for c in candidates]

    model = ScriptedModel([f"\\boxed{{{x}}}" for x in "12211"])
    rule = Consensus(0.94, by=weighted, least=3)  # after 1, 2, 2: 1.8 of 1.9
    search = AdaptiveConsistency(whole(model), n=9, rule=rule, verifier=Judge())
    found = snapshots(search)
    assert [c.score is not None for c in found[-1]] == [True] * 3
    assert weighted(found[-1]).answer == "2"


def test_its_repr_is_its_whole_configuration() -> None:
    search = AdaptiveConsistency(whole(ScriptedModel()), rule=Consensus(by=majority))
    assert "rule=Consensus(level=0.95, by=majority, least=16)" in repr(search)
    assert "rule=BetaStop(level=0.95)" in repr(AdaptiveConsistency(whole(ScriptedModel())))


# short-m@k.


@pytest.mark.parametrize("jitter", range(12))
def test_the_race_gives_exactly_the_m_shortest_whatever_the_timing(jitter: int) -> None:
    k, m = 10, 3
    run = Run(jitter, ledger=Ledger())
    (*_, found) = snapshots(Shortest(whole(Paced(jitter=jitter), max_tokens=100), k=k, m=m), run)
    (*_, every) = snapshots(Shortest(whole(Paced(), max_tokens=100), k=k, m=k), Run(jitter))
    order = sorted(range(k), key=lambda i: (every[i].tokens, i))[:m]
    assert [c.text for c in found] == [every[i].text for i in sorted(order)]
    assert run.ledger.held == Usage()
    longest = max(c.tokens for c in found)
    assert run.ledger.cut.completion <= run.ledger.cut.calls * 100
    assert run.ledger.spent.completion <= sum(c.tokens for c in every)
    assert run.ledger.spent.completion >= sum(min(c.tokens, longest + 1) for c in every)


def test_a_race_with_a_common_clock_cuts_at_the_first_token_too_many() -> None:
    """All write at the same pace, so each of the others ends one or two tokens after the m-th."""

    class InStep(Paced):
        async def _written(self, request: Request) -> Completion:
            whole = self._complete(replace(request, watch=None))
            over = request.watch() if request.watch else None
            for i, token in enumerate(whole.tokens, 1):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                usage = self.rates.price(prompt=1, completion=i)
                if over is not None and cut_at([token], over, ended=i == len(whole.tokens)):
                    return Completion("".join(t.text for t in whole.tokens[:i]), "cancelled", usage, whole.tokens[:i])
            return replace(whole, usage=self.rates.price(prompt=1, completion=len(whole.tokens)))

    run = Run(4, ledger=Ledger())
    (*_, found) = snapshots(Shortest(whole(InStep()), k=12, m=3), run)
    third = max(c.tokens for c in found)
    assert run.ledger.cut.calls == 9
    assert run.ledger.cut.completion <= 9 * (third + 6)


def test_who_gives_no_answer_takes_no_place_among_the_shortest() -> None:
    texts = ["", "no idea", "so so so \\boxed{3}", "so so \\boxed{2}", "so so so so so so \\boxed{1}"]
    (*_, found) = snapshots(Shortest(whole(ScriptedModel(texts)), k=5, m=2))
    assert [c.answer for c in found] == ["3", "2"]
    (*_, silent) = snapshots(Shortest(whole(ScriptedModel(["no idea"])), k=3, m=2))
    assert [c.answer for c in silent] == [None] * 3


def test_what_a_watch_of_the_callers_own_cuts_takes_no_place_among_the_shortest() -> None:
    def at_a_mark() -> Callable[[Token], bool]:
        return lambda token: token.text == " !"

    texts = ["\\boxed{1} ! so so", "so so \\boxed{2}", "so so so \\boxed{3}"]
    (*_, found) = snapshots(Shortest(whole(ScriptedModel(texts), watch=at_a_mark), k=3, m=1))
    assert [c.answer for c in found] == ["2"]


def test_where_as_many_vote_for_each_the_shortest_solution_decides() -> None:
    def written(answer: str, tokens: int) -> Candidate:
        return Candidate(PROBLEM, (Step(f"\\boxed{{{answer}}}", "m", tokens),), done=True)

    three = (written("1", 9), written("2", 5), written("3", 7))
    for order in itertools.permutations(three):
        vote = briefest(Candidates(order))
        assert (vote.answer, vote.confidence) == ("2", pytest.approx(1 / 3))
    assert briefest(Candidates((*three, written("1", 30)))).answer == "1"
    even = Candidates((written("1", 5), written("2", 5)))
    assert len({briefest(replace(even, seed=seed)).answer for seed in range(40)}) == 2
    assert briefest(Candidates((said(None),))).answer is None


# DeepConf online.


def top(*probabilities: float) -> tuple[tuple[str, float], ...]:
    return tuple((str(i), math.log(p)) for i, p in enumerate(probabilities))


def test_the_watch_falls_where_a_full_window_does() -> None:
    rng = np.random.default_rng(0)
    for window in (1, 2, 5, 40):
        values = rng.uniform(1, 3, size=200)
        tokens = [Token("x", -0.1, (("a", -value),)) for value in values]
        means = np.convolve(values, np.full(window, 1 / window), "valid")
        for threshold in np.quantile(means, [0.0, 0.01, 0.1, 0.5]):
            low = np.flatnonzero(means < threshold - 1e-12)
            expected = int(low[0]) + window if len(low) else None
            assert cut_at(tokens, falls_below(float(threshold) - 1e-12, window)(), ended=False) == expected
    assert cut_at([Token("x")] * 50, falls_below(math.inf, 5)(), ended=False) is None


class Written(Model):
    """Gives the n-th request of all the n-th list of (piece, confidence), and the last one again and again."""

    def __init__(self, *script: list[tuple[str, float]]) -> None:
        super().__init__("written")
        self.script = list(script)

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Completion:
        pieces = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        tokens = [Token(text, -0.1, (("a", -value),)) for text, value in pieces]
        kept = None if request.watch is None else cut_at(tokens, request.watch(), ended=True)
        tokens, reason = (tokens, "eos") if kept is None else (tokens[:kept], "cancelled")
        usage = Usage(prompt=1, completion=len(tokens), calls=1)
        return Completion("".join(t.text for t in tokens), reason, usage, tuple(tokens))  # type: ignore[arg-type]


def test_deepconf_on_a_warm_up_worked_by_hand() -> None:
    """Two tokens of confidence log 2 and log 4 in windows of one: the lowest decides. Of four warm-up solutions with the lowest
    1, 2, 3, 4 the quarter that stays is above 3.25, so one; then a sure one, an unsure one that is cut, and a sure one."""

    warm = [[("so", low), (" \\boxed{1}", 9.0), ("", 9.0)] for low in (1.0, 4.0, 3.0, 2.0)]
    sure = [("so", 3.5), (" \\boxed{2}", 9.0), ("", 9.0)]
    unsure = [("so", 9.0), (" and", 3.0), (" \\boxed{3}", 9.0), ("", 9.0)]
    at_the_end = [("so", 9.0), (" \\boxed{3}", 9.0), ("", 0.5)]
    run, model = Run(1, ledger=Ledger()), Written(*warm, sure, unsure, at_the_end, sure)
    search = DeepConf(whole(model), n=8, warmup=4, keep=0.25, window=1, consensus=None)
    found = snapshots(search, run)
    assert len(found) == 5
    assert [round(math.exp(c.log_weight), 6) for c in found[-1]] == [0, 4, 0, 0, 3.5, 0, 0, 3.5]
    assert [c.cut for c in found[-1]] == [False] * 5 + [True, False, False]
    assert found[-1][5].text == "so and"
    vote = posterior(found[-1])
    assert (vote.answer, vote.confidence) == ("2", pytest.approx(7 / 11))
    assert (run.ledger.cut.completion, run.ledger.cut.calls) == (2, 1)


def test_consensus_ends_deepconf_at_once_where_the_warm_up_agrees() -> None:
    model = Paced(lambda request: "so so \\boxed{1}")
    found = snapshots(DeepConf(whole(model), n=64, warmup=8, keep=0.9, window=2))
    assert [len(s) for s in found] == [8]
    found = snapshots(DeepConf(whole(model), n=12, warmup=8, keep=0.9, window=2, consensus=None))
    assert [len(s) for s in found] == [8, 9, 10, 11, 12]


def test_consensus_ends_deepconf_where_the_weight_is_on_one_answer() -> None:
    """Two to two in the warm-up, then the same answer again and again: 8 of 10 have 0.8 of the weight."""
    one, two = ([("so", 2.0), (f" \\boxed{{{x}}}", 2.0)] for x in "12")
    found = snapshots(DeepConf(whole(Written(one, two, two, one)), n=40, warmup=4, window=2, consensus=0.8))
    assert [len(s) for s in found] == [4, 5, 6, 7, 8, 9, 10]
    assert posterior(found[-1]).confidence == pytest.approx(0.8)


def test_what_a_watch_of_the_callers_own_cuts_has_no_vote() -> None:
    def third() -> Callable[[Token], bool]:
        seen = itertools.count(1)
        return lambda token: next(seen) >= 3

    short, long = [("so", 2.0), (" \\boxed{1}", 2.0)], [("so", 3.0), (" \\boxed{2}", 3.0), (" so", 3.0), (" so", 3.0)]
    model = Written(short, long, long, short)
    (*_, last) = snapshots(DeepConf(whole(model, watch=third), n=4, warmup=2, window=2, keep=1.0, consensus=None))
    assert [c.cut for c in last] == [False, True, True, False]
    assert [c.log_weight for c in last] == [math.log(2), -math.inf, -math.inf, math.log(2)]


def test_weights_are_the_lowest_confidences_and_what_is_below_the_threshold_weighs_nothing() -> None:
    (*_, last) = snapshots(DeepConf(whole(Paced()), n=40, warmup=10, keep=0.5, window=6, consensus=None, ahead=4))
    lows = [lowest_confidence(c, 6) for c in last]
    threshold = float(np.percentile(lows[:10], 50))
    for candidate, low in zip(last, lows, strict=True):
        kept = low >= threshold and not candidate.cut
        assert candidate.log_weight == (math.log(low) if kept else -math.inf)
    assert 3 <= sum(c.cut for c in last) < 30
    assert all(not c.cut for c in list(last)[:10])


def test_a_window_longer_than_any_solution_cuts_none() -> None:
    (*_, last) = snapshots(DeepConf(whole(Paced()), n=30, warmup=10, keep=0.5, window=2048, consensus=None))
    assert not any(c.cut for c in last)
    assert any(c.log_weight == -math.inf for c in list(last)[10:])


def test_a_window_of_its_own_is_a_quarter_of_the_warm_up() -> None:
    def asked(window: int | None) -> DeepConf:
        return DeepConf(whole(Paced()), n=30, warmup=10, keep=0.5, window=window, consensus=None)

    (first, *_) = snapshots(asked(2048))
    quarter = sum(c.tokens for c in first) // 40
    assert quarter > 1
    (*_, last), (*_, same) = snapshots(asked(None)), snapshots(asked(quarter))
    assert [(c.text, c.log_weight) for c in last] == [(c.text, c.log_weight) for c in same]
    assert any(c.cut for c in last)


def test_without_alternatives_deepconf_is_a_majority() -> None:
    (*_, last) = snapshots(DeepConf(whole(ScriptedModel(rambling)), n=12, warmup=4, consensus=None))
    assert {c.log_weight for c in last} == {-math.inf}
    assert posterior(last).answer == majority(last).answer
    assert posterior(last).confidence == majority(last).confidence


def test_one_that_failed_weighs_nothing_and_ends_nothing() -> None:
    class Flaky(Paced):
        async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
            found = await super()._generate(requests)
            return [
                Completion("", "error", Usage(calls=1), error="down") if request.seed % 3 == 0 else answer
                for request, answer in zip(requests, found, strict=True)
            ]

    for search in (
        DeepConf(whole(Flaky()), n=20, warmup=6, keep=0.9, window=4, consensus=None),
        AdaptiveConsistency(whole(Flaky()), n=20),
        Shortest(whole(Flaky()), k=9, m=2),
        ESC(whole(Flaky()), n=20),
    ):
        (*_, last) = snapshots(search)
        assert posterior(last).answer is not None
        assert all(c.log_weight == -math.inf for c in last if c.failed and isinstance(search, DeepConf))


@pytest.mark.parametrize("ahead", [1, 3])
def test_only_samples_drawn_ahead_are_counted_as_they_come_whatever_the_policy(ahead: int) -> None:
    model = ScriptedModel()
    snapshots(AdaptiveConsistency(Guard(whole(model)), n=4, rule=lambda found: False, ahead=ahead))
    assert len(model.calls) == 4
    assert {request.watch for call in model.calls for request in call} == {unwatched if ahead > 1 else None}
