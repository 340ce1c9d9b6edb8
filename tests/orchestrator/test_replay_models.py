"""Recorded models: the samples come as they were, in their order, at their cost; what a recording lacks is said, not guessed."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.orchestrator import Candidate, Candidates, Context, Problem, Run, Sampling, Score, Step, chain, solve
from reasonweave.orchestrator._sync import wait
from reasonweave.orchestrator.budget import Ledger, Rates
from reasonweave.orchestrator.models.base import unwatched
from reasonweave.orchestrator.models.replay import (
    NotRecorded,
    RecordedModel,
    RecordedReward,
    RecordedSample,
    Recording,
    TooFew,
)
from reasonweave.orchestrator.types import Message, Token
from reasonweave.strategies import BestOfN, ForceAnswer, majority, whole
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.searches.in_order import in_order

PROBLEM = Problem("How many?", "p")
CONTEXT = Context(PROBLEM.messages)


def samples(*tokens: int) -> tuple[RecordedSample, ...]:
    return tuple(RecordedSample(f"so\n\n\\boxed{{{i}}}", n, -0.1 * n) for i, n in enumerate(tokens))


def model(*given: RecordedSample, **how: Any) -> RecordedModel:
    return RecordedModel([Recording(PROBLEM, given, prompt=7)], source="FILE", **how)


async def ask(recorded: RecordedModel, n: int = 1, run: Run | None = None, **how: Any) -> list[Any]:
    watch = how.pop("watch", None)
    run = run or Run()
    return await recorded.generate([CONTEXT] * n, run, sampling=Sampling(**how), watch=watch)


def test_the_ith_request_of_a_run_gets_the_ith_sample() -> None:
    recorded = model(*samples(5, 6, 7, 8))

    async def run() -> list[str]:
        one = Run()
        texts = [c.text for c in await ask(recorded, 1, one.child("a"))]
        texts += [c.text for c in await ask(recorded, 2, one.child("b"))]
        texts += [c.text for c in await ask(recorded, 1, Run())]  # another session begins anew
        one.session.close()
        return [*texts, *(c.text for c in await ask(recorded, 1, one.child("c")))]

    answers = [text[-2] for text in wait(run())]
    assert answers == ["0", "1", "2", "0", "0"]


def test_a_sample_costs_what_it_cost() -> None:
    (first, second) = wait(ask(model(*samples(5, 9), rates=Rates(active=3.0)), 2))
    assert (first.usage.prompt, first.usage.completion, first.usage.calls) == (7, 5, 1)
    assert (second.usage.prompt, second.usage.completion) == (7, 9)
    assert second.usage.flops == 2 * 3.0 * 16
    assert first.finish_reason == "eos"


TEXTS = st.lists(st.text(alphabet="ab \n", min_size=1, max_size=9), min_size=1, max_size=6).map("\n\n".join)


@given(TEXTS, st.integers(1, 300), st.floats(-1e5, 0.0))
def test_texts_tokens_and_log_probabilities_come_out_exactly(text: str, tokens: int, logprob: float) -> None:
    """Whatever the steps are: the sums are the recorded ones, to the last bit."""
    sample = RecordedSample(text, tokens, logprob)
    assert len(sample.pieces) == tokens
    (candidate,) = wait(whole(model(sample)).extend([Candidate(PROBLEM)], Run()))
    assert candidate.text == text
    assert candidate.tokens == tokens
    assert candidate.logprob == logprob
    assert candidate.done
    assert candidate.passages == tuple(part for part in _split(text) if part)


def _split(text: str) -> list[str]:
    *parts, last = text.split("\n\n")
    return [*(part + "\n\n" for part in parts), last]


def test_unknown_log_probabilities_stay_unknown() -> None:
    (candidate,) = wait(whole(model(RecordedSample("a\n\nb", 4))).extend([Candidate(PROBLEM)], Run()))
    assert (candidate.tokens, candidate.logprob) == (4, None)


@pytest.mark.parametrize("ended", ["eos", "length", "error"])
def test_a_sample_ends_as_it_did(ended: Any) -> None:
    sample = RecordedSample("a\n\nb" if ended != "error" else "", 4, -1.0, ended, "gone" if ended == "error" else None)
    (candidate,) = wait(whole(model(sample)).extend([Candidate(PROBLEM)], Run()))
    assert candidate.done
    assert candidate.failed == ("gone" if ended == "error" else None)
    assert bool(candidate.steps and candidate.steps[-1].open) == (ended == "length")


def refusal(recorded: RecordedModel, context: Context = CONTEXT, n: int = 1, **sampling: Any) -> str:
    with pytest.raises(NotRecorded) as raised:
        wait(recorded.generate([context] * n, Run(), sampling=Sampling(**sampling)))
    return str(raised.value)


WHOLE = (
    "FILE has whole solutions, and is asked for a step or for what follows a prefix; workflows that write step by step, or go "
    "on from a text, need a model"
)
REFUSALS: list[tuple[Callable[[], str], str]] = [
    (
        lambda: refusal(model(*samples(5, 6)), n=3),
        "FILE has 2 samples of problem 'p', and more are asked for; record more with a larger -S n=",
    ),
    (lambda: refusal(model(*samples(5)), Context(PROBLEM.messages, "A: 1")), WHOLE),
    (lambda: refusal(model(*samples(5)), stop=("\n\n",)), WHOLE),
    (
        lambda: refusal(model(*samples(5)), Context(Problem("Which?").messages)),
        "FILE is asked about something else than a recorded problem, 'Which?'; a judge, a probe or a problem that was not "
        "recorded needs a model",
    ),
    (
        lambda: refusal(model(*samples(5)), top_logprobs=20),
        "FILE does not have the alternatives of each token, which is asked for: records keep one log-probability a sample",
    ),
    (
        lambda: refusal(model(*samples(5)), prefix_logprobs=True),
        "FILE does not have what the model thinks of a prefix, which is asked for: records keep one log-probability a sample",
    ),
    (
        lambda: refusal(model(*samples(5)), max_tokens=4),
        "FILE has a sample of 5 tokens where at most 4 are asked for (problem 'p'); record again with -S max_tokens=4",
    ),
    (
        lambda: refusal(model(*samples(5), temperature=0.8), temperature=0.5),
        "FILE was sampled at temperature 0.8, and 0.5 is asked for; record again with -S temperature=0.5",
    ),
    (
        lambda: refusal(model(replace(samples(5)[0], ended="cancelled"))),
        "FILE has no whole sample 1 of problem 'p': a watch cut it; record with a workflow that cuts none, as self-consistency",
    ),
]


@pytest.mark.parametrize(("asked", "told"), REFUSALS, ids=range(len(REFUSALS)))
def test_what_is_not_recorded_is_said(asked: Callable[[], str], told: str) -> None:
    assert asked() == told


def test_too_few_samples_can_be_told_apart() -> None:
    with pytest.raises(TooFew):
        wait(ask(model(*samples(5)), 2))


def test_a_refusal_ends_a_strategy_with_its_own_words() -> None:
    """No group around it, no failed candidate in its place."""
    flow = chain(BestOfN(whole(model(*samples(5, 6))), 3, max_steps=1), majority)
    with pytest.raises(NotRecorded, match="2 samples of problem 'p'"):
        solve(PROBLEM, flow)


def at_most(n: int) -> Callable[[], Callable[[Token], bool]]:
    def make() -> Callable[[Token], bool]:
        seen = itertools.count(1)
        return lambda token: next(seen) >= n

    return make


@pytest.mark.parametrize(("n", "cut"), [(1, True), (9, True), (10, False), (11, False)])
def test_a_watch_that_counts_cuts(n: int, cut: bool) -> None:
    """But not at the token that ends the sample: after it there is nothing to cut."""
    sample = RecordedSample("abcdefghij" * 3, 10, -5.0)
    ledger = Ledger()
    (written,) = wait(ask(model(sample), watch=at_most(n), run=Run(ledger=ledger)))
    assert written.finish_reason == ("cancelled" if cut else "eos")
    assert written.usage.completion == len(written.tokens) == min(n, 10)
    assert sample.text.startswith(written.text)
    assert len(written.text) == 3 * min(n, 10)
    assert written.logprob == pytest.approx(-0.5 * min(n, 10))
    assert ledger.spent.completion == min(n, 10)
    assert bool(ledger.cut.completion) == cut


@pytest.mark.parametrize("read", ["text", "logprob", "top"])
def test_a_watch_that_reads_tokens_is_refused(read: str) -> None:
    with pytest.raises(NotRecorded, match="FILE does not have single tokens, which a watch wants to read"):
        wait(ask(model(*samples(5)), watch=lambda: lambda token: bool(getattr(token, read))))


def test_the_shorter_sample_lands_first_and_a_cancelled_one_has_cost_what_it_had_written() -> None:
    recorded = model(*samples(100, 30, 60))

    async def race(watched: bool) -> tuple[list[int], Ledger]:
        run = Run(ledger=Ledger())
        asked = [
            asyncio.create_task(ask(recorded, 1, run.child(i), watch=unwatched if watched else None, max_tokens=500))
            for i in range(3)
        ]
        landed = []
        while len(landed) < 2:
            await asyncio.wait([task for i, task in enumerate(asked) if i not in landed], return_when="FIRST_COMPLETED")
            landed += [i for i, task in enumerate(asked) if task.done() and i not in landed]
        asked[0].cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert run.ledger.held.tokens == 0
        return landed, run.ledger

    landed, ledger = wait(race(True))
    assert landed == [1, 2]
    assert ledger.spent.completion == 30 + 60 + 60  # the long one had as many as the second, when that one ended
    assert ledger.cut.completion == 60
    assert ledger.saved.completion == 440
    _, ledger = wait(race(False))
    assert ledger.spent.completion == 30 + 60 + 500  # nobody counted: all that was held


def test_a_watch_sees_what_happens_while_its_sample_is_written() -> None:
    """The limit falls when the first sample lands, and cuts the second there and then."""
    recorded, limit = model(*samples(20, 90)), [math.inf]

    def watch() -> Callable[[Token], bool]:
        seen = itertools.count(1)
        return lambda token: next(seen) > limit[0]

    async def one(run: Run) -> Any:
        (written,) = await ask(recorded, 1, run, watch=watch)
        limit[0] = min(limit[0], written.usage.completion)
        return written

    async def both() -> list[Any]:
        run = Run()
        return await asyncio.gather(one(run.child(0)), one(run.child(1)))

    first, second = wait(both())
    assert (first.usage.completion, first.finish_reason) == (20, "eos")
    assert (second.usage.completion, second.finish_reason) == (21, "cancelled")


@pytest.mark.parametrize("ahead", [1, 3, 8])
def test_samples_drawn_one_by_one_are_a_prefix_whatever_is_under_way(ahead: int) -> None:
    recorded = model(*samples(40, 10, 30, 20, 90, 90, 90, 90))
    policy = whole(recorded, watch=unwatched)

    async def draw(stop: int) -> tuple[list[str], Ledger]:
        run, found = Run(ledger=Ledger()), []
        stream = in_order(policy, Candidates.of(PROBLEM), 8, run, ahead=ahead)
        async for candidate in stream:
            found.append(candidate.text)
            if len(found) == stop:
                break
        await stream.aclose()
        return found, run.ledger

    texts, ledger = wait(draw(4))
    assert texts == [sample.text for sample in samples(40, 10, 30, 20)]
    assert ledger.held.tokens == 0
    # ahead 3: the first three are there at 40; the next three begin, and the fourth is written at 60
    assert ledger.spent.completion == 100 + {1: 0, 3: 2 * 20, 8: 4 * 40}[ahead]


def test_a_cut_sample_makes_a_cut_candidate() -> None:
    policy = Sample(model(*samples(50)), until=None, watch=at_most(10))
    (candidate,) = wait(policy.extend([Candidate(PROBLEM)], Run()))
    assert candidate.cut
    assert candidate.done
    assert candidate.tokens == 10


def test_a_recorded_forced_answer_is_given_again_and_no_other() -> None:
    sample = RecordedSample("no idea\n\nnone", 6, -1.0)
    cue = "no idea\n\nThe answer is \\boxed{"
    recorded = RecordedModel([Recording(PROBLEM, (sample,), 7, forced={cue: RecordedSample("9}", 2, -0.5)})])
    flow = chain(BestOfN(whole(recorded), 1, max_steps=1), majority, finish=ForceAnswer(recorded))
    result = solve(PROBLEM, flow)
    assert result.answer == "9"
    other = RecordedModel([Recording(PROBLEM, (replace(sample, text="other\n\nnone"),), 7, forced={cue: sample})])
    flow = chain(BestOfN(whole(other), 1, max_steps=1), majority, finish=ForceAnswer(other))
    with pytest.raises(NotRecorded, match="what follows a prefix"):
        solve(PROBLEM, flow)


SCORED = replace(samples(5)[0], score=Score(0.3, (0.6, 0.5)))


def rate(*candidates: Candidate, **how: Any) -> list[Score]:
    rewards = RecordedReward([Recording(PROBLEM, (SCORED,), rating=11)], source="FILE")
    return wait(rewards.rate(candidates, Run(**how)))


def test_scores_are_known_by_the_text_of_the_solution() -> None:
    texts = _split(SCORED.text)
    solution = Candidate(PROBLEM, tuple(Step(text, "m", 2) for text in texts), done=True)
    ledger = Ledger()
    assert rate(solution, solution, ledger=ledger) == [SCORED.score] * 2
    assert (ledger.spent.prompt, ledger.spent.calls) == (11, 1)  # the same solution is rated once


def test_a_solution_without_a_score_is_refused() -> None:
    with pytest.raises(NotRecorded, match="FILE has no score of a solution of problem 'p' that is to be rated"):
        rate(Candidate(PROBLEM, (Step("so\n\n", "m", 2),)))


def test_a_failed_judgement_stays_one() -> None:
    lost = replace(SCORED, score=Score(math.nan, (), "server gone"))
    rewards = RecordedReward([Recording(PROBLEM, (lost,))])
    (score,) = wait(rewards.rate([Candidate(PROBLEM, (Step(lost.text, "m", 2),))], Run()))
    assert math.isnan(score.value)
    assert score.error == "server gone"


def test_messages_that_begin_with_the_problem_are_another_question() -> None:
    asked = Context((*PROBLEM.messages, Message("assistant", "so"), Message("user", "Sure?")))
    assert "'Sure?'" in refusal(model(*samples(5)), asked)
