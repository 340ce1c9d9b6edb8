from __future__ import annotations

import json
from pathlib import Path

import pytest

from reasonweave.orchestrator import BadInput
from reasonweave.tasks.jsonl import JsonlTask

DATA = Path(__file__).parents[3] / "shared" / "data"


def task(tmp_path: Path, *lines: str) -> JsonlTask:
    file = tmp_path / "some.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return JsonlTask(file)


def test_field_names_and_gsm8k_answers(tmp_path: Path) -> None:
    found = task(
        tmp_path,
        json.dumps({"problem": "p", "answer": "1", "level": 3}),
        "",
        json.dumps({"question": "q", "answer": "work <<1+1=2>>\n#### 1,042", "id": "x7"}),
        json.dumps({"prompt": "r", "target": 4.5}),
        json.dumps({"question": "s", "answer": ["\\frac12"]}),
    ).examples()
    assert [e.target for e in found] == ["1", "1,042", "4.5", "\\frac12"]
    assert found[0].group == "3"
    assert found[1].problem.id == "some-x7"
    assert found[1].correct("1042.0")
    assert not found[1].correct(None)
    assert found[3].correct("1/2")
    assert found[0].problem.prompt.startswith("p\n\n")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{oops", "line 2: not JSON"),
        ("[1]", "line 2: a list, not an object"),
        ('{"answer": "1"}', "line 2: no question"),
        ('{"problem": "p"}', "line 2: no answer"),
        ('{"problem": "p", "answer": null}', "line 2: no answer"),
        ('{"problem": "", "answer": "1"}', "line 2: no question"),
    ],
)
def test_a_bad_line_is_named_by_number(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        task(tmp_path, '{"problem": "p", "answer": "1"}', line).examples()


def test_an_empty_or_unreadable_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no problem in it"):
        task(tmp_path, "").examples()
    with pytest.raises(BadInput, match="cannot be read"):
        JsonlTask(tmp_path / "gone.jsonl").examples()
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read"):
        JsonlTask(tmp_path / "bytes.jsonl").examples()


@pytest.mark.parametrize("name", ["gsm8k", "math500", "aime24", "amc23"])
def test_real_benchmarks_load_and_their_own_answers_grade_right(name: str) -> None:
    file = DATA / f"{name}.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not here; the benchmark is not shipped")
    found = JsonlTask(file).examples(200)
    assert found
    for example in found:
        assert example.correct(example.target)
        assert not example.correct(example.target + "7")
