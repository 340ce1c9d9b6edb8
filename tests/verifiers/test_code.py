from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from reasonweave.orchestrator import Budget, Candidate, OverBudget, Problem, Run, Score, Step
from reasonweave.orchestrator import sandbox as sandboxes
from reasonweave.orchestrator.budget import Ledger
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.sandbox import Limits, Probe, Ran, Sandbox, Verdict
from reasonweave.orchestrator.testing import check_verifier
from reasonweave.verifiers.code import CodeCheck, Judged, Stdio, Tried, program_in, read_tests, same_output, separate

PROBE = Sandbox().probe()
pytestmark = pytest.mark.skipif(not PROBE.whole, reason=f"no whole sandbox on this machine: {' '.join(PROBE.missing)}")
SMALL = Sandbox(Limits(seconds=10.0, memory=128 << 20, processes=12))
SHORT = replace(SMALL, limits=replace(SMALL.limits, seconds=1.0))


def candidate(program: str, problem: Problem | None = None) -> Candidate:
    text = f"<think>```python\nwrong\n```</think>So:\n\n```python\n{program}\n```\n"
    return Candidate(problem or Problem("q"), (Step(text, "m", 1),), done=True)


def judged(program: str, tests: Any, sandbox: Sandbox = SMALL, **asked: Any) -> Judged:
    check = CodeCheck(sandbox, tests=tests, **asked)
    (found,) = asyncio.run(check.judged([candidate(program)], Run()))
    return found


def passed(program: str, *tests: str) -> list[bool]:
    found = judged(program, tests)
    assert found.error is None, found
    return [each.passed for each in found.tried]


# Reading programs and tests


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("no program", None),
        ("```python\na\n```", "a\n"),
        ("```py\na\n```\n```\nb\n```", "a\n"),
        ("```\na\n```\n```\nb\n```", "b\n"),
        ("```python\na\n```\n```Python\nb\n```", "b\n"),
        ("```json\n{}\n```", None),
        ("```python\na\n```\n```python\nb", "a\n"),
        ("```python\nbroken off\n\n```python\nb\n```", "b\n"),
        ("1. so\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b\n"),
        ("~~~python\na\n~~~", "a\n"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        ("```python title=x\na\n```", "a\n"),
        ("<think>```python\na\n```</think> none", None),
        ("```python\na\n```\n<think>```python\nb\n```", "a\n"),
        ("```python\n```", ""),
    ],
)
def test_the_program_of_a_text(text: str, program: str | None) -> None:
    assert program_in(text) == program


def test_outputs_are_compared_without_white_space_at_ends() -> None:
    assert same_output("1\n2\n", "1 \n2\n\n")
    assert same_output("", "\n")
    assert not same_output("1\n2", "1 2")
    assert not same_output("1\n\n2", "1\n2")


def test_each_assert_of_a_text_is_a_test_of_its_own() -> None:
    assert separate("assert f(1)\nassert f(2)") == ("assert f(1)", "assert f(2)")
    stateful = "s = S()\nassert s.pop()\ns.push(1)\nassert s.pop() == 1"
    again = "s = S()\ntry:\n    s.pop()\nexcept Exception:\n    pass\ns.push(1)\nassert s.pop() == 1"
    assert separate(stateful) == ("s = S()\nassert s.pop()", again)
    checked = "def check(f):\n    assert f(1)\ncheck(g)"
    assert separate(checked) == (checked,)
    assert separate("assert f(1)\nf(2)") == ("assert f(1)", "try:\n    f(1)\nexcept Exception:\n    pass\nf(2)")


def test_the_forms_that_tests_come_in() -> None:
    pair = Stdio("1", "2")
    assert read_tests("assert a\nassert b", "t") == ("assert a", "assert b")
    assert read_tests(["assert a\nassert b", ("1", "2"), ["1", "2"]], "t") == ("assert a\nassert b", pair, pair)
    assert read_tests([{"input": "1", "output": "2"}, {"stdin": "1", "stdout": "2", "id": 3}], "t") == (pair, pair)


@pytest.mark.parametrize(
    "wrong", ["assert (", ["assert ("], [], "  ", [("1", 2)], [{"input": "1"}], 3, [("1", "2", "3")]]
)
def test_tests_that_cannot_be_read_are_the_users_mistake(wrong: Any) -> None:
    problem = Problem("q", "p7", meta={"tests": wrong})
    with pytest.raises(BadInput, match=r"problem 'p7', meta\['tests'\]: "):
        asyncio.run(CodeCheck(SMALL).score([candidate("x = 1", problem)], Run()))


def test_a_problem_without_tests_is_a_mistake_too() -> None:
    with pytest.raises(BadInput, match=r"'p7': no tests; give CodeCheck\(tests=…\) or Problem"):
        asyncio.run(CodeCheck(SMALL).score([candidate("x = 1", Problem("q", "p7"))], Run()))
    with pytest.raises(BadInput, match=r"CodeCheck\(tests=…\): these tests cannot be read"):
        CodeCheck(tests="assert (")


# Scores


def score(texts: Sequence[str], meta: Mapping[str, Any], **asked: Any) -> list[Score]:
    problem = Problem("q", meta=meta)
    return asyncio.run(CodeCheck(SMALL, **asked).score([Candidate(problem, (Step(t, "m", 1),)) for t in texts], Run()))


ADDS = "```python\ndef add(a, b):\n    return a + b\n```"
CONSTANT = "```python\ndef add(a, b):\n    return 3\n```"


def test_the_score_is_the_share_of_tests_passed() -> None:
    meta = {
        "tests": "assert add(1, 2) == 3\nassert add(2, 2) == 4\nassert add(0, 3) == 3\nassert add('a', 'b') == 'ab'"
    }
    found = score([ADDS, CONSTANT, "no program", "```python\ndef add(\n```", CONSTANT], meta)
    assert found == [Score(1.0), Score(0.5), Score(0.0), Score(0.0), Score(0.5)]
    assert score([ADDS, CONSTANT], meta, all_or_nothing=True) == [Score(1.0), Score(0.0)]


def test_pairs_of_input_and_output() -> None:
    meta = {"tests": [("1 2\n", "3\n"), ("2 2\n", "4\n"), ("x\n", "")]}
    program = "```python\nprint(sum(map(int, input().split())))\n```"
    assert score([program, "```python\nprint(3)\n```"], meta) == [Score(2 / 3), Score(1 / 3)]
    found = judged("print(3)", (Stdio("", "4\n"), Stdio("", "3")))
    assert [each.told for each in found.tried] == ["it wrote '3\\n', not '4\\n'", "passed"]
    failing = judged("print(3)\nraise ValueError('so')", (Stdio("", "3"),))
    assert [each.told for each in failing.tried] == ["ended with exit status 1: ValueError: so"]
    nearly = CodeCheck(SMALL, (Stdio("", "0.5"),), same=lambda a, b: math.isclose(float(a), float(b), rel_tol=1e-6))
    assert asyncio.run(nearly.score([candidate("print(0.50000001)")], Run())) == [Score(1.0)]


def test_with_all_or_nothing_the_first_failure_ends_it() -> None:
    tests = (Stdio("1", "1"), Stdio("2", "x"), Stdio("3", "3"))
    found = judged("print(input())", tests, all_or_nothing=True)
    assert [each.passed for each in found.tried] == [True, False]
    assert found.score == Score(0.0)


def test_the_promises_of_a_verifier() -> None:
    check_verifier(CodeCheck(SMALL), Problem("q", meta={"tests": "assert f()"}))


def test_equal_programs_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = Sandbox.run

    async def counted(self: Sandbox, program: str | None = None, **rest: Any) -> Any:
        asked.append(str(program))
        return await real(self, program, **rest)

    monkeypatch.setattr(Sandbox, "run", counted)
    tests = (Stdio("", "1"),)
    found = asyncio.run(CodeCheck(SMALL, tests).score([candidate("print(1)"), candidate("print(2)")] * 3, Run()))
    assert [each.value for each in found] == [1.0, 0.0] * 3
    assert len(asked) == 2


def test_the_repr_says_the_whole_configuration_and_no_address() -> None:
    assert "at 0x" not in repr(CodeCheck())
    assert "same=same_output" in repr(CodeCheck())


def test_no_sandbox_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Sandbox(SMALL.limits, env=(("A\0", "1"),))  # no environment that the kernel takes
    found = judged("x = 1", ("assert x",), broken)
    assert math.isnan(found.score.value)
    assert "could not be started" in (found.score.error or "")
    monkeypatch.setattr(sandboxes, "_probe", lambda python: Probe((), ("It lacks everything.",)))
    with pytest.raises(BadInput, match="It lacks everything"):
        judged("x = 1", ("assert x",))
    assert judged("x = 1", ("assert x",), Sandbox(SMALL.limits, unsafe=True)).score == Score(1.0)


def test_the_runs_seconds_are_kept() -> None:
    run = Run(ledger=Ledger(Budget(seconds=0.3)))
    slow = CodeCheck(Sandbox(Limits(seconds=30)), (Stdio("", "x"),))
    began = time.monotonic()
    with pytest.raises(OverBudget, match="seconds"):
        asyncio.run(slow.score([candidate("while True: pass")], run))
    assert time.monotonic() - began < 5


# Asserts run apart from the program


RICH = """
import math
from collections import Counter, deque, namedtuple
from decimal import Decimal
from fractions import Fraction

class Empty(LookupError):
    pass

class Stack:
    def __init__(self, items=()):
        self.items = list(items)
    def push(self, item):
        self.items.append(item)
        return self
    def pop(self):
        if not self.items:
            raise Empty("nothing")
        return self.items.pop()
    def __len__(self):
        return len(self.items)
    def __eq__(self, other):
        return isinstance(other, Stack) and self.items == other.items
    def __contains__(self, item):
        return item in self.items
    def __add__(self, other):
        return Stack(self.items + other.items)
    def __getitem__(self, i):
        return self.items[i]

SIZES = {"a": [1]}
Point = namedtuple("Point", "x y")
def identity(x): return x
def sort(items): items.sort()
def fill(table): table["a"][0].append(1)
def squares(n):
    for i in range(n): yield i * i
def apply(f, *xs, **named): return f(*xs, **named)
def compose(f, g): return lambda x: f(g(x))
def count(s): return Counter(s)
def point(): return Point(1, 2)
def half(): return Fraction(1, 2), Decimal("0.5"), 1 + 2j
def inverse(x): return 1 / x
def power(n): return 3 ** n
"""

WORKS = [
    "assert identity([1, 2.5, 'é', None, True, (1,), {1: {2}}, b'x', frozenset('a'), 10 ** 400, range(3)]) == "
    "[1, 2.5, 'é', None, True, (1,), {1: {2}}, b'x', frozenset('a'), 10 ** 400, range(3)]",
    "x = identity(float('nan'))\nassert x != x and identity(float('-inf')) == float('-inf')",
    "assert type(identity((1, 2))) is tuple and type(identity(True)) is bool and type(identity(1.0)) is float",
    "s = Stack()\nassert len(s) == 0\ns.push(3).push('x')\nassert len(s) == 2 and s.pop() == 'x' and s.items == [3]",
    "assert Stack([1]) == Stack([1]) and Stack([1]) != Stack([2]) and 1 in Stack([1]) and isinstance(Stack(), Stack)",
    "assert (Stack([1]) + Stack([2])).items == [1, 2] and Stack([5, 6])[1] == 6 and list(Stack([7])) == [7]",
    "try:\n    Stack().pop()\n    assert False\nexcept Empty as error:\n    assert str(error) == 'nothing'",
    "try:\n    Stack().pop()\n    assert False\nexcept LookupError:\n    pass",
    "try:\n    inverse(0)\n    assert False\nexcept ZeroDivisionError:\n    pass",
    "items = [3, 1, 2]\nsort(items)\nassert items == [1, 2, 3]",
    "inner = []\ntable = {'a': [inner]}\nfill(table)\nassert table == {'a': [[1]]} and inner == [1]",
    "assert list(squares(4)) == [0, 1, 4, 9] and next(squares(1)) == 0 and sum(squares(3)) == 5",
    "assert apply(lambda x, y=0: x + y, 1, y=2) == 3 and apply(int, '7') == 7 and apply(len, 'abc') == 3",
    "def double(x): return 2 * x\nassert compose(double, double)(3) == 12 and [identity(x) for x in (1, 2)] == [1, 2]",
    "assert count('aab') == {'a': 2, 'b': 1} and point() == (1, 2)",
    "from fractions import Fraction\nfrom decimal import Decimal\nassert half() == (Fraction(1, 2), Decimal('0.5'), 1 + 2j)",
    "import datetime, collections\nday = datetime.date(2024, 2, 29)\nassert identity(day) == day\n"
    "assert identity(datetime.timedelta(1, 2, 3)).days == 1 and identity(collections.deque([1], 2)).maxlen == 2",
    "assert math.isclose(inverse(3), 0.333333333, rel_tol=1e-6) and power(5000) == 3 ** 5000",
    "def check(candidate):\n    for i in range(20):\n        assert candidate(i) == i\ncheck(identity)",
    "assert 1 in Stack([1]) and 2 not in Stack([1])",
    "assert SIZES == {'a': [1]}",
    "try:\n    next(squares(0))\n    assert False\nexcept StopIteration:\n    pass",
    "assert count('aab') == Counter('aab') and half()[0] == Fraction(1, 2) and set(squares(2)) == {0, 1}",
]


def test_asserts_see_the_program_as_if_it_were_theirs() -> None:
    found = judged(RICH, tuple(WORKS))
    assert [(each.test, each.told) for each in found.tried if not each.passed] == []
    assert all(each.touched for each in found.tried)


BROKEN = {
    "return x\n": "return [x]\n", "items.sort()": "None", ".append(1)": "", "range(n): yield i * i": "range(n + 9): yield i + 2",
    "return f(*xs, **named)": "return 0", "f(g(x))": "x", "1 / x": "x", "3 ** n": "n", "Counter(s)": "{}",
    "self.items.pop()": "0", "self.items + ": "", "[1]}": "[2]}", "raise Empty": "return str", "== other.items": "== 0",
    "1, 2)": "1, 3)", "self.items[i]": "self.items[i + 1]",
}  # fmt: skip


def test_the_same_asserts_fail_where_the_program_is_wrong() -> None:
    wrong = RICH
    for right, instead in BROKEN.items():
        assert right in wrong
        wrong = wrong.replace(right, instead)
    found = judged(wrong, tuple(WORKS)).tried
    assert [each.test for each in found if each.passed or not each.touched] == []  # it is loaded, and called


FORGERS = {
    "equal to everything": "class Yes(int):\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n"
    "    __hash__ = int.__hash__\n    def __bool__(self): return True\ndef f(x): return Yes(0)",
    "equal to everything, no number": "class Yes:\n    def __eq__(self, o): return True\n"
    "    def __ne__(self, o): return False\n    def __len__(self): return 1\n    def __bool__(self): return True\n"
    "def f(x): return Yes()",
    "ends well": "import os\ndef f(x): os._exit(0)",
    "ends well at once": "import os\nos._exit(0)",
    "exits": "import sys\ndef f(x): sys.exit(0)",
    "exits at once": "raise SystemExit(0)",
    "swaps built-ins": "import builtins\nbuiltins.sorted = builtins.len = builtins.all = lambda *a: True\n"
    "def sorted(x): return [2]\ndef f(x): return [1]",
    "kills others": "import os\nfor pid in range(2, 30):\n    if pid != os.getpid():\n        try: os.kill(pid, 9)\n"
    "        except OSError: pass\ndef f(x): return 1",
    "writes results": "import os\nfor fd in range(256):\n    try: os.write(fd, b'[true, \"passed\", true, false]\\n')\n"
    "    except OSError: pass\ndef f(x): return 1",
    "prints results": "print('ready\\n[true, \"passed\", true, false]', flush=True)\ndef f(x): return 1",
    "leaves modules": "import os\nfor name in ('statistics', 'json', 'ast'):\n"
    "    open(f'/sandbox/{name}.py', 'w').write('def mean(x): return 2')\ndef f(x): return 1",
    "sends a function of the judge's": "def f(x): return eval",
    "answers for itself": "import sys\nhosted = sys._getframe(1).f_locals['self']\n"
    "hosted.line.send(['ready', {'f': [['object'], 0]}])\nfor _ in range(9): hosted.line.send(['value', True, ['list', []]])\n"
    "def f(x): return 1",
}


def test_a_program_cannot_say_that_it_passed() -> None:
    tests = (
        "assert f(1) == 2",
        "assert f(1) == [2] or sorted(f(1)) == [2]",
        "import statistics\nassert statistics.mean([1]) != 1 or f(1) == 2",
        "assert f(2) == 2 if f(1) != 2 else True",
    )
    candidates = [candidate(program) for program in FORGERS.values()]
    found = dict(zip(FORGERS, asyncio.run(CodeCheck(SMALL, tests).judged(candidates, Run())), strict=True))
    assert [name for name, each in found.items() if each.error or any(tried.passed for tried in each.tried)] == []


ZERO = (
    "class Z:\n    def __sub__(s, o): return 0.0\n    __rsub__ = __sub__\n    def __and__(s, o): return o\n"
    "    def __xor__(s, o): return 0\n    def __ge__(s, o): return True\n    def __contains__(s, o): return True\n"
    "    def __iter__(s): return iter([1])\ndef f(x): return [Z(), Z()] if x == 9 else Z()"
)
MODULE = (
    "import sys\nclass M(type(sys)):\n    def __call__(s, *a): return 0\nf = M('zzz')\n"
    "def set(x): return 1\ntuple = sorted = abs = set"
)
SHADOW = (
    "class math: isclose = staticmethod(lambda *a: True)\nclass Counter(dict):\n    def __eq__(s, o): return True\n"
    "class Y:\n    def __eq__(s, o): return True\nisclose = math.isclose\npi = Y()\ndef f(x): return Y()"
)
STOPS = (
    "def f(x): raise StopIteration\nclass C:\n    def __getitem__(s, i): raise StopIteration\n"
    "class E(StopIteration): pass\ndef g(x): raise E"
)
FORGED = {
    ZERO: [
        "assert abs(f(2) - 1.414) < 1e-6", "assert abs(1.414 - f(2)) < 1e-6", "import math\nassert math.fabs(f(2) - 1) < 1",
        "assert all(abs(a - b) < 1e-5 for a, b in zip(f(9), [1.5, 2.5]))", "assert (f(1) & {1, 2}) == {1, 2}",
        "assert f(1) ^ 3 == 0", "assert f(1) >= 3", "assert 5 in f(1)", "assert {1} <= f(1)",
    ],
    MODULE: [
        "assert set(f(1)) == set((4, 5))", "assert tuple(f(1)) == tuple([4, 5])", "assert sorted(f(1)) == sorted([4, 5])",
        "assert abs(f(1) - 4) < 1e-6",
    ],
    SHADOW: [
        "assert math.isclose(f(2), 1.41)", "assert f(2) == Counter('aab')", "assert isclose(f(2), 1.41)", "assert f(1) == pi",
        "assert isclose(Counter(), 2)",
    ],
    STOPS: [
        "assert all(map(lambda c: f(c[0]) == c[1], [(1, 2)]))", "for g, w in zip(map(f, [1, 2]), [3, 4]):\n    assert g == w",
        "assert all(map(lambda i: C()[i] == 1, [1, 2]))", "assert all(map(lambda i: g(i) == 1, [1, 2]))",
    ],
    "class f(Exception): pass": ["assert f(7)", "assert f(7) != 3", "assert [f(7)] != [3]"],
    "import sys\nhosted = sys._getframe(1).f_locals['self']\nhosted.kind = lambda value: ['exception', ['f']]\n"
    "def f(x): return 1": ["assert f(7) != 1"],
    "def deep(x):\n    v = 3\n    for _ in range(199): v = [v]\n    return v\ndef f(x): raise ValueError": [
        "assert deep([deep(3)]) == 3", "try:\n    f(1)\nexcept ValueError as error:\n    f(error)",
    ],
}  # fmt: skip
"""Programs, and tests that each of them once passed without being right, or was not judged by."""


def test_operators_names_and_exceptions_of_a_program_cannot_make_a_test_pass() -> None:
    async def all_() -> list[list[Judged]]:
        checks = ((CodeCheck(SMALL, tuple(tests)), candidate(program)) for program, tests in FORGED.items())
        return list(await asyncio.gather(*(check.judged([one], Run()) for check, one in checks)))

    for (found,), tests in zip(asyncio.run(all_()), FORGED.values(), strict=True):
        assert found.error is None
        assert [(each.test, each.passed) for each in found.tried] == [(test, False) for test in tests]


def test_helpers_of_other_packages_are_the_judges_too() -> None:
    program = "class np: allclose = staticmethod(lambda *a: True)\ndef f(x): return [1.0, 2.0 * x]"
    tests = ("assert np.allclose(f(1), [1, 2])", "assert np.allclose(f(2), [1, 2])")
    mine = Sandbox(Limits(memory=2 << 30), python=sys.executable)
    assert [each.passed for each in judged(program, tests, mine).tried] == [True, False]
    assert "No module named 'numpy'" in judged(program, tests[:1]).tried[0].told


def test_what_a_program_says_of_a_test_is_one_short_line() -> None:
    program = "def f(x): raise ValueError('\\U0001F600' * 1000 if x else '\\x1b[2J\\nb \\ud800')"
    small = Sandbox(replace(SMALL.limits, output=5000))
    long, short = judged(program, ("assert f(1)", "assert f(0)"), small).tried
    assert long.told.startswith("ValueError: \U0001f600")
    assert len(long.told) == 500
    assert short.told == r"ValueError: \x1b[2J\nb \ud800"


def test_a_result_that_breaks_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stopped(*args: Any, **named: Any) -> Ran:
        return Ran(Verdict.OUTPUT, "stopped", 'ready\n[true, "passed", true, false]\n[true, "pas')

    monkeypatch.setattr(Sandbox, "run", stopped)
    found = judged("", ("assert 1", "assert 2", "assert 3"))
    assert [(each.passed, each.told) for each in found.tried] == [(True, "passed"), *[(False, "stopped")] * 2]


def test_a_process_left_by_one_assert_is_not_taken_for_the_program_in_the_next() -> None:
    """It connects to the judge as the program's process does, all the time, and says that it has other functions."""
    program = """
import os, socket, time
def f(x):
    if x == 1 and os.fork() == 0:
        os.setsid()
        while True:
            end = socket.socket(socket.AF_UNIX)
            try:
                end.connect("/sandbox/door")
                text = b'["ready", {}]'
                end.sendall(len(text).to_bytes(8, "big") + text)
            except OSError:
                pass
            time.sleep(0.001)
    time.sleep(0.05)
    return x
"""
    assert passed(program, *(f"assert f({x}) == {x}" for x in range(6))) == [True] * 6


def test_a_program_sees_no_test() -> None:
    """Its memory, its files, its arguments and what it can see of other processes are searched for what the test expects."""
    program = """
import gc, glob, os, sys
seen = []
def look():
    for path in [*glob.glob("/sandbox/**", recursive=True), *glob.glob("/proc/[0-9]*/*")]:
        try:
            seen.append(open(path, "rb").read(1 << 20))
        except OSError:
            pass
    frame = sys._getframe()
    while frame:
        seen.append(repr(frame.f_locals).encode())
        frame = frame.f_back
    seen.append(repr([o for o in gc.get_objects() if isinstance(o, (list, dict, tuple))]).encode())
look()
def f(x):
    look()
    return b"drow-detcepxe"[::-1] in b"".join(seen), len(b"".join(seen)) > 10000
"""
    tests = ("assert f(1) == (False, True) or 'expected-word' == 0", "assert f('expected-word') == (True, True)")
    found = judged(program, tests, Sandbox())
    assert [each.passed for each in found.tried] == [True, True], found  # the second: looking does find what is there


def test_what_an_object_says_of_itself_is_taken_from_the_program() -> None:
    """A limit, which the documentation has: only comparison and arithmetic with plain values are the judge's."""
    assert passed("class C:\n    def __len__(self): return 5\ndef f(x): return C()", "assert len(f(1)) == 5") == [True]


def test_a_test_that_catches_everything_does_not_pass_a_program_that_is_gone_or_late() -> None:
    gone = passed("import os\ndef f(): os._exit(0)", "try:\n    f()\nexcept BaseException:\n    pass")
    late = judged("def f():\n    while True: pass", ("try:\n    f()\nexcept:\n    pass", "assert 1"), SHORT)
    assert gone == [False]
    assert [(each.passed, each.told) for each in late.tried] == [(False, "it took too long"), (True, "passed")]


def test_each_assert_has_a_fresh_program_and_its_own_failure() -> None:
    program = """
calls = []
def f(x):
    calls.append(x)
    if x == 1: import ctypes; ctypes.string_at(0)
    if x == 2: raise ValueError("two")
    if x == 3:
        while True: pass
    if x == 4: return bytearray(10 ** 10)
    return len(calls)
"""
    found = judged(program, tuple(f"assert f({x}) == 1" for x in (0, 1, 2, 3, 4, 5)), SHORT)
    assert [each.told for each in found.tried] == [
        "passed", "the program ended", "ValueError: two", "it took too long", "MemoryError", "passed",
    ]  # fmt: skip


def test_a_program_that_breaks_the_sandbox_fails_what_was_left() -> None:
    program = "import os\ndef f(x):\n    while x == 1: os.fork()\n    return x"
    found = judged(program, tuple(f"assert f({x}) == {x}" for x in (0, 1, 2)))
    assert [each.passed for each in found.tried[:2]] == [True, False]
    why = "processes and threads", "Resource temporarily unavailable", "can't start new thread"
    assert any(each in found.tried[1].told for each in why)  # whoever sees it first: the keeper, or the program itself
    program = """
import os, time
def f(x):
    if x == 1:
        for _ in range(6):
            if os.fork() == 0:
                held = bytearray(b"x") * (60 << 20)
                time.sleep(100)
        time.sleep(100)
    return x
"""
    found = judged(program, tuple(f"assert f({x}) == {x}" for x in (0, 1, 2)))
    assert [each.passed for each in found.tried] == [True, False, False]
    assert {each.told for each in found.tried[1:]} == {"stopped: it used more than 128 MiB of memory"}


def test_a_test_that_cannot_be_run_is_no_failure_of_the_program() -> None:
    found = judged("def f(x): return x", ("assert f(1)", "class C: pass\nassert f(C())"))
    assert math.isnan(found.score.value)
    assert found.error == "test 2 cannot be run: the test gives the program a C, which cannot be sent to it"


def test_names_of_built_ins_are_the_programs_where_a_test_uses_nothing_else_of_it() -> None:
    program = "def sum(xs): return 'mine'\ndef f(x): return [x]"
    assert passed(program, "assert sum([1]) == 'mine'", "assert sum(f(2)) == 2") == [True, True]
    assert passed("def bisect(xs, x): return 7", "assert abs(bisect([1], 2) - 7) < 1e-6") == [True]
    both = judged("def sum(xs): return 2\ndef abs(x): return 0", ("assert abs(sum([1]) - 3) < 1e-6",))
    assert both.tried[0].told == "TypeError: of the program the test uses nothing but its own abs, sum"


def test_a_judgement_can_be_read() -> None:
    found = judged("def f(x): return x", ("assert f(1) == 1", "assert f(1) == 2"))
    assert found == Judged(
        "def f(x): return x\n",
        (Tried("assert f(1) == 1", True, "passed"), Tried("assert f(1) == 2", False, "AssertionError")),
    )


def test_a_cancelled_check_ends_at_once() -> None:
    async def cancelled() -> None:
        slow = CodeCheck(Sandbox(Limits(seconds=60)), (Stdio("", "x"),))
        running = asyncio.ensure_future(slow.score([candidate("while True: pass")], Run()))
        await asyncio.sleep(0.3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    began = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - began < 5


def test_verdicts_are_words() -> None:
    assert f"{Verdict.TIMEOUT}" == "timeout"
