"""The table of nasty answers: what is the same, what is not, what abstains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.orchestrator import BoxedAnswers

SPACE = BoxedAnswers()
LENIENT = BoxedAnswers(lenient=True)

SAME = [
    ("42", "42."),
    ("42", " 42 "),
    ("42", "42.0"),
    ("42", "$42$"),
    ("42", "+42"),
    ("1000", "1,000"),
    ("1000", r"1{,}000"),
    ("1000", r"1\,000"),
    ("1/2", r"\frac{1}{2}"),
    ("1/2", r"\dfrac12"),
    ("-1/2", r"-\frac{1}{2}"),
    ("0.5", "1/2"),
    ("2/4", "1/2"),
    ("50", r"50\%"),
    ("90", r"90^\circ"),
    ("90", r"90^{\circ}"),
    ("42", r"\text{42}"),
    ("east", r"\text{East}"),
    (r"\left(1, 2\right)", "(1,2)"),
    ("x + 1", "x+1"),
    ("1e3", "1000"),
]
DIFFERENT = [
    ("42", "-42"),
    ("42", "420"),
    ("1,000", "1"),
    ("1/2", "2"),
    ("0.3333", "1/3"),
    ("x+1", "x-1"),
    ("(1,2)", "(2,1)"),
    ("", "0"),
    (r"\frac{1}{0}", "0"),
    ("12", "1 2x"),
    ("1" * 80, "1" * 79 + "2"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a: str, b: str) -> None:
    assert SPACE.same(a, b)
    assert SPACE.same(b, a)
    assert SPACE.canonical(a) == SPACE.canonical(b)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert not SPACE.same(a, b)
    assert not SPACE.same(b, a)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{3} no, \boxed{4}", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\text{a}\}b}", r"\text{a}\}b"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{3} then \boxed{4", "3"),
        (r"\boxed{}", None),
        (r"\boxed", None),
        ("nothing", None),
        ("", None),
        ("The answer is 4", None),
    ],
)
def test_extract(text: str, answer: str | None) -> None:
    assert SPACE.extract(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 4.", "4"),
        ("the answer is: 1,200", "1,200"),
        ("work\n#### 42", "42"),
        (r"The answer is 3, or rather \boxed{5}", "5"),
        ("no idea", None),
        ("The answer is ", None),
    ],
)
def test_lenient_extract(text: str, answer: str | None) -> None:
    assert LENIENT.extract(text) == answer


@given(st.integers(-(10**12), 10**12))
def test_integers_are_what_they_are(n: int) -> None:
    assert SPACE.same(str(n), f"{n:,}")
    assert not SPACE.same(str(n), str(n + 1))


@given(st.text(max_size=60), st.text(max_size=60))
def test_equality_is_an_equivalence(a: str, b: str) -> None:
    """Canonical keys make it one by construction; this holds that `same` uses nothing else."""
    assert SPACE.same(a, a)
    assert SPACE.same(a, b) == SPACE.same(b, a) == (SPACE.canonical(a) == SPACE.canonical(b))


def test_hostile_answers_are_quick() -> None:
    for hostile in ("9^{9^{9^9}}", "1e999999999", "{" * 5000, r"\boxed{" * 2000, "1" * 10**5, "-" * 10**5):
        SPACE.canonical(hostile)
        SPACE.extract(hostile)


@pytest.mark.parametrize(
    ("a", "b"), [(r"\leftarrow", r"\rightarrow"), (r"\Phi", r"\phi"), ("1" * 5000 + "/3", "1" * 5000 + "/4")]
)
def test_what_only_looks_alike_stays_apart(a: str, b: str) -> None:
    assert not BoxedAnswers().same(a, b)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{a\\}", r"a\\"),
        (r"\boxed{5}, so \boxed{}", "5"),
        (r"\boxed{5} and \boxed{$ $}", "5"),
        (r"\boxed{$ $}", None),
    ],
)
def test_boxes_without_content_are_none(text: str, answer: str | None) -> None:
    assert BoxedAnswers().extract(text) == answer


def test_a_said_answer_ends_with_its_sentence() -> None:
    assert BoxedAnswers(lenient=True).extract("The answer is 3.5. I am sure.") == "3.5"
