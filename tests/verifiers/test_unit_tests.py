from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reasonweave.orchestrator import Budget, Candidate, Completion, OverBudget, Problem, Request, Run, Score, Step
from reasonweave.orchestrator.budget import Ledger
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.sandbox import Limits, Sandbox
from reasonweave.orchestrator.testing import ScriptedModel, check_verifier
from reasonweave.verifiers.unit_tests import AssertTests, StatementTests, asserts_in, statements_in, verdicts_in

PROBE = Sandbox().probe()
whole = pytest.mark.skipif(not PROBE.whole, reason=f"no whole sandbox on this machine: {' '.join(PROBE.missing)}")
SMALL = Sandbox(Limits(seconds=10.0, memory=128 << 20, processes=12))
PROBLEM = Problem("Name a prime number.", "p")


def answers(*texts: str, problem: Problem = PROBLEM) -> list[Candidate]:
    return [Candidate(problem, (Step(text, "m", 1),), done=True) for text in texts]


def scores(
    verifier: StatementTests | AssertTests, candidates: Sequence[Candidate], run: Run | None = None
) -> list[Score]:
    return asyncio.run(verifier.score(candidates, run or Run()))


def asked(request: Request) -> str:
    (message,) = request.context.messages
    return message.content


# Statements


WRITTEN = '["It is a number.", "It is even.", "It is prime."]'


def evaluator(request: Request) -> str:
    """Writes three statements, and judges them of a number by arithmetic."""
    text = asked(request)
    if "Unit tests:" not in text:
        return f"<think>a list</think>Here: {WRITTEN}"
    answer = text.split("Answer:\n")[1].split("\n")[0]
    n = int(answer) if answer.isdigit() else 0
    true = [n > 0, n > 0 and n % 2 == 0, n > 1 and all(n % k for k in range(2, n))]
    return "Unit Test #1: who knows.\n" + "\n".join(
        f"Unit Test #{i}: [{'Passed' if each else 'Failed'}]" for i, each in enumerate(true, 1)
    )


def test_the_score_is_the_share_of_statements_that_hold() -> None:
    model = ScriptedModel(evaluator)
    found = scores(StatementTests(model), answers("2", "7", "9", "none", "<think>7</think>4"))
    assert [each.value for each in found] == [1.0, 2 / 3, 1 / 3, 0.0, 2 / 3]
    assert [len(call) for call in model.calls] == [1, 5]  # one reply writes the tests, one batch judges


def test_who_answers_is_not_shown_the_tests_and_who_judges_is() -> None:
    model = ScriptedModel(evaluator)
    scores(StatementTests(model, most=5), answers("2", "2", "7"))
    (write,), judge = model.calls
    assert "Name a prime number." in asked(write)
    assert "at most 5" in asked(write)
    assert write.sampling.temperature == 0
    assert len(judge) == 2  # equal questions are asked once
    assert "Answer:\n2\n" in asked(judge[0])
    assert "Unit Test #3: It is prime.\n" in asked(judge[0])
    assert [m.content for m in PROBLEM.messages] == [PROBLEM.prompt]


def test_tests_are_written_once_a_problem_and_run() -> None:
    model, other = ScriptedModel(evaluator), Problem("Name an even number.")
    verifier, run = StatementTests(model), Run()
    scores(verifier, [*answers("2"), *answers("4", problem=other)], run.child("a"))
    scores(verifier, [*answers("3"), *answers("6", problem=other)], run.child("b"))
    written = [asked(r) for call in model.calls for r in call if "Unit tests:" not in asked(r)]
    assert ["prime" in text.split("Problem:")[1] for text in written] == [True, False]
    scores(verifier, answers("5"))  # another run
    assert sum("Unit tests:" not in asked(r) for call in model.calls for r in call) == 3
    run.session.close()
    assert len(verifier._known) == 1  # the other run's


def test_calls_at_the_same_time_write_the_tests_once() -> None:
    model, run = ScriptedModel(evaluator, latency=0.01), Run()
    verifier = StatementTests(model)

    async def both() -> None:
        await asyncio.gather(*(verifier.score(answers(str(n)), run.child("call", n)) for n in range(4)))

    asyncio.run(both())
    assert sum("Unit tests:" not in asked(r) for call in model.calls for r in call) == 1


def test_only_so_many_problems_are_remembered() -> None:
    verifier, run = StatementTests(ScriptedModel(evaluator)), Run()
    verifier._known.most = 2
    for n in range(5):
        scores(verifier, answers("2", problem=Problem(f"problem {n}")), run.child(n))
    assert len(verifier._known) == 2


def test_given_statements_are_taken() -> None:
    model, writer = ScriptedModel(evaluator), ScriptedModel(["[]"])
    given = Problem("q", meta={"statements": ["a", "b", "c"]})
    assert scores(StatementTests(model, writer), answers("2", problem=given)) == [Score(1.0)]
    assert scores(StatementTests(model, writer, ("x", "y", "z")), answers("9")) == [Score(1 / 3)]
    assert writer.calls == []


def test_a_judgement_that_is_not_complete_is_none() -> None:
    model = ScriptedModel([WRITTEN, "Unit Test #1: [Passed]\nUnit Test #3: [Passed]/[Failed]"])
    (found,) = scores(StatementTests(model), answers("2"))
    assert math.isnan(found.value)
    assert found.error == "the evaluation says nothing of unit test 2, 3 of 3"


def test_statements_that_cannot_be_read_are_no_statements_and_not_remembered() -> None:
    writer = ScriptedModel(["I would rather not.", WRITTEN])
    verifier, run = StatementTests(ScriptedModel(evaluator), writer), Run()
    (found,) = scores(verifier, answers("2"), run.child("a"))
    assert math.isnan(found.value)
    assert found.error == "no unit tests could be read in the reply that should have them"
    assert scores(verifier, answers("2"), run.child("b")) == [Score(1.0)]


class Failing(ScriptedModel):
    """Answers as the script does, but fails where the question has a word in it."""

    def __init__(self, script: Callable[[Request], str], word: str, completion: Completion) -> None:
        super().__init__(script)
        self.word, self.completion = word, completion

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        done = await super()._generate(requests)
        return [self.completion if self.word in asked(r) else c for r, c in zip(requests, done, strict=True)]


@pytest.mark.parametrize(
    ("completion", "why"),
    [(Completion("", "error", error="server gone"), "server gone"), (Completion("", "budget"), "the budget ended")],
)
def test_calls_that_fail_leave_their_candidate_unjudged(completion: Completion, why: str) -> None:
    judged, lost = scores(StatementTests(Failing(evaluator, "Answer:\n7", completion)), answers("2", "7"))
    assert judged == Score(1.0)
    assert math.isnan(lost.value)
    assert lost.error == f"the unit tests were not evaluated: {why}"
    (unwritten,) = scores(StatementTests(Failing(evaluator, "Write unit tests", completion)), answers("2"))
    assert unwritten.error == f"no unit tests were written: {why}"


def test_where_nothing_can_be_paid_the_budget_says_so() -> None:
    with pytest.raises(OverBudget):
        scores(StatementTests(ScriptedModel(evaluator)), answers("2"), Run(ledger=Ledger(Budget(tokens=5))))


def test_the_promises_of_a_verifier() -> None:
    check_verifier(StatementTests(ScriptedModel(evaluator)), PROBLEM)
    assert "_known" not in repr(StatementTests(ScriptedModel(evaluator)))
    assert hash(StatementTests(ScriptedModel(evaluator)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('["a b", "c"]', ("a b", "c")),
        ("Tests:\n```json\n['It\\'s a', 'b']\n```", ("It's a", "b")),
        ('[1] first\n["a", "b", "a"]', ("a", "b")),
        ("1. It is a.\n2) It is b.\n\n- It is c.", ("It is a.", "It is b.", "It is c.")),
        ('["a", "b", "c", "d"]', ("a", "b", "c")),
        ('<think>["x"]</think>["a"]', ("a",)),
        ('["a", 3]', ()),
        ("none", ()),
        ("[" * 100_000 + "]", ()),
        ('["a [b]", "c"] and [x]', ()),
    ],
)
def test_reading_statements(text: str, found: tuple[str, ...]) -> None:
    assert statements_in(text, 3) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Unit Test #1: [Passed]\nUnit Test #2: [Failed]", {1: True, 2: False}),
        ("**Unit Test #1:** [Passed]\n* unit test 2: failed", {1: True, 2: False}),
        ("Unit Test #1: [Passed] Unit Test #2: [Failed]", {1: True, 2: False}),
        ("Unit Test #1: [Failed]\nso\nUnit Test #1: [Passed]", {1: True}),
        ("Unit Test #1: [Passed]\nUnit Test #1: hm", {}),
        ("Unit Test #1: not passed", {}),
        ("Unit Test #1: [Passed] or [Failed]", {}),
        ("Unit Test #3: [Passed]\nUnit Test #0: [Passed]", {}),
        ("Unit Test #1: [Passed]</think>Unit Test #2: [Failed]", {2: False}),
        ("", {}),
    ],
)
def test_reading_verdicts(text: str, found: dict[int, bool]) -> None:
    assert verdicts_in(text, 2) == found


def test_mistakes_of_users() -> None:
    model = ScriptedModel(evaluator)
    for wrong in ({"most": 0}, {"max_tokens": 0}, {"prompt": "no place"}, {"evaluation_prompt": "{problem} {answer}"}):
        with pytest.raises(BadInput, match="StatementTests"):
            StatementTests(model, **wrong)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="statements"):
        StatementTests(model, statements=())
    for given in ("a text", [], [1], [""], 3):
        with pytest.raises(BadInput, match=r"problem 'p', meta\['statements'\]"):
            scores(StatementTests(model), answers("2", problem=Problem("q", "p", meta={"statements": given})))
    with pytest.raises(BadInput, match="AssertTests"):
        AssertTests(model, prompt="no place")


# Asserts


def program(body: str) -> str:
    return f"```python\ndef square(x):\n    {body}\n```"


ASSERTS = """\
```python
import math
assert square(3) == 9
assert square(-2) == 4
assert square(1.5) == 2.25
assert math.sqrt(square(7)) == 7
assert square(2) == 5
assert 1 + 1 == 2
assert square(object()) == 0
```"""
RIGHT, ABSOLUTE, NEGATIVE, CONSTANT = map(program, ("return x * x", "return abs(x) * x", "return -x * x", "return 9"))


@whole
def test_asserts_are_run_and_useless_ones_are_dropped() -> None:
    """Worked by hand: of seven asserts three are useless (a wrong one, one without the program, one that cannot be run)."""
    model = ScriptedModel([ASSERTS])
    candidates = answers(RIGHT, "no program", ABSOLUTE, NEGATIVE, CONSTANT, RIGHT)
    found = asyncio.run(AssertTests(model, SMALL).judged(candidates, Run()))
    assert [each.score for each in found] == [Score(v) for v in (1.0, 0.0, 0.75, 0.0, 0.25, 1.0)]
    assert [each.test.splitlines()[-1] for each in found[0].tried] == [  # type: ignore[union-attr]
        "assert square(3) == 9", "assert square(-2) == 4", "assert square(1.5) == 2.25", "assert math.sqrt(square(7)) == 7",
    ]  # fmt: skip
    assert [note.split(" dropped: ") for note in found[0].notes] == [
        ["'assert square(2) == 5'", "no program passes it"],
        ["'assert 1 + 1 == 2'", "it passes without the program"],
        [
            "'assert square(object()) == 0'",
            "it cannot be run: the test gives the program a object, which cannot be sent to it",
        ],
    ]
    assert len(model.calls) == 1
    assert AssertTests.relative


@whole
@pytest.mark.parametrize("evil", ["class square(Exception): pass", "square = ValueError"])
def test_no_program_can_have_a_test_dropped_by_being_an_exception(evil: str) -> None:
    model = ScriptedModel(["assert square(3)\nassert square(2) == 4"])
    found = asyncio.run(AssertTests(model, SMALL).judged(answers(RIGHT, f"```python\n{evil}\n```"), Run()))
    assert found[0].score == Score(1.0)
    assert found[0].notes == ()


@whole
def test_with_one_program_no_test_is_dropped_because_none_passes() -> None:
    (found,) = scores(
        AssertTests(ScriptedModel(["assert square(3) == 9\nassert square(2) == 5"]), SMALL), answers(RIGHT)
    )
    assert found == Score(0.5)


@whole
def test_what_is_no_python_costs_the_others_nothing() -> None:
    model = ScriptedModel(["```python\nassert square(3) == 9\nassert square(2 == 4\n```"])
    (found,) = asyncio.run(AssertTests(model, SMALL).judged(answers(RIGHT), Run()))
    assert found.score == Score(1.0)
    assert found.notes[0].startswith("'assert square(2 == 4' dropped: it is no Python")


@whole
def test_without_a_test_that_says_anything_nobody_is_judged() -> None:
    found = scores(
        AssertTests(ScriptedModel(["assert 1\nassert square(2) == 5"]), SMALL), answers(RIGHT, CONSTANT, "none")
    )
    assert all(math.isnan(each.value) for each in found[:2])
    assert found[0].error is not None
    assert found[0].error.startswith("no test is left: 'assert 1' dropped: it passes without the program; ")
    assert found[2] == Score(0.0)


@whole
def test_asserts_are_written_once_a_problem_and_run() -> None:
    model, other = ScriptedModel([ASSERTS]), Problem("another")
    verifier, run = AssertTests(model, SMALL), Run()
    for label in ("a", "b"):
        scores(verifier, [*answers(RIGHT), *answers(RIGHT, problem=other)], run.child(label))
    assert len(model.calls) == 2


def test_asserts_that_were_not_written_leave_programs_unjudged() -> None:
    for completion, why in (
        (Completion("", "error", error="gone"), "no tests were written: gone"),
        (Completion("no code", "eos"), "no asserts could be read in the reply that should have them"),
    ):
        model = Failing(lambda request: "", "programming problem", completion)
        first, second = scores(AssertTests(model, SMALL), answers(RIGHT, "none"))
        assert math.isnan(first.value)
        assert (first.error, second) == (why, Score(0.0))


def test_where_no_candidate_has_a_program_nothing_is_asked() -> None:
    model = ScriptedModel([ASSERTS])
    assert scores(AssertTests(model, SMALL), answers("none")) == [Score(0.0)]
    assert model.calls == []


@pytest.mark.parametrize(
    ("text", "tests", "broken"),
    [
        ("assert f(1)\nassert f(2), 'why'", ("assert f(1)", "assert f(2), 'why'"), ()),
        ("```python\nfrom m import g\nassert f(\n    1) == 2\n```", ("from m import g\nassert f(1) == 2",), ()),
        ("```python\ndef test_a():\n    assert f(1)\n    assert f(2)\n```", ("assert f(1)", "assert f(2)"), ()),
        ("```python\ndef f(x):\n    assert x\n    return x\nassert f(3)\n```", ("assert f(3)",), ()),
        ("Sure:\nassert f(1)\nassert f(2 =\nassert f(3)", ("assert f(1)", "assert f(3)"), ("assert f(2 =",)),
        ("assert f(1)\nassert f(1)", ("assert f(1)",), ()),
        ("assert f(1)\nassert f(2)\nassert f(3)", ("assert f(1)", "assert f(2)"), ()),
        ("nothing", (), ()),
        ("assert " + "(" * 100_000, (), ("assert " + "(" * 100_000,)),
    ],
)
def test_reading_asserts(text: str, tests: tuple[str, ...], broken: tuple[str, ...]) -> None:
    assert asserts_in(text, 2) == (tests, broken)


def test_filling_a_prompt_leaves_braces_of_what_is_filled_in_alone() -> None:
    values: dict[str, Any] = {"problem": "{answer}", "answer": "{problem} {x}"}
    assert filled("{problem}|{answer}|{y}", **values) == "{answer}|{problem} {x}|{y}"
