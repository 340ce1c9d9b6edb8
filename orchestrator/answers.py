"""What counts as an answer, and when two answers are the same. Every vote rests on this, so it is injected, not assumed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Any

from reasonweave.orchestrator.protocols import AnswerSpace

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?")
_LATEX_FRACTION = re.compile(r"([-+]?)\\[dt]?frac\s*(?:\{\s*([-+]?\d+)\s*\}\s*\{\s*([-+]?\d+)\s*\}|(\d)\s*(\d))")
_PLAIN_FRACTION = re.compile(r"([-+]?\d+)\s*/\s*([-+]?\d+)")
_SAID = re.compile(r"(?:answer\s*(?:is\s*:?|:|=)|####)\s*", re.IGNORECASE)
_NOISE = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\[!,; ()\[\]]|\\?\$")
_WRAPPERS = ("text", "mathrm", "mbox", "textbf", "mathbf", "boxed", "fbox")


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{…}``, braces balanced (escaped ones do not count); None where there is none.

    >>> last_boxed(r"so \boxed{3}, no: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    end = len(text)
    while (start := text.rfind(r"\boxed", 0, end)) >= 0:
        open_ = start + len(r"\boxed")
        while open_ < len(text) and text[open_] == " ":
            open_ += 1
        content = _balanced(text, open_) if text.startswith("{", open_) else None
        if content is not None and content.strip("$ \n"):
            return content.strip()
        end = start
    return None


def _balanced(text: str, start: int) -> str | None:
    """What stands between the brace at `start` and the one that closes it; escaped braces do not count."""
    depth, i = 0, start
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + 1 : i]
        i += 1
    return None


def number(text: str) -> Fraction | None:
    r"""The exact value of a plain number: integers, decimals, thousands, ``a/b``, ``\frac{a}{b}``; else None.

    >>> number("1,200.50"), number(r"-\frac{3}{6}"), number("x")
    (Fraction(2401, 2), Fraction(-1, 2), None)
    """
    text = text.strip()
    if len(text) > 64:
        return None
    if match := _LATEX_FRACTION.fullmatch(text):
        sign, top, bottom = match[1], match[2] or match[4], match[3] or match[5]
        return None if int(bottom) == 0 else Fraction(int(top), int(bottom)) * (-1 if sign == "-" else 1)
    if match := _PLAIN_FRACTION.fullmatch(text):
        return None if int(match[2]) == 0 else Fraction(int(match[1]), int(match[2]))
    if not _NUMBER.fullmatch(text) or not any(c.isdigit() for c in text):
        return None
    try:
        value = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    return Fraction(value) if abs(value.adjusted()) < 100 else None


@lru_cache(maxsize=65_536)
def canonical_text(answer: str) -> Hashable:
    r"""One key for the ways in which an answer is commonly written: a Fraction for plain numbers, else cleaned text.

    Removes dollar signs, spacing commands, a trailing full stop, wrappers such as ``\text{…}`` and, around plain numbers,
    percent signs and degree marks. It does no algebra: ``x+1`` and ``1+x`` stay two answers.

    >>> canonical_text("$1{,}000.0$") == canonical_text("1000")
    True
    """
    text = answer.strip().strip("$").replace(r"{,}", ",").rstrip(".").strip()
    text = _NOISE.sub("", text)
    for wrapper in _WRAPPERS:
        if (match := re.fullmatch(rf"\\{wrapper}\s*\{{(.*)\}}", text, re.DOTALL)) and "}{" not in match[1]:
            text = match[1].strip()
    for suffix in (r"\%", "%", r"^\circ", r"^{\circ}", "°"):
        if text.endswith(suffix) and number(text[: -len(suffix)]) is not None:
            text = text[: -len(suffix)]
    exact = number(text)
    return exact if exact is not None else re.sub(r"\s+", "", text if "\\" in text else text.lower())


@dataclass(frozen=True, slots=True)
class BoxedAnswers:
    r"""Short answers in ``\boxed{…}``, as mathematics benchmarks ask for.

    `extract` takes the last complete box and, with `lenient`, else what follows the last "answer is" or ``####``. Numbers
    compare by exact value, other answers as cleaned text. Text without an answer gives None: it abstains, it never votes.
    """

    lenient: bool = False

    def extract(self, text: str) -> str | None:
        boxed = last_boxed(text)
        if boxed is not None or not self.lenient:
            return boxed
        said = list(_SAID.finditer(text))
        if not said:
            return None
        line = text[said[-1].end() :].strip().split("\n")[0]
        return re.split(r"[.!?](?:\s|$)", line)[0].strip() or None

    def canonical(self, answer: str) -> Hashable:
        return canonical_text(answer)

    def same(self, a: str, b: str) -> bool:
        return self.canonical(a) == self.canonical(b)


def alike(answers: Sequence[str | None], space: AnswerSpace) -> list[int | None]:
    """Which answers are the same: a number for each, equal for equal answers; None where there is no answer.

    As in votes: answers are one where they share a `canonical` key, or where the space calls their words the `same` both ways
    round, and what joins through a third one. Which are one does not depend on their order.
    """
    keys: dict[Hashable, list[str]] = {}
    for answer in answers:
        if answer is not None:
            keys.setdefault(space.canonical(answer), []).append(answer)
    words = {key: usual(said) for key, said in keys.items()}
    group = {key: number for number, key in enumerate(keys)}
    for a in keys:
        for b in keys:
            if group[a] < group[b] and space.same(words[a], words[b]) and space.same(words[b], words[a]):
                into, gone = group[a], group[b]
                group |= {key: into for key, number in group.items() if number == gone}
    return [None if answer is None else group[space.canonical(answer)] for answer in answers]


def usual(answers: Sequence[str]) -> str:
    """The most common wording of these, then the shortest."""
    counts = Counter(answers)
    return min(counts, key=lambda words: (-counts[words], len(words), words))


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that begin somewhere in a text, in order, those within others too.

    >>> list(json_objects('Sure: {"a": {"b": 1}} {c}'))
    [{'a': {'b': 1}}, {'b': 1}]
    """
    at = -1
    while (at := text.find("{", at + 1)) >= 0:
        try:
            yield json.JSONDecoder().raw_decode(text, at)[0]
        except (ValueError, RecursionError):
            continue


def box_end(text: str) -> int | None:
    r"""How much of a text is in the box that stood open before it, its closing brace included; None where it stays open.

    >>> box_end("x^{2}} since"), box_end("x^{2}")
    (6, None)
    """
    depth = 1
    for i, char in enumerate(text):
        if text[i - 1 : i] != "\\":
            depth += (char == "{") - (char == "}")
        if depth == 0:
            return i + 1
    return None


def after_thinking(text: str) -> str:
    """What a text says once its thinking is over: what follows the last ``</think>``, up to a ``<think>`` that nothing closes.

    >>> after_thinking("<think>2 or 3?</think> Three."), after_thinking("Three."), after_thinking("<think>2 or")
    ('Three.', 'Three.', '')
    """
    return text.rpartition("</think>")[2].partition("<think>")[0].strip()


@dataclass(frozen=True, slots=True)
class FreeText:
    """Free text, where all that is said after the thinking is the answer.

    Two answers are the same where their words are, white space aside. Votes can hardly count such answers; a model that reads
    them can choose among them.
    """

    def extract(self, text: str) -> str | None:
        return after_thinking(text) or None

    def canonical(self, answer: str) -> Hashable:
        return " ".join(answer.split())

    def same(self, a: str, b: str) -> bool:
        return self.canonical(a) == self.canonical(b)
