"""The command line as a user sees it: one clear line for a mistake, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from reasonweave.tasks.lab.task import CHECKPOINTS

COMMAND = [sys.executable, "-m", "reasonweave.tasks.cli"]


def reasonweave(*arguments: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


def test_eval_prints_a_table_and_writes_records_and_a_picture(tmp_path: Path) -> None:
    ended = reasonweave("eval", "single", "best-of-n", "--limit", "5", "-S", "n=4", "--log-dir", "runs", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for told in ("single", "best-of-n", "interval", "lab-small", "lab-prm", "FLOPs", "seconds"):
        assert told in ended.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert {f.name for f in folder.iterdir()} == {"single.jsonl", "best-of-n.jsonl", "accuracy.png"}
    head, *lines = (folder / "best-of-n.jsonl").read_text().splitlines()
    assert json.loads(head)["options"]["n"] == 4
    assert len(lines) == 5
    assert json.loads(lines[0])["model_usage"]["lab-small"]["calls"] == 4


def test_eval_json_is_json_alone(tmp_path: Path) -> None:
    ended = reasonweave("eval", "single", "--limit", "3", "--json", "--no-plot", cwd=tmp_path)
    (data,) = json.loads(ended.stdout)
    assert (data["workflow"], data["n"]) == ("single", 3)
    assert ended.stderr == ""


def test_eval_runs_a_jsonl_file_and_a_workflow_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"question": "Start with 3. A: Add 4. What is the result?", "answer": "7"}\n')
    (tmp_path / "flow.py").write_text(
        "from reasonweave.orchestrator import Model, chain\n"
        "from reasonweave.strategies import BestOfN, majority, whole\n"
        "def vote(small: Model, *, n: int = 3):\n"
        "    return chain(BestOfN(whole(small), n=n), majority)\n"
    )
    ended = reasonweave(
        "eval",
        "flow.py:vote",
        "--task",
        "mine.jsonl",
        "--small",
        "lab/small",
        "-S",
        "n=2",
        "--json",
        "--no-plot",
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)[0]["n"] == 1


FLOWS = """
from reasonweave.orchestrator import Candidates, Model, chain
from reasonweave.strategies import BestOfN, majority, whole

def raises(small: Model):
    return {}["x"]

def options(small: Model, n: int):
    return chain(BestOfN(whole(small), n=n), majority)

def hinted(small: Model, judge: "Unknown"):
    return None

def vote(small: Model, *, n: int | None = None, rule=majority):
    return chain(BestOfN(whole(small), n=n or 1), rule)

def breaks(small: Model):
    def rule(found: Candidates) -> Candidates:
        raise ValueError("half a vote")
    return chain(BestOfN(whole(small), n=1), rule)
"""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["eval", "best-of-nn"], "no workflow 'best-of-nn'; did you mean 'best-of-n'"),
        (["eval", "single", "--task", "labb"], "no task 'labb'; did you mean 'lab'?"),
        (["eval", "single", "--task", "gone.jsonl"], "there is no such file"),
        (["eval", "single", "--task", "bad.jsonl", "--small", "lab/small"], "bad.jsonl, line 2: not JSON"),
        (["eval", "single", "--task", "good.jsonl"], "needs a model for its role 'small': add --small SPEC"),
        (["eval", "single", "--small", "lab/smal"], "no lab model 'smal'; did you mean 'small'?"),
        (["eval", "single", "--small", "labb/small"], "no model provider 'labb'; did you mean 'lab'?"),
        (["eval", "single", "--small", "small"], "write PROVIDER/NAME"),
        (["eval", "single", "--small", "embedded/nowhere"], "there is no nowhere/config.json"),
        (["eval", "single", "--small", "lab/prm"], "is a reward model; this role generates text"),
        (["eval", "best-of-n", "-S", "m=3"], "no option 'm'"),
        (["eval", "best-of-n", "-S", "n=many"], "best-of-n: n='many' is no whole number"),
        (["eval", "best-of-n", "-S", "n"], "write NAME=VALUE"),
        (["eval", "single", "--budget", "token=3"], "write LIMIT=NUMBER"),
        (["eval", "nothing.py:f"], "there is no file 'nothing.py'"),
        (["eval", "empty.py:f"], "no workflow 'f'"),
        (["solve", "x", "--workflow", "singel"], "did you mean 'single'"),
        (["eval", "single", "--budget", "smal.tokens=5"], "no role 'smal'; did you mean 'small'?"),
        (["eval", "single", "--budget", "tokns=5"], "did you mean tokens?"),
        (["eval", "single", "--budget", "tokens=5,tokens=6"], "tokens is given twice"),
        (["eval", "single", "--model-role", "judge=lab/large"], "no role 'judge'"),
        (["eval", "single", "-S", "temperature=-1"], "temperature is a number, 0 or more"),
        (["eval", "single", "-S", "max_tokens=0"], "max_tokens is 1 or more"),
        (["eval", "best-of-n", "-S", "n=0"], "1 or more"),
        (["eval", "single", "--log-dir", "good.jsonl/x"], "Not a directory"),
        (["eval", "single", "--task", "good.jsonl", "--small", "embedded/."], "there is no config.json"),
        (["eval", "flows.py"], "name a function of it, as flows.py:raises"),
        (["eval", "flows.py:raises"], "workflow raises cannot be made: KeyError: 'x'"),
        (["eval", "flows.py:options"], "its parameter 'n' has no default, so it is a role"),
        (["eval", "flows.py:hinted"], "a type in its signature is unknown"),
        (["eval", "flows.py:vote", "-S", "n=x"], "n='x' is no whole number or none"),
        (["eval", "flows.py:vote", "-S", "rule=x"], "rule cannot be set from the command line"),
        (["eval", "exits.py:f"], "SystemExit: 3"),
        (["solve", " "], "the text is empty"),
        (["solve", "x", "--trace", "nofolder/y.jsonl"], "No such file"),
        (["lab", "card", "nowhere"], "no checkpoint in nowhere"),
        (["lab", "train", "--out", "x", "--only", "lab-smal"], "did you mean 'lab-small'"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], told: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"problem": "p", "answer": "1"}\n{oops\n')
    (tmp_path / "good.jsonl").write_text('{"problem": "p", "answer": "1"}\n')
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)")
    (tmp_path / "flows.py").write_text(FLOWS)
    ended = reasonweave(*arguments, cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert told in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_solve_shows_answer_solution_and_cost(tmp_path: Path) -> None:
    ask = "Start with 17. A: Add 28. B: Multiply by 2. What is the result?"
    ended = reasonweave("solve", ask, "--workflow", "self-consistency", "--trace", "t.jsonl", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "answer: " in ended.stdout
    assert "tokens: lab-small" in ended.stdout
    assert (tmp_path / "t.jsonl").read_text().count('"event": "generated"') == 1
    asked = reasonweave("solve", ask, "--json", "--budget", "tokens=120", cwd=tmp_path)
    data = json.loads(asked.stdout)
    assert sum(data["tokens"].values()) <= 120
    assert data["answer"] is not None


@pytest.mark.parametrize("kind", ["strategies", "verifiers", "tasks", "models"])
def test_list(kind: str, tmp_path: Path) -> None:
    ended = reasonweave("list", kind, cwd=tmp_path)
    assert ended.returncode == 0
    assert {"strategies": "best-of-n", "verifiers": "prm", "tasks": "lab", "models": "lab/small"}[kind] in ended.stdout


def test_ctrl_c_ends_quickly_and_keeps_the_finished_records(tmp_path: Path) -> None:
    arguments = ["eval", "self-consistency", "--limit", "5000", "--log-dir", "runs", "--display", "none"]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    try:
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, heard)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        files = list((tmp_path / "runs").glob("*/*.jsonl")) if (tmp_path / "runs").exists() else []
        if files and len(files[0].read_text().splitlines()) > 3:
            break
        time.sleep(0.05)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 10  # two seconds on an idle core
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "finished records are in" in errors
    lines = files[0].read_text().splitlines()
    assert len(lines) > 3
    indices = [json.loads(line)["index"] for line in lines[1:]]
    assert indices == sorted(indices)


def test_options_are_read_by_their_annotation_and_written_as_names(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FLOWS)
    asked = ["eval", "flows.py:vote", "--limit", "2", "-S", "n=3", "--json", "--no-plot", "--log-dir", "runs"]
    ended = reasonweave(*asked, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (file,) = (tmp_path / "runs").glob("*/vote.jsonl")
    head, first, _ = map(json.loads, file.read_text().splitlines())
    assert head["options"] == {"n": 3, "rule": "majority"}
    assert first["model_usage"]["lab-small"]["calls"] == 3


def test_a_workflow_that_always_fails_says_why_and_exits_with_one(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FLOWS)
    ended = reasonweave("eval", "flows.py:breaks", "--limit", "2", "--no-plot", cwd=tmp_path)
    assert ended.returncode == 1
    assert "breaks: 2 of 2 failed, the first with: ValueError: half a vote" in ended.stdout
    ended = reasonweave("solve", "x", "--workflow", "flows.py:breaks", cwd=tmp_path)
    assert ended.returncode == 1
    assert "error: ValueError: half a vote" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_mistake_in_the_second_workflow_keeps_the_first_ones_result(tmp_path: Path) -> None:
    asked = ["eval", "single", "self-consistency", "--limit", "2", "-S", "n=0", "--no-plot", "--log-dir", "runs"]
    (tmp_path / "flows.py").write_text(FLOWS.replace("whole(small)", "whole(small, max_tokens=0)"))
    ended = reasonweave(*asked[:2], "flows.py:vote", *asked[3:5], *asked[7:], cwd=tmp_path)
    assert ended.returncode == 2
    assert "max_tokens is 1 or more" in ended.stderr
    assert "single" in ended.stdout


def test_two_workflows_of_one_name_and_two_runs_of_one_second_keep_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "flows.py").write_text(FLOWS)
    asked = [*COMMAND, "eval", "a/flows.py:vote", "b/flows.py:vote", "--limit", "2", "--no-plot", "--log-dir", "runs"]
    running = [subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    assert all({f.name for f in folder.iterdir()} == {"vote.jsonl", "vote-2.jsonl"} for folder in folders)


def test_models_of_one_folder_name_are_counted_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        shutil.copytree(CHECKPOINTS / "lab-small", tmp_path / folder / "model")
    asked = ["eval", "single", "single-large", "--limit", "2", "--no-plot", "--json"]
    ended = reasonweave(*asked, "--small", "embedded/a/model", "--large", "embedded/b/model", cwd=tmp_path)
    first, second = json.loads(ended.stdout)
    assert set(first["tokens"]) == {"model"}
    assert set(second["tokens"]) == {"embedded/b/model"}


def test_the_version_is_told(tmp_path: Path) -> None:
    assert reasonweave("--version", cwd=tmp_path).stdout.strip() == version("reasonweave")


def test_a_models_file_is_not_filled_up_with_the_labs_models(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('[small]\nspec = "lab/small"\n')
    ended = reasonweave("solve", "1 + 1?", "--workflow", "best-of-n", "--models", "m.toml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "needs a model for its role 'prm'" in ended.stderr


def test_what_is_wrong_with_a_command_is_found_before_a_server_starts(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('[small]\nmodel = "org/name"\n')
    ended = reasonweave("eval", "best-of-n", "--up", "m.toml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "needs a model for its role 'prm'" in ended.stderr
    assert not (tmp_path / ".reasonweave").exists()


def test_a_limit_on_a_judge_that_is_the_large_model_is_refused(tmp_path: Path) -> None:
    ended = reasonweave("eval", "spec-reason", "--limit", "1", "--budget", "judge.tokens=1", cwd=tmp_path)
    assert ended.returncode == 2
    assert "limit large" in ended.stderr
    named = ("--model-role", "judge=lab/large", "--budget", "judge.tokens=1", "--no-plot")
    assert reasonweave("eval", "spec-reason", "--limit", "1", *named, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("command", ["down", "status"])
def test_a_models_file_that_is_not_there_is_a_mistake(command: str, tmp_path: Path) -> None:
    ended = reasonweave(command, "typo.toml", cwd=tmp_path)
    assert ended.returncode == 2
    assert "no such file" in ended.stderr


def test_records_say_who_wrote_the_solution(tmp_path: Path) -> None:
    reasonweave("eval", "rsd", "--limit", "4", "--no-plot", "--log-dir", "runs", cwd=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    for line in (folder / "rsd.jsonl").read_text().splitlines()[1:]:
        authors = json.loads(line)["authors"]
        assert set(authors) <= {"lab-small", "lab-large", ""}
        assert sum(part["steps"] for part in authors.values()) >= 2
