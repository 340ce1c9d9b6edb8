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


def test_what_verifiers_need_is_carried_along_and_no_model_sees_it(tmp_path: Path) -> None:
    (one, other) = task(
        tmp_path,
        json.dumps({"problem": "p", "answer": "1", "tests": ["assert f(1) == 2"], "constraints": ["short"], "x": 1}),
        json.dumps({"problem": "q", "answer": "1"}),
    ).examples()
    assert dict(one.problem.meta) == {"tests": ["assert f(1) == 2"], "constraints": ["short"]}
    assert "assert" not in one.problem.prompt
    assert dict(other.problem.meta) == {}


def test_answers_are_compared_by_meaning(tmp_path: Path) -> None:
    (one,) = task(tmp_path, json.dumps({"problem": "p", "answer": "2\\sqrt{3}"})).examples()
    assert one.correct("\\sqrt{12}")
    assert not one.correct("\\sqrt{13}")


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
    with pytest.raises(BadInput, match="line 1: not UTF-8"):
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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"problem": "a", "answer": "1"}\n{"problem": "\xff"}', "line 2: not UTF-8"),
        (b'{"problem": "a", "answer": ' + b"1" * 5000 + b"}", "line 1: cannot be read"),
        (b'{"problem": "a", "answer": ' + b"[" * 100_000, "line 1: cannot be read"),
        (b'{"problem": "a", "answer": "blah #### "}', "line 1: no answer"),
        (b'{"problem": "a", "answer": NaN}', "line 1: no answer"),
        (b'{"problem": "\\ud800", "answer": 1}', "line 1: the question holds half a character"),
        (
            b'{"id": 1, "problem": "a", "answer": 1}\n\n{"id": 1, "problem": "b", "answer": 1}',
            "line 3: the id .* of line 1",
        ),
    ],
)
def test_a_bad_line_is_named_whatever_is_wrong_with_it(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=told):
        JsonlTask(tmp_path / "x.jsonl").examples()


def test_unicode_line_breaks_marks_and_nulls_are_read(tmp_path: Path) -> None:
    lines = ["\ufeff" + '{"problem": "a\u2028b\x85c", "answer": null, "target": "90"}', '{"problem": "d", "answer": 2}']
    (tmp_path / "x.jsonl").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    first, second = JsonlTask(tmp_path / "x.jsonl", instruction="").examples()
    assert (first.problem.prompt, first.target) == ("a\u2028b\x85c", "90")
    assert second.target == "2"
