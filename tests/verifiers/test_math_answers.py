from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonweave.orchestrator import BadInput, Candidate, Candidates, Problem, Step
from reasonweave.orchestrator.protocols import AnswerSpace
from reasonweave.strategies.aggregators.ballots import ballots
from reasonweave.verifiers import _math_workers
from reasonweave.verifiers._math_algebra import apart, rational
from reasonweave.verifiers._math_expressions import expression
from reasonweave.verifiers._math_tokens import tokens
from reasonweave.verifiers._math_workers import Workers
from reasonweave.verifiers.math_answers import MathAnswers


def beside(name: str) -> ModuleType:
    """A module next to this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


math_pairs = beside("math_pairs")
Pair = tuple[str, str, bool, str]
PAIRS: list[Pair] = math_pairs.PAIRS
MATHS = MathAnswers()
DATA = Path(__file__).parents[3] / "shared/data"
HANG = "9^{9^{9^9}}"
TABLES = [name for name, value in vars(math_pairs).items() if isinstance(value, list) and name != "PAIRS"]
WRITTEN = sorted({text for pair in PAIRS for text in pair[:2]})


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no {path}")
    return [json.loads(line) for line in path.read_text().splitlines()]


# The rules ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_the_table_of_pairs(table: str) -> None:
    pairs: list[Pair] = getattr(math_pairs, table)
    wrong = [pair for pair in pairs if MATHS.same(pair[0], pair[1]) != pair[2]]
    assert not wrong


def test_the_table_is_large_and_has_both_kinds() -> None:
    assert len({pair[:2] for pair in PAIRS}) == len(PAIRS) >= 300
    assert min(sum(pair[2] for pair in PAIRS), sum(not pair[2] for pair in PAIRS)) >= 100


@pytest.mark.skipif(
    not importlib.metadata.version("math-verify").startswith("0.9"), reason="the table is about math-verify 0.9"
)
def test_what_the_table_credits_to_math_verify_is_what_it_says() -> None:
    from math_verify import parse, verify  # type: ignore[import-untyped]

    def read(text: str) -> Any:
        return parse(text if text.startswith("$") else f"${text}$")

    wrong = [pair for pair in PAIRS if pair[3] == math_pairs.VERIFY and verify(read(pair[0]), read(pair[1])) != pair[2]]
    assert not wrong


def test_an_answer_is_the_same_as_itself_and_equal_keys_mean_the_same() -> None:
    by_key: dict[Any, list[str]] = {}
    for text in WRITTEN:
        assert MATHS.same(text, text)
        by_key.setdefault(MATHS.canonical(text), []).append(text)
    assert len(by_key) < 0.7 * len(WRITTEN)  # keys merge
    assert all(MATHS.same(a, b) for group in by_key.values() for a, b in itertools.permutations(group, 2))


PIECES = [
    *r"0123456789xyi+-*/^_(){}[],.=<>|!%$& ",
    r"\frac",
    r"\sqrt",
    r"\pm",
    r"\cup",
    r"\{",
    r"\}",
    r"\text{a}",
    r"\\",
]
PIECES += [r"\begin{pmatrix}", r"\end{pmatrix}", r"^\circ", "½", "or", r"\infty", r"\in"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_nothing_that_is_written_raises(parts: list[str]) -> None:
    text = "".join(parts)
    assert MATHS.same(text, text)
    assert hash(MATHS.canonical(text)) == hash(MathAnswers(lenient=True).canonical(text))
    MATHS.extract(rf"\boxed{{{text}")
    MATHS.extract(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_can_be_read(text: str) -> None:
    assert MATHS.same(text, text)


def test_plain_numbers_have_the_key_that_they_have_elsewhere() -> None:
    assert MATHS.canonical("0.5") == MATHS.canonical(r"\frac12") == MATHS.canonical("50/100") == Fraction(1, 2)


def candidates(answers: list[str]) -> Candidates:
    problem = Problem("q", answers=MATHS)
    return Candidates(tuple(Candidate(problem, (Step(rf"\boxed{{{a}}}", "m", 1),), done=True) for a in answers))


@pytest.mark.parametrize(
    ("answers", "groups"),
    [
        (["x+1", "1+x", r"\frac12", "0.5", "2"], [(0, 1), (2, 3), (4,)]),
        ([r"\cot x", r"\frac{\cos x}{\sin x}", r"\tan x"], [(0, 1), (2,)]),
        (["x+1", r"\frac{x^2-1}{x-1}", "x-1"], [(0, 1), (2,)]),
        (["50", "0.5", r"50\%"], [(0, 2), (1,)]),  # the rules that hold in one direction merge nothing
        (["(1,2)", "(2,1)", "1,2", "2,1"], [(0,), (1,), (2, 3)]),
        ([r"90^\circ", r"\frac{\pi}{2}"], [(0,), (1,)]),
        (["5", "x=5"], [(0, 1)]),
    ],
)
def test_votes_merge_what_is_the_same_both_ways(answers: list[str], groups: list[tuple[int, ...]]) -> None:
    assert [ballot.voters for ballot in ballots(candidates(answers))] == groups


# Extraction ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{3}, no: \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{3} or \boxed{5}", "3, 5"),
        (r"$x=\boxed{3}$ and $x=\boxed{5}$.", "3, 5"),
        (r"\boxed{3}, \boxed{5} and \boxed{7}", "3, 5, 7"),
        (r"\boxed{3} \text{ or } \boxed{5}", "3, 5"),
        (r"\boxed{3}. And \boxed{5}", "5"),
        (r"\boxed{3} and so \boxed{3}", "3"),
        (r"\boxed{3} and \boxed{3}", "3"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{7} and \boxed{8", "7"),
        (r"\boxed{}", None),
        (r"\fbox{7}", "7"),
        (r"\boxed 7", "7"),
        ("the answer is 7", None),
        ("", None),
    ],
)
def test_extraction(text: str, answer: str | None) -> None:
    assert MATHS.extract(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the answer is 7.", "7"),
        ("#### 1,450", "1,450"),
        (r"The answer is 5, no, \boxed{6}", "6"),
        ("Who knows?", None),
    ],
)
def test_lenient_extraction(text: str, answer: str | None) -> None:
    assert MathAnswers(lenient=True).extract(text) == answer


def test_it_is_an_answer_space_that_can_be_hashed_compared_and_pickled() -> None:
    assert isinstance(MATHS, AnswerSpace)
    assert {MathAnswers(), MathAnswers(lenient=True)} == {MathAnswers(lenient=True), MathAnswers()}
    assert pickle.loads(pickle.dumps(MathAnswers(deadline=2))) == MathAnswers(deadline=2)
    assert repr(MathAnswers()) == "MathAnswers(lenient=False, deadline=3.0)"
    assert hash(Problem("q", answers=MATHS)) == hash(Problem("q", answers=MathAnswers()))
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="deadline"):
            MathAnswers(deadline=seconds)


# The data sets ------------------------------------------------------------------------------------------------------------


def test_math500() -> None:
    problems = rows("math500")
    answers = [MATHS.extract(row["solution"]) for row in problems]
    assert len(answers) == 500
    assert None not in answers
    assert sum(MATHS.same(row["answer"], str(a)) for row, a in zip(problems, answers, strict=True)) >= 499


def test_gsm8k() -> None:
    lenient, right = MathAnswers(lenient=True), 0
    for row in rows("gsm8k"):
        gold = row["answer"].split("####")[1].strip()
        answer = lenient.extract(row["answer"])
        right += answer is not None and lenient.same(gold, answer) and lenient.same(gold.replace(",", ""), answer)
    assert right == 1319


def rewritten(gold: str) -> str:
    """The same on paper: other commands, other spaces, set in a box."""
    text = (
        gold.replace(r"\frac", r"\dfrac")
        .replace(r"\left", "")
        .replace(r"\right", "")
        .replace("(", r"\left(")
        .replace(")", r"\right)")
    )
    return " ".join(text.replace(",", ", ").split()) if text.count(",") != 1 else text


def test_olympiadbench_against_itself() -> None:
    golds = [row["final_answer"][0] for row in rows("olympiadbench")]
    assert sum(MATHS.same(gold, gold) for gold in golds) == len(golds)
    assert sum(MATHS.same(gold, rewritten(gold)) for gold in golds) >= 0.99 * len(golds)
    boxed = [MATHS.extract(f"Thus $\\boxed{{{gold.strip('$')}}}$.") for gold in golds]
    assert sum(MATHS.same(gold, str(answer)) for gold, answer in zip(golds, boxed, strict=True)) >= 0.99 * len(golds)


def test_answers_of_other_problems_are_not_the_same() -> None:
    """Golds that are not known to be equal, in 2,000 pairs drawn at random: no false yes but what was looked at by hand."""
    golds = [row["final_answer"][0] for row in rows("olympiadbench")] + [row["answer"] for row in rows("math500")]
    golds = sorted({gold for gold in golds if not gold.strip("$").lstrip("-").isdigit()})
    draw, equal = random.Random(0), []
    for _ in range(2000):
        a, b = draw.sample(golds, 2)
        if MATHS.same(a, b) and MATHS.canonical(a) != MATHS.canonical(b):
            equal.append((a, b))
    assert not equal


@pytest.mark.parametrize(("name", "field"), [("aime24", "answer"), ("amc23", "answer"), ("svamp", "Answer")])
def test_answers_that_are_numbers(name: str, field: str) -> None:
    for row in rows(name):
        gold = str(row[field])
        number = float(gold)
        assert MATHS.same(gold, gold)
        assert MATHS.same(gold, f"{number:g}" if abs(number) < 1e6 else gold)
        assert not MATHS.same(gold, str(int(number) + 1))


# The exact algebra, against Python's and sympy's ---------------------------------------------------------------------------


@st.composite
def arithmetic(draw: st.DrawFn, depth: int = 3) -> tuple[str, Fraction]:
    """An expression in LaTeX and its value."""
    if depth == 0 or draw(st.booleans()):
        number = draw(st.integers(0, 20))
        return str(number), Fraction(number)
    (a, x), (b, y) = draw(arithmetic(depth - 1)), draw(arithmetic(depth - 1))
    kind = draw(st.sampled_from("+-*/^f"))
    if kind == "^":
        n = draw(st.integers(0, 3))
        return f"({a})^{{{n}}}", x**n
    if kind in "/f" and y == 0:
        return a, x
    if kind == "f":
        return rf"\frac{{{a}}}{{{b}}}", x / y
    if kind == "/":
        return f"({a})/({b})", x / y
    return f"({a}){kind.replace('*', draw(st.sampled_from(['*', chr(92) + 'cdot ', ''])))}({b})", {
        "+": x + y,
        "-": x - y,
        "*": x * y,
    }[kind]


@settings(max_examples=200, deadline=None)
@given(arithmetic())
def test_arithmetic_is_exact(made: tuple[str, Fraction]) -> None:
    text, value = made
    assert rational(expression(tokens(text))) == value


def test_forms_are_equal_where_sympy_says_so() -> None:
    """Random polynomials in x, √2, √3, π and i, multiplied out and rewritten by sympy, half of them with one term changed."""
    sympy = pytest.importorskip("sympy")
    draw = random.Random(1)
    atoms = [sympy.Symbol("x"), sympy.sqrt(2), sympy.sqrt(3), sympy.pi, sympy.I, sympy.Rational(1, 2)]
    for _ in range(100):
        one = sum(draw.randint(-3, 3) * sympy.prod(draw.choices(atoms, k=draw.randint(1, 3))) for _ in range(3))
        other = draw.choice([sympy.expand, sympy.factor, sympy.together])(one * (draw.choice(atoms) + 1)) / 1
        same = draw.random() < 0.5
        gold = sympy.expand(other) if same else sympy.expand(other) + draw.choice([1, sympy.sqrt(2), sympy.Symbol("x")])
        a, b = expression(tokens(sympy.latex(gold))), expression(tokens(sympy.latex(other)))
        assert (a == b) is same
        assert apart(a, b) is not same


# The workers --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """A pool of two workers, both started."""
    pool = Workers()
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda k: pool.same("x^2/x", f"{k}x", 30), [1, 2])) == [True, False]
    yield pool
    pids = pool.pids
    pool.close()
    assert pids
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if sys.platform == "linux"
            else not os.kill(pid, 0)
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_nothing_easy_starts_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_math_workers, "Popen", None)
    easy = [
        ("1", "2"),
        (r"\frac12", "0.5"),
        ("(1,2)", "(1,3)"),
        (r"\text{east}", "7"),
        ("x+1", "1+x"),
        (r"\sqrt2", r"\sqrt3"),
        (HANG, "1"),
    ]
    assert [MATHS.same(*pair) for pair in easy] == [False, True, False, False, True, False, False]


def test_a_hang_costs_one_deadline_and_one_worker_while_others_go_on(workers: Workers) -> None:
    before, went_on = workers.started, 0
    with ThreadPoolExecutor(1) as thread:
        hung = thread.submit(workers.same, HANG, "5", 1.5)
        time.sleep(0.2)
        while not hung.done():
            assert workers.same(rf"\frac{{x^2-{went_on**2}}}{{x-{went_on}}}", f"x+{went_on}", 30)
            went_on += 1
        assert hung.result() is None
    assert went_on > 1
    assert workers.started <= before + 1
    assert len(workers.pids) <= 2
    begun = time.monotonic()
    assert workers.same(HANG, "5", 1.5) is None  # remembered
    assert workers.same("6", HANG, 1.5) is None  # with others too
    assert time.monotonic() - begun < 0.5


def test_the_deadline_is_processor_time_and_a_hang_takes_no_longer(workers: Workers) -> None:
    begun = time.monotonic()
    assert workers.same(HANG, "7", 0.5) is None
    assert 0.45 < time.monotonic() - begun < 3 * 0.5 + 3


def test_workers_killed_from_outside_are_replaced(workers: Workers) -> None:
    before = workers.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for _ in before:
        assert workers.same(rf"\cos {len(before)}x", rf"\cos(x\cdot {len(before)})", 30)
    assert workers.same(r"\cos 2x", r"2\cos^2 x-1", 30)
    assert workers.pids
    assert not set(before) >= set(workers.pids)


def test_comparisons_are_made_once(workers: Workers) -> None:
    assert workers.same("x+x", "2x", 30)
    pids = workers.pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    assert workers.same("x+x", "2x", 30)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def test_one_worker_serves_threads_that_wait_and_is_replaced_after_its_lifetime() -> None:
    pool = Workers(size=1, lifetime=4)
    with ThreadPoolExecutor(5) as threads:
        assert sum(map(bool, threads.map(lambda k: pool.same("x+x", f"{k}x", 30), range(5)))) == 1
    assert pool.started == 2
    pool.close()
    assert pool.same("x", "y", 1) is None


def test_a_thousand_comparisons_from_eight_threads() -> None:
    def compare(k: int) -> bool:
        n = k % 40 + 2
        right = k % 3 > 0
        if k % 2:
            return MATHS.same(rf"\frac{{x^2-{n * n}}}{{x-{n}}}", f"x+{n if right else n + 1}") is right
        return MATHS.same(rf"\frac{{{n}}}{{{n + 1}}}", f"{2 * n}/{2 * n + (2 if right else 3)}") is right

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(compare, range(1000)))


def test_within_a_running_loop() -> None:
    async def main() -> bool:
        return MATHS.same("x+5", r"\frac{x^2-25}{x-5}")

    assert asyncio.run(main())


def test_without_workers_keys_decide_and_one_warning_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_math_workers, "_SCRIPT", tmp_path / "none.py")
    pool = Workers()
    monkeypatch.setattr(_math_workers, "_shared", pool)
    with pytest.warns(RuntimeWarning, match="without algebra"):
        assert not MATHS.same("x+1", r"\frac{x^2-1}{x-1}")
    assert not MATHS.same("x+2", r"\frac{x^2-4}{x-2}")  # said once; a second warning would be an error here
    assert MATHS.same("(x+1)^2", "x^2+2x+1")
    pool.close()


def script(body: str) -> subprocess.Popen[str]:
    """A program of its own in which `m` is a MathAnswers that has used a worker, and `pids` are the workers'."""
    start = """
import os, sys, threading, time
from reasonweave.verifiers.math_answers import MathAnswers
from reasonweave.verifiers._math_workers import shared
m = MathAnswers(deadline=1)
assert m.same("x+1", r"\\frac{x^2-1}{x-1}")
print(*shared().pids, flush=True)
"""
    command = [sys.executable, "-W", "error", "-c", start + body]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def first_pids(program: subprocess.Popen[str]) -> list[int]:
    assert program.stdout is not None
    return [int(pid) for pid in program.stdout.readline().split()]


def test_no_worker_is_left_at_the_end() -> None:
    program = script("")
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    pids = [int(pid) for pid in out.split()]
    assert pids
    assert gone(pids, 5)


HANGING = r"""
threading.Thread(target=lambda: shared().same("9^{9^{9^9}}", "5", 1.0), daemon=True).start()
while len(shared().pids) < 1: time.sleep(0.01)
time.sleep(0.3); print("busy", flush=True)
"""


def test_no_worker_is_left_when_killed_idle_or_busy() -> None:
    programs = [script("print('idle', flush=True); time.sleep(60)"), script(HANGING + "time.sleep(60)")]
    for program in programs:
        pids = first_pids(program)
        assert program.stdout is not None
        assert program.stdout.readline().strip() in ("idle", "busy")
        program.kill()
        program.communicate()
        assert gone(pids, 15)


def test_ctrl_c_stops_a_comparison_and_its_worker() -> None:
    program = script("print('now', flush=True)\nshared().same('9^{9^{9^9}}', '5', 60.0)")
    pids = first_pids(program)
    assert program.stdout is not None
    program.stdout.readline()
    time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert gone(pids, 5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_has_workers_of_its_own() -> None:
    program = script(r"""
import warnings; warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
mine = shared().pids
threading.Thread(target=lambda: shared().same("9^{9^{9^9}}", "5", 1.0), daemon=True).start(); time.sleep(0.2)
if (child := os.fork()) == 0:
    right = m.same("x+2", r"\frac{x^2-4}{x-2}") and not set(mine) & set(shared().pids)
    print(*shared().pids, flush=True)
    os._exit(0 if right else 1)
right = m.same("x+3", r"\frac{x^2-9}{x-3}")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or not right)
""")
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    pids = [int(pid) for pid in out.split()]
    assert len(pids) == 2
    assert gone(pids, 5)


def test_the_module_imports_no_algebra_system() -> None:
    code = "import sys, reasonweave.verifiers.math_answers; print([m for m in ('sympy', 'math_verify') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_more_than_five_hundred_easy_comparisons_a_second() -> None:
    """Distinct pairs, so nothing is remembered; the machine may be busy, so the best of three counts."""

    def speed(kind: int) -> float:
        pairs = [(f"{k}.{kind}", f"{k}.{kind + 1}") for k in range(250)]
        pairs += [(rf"\frac{{{k}}}{{{kind + 7}}}", rf"\dfrac{{{k}}}{{{kind + 7}}}") for k in range(250)]
        begun = time.perf_counter()
        for pair in pairs:
            MATHS.same(*pair)
        return len(pairs) / (time.perf_counter() - begun)

    assert max(speed(kind) for kind in range(3)) > 500
