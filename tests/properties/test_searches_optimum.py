"""Searches with room for everything find what is best, on toys whose every solution can be listed."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from toy import Dealt, Table, Toy, Walk, searched

from reasonweave.strategies import best, first
from reasonweave.strategies.searches import MCTS, AStar, Beam

TOYS = [Toy(seed, "abc", 4, early=0.4, at_once=0.0) for seed in range(20)]
FEW_EARLY = [Toy(seed, "abc", 4, early=0.15, at_once=0.0) for seed in range(20)]
"""A beam search ends when n beams are finished, copies of the same solution included: here that is at the end."""
LEVEL = [Toy(seed, "abc", 3, early=0.0) for seed in range(20)]
BINARY = [Toy(seed, "ab", 4, early=0.3) for seed in range(20)]


def optimum(toy: Toy) -> str:
    return max(toy.leaves, key=toy.rewards.__getitem__)


@pytest.mark.parametrize("toy", FEW_EARLY, ids=range(20))
def test_a_beam_of_full_width_finds_the_best_solution(toy: Toy) -> None:
    (found,) = searched(Beam(Dealt(toy), Table(toy.rewards), n=81, width=3), range(1))
    assert best(found).answer == optimum(toy)
    assert {c.text for c in found} == set(toy.leaves)


@pytest.mark.parametrize("toy", LEVEL, ids=range(20))
def test_a_narrow_beam_finds_it_where_prefixes_are_scored_by_the_best_below_them(toy: Toy) -> None:
    (found,) = searched(Beam(Dealt(toy), Table(toy.highest), n=3, width=3), range(1))
    assert best(found).answer == optimum(toy)


@pytest.mark.parametrize("toy", TOYS, ids=range(20))
@pytest.mark.parametrize("batch", [1, 3])
def test_astar_goes_straight_to_the_best_solution_with_an_exact_heuristic(toy: Toy, batch: int) -> None:
    (found,) = searched(AStar(Dealt(toy), Table(toy.highest), width=3, batch=batch), range(1))
    assert first(found).answer == optimum(toy)
    (found,) = searched(AStar(Dealt(toy), Table(toy.highest), width=3, expansions=len(optimum(toy))), range(1))
    assert best(found).answer == optimum(toy)


@pytest.mark.parametrize("toy", TOYS, ids=range(20))
def test_astar_with_any_rewards_finds_the_way_of_the_lowest_pass(toy: Toy) -> None:
    """With any rewards of prefixes. f can fall again on the way, so that the first solution to come up is that whose highest f
    on the way is the lowest."""

    def highest(text: str) -> float:
        path = [toy.rewards[text[: k + 1]] for k in range(len(text))]
        drops = [0.0, *accumulate(max(0.0, a - b) for a, b in pairwise(path))]
        return max(g + 1 - r for g, r in zip(drops, path, strict=True))

    (found,) = searched(AStar(Dealt(toy), Table(toy.rewards), width=3), range(1))
    assert highest(first(found).answer or "") == min(map(highest, toy.leaves))


@pytest.mark.parametrize("rollout", [True, False])
@pytest.mark.parametrize("toy", BINARY, ids=range(20))
def test_many_simulations_find_the_best_solution(toy: Toy, rollout: bool) -> None:
    # Of two children, 24 samples miss one with 1e-7, and at most 4 lie on the way to the best: 20 toys miss it with 1e-5.
    even = Walk(toy, {prefix: dict.fromkeys(nexts, 1 / len(nexts)) for prefix, nexts in toy.chances.items()})
    # Where prefixes are scored that mislead, the way to the best is gone to only as often as the logarithm of n, so that it
    # takes a wide bound.
    mcts = MCTS(
        even,
        Table(toy.rewards),
        n=300 if rollout else 1200,
        width=24,
        exploration=1.4 if rollout else 4.0,
        rollout=rollout,
        batch=8,
    )
    (found,) = searched(mcts, range(1))
    assert best(found).answer == optimum(toy)
    assert all(c.done for c in found)
