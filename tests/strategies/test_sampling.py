from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Completion,
    Context,
    Ledger,
    Problem,
    Run,
    Step,
    Token,
    Usage,
    chain,
    solve,
)
from reasonweave.orchestrator.testing import ScriptedModel, words
from reasonweave.strategies import BestOfN, ForceAnswer, Sample, majority, whole
from reasonweave.strategies.policies.sample import split

PROBLEM = Problem("what is it")


@given(st.text(alphabet="ab \n", max_size=40))
def test_splitting_keeps_every_character_token_and_logprob(text: str) -> None:
    tokens = tuple(Token(piece, -0.5) for piece in words(text))
    steps = split(Completion(text, "eos", Usage(), tokens), "m")
    assert "".join(step.text for step in steps) == text
    if text:
        assert sum(step.tokens for step in steps) == len(tokens)
        assert sum(step.logprob or 0 for step in steps) == pytest.approx(-0.5 * len(tokens))
    assert all("\n\n" not in step.text[:-2] for step in steps)


def test_the_end_token_without_text_counts_to_the_last_step() -> None:
    tokens = (Token("a", -1.0), Token("\n\n", -1.0), Token("b", -1.0), Token("", -0.25))
    first, second = split(Completion("a\n\nb", "eos", Usage(), tokens), "m")
    assert (first.tokens, first.logprob) == (2, -2.0)
    assert (second.tokens, second.logprob) == (2, -1.25)


def extend(policy: Sample, candidate: Candidate, run: Run | None = None) -> Candidate:
    return asyncio.run(policy.extend([candidate], run or Run()))[0]


def test_a_step_keeps_its_delimiter_and_goes_on_from_the_text_so_far() -> None:
    model = ScriptedModel(["one\n\ntwo", "two\n\nthree", r"\boxed{3}"])
    policy = Sample(model)
    first = extend(policy, Candidate(PROBLEM))
    assert (first.text, first.done) == ("one\n\n", False)
    second = extend(policy, first)
    assert model.calls[1][0].context.prefix == "one\n\n"
    third = extend(policy, second)
    assert (third.text, third.done, third.answer) == ("one\n\ntwo\n\n" + r"\boxed{3}", True, "3")
    assert {step.author for step in third.steps} == {"scripted"}


def test_a_step_cut_by_its_ceiling_is_not_finished() -> None:
    model = ScriptedModel(["a b c d e\n\n"])
    cut = extend(Sample(model, max_tokens=2), Candidate(PROBLEM))
    assert (cut.text, cut.done) == ("a b", False)


def test_a_whole_solution_ends_at_its_ceiling_but_not_at_the_budgets() -> None:
    model = ScriptedModel(["w " * 50])
    assert extend(whole(model, max_tokens=10), Candidate(PROBLEM)).done
    starved = Run(ledger=Ledger(Budget(tokens=model.count(Context(PROBLEM.messages)) + 5)))
    assert not extend(whole(model, max_tokens=10), Candidate(PROBLEM), starved).done


def test_a_model_that_says_nothing_ends_its_candidate() -> None:
    silent = extend(Sample(ScriptedModel([""])), Candidate(PROBLEM))
    assert silent.done
    assert silent.answer is None


def search(strategy: BestOfN, run: Run | None = None) -> list[Candidates]:
    async def collect() -> list[Candidates]:
        return [snapshot async for snapshot in strategy.search(Candidates.of(PROBLEM), run or Run())]

    return asyncio.run(collect())


def test_best_of_n_is_one_call_for_whole_solutions() -> None:
    model = ScriptedModel()
    (found,) = search(BestOfN(whole(model), n=5))
    assert len(found) == 5
    assert found.all_done
    assert len(model.calls) == 1
    assert len({c.text for c in found}) > 1


def test_best_of_n_steps_until_all_are_done_and_extends_none_that_is() -> None:
    model = ScriptedModel()
    snapshots = search(BestOfN(Sample(model), n=4))
    assert snapshots[-1].all_done
    for batch in model.calls:
        assert all("boxed" not in request.context.prefix for request in batch)


def force(model: ScriptedModel, roots: Candidates, tokens: float | None = None) -> Candidates | None:
    async def collect() -> list[Candidates]:
        run = Run(ledger=Ledger(Budget(tokens=tokens)))
        return [s async for s in ForceAnswer(model).search(roots, run)]

    found = asyncio.run(collect())
    return found[0] if found else None


def test_a_forced_answer_continues_the_longest_solution_from_a_whole_step() -> None:
    model = ScriptedModel(["12} and more"])
    short = Candidate(PROBLEM, (Step("a\n\n", "m", 2),))
    long = Candidate(PROBLEM, (Step("a\n\n", "m", 2), Step("half a st", "m", 3)))
    forced = force(model, Candidates((short, long)))
    assert forced is not None
    assert forced.answer == "12"
    assert model.calls[0][0].context.prefix == "a\n\nThe answer is \\boxed{"
    assert forced[-1].text == "a\n\nThe answer is \\boxed{12}"
    assert len(forced) == 3


def test_a_forced_answer_falls_back_to_the_bare_problem_and_to_one_token() -> None:
    model = ScriptedModel(["12 34 56"])
    long = Candidate(PROBLEM, (Step("w " * 100 + "\n\n", "m", 101),))
    bare = model.count(ForceAnswer(model)._context(Candidate(PROBLEM), ""))
    forced = force(model, Candidates((long,)), tokens=bare + 1)
    assert forced is not None
    assert forced.answer == "12"
    assert model.calls[0][0].context.prefix == "The answer is \\boxed{"


def test_an_answer_is_not_forced_where_there_is_one() -> None:
    assert force(ScriptedModel(), Candidates((Candidate(PROBLEM),), answer="3")) is None


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\frac{1}{2", "\\frac{1}{2}"),
        ("7}. So we are done", "7"),
        ("7", "7"),
    ],
)
def test_a_forced_answer_may_have_braces_of_its_own(written: str, answer: str) -> None:
    model = ScriptedModel(lambda request: written if request.context.prefix.endswith("boxed{") else "no idea")
    flow = chain(BestOfN(whole(model), n=1, max_steps=1), majority, finish=ForceAnswer(model))
    assert solve("q", flow).answer == answer


def test_a_forced_answer_keeps_the_steps_that_were_written() -> None:
    model = ScriptedModel(lambda request: "7}" if request.context.prefix.endswith("boxed{") else "one two\n\nthree")
    result = solve("q", chain(BestOfN(whole(model), n=1, max_steps=1), majority, finish=ForceAnswer(model)))
    forced = result.candidates[-1]
    assert [step.text for step in forced.steps] == ["one two\n\n", "The answer is \\boxed{", "7}"]
    assert [step.tokens for step in forced.steps] == [3, 0, 1]


def test_a_solution_that_fills_the_context_is_answered_from_the_bare_problem() -> None:
    model = ScriptedModel(lambda request: "7}" if request.context.prefix.endswith("boxed{") else "w " * 90)
    model.context_length = 60
    assert solve("q", chain(BestOfN(whole(model), n=1), majority, finish=ForceAnswer(model))).answer == "7"


def test_a_token_across_a_boundary_shifts_no_later_step() -> None:
    pieces = ["a", "\n\n\n", "b", "\n\n", "c"]
    tokens = tuple(Token(piece, -1.0) for piece in pieces)
    steps = split(Completion("".join(pieces), "eos", Usage(), tokens), "m")
    assert [step.tokens for step in steps] == [1, 3, 1]
    assert [step.logprob for step in steps] == [-1.0, -3.0, -1.0]


@pytest.mark.parametrize("n", [0, -1])
def test_no_samples_are_refused(n: int) -> None:
    with pytest.raises(BadInput, match="1 or more"):
        BestOfN(whole(ScriptedModel()), n=n)
