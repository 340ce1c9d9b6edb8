"""Replaying records: the recorded run again to the last bit, other votes and rules on the same samples, and what cannot be."""

from __future__ import annotations

import asyncio
import json
import math
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from reasonweave.orchestrator import Budget, Candidate, Candidates, Problem, Score, Step, Strategy, chain
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Request
from reasonweave.orchestrator.models.replay import NotRecorded
from reasonweave.orchestrator.registry import Workflow
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.types import CUT
from reasonweave.strategies import BestOfN, ForceAnswer, majority, whole
from reasonweave.strategies.policies.sample import Sample
from reasonweave.strategies.searches.adaptive import BetaStop
from reasonweave.tasks.base import Example
from reasonweave.tasks.cli import app
from reasonweave.tasks.evaluation.recorded import Outcome, Recorded, Replayed, replay
from reasonweave.tasks.evaluation.records import Header, Log, Record, Records, SampleRecord
from reasonweave.tasks.evaluation.runner import evaluate
from reasonweave.verifiers import ProcessReward

N = 7  # fewer than rpc fits anything to
EXAMPLES = [Example(Problem(f"problem {i}", f"id-{i}"), str(1 + i % 4), f"level {i % 2}") for i in range(20)]


def record(
    folder: Path,
    name: str,
    strategy: Strategy,
    examples: Sequence[Example] = EXAMPLES,
    budget: Budget | None = None,
    **options: Any,
) -> list[Record]:
    header = Header(
        workflow=name, strategy=repr(strategy), options=options, task="gone", limit=None, seed=3, budget="", models={}
    )
    log = Log(folder / f"{name}.jsonl", header)

    async def main() -> list[Record]:
        return await evaluate(
            strategy, examples, budget=budget, seed=3, connections=4, log=log, done=lambda record: None
        )

    try:
        return asyncio.run(main())
    finally:
        log.close()


def leaning(request: Request) -> str:
    """Two steps; on every other problem mostly one answer, so that rules stop early there and not elsewhere."""
    rng, number = random.Random(request.seed), int(request.context.messages[0].content.split()[-1])
    sure = number % 2 == 0 and rng.random() < 0.9
    return f"step {rng.random():.3f}\n\nThe answer is \\boxed{{{1 + number % 4 if sure else rng.randint(1, 4)}}}"


def recorded(folder: Path, name: str, **options: Any) -> list[Record]:
    """Records of a registered workflow over scripted models."""
    workflow = Workflow.named(name)
    parts = {"small": ScriptedModel(leaning, name="small"), "prm": ProcessReward(ScriptedReward(name="prm"))}
    options = workflow.options | options
    return record(folder, name, workflow.make(**{role: parts[role] for role in workflow.roles}, **options), **options)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


def rows(*arguments: object) -> list[dict[str, Any]]:
    ended = cli(*arguments, "--json", "--no-plot")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)["rows"]  # type: ignore[no-any-return]


def refused(*arguments: object) -> str:
    ended = cli(*arguments, "--no-plot")
    assert ended.exit_code == 2, ended.output
    assert ended.stderr.startswith("error: ")
    return " ".join(ended.stderr.removeprefix("error: ").split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs over the same samples: plain, scored, and one that stops early."""
    folder = tmp_path_factory.mktemp("run")
    recorded(folder, "self-consistency", n=N)
    recorded(folder, "weighted-majority", n=N)
    recorded(folder, "adaptive-consistency", n=N)
    return folder


EXACT = ["self-consistency", "weighted-majority", "best-of-n", "rpc", "adaptive-consistency", "majority-of-bests"]


@pytest.mark.parametrize("name", EXACT)
def test_the_recorded_workflow_says_again_what_it_said(name: str, tmp_path: Path) -> None:
    """Answers, confidences and tokens, with the recorded seed and options: no bit differs."""
    records = recorded(tmp_path, name, n=N)
    again = asyncio.run(replay(Recorded.load(tmp_path), Workflow.named(name), {"n": N}))
    found = [outcome for (outcome,) in again.outcomes]
    assert [(o.answer, o.confidence, o.right) for o in found] == [(r.answer, r.confidence, r.correct) for r in records]
    assert [o.samples for o in found] == [len(r.samples) for r in records]
    if "prm" not in Workflow.named(name).roles:  # ratings cost their problem's mean
        assert [o.tokens for o in found] == [r.total.tokens for r in records]
    assert again.unforced == 0


def test_ties_are_broken_as_in_the_run(tmp_path: Path) -> None:
    """Of 20 problems with two different answers each, a coin of one's own would get all with chance 1e-6."""
    answers = {0: "1", 1: "2"}
    script = iter([f"\\boxed{{{answers[i % 2]}}}" for i in range(40)])
    flow = chain(BestOfN(whole(ScriptedModel(lambda request: next(script))), 2, max_steps=1), majority)
    records = record(tmp_path, "flow", flow)
    assert len({r.answer for r in records}) == 2
    again = asyncio.run(replay(Recorded.load(tmp_path), Workflow.named("self-consistency"), {"n": 2}))
    assert [o.answer for (o,) in again.outcomes] == [r.answer for r in records]
    other = asyncio.run(replay(Recorded.load(tmp_path), Workflow.named("self-consistency"), {"n": 2}, seed=4))
    assert [o.answer for (o,) in other.outcomes] != [r.answer for r in records]


def counted(record: Record, n: int) -> dict[str, int]:
    answers = [s.answer for s in record.samples[:n] if s.answer is not None]
    return {answer: answers.count(answer) for answer in answers}


@pytest.mark.parametrize("n", [1, 3, 5, N])
def test_fewer_samples_are_the_first_ones(folder: Path, n: int) -> None:
    again = asyncio.run(
        replay(Recorded.load(folder, workflow="self-consistency"), Workflow.named("self-consistency"), {"n": n})
    )
    records = Records.read(folder / "self-consistency.jsonl").items
    for (outcome,), record in zip(again.outcomes, records, strict=True):
        votes = counted(record, n)
        assert votes[outcome.answer or ""] == max(votes.values())
        assert outcome.confidence == max(votes.values()) / sum(votes.values())
        assert outcome.samples == n
        completion = sum(s.tokens for s in record.samples[:n])
        assert outcome.tokens == completion + n * record.prompt_tokens["small"]


def test_an_adaptive_rule_reads_the_first_samples_and_pays_no_more(folder: Path) -> None:
    """Where it stops is worked out here by hand, from the recorded answers."""
    again = asyncio.run(
        replay(Recorded.load(folder, workflow="self-consistency"), Workflow.named("adaptive-consistency"), {"n": N})
    )
    rule, used = BetaStop(), []
    for (outcome,), record in zip(again.outcomes, Records.read(folder / "self-consistency.jsonl").items, strict=True):
        problem = Problem(record.input)
        drawn = tuple(Candidate(problem, (Step(s.text, "m", s.tokens),), done=True) for s in record.samples)
        stop = next((k for k in range(1, N) if rule(Candidates(drawn[:k]))), N)
        assert outcome.samples == stop
        assert outcome.tokens == sum(s.tokens + record.prompt_tokens["small"] for s in record.samples[:stop])
        assert counted(record, stop)[outcome.answer or ""] == max(counted(record, stop).values())
        used.append(stop)
    assert len(set(used)) > 1


def test_windows_of_samples_are_windows_of_the_record(folder: Path) -> None:
    again = asyncio.run(replay(Recorded.load(folder), Workflow.named("esc"), {"n": N, "window": 2}))
    for (outcome,), record in zip(again.outcomes, Recorded.load(folder).file.items, strict=True):
        answers = [s.answer for s in record.samples]
        agree = [k for k in range(0, N - 1, 2) if answers[k] == answers[k + 1] is not None]
        assert outcome.samples == (agree[0] + 2 if agree else N)
        if agree:
            assert outcome.answer == answers[agree[0]]
            assert outcome.confidence == 1


def test_log_probabilities_reach_the_votes_exactly(tmp_path: Path) -> None:
    """For few samples RPC is perplexity consistency, which reads the sums; here the same votes from the record's own figures."""
    records = recorded(tmp_path, "self-consistency", n=N)
    again = asyncio.run(replay(Recorded.load(tmp_path), Workflow.named("rpc"), {"n": N}))
    for (outcome,), record in zip(again.outcomes, records, strict=True):
        share: dict[str, float] = {}
        for s in {s.text: s for s in record.samples}.values():
            share[s.answer or ""] = share.get(s.answer or "", 0) + math.exp((s.logprob or 0) / s.tokens)
        assert outcome.confidence == pytest.approx(max(share.values()) / sum(share.values()), rel=1e-12)
        assert share[outcome.answer or ""] == pytest.approx(max(share.values()), rel=1e-12)


def test_random_orders_are_seeded_and_average_out(folder: Path) -> None:
    """Over all orders, one sample is right as often as the samples are; 12 orders of 20 problems, 1 false alarm in 10,000."""
    one = replay(Recorded.load(folder), Workflow.named("single"), {}, draws=12)
    again = asyncio.run(replay(Recorded.load(folder), Workflow.named("single"), {}, draws=12))
    found = asyncio.run(one)
    assert found.outcomes == again.outcomes
    assert len({tuple(o.right for o in problem) for problem in found.outcomes}) > 1
    right = [[s.answer == r.target for s in r.samples] for r in Recorded.load(folder).file.items]
    expected = float(np.mean(right))
    deviation = math.sqrt(sum(np.mean(r) * (1 - np.mean(r)) for r in right) / len(right) ** 2 / 12)
    assert abs(found.accuracy - expected) < 3.9 * deviation
    other = asyncio.run(replay(Recorded.load(folder), Workflow.named("single"), {}, draws=12, seed=9))
    assert other.outcomes != found.outcomes


def test_orders_change_nothing_where_all_samples_are_used(folder: Path) -> None:
    plain = asyncio.run(replay(Recorded.load(folder), Workflow.named("self-consistency"), {"n": N}))
    mixed = asyncio.run(replay(Recorded.load(folder), Workflow.named("self-consistency"), {"n": N}, draws=3))
    for (one,), several in zip(plain.outcomes, mixed.outcomes, strict=True):
        assert {o.confidence for o in several} == {one.confidence}


def outcomes(*shares: Sequence[bool]) -> Replayed:
    return Replayed("w", {}, tuple(tuple(Outcome("1", r, 0.5, 1, 1) for r in share) for share in shares))


def test_the_interval_draws_whole_problems() -> None:
    """40 problems, right in all or none of 50 orders: as wide as for 40 coins, not for 2,000. 0.31 is 2 · 1.96 · √(¼ / 40)."""
    low, high = outcomes(*[[i % 2 == 0] * 50 for i in range(40)]).interval
    assert high - low == pytest.approx(0.31, abs=0.04)
    assert low < 0.5 < high


def test_an_interval_is_never_a_point() -> None:
    low, high = outcomes(*[[True]] * 10).interval
    assert (round(low, 3), high) == (0.722, 1.0)  # Wilson's


# The command


def test_the_acceptance_line(folder: Path) -> None:
    """Several names after one option, sizes that are not there, and a table that says what it is of."""
    ended = cli(folder, "--workflows", "self-consistency", "rpc", "weighted", "--n", f"1,2,4,{N},64")
    assert ended.exit_code == 0, ended.output
    told = " ".join(ended.stdout.split())
    file = folder / "weighted-majority.jsonl"
    assert f"0 new tokens; 20 problems × {N} samples by small from {file}" in told
    assert (
        f"not replayed self-consistency, rpc, weighted with n=64: {file} has {N} samples a problem, and n=64 asks for more; "
        "record more with -S n=64"
    ) in told
    assert ended.stdout.count("self-consistency") == 2  # a row's name, and the line of what was left out
    assert (folder / "replay.png").stat().st_size > 10_000
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "names",
    [
        ("--workflows", "majority", "rpc", "best"),
        ("--workflows", "majority", "--workflows", "rpc", "--workflows", "best"),
        ("majority", "rpc", "best"),
        ("--workflows", "majority", "rpc", "--n", "2", "best"),
    ],
)
def test_workflows_can_be_named_in_any_way(folder: Path, names: Sequence[str]) -> None:
    found = rows(folder, *names, *(() if "--n" in names else ("--n", "2")))
    assert [row["workflow"] for row in found] == ["majority", "rpc", "best"]
    assert {row["n"] for row in found} == {2}


def test_short_names_are_the_workflows(folder: Path) -> None:
    for short, name in (("majority", "self-consistency"), ("weighted", "weighted-majority"), ("best", "best-of-n")):
        (a,), (b,) = (
            rows(folder, short, "--n", 4, "--from", "weighted-majority"),
            rows(folder, name, "--n", 4, "--from", "weighted-majority"),
        )
        assert a | {"workflow": name} == b


def test_json_says_everything(folder: Path) -> None:
    ended = cli(folder, "weighted", "--n", "4,64", "--json", "--draws", 2, "--limit", 5, "--no-plot")
    data = json.loads(ended.stdout)
    assert (data["new_tokens"], data["problems"], data["draws"], data["samples"]) == (0, 5, 2, [N, N])
    (row,) = data["rows"]
    assert row["problems"] == 5
    assert row["samples"] == 4
    assert row["options"]["temperature"] == 0.8
    low, high = row["interval"]
    assert 0 <= low <= row["accuracy"] <= high <= 1
    assert 0 <= row["ece"] <= 1
    assert "n=64 asks for more" in data["not_replayed"][0]


def test_without_sizes_all_powers_of_two_are_replayed(tmp_path: Path) -> None:
    recorded(tmp_path, "self-consistency", n=6)
    assert [row["n"] for row in rows(tmp_path)] == [1, 2, 4, 6]


def test_the_file_with_most_whole_samples_is_taken(folder: Path, tmp_path: Path) -> None:
    assert Recorded.load(folder).file.path.stem == "self-consistency"
    assert Recorded.load(folder, scored=True).file.path.stem == "weighted-majority"
    assert Recorded.load(folder, workflow="adaptive-consistency").file.path.stem == "adaptive-consistency"
    assert Recorded.load(folder / "adaptive-consistency.jsonl").file.path.stem == "adaptive-consistency"
    shutil.copytree(folder, tmp_path / "more")
    recorded(tmp_path / "more", "single")
    cut = replace(SampleRecord(), text="so", tokens=3, cut=True)
    rewrite(tmp_path / "more" / "self-consistency.jsonl", lambda r: r.samples.append(cut))
    assert Recorded.load(tmp_path / "more").file.path.stem == "weighted-majority"


def rewrite(file: Path, change: Callable[[Record], object]) -> None:
    """Change each record of a file."""
    head, *lines = file.read_text().splitlines()
    records = [Record.model_validate_json(line) for line in lines]
    for each in records:
        change(each)
    file.write_text("\n".join([head, *(each.model_dump_json() for each in records)]) + "\n")


def test_options_are_the_recorded_ones_unless_given(tmp_path: Path) -> None:
    recorded(tmp_path, "self-consistency", n=4, temperature=0.6, max_tokens=300)
    (row,) = rows(tmp_path, "majority", "--n", 4)
    assert (row["options"]["temperature"], row["options"]["max_tokens"]) == (0.6, 300)
    file = tmp_path / "self-consistency.jsonl"
    told = refused(tmp_path, "majority", "--n", 4, "-S", "temperature=0.9")
    assert f"{file} was sampled at temperature 0.6, and 0.9 is asked for; record again with -S temperature=0.9" in told
    told = refused(tmp_path, "majority", "--n", 4, "-S", "max_tokens=3")
    assert "tokens where at most 3 are asked for" in told
    assert rows(tmp_path, "esc", "--n", 4, "-S", "window=2")[0]["options"]["window"] == 2


def test_what_cannot_be_replayed_is_a_line_each_and_stops_nothing(folder: Path) -> None:
    ended = cli(
        folder / "self-consistency.jsonl", "majority", "weighted", "spec-reason", "self-certainty-filter", "deepconf",
        "single", "--n", 4, "--no-plot",
    )  # fmt: skip
    file = folder / "self-consistency.jsonl"
    assert ended.exit_code == 0
    left = [" ".join(line.split()[2:]) for line in ended.stdout.splitlines() if line.startswith("not replayed")]
    assert left == [
        f"weighted with n=4: {file} has no scores; record them with eval weighted-majority",
        f"spec-reason with n=4: needs 2 models (small, large); {file} has the samples of one",
        f"self-certainty-filter with n=4: {file} has whole solutions, and is asked for a step or for what follows a prefix; "
        "workflows that write step by step, or go on from a text, need a model",
        f"deepconf with n=4: {file} does not have the alternatives of each token, which is asked for: records keep one "
        "log-probability a sample",
    ]
    assert "single has no option n: it is replayed once, as it is" in ended.stdout


def test_nothing_to_replay_is_a_mistake(folder: Path) -> None:
    told = refused(folder / "self-consistency.jsonl", "weighted", "best", "--n", 4)
    assert told == (
        f"nothing could be replayed. weighted, best with n=4: {folder / 'self-consistency.jsonl'} has no scores; record them "
        "with eval weighted-majority"
    )


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert refused(nowhere) == f"{nowhere}: there is no such file or folder; name one that `reasonweave eval` made"
    assert refused("majority", folder).startswith("majority: there is no such file or folder; RUN comes first")
    assert refused(tmp_path) == f"{tmp_path}: no records (*.jsonl) in this folder; name one that eval made"
    assert "did you mean 'self-consistency'" in refused(folder, "self-consistancy")
    assert refused(folder, "--n", "2,x") == "--n '2,x': write whole numbers of 1 or more, as 1,2,4,8"
    assert refused(folder, "--n", "0").startswith("--n '0'")
    assert refused(folder, "--from", "esc").startswith("no workflow 'esc'")
    assert refused(folder, "-S", "window=3").startswith("no option 'window'")
    task = tmp_path / "task.jsonl"
    task.write_text('{"question": "1 + 1?", "answer": "2"}\n')
    assert refused(task) == f"{task}: no file of records: its first line is no header of an evaluation"


def test_a_run_without_samples_says_so(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "self-consistency.jsonl"
    head, *lines = (folder / file.name).read_text().splitlines()
    file.write_text(head + "\n")
    assert refused(tmp_path) == f"{file}: no problem in it is finished"
    old = [json.dumps({k: v for k, v in json.loads(line).items() if k not in ("samples", "drawn")}) for line in lines]
    first = json.dumps(json.loads(head) | {"schema_version": 1})
    file.write_text("\n".join([first, *old]) + "\n")
    assert len(Records.read(file).items) == 20
    assert refused(file) == f"{file}: was written before records kept samples; run eval again to record some"
    file.write_text(json.dumps(json.loads(head) | {"schema_version": 99}) + "\n")
    assert "written in form 99" in refused(file)


def test_a_torn_last_line_loses_its_problem_alone(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "self-consistency.jsonl"
    whole_file = (folder / file.name).read_bytes()
    file.write_bytes(whole_file[:-400])
    ended = cli(file, "--n", 2, "--no-plot")
    assert ended.exit_code == 0
    assert "19 problems × 7 samples" in ended.stdout
    assert f"note  the last line of {file} is not whole (the run was killed); 19 problems are" in ended.stdout
    lines = whole_file.splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:3], lines[3][:50] + b"\n", *lines[4:]]))
    assert refused(file).startswith(f"{file}, line 4: no record (the line: Invalid JSON")


def test_a_problem_that_is_there_twice_counts_once(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "self-consistency.jsonl"
    head, first, *others = (folder / file.name).read_text().splitlines()
    again = json.dumps(json.loads(first) | {"target": "77", "correct": False})
    file.write_text("\n".join([head, first, *others, again]) + "\n")
    records = Records.read(file)
    assert (len(records.items), records.repeated, records.items[0].target) == (20, 1, "77")
    assert "1 problems are in" in cli(file, "--n", 1, "--no-plot").stdout


def test_two_problems_with_the_same_words_keep_their_own_samples(tmp_path: Path) -> None:
    twins = [Example(Problem("question 1", f"twin-{i}"), "1") for i in range(3)]
    flow = chain(BestOfN(whole(ScriptedModel(leaning, name="small")), N, max_steps=1), majority)
    records = record(tmp_path, "flow", flow, twins)
    assert len({tuple(s.text for s in r.samples) for r in records}) == 3
    again = asyncio.run(replay(Recorded.load(tmp_path), Workflow.named("self-consistency"), {"n": N}))
    assert [o.confidence for (o,) in again.outcomes] == [r.confidence for r in records]


def test_a_stepwise_run_can_be_voted_on_and_is_told_apart(tmp_path: Path) -> None:
    flow = chain(BestOfN(Sample(ScriptedModel(name="small")), N), majority)
    records = record(tmp_path, "steps", flow)
    assert records[0].model_usage["small"].calls > N
    ended = cli(tmp_path, "--n", f"2,{N}", "--no-plot")
    assert "note  steps wrote its solutions step by step" in ended.stdout
    again = asyncio.run(replay(Recorded.load(tmp_path), Workflow.named("self-consistency"), {"n": N}))
    assert [o.confidence for (o,) in again.outcomes] == [r.confidence for r in records]


def test_samples_that_were_chosen_are_told_apart(tmp_path: Path) -> None:
    records = recorded(tmp_path, "esc", n=N, window=2)
    loaded = Recorded.load(tmp_path)
    assert not loaded.complete
    told = cli(tmp_path, "--n", 2, "--no-plot").stdout
    assert f"note  esc drew {sum(r.drawn for r in records)} samples, and " in told
    assert sum(r.drawn for r in records) > sum(loaded.counts)
    assert "20 problems × 2 to 7 samples" in told
    refusal = refused(tmp_path, "--n", N)
    assert f"has only 2 of a problem, and n={N} asks for more" in refusal


def answerless(request: Request) -> str:
    """Solutions without an answer, and a forced one that depends on what it goes on from."""
    if request.context.prefix:
        return f"{1 + len(request.context.prefix) % 4}}}"
    rng = random.Random(request.seed)
    return "".join(f"step {rng.random():.3f}\n\n" for _ in range(rng.randint(1, 4)))


def test_a_forced_answer_is_given_again_where_it_was_recorded(tmp_path: Path) -> None:
    model = ScriptedModel(answerless, name="small")
    flow = chain(BestOfN(whole(model), N, max_steps=1), majority, finish=ForceAnswer(model))
    records = record(tmp_path, "self-consistency", flow, n=N)
    assert all(r.answer and r.samples[-1].given and len(r.samples) == N + 1 for r in records)
    loaded = Recorded.load(tmp_path)
    assert loaded.counts == [N] * 20
    again = asyncio.run(replay(loaded, Workflow.named("self-consistency"), {"n": N}))
    assert [o.answer for (o,) in again.outcomes] == [r.answer for r in records]
    assert (again.unforced, again.unanswered) == (0, 0)
    one = asyncio.run(replay(loaded, Workflow.named("self-consistency"), {"n": 1}))
    for (outcome,), r in zip(one.outcomes, records, strict=True):
        known = r.samples[-1].text.startswith(r.samples[0].text.strip())
        assert outcome.answer == (r.answer if known else None)
    assert one.unforced == sum(o.answer is None for (o,) in one.outcomes) > 0
    assert (
        f"a forced answer that was not recorded counts as none: majority n=1 {one.unforced}"
        in cli(tmp_path, "--n", 1, "--no-plot").stdout
    )


def test_other_answer_rules_are_found_out(folder: Path, tmp_path: Path) -> None:
    """Without its task a file is read by the rule for boxed answers that gives the recorded ones, else not at all."""
    shutil.copy(folder / "self-consistency.jsonl", tmp_path)
    file = tmp_path / "self-consistency.jsonl"

    def lenient(r: Record) -> None:
        r.samples = [replace(s, text="I say #### 3", answer="3") for s in r.samples]
        r.answer, r.correct = "3", r.target == "3"

    rewrite(file, lenient)
    assert rows(tmp_path, "--n", 4)[0]["accuracy"] == 0.25

    def strict(r: Record) -> None:
        r.samples = [replace(s, answer=None) for s in r.samples]

    rewrite(file, strict)
    assert rows(tmp_path, "--n", 4)[0]["no_answer"] == 1

    def odd(r: Record) -> None:
        r.samples = [replace(s, answer="three") for s in r.samples]

    rewrite(file, odd)
    assert refused(file) == (
        f"{file}: its answers were read by another rule than the one here; install the task 'gone' as it was"
    )


def test_a_part_that_fails_is_counted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from reasonweave.orchestrator import Model, chain\n"
        "from reasonweave.strategies import BestOfN, majority, whole\n"
        "def vote(candidates):\n"
        "    if candidates[0].problem.id in ('id-3', 'id-4'):\n"
        "        raise KeyError('x')\n"
        "    return majority(candidates)\n"
        "def mine(small: Model, *, n: int = 2):\n"
        "    return chain(BestOfN(whole(small), n=n, max_steps=1), vote)\n"
    )
    ended = cli(folder, f"{tmp_path / 'flow.py'}:mine", "--n", 2, "--no-plot")
    assert "note  mine n=2: 2 of 20 failed, the first with: KeyError: 'x'" in ended.stdout


def test_the_lab_from_end_to_end(tmp_path: Path) -> None:
    """A real model's run, written by `eval` and replayed by the command: the last row is what the run's own records say."""
    asked = [
        "eval",
        "self-consistency",
        "--limit",
        "20",
        "-S",
        "n=4",
        "--log-dir",
        str(tmp_path),
        "--no-plot",
        "--json",
    ]
    assert CliRunner().invoke(app, asked).exit_code == 0
    (run,) = tmp_path.iterdir()
    found = rows(
        run, "--workflows", "self-consistency", "adaptive-consistency", "esc", "--n", "1,2,4", "-S", "window=2"
    )
    records = Records.read(run / "self-consistency.jsonl").items
    assert found[2]["accuracy"] == sum(r.correct for r in records) / 20
    assert found[2]["tokens"] == sum(r.total.tokens for r in records) / 20
    assert found[2]["confidence"] == pytest.approx(sum(r.confidence or 0 for r in records) / 20)
    assert found[0]["accuracy"] == sum(r.samples[0].answer == r.target for r in records) / 20
    assert found[2]["samples"] == 4 > found[8]["samples"] >= 2
    exact = asyncio.run(replay(Recorded.load(run), Workflow.named("self-consistency"), {"n": 4}))
    assert [(o.answer, o.confidence) for (o,) in exact.outcomes] == [(r.answer, r.confidence) for r in records]


# What records keep


def test_a_sample_is_kept_whole_and_compactly() -> None:
    problem = Problem("q")
    steps = (Step("a\n\n", "m", 3, -0.25), Step("\\boxed{4", "m", 2, -0.125, open=True, label=CUT))
    full = Candidate(problem, steps, True, -math.inf, Score(0.5, (0.75, 0.25)))
    kept = SampleRecord.of(full)
    assert kept == SampleRecord(
        "a\n\n\\boxed{4", None, 5, -0.375, True, True, True, None, 0.5, (0.75, 0.25), None, None
    )
    assert full.cut
    lost = SampleRecord.of(Candidate(problem, (), True, 0.0, Score(math.nan, (), "gone"), "broken"))
    assert lost == SampleRecord(failed="broken", unjudged="gone")


def test_samples_survive_the_file_and_defaults_are_left_out(tmp_path: Path) -> None:
    records = recorded(tmp_path, "weighted-majority", n=4)
    assert Records.read(tmp_path / "weighted-majority.jsonl").items == records
    line = json.loads((tmp_path / "weighted-majority.jsonl").read_text().splitlines()[1])
    assert set(line["samples"][0]) == {"text", "answer", "tokens", "logprob", "score", "steps"}
    assert line["drawn"] == 4
    assert line["prompt_tokens"] == {"small": 3}
    odd = SampleRecord("x", weight=None, unjudged="nan", logprob=-1 / 3)
    again = Record.model_validate_json(records[0].model_copy(update={"samples": [odd]}).model_dump_json())
    assert again.samples == [odd]


def test_a_tight_budget_still_records_and_replays(tmp_path: Path) -> None:
    flow = Workflow.named("self-consistency").make(ScriptedModel(name="small"), n=4)
    records = record(tmp_path, "self-consistency", flow, budget=Budget(tokens=60), n=4)
    assert any(r.limit for r in records)
    assert all(len(r.samples) >= 4 for r in records)
    rows(tmp_path, "--n", "4")


def test_a_python_caller_gets_the_same_refusals(folder: Path) -> None:
    with pytest.raises(NotRecorded, match="7 samples of problem 'id-0'"):
        asyncio.run(replay(Recorded.load(folder), Workflow.named("self-consistency"), {"n": 9}))
    with pytest.raises(BadInput, match="n is 1 to 1,000,000"):
        asyncio.run(replay(Recorded.load(folder), Workflow.named("self-consistency"), {"n": 0}))
