"""φ-decoding, power sampling, trees of thoughts and the votes that conclude, against what was worked by hand."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from dealt import PROBLEM, Dealt, Table, snapshots, texts
from scipy.stats import chisquare
from support import said

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidates,
    Completion,
    Ledger,
    Request,
    Token,
    Usage,
    asolve,
)
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.strategies import (
    DepthFirst,
    Drawn,
    PhiDecoding,
    PowerSampling,
    Sample,
    TreeOfThought,
    first,
    heaviest,
    posterior,
)
from reasonweave.strategies.searches.phi import clustered
from reasonweave.strategies.searches.power import _Chain

LN = math.log

# φ-decoding.

STEPS = {"": ["a", "b", "c"], "a": ["x"], "b": ["y"], "c": ["z"]}
SURE = {"a": -0.1, "b": -0.2, "c": -0.9, "ax": -0.3, "by": -0.3, "cz": -0.3}


def test_steps_that_are_much_less_probable_are_pruned_before_any_foresight() -> None:
    """−.1, −.2, −.9: mean −.4, deviation .36. At σ = 1 the bar is −.76, at σ = 2 it is −1.11."""
    for sigma, kept in ((1.0, ["a", "b"]), (2.0, ["a", "b", "c"])):
        policy = Dealt(STEPS, SURE)
        snapshots(PhiDecoding(policy, 1, 3, sigma=sigma, least=1, most=1))
        assert policy.asked[:2] == [["", "", ""], kept]


def test_as_many_steps_as_beams_are_kept() -> None:
    policy = Dealt(STEPS, SURE)
    snapshots(PhiDecoding(policy, 3, 1, sigma=0.0, least=1, most=1))
    assert policy.asked[1] == ["a", "b", "c"]


def test_equally_probable_steps_are_all_kept() -> None:
    policy = Dealt(STEPS, dict.fromkeys(SURE, -0.1))
    snapshots(PhiDecoding(policy, 1, 3, sigma=0.0, least=1, most=1))
    assert policy.asked[1] == ["a", "b", "c"]


def test_the_result_is_weighed_by_its_last_foresight() -> None:
    """One beam, one rollout a step: F is the mean log-probability of what the step's foresight wrote."""
    policy = Dealt({"": ["a"], "a": ["b"], "ab": ["c"]}, {"a": -0.1, "ab": -0.2, "abc": -0.4})
    (*_, end) = snapshots(PhiDecoding(policy, 1, 1, least=1, most=1))
    assert texts(end) == ["abc"]
    assert end.log_weights == pytest.approx([-0.3 / 0.1])


def chosen(search: PhiDecoding, advantages: list[float], groups: list[int], t: int) -> list[int]:
    rng = np.random.default_rng(1)
    draws = [search._drawn(np.array(advantages), np.array(groups), t, rng) for _ in range(3000)]
    counts = Counter(i for draw in draws for i in draw)
    return [counts[i] for i in range(len(advantages))]


def test_steps_are_drawn_by_advantage_and_by_how_many_agree() -> None:
    one = PhiDecoding(Dealt({}), beams=1)
    # only two have an advantage: softmax(2, 1) = (.731, .269), equal clusters ½: together (.616, .384)
    counts = chosen(one, [0.2, 0.1, -0.3], [0, 0, 1], t=1)
    assert counts[2] == 0
    assert chisquare(counts[:2], np.array([0.6155, 0.3845]) * 3000).pvalue > 1e-3
    # the first step has nobody to compare with: softmax(0, −1, −1) and softmax(⅔, ⅔, ⅓)
    counts = chosen(one, [-0.1, -0.2, -0.2], [0, 0, 1], t=0)
    assert chisquare(counts, np.array([0.47213, 0.29004, 0.23783]) * 3000).pvalue > 1e-3
    # none is ahead: softmax(A / .1) alone, higher for the less negative
    counts = chosen(one, [-0.1, -0.2, -0.3], [0, 0, 1], t=1)
    assert chisquare(counts, np.array([0.66524, 0.24473, 0.09003]) * 3000).pvalue > 1e-3


def test_beams_are_drawn_without_replacement_and_unknown_ones_last() -> None:
    two = PhiDecoding(Dealt({}), beams=2)
    assert chosen(two, [0.1, math.nan, 0.2], [0, 1, 2], t=1) == [3000, 0, 3000]
    assert chosen(two, [0.1, math.nan, math.nan], [0, 1, 2], t=1) == [3000, 3000, 0]


def test_foresight_ends_where_the_rollouts_agree_and_not_too_early() -> None:
    """All futures are "end" whatever the step was: one cluster holds all. Two steps at least, so calls of 5 + 4, then 3."""

    def script(request: Request) -> str:
        begun = request.context.prefix.count("\n\n")
        steps = [f"step {request.seed if k == begun and k < 2 else k}\n\n" for k in range(begun, 4)]
        return "".join(steps) + "end"

    model = ScriptedModel(script)
    snapshots(PhiDecoding(Sample(model), 1, 2, sigma=99, least=2, most=4))
    assert len(model.calls) == 5 + 4 + 3
    model = ScriptedModel(script)
    snapshots(PhiDecoding(Sample(model), 1, 2, sigma=99, agreement=1, least=2, most=4))
    assert len(model.calls) == 5 + 4 + 3 + 2  # only at the third step are all candidate steps the same


def test_clusters_are_of_words_and_equal_texts_are_together() -> None:
    rng = np.random.default_rng(0)
    fruit = ["red apple", "red red apple", "blue sky", "blue blue sky", "red apple"]
    groups = clustered(fruit, 2, rng).tolist()
    assert groups[0] == groups[1] == groups[4] != groups[2] == groups[3]
    assert clustered(["a", "b", "a"], 3, rng).tolist() == [0, 1, 0]
    assert clustered([""], 3, rng).tolist() == [0]


# Power sampling.


def chain(*logprobs: float, done: bool = True, top: bool = False) -> _Chain:
    alternatives = (("a", LN(0.8)), ("b", LN(0.2))) if top else ()
    tokens = tuple(Token(" a", p, alternatives) for p in logprobs)
    return _Chain(Candidates.of(PROBLEM)[0], tokens, done)


def test_the_acceptance_ratio_of_texts_of_different_lengths() -> None:
    """α = 2, q = p, one token in common: (α − 1)(p' − p) = −.2 + 1.2 = 1; t was one of 3 positions, and back it is one of 2."""
    sampler = PowerSampling(ScriptedModel(), alpha=2, temperature=1)
    old, new = chain(-0.1, -0.5, -0.7), chain(-0.1, -0.2)
    assert sampler._log_ratio(old, new, 1) == pytest.approx(1.0 + LN(3 / 2))
    assert sampler._log_ratio(new, old, 1) == pytest.approx(-1.0 - LN(3 / 2))
    assert sampler._log_ratio(old, chain(-0.1, math.nan), 1) == -math.inf


def test_the_acceptance_ratio_with_a_colder_proposal() -> None:
    """p = .8, .2 at heat ½: q = .64 / .68, so p² / q = .68 for either token: log(3/2) + log .68 − 2 log .68."""
    sampler = PowerSampling(ScriptedModel(), alpha=2)
    old, new = chain(LN(0.8), LN(0.8), LN(0.2), top=True), chain(LN(0.8), LN(0.8), top=True)
    assert sampler._log_ratio(old, new, 1) == pytest.approx(LN(3 / 2) - LN(0.68))


class Coin(ScriptedModel):
    """Writes x, or ends, with chance ½ each: a text of k letters has chance ½^(k+1), three letters ⅛ when cut there."""

    def _complete(self, request: Request) -> Completion:
        rng, tokens = random.Random(request.seed), []
        while len(tokens) < request.max_tokens:
            ends = rng.random() < 0.5
            tokens.append(Token("" if ends else "x", LN(0.5)))
            if ends:
                break
        ended = tokens[-1].text == ""
        text = "".join(token.text for token in tokens)
        usage = Usage(prompt=1, completion=len(tokens), calls=1)
        return Completion(text, "eos" if ended else "length", usage, tuple(tokens))


def test_power_samples_have_the_power_of_the_probability() -> None:
    """p² ∝ ¼, 1/16, 1/64, 1/64. Texts of different lengths: a chain that forgets how many positions there were is far off."""
    _, end = snapshots(PowerSampling(Coin(), 500, alpha=2, block=3, blocks=1, moves=8, temperature=1))
    counts = Counter(c.text for c in end)
    weights = np.array([1 / 4, 1 / 16, 1 / 64, 1 / 64])
    expected = weights / weights.sum() * 500
    assert chisquare([counts["x" * k] for k in range(4)], expected).pvalue > 1e-3


def test_a_chain_stays_where_a_proposal_fails_or_is_cut_by_the_budget() -> None:
    class Once(ScriptedModel):
        async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
            written = await super()._generate(requests)
            return written if len(self.calls) == 1 else [Completion("", "error", error="no") for _ in requests]

    *_, end = snapshots(PowerSampling(Once(["so it is \\boxed{3}"]), 1, block=20, moves=3))
    assert end[0].answer == "3"
    assert end[0].failed is None
    for tokens in range(6, 24):  # the first text takes 6
        model = ScriptedModel(lambda r: "so it is \\boxed{3}"[len(r.context.prefix) :])
        search = PowerSampling(model, block=20, moves=3)
        result = asyncio.run(asolve(PROBLEM, search, within=Ledger(Budget(tokens=tokens))))
        assert result.candidates[0].answer == "3", tokens


def test_a_model_that_tells_no_log_probabilities_is_refused() -> None:
    class Silent(ScriptedModel):
        def _complete(self, request: Request) -> Completion:
            return Completion("so", "eos", Usage(prompt=1, completion=1, calls=1))

    with pytest.raises(BadInput, match="log-probabilities"):
        asyncio.run(asolve(PROBLEM, PowerSampling(Silent())))


# Trees of thoughts.


def test_the_best_thoughts_stay_and_equal_ones_count_once() -> None:
    policy = Dealt({"": ["a", "a", "b", "c"], "a": ["x", "y"], "b": ["x", "y"], "c": ["!"]})
    judge = Table({"a": 0.9, "b": 0.5, "c": 0.7, "ax": 0.1, "ay": 0.2, "c!": 0.3})
    one, two = snapshots(TreeOfThought(policy, judge, samples=4, breadth=2))
    assert texts(one) == ["a", "c"]
    assert policy.asked == [[""] * 4, ["a"] * 4 + ["c"] * 4]
    assert texts(two) == ["c!", "ay"]


def test_a_finished_thought_competes_and_is_not_extended() -> None:
    policy = Dealt({"": ["a", "b"], "b": ["x", "y"]})
    one, two = snapshots(TreeOfThought(policy, Table({"a": 0.6, "b": 0.5, "bx": 0.9, "by": 0.1}), 2, 2))
    assert texts(one) == ["a", "b"]
    assert policy.asked == [["", ""], ["b", "b"]]
    assert texts(two) == ["bx", "a"]


def test_thoughts_are_drawn_by_their_scores() -> None:
    """.6, .3 and 0: the last is never drawn while there is another."""
    counts: Counter[str] = Counter()
    for seed in range(300):
        policy = Dealt({"": ["a", "b", "c"]})
        ((one,),) = snapshots(TreeOfThought(policy, Table({"a": 0.6, "b": 0.3, "c": 0}), 3, 1, greedy=False), seed=seed)
        counts[one.text] += 1
    assert counts["c"] == 0
    assert chisquare([counts["a"], counts["b"]], [200, 100]).pvalue > 1e-3


def test_depth_first_gives_up_below_the_bar_and_goes_back() -> None:
    policy = Dealt({"": ["a", "b"], "b": ["x", "y"], "a": ["x"]})
    judge = Table({"a": 0.6, "b": 0.9, "bx": 0.4, "by": 0.3, "ax": 0.7})
    sets = snapshots(DepthFirst(policy, judge, samples=2, bar=0.5))
    assert policy.asked == [["", ""], ["b", "b"], ["a", "a"]]
    assert [texts(found) for found in sets] == [["b"], ["a"], ["ax"]]


# Conclusions.

SET = Candidates((said(None), said("4"), said("5"), said("4"))).reweight([LN(0.4), LN(0.15), LN(0.25), LN(0.2)])


def test_the_heaviest_particle_and_the_heaviest_answer() -> None:
    """5 has the heaviest particle of those that answer, 4 the heavier two: .35 of .6."""
    assert (heaviest(SET).answer, heaviest(SET).confidence) == ("5", pytest.approx(0.25))
    assert (posterior(SET).answer, posterior(SET).confidence) == ("4", pytest.approx(0.35 / 0.6))
    none = SET.reweight([-math.inf] * 4)
    assert (posterior(none).answer, posterior(none).confidence) == ("4", pytest.approx(2 / 3))
    assert (heaviest(Candidates((said(None),))).answer, posterior(Candidates()).answer) == (None, None)


def test_the_same_particle_twice_has_two_votes() -> None:
    one, other = SET.reweight([0.0] * 4).items[1:3]
    vote = posterior(Candidates((one, one, other)))
    assert (vote.answer, vote.confidence) == ("4", pytest.approx(2 / 3))


def test_the_first_that_is_finished() -> None:
    begun = Candidates((said("7"),)).of_items([said("7").extend(done=False)])
    assert first(begun + SET).answer == "4"
    assert first(begun).answer == "7"
    assert first(Candidates((said(None),))).answer is None


def test_one_particle_is_drawn_by_weight_among_those_that_answer() -> None:
    counts: Counter[str | None] = Counter()
    for seed in range(600):
        (drawn,) = snapshots(Drawn(), SET, seed=seed)
        counts[drawn.answer] += 1
    assert chisquare([counts["4"], counts["5"]], [350, 250]).pvalue > 1e-3
    assert snapshots(Drawn(), Candidates((said(None),))) == []
