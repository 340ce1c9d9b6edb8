r"""When two answers are the same: the rules, gold first. `ask` is whom they ask about expressions that need algebra.

Each rule and where it comes from is in ``docs/verifiers/math-answers.md``. Some hold in one direction only, because they forgive
what an answer leaves out or adds; votes, which look both ways, then never merge by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeAlias

from reasonweave.verifiers._math_algebra import (
    ZERO,
    Form,
    TooBig,
    Unreadable,
    apart,
    atom,
    constant,
    multiply,
    rational,
    real_value,
)
from reasonweave.verifiers._math_expressions import expression
from reasonweave.verifiers._math_kinds import (
    Answer,
    Choice,
    Group,
    Many,
    Matrix,
    Ratio,
    Relation,
    Union,
    Value,
    Words,
    pieces,
)
from reasonweave.verifiers._math_reading import listed, scaled
from reasonweave.verifiers._math_tokens import tokens

Ask: TypeAlias = Callable[[str, str], bool | None]
"""Whether two expressions in LaTeX are the same, the reference first; None where nobody can say (then they are not)."""

ENOUGH_DIGITS = 6
"""A decimal of fewer significant digits is not the rounding of a number that has more."""
MOST_MATCHED = 24
"""Longer lists are compared by the keys of their parts alone."""


def same(gold: Answer, answer: Answer, ask: Ask) -> bool:
    """Whether the answer is right where the gold answer is. Nobody is asked about what cannot be the same whatever they say."""
    asked = list[bool]()

    def perhaps(one: str, other: str) -> bool:
        asked.append(True)
        return True

    return alike(gold, answer, perhaps) and (not asked or alike(gold, answer, ask))


def alike(gold: Answer, answer: Answer, ask: Ask) -> bool:
    """`same`, asking as it goes. A "yes" from whom is asked never makes two answers less alike."""
    if gold.key == answer.key:
        return True
    if isinstance(gold, Choice) or isinstance(answer, Choice):
        return _choices(gold, answer, ask)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _relations(gold, answer, ask)
    if isinstance(gold, Value) and isinstance(answer, Value):
        return _values(gold, answer, ask)
    if isinstance(gold, Matrix) and isinstance(answer, Matrix) and [*map(len, gold.rows)] != [*map(len, answer.rows)]:
        return False
    if isinstance(gold, Many) or isinstance(answer, Many):
        return _lists(gold, answer, ask)
    if isinstance(gold, Words) or isinstance(answer, Words):
        return _product_of_letters(gold, answer) or _product_of_letters(answer, gold)
    if isinstance(gold, Ratio) and isinstance(answer, Ratio):
        return bool(gold.clock) and gold.clock == answer.clock and not (gold.half and answer.half)
    if isinstance(gold, Ratio) or isinstance(answer, Ratio):
        return _ratio_value(gold) is not None and _ratio_value(gold) == _ratio_value(answer)
    if (one := _cells(gold)) is not None and (other := _cells(answer)) is not None:
        return one[0] == other[0] and len(one[1]) == len(other[1]) and _all(one[1], other[1], ask)
    if isinstance(gold, Union) and isinstance(answer, Union) and _matched(gold.parts, answer.parts, ask):
        return True
    if any(isinstance(each, Value) and each.form is not None for each in (gold, answer)):
        return False  # a number is no set
    if pieces(gold) is not None and pieces(answer) is not None:
        return False  # their keys differ
    return _is_set(gold) and _is_set(answer) and bool(ask(gold.latex, answer.latex))


def _choices(gold: Answer, answer: Answer, ask: Ask) -> bool:
    """``(C) 12`` is right where C is, and where 12 is."""
    if isinstance(gold, Choice):
        if isinstance(answer, Choice):
            return gold.letter == answer.letter
        return answer.key == ("letter", gold.letter) or alike(gold.body, answer, ask)
    assert isinstance(answer, Choice)
    return gold.key == ("letter", answer.letter) or alike(gold, answer.body, ask)


def _relations(gold: Answer, answer: Answer, ask: Ask) -> bool:
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        if gold.exact is not None and gold.exact == answer.exact:
            return True
        if gold.name and gold.name == answer.name:
            return alike(gold.body, answer.body, ask)
        if (
            gold.sign != answer.sign
            or (gold.final and answer.final)
            or (gold.name and answer.name and _constant(gold.body) and _constant(answer.body))
        ):
            return False
        return gold.sign in ("=", "<", ">", "<=", ">=") and bool(ask(gold.latex, answer.latex))
    if isinstance(gold, Relation):
        if isinstance(answer, Many) and (spread := _spread(gold)) is not None:
            return _lists(spread, answer, ask)
        return bool(gold.name) and alike(gold.body, answer, ask)
    assert isinstance(answer, Relation)
    if isinstance(gold, Many) and (spread := _spread(answer)) is not None:
        return _lists(gold, spread, ask)
    return (bool(answer.name) or answer.sign == "=") and alike(gold, answer.body, ask)


def _spread(relation: Relation) -> Many | None:
    """(x, y) = (1, 2) as x = 1, y = 2."""
    names = relation.name[1:-1].split(",") if relation.name.startswith("(") else []
    if not isinstance(relation.body, Group) or len(names) != len(relation.body.parts):
        return None
    parts = [Relation("=", name, part, None, part.latex) for name, part in zip(names, relation.body.parts, strict=True)]
    return Many(tuple(parts), relation.latex)


def _constant(answer: Answer) -> bool:
    return isinstance(answer, Value) and answer.form is not None and real_value(answer.form) is not None


def _lists(gold: Answer, answer: Answer, ask: Ask) -> bool:
    if isinstance(gold, Value):
        gold = listed(gold) or gold
    if isinstance(answer, Value):
        answer = listed(answer) or answer
    if isinstance(gold, Many) and isinstance(answer, Many):
        return _matched(gold.parts, answer.parts, ask)
    if isinstance(gold, Group) and isinstance(answer, Many) and not answer.braces:  # 3, 4 where (3, 4) was asked for
        return gold.brackets == "()" and len(gold.parts) == len(answer.parts) and _all(gold.parts, answer.parts, ask)
    return False


def _matched(gold: Sequence[Answer], answers: Sequence[Answer], ask: Ask) -> bool:
    """Whether the parts can be paired, each with one that is the same."""
    if len(gold) != len(answers):
        return False
    left, right = list(gold), list(answers)
    for part in gold:
        if (at := next((i for i, other in enumerate(right) if other.key == part.key), None)) is not None:
            left.remove(part)
            del right[at]
    if len(left) > MOST_MATCHED:
        return False
    partner: dict[int, int] = {}

    def place(i: int, tried: set[int]) -> bool:
        for j, other in enumerate(right):
            if j not in tried and alike(left[i], other, ask):
                tried.add(j)
                if j not in partner or place(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    return all(place(i, set()) for i in range(len(left)))


def _all(gold: Sequence[Answer], answers: Sequence[Answer], ask: Ask) -> bool:
    return all(alike(one, other, ask) for one, other in zip(gold, answers, strict=True))


def _cells(answer: Answer) -> tuple[object, tuple[Answer, ...]] | None:
    """The shape and the cells of a tuple or a matrix; a matrix of one row or column is a tuple."""
    if isinstance(answer, Group):
        return (answer.brackets if len(answer.parts) == 2 else "()"), answer.parts
    if isinstance(answer, Matrix):
        widths = {len(row) for row in answer.rows}
        cells = tuple(cell for row in answer.rows for cell in row)
        return "()" if len(answer.rows) == 1 or widths == {1} else (len(answer.rows), *sorted(widths)), cells
    return None


def _is_set(answer: Answer) -> bool:
    return isinstance(answer, Group | Union) or (
        isinstance(answer, Value) and answer.form is None and not answer.hopeless
    )


def _ratio_value(answer: Answer) -> Fraction | None:
    if isinstance(answer, Ratio):
        return answer.terms[0] / answer.terms[1] if len(answer.terms) == 2 else None
    return rational(answer.form) if isinstance(answer, Value) and answer.form is not None else None


def _product_of_letters(words: Answer, value: Answer) -> bool:
    """abc, which was read as a word, where a·b·c stands on the other side."""
    if (
        not isinstance(words, Words)
        or not isinstance(value, Value)
        or value.form is None
        or not 1 < len(words.latex) < 5
    ):
        return False
    try:
        return words.latex.isalpha() and expression(tokens(words.latex)) == value.form
    except (Unreadable, TooBig):
        return False


def _values(gold: Value, answer: Value, ask: Ask) -> bool:
    if gold.unit and answer.unit and gold.unit != answer.unit:
        if gold.unit.dimension != answer.unit.dimension:
            return False
        return _numbers(scaled(gold, gold.unit.factor), scaled(answer, answer.unit.factor), ask)
    if _numbers(gold, answer, ask):
        return True
    if answer.mark == "%" and gold.mark != "%":  # a sign that is written is understood; one that is not is not made up
        return _numbers(gold, scaled(answer, Fraction(1, 100)), ask)
    if answer.mark == "°" and gold.mark == "":
        return _numbers(gold, scaled(answer, _DEGREE), ask)
    return False


_DEGREE: Form = multiply(atom("pi"), constant(Fraction(1, 180)))


def _numbers(gold: Value, answer: Value, ask: Ask) -> bool:
    if (
        gold.hopeless
        or answer.hopeless
        or any(isinstance(v.key, tuple) and v.key[0] == "infinity" for v in (gold, answer))
    ):
        return False
    if gold.form is not None and answer.form is not None:
        if gold.form == answer.form:
            return True
        if bool(gold.digits) != bool(answer.digits):
            rounded = _rounded(gold, answer) if gold.digits else _rounded(answer, gold)
            if rounded is not None:
                return rounded
        if (rational(gold.form) is not None and rational(answer.form) is not None) or apart(gold.form, answer.form):
            return False
    return bool(ask(gold.latex, answer.latex))


def _rounded(short: Value, exact: Value) -> bool | None:
    """Whether a decimal is the rounding of a number to its own last digit; None where that is not known."""
    told = rational(short.form or ZERO)
    value, slack = rational(exact.form or ZERO), Fraction(0)
    if value is None and exact.form is not None and (near := real_value(exact.form)) is not None:
        value = Fraction(near)
        slack = abs(value) / 10**11
    if told is None or value is None or abs(told - value) <= slack:
        return None  # perhaps it is exactly this decimal
    return short.digits >= ENOUGH_DIGITS and abs(told - value) <= slack + Fraction(1, 2 * 10**short.point)
