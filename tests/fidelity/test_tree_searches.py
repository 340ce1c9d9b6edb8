"""Searches, against traces worked by hand: who is extended, in which order, and what each is worth."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from dealt import PROBLEM, Dealt, Table, snapshots, texts
from scipy.stats import beta, chisquare, kstest
from scipy.stats import t as student

from reasonweave.orchestrator import (
    BadInput,
    Candidate,
    Candidates,
    Run,
    Score,
    Step,
)
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.orchestrator.types import FloatArray, IntArray
from reasonweave.strategies import (
    DVTS,
    MCTS,
    REBASE,
    AdaptiveBranching,
    AStar,
    Beam,
    Beta,
    Foresight,
    Gaussian,
    ParticleFilter,
    ParticleGibbs,
    Ratio,
    Redo,
    Sample,
    StochasticBeam,
    Tilted,
    TreeBoN,
    first,
    log_reward,
    twisted,
)
from reasonweave.strategies.searches.rebase import shares
from reasonweave.verifiers import UtilityDigit

LN = math.log


def logit(r: float) -> float:
    return LN(r / (1 - r))


# Particles.


@dataclass
class Chosen:
    """A resampler that draws what it is told to, and keeps the chances it was given."""

    draws: list[list[int]]
    chances: list[list[float]] = field(default_factory=list)

    def __call__(self, weights: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
        self.chances.append(weights.tolist())
        return np.array(self.draws.pop(0))


TWO = {"": ["a", "b"], "a": ["c", "d"], "b": ["e", "f"]}


def test_weights_are_replaced_by_the_newest_odds() -> None:
    """Odds 4 and 1/4; both draws go to a; then its children are weighed by their own rewards alone."""
    draw = Chosen([[0, 0]])
    policy, prm = Dealt(TWO), Table({"a": 0.8, "b": 0.2, "ac": 0.4, "ad": 0.9})
    one, two = snapshots(ParticleFilter(policy, prm, 2, resample=draw))
    assert one.log_weights == pytest.approx([LN(4), -LN(4)])
    assert draw.chances == [pytest.approx([16 / 17, 1 / 17])]
    assert texts(two) == ["ac", "ad"]
    assert two.log_weights == pytest.approx([logit(0.4), logit(0.9)])
    assert prm.asked == [["a", "b"], ["ac", "ad"]]


def test_ratio_weights_are_divided_by_what_they_were_drawn_for() -> None:
    """Weights .8 and .2, drawn with these chances: .8 / (2 · .8) = ½ each. Then ½ · .4 / .8 and ½ · .9 / .8."""
    draw = Chosen([[0, 0]])
    prm = Table({"a": 0.8, "b": 0.2, "ac": 0.4, "ad": 0.9})
    one, two = snapshots(ParticleFilter(Dealt(TWO), prm, 2, log_reward, Ratio(), draw))
    assert np.exp(one.log_weights) == pytest.approx([0.8, 0.2])
    assert draw.chances == [pytest.approx([0.8, 0.2])]
    assert np.exp(two.log_weights) == pytest.approx([0.25, 0.5625])
    assert math.exp(two.log_evidence) == pytest.approx(0.40625)


def test_without_resampling_ratio_weights_are_the_rewards_of_the_solutions() -> None:
    prm = Table({"a": 0.8, "b": 0.2, "ac": 0.4, "be": 0.9})
    one, two = snapshots(ParticleFilter(Dealt(TWO), prm, 2, log_reward, Ratio(), when=lambda weights: False))
    assert np.exp(two.log_weights) == pytest.approx([0.4, 0.9])
    assert texts(one) + texts(two) == ["a", "b", "ac", "be"]


def test_a_look_ahead_draws_for_the_trial_step_and_takes_it_back() -> None:
    """Trials are worth .4 and .6: chances .8 · .4 / .8 and .2 · .6 / .2. Weights .8 / (2 · .4) and .2 / (2 · .6), then the real
    steps' .9 / .8 and .3 / .2."""
    draw = Chosen([[0, 1]])
    policy = Dealt(TWO)
    prm = Table({"a": 0.8, "b": 0.2, "ac": 0.4, "be": 0.6, "ad": 0.9, "bf": 0.3})
    _, two = snapshots(ParticleFilter(policy, prm, 2, log_reward, Ratio(), draw, look_ahead=True))
    assert draw.chances == [pytest.approx([0.4, 0.6])]
    assert texts(two) == ["ad", "bf"]
    assert np.exp(two.log_weights) == pytest.approx([1.125, 0.25])
    assert policy.asked == [["", ""], ["a", "b"], ["a", "b"]]


def test_no_trial_step_is_taken_after_the_last_step() -> None:
    policy = Dealt({"": ["a"], "a": ["b"], "ab": ["c"]})
    snapshots(ParticleFilter(policy, Table({"a": 0.5, "ab": 0.5}), 2, look_ahead=True, max_steps=2))
    assert len(policy.asked) == 3


@pytest.mark.parametrize("absorbing", [True, False])
def test_finished_particles_compete_or_are_set_aside(absorbing: bool) -> None:
    following = {"": ["a", "b", "c"], "b": ["d"], "c": ["e"]}
    prm = Table({"a": 0.5, "b": 0.8, "c": 0.2, "bd": 0.3, "ce": 0.1})
    draw = Chosen([[0, 1, 1]] if absorbing else [[0, 0]])
    policy = Dealt(following)
    _, two = snapshots(ParticleFilter(policy, prm, 3, resample=draw, absorbing=absorbing))
    odds = [1.0, 4.0, 0.25] if absorbing else [4.0, 0.25]
    assert draw.chances == [pytest.approx([o / sum(odds) for o in odds])]
    assert texts(two) == ["a", "bd", "bd"]
    assert policy.asked == [["", "", ""], ["b", "b"]]
    assert prm.asked == [["a", "b", "c"], ["bd", "bd"]]


def test_twisted_weights_are_roots_of_values_and_the_value_at_the_end() -> None:
    value = Table({"a": 0.64, "b": 0.36, "ac": 0.5, "be": 0.25})
    one, two = snapshots(twisted(Dealt(TWO), value, 2))
    assert np.exp(one.log_weights) == pytest.approx([0.8, 0.6])
    assert np.exp(two.log_weights) == pytest.approx([0.5, 0.25])


def test_a_reference_stays_in_its_place_and_is_weighed_as_far_as_it_is_written() -> None:
    """The first sweep ends with "ab" for certain. In the second it costs nothing and is worth what "a" was worth at step 1."""
    following = {"": ["a", "c", "e"], "a": ["b"], "c": ["d"], "e": ["f"]}
    prm = Table({"a": 1.0, "c": 0.0, "e": 0.0, "ab": 0.5})
    policy = Dealt(following)
    sets = snapshots(ParticleGibbs(ParticleFilter(policy, prm, 2), 2))
    assert [texts(found) for found in sets] == [["a", "c"], ["ab", "ab"], ["a", "e"], ["ab", "ab"]]
    assert policy.asked == [["", ""], ["a", "a"], [""], ["a"]]
    assert prm.asked == [["a", "c"], ["ab", "ab"], ["e"], ["ab"]]
    assert sets[2].log_weights == pytest.approx([logit(1 - 1e-7), logit(1e-7)])
    assert sets[3].log_weights == pytest.approx([0, 0])


def test_a_tilted_step_leaves_the_mean_of_its_siblings_as_its_weight() -> None:
    """G of .2 and .6: whichever is taken, it adds log(.4 / G), and a ratio filter makes log .4 of it."""
    policy = Dealt({"": ["a", "b"]})
    prm = Table({"a": 0.2, "b": 0.6})
    (one,) = snapshots(ParticleFilter(Tilted(policy, prm, 2), prm, 1, log_reward, Ratio()))
    assert np.exp(one.log_weights) == pytest.approx([0.4])
    assert prm.asked == [["a", "b"]]


# Beams.


def test_a_beam_sets_the_finished_aside_and_copies_the_best_in_turn() -> None:
    policy = Dealt({"": ["a", "b", "c", "d"], "a": ["x"], "b": ["y"], "c": ["z"]})
    prm = Table({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.95})
    one, two = snapshots(Beam(policy, prm, n=4, width=2))
    assert texts(one) == ["d", "a", "b", "c"]
    assert policy.asked == [[""] * 4, ["a", "b", "a", "b"]]
    assert texts(two) == ["d", "ax", "by", "ax", "by"]


@pytest.mark.parametrize(("distinct", "kept"), [(True, "ab"), (False, "aa")])
def test_beams_of_the_same_text_count_once_or_as_published(distinct: bool, kept: str) -> None:
    policy = Dealt({"": ["a", "a", "b", "c"], "a": ["x"], "b": ["y"], "c": ["z"]})
    snapshots(Beam(policy, Table({"a": 0.9, "b": 0.8, "c": 0.7}), n=4, width=2, distinct=distinct))
    assert policy.asked[1] == list(kept * 2)


def test_failed_beams_are_no_solutions() -> None:
    class Failing(Dealt):
        def _extended(self, candidate: Candidate) -> Candidate:
            made = super()._extended(candidate)
            return made if "b" not in made.text else replace(candidate, done=True, failed="no")

    policy = Failing({"": ["a", "b"], "a": ["c", "b"], "ac": ["d"]})
    sets = snapshots(Beam(policy, Table({"a": 0.5, "ac": 0.5}), n=2, width=2))
    assert "acd" in texts(sets[-1])


def test_foresight_scores_what_comes_and_throws_it_away() -> None:
    """a is worth more now, b after another step."""
    policy = Dealt({"": ["a", "b"], "a": ["x"], "b": ["y"]})
    greedy = Dealt({"a": ["x"], "b": ["y"]})
    prm = Table({"a": 0.9, "b": 0.8, "ax": 0.1, "by": 0.2})
    one, _ = snapshots(Beam(policy, Foresight(greedy, prm), n=2, width=2))
    assert [(c.text, c.score) for c in one] == [("b", Score(0.2)), ("a", Score(0.1))]
    assert policy.asked == [["", ""], ["b", "b"]]


def test_subtrees_never_compete() -> None:
    """b is better than all of the second subtree, and is dropped, because a is better still."""
    policy = Dealt({"": ["a", "b", "c", "d"], "a": ["e", "f"], "c": ["g", "h"]})
    prm = Table({"a": 0.9, "b": 0.8, "c": 0.2, "d": 0.1, "ae": 0.1, "af": 0.2, "cg": 0.3, "ch": 0.4})
    one, two = snapshots(DVTS(policy, prm, n=4, width=2))
    assert texts(one) == ["a", "b", "c", "d"]
    assert policy.asked == [[""] * 4, ["a", "a", "c", "c"]]
    assert texts(two) == ["ae", "af", "cg", "ch"]


def test_a_subtree_whose_best_is_finished_stops_and_keeps_its_last_steps() -> None:
    policy = Dealt({"": ["a", "b", "c", "d"], "b": ["!"], "c": ["g", "h"]})
    prm = Table({"a": 0.9, "b": 0.8, "c": 0.2, "d": 0.1})
    _, two = snapshots(DVTS(policy, prm, n=4, width=2))
    assert policy.asked == [[""] * 4, ["c", "c"]]
    assert texts(two) == ["a", "b", "cg", "ch"]


@pytest.mark.parametrize(("trust", "merits"), [(0.5, (0.4, 0.45)), (1.0, (0.64, 0.81)), (0.0, (0.25, 0.25))])
def test_the_merit_of_a_step_is_confidence_and_probability(trust: float, merits: tuple[float, float]) -> None:
    """√(.64 · .25) = .4, √(.81 · .25) = .45; the beam is worth their geometric mean."""
    policy = Dealt({"": ["a"], "a": ["b"]}, {"a": LN(0.25), "ab": LN(0.25)})
    (_, end) = snapshots(StochasticBeam(policy, Table({"a": 0.64, "ab": 0.81}), 1, 1, trust=trust))
    assert end[0].score is not None
    assert end[0].score.steps == pytest.approx(merits)
    assert end[0].score.value == pytest.approx(math.sqrt(math.prod(merits)))


def test_a_judge_says_itself_what_its_highest_score_is() -> None:
    judge = UtilityDigit(ScriptedModel(["9"]), expected=False)
    (*_, end) = snapshots(StochasticBeam(Dealt({"": ["a"]}), judge, 1, 1, trust=1))
    assert end[0].score == Score(1.0, (1.0,))
    with pytest.raises(BadInput, match="a score of 9 is above 1"):
        snapshots(StochasticBeam(Dealt({"": ["a"]}), Table({"a": 9}), 1, 1))


def test_a_digit_of_nine_is_certain_and_the_best_stay_at_temperature_zero() -> None:
    """Duplicates count once; finished beams compete and are not extended."""
    policy = Dealt({"": ["a", "a", "b", "c"], "b": ["x"], "c": ["y"]})
    beam = StochasticBeam(policy, Table({"a": 9, "b": 6, "c": 3, "bx": 1}), 2, 4, trust=1, temperature=0, scale=9)
    one, two = snapshots(beam)
    assert [(c.text, c.score and c.score.value) for c in one] == [("a", pytest.approx(1)), ("b", pytest.approx(2 / 3))]
    assert policy.asked == [[""] * 4, ["b"] * 4]
    assert texts(two) == ["a", "bx"]


def test_a_beam_that_only_ends_keeps_its_merits() -> None:
    """The model writes "so", then nothing: an end without a text is no step, and is not judged by its own merit."""
    model = ScriptedModel(lambda r: "" if r.context.prefix else "so\n\n")
    (one, end) = snapshots(StochasticBeam(Sample(model), Table({"so\n\n": 4.5}), 1, 1, trust=1, scale=9))
    assert end[0].done
    assert end[0].score == one[0].score
    assert end[0].score == Score(pytest.approx(0.5), (pytest.approx(0.5),))


def test_chances_are_merits_to_one_over_tau() -> None:
    """.8² : .4² = 4 : 1 at τ = ½, in 600 roots that each keep one of two."""
    taken = 0
    for seed in range(600):
        policy = Dealt({"": ["a", "b"]})
        ((one,),) = snapshots(StochasticBeam(policy, Table({"a": 0.8, "b": 0.4}), 1, 2, trust=1), seed=seed)
        taken += one.text == "a"
    assert chisquare([taken, 600 - taken], [480, 120]).pvalue > 1e-3


# REBASE.


@pytest.mark.parametrize(
    ("rewards", "total", "given"),
    [
        ([1.0], 16, [16]),
        ([0.5, 0.5, 0.5], 4, [2, 1, 1]),  # 4/3 up, then 2/2, then 1
        ([0.9, 0.8, 0.1], 4, [3, 1, 0]),  # 4 · 1 / 1.625 = 2.46 up, then 1 · .607 / .625 up
        ([0.6, 0.4], 3, [3, 0]),  # 3 · 1 / 1.368 = 2.19 up
        ([0.5, 0.46, 0.42, 0.38], 16, [6, 5, 3, 2]),  # 5.27, 10 · .819 / 2.038 = 4.02, 5 · .670 / 1.219 = 2.75, rest
        ([0.5, -math.inf], 2, [2, 0]),
        ([-math.inf, -math.inf], 3, [2, 1]),
    ],
)
def test_shares_are_rounded_up_from_what_is_left(rewards: list[float], total: int, given: list[int]) -> None:
    assert shares(rewards, total, 0.2) == given


def test_shares_add_up() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        rewards = sorted(rng.random(rng.integers(1, 20)) * rng.choice([1, 50]), reverse=True)
        total = int(rng.integers(1, 40))
        assert sum(shares(rewards, total, 0.2)) == total


def test_rebase_gives_a_share_less_for_each_solution() -> None:
    """Shares of 4 by .9, .8, .7, .1: 3, 1, 0, 0. One of a's children is an end, so 3 are shared out by .5, .4 and .1: 2, 1."""
    policy = Dealt({"": ["a", "b", "c", "d"], "a": ["e", "f", "g"], "ae": ["!"], "af": ["!"], "b": ["h"], "bh": ["!"]})
    prm = Table(
        {"a": 0.9, "b": 0.8, "c": 0.1, "d": 0.7, "ae": 0.5, "af": 0.4, "ag": 0.3, "bh": 0.1, "ae!": 0.1, "af!": 0.2}
    )
    following = dict(policy.following) | {"c": ["!"], "d": ["!"]}
    policy = Dealt(following)
    sets = snapshots(REBASE(policy, prm, 4))
    assert policy.asked == [[""] * 4, ["a", "a", "a", "b"], ["ae", "ae", "af"]]
    assert texts(sets[-1]) == ["ag", "ae!", "ae!", "af!"]


def test_a_child_without_a_score_gives_its_share_back() -> None:
    policy = Dealt({"": ["a", "b"], "a": ["x", "y"], "b": ["!"]})
    sets = snapshots(REBASE(policy, Table({"a": 0.5, "ax": 0.5, "ay": 0.4}), 2))
    assert policy.asked == [["", ""], ["a", "a"]]
    assert texts(sets[-1]) == ["ax", "ay"]


# A*. In sixteenths: h = 16 − r, g grows by each rise of h.

ASTAR = {
    "": ["a", "b"],  # a: h 3, f 3; b: h 5, f 5
    "a": ["a", "b"],  # aa: h 6, g 3, f 9; ab: h 2, f 2
    "ab": ["a", "b"],  # aba: h 8, g 6, f 14; abb: h 4, g 2, f 6
    "b": ["a", "b"],  # ba, an end: h 5½, g ½, f 6; bb, an end: h 6, g 1, f 7
    "abb": ["a", "b"],  # abba, an end: h 4, g 2, f 6; abbb: h 7, g 5, f 12
    "aa": ["!"],
    "aba": ["!"],
    "abbb": ["!"],
}
REWARDS = {"a": 13, "b": 11, "aa": 10, "ab": 14, "aba": 8, "abb": 12, "ba": 10.5, "bb": 10, "abba": 12, "abbb": 9}


@pytest.mark.parametrize("batch", [1, 2])
def test_astar_expands_by_f_and_the_deeper_of_two(batch: int) -> None:
    """abb and ba have the same f, so abb is expanded; abba and ba have the same f, so abba comes up. With two at a time, ba does
    not come up while abb, which is as low, is being expanded."""
    policy = Dealt(ASTAR)
    sets = snapshots(AStar(policy, Table({k: v / 16 for k, v in REWARDS.items()}), width=2, batch=batch))
    expanded = [text for call in policy.asked for text in call[::2]]
    assert sorted(expanded, key=len) == ["", "a", "b", "ab", "abb"]
    assert expanded == (["", "a", "ab", "b", "abb"] if batch == 1 else ["", "a", "b", "ab", "abb"])
    assert texts(sets[-1]) == ["abba", "ba", "bb"]
    assert first(sets[-1]).items[0].text == "abba"


def test_astar_goes_on_to_more_answers_and_where_expansions_end_it_the_lowest_is_first() -> None:
    prm = Table({k: v / 16 for k, v in REWARDS.items()})
    policy = Dealt(ASTAR)
    assert texts(snapshots(AStar(policy, prm, 2, answers=3))[-1]) == ["abba", "ba", "bb"]
    assert len(policy.asked) == 5
    found = snapshots(AStar(Dealt(ASTAR), prm, 2, expansions=4))[-1]
    assert texts(found) == ["ba", "bb"]


def test_astar_merges_equal_steps_and_forgets_beyond_the_frontier() -> None:
    prm = Table({"a": 0.5, "b": 0.25})
    policy = Dealt({"": ["a", "a", "b"], "a": ["x"], "b": ["y"]})
    snapshots(AStar(policy, prm, 3, answers=9))
    assert policy.asked == [[""] * 3, ["a"] * 3, ["b"] * 3]
    policy = Dealt({"": ["a", "a", "b"], "a": ["x"], "b": ["y"]})
    snapshots(AStar(policy, prm, 3, answers=9, frontier=1))
    assert policy.asked == [[""] * 3, ["a"] * 3]


# Trees of solutions.


def test_layers_keep_the_best_and_branch_them() -> None:
    policy = Dealt(
        {"": ["a", "b", "c", "d"], "a": ["a", "b"], "d": ["a", "b"], "b": [], "c": [], "da": ["!"], "ab": ["!", "?"]}
        | {"aa": ["!"], "db": ["!"]}
    )
    prm = Table({"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.7, "aa": 0.2, "da": 0.9, "ab": 0.8, "db": 0.3})
    final = Table({"da!": 0.5, "ab!": 0.6, "ab?": 0.7})
    sets = snapshots(TreeBoN(policy, prm, n=4, children=2, layers=2, final=final))
    assert policy.asked == [[""] * 4, ["a", "d", "a", "d"], ["da", "ab", "da", "ab"]]
    assert prm.asked == [["a", "b", "c", "d"], ["aa", "da", "ab", "db"]]
    assert final.asked == [["da!", "ab!", "da!", "ab?"]]
    assert [c.score and c.score.value for c in sets[-1]] == [0.5, 0.6, 0.5, 0.7]


UCT = {"": ["a", "b"], "a": ["a", "b"], "b": ["a", "b"], "aa": ["!"], "ab": ["!"], "ba": ["!"], "bb": ["!"]}


@pytest.mark.parametrize(
    ("exploration", "begun"),
    [
        # N=2: .6 + √(2 ln 2) > .4 + √(2 ln 2). N=3: .4 + √(ln 3) = 1.45 < .4 + √(2 ln 3) = 1.88. N=4: .65 > .4, n=2 each
        (math.sqrt(2), ["", "", "a", "b", "b"]),
        # .6 > .4; then (.6 + .2) / 2 = .4, a tie that goes to a; then (.8 + .1) / 3 = .3 < .4
        (0.0, ["", "", "a", "a", "b"]),
    ],
)
def test_uct_by_hand(exploration: float, begun: list[str]) -> None:
    policy = Dealt(UCT)
    prm = Table({"a": 0.6, "b": 0.4, "aa": 0.2, "ab": 0.1, "ba": 0.9, "bb": 0.9})
    snapshots(MCTS(policy, prm, n=5, width=2, exploration=exploration, rollout=False, batch=1))
    assert [text for call in policy.asked for text in call] == begun


def test_two_simulations_at_a_time_go_to_different_nodes() -> None:
    """Both would choose a (1.78 against 1.58). The first counts as a visit of value 0: .6 / 2 + √(ln 3) = 1.35, below b."""
    policy = Dealt(UCT)
    snapshots(MCTS(policy, Table({"a": 0.6, "b": 0.4}), n=4, width=2, rollout=False, batch=2))
    assert policy.asked == [["", ""], ["a", "b"]]


def test_a_rollout_is_thrown_away_and_its_score_is_not() -> None:
    """Simulation 3 begins at a, because "a!" was worth more than "b!"; the ends are the result, each once."""
    policy = Dealt({"": ["a", "b"], "a": ["!"], "b": ["!"]})
    prm = Table({"a!": 0.9, "b!": 0.1})
    sets = snapshots(MCTS(policy, prm, n=4, width=2, exploration=0.1, batch=1))
    assert policy.asked == [[""], ["a"], [""], ["b"], ["a"], ["a"]]
    assert prm.asked == [["a!"], ["b!"], ["a!"], ["a!"]]
    assert texts(sets[-1]) == ["a!", "b!"]


def test_a_finished_node_gives_its_score_again_at_no_cost() -> None:
    policy, prm = Dealt({"": ["a", "b"]}), Table({"a": 0.9, "b": 0.1})
    sets = snapshots(MCTS(policy, prm, n=8, width=2, batch=1))
    assert policy.asked == [[""], [""]]
    assert prm.asked == [["a"], ["b"]]
    assert len(sets) == 8


@dataclass
class Means:
    """A posterior without chance: the mean, or ½ where nothing was told. It keeps what it was asked."""

    asked: list[tuple[int, float]] = field(default_factory=list)

    def draw(self, told: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        self.asked += [(int(n), round(float(total), 9)) for n, total, _ in told]
        return np.array([total / n if n else 0.5 for n, total, _ in told])


@dataclass
class Numbered:
    """A refiner that writes the next letter after its parent's text."""

    letters: str = "abcdefgh"
    asked: list[list[str]] = field(default_factory=list)

    async def refine(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        begun = sum(map(len, self.asked))
        self.asked.append([c.text for c in candidates])
        return [
            Candidate(c.problem, (*c.steps, Step(self.letters[begun + i], "m", 1)), done=True)
            for i, c in enumerate(candidates)
        ]


def test_who_is_told_which_score() -> None:
    """a .7 and b .1 at the root, where going on (½) then beats a new answer (.4); from there on a's children, c .9 and d .2."""
    refiner, means = Numbered(), Means()
    prm = Table({"a": 0.7, "b": 0.1, "ac": 0.9, "ad": 0.2})
    (*_, end) = snapshots(AdaptiveBranching({"m": refiner}, prm, 5, means, batch=1))
    assert refiner.asked == [[""], [""], ["a"], ["a"], ["a"]]
    asked = iter(means.asked)

    def told(k: int) -> list[tuple[int, float]]:
        return [next(asked) for _ in range(k)]

    assert told(2) == [(1, 0.7), (0, 0)]  # the root: new, go on
    assert told(2) == [(2, 0.8), (0, 0)]  # the root: go on ½ > .4
    assert told(2) == [(1, 0.7), (1, 0.1)]  # a, b: to a, which has no children
    assert told(2) == [(2, 0.8), (1, 0.9)]  # the root
    assert told(2) == [(2, 1.6), (1, 0.1)]  # a has its own and ac's
    assert told(2) == [(1, 0.9), (0, 0)]  # at a: new, go on
    assert told(4) == [(2, 0.8), (2, 1.1), (3, 1.8), (1, 0.1)]  # ad's .2 went to a and to the root's go on
    assert told(2) == [(2, 1.1), (0, 0)]  # at a: new .55 > go on ½
    assert next(asked, None) is None
    assert texts(end) == ["a", "b", "ac", "ad", "ae"]


def test_answers_under_way_count_as_zero() -> None:
    """a .7 and b .6: "new" is worth .65 > ½, but with one under way 1.3 / 3 < ½, so the second goes deeper."""
    refiner = Numbered()
    prm = Table({"a": 0.7, "b": 0.6, "c": 0.1, "ad": 0.1})
    snapshots(AdaptiveBranching({"m": refiner}, prm, 4, Means(), batch=2))
    assert refiner.asked == [["", ""], ["", "a"]]


def test_actions_are_told_of_their_answers_in_the_whole_tree() -> None:
    """Both ½: the first writes "a"; its .2 < ½: the other refines it, and its .9 keeps it there."""
    one, two = Numbered("abcd"), Numbered("vwxyz")
    prm = Table({"a": 0.2, "av": 0.9, "aw": 0.9, "ax": 0.9})
    snapshots(AdaptiveBranching({"one": one, "two": two}, prm, 4, Means(), batch=1))
    assert one.asked == [[""]]
    assert two.asked == [["a"], ["a"], ["a"]]


def test_posteriors_after_known_scores() -> None:
    """.5, .6, .7 on treequest's prior: κ' = ν' = 4, m' = 1.8 / 4, ν'τ'² = .1 + .02 + 3 · .36 / 4 = .39."""
    rng = np.random.default_rng(0)
    normal = Gaussian().draw(np.tile([3, 1.8, 1.1], (4000, 1)), rng)
    assert kstest(normal, student(4, 0.45, math.sqrt(0.39 / 16)).cdf).pvalue > 1e-3
    before = Gaussian().draw(np.zeros((4000, 3)), rng)
    assert kstest(before, student(1, 0, math.sqrt(0.1)).cdf).pvalue > 1e-3
    shares_ = Beta().draw(np.tile([3, 1.8, 1.1], (4000, 1)), rng)
    assert kstest(shares_, beta(2.3, 1.7).cdf).pvalue > 1e-3


def test_redo_keeps_what_came_before_the_worst_step() -> None:
    policy = Dealt({"ab": ["!"], "a": ["!"], "": ["!"]})
    three = Candidate(PROBLEM, tuple(Step(x, "m", 1) for x in "abc"), done=True)
    given = Candidates((replace(three, score=Score(0.1, (0.9, 0.8, 0.1))), three, Candidate(PROBLEM)))

    async def redo(candidates: Candidates) -> list[Candidate]:
        return await Redo(policy).refine(list(candidates), Run(1))

    assert texts(Candidates(tuple(asyncio.run(redo(given))))) == ["ab!", "a!", "!"]
