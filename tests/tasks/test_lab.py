from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonweave.orchestrator import BadInput
from reasonweave.tasks.lab import problems as lab_problems
from reasonweave.tasks.lab.corpus import document, label, slip, write
from reasonweave.tasks.lab.problems import LEVEL, LEVELS, Chain, Level, draw, parse, problems, stream
from reasonweave.tasks.lab.task import LabTask


@given(st.integers(0, 10**6), st.sampled_from(LEVELS))
@settings(max_examples=300)
def test_problems_are_whole_numbers_in_range_and_read_back(seed: int, level: int) -> None:
    chain = draw(random.Random(seed), level)
    low, high = LEVEL[level].operations
    assert low <= len(chain.operations) <= high
    assert all(0 <= value <= 99 for value in chain.values)
    before = chain.start
    for (symbol, operand), value in zip(chain.operations, chain.values, strict=True):
        assert eval(f"{before} {symbol} {operand}") == value
        before = value
    assert parse(chain.text).operations == chain.operations


def test_splits_are_disjoint_and_seeded() -> None:
    test, train = problems(300, split="test"), problems(300, split="train")
    assert all(chain.split == "test" for chain in test)
    assert not {c.text for c in test} & {c.text for c in train}
    assert len({c.text for c in test}) == 300
    assert problems(300, split="test") == test
    assert problems(300, split="test", seed=1) != test
    assert [c.level for c in test[:7]] == [1, 2, 3, 4, 5, 1, 2]


def test_a_shorter_list_is_the_beginning_of_a_longer_one() -> None:
    assert [e.problem.id for e in LabTask().examples(7)] == [e.problem.id for e in LabTask().examples(50)][:7]


@given(st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=300)
def test_labels_agree_with_how_the_solution_was_written(seed: int, slips: float) -> None:
    rng = random.Random(seed)
    chain = draw(rng, rng.choice(LEVELS))
    steps = write(chain, rng, slips=slips)
    assert label(chain, [step.text for step in steps]) == [step.right for step in steps]


CHAIN = Chain(47, (("+", 38), ("*", 6)), level=1)


@pytest.mark.parametrize(
    ("steps", "labels"),
    [
        (["A: 47 + 38 = 85", "B: 85 * 6 = 510", r"The answer is \boxed{510}"], [True, True, True]),
        (["A: 47 + 38 = 75", "B: 75 * 6 = 450", r"The answer is \boxed{450}"], [False, False, False]),
        (["A: 47 + 38 = 75", "B: 85 * 6 = 510"], [False, True]),
        (["A: 47 + 38 = 85", "A: 47 + 38 = 85"], [True, False]),
        (["B: 85 * 6 = 510"], [False]),
        (["A: 47 + 39 = 86"], [False]),
        (["hello", "A: 47 + 38 = 85"], [False, True]),
        (["A: 47 + 38 = 85", r"The answer is \boxed{510}"], [True, False]),
        (["A: 47 + 38 = 85", "B: 85 * 6 = 510", "C: 510 + 1 = 511"], [True, True, False]),
        (["Wait, A: 47 + 38 = 85"], [True]),
    ],
)
def test_labels_by_hand(steps: list[str], labels: list[bool]) -> None:
    assert label(CHAIN, steps) == labels


@given(st.integers(0, 10**6), st.integers(0, 99), st.integers(1, 99), st.integers(0, 99))
def test_a_slip_is_wrong_and_not_negative(seed: int, result: int, value: int, operand: int) -> None:
    assert 0 <= slip(random.Random(seed), result, value, operand) != result


def test_documents_teach_what_the_card_measures() -> None:
    """Shares over 4,000 documents; each bound is more than six standard errors from the rate aimed at."""
    rng, chains = random.Random(0), stream("train", 0)
    texts = ["".join(piece.text for piece in document(next(chains), rng)) for _ in range(4000)]
    assert 0.25 < sum("Grade: " in t for t in texts) / 4000 < 0.35
    assert 0.15 < sum("True or False" in t for t in texts) / 4000 < 0.25
    assert 0.25 < sum("Wait" in t for t in texts) / 4000 < 0.6


def test_prompts_and_most_slips_carry_no_loss() -> None:
    rng, chains = random.Random(0), stream("train", 0)
    wrong = imitated = 0
    for _ in range(2000):
        for piece in document(next(chains), rng):
            if piece.text.startswith("<|im_start|>user") or "<|im_start|>user" in piece.text:
                assert piece.learn == 0
        for step in write(next(chains), rng, slips=0.5, imitated=0.1):
            wrong += not step.sound
            imitated += not step.sound and step.learn > 0
    assert 0.05 < imitated / wrong < 0.15


def test_more_problems_than_there_are_is_told_and_no_endless_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_problems, "LEVEL", {1: Level((1, 1), 3, products=False)})
    with pytest.raises(BadInput, match=r"5,000 problems of the lab: after .* nearly all of level 1"):
        problems(5_000, levels=[1])
