from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.orchestrator import Candidate, Candidates, Problem, Step, Token, chain, solve
from reasonweave.orchestrator.confidence import groups
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.signals import confidence
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.orchestrator.types import CUT
from reasonweave.strategies import (
    BestOfN,
    Borda,
    DeepConfVote,
    Windowed,
    bottom_confidence,
    lowest_confidence,
    majority,
    mean_confidence,
    self_certainty,
    tail_confidence,
    whole,
)
from reasonweave.strategies.presets import deepconf_offline
from reasonweave.strategies.presets import self_certainty as self_certainty_workflow

VALUES = st.lists(st.floats(0.1, 20), min_size=1, max_size=30)


def token(*ps: float) -> Token:
    return Token("x", math.log(ps[0]), tuple(("x", math.log(p) if p else -math.inf) for p in ps))


def sure(answer: str | None, *values: float, label: str = "", text: str = "") -> Candidate:
    """A solution with this answer, whose tokens have these confidences."""
    said = f"{text}\\boxed{{{answer}}}" if answer else text
    told = tuple(Token("x", -0.1, (("x", -value + 0.1), ("y", -value - 0.1))) for value in values)
    return Candidate(Problem("q"), (Step(said, "m", len(told), -0.1, told, label=label),), done=True)


# Measures


def test_the_confidence_of_a_token() -> None:
    assert confidence(token(0.5, 0.25)) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert confidence(token(0.2, 0.2, 0.2, 0.2, 0.2)) == pytest.approx(math.log(5))  # evenly: the least of five
    assert confidence(token(0.9, 0.1, 0.0)) == pytest.approx(confidence(token(0.9, 0.1)))
    assert math.isnan(confidence(Token("x", -1.0)))
    other = Token("y", -9.0, (("x", math.log(0.5)), ("z", math.log(0.25))))  # what was drawn is not among those told
    assert confidence(other) == confidence(token(0.5, 0.25))


@given(VALUES, st.integers(1, 40))
def test_measures_against_loops(values: list[float], window: int) -> None:
    one = sure("1", *values)
    whole_mean = sum(values) / len(values)
    starts = range(len(values) - window + 1)
    means = sorted(sum(values[i : i + window]) / window for i in starts) or [whole_mean]
    assert mean_confidence(one) == pytest.approx(whole_mean)
    assert tail_confidence(one, window) == pytest.approx(sum(values[-window:]) / len(values[-window:]))
    assert lowest_confidence(one, window) == pytest.approx(means[0])
    for share in (0.1, 0.5):
        lowest = means[: max(1, int(share * len(means)))]
        assert bottom_confidence(one, window, share) == pytest.approx(sum(lowest) / len(lowest))
    assert groups(one, window) == pytest.approx([sum(values[i : i + window]) / window for i in starts] or [whole_mean])


def test_the_measures_by_hand() -> None:
    one = sure("1", 4, 4, 1, 1, 4, 4, 4, 7, 7, 7)  # pairs: 4, 2½, 1, 2½, 4, 4, 5½, 7, 7
    assert [lowest_confidence(one, w) for w in (1, 2, 3, 10, 11)] == pytest.approx([1, 1, 2, 4.3, 4.3])
    assert bottom_confidence(one, 2, 0.4) == pytest.approx((1 + 2.5 + 2.5) / 3)
    assert bottom_confidence(one, 2) == pytest.approx(1)  # a tenth of nine, and at least one
    assert tail_confidence(one, 3) == pytest.approx(7)
    assert Windowed(tail_confidence, 3)(one) == pytest.approx(7)
    assert repr(Windowed(lowest_confidence, 16)) == "Windowed(of=lowest_confidence, window=16)"


@pytest.mark.parametrize(
    "measure", [mean_confidence, tail_confidence, bottom_confidence, lowest_confidence, self_certainty]
)
def test_what_is_not_told_is_not_known(measure: Callable[[Candidate], float]) -> None:
    one = sure("1", 2.0, 3.0)
    untold = Step("and so on", "other", 4, -1.0)
    assert not math.isnan(measure(one))
    assert math.isnan(measure(Candidate(Problem("q"), (untold,), done=True)))
    assert math.isnan(measure(Candidate(Problem("q"), (*one.steps, untold), done=True)))
    assert math.isnan(measure(Candidate(Problem("q"))))
    given_text = Step("put in", "", 0, 0.0)  # no tokens of a model's
    assert measure(Candidate(Problem("q"), (*one.steps, given_text), done=True)) == measure(one)
    bare = Step("x", "m", 1, -0.1, (Token("x", -0.1),))  # a token without alternatives
    assert measure(Candidate(Problem("q"), (*one.steps, bare), done=True)) == measure(one)


def test_self_certainty_is_exact_where_the_whole_vocabulary_is_told() -> None:
    rng = np.random.default_rng(0)
    v, n = 7, 5
    ps = rng.dirichlet(np.ones(v), n)
    told = tuple(token(*sorted(row, reverse=True)) for row in ps)
    one = Candidate(Problem("q"), (Step("\\boxed{1}", "m", n, -1.0, told),), done=True)
    published = -sum(math.log(v * p) for row in ps for p in row) / (n * v)
    divergence = np.mean(
        [sum(1 / v * math.log(1 / v / p) for p in row) for row in ps]
    )  # of the even distribution from it
    assert self_certainty(one) == pytest.approx(published) == pytest.approx(divergence)
    assert self_certainty(one) == pytest.approx(mean_confidence(one) - math.log(v))


@pytest.mark.parametrize(
    "broken", [lambda: Windowed(tail_confidence, 0), lambda: DeepConfVote(keep=0.0), lambda: DeepConfVote(keep=1.1)]
)
def test_impossible_parameters_are_refused(broken: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        broken()
    with pytest.raises(BadInput, match="window=0"):
        lowest_confidence(sure("1", 2.0), 0)
    with pytest.raises(BadInput, match="by='median'"):
        deepconf_offline(ScriptedModel(), by="median")


# Votes


@given(
    st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), st.floats(0.1, 20), st.booleans()), max_size=20),
    st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]),
)
def test_deepconf_against_loops(drawn: list[tuple[str | None, float, bool]], keep: float) -> None:
    some = Candidates(tuple(sure(a, v, label=CUT if cut and v > 10 else "") for a, v, cut in drawn))
    left = [(a, v) for a, v, cut in drawn if a is not None and not (cut and v > 10)]
    vote = DeepConfVote(mean_confidence, keep)(some)
    assert vote.items == some.items
    if not left:
        assert (vote.answer, vote.confidence) == (None, None)
        return
    order = sorted(v for _, v in left)
    at = (1 - keep) * (len(order) - 1)  # the quantile, between two order statistics
    bar = order[int(at)] + (at - int(at)) * (order[min(int(at) + 1, len(order) - 1)] - order[int(at)])
    sums: dict[str, float] = defaultdict(float)
    for answer, value in left:
        if value >= bar - 1e-9:
            sums[answer] += value
    assert vote.answer is not None
    assert sums[vote.answer] == pytest.approx(max(sums.values()))
    assert vote.confidence == pytest.approx(max(sums.values()) / sum(sums.values()))


def test_deepconf_by_hand() -> None:
    some = Candidates(
        (*[sure("1", 2.0)] * 6, *[sure("2", 5.0)] * 3, sure("3", 9.0), sure("4", 20.0, label=CUT), sure(None, 9.0))
    )
    assert [DeepConfVote(mean_confidence, k)(some).answer for k in (0.1, 0.4, 1.0)] == ["3", "2", "2"]
    assert DeepConfVote(mean_confidence, 0.1)(some).confidence == 1.0
    assert DeepConfVote(mean_confidence, 0.4)(some).confidence == pytest.approx(15 / 24)
    assert DeepConfVote(mean_confidence, 1.0)(some).confidence == pytest.approx(15 / 36)
    assert majority(some).answer == "1"


def test_what_is_unknown_or_cut_does_not_vote() -> None:
    blind = Candidate(Problem("q"), (Step("\\boxed{7}", "m", 3, -1.0),), done=True)
    cut = sure("8", 9.0, label=CUT)
    vote = DeepConfVote(mean_confidence, 1.0)
    assert vote(Candidates((blind, blind, sure("1", 2.0), cut, cut))).answer == "1"
    assert (
        vote(Candidates((blind, blind, sure("1"), cut, cut, cut))).answer == "7"
    )  # nothing known: the majority of the uncut
    assert vote(Candidates((cut, cut))).answer is None


def test_self_certainty_votes_by_rank() -> None:
    some = Candidates(
        (sure("1", 9.0), sure("2", 3.0), sure("2", 4.0), sure("1", 1.0))
    )  # ranks from below: 4 and 1, 2 and 3
    half, square = Borda(0.5, by=self_certainty)(some), Borda(2, by=self_certainty)(some)
    assert (half.answer, half.confidence) == ("2", pytest.approx((2**0.5 + 3**0.5) / (2**0.5 + 3**0.5 + 2 + 1)))
    assert (square.answer, square.confidence) == ("1", pytest.approx(17 / 30))
    assert half == Borda(0.5, by=mean_confidence)(some)


class Telling(ScriptedModel):
    """A scripted model that tells alternatives where it is asked for them."""

    async def _generate(self, requests: list) -> list:  # type: ignore[override]
        made = []
        for request, written in zip(requests, await super()._generate(requests), strict=True):
            k = request.sampling.top_logprobs
            tops = [tuple(("abc"[j], t.logprob - j) for j in range(min(k, 3))) for t in written.tokens]
            tokens = tuple(Token(t.text, t.logprob, top) for t, top in zip(written.tokens, tops, strict=True))
            made.append(type(written)(written.text, written.finish_reason, written.usage, tokens))
        return made


@pytest.mark.parametrize(
    ("make", "vote"),
    [
        (lambda s: deepconf_offline(s, n=8), DeepConfVote(Windowed(tail_confidence, 2048), 0.5)),
        (lambda s: deepconf_offline(s, n=8, by="mean", keep=1.0), DeepConfVote(mean_confidence, 1.0)),
        (
            lambda s: deepconf_offline(s, n=8, by="lowest", keep=0.5, window=4),
            DeepConfVote(Windowed(lowest_confidence, 4), 0.5),
        ),
        (lambda s: self_certainty_workflow(s, n=8, power=2), Borda(2, by=self_certainty)),
    ],
)
def test_presets_ask_for_the_alternatives_and_vote(
    make: Callable[..., object], vote: Callable[..., Candidates]
) -> None:
    for seed in range(3):
        found = solve(Problem("q"), make(Telling()), seed=seed).candidates  # type: ignore[arg-type]
        assert len(found) == 8
        assert not any(math.isnan(mean_confidence(c)) for c in found)
        assert vote(found) == found


def test_without_alternatives_the_majority_decides() -> None:
    found = solve(
        Problem("q"), chain(BestOfN(whole(ScriptedModel()), n=8, max_steps=1), DeepConfVote()), seed=1
    ).candidates
    assert found == majority(found)
