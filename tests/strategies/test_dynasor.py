"""Dynasor: who is probed when, what counts as agreement and what is paid, against traces worked by hand; certaindex."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from thinker import PROBLEM, THOUGHT, Thinker, asked, grow, told

from reasonweave.orchestrator import (
    BadInput,
    Candidate,
    Completion,
    Problem,
    Request,
    Run,
    Step,
    Usage,
    solve,
)
from reasonweave.orchestrator.answers import BoxedAnswers
from reasonweave.orchestrator.protocols import StepPolicy
from reasonweave.orchestrator.testing import ScriptedModel
from reasonweave.orchestrator.trace import Event, Generated
from reasonweave.strategies import (
    DEER,
    BestOfN,
    Probed,
    certaindex,
    dynasor,
)
from reasonweave.strategies.policies.dynasor import agree
from reasonweave.strategies.policies.thinking import FINAL

MODEL = ScriptedModel()


def dynamic(
    *said: str, text: str = "", probe: str = FINAL, problem: Problem = PROBLEM, **options: object
) -> tuple[Candidate, Thinker]:
    """What `Probed` makes of these answers, at every fourth token of a long thought."""
    model = Thinker(text or "a b c d " * 8 + "end", *((one, ()) for one in said), cue=probe)
    policy = Probed(model, **({"chunk": 4, "window": 2, "probe": probe} | options))  # type: ignore[arg-type]
    return grow(policy, candidate=Candidate(problem)), model


def test_a_solution_ends_when_the_probes_agree() -> None:
    candidate, model = dynamic("1}", "2} I know", "2} now")
    assert told(candidate) == [
        ("a b c d", "m", "", 4),
        (" a b c d", "m", "probe: 1", 4),
        (" a b c d", "m", "probe: 2", 4),
        ("\n\n", "", "end", 0),
        ("</think>\n\n", "", "end", 0),
        ("**Final Answer**\n\n", "", "end", 0),
        ("\\boxed{", "", "end", 0),
        ("2}", "m", "", 1),
    ]
    assert (candidate.answer, candidate.done) == ("2", True)
    assert candidate.passages[-1] == "\\boxed{2}"
    abcd = "a b c d"
    assert [(prefix, tokens) for prefix, tokens, _ in asked(model)] == [
        ("", 4),
        (f"{abcd}\n\n{FINAL}", 20),  # beside the next chunk: alone it cannot end anything
        (abcd, 4),
        (f"{abcd} {abcd}\n\n{FINAL}", 20),  # it may end here, so the chunk waits
        (f"{abcd} {abcd}", 4),
        (f"{abcd} {abcd} {abcd}\n\n{FINAL}", 20),  # and here it ends: no chunk in vain
    ]
    assert all(step.text for step in candidate.steps)
    assert candidate.logprob is not None


def test_probes_are_paid_like_any_other_call() -> None:
    def paid(model: Thinker, policy: StepPolicy) -> tuple[int, int]:
        events: list[Event] = []
        used = solve(PROBLEM, BestOfN(policy, n=1), seed=1, trace=events.append).total
        calls = [event for event in events if isinstance(event, Generated)]
        assert used == Usage.total([call.usage for call in calls])
        assert used.calls == len(asked(model)) == sum(len(call.completions) for call in calls)
        assert used.prompt == sum(model.count(r.context) for call in model.calls for r in call)
        return used.completion, used.calls

    model = Thinker("a b c d " * 8, ("1}", ()), ("2} I know", ()), ("2} now", ()))
    assert paid(model, Probed(model, 4, 2, FINAL)) == (12 + 1 + 3 + 2, 6)
    model = Thinker(THOUGHT, ("1}", [0.9]), ("2} and more", [0.96]))
    assert paid(model, DEER(model)) == (
        4 + 1 + 4 + 3 + 2,
        5,
    )  # "one two // Wait", probe, " three // So. Wait", probe, answer


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        (("2}", "2}"), True),
        (("2}", "3}"), False),
        (("0.5}", "\\frac{1}{2}}"), True),  # one class of the answer space
        (("2", "2"), False),  # cut off
        (("}", "}"), False),  # empty
        (("2} Wait, is it", "2}"), False),
        (("2}", "2}. Hmm"), False),
        (("2}.\n\nBut", "2}"), False),
        (("2} I know, not nobody, cannot butter the household", "2}"), True),  # parts of words do not hesitate
        (("no}", "no}"), True),  # an answer is no hesitation
    ],
)
def test_what_counts_as_agreement(said: tuple[str, str], ends: bool) -> None:
    candidate, model = dynamic(*said, "7", text="a b c d " * 3)
    assert any(step.label == "end" for step in candidate.steps) is ends
    assert model.probed == (2 if ends else 3)


def test_a_chunk_of_several_steps_is_probed_once() -> None:
    candidate, model = dynamic("2}", "3}", "2}", "2}", text="a\n\nb\n\n" * 5)
    assert [step.label for step in candidate.steps][:10] == [
        "",
        "",
        *["probe: 2", "", "probe: 3", ""],
        "probe: 2",
        "",
        "end",
        "end",
    ]
    assert model.probed == 4


@pytest.mark.parametrize(("window", "said"), [(1, "1"), (2, "122"), (3, "1122333"), (3, "11122"), (4, "123121111")])
def test_any_window(window: int, said: str) -> None:
    candidate, model = dynamic(*(f"{x}}}" for x in said), window=window, text="a b c d " * 12)
    runs = [k for k in range(window, len(said) + 1) if len(set(said[k - window : k])) == 1]
    assert model.probed == runs[0]
    assert candidate.answer == said[runs[0] - 1]


def test_a_probe_that_opens_no_box_is_read_by_the_answer_space() -> None:
    problem = Problem("q", answers=BoxedAnswers(lenient=True))
    candidate, _ = dynamic(" 2.", " 2.", probe="The answer is", problem=problem, think_end="")
    assert candidate.text == "a b c d a b c d\n\nThe answer is 2."
    assert candidate.answer == "2"
    doubtful, _ = dynamic(" 2. No", " 2. No", probe="The answer is", problem=problem, think_end="", text="a b c d " * 3)
    assert doubtful.text == "a b c d " * 3


def test_answers_after_the_end_of_thinking_are_written_in_peace() -> None:
    text = "a b c d e</think>" + " so" * 30
    candidate, model = dynamic("1}", text=text, think_end="</think>")
    assert candidate.text == text
    assert model.probed == 1
    assert asked(model)[-1] == ("a b c d e</think>", 1024, ())


def test_a_probe_that_fails_does_not_count() -> None:
    class Broken(Thinker):
        def _complete(self, request: Request) -> Completion:
            made = super()._complete(request)
            return Completion("", "error", error="down") if self.is_probe(request) and self.probed == 2 else made

    model = Broken("a b c d " * 8, ("2}", ()))
    candidate = grow(Probed(model, chunk=4, window=2, probe=FINAL))
    assert [s.label for s in candidate.steps if s.label.startswith("probe")] == ["probe: 2", "probe: ", "probe: 2"]
    assert candidate.answer == "2"
    assert candidate.failed is None


def test_probes_run_beside_the_chunks_that_they_cannot_end() -> None:
    class Busy(Thinker):
        def __init__(self, *said: str) -> None:
            super().__init__("a b c d " * 8, *((f"{x}}}", ()) for x in said))
            self.under_way, self.most = 0, list[int]()

        async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
            self.under_way += 1
            self.most.append(self.under_way)
            await asyncio.sleep(0.001)
            made = await super()._generate(requests)
            self.under_way -= 1
            return made

    model = Busy("1", "2", "3", "3", "3")
    grow(Probed(model, chunk=4, window=3, probe=FINAL))
    assert model.most == [1, 1, 2, 1, 2, 1, 2, 1, 2, 1]  # the fifth probe could end it, and did


def test_a_batch_gets_what_each_would_get_alone() -> None:
    """Answers here depend on the text alone, so a batch must not mix its candidates up."""

    def script(request: Request) -> str:
        prefix = request.context.prefix
        if prefix.endswith(FINAL):
            return f"{len(prefix) // 8 % 3}}}" if "q" in prefix else "5}"
        return "q y z w " if "q" in prefix else "a b c d "

    starts = [Candidate(PROBLEM, (Step(f"{word}\n\n", "m", 1),)) for word in ("a", "q", "b", "q q")]

    async def grown(items: list[Candidate], seed: int) -> list[Candidate]:
        policy = Probed(ScriptedModel(script), chunk=4, window=3, probe=FINAL)
        for k in range(8):
            live = [i for i, c in enumerate(items) if not c.done]
            new = await policy.extend([items[i] for i in live], Run(seed).child(k))
            for i, c in zip(live, new, strict=True):
                items[i] = c
        return items

    together = asyncio.run(grown(list(starts), 1))
    assert [c.text for c in together] == [asyncio.run(grown([c], 2))[0].text for c in starts]
    assert [c.done for c in together] == [True, False, True, False]


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=2, max_size=12))
def test_certaindex_is_one_minus_the_normalised_entropy(answers: list[str | None]) -> None:
    named = [f"none {i}" if a is None else a for i, a in enumerate(answers)]
    entropy = stats.entropy(list(Counter(named).values()))
    n = len(answers)
    assert certaindex(answers) == pytest.approx((math.log(n) - entropy) / math.log(n), abs=1e-12)
    assert certaindex(answers) == pytest.approx(certaindex(answers[::-1]), abs=1e-12)
    assert math.isnan(certaindex(answers[:1]))


def test_agreement_takes_answers_that_are_all_the_same() -> None:
    space = BoxedAnswers()
    assert agree([], space)
    assert agree(["1", "1.0"], space)
    assert not agree(["1", ""], space)
    assert not agree(["", ""], space)
    assert not agree(["1", "1", "2"], space)


def test_the_published_levels() -> None:
    levels = {
        level: (p.window, p.chunk) for level in ("mild", "low", "mid", "high", "crazy") if (p := dynasor(MODEL, level))
    }
    assert levels == {"mild": (8, 64), "low": (5, 64), "mid": (3, 64), "high": (2, 64), "crazy": (2, 32)}
    assert dynasor(MODEL, "low", chunk=7).chunk == 7
    with pytest.raises(BadInput, match="one of mild, low"):
        dynasor(MODEL, "none")
