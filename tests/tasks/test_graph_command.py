"""`reasonweave graph`: every workflow is drawn without a model, and records say what happened at its nodes."""

from __future__ import annotations

import asyncio
import json
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from reasonweave.orchestrator import Budget, Jsonl, Model, Node, Problem, Strategy, Usage, chain, solve
from reasonweave.orchestrator.errors import ModelError
from reasonweave.orchestrator.happened import Happened, account
from reasonweave.orchestrator.outline import outline
from reasonweave.orchestrator.registry import Workflow, names
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.strategies import BestOfN, best_of_n, majority, self_consistency, whole
from reasonweave.tasks import opening
from reasonweave.tasks.base import Example
from reasonweave.tasks.evaluation.records import Header, Log, Record, Records, provenance, without_times
from reasonweave.tasks.evaluation.runner import evaluate
from reasonweave.tasks.flags import manners
from reasonweave.tasks.graphing import NotOpened, graph_, hint, plain
from reasonweave.verifiers import ProcessReward, SelfCheck

EXAMPLES = [Example(Problem(f"problem {i}", f"id-{i}"), str(1 + i % 4)) for i in range(12)]
SMALL = ScriptedModel(name="lab-small", role="small")
PRM = ScriptedReward(name="lab-prm", role="prm")

FLOWS = """
from reasonweave.orchestrator import Budget, Graph, Model, Node, Verifier, chain, unsure
from reasonweave.strategies import BestOfN, ForceAnswer, majority, whole

def flow(small: Model, large: Model, *, n: int = 4, below: float = 0.6, rule=majority):
    return chain(
        BestOfN(whole(small), n=n), rule, large=Node(BestOfN(whole(large), n=2), when=unsure(below)),
        last=majority, finish=ForceAnswer(small),
    )

def two_ends(small: Model):
    graph = Graph()
    graph.add("a", BestOfN(whole(small), n=1))
    graph.add("b", majority, after="a")
    graph.add("c", majority, after="a")
    return graph

def wrong_role(small: Model):
    return chain(Node(BestOfN(whole(small), n=1), budget=Budget(large=Budget(tokens=5))), majority)
"""


def graph(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("graph")(manners()(graph_))
    return CliRunner().invoke(app, list(map(str, arguments)))


def flow(small: Model, large: Model, *, n: int = 4, below: float = 0.6) -> Strategy:
    """What FLOWS has, for models that are open."""

    def hard(candidates: object) -> bool:
        return "3" in candidates[0].problem.prompt  # type: ignore[index]

    return chain(
        Node(BestOfN(whole(small), n=n), budget=Budget(tokens=80)), ask=Node(majority, when=hard), last=majority
    )


def recorded(
    path: Path, strategy: Strategy, workflow: str, *, options: Mapping[str, Any] | None = None, connections: int = 4
) -> Records:
    """An evaluation on scripted models, as `eval` writes it."""
    header = Header(
        workflow=workflow,
        strategy=repr(strategy),
        options=dict(options or {}),
        task="t",
        limit=None,
        seed=0,
        budget="",
        models={"small": "lab/small", "prm": "lab/prm"},
        **provenance(),
    )
    log = Log(path, header)
    asyncio.run(
        evaluate(strategy, EXAMPLES, budget=None, seed=3, connections=connections, log=log, done=lambda record: None)
    )
    log.close()
    return Records.read(path)


# Without a run


@pytest.mark.parametrize("name", names("workflow"))
def test_every_workflow_is_drawn_and_no_model_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(opening, "open_model", opened)
    told = graph(name, "--json")
    assert told.exit_code == 0, told.output
    data = json.loads(told.stdout)
    assert (data["root"]["name"], data["root"]["kind"]) == (name, "graph")
    roles = {role for box in walked(data["root"]) for role in box.get("roles", [])}
    needed = set(Workflow.named(name).roles)
    assert roles <= needed
    assert needed - roles <= {"judge"}  # the large model's, where there is one


def walked(box: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [*box.get("inner", []), *([box["instead"]] if "instead" in box else [])]
    return [box, *(each for one in inner for each in walked(one))]


def test_a_workflow_of_ones_own_is_drawn_and_written(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FLOWS)
    files = [tmp_path / f"graph{ending}" for ending in (".svg", ".mmd", ".txt", ".md", ".json")]
    outs = [each for file in files for each in ("--out", file)]
    told = graph(f"{tmp_path}/flows.py:flow", "-S", "n=7", "--small", "lab/small", *outs)
    assert told.exit_code == 0, told.output
    assert "BestOfN n=7" in told.stdout
    assert "if unsure (< 0.6)" in told.stdout
    assert "Models: small = lab/small." in told.stdout  # named, not opened
    assert [line.split()[-1] for line in told.stdout.splitlines() if line.startswith("drawing ")] == list(
        map(str, files)
    )
    assert ET.parse(files[0]).getroot().tag.endswith("svg")
    for file in files:
        assert "n=7" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["best-of-nn"], "no workflow 'best-of-nn'; did you mean 'best-of-n'"),
        (["FLOWS:two_ends"], "needs exactly one last node; this one has ['b', 'c']"),
        (["FLOWS:wrong_role"], "node BestOfN: its budget limits 'large', and its models are small"),
        (["single", "--out", "graph.png"], "a drawing's name ends with one of .svg"),
        (["single", "--out", "no/folder.svg"], "there is no folder 'no'"),
        (["single", "-S", "m=3"], "no option 'm'"),
        (["single", "--happened", "gone.jsonl"], "there is no such file or folder"),
        (["single", "--happened", "FLOWS"], "line 2: no event of a trace"),
        (["single", "--model-role", "judge=lab/large"], "no role 'judge'"),
    ],
)
def test_a_mistake_is_one_clear_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text(FLOWS)
    ended = graph(*(argument.replace("FLOWS", "flows.py") for argument in arguments))
    assert ended.exit_code == 2
    assert ended.output.startswith("error: ")
    assert ended.output.count("\n") == 1
    assert told in ended.output


def test_what_was_not_opened_answers_nothing() -> None:
    model = NotOpened("lab/small", role="small")
    (written,) = solve(Problem("q"), chain(BestOfN(whole(model), n=1), majority)).errors
    assert "was not opened" in written
    with pytest.raises(ModelError):
        asyncio.run(model._generate([]))


# Records


def test_records_say_what_happened_at_each_node(tmp_path: Path) -> None:
    records = recorded(tmp_path / "flow.jsonl", flow(SMALL, SMALL), "flow").items
    assert [node.path for node in records[3].nodes or []] == ["run", "BestOfN", "ask", "last"]
    assert [(n.path, n.skipped, n.ended) for n in records[1].nodes or []] == [
        ("run", (), 1),
        ("BestOfN", (), 1),
        ("ask", ("hard is false",), 0),
        ("last", ("what comes before it was skipped",), 0),
    ]
    for record in records:
        whole_run = next(node for node in record.nodes or [] if node.path == "run")
        first = next(node for node in record.nodes or [] if node.path == "BestOfN")
        assert (first.given, first.got, whole_run.answer) == (1, 4, record.answer if record.confidence else None)
        assert {f"node {n.path}" for n in record.nodes or [] if n.ended} | {"total_time"} == set(record.times)
        assert record.times["node BestOfN"] <= record.times["node run"] <= record.times["total_time"] + 1e-3
        assert bool(first.stopped) is (record.limit is not None)


def test_records_read_back_and_do_not_depend_on_what_runs_beside_them(tmp_path: Path) -> None:
    strategy = flow(SMALL, SMALL)
    one, many = (recorded(tmp_path / f"{n}.jsonl", strategy, "flow", connections=n) for n in (1, 8))
    lines = [file.path.read_text().splitlines()[1:] for file in (one, many)]
    assert list(map(without_times, lines[0])) == list(map(without_times, lines[1]))
    assert any(record.limit for record in one.items)  # a budget that ends something is among them
    for record, line in zip(one.items, lines[0], strict=True):
        assert Record.model_validate_json(record.model_dump_json()) == record
        assert "broken" not in line  # what has its default is left out
        assert without_times(record.model_dump_json()) == without_times(line)


def test_the_figures_of_records_are_their_usage_and_those_of_the_tracer(tmp_path: Path) -> None:
    strategy = flow(SMALL, SMALL)
    records = recorded(tmp_path / "flow.jsonl", strategy, "flow").items
    live = Happened()
    for record, example in zip(records, EXAMPLES, strict=True):
        solve(example.problem, strategy, seed=record.seed, trace=live)
    drawn = outline(strategy)
    read, told = account(drawn, Happened(record.course for record in records)), account(drawn, live)
    assert read.of(drawn.root).usage == Usage.total([record.total for record in records])
    for path, found in read.figures.items():
        other = told.figures[path]
        for name in ("ran", "runs", "told", "skipped", "stopped", "given", "got", "answered", "models"):
            assert getattr(found, name) == getattr(other, name), (path, name)
    assert read.figures["ask",].ran == 1


def test_a_run_is_drawn_with_the_options_that_it_had(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FLOWS)
    strategy = best_of_n(SMALL, ProcessReward(PRM), n=3)
    path = recorded(tmp_path / "best-of-n.jsonl", strategy, "best-of-n", options={"n": 3}).path
    told = graph("best-of-n", "--happened", path, "--out", tmp_path / "graph.svg")
    assert told.exit_code == 0, told.output
    assert "BestOfN n=3" in told.stdout
    assert "12 problems" in told.stdout
    assert "1 → 3 candidates" in told.stdout
    assert "Models: prm = lab/prm, small = lab/small." in told.stdout
    assert "note:" not in told.output
    assert "1 → 3 candidates" in (tmp_path / "graph.svg").read_text()
    folder = graph("best-of-n", "--happened", tmp_path)  # the one file of it that is of this workflow
    assert folder.stdout.splitlines()[:8] == told.stdout.splitlines()[:8]
    other = graph("best-of-n", "--happened", path, "-S", "n=5")
    assert "is a run of this workflow as it was then: its composition is not the one that is drawn" in other.output


def test_a_run_is_drawn_with_the_verifier_that_it_had(tmp_path: Path) -> None:
    """As the lab has it: the large model plays the verifier's judge."""
    judge = ScriptedModel(lambda request: "True", name="lab-large", role="large")
    strategy = best_of_n(SMALL, SelfCheck(judge), n=2)
    path = recorded(tmp_path / "best-of-n.jsonl", strategy, "best-of-n", options={"n": 2}).path
    head, *lines = path.read_text().splitlines()
    header = json.loads(head) | {"verifiers": {"prm": "self-check"}}
    path.write_text("\n".join([json.dumps(header), *lines]) + "\n")
    told = graph("best-of-n", "--happened", path)
    assert "verifier SelfCheck(large)" in told.stdout
    assert "note:" not in told.output
    path.write_text("\n".join([json.dumps(header | {"verifiers": {"prm": "gone k=3"}}), *lines]) + "\n")
    told = graph("best-of-n", "--happened", path)
    assert "note: the run's verifier for prm was gone k=3, which is not known here" in told.output


def test_a_run_of_another_workflow_is_told_and_its_calls_not_dropped(tmp_path: Path) -> None:
    flows = chain(quick=BestOfN(whole(SMALL), n=3), vote=majority)
    path = recorded(tmp_path / "quick.jsonl", flows, "quick").path
    told = graph("self-consistency", "--happened", path)
    assert told.exit_code == 0, told.output
    assert f"note: {path} is a run of quick, not of self-consistency" in told.output
    assert "Not in this drawing, and counted with the box around it: quick (36 calls" in told.stdout
    ended = graph("self-consistency", "--happened", tmp_path / "none")
    assert ended.exit_code == 2
    recorded(tmp_path / "quicker.jsonl", flows, "quicker")
    ended = graph("self-consistency", "--happened", tmp_path)
    assert "no records of self-consistency in this folder (it has quick.jsonl, quicker.jsonl)" in ended.output


def test_records_from_before_nodes_were_kept_still_load(tmp_path: Path) -> None:
    path = recorded(tmp_path / "self-consistency.jsonl", self_consistency(SMALL, n=2), "self-consistency").path
    head, *lines = path.read_text().splitlines()
    old = []
    for line in lines:
        data = json.loads(line)
        del data["nodes"]
        data["times"] = {"total_time": data["times"]["total_time"]}
        old.append(json.dumps(data))
    path.write_text("\n".join([head, *old]) + "\n")
    assert all(record.nodes is None for record in Records.read(path).items)
    told = graph("self-consistency", "--happened", path, "-S", "n=2")
    assert told.exit_code == 0, told.output
    assert "? → ? candidates" in told.stdout
    assert "was not recorded when this was run" in " ".join(told.stdout.split())
    assert "2 calls" in told.stdout
    data = json.loads(graph("self-consistency", "--happened", path, "--json").stdout)
    assert data["happened"]["nodes"]["BestOfN"]["seconds"] is None
    assert data["happened"]["nodes"]["BestOfN"]["ran"] == 12


def test_a_trace_is_drawn_and_one_of_another_workflow_is_told(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with Jsonl(path) as trace:
        result = solve(Problem("q"), self_consistency(SMALL, n=2), trace=trace)
    told = graph("self-consistency", "--happened", path, "-S", "n=2")
    assert f"answer {result.answer}" in told.stdout
    assert f"{result.tokens} tokens" in told.stdout
    assert "note:" not in told.output
    other = graph("self-consistency", "--happened", path)
    assert "is a run of another workflow, or of this one with other options" in other.output


def test_the_names_of_models_are_no_part_of_a_composition() -> None:
    for one, two in [("small='lab-small'", "small='a\\'b'"), ("ScriptedModel('small')", "small='x'")]:
        assert plain(f"Sample({one}, until=None)", ["small"]) == plain(f"Sample({two}, until=None)", ["small"])
    assert plain("F(end='vote')", ["small"]) != plain("F(end='best')", ["small"])
    assert plain("F(<function f at 0x7f01>)", []) == plain("F(<function f at 0x7f99>)", [])


def test_the_hint_is_a_command_that_can_be_pasted() -> None:
    told = hint("my flows.py:flow", Path("runs/a b/flow.jsonl"))
    assert shlex.split(told)[:3] == ["reasonweave", "graph", "my flows.py:flow"]
    assert shlex.split(told)[4:] == ["runs/a b/flow.jsonl", "--out", "graph.svg"]
