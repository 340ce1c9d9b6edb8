"""Laws tested over everything that is registered: a new part gets these tests by its entry point."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from reasonweave.orchestrator import Candidate, Candidates, Completion, Model, Problem, Request, Run, Score, Verifier
from reasonweave.orchestrator.registry import Workflow, names
from reasonweave.orchestrator.testing import (
    ContractBroken,
    ScriptedModel,
    ScriptedReward,
    check_model,
    check_policy,
    check_strategy,
    check_verifier,
)
from reasonweave.strategies import Sample, whole
from reasonweave.verifiers import PrefixReward, ProcessReward, SelfCheck, UtilityDigit


def build(name: str) -> Any:
    """A workflow over scripted models, whatever roles it asks for."""
    workflow = Workflow.named(name)
    parts: dict[str, Any] = {}
    for role, kind in workflow.roles.items():
        if kind is Model:
            parts[role] = ScriptedModel(name=role)
        else:
            assert kind is Verifier, f"{name}: what is a {kind}?"
            parts[role] = ProcessReward(ScriptedReward(name=role))
    return workflow.make(**parts)


@pytest.mark.parametrize("name", names("workflow"))
def test_every_workflow_keeps_its_promises(name: str, problem: Problem) -> None:
    check_strategy(build(name), problem)


def test_models_keep_theirs() -> None:
    check_model(ScriptedModel())


@pytest.mark.parametrize("policy", [Sample(ScriptedModel()), whole(ScriptedModel())], ids=["step", "whole"])
def test_policies_keep_theirs(policy: Sample, problem: Problem) -> None:
    check_policy(policy, problem)


@pytest.mark.parametrize(
    "verifier",
    [
        ProcessReward(ScriptedReward()),
        PrefixReward(ScriptedReward()),
        UtilityDigit(ScriptedModel(["7"])),
        SelfCheck(ScriptedModel(["True"])),
    ],
    ids=["prm", "prefix", "digit", "self-check"],
)
def test_verifiers_keep_theirs(verifier: Verifier, problem: Problem) -> None:
    check_verifier(verifier, problem)


# The checks themselves must be able to fail.


class Liar(ScriptedModel):
    """Claims fewer prompt tokens than it uses."""

    def count(self, context: Any) -> int:
        return 1

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        answers = await super()._generate(requests)
        return [Completion(a.text, a.finish_reason, self.rates.price(prompt=50, completion=2)) for a in answers]


class Moody(ScriptedModel):
    """Answers differently every time."""

    def __init__(self) -> None:
        super().__init__([str(i) for i in range(100)])


@pytest.mark.parametrize("model", [Liar(), Moody()], ids=["liar", "moody"])
def test_a_bad_model_is_caught(model: Model) -> None:
    with pytest.raises(ContractBroken):
        check_model(model)


@dataclass(frozen=True)
class Rewriter:
    async def extend(self, candidates: Sequence[Candidate], run: Run) -> list[Candidate]:
        return list(candidates[:2])


def test_a_bad_policy_is_caught(problem: Problem) -> None:
    with pytest.raises(ContractBroken, match="3 candidates became 2"):
        check_policy(Rewriter(), problem)


@dataclass(frozen=True)
class Positional:
    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        return [Score(float(i)) for i in range(len(candidates))]


def test_a_bad_verifier_is_caught(problem: Problem) -> None:
    with pytest.raises(ContractBroken, match="order"):
        check_verifier(Positional(), problem)


@dataclass(frozen=True)
class Forgetful:
    """Gives another result on every run."""

    model: Model
    seen: list[int] = field(default_factory=list)

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        self.seen.append(1)
        await Sample(self.model).extend(list(roots), run.child("x", len(self.seen)))
        yield roots.repeat(len(self.seen))


def test_a_bad_strategy_is_caught(problem: Problem) -> None:
    with pytest.raises(ContractBroken, match="same seed"):
        check_strategy(Forgetful(ScriptedModel()), problem)
