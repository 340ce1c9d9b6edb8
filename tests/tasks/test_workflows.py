"""The example workflows: short, checked before they run, and anytime: an answer within every budget, and more never hurts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from math import comb
from pathlib import Path

import pytest

from reasonweave.orchestrator import Budget, Result, Strategy, asolve, check
from reasonweave.orchestrator.registry import Workflow
from reasonweave.tasks.evaluation.runner import problem_seed
from reasonweave.tasks.lab.task import LabTask
from reasonweave.tasks.opening import Models, specs_of

WORKFLOWS = sorted((Path(__file__).parents[2] / "examples" / "workflows").glob("*.py"))
BUDGETS = (0, 45, 120, 400, 1_200, None)
PROBLEMS = 20


@cache
def models() -> Models:
    return Models(specs_of("lab", {}, []))


def flow_of(file: Path) -> Strategy:
    return models().bind(Workflow.named(str(file)), {})[0]


async def solved(flow: Strategy, budget: Budget | None) -> list[tuple[bool, Result]]:
    async def one(i: int) -> tuple[bool, Result]:
        example = LabTask().examples(PROBLEMS)[i]
        own = problem_seed(0, example.problem.id)
        result = await asolve(example.problem, flow, budget=budget, seed=own)
        return example.correct(result.answer), result

    return await asyncio.gather(*(one(i) for i in range(PROBLEMS)))


def sign_test(lost: int, gained: int) -> float:
    """The chance of so many losses or more among the problems whose outcome changed, were losses and gains equally likely."""
    n = lost + gained
    return sum(comb(n, k) for k in range(lost, n + 1)) / 2**n


def test_there_are_five_and_they_are_short() -> None:
    assert len(WORKFLOWS) >= 5
    for file in WORKFLOWS:
        assert len(file.read_text().splitlines()) <= 40, file


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_more_budget_never_hurts_and_no_budget_is_exceeded(file: Path) -> None:
    """Three pairs of budgets a workflow; a fall counts at p < 0.001 of the sign test, so that all six workflows together
    raise a false alarm once in fifty new seeds at most."""
    flow = flow_of(file)
    check(flow)
    outcomes: dict[int | None, Sequence[bool]] = {}
    for tokens in BUDGETS:
        found = asyncio.run(solved(flow, None if tokens is None else Budget(tokens=tokens)))
        assert all(tokens is None or result.tokens <= tokens for _, result in found)
        if tokens is None or tokens >= 120:
            assert all(result.answer is not None for _, result in found)
        outcomes[tokens] = [right for right, _ in found]
    for less, more in ((120, 400), (400, 1_200), (400, None)):
        pairs = list(zip(outcomes[less], outcomes[more], strict=True))
        assert sign_test(pairs.count((True, False)), pairs.count((False, True))) >= 0.001
    assert sum(outcomes[None]) >= sum(outcomes[120]) + 5
