"""The breadth-schedule loop: who reads what, what it costs, what stands where something fails, and its presets."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidate,
    Candidates,
    Completion,
    FreeText,
    Ledger,
    Problem,
    Request,
    Run,
    Score,
    Step,
    Strategy,
    chain,
    drive,
    open_model,
    solve,
)
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward, check_strategy, words
from reasonweave.strategies import BestOfN, majority, whole
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.presets import rounds as presets
from reasonweave.strategies.refining import _rounds_prompts as prompts
from reasonweave.strategies.refining._rounds_fitting import Tail, TokenTail, WhilePaid, fitting, longest
from reasonweave.strategies.refining.reads import (
    Critiqued,
    Everything,
    Others,
    Past,
    RandomK,
    Reads,
    Summarized,
    TopK,
    so_far,
)
from reasonweave.strategies.refining.rounds import Rounds, Weighted, all_rounds, equally, first_only, in_turn
from reasonweave.strategies.refining.writing import Prompted, Reading, Refined, full_text
from reasonweave.strategies.searches.refiners import Redo
from reasonweave.tasks.lab.problems import problems
from reasonweave.verifiers import ProcessReward

PROBLEM = Problem("What is it?", "p")
READ = "Of {problem}: {count} attempts.\n\n{solutions}\n\nEND {remarks}"
ENTRY = re.compile(r"^\[(\d+)\]\n(.*?)(?=\n\n\[\d+\]\n|\n\nEND)", re.DOTALL | re.MULTILINE)


def asked(request: Request) -> str:
    """What a model is asked, after the problem's own prompt."""
    (message,) = request.context.messages
    return message.content


def entries(request: Request) -> list[str]:
    """The earlier answers that a request shows, in order; none in a request for a first answer."""
    found = list(ENTRY.finditer(asked(request)))
    assert [int(entry[1]) for entry in found] == list(range(1, len(found) + 1))
    return [entry[2] for entry in found]


class Numbering(ScriptedModel):
    """Gives a number nobody gave before in each answer, or what `says` makes of the request and the number; fails the requests
    whose numbers are `failing`."""

    def __init__(
        self,
        says: Callable[[Request, int], str] = lambda request, n: f"It is \\boxed{{{n}}}",
        failing: Sequence[int] = (),
        name: str = "numbering",
        start: int = 0,
        **further: Any,
    ) -> None:
        numbers = itertools.count(start)
        super().__init__(lambda request: says(request, next(numbers)), name=name, **further)
        self.failing, self.asked = set(failing), 0

    def _complete(self, request: Request) -> Completion:
        self.asked += 1
        written = super()._complete(request)
        return Completion("", "error", error="gone") if self.asked - 1 in self.failing else written


def told(numbers: Sequence[int]) -> list[str]:
    return [f"It is \\boxed{{{n}}}" for n in numbers]


def numbers(found: Candidates) -> list[int | None]:
    return [None if c.answer is None else int(c.answer) for c in found]


def sets_of(
    strategy: Strategy, roots: Candidates | None = None, seed: int = 1, ledger: Ledger | None = None
) -> list[Candidates]:
    """All that a strategy yields."""

    async def collect() -> list[Candidates]:
        run = Run(seed, ledger=ledger or Ledger())
        return [found async for found in strategy.search(Candidates.of(PROBLEM) if roots is None else roots, run)]

    return asyncio.run(collect())


def loop(model: Any, schedule: Sequence[int], reads: Reads | None = None, **further: Any) -> Rounds:
    return Rounds((Prompted(model, READ),), schedule, reads or RandomK(2), **further)


def answer(number: int, score: float | None = None, text: str = "") -> Candidate:
    step = Step(f"{text}\\boxed{{{number}}}", "m", 3)
    return Candidate(PROBLEM, (step,), done=True, score=None if score is None else Score(score))


def read(reads: Reads, past: Past, breadth: int, seed: int = 1) -> list[list[int]]:
    """The numbers that each new answer reads."""
    found = asyncio.run(reads.read(past, breadth, Run(seed)))
    assert all(reading.problem == PROBLEM for reading in found)
    return [[int(c.answer or -1) for c in reading.sources] for reading in found]


@dataclass(frozen=True)
class Worth:
    """Scores an answer by its number, in hundredths, and remembers what it was shown."""

    seen: list[list[int]] = field(default_factory=list)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.seen.append([int(c.answer or -1) for c in candidates])
        return [Score(int(c.answer or 0) / 100) for c in candidates]


# Schedules, calls and what is read.


def test_each_round_is_one_call_and_reads_the_round_before() -> None:
    model = Numbering()
    found = sets_of(loop(model, (5, 4, 3, 1), RandomK(2)))
    assert [len(batch) for batch in model.calls] == [5, 4, 3, 1]
    assert [numbers(each) for each in found] == [[0, 1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11], [12]]
    assert all(request.context.messages == PROBLEM.messages for request in model.calls[0])
    for r, batch in enumerate(model.calls[1:]):
        for request in batch:
            shown = entries(request)
            assert len(shown) == len(set(shown)) == 2
            assert set(shown) <= set(told([n or 0 for n in numbers(found[r])]))
            assert asked(request).startswith("Of What is it?: 2 attempts.")


@pytest.mark.parametrize(("n", "k", "rounds"), [(16, 4, 10), (3, 3, 2), (4, 1, 3)])
def test_rsa_makes_n_answers_t_times(n: int, k: int, rounds: int) -> None:
    model = ScriptedModel()
    result = solve(PROBLEM, presets.rsa(model, n=n, k=k, rounds=rounds))
    assert [len(batch) for batch in model.calls] == [n] * rounds
    assert result.total.calls == n * rounds
    assert len(result.candidates) == n
    assert result.answer == majority(result.candidates).answer


@pytest.mark.parametrize(
    ("preset", "options", "calls"),
    [
        (presets.rsa, {}, [16] * 10),
        (presets.pacore, {"schedule": "4"}, [4, 1]),
        (presets.pacore, {}, [16, 1]),
        (presets.pacore, {"schedule": "32,4"}, [32, 4, 1]),
        (presets.pdr, {}, [8, 1, 1]),
        (presets.pdr, {"rounds": 2}, [8, 1, 8, 1, 1]),
        (presets.pdr, {"workspace": "random"}, [8, 1]),
        (presets.pdr_top_k, {"rounds": 2}, [8, 8, 1]),
        (presets.remom, {}, [16, 16, 2, 2, 1]),
        (presets.remom, {"schedule": "8", "spread": "weighted"}, [6, 2, 1]),
        (presets.remom, {"schedule": "8", "spread": "first"}, [8, 1]),
        (presets.mixture_of_agents, {}, [3, 3, 3, 3, 1]),
        (presets.mixture_of_agents, {"n": 3, "layers": 1, "critique": True}, [2, 1, 1, 1]),
        (presets.debate, {}, [3, 3]),
        (presets.debate, {"agents": 2, "rounds": 4}, [2] * 4),
    ],
)
def test_the_calls_of_each_preset(preset: Callable[..., Strategy], options: dict[str, Any], calls: list[int]) -> None:
    """Requests a call, in order: one call a round and model, and one for each summary or critique."""
    made: list[int] = []

    class Counted(ScriptedModel):
        async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
            made.append(len(requests))
            return await super()._generate(requests)

    roles = {role: Counted(name=role) for role in ("small", "large") if role in preset.__annotations__}
    prm: dict[str, Any] = {"prm": ProcessReward(ScriptedReward())} if "prm" in preset.__annotations__ else {}
    result = solve(PROBLEM, preset(**roles, **prm, **options))
    assert made == calls
    assert result.answer is not None


def test_who_writes_what_in_the_presets_of_two_models() -> None:
    for preset in (presets.remom, presets.mixture_of_agents):
        small, large = ScriptedModel(name="small"), ScriptedModel(name="large")
        result = solve(PROBLEM, preset(small, large))
        assert [c.steps[0].author for c in result.candidates] == ["large"]  # the last answer
        assert small.calls
        assert len(large.calls) == len(small.calls) + 1


def test_one_that_reads_one_is_sequential_refinement() -> None:
    """Against a loop written out here. The answers depend on what is read alone."""

    def says(request: Request) -> str:
        return f"After {len(asked(request))} letters \\boxed{{{sum(map(ord, asked(request))) % 997}}}"

    found = sets_of(Rounds((Prompted(ScriptedModel(says), prompts.REFINE_PROMPT),), (1,) * 5, RandomK(1)))
    model, text, texts = ScriptedModel(says), "", list[str]()
    for r in range(5):
        shown = filled(prompts.REFINE_PROMPT, problem=PROBLEM.prompt, solution=text) if r else PROBLEM.prompt
        candidate = asyncio.run(Sample(model, until=None).extend([Candidate(Problem(shown))], Run()))[0]
        text = candidate.text
        texts.append(text)
    assert [each[0].text for each in found] == texts
    assert len(set(texts)) == 5


def test_rounds_go_on_from_a_search() -> None:
    """The roots of a search are read in the first round; a bare problem is not."""
    model = Numbering()
    flow = chain(BestOfN(whole(model), n=4, max_steps=1), loop(model, (2, 1), Everything()))
    result = solve(PROBLEM, flow)
    assert [len(batch) for batch in model.calls] == [4, 2, 1]
    assert all(sorted(entries(request)) == told(range(4)) for request in model.calls[1])
    assert sorted(entries(model.calls[2][0])) == told([4, 5])
    assert numbers(result.candidates) == [6]


# Reads.


def test_random_reads_are_without_replacement_and_follow_the_seed() -> None:
    past = Past(PROBLEM, (tuple(answer(n) for n in range(9)),))
    first = read(RandomK(4), past, 6)
    assert first == read(RandomK(4), past, 6)
    assert first != read(RandomK(4), past, 6, seed=2)
    assert first[:3] == read(RandomK(4), past, 3)  # each new answer draws for itself
    assert all(len(set(some)) == 4 for some in first)
    assert len({tuple(some) for some in first}) > 1
    assert [sorted(some) for some in read(RandomK(20), past, 2)] == [list(range(9))] * 2


def test_random_reads_are_uniform() -> None:
    """Each of 8 is read by 3/8 of 4,000, and stands first in 1/8. Five standard deviations: one false alarm in 10^5 seeds."""
    n, k, times = 8, 3, 4000
    drawn = read(RandomK(k), Past(PROBLEM, (tuple(answer(i) for i in range(n)),)), times)
    for counts, p in (
        (Counter(i for some in drawn for i in some), k / n),
        (Counter(some[0] for some in drawn), 1 / n),
    ):
        spread = 5 * math.sqrt(times * p * (1 - p))
        assert all(abs(counts[i] - times * p) < spread for i in range(n))


def test_what_is_read_does_not_depend_on_scheduling() -> None:
    """Two writers, of which one or the other is slower: the same answers are read."""

    def shown(slow: int) -> list[list[list[str]]]:
        def says(request: Request) -> str:
            return f"It is \\boxed{{{request.seed % 1000}}}"

        models = [ScriptedModel(says, name=f"m{i}", latency=0.01 * (i == slow)) for i in range(2)]
        sets_of(Rounds([Prompted(model, READ) for model in models], (4, 4, 4), RandomK(2)))
        return [[entries(request) for batch in model.calls for request in batch] for model in models]

    assert shown(0) == shown(1)


def test_everything_is_read_in_many_orders() -> None:
    past = Past(PROBLEM, (tuple(answer(n) for n in range(8)),))
    orders = read(Everything(), past, 5)
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5


def test_the_best_by_score_are_read_best_first() -> None:
    values = [0.2, 0.9, math.nan, 0.5, 0.9]
    latest = tuple(answer(n, v) for n, v in enumerate(values))
    past = Past(PROBLEM, ((answer(7, 0.8), answer(8, 0.1)), latest))
    assert read(TopK(3), past, 2) == [[1, 4, 3]] * 2
    assert read(TopK(9), past, 1) == [[1, 4, 3, 0, 2]]
    assert read(TopK(3, pool=so_far), past, 1) == [[1, 4, 7]]
    tie = Past(PROBLEM, ((answer(3, 0.5),), (answer(4, 0.5),)))
    assert read(TopK(2, pool=so_far), tie, 1) == [[4, 3]]  # the newer one first
    twice = Past(PROBLEM, ((answer(1, 0.5), answer(1, 0.5), answer(2, 0.4)),))
    assert read(TopK(2), twice, 1) == [[1, 2]]


def test_all_rounds_may_be_read_each_answer_once() -> None:
    stands = answer(5)
    past = Past(PROBLEM, ((answer(4), stands), (stands, answer(6)), (answer(7), stands)))
    assert sorted(read(Everything(so_far), past, 1)[0]) == [4, 5, 6, 7]
    assert sorted(read(Everything(), past, 1)[0]) == [5, 7]


def test_the_last_round_may_read_all_rounds() -> None:
    model = Numbering()
    sets_of(loop(model, (2, 2, 1), Everything(so_far)))
    assert sorted(entries(model.calls[1][0])) == told([0, 1])
    assert sorted(entries(model.calls[2][0])) == told([0, 1, 2, 3])


def test_what_failed_or_does_not_answer_is_not_read() -> None:
    failed, silent = Candidate(PROBLEM, failed="gone", done=True), Candidate(PROBLEM, (Step("I do not know", "m", 4),))
    past = Past(PROBLEM, ((answer(1), failed, silent, Candidate(PROBLEM)),))
    assert read(RandomK(4), past, 1) == [[1]]
    assert read(RandomK(4), Past(PROBLEM, ((failed, silent),)), 1) == [[-1]]  # where nobody answers, what says anything


def test_a_debater_reads_its_own_answer_and_then_the_others() -> None:
    model = Numbering()
    found = sets_of(Rounds((Prompted(model, READ),), (3, 3, 3), Others()))
    for r, batch in enumerate(model.calls[1:]):
        before = numbers(found[r])
        for i, request in enumerate(batch):
            own, *others = entries(request)
            assert own == f"It is \\boxed{{{before[i]}}}"
            assert others == told([n or 0 for j, n in enumerate(before) if j != i])
    assert read(Others(), Past(PROBLEM, ((answer(1), answer(2)),)), 3) == [[1, 2], [2, 1], [1, 2]]


def test_a_debater_without_an_answer_gives_its_first_one() -> None:
    model = Numbering(failing=[1])
    found = sets_of(Rounds((Prompted(model, READ),), (3, 3, 3), Others()))
    assert [numbers(each) for each in found] == [[0, None, 2], [3, 4, 5], [6, 7, 8]]
    assert [len(entries(request)) for request in model.calls[1]] == [2, 0, 2]
    assert model.calls[1][1].context.messages == PROBLEM.messages


def test_a_summary_takes_the_place_of_the_answers() -> None:
    model = Numbering()
    notes = ScriptedModel(["<think>hm</think>They differ."], name="notes")
    reads = Summarized(Prompted(notes, READ), RandomK(2))
    sets_of(loop(model, (3, 2, 1), reads))
    assert [sorted(entries(request)) for batch in notes.calls for request in batch] == [told([0, 1, 2]), told([3, 4])]
    for batch in model.calls[1:]:
        for request in batch:
            assert not entries(request)
            assert asked(request).endswith("END Notes on earlier attempts:\nThey differ.")


@pytest.mark.parametrize("silent", ["", "<think>and on and on"])
def test_where_there_is_no_summary_answers_are_read(silent: str) -> None:
    model = Numbering()
    sets_of(loop(model, (3, 2), Summarized(Prompted(ScriptedModel([silent]), READ), RandomK(2))))
    assert [len(entries(request)) for request in model.calls[1]] == [2, 2]
    assert all(asked(request).endswith("END ") for request in model.calls[1])


def test_a_critic_and_its_readers_see_the_same_numbers() -> None:
    model, critic = Numbering(), ScriptedModel(["[2] is wrong."], name="critic")
    sets_of(loop(model, (6, 3), Critiqued(Prompted(critic, READ))))
    ((request,),) = critic.calls
    order = entries(request)
    assert sorted(order) == told(range(6))
    assert [entries(each) for each in model.calls[1]] == [order] * 3
    assert all(asked(each).endswith("END What a critic says of them:\n[2] is wrong.") for each in model.calls[1])


def test_a_critic_without_money_is_done_without() -> None:
    """Its role has a budget of none; the answers are read alone."""
    model, critic = Numbering(name="m"), ScriptedModel(["No."], name="critic", role="critic")
    ledger = Ledger(Budget(critic=Budget(tokens=0)))
    found = asyncio.run(
        drive(loop(model, (3, 2), Critiqued(Prompted(critic, READ))), Candidates.of(PROBLEM), Run(1, ledger=ledger))
    )
    assert not critic.calls
    assert numbers(found) == [3, 4]
    assert found.stopped  # it is told
    assert all(len(entries(request)) == 3 for request in model.calls[1])


# Who writes.


def test_allocations() -> None:
    assert in_turn(7, 3) == [0, 1, 2, 0, 1, 2, 0]
    assert equally(7, 3) == [0, 0, 0, 1, 1, 2, 2]
    assert equally(2, 3) == [0, 1]
    assert first_only(3, 2) == [0, 0, 0]
    assert Weighted((1, 2, 1))(5, 3) == [0, 1, 1, 1, 2]  # 1.25, 2.5, 1.25
    assert Weighted((0, 1))(3, 2) == [1, 1, 1]


@given(st.integers(1, 40), st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any))
def test_weighted_shares_are_as_near_as_whole_answers_come(breadth: int, weights: list[int]) -> None:
    who = Weighted(tuple(weights))(breadth, len(weights))
    assert len(who) == breadth
    for w, weight in enumerate(weights):
        assert abs(who.count(w) - breadth * weight / sum(weights)) < 1


def test_each_writer_is_asked_once_a_round_for_its_share() -> None:
    models = [Numbering(name=f"m{i}", start=100 * i) for i in range(3)]
    writers = [Prompted(model, READ) for model in models]
    last = Numbering(name="last", start=900)
    flow = Rounds(writers, (6, 6, 1), Everything(), Weighted((3, 2, 1)), closing=Prompted(last, READ))
    found = sets_of(flow)
    assert [[len(batch) for batch in model.calls] for model in (*models, last)] == [[3, 3], [2, 2], [1, 1], [1]]
    assert [numbers(each) for each in found] == [
        [0, 1, 2, 100, 101, 200],
        [3, 4, 5, 102, 103, 201],
        [900],
    ]
    assert sorted(entries(last.calls[0][0])) == sorted(told([3, 4, 5, 102, 103, 201]))


def test_writers_of_one_model_and_sampling_are_asked_in_one_call() -> None:
    """Two prompts and one temperature: one call. Another temperature: another one."""
    model = Numbering()
    writers = [
        Prompted(model, f"{word} {READ}", temperature) for word, temperature in (("A", 1.0), ("B", 1.0), ("C", 0.5))
    ]
    found = sets_of(Rounds(writers, (6, 6), RandomK(2)))
    assert [len(batch) for batch in model.calls] == [4, 2, 4, 2]
    assert [asked(request)[0] for batch in model.calls[2:] for request in batch] == list("ABABCC")
    assert numbers(found[0]) == [0, 1, 4, 2, 3, 5]  # each in its place
    assert [[request.sampling.temperature for request in batch] for batch in model.calls[2:]] == [[1.0] * 4, [0.5] * 2]


# What stands where something fails.


def test_an_answer_stands_until_a_new_one_takes_its_place() -> None:
    """Requests 4 (round 2, place 1) and 9 (round 4, place 0) fail; one that writes without an answer is as good as none."""

    def says(request: Request, n: int) -> str:
        return "I cannot tell" if n == 8 else f"It is \\boxed{{{n}}}"

    found = sets_of(loop(Numbering(says, failing=[4, 9]), (3, 3, 3, 3)))
    assert (
        solve(PROBLEM, loop(Numbering(says, failing=[4, 9]), (3, 3, 3, 3)), seed=1).errors == ("gone",) * 2
    )  # it is told
    assert [numbers(each) for each in found] == [[0, 1, 2], [3, 1, 5], [6, 7, 5], [6, 10, 11]]
    assert not any(c.failed for c in found[-1])


def test_a_round_that_fails_altogether_is_as_if_it_had_not_been() -> None:
    model = Numbering(failing=[3, 4, 5])
    found = sets_of(loop(model, (3, 3, 2), Everything()))
    assert [numbers(each) for each in found] == [[0, 1, 2], [6, 7]]
    assert all(sorted(entries(request)) == told([0, 1, 2]) for request in model.calls[2])
    silent = Numbering(lambda request, n: "No." if n >= 3 else f"It is \\boxed{{{n}}}")
    assert [numbers(each) for each in sets_of(loop(silent, (3, 3, 1)))] == [[0, 1, 2]]


def test_a_first_round_that_fails_is_tried_again() -> None:
    model = Numbering(failing=[0, 1])
    found = sets_of(loop(model, (2, 2, 1)))
    assert [numbers(each) for each in found] == [[None, None], [2, 3], [4]]
    assert all(request.context.messages == PROBLEM.messages for request in model.calls[1])


def test_in_a_round_of_another_breadth_what_is_usual_among_the_read_stands() -> None:
    """Place 0 of two fails: it was to read 7, 7, 3, 7, so 7 stands, beside the new one."""
    model = Numbering(lambda request, n: f"It is \\boxed{{{(7, 7, 3, 7, 0, 5)[n]}}}", failing=[4])
    assert [numbers(each) for each in sets_of(loop(model, (4, 2), Everything()))] == [[7, 7, 3, 7], [7, 5]]
    scored = Numbering(lambda request, n: f"It is \\boxed{{{(7, 7, 30, 7, 0, 5)[n]}}}", failing=[4])
    found = sets_of(loop(scored, (4, 2), Everything(), verifier=Worth()))
    assert numbers(found[-1]) == [30, 5]  # with scores, the best


def test_what_stands_is_among_what_was_to_be_read() -> None:
    """One of two places fails; it was to read one answer, which stands."""
    for seed in range(6):
        model = Numbering(failing=[4])
        found = sets_of(loop(model, (4, 2), RandomK(1)), seed=seed)
        assert told([n or 0 for n in numbers(found[-1])][:1]) == entries(model.calls[1][0])


def test_what_stands_keeps_who_wrote_it_and_a_summary_has_no_sources() -> None:
    model = Numbering(lambda request, n: f"It is \\boxed{{{(7, 7, 3, 0, 5)[n]}}}", failing=[3])
    reads = Summarized(Prompted(ScriptedModel(["Notes."]), READ), RandomK(1))
    assert [numbers(each) for each in sets_of(loop(model, (3, 2), reads))] == [[7, 7, 3], [7, 5]]


def test_all_rounds_may_be_shown_each_answer_once() -> None:
    """Place 1 of the second round fails, so that 1 stands in two rounds."""
    found = sets_of(loop(Numbering(failing=[3]), (2, 2, 1), RandomK(1), show=all_rounds))
    assert [numbers(each) for each in found] == [[0, 1], [0, 1, 2], [0, 1, 2, 4]]
    scored = sets_of(loop(Numbering(start=10), (2, 1), RandomK(1), show=all_rounds, verifier=Worth()))
    assert [numbers(each) for each in scored] == [[10, 11], [10, 11], [10, 11, 12], [10, 11, 12]]
    assert [c.score and c.score.value for c in scored[-1]] == [0.1, 0.11, 0.12]


def test_texts_without_answers_go_on_too() -> None:
    """Under an answer space that finds none, the newest text stands."""
    model = Numbering(lambda request, n: f"draft {n}")
    found = sets_of(loop(model, (2, 2), RandomK(1)))
    assert [[c.text for c in each] for each in found] == [["draft 0", "draft 1"], ["draft 2", "draft 3"]]
    free = solve(Problem("Write.", answers=FreeText()), loop(Numbering(lambda request, n: f"draft {n}"), (2, 1)))
    assert free.answer == "draft 2"


# Verifiers.


def test_each_answer_is_scored_once_and_first_shown_unscored() -> None:
    worth = Worth()
    found = sets_of(loop(Numbering(start=10), (3, 2, 1), TopK(2), verifier=worth))
    assert worth.seen == [[10, 11, 12], [13, 14], [15]]
    assert [numbers(each) for each in found] == [
        [10, 11, 12],
        [10, 11, 12],
        [10, 11, 12, 13, 14],
        [13, 14],
        [13, 14, 15],
        [15],
    ]
    assert [[c.score and c.score.value for c in each] for each in found[-2:]] == [[0.13, 0.14, None], [0.15]]


def test_what_stands_in_is_not_scored_again() -> None:
    worth = Worth()
    found = sets_of(loop(Numbering(start=10, failing=[4]), (3, 3), verifier=worth))
    assert worth.seen == [[10, 11, 12], [13, 15]]
    assert [c.score and c.score.value for c in found[-1]] == [0.13, 0.11, 0.15]


def test_scores_of_a_search_before_are_made_anew() -> None:
    worth = Worth()
    roots = Candidates((answer(40, score=0.99), answer(50, score=0.01)))
    found = sets_of(loop(Numbering(), (1,), TopK(1), verifier=worth), roots)
    assert worth.seen == [[40, 50], [0]]
    assert [c.score and c.score.value for c in found[0]] == [0.4, 0.5]


@dataclass(frozen=True)
class Ranks:
    """A verifier that compares."""

    relative = True
    seen: list[int] = field(default_factory=list)

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        self.seen.append(len(candidates))
        return [Score(sum(int(o.answer or 0) < int(c.answer or 0) for o in candidates)) for c in candidates]


def test_a_verifier_that_compares_sees_whole_sets_of_one_round() -> None:
    ranks = Ranks()
    found = sets_of(loop(Numbering(failing=[4]), (3, 3), TopK(2), verifier=ranks))
    assert ranks.seen == [3, 3]
    assert [c.score and c.score.value for c in found[-1]] == [1, 0, 2]  # of 3, 1 and 5
    with pytest.raises(BadInput, match="compares"):
        loop(Numbering(), (3,), TopK(2, pool=so_far), verifier=Ranks())


# Budgets.


def depth(request: Request, n: int) -> str:
    """Says in which round it was written, and fills its answer with words."""
    rounds = [int(text.split()[1]) for text in entries(request)]
    return f"round {1 + max(rounds, default=0)} {'so ' * (n % 3)}\\boxed{{{n % 4}}}"


def rounds_of(found: Candidates) -> list[int]:
    return [int(c.text.split()[1]) for c in found if c.answer is not None]


@pytest.mark.parametrize("seed", [1, 2])
def test_no_budget_loses_a_finished_answer(seed: int) -> None:
    """With every place filled each round, the rounds at which the places are add up to the answers that were finished."""
    flow = loop(Numbering(depth), (4,) * 4)
    free = solve(PROBLEM, flow, seed=seed)
    assert rounds_of(free.candidates) == [4] * 4
    answered = list[int]()
    for tokens in range(0, free.tokens + 1, 7):
        model = Numbering(depth)
        got = solve(PROBLEM, loop(model, (4,) * 4), seed=seed, budget=Budget(tokens=tokens))
        assert got.tokens <= tokens
        whole_ones = [c for c in model_texts(model) if "\\boxed" in c]
        assert sum(rounds_of(got.candidates)) == len(whole_ones)
        assert got.candidates.items
        answered.append(len(whole_ones))
    assert answered[0] == 0
    assert {0, 4, 8, 12} < set(answered)


def model_texts(model: Numbering) -> list[str]:
    """What a model wrote, by the limits that its requests had."""
    texts, again = [], Numbering(depth)
    for batch in model.calls:
        for request in batch:
            texts.append(again._complete(request).text)
    return texts


@pytest.mark.parametrize(
    "make",
    [
        lambda m, r: presets.rsa(m, n=4, k=2, rounds=3),
        lambda m, r: presets.pacore(m, schedule="4,2"),
        lambda m, r: presets.pdr(m, n=3, rounds=2),
        lambda m, r: presets.pdr_top_k(m, r, n=3),
        lambda m, r: presets.remom(m, m, schedule="4,2", tail=20),
        lambda m, r: presets.mixture_of_agents(m, m, n=2, critique=True),
        lambda m, r: presets.debate(m),
        lambda m, r: presets.redo_rounds(m, r, n=3, rounds=2),
    ],
    ids=["rsa", "pacore", "pdr", "pdr-top-k", "remom", "moa", "debate", "redo"],
)
def test_presets_keep_their_promises_and_answer_with_every_budget(make: Callable[[Any, Any], Strategy]) -> None:
    flow = make(ScriptedModel(), ProcessReward(ScriptedReward()))
    check_strategy(flow, PROBLEM)
    free, enough = solve(PROBLEM, flow), False
    for part in range(1, 25):
        got = solve(PROBLEM, flow, budget=Budget(tokens=free.tokens * part // 24))
        enough = enough or got.tokens > 60
        assert got.answer is not None or not enough


def test_a_writer_without_money_loses_its_own_answers_only() -> None:
    rich, poor = Numbering(name="rich", start=10), Numbering(name="poor", role="poor")
    flow = Rounds((Prompted(poor, READ), Prompted(rich, READ)), (4, 4), Everything())
    result = solve(PROBLEM, flow, budget=Budget(poor=Budget(calls=2)))
    assert numbers(result.candidates) == [0, 12, 1, 13]
    assert result.stopped


def test_where_the_money_of_all_writers_is_gone_the_last_one_still_concludes() -> None:
    small, large = Numbering(name="small", role="small"), Numbering(name="large", start=50)
    flow = Rounds((Prompted(small, READ),), (3, 3, 3, 3, 1), Everything(), closing=Prompted(large, READ))
    result = solve(PROBLEM, flow, budget=Budget(small=Budget(calls=6)))
    assert numbers(result.candidates) == [50]
    assert sorted(entries(large.calls[0][0])) == told([3, 4, 5])
    alone = solve(PROBLEM, loop(Numbering(name="small", role="small"), (3,) * 4), budget=Budget(small=Budget(calls=6)))
    assert numbers(alone.candidates) == [3, 4, 5]


# Contexts.


@given(st.integers(60, 400), st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(1, 200))
@settings(max_examples=80)
def test_what_is_shown_fits_and_is_the_first_of_what_was_to_be_read(room: int, lengths: list[int], most: int) -> None:
    model = ScriptedModel(name="m")
    model.context_length = room
    # Half of them the model wrote itself, as long as their tokens say.
    sources = tuple(
        Candidate(PROBLEM, (Step("so " * n + f"\\boxed{{{i}}}", "mx"[i % 2], n + 1),)) for i, n in enumerate(lengths)
    )
    writer = Prompted(model, READ, max_tokens=most)
    fit = fitting(writer, Reading(PROBLEM, sources))
    reply = min(most, room // 2)
    assert model.count(writer.context(fit)) + reply <= room
    assert fit.sources
    if fit.sources == sources[: len(fit.sources)]:
        if len(fit.sources) < len(sources):
            more = Reading(PROBLEM, sources[: len(fit.sources) + 1])
            assert model.count(writer.context(more)) + reply > room
    else:  # not even one fits: its end is shown
        (only,) = fit.sources
        assert only.text.startswith("[…] ")
        assert sources[0].text.endswith(only.text.removeprefix("[…] "))
        assert model.count(writer.context(Reading(PROBLEM, sources[:1]))) + reply > room


def test_texts_that_a_model_wrote_count_what_they_took() -> None:
    """A model that cannot count but by its bound, as a server's: what it wrote itself is known better."""

    class Bounded(ScriptedModel):
        def count(self, context: Any) -> int:
            return 10 * super().count(context)

    model = Bounded(name="m")
    model.context_length = 1000
    writer = Prompted(model, READ, max_tokens=100)

    def left(author: str) -> int:
        sources = tuple(Candidate(PROBLEM, (Step("so " * 39 + "\\boxed{1}", author, 40),)) for _ in range(12))
        return len(fitting(writer, Reading(PROBLEM, sources)).sources)

    assert left("another") == 1  # of 400 and more each
    assert left("m") == 12  # of 40 each


def test_rounds_leave_out_what_does_not_fit_and_never_fail() -> None:
    model = Numbering(lambda request, n: "so " * 30 + f"\\boxed{{{n}}}")
    model.context_length = 150
    result = solve(PROBLEM, Rounds((Prompted(model, READ, max_tokens=40),), (6, 6, 1), Everything()))
    assert [len(batch) for batch in model.calls] == [6, 6, 1]
    assert not result.errors
    assert {len(entries(request)) for batch in model.calls[1:] for request in batch} == {2}


def test_tails() -> None:
    said = Candidate(PROBLEM, (Step("<think>long</think>one two three four", "m", 9),))
    assert Tail(10)(said) == "[…] three four"
    assert Tail(100)(said) == "one two three four"
    assert Tail(24, full_text)(said) == "[…] think>one two three four"
    shown = TokenTail(ScriptedModel(), 3)(said)
    assert shown.startswith("[…] ")
    assert said.text.endswith(shown.removeprefix("[…] "))
    assert len(words(shown)) <= 3
    assert TokenTail(ScriptedModel(), 4)(said) == "one two three four"
    assert longest("abc", lambda text: False) == "[…] c"


def test_remom_shows_the_last_tokens_at_four_characters_each() -> None:
    small, large = (ScriptedModel(["x" * 100 + " \\boxed{1}"], name=name) for name in ("small", "large"))
    solve(PROBLEM, presets.remom(small, large, schedule="2", tail=5))
    (last,) = large.calls[-1]
    assert asked(last).count("[…] " + "x" * 10 + " \\boxed{1}") == 2
    assert "x" * 11 not in asked(last)


# Prompts.


@pytest.mark.parametrize("thinking", [True, False])
def test_rsa_shows_reasoning_where_it_is_asked_to(thinking: bool) -> None:
    model = ScriptedModel(["<think>deep</think>It is \\boxed{4}"])
    solve(PROBLEM, presets.rsa(model, n=4, k=3, rounds=2, thinking=thinking))
    for request in model.calls[1]:
        assert asked(request).count("It is \\boxed{4}") == 3
        assert asked(request).count("deep") == (3 if thinking else 0)
        assert "(3 of them)" in asked(request)
        assert PROBLEM.prompt in asked(request)


def test_rsa_that_reads_one_refines() -> None:
    model = Numbering()
    solve(PROBLEM, presets.rsa(model, n=2, k=1, rounds=2))
    assert {asked(request) for request in model.calls[1]} <= {
        filled(prompts.REFINE_PROMPT, problem=PROBLEM.prompt, solution=text) for text in told([0, 1])
    }


def test_pacore_shows_conclusions_alone() -> None:
    model = ScriptedModel(["<think>deep</think>It is \\boxed{4}"])
    solve(PROBLEM, presets.pacore(model, schedule="4"))
    assert asked(model.calls[1][0]).count("\nIt is \\boxed{4}") == 4
    assert "deep" not in asked(model.calls[1][0])


def test_the_prompts_of_the_others() -> None:
    model = Numbering()
    solve(PROBLEM, presets.debate(model))
    (first, _, _) = (asked(request) for request in model.calls[1])
    assert "Here are 3 answers: [1] is your own" in first
    assert "[1]\nIt is \\boxed{0}\n\n[2]\nIt is \\boxed{1}\n\n[3]\nIt is \\boxed{2}" in first
    notes = Numbering()
    solve(PROBLEM, presets.pdr(notes, n=2))
    told_notes, used = asked(notes.calls[1][0]), asked(notes.calls[2][0])
    assert "Write notes" in told_notes
    assert "It is \\boxed{0}" in told_notes
    assert "Notes on earlier attempts:\nIt is \\boxed{2}" in used  # what it wrote as its notes
    assert "[1]" not in used
    small, large = Numbering(name="small"), Numbering(name="large", start=10)
    solve(PROBLEM, presets.mixture_of_agents(small, large, n=3, layers=1, critique=True))
    critique, synthesis = (asked(batch[0]) for batch in large.calls[1:])
    shown = re.search(r"\[1\]\n.*\[3\]\n.*?\n", critique, re.DOTALL)
    assert shown
    assert shown[0] in synthesis
    assert "What a critic says of them:\nIt is \\boxed{11}" in synthesis
    assert [large.calls[-1][0].sampling.temperature, small.calls[0][0].sampling.temperature] == [0.1, 0.7]


@pytest.mark.parametrize("name", [name for name in vars(prompts) if name.endswith("_PROMPT")])
def test_every_blank_of_a_prompt_is_filled(name: str) -> None:
    prompt = vars(prompts)[name]
    reading = Reading(PROBLEM, (answer(3), answer(4)), ("Remark.",))
    text = Prompted(ScriptedModel(), prompt).context(reading).messages[0].content
    assert PROBLEM.prompt in text
    assert "boxed{3}" in text
    assert re.search(r"\{[a-z]+\}", text) is None


# What cannot be.


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda m: Rounds((), (3,), RandomK()), "no writer"),
        (lambda m: loop(m, ()), "one round or more"),
        (lambda m: loop(m, (3, 0)), "1 answer or more"),
        (lambda m: loop(m, (3,), TopK(2)), "give a verifier"),
        (lambda m: loop(m, (3,), Summarized(Prompted(m, READ), TopK(2))), "give a verifier"),
        (lambda m: loop(m, (3,), allocation=lambda breadth, writers: [1] * breadth), "index of a writer"),
        (lambda m: loop(m, (3,), allocation=lambda breadth, writers: [0]), "index of a writer"),
        (lambda m: loop(m, (3,), allocation=Weighted((1, 2))), "there are 1 writers"),
        (lambda m: Weighted((0, 0)), "not all 0"),
        (lambda m: Weighted((1, -1)), "0 or more"),
        (lambda m: RandomK(0), "1 or more"),
        (lambda m: TopK(0), "1 or more"),
        (lambda m: Tail(0), "1 or more"),
        (lambda m: TokenTail(m, 0), "1 or more"),
        (lambda m: presets.pacore(m, schedule="32;4"), "as in 32,4"),
        (lambda m: presets.pdr(m, workspace="top"), "summary or random"),
        (lambda m: presets.remom(m, m, spread="even"), "one of weighted, equal"),
        (lambda m: presets.redo_rounds(m, Worth(), end="none"), "one of argmax"),
    ],
)
def test_mistakes_are_told(make: Callable[[Any], object], told: str) -> None:
    with pytest.raises(BadInput, match=re.escape(told)):
        make(ScriptedModel())


def test_candidates_of_two_problems_are_refused() -> None:
    with pytest.raises(BadInput, match="2 problems"):
        sets_of(loop(Numbering(), (2,)), Candidates.of(PROBLEM, Problem("Another?")))
    assert sets_of(loop(Numbering(), (2,)), Candidates(())) == []


def test_the_whole_configuration_is_in_the_repr() -> None:
    flow = loop(ScriptedModel(), (3, 1), Everything(so_far))
    assert "schedule=(3, 1), reads=Everything(pool=so_far), allocation=in_turn" in repr(flow)
    assert "show=newest" in repr(flow)
    assert " at 0x" not in repr(flow)


# Without words.


def test_a_step_that_cannot_be_paid_takes_no_finished_solution_along() -> None:
    """Solutions of two and of four steps; the money is gone before the long ones are done."""

    def says(request: Request) -> str:
        done = request.context.prefix.count("\n\n")
        last = 1 + 2 * (request.seed % 2) if not done else 1 + 2 * ("long" in request.context.prefix)
        kind = "long" if last == 3 else "short"
        return "".join(f"{kind} {k}\n\n" for k in range(done, last)) + f"\\boxed{{{last}}}"

    def answers(policy: Any) -> list[str | None]:
        flow = Rounds((Refined(Redo(policy)),), (8,), RandomK(1))
        result = solve(PROBLEM, flow, budget=Budget(calls=20), seed=3)
        return [c.answer for c in result.candidates]

    policy = Sample(ScriptedModel(says))
    assert Counter(answers(policy)) == {None: 1}  # the root, and nothing else
    kept = Counter(answers(WhilePaid(policy)))
    assert kept["1"] > 0
    assert kept["1"] + kept[None] + kept["3"] == 8


def test_the_preset_without_words_pays_for_scores_and_keeps_what_is_finished() -> None:
    prm = ProcessReward(ScriptedReward(name="prm"))
    flow = presets.redo_rounds(ScriptedModel(), prm, n=3, rounds=3)
    result = solve(PROBLEM, flow)
    assert result.usage["prm"].calls == 9
    assert all(c.score for c in result.candidates)
    last = solve(PROBLEM, presets.redo_rounds(ScriptedModel(), prm, n=3, rounds=3, every=False))
    assert [c.text for c in result.candidates][-3:] == [c.text for c in last.candidates]
    assert len(result.candidates) == 9
    assert "Redo(policy=WhilePaid(" in repr(flow)


def test_on_the_lab_new_answers_keep_the_best_one_up_to_its_weakest_step() -> None:
    """Each answer of a round begins with the steps of the best of the round before, up to the lowest score; half of a budget
    answers too."""
    small, prm = open_model("lab/small"), ProcessReward(open_model("lab/prm"))
    for each in problems(3):
        problem = Problem(each.text, each.id)
        flow = Rounds((Refined(Redo(Sample(small), max_steps=16)),), (4, 4, 4), TopK(1), verifier=prm)
        ledger = Ledger()
        found = [some for some in sets_of(flow, Candidates.of(problem), ledger=ledger) if all(c.score for c in some)]
        assert [len(some) for some in found] == [4, 4, 4]
        for before, after in itertools.pairwise(found):
            best = max(before, key=lambda c: c.score.value if c.score else -1)
            assert best.score
            kept = best.score.steps.index(min(best.score.steps))
            assert all(c.steps[:kept] == best.steps[:kept] for c in after)
        half = Budget(tokens=ledger.spent.tokens // 2)
        assert solve(problem, presets.redo_rounds(small, prm, n=4), budget=half).answer


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda m: presets.pdr(m, rounds=-1), "rounds=-1: 1 or more"),
        (lambda m: presets.mixture_of_agents(m, m, layers=0), "layers=0: 1 or more"),
        (lambda m: presets.rsa(m, n=0), "n=0: 1 or more"),
        (lambda m: presets.debate(m, agents=0), "agents=0: 1 or more"),
        (lambda m: presets.remom(m, m, tail=-1), "tail=-1: 0"),
        (lambda m: presets.pacore(m, schedule="99999999999"), "1,000,000 at most"),
    ],
)
def test_presets_name_the_option_that_is_wrong(made: Callable[[ScriptedModel], Strategy], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        made(ScriptedModel())
