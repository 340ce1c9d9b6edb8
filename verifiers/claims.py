"""Finds the equations and inequalities in a text and says which are right, which are wrong, and which cannot be told."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from reasonweave.verifiers._claims_decide import Judgement, Verdict, judge
from reasonweave.verifiers._claims_parse import Exhausted, Parser, Unread, Work
from reasonweave.verifiers._claims_tokens import LONGEST_TEXT, Token, tokens
from reasonweave.verifiers._claims_tree import Call, Member, Name, Node, Num, Op, nodes
from reasonweave.verifiers._claims_values import Irrational, Reading, Undecided, exact
from reasonweave.verifiers._claims_words import (
    BLOCK_BEFORE,
    BLOCK_BEFORE_BY,
    BLOCK_BEFORE_OF,
    CONDITIONS,
    DENIED,
    DENIED_NEAR,
    DOUBT_AFTER,
    DOUBT_BEFORE_NUMBER,
    GIVEN,
    LONE_OPENERS,
    MODULAR,
    NO_SOLUTION,
    NUMBER_WORDS,
)

LONGEST_MEMBER = 160
"""Tokens of one side of a claim."""

MOST_CLAIMS = 400
"""Relations of a passage that are looked at."""

_BASES = re.compile(
    r"\bbase[- ]?\$?(?:\d|b\b|ten\b|two\b)|\bin base\b|-ary\b|binary|octal|hexadecimal|mathbb\s*\{?[ZF]|\d_\{?\d|clock",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n\s*\n")
_NEAR = "|".join(map(re.escape, DENIED_NEAR))
_DENIED_BEFORE = re.compile(rf"\b({_NEAR})\b[^\w,.;]*(?:\w+[^\w,.;]+){{0,2}}$")
_DENIED_AFTER = re.compile(rf"^[^\w.;]*(?:\w+\s+)?({_NEAR})\b")
_NUMERIC = frozenset({"num", "currency", "edge", "name"})
_WORD = re.compile(r"[a-z']+")


@dataclass(frozen=True, slots=True)
class Claim:
    """An equation or inequality in a text, ``text[start:end]``, and what is to be said of it.

    `verdict` is "right", "wrong", or "open" where it cannot be told: it has unknowns, or it may be meant otherwise. `why` says so
    in a few words. For an equation in numbers, `operands` are those that its left side is written with, `value` is what that side
    is, and `result` what it is said to be.
    """

    text: str
    start: int
    end: int
    verdict: Verdict
    why: str
    operands: tuple[Fraction, ...] = field(default=(), repr=False)
    value: Fraction | None = field(default=None, repr=False)
    result: Fraction | None = field(default=None, repr=False)


def claims(text: str, known: Mapping[str, Fraction] | None = None) -> list[Claim]:
    """The claims of a text, in order. `known` are letters that have a value.

    >>> [(c.text, c.verdict) for c in claims("So 17 + 28 = 45, and 45 * 2 = 80. Hence x + 3 = 10.")]
    [('17 + 28 = 45', 'right'), ('45 * 2 = 80', 'wrong'), ('x + 3 = 10', 'open')]
    """
    return Reader(dict(known or {})).read(text)


@dataclass(slots=True)
class _Link:
    """A relation between two members, `right` missing where it cannot be read."""

    relation: int
    left: Member | None
    right: Member | None
    doubt: str = ""
    chained: bool = False
    modulus: int | None = None
    end: int = -1


@dataclass(slots=True)
class Reader:
    """Reads the passages of one solution in order, and remembers which letters have been given a value."""

    known: dict[str, Fraction] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def read(self, text: str) -> list[Claim]:
        """The claims of the next passage."""
        if not any(sign in text for sign in "=<>≤≥≠≈≡\\") and "equals" not in text:
            return []
        passage = _Passage(text, tokens(text))
        found: list[Claim] = []
        for chain in passage.chains():
            found += self._judged(passage, chain)
        found.sort(key=lambda claim: (claim.start, claim.end))
        return found

    def _judged(self, passage: _Passage, chain: list[_Link]) -> list[Claim]:
        modulus = next((link.modulus for link in reversed(chain) if link.modulus is not None), None)
        judgements = [self._judgement(passage, link, link.modulus or modulus) for link in chain]
        if any(j.verdict == "wrong" for j in judgements) and _running(passage, chain):
            told = "each step is right, but the chain of equals signs as written is not"
            judgements = [j if j.verdict != "wrong" else Judgement("open", told) for j in judgements]
        self._learn(passage, chain)
        return [passage.claim(link, j) for link, j in zip(chain, judgements, strict=True)]

    def _judgement(self, passage: _Passage, link: _Link, modulus: int | None) -> Judgement:
        left, right = link.left, link.right
        if left is None or right is None:
            return Judgement("open", "a side cannot be read")
        relation = passage.tokens[link.relation].text
        known = self.known if _lettered(left.node) != _lettered(right.node) else {}
        found = judge(left, relation, right, known=known, modulus=modulus)
        if found.verdict != "wrong":
            return found
        if (unsigned := passage.unsigned(left)) is not None:
            again = judge(unsigned, relation, right, known=known, modulus=modulus)
            if again.verdict != "wrong":
                return again
        if passage.exclaims(right):
            factorial = right._replace(node=Call("!", (right.node,)))
            again = judge(left, relation, factorial, known=known, modulus=modulus)
            if again.verdict == "right":
                return again
        said = "" if modulus is not None and link.doubt.startswith("after it") else link.doubt
        doubt = said or (left.doubts + right.doubts + ("",))[0] or passage.doubt(link)
        return Judgement("open", doubt) if doubt else found

    def _learn(self, passage: _Passage, chain: list[_Link]) -> None:
        """Remember ``x = 5`` where it is said without a condition, and forget x where it gets another value."""
        sides = [side for link in chain for side in (link.left, link.right) if side is not None]
        names = [side.node.text for side in sides if isinstance(side.node, Name)]
        if not names or any(passage.tokens[link.relation].text != "=" for link in chain):
            return
        values = {v for side in sides if (v := _number(side.node, {})) is not None}
        doubted = any(link.doubt for link in chain) or passage.says(chain[0], CONDITIONS)
        given = len(values) == 1 and not doubted and passage.says(chain[0], GIVEN)
        for name in names:
            if given and name not in self.lost and self.known.get(name) in (None, *values):
                self.known[name] = next(iter(values))
            elif values and values != {self.known.get(name)}:
                self.lost.add(name)
                self.known.pop(name, None)


def _positive(number: Fraction) -> int | None:
    return int(number) if number.denominator == 1 and number > 0 else None


def _lettered(node: Node) -> bool:
    return any(isinstance(each, Name) for each in nodes(node))


def _number(node: Node, known: Mapping[str, Fraction]) -> Fraction | None:
    if isinstance(node, Name):
        return None
    try:
        return exact(node, Reading(letters=known))
    except (Undecided, Irrational, ZeroDivisionError):
        return None


def _running(passage: _Passage, chain: Sequence[_Link]) -> bool:
    """Is this a running calculation, as in 10 - 3 = 7 - 2 = 5: each result taken on after its equals sign?"""
    members = [chain[0].left, *(link.right for link in chain)]
    if len(members) < 3 or any(passage.tokens[link.relation].text != "=" for link in chain):
        return False
    last: Fraction | None = None
    for member in members:
        if member is None:
            return False
        value = _number(member.node, {})
        if value is None or (last is not None and _first(member.node) != last):
            return False
        last = value
    return members[-1] is not None and members[-1].bare


def _first(node: Node) -> Fraction | None:
    """The number that an expression begins with."""
    while isinstance(node, Op):
        node = node.left
    return _number(node, {})


class _Passage:
    """The tokens of a passage, and where its claims are."""

    def __init__(self, text: str, found: list[Token]) -> None:
        self.text = text
        self.tokens = _inlined(found)
        self.work = Work()
        self.parser = Parser(self.tokens, self.work)
        self.ends: set[int] = set()
        self.bases = bool(_BASES.search(text[:LONGEST_TEXT]))

    def chains(self) -> list[list[_Link]]:
        """The claims in order, those that share a member together."""
        inside, hidden = self._brackets()
        chains: list[list[_Link]] = []
        last: dict[int, _Link] = {}
        count = 0
        try:
            for at, token in enumerate(self.tokens):
                if token.kind != "rel" or at in hidden or count == MOST_CLAIMS:
                    continue
                count += 1
                opened = inside[at]
                before = last.get(opened)
                link = self._link(at, opened, before)
                last[opened] = link
                if link.chained and chains and before is chains[-1][-1]:
                    chains[-1].append(link)
                else:
                    chains.append([link])
        except Exhausted:
            pass
        return chains

    def _brackets(self) -> tuple[dict[int, int], set[int]]:
        """For each relation the bracket that it stands in (-1 for none), and those that are no claims: in indices and sets."""
        stack: list[tuple[int, bool]] = []
        inside: dict[int, int] = {}
        hidden: set[int] = set()
        for at, token in enumerate(self.tokens):
            if token.kind == "open":
                before = self.tokens[at - 1] if at else None
                script = before is not None and before.kind == "op" and before.text in ("_", "^")
                stack.append((at, script or token.text == "\\{" or bool(stack and stack[-1][1])))
            elif token.kind == "close" and stack:
                stack.pop()
            elif token.kind == "stop" and not token.tex:
                stack.clear()
            elif token.kind == "rel":
                inside[at] = stack[-1][0] if stack else -1
                if stack and stack[-1][1]:
                    hidden.add(at)
        return inside, hidden

    def _link(self, at: int, opened: int, before: _Link | None) -> _Link:
        link = _Link(at, None, None)
        if before is not None and before.right is not None and before.end == at:
            link.left, link.chained, link.doubt = before.right, True, before.doubt
            before.doubt = "" if before.doubt.startswith("after it") else before.doubt
        else:
            low = max(opened + 1, before.relation + 1 if before is not None else 0, at - LONGEST_MEMBER)
            link.left = self._left(low, at)
            if link.left is not None:
                link.doubt = self._before(link.left, opened)
        try:
            link.right = self.parser.member(at + 1, min(len(self.tokens), at + LONGEST_MEMBER))
        except Unread:
            return link
        link.modulus, link.end = self._modulus(link.right)
        self.ends.update((link.right.end, link.end))
        if not link.doubt and link.modulus is None:
            link.doubt = self._after(link.right)
        return link

    def _left(self, low: int, at: int) -> Member | None:
        """The longest member that ends at the relation."""
        start = at
        while start > low and self.tokens[start - 1].kind not in ("stop", "rel"):
            start -= 1
        while start < at:
            try:
                member = self.parser.member(start, at)
            except Unread as failed:
                start = failed.at if start + 1 < failed.at < at else start + 1
                continue
            if member.end == at:
                return member
            start = member.end if member.end > start else start + 1
        return None

    def _outside(self, at: int, step: int) -> int:
        """The index of the next token that is no edge of inline mathematics, in one direction."""
        while 0 <= at < len(self.tokens) and self.tokens[at].kind == "edge":
            at += step
        return at

    def _before(self, left: Member, opened: int) -> str:
        """Why what stands before a claim makes it doubtful, if it does."""
        at = self._outside(left.start - 1, -1)
        first = self.tokens[left.start]
        if first.text == "+":
            return "it begins with a plus sign"
        if at < 0 or at == opened or self.tokens[at].kind == "stop":
            return ""
        last, told = self.tokens[at], f"it goes on from “{self.tokens[at].text}”"
        before = self.tokens[at - 1] if at else None
        signed = first.kind == "op" and first.text in ("-", "+")
        if last.kind == "bar" and not last.tex:
            return ""  # a table's
        if last.kind == "colon":
            return told if before is not None and before.kind == "num" and last.gap else ""
        if last.kind == "comma":
            settled = before is None or before.kind == "word" or at in self.ends
            return "" if settled and not left.bare else told
        if last.kind != "word":
            return told
        word = last.text.lower()
        if signed and first.gap and self.tokens[left.start + 1].gap:
            return told
        earlier = before.text.lower() if before is not None else ""
        if word in BLOCK_BEFORE or (
            word == "of" and (left.bare or earlier in BLOCK_BEFORE_OF or (before and before.kind != "word"))
        ):
            return told
        if word == "by" and earlier in BLOCK_BEFORE_BY:
            return told
        if word in ("and", "or") and before is not None and before.kind in ("num", "close") and at not in self.ends:
            return told
        return told if left.bare and word not in LONE_OPENERS else ""

    def _after(self, right: Member) -> str:
        """Why what stands after a claim makes it doubtful, if it does."""
        at = self._outside(right.end, 1)
        if at >= len(self.tokens):
            return ""
        after, told = self.tokens[at], f"after it comes “{self.tokens[at].text}”"
        following = self.tokens[at + 1] if at + 1 < len(self.tokens) else None
        match after.kind:
            case "stop":
                return "it is a question" if after.text == "?" else told if after.text == "!" and after.gap else ""
            case "comma" | "close" | "rel":
                return ""
            case "bar" if not after.tex:
                return ""
            case "colon":
                return (
                    told
                    if after.gap or (following is not None and following.kind == "num" and not following.gap)
                    else ""
                )
            case "word":
                return told if self._goes_on(at) else ""
            case "open":
                return "" if not after.gap or (following is not None and following.kind == "word") else told
            case _:
                return told

    def _goes_on(self, at: int) -> bool:
        """Does the word here go on with the number before it?"""
        word = self.tokens[at].text.lower()
        following = self.tokens[at + 1 : at + 4]
        number = bool(following) and (following[0].kind in _NUMERIC or following[0].text.lower() in NUMBER_WORDS)
        if word in DOUBT_AFTER or (word in DOUBT_BEFORE_NUMBER and number and not self._claimed(at + 1)):
            return True
        if word == "in":  # "1 in 4", but not "8 in 3 years"
            return number and (len(following) < 2 or following[1].kind != "word")
        if word in ("more", "less", "fewer", "greater"):
            return len(following) > 1 and following[0].text == "than" and following[1].kind in ("num", "currency")
        return word == "and" and bool(following) and following[0].text.lower() in ("a", "one", "half")

    def _claimed(self, at: int) -> bool:
        """Does a claim of its own begin here?"""
        at = self._outside(at, 1)
        try:
            member = self.parser.member(at, min(len(self.tokens), at + LONGEST_MEMBER))
        except Unread:
            return False
        return (
            self._outside(member.end, 1) < len(self.tokens) and self.tokens[self._outside(member.end, 1)].kind == "rel"
        )

    def unsigned(self, left: Member) -> Member | None:
        """The member without the dash before it, where that may be a list's."""
        first = self.tokens[left.start]
        at = left.start - 1
        if first.text != "-" or not (at < 0 or self.tokens[at].kind == "stop") or not self.tokens[left.start + 1].gap:
            return None
        try:
            return self.parser.member(left.start + 1, left.end)
        except (Unread, Exhausted):
            return None

    def exclaims(self, right: Member) -> bool:
        """Does a mark follow that ends the sentence, or is a factorial's?"""
        at = self._outside(right.end, 1)
        return right.bare and at < len(self.tokens) and self.tokens[at].text == "!"

    def _modulus(self, right: Member) -> tuple[int | None, int]:
        """What is said to be the modulus, "(mod 7)" after a member or "mod 7" at its end, and the index after that."""
        node = right.node
        if isinstance(node, Op) and node.symbol == "mod" and isinstance(node.right, Num):
            return _positive(node.right.value), right.end
        at = self._outside(right.end, 1)
        while at < len(self.tokens) and self.tokens[at].text in ("(", "{"):
            at += 1
        if at >= len(self.tokens) or self.tokens[at].text not in ("mod", "modulo", "pmod", "pod"):
            return None, right.end
        at += 1
        while at < len(self.tokens) and (self.tokens[at].text in ("(", "{") or self.tokens[at].kind == "edge"):
            at += 1
        if at >= len(self.tokens) or (value := self.tokens[at].value) is None:
            return None, right.end
        at += 1
        while at < len(self.tokens) and self.tokens[at].text in (")", "}"):
            at += 1
        return _positive(value), at

    def _sentence(self, link: _Link) -> tuple[str, str, str]:
        """What stands before a claim in its sentence, after it, and at the start of the next one."""
        start, end = self._span(link)
        began = 0
        for match in _SENTENCE_END.finditer(self.text, max(0, start - 400), start):
            began = match.end()
        stop = _SENTENCE_END.search(self.text, end, end + 400)
        ended = stop.end() if stop else end + 400
        return self.text[max(began, start - 400) : start], self.text[end:ended], self.text[ended : ended + 70]

    def says(self, link: _Link, words: frozenset[str]) -> bool:
        """Does the sentence of a claim have one of these words?"""
        before, after, _ = self._sentence(link)
        return not words.isdisjoint(_WORD.findall(f"{before} {after}".lower()))

    def doubt(self, link: _Link) -> str:
        """Why a claim that is wrong as it stands may not be meant so, if it may."""
        left, right = link.left, link.right
        assert left is not None
        assert right is not None
        relation = self.tokens[link.relation].text
        percent = any(
            isinstance(node, Call) and node.name == "%" for side in (left, right) for node in nodes(side.node)
        )
        if relation == "=" and left.bare and right.bare and not link.chained and not percent:
            return "two numbers may be a key or a conversion"
        before, after, beyond = (part.lower() for part in self._sentence(link))
        around = f"{before} {after} {beyond}"
        lettered = _lettered(left.node) or _lettered(right.node)
        denials = [cue for cue in DENIED if cue in around]
        if lettered:
            denials += [cue for cue in (*DENIED_NEAR, *NO_SOLUTION) if re.search(rf"\b{cue}\b", around)]
        else:
            denials += [m[1] for m in (_DENIED_BEFORE.search(before), _DENIED_AFTER.search(after)) if m]
        if relation != "≡" and link.modulus is None:
            denials += [cue.strip() for cue in MODULAR if cue in around]
        if "remainder" in around and any(isinstance(node, Op) and node.symbol == "/" for node in nodes(left.node)):
            denials.append("remainder")
        if denials:
            return f"the text says “{denials[0]}”"
        if after.rstrip().endswith("?"):
            return "it is a question"
        sign = self.tokens[link.relation]
        if not sign.tex and self.text[max(0, sign.start - 1) : sign.start] == "!":
            return "it may say “is not”"
        based = any(
            isinstance(node, Call) and node.name == "base" for side in (left, right) for node in nodes(side.node)
        )
        if not based and self.bases:
            return "the text speaks of bases"
        return ""

    def _span(self, link: _Link) -> tuple[int, int]:
        start = self.tokens[link.left.start if link.left is not None else link.relation].start
        end = self.tokens[link.right.end - 1 if link.right is not None else link.relation].end
        return min(start, end), max(start, end)

    def claim(self, link: _Link, judgement: Judgement) -> Claim:
        """A link as what callers see."""
        start, end = self._span(link)
        found = Claim(self.text[start:end], start, end, judgement.verdict, judgement.why)
        if link.left is None or link.right is None or self.tokens[link.relation].text not in "=≈":
            return found
        operands = tuple(node.value for node in nodes(link.left.node) if isinstance(node, Num))
        return replace(found, operands=operands, value=_number(link.left.node, {}), result=_number(link.right.node, {}))


def _inlined(found: list[Token]) -> list[Token]:
    """The tokens without the edges of inline mathematics that holds no claim of its own: it is part of the sentence."""
    dropped: set[int] = set()
    opened: int | None = None
    for at, token in enumerate(found):
        if token.kind != "edge":
            continue
        if token.tex and opened is None:
            opened = at
        elif opened is not None:
            inside = found[opened + 1 : at]
            relations = [k for k, each in enumerate(inside) if each.kind == "rel"]
            if not relations:
                dropped.update((opened, at))
            else:
                if relations[0] == 0:
                    dropped.add(opened)
                if relations[-1] == len(inside) - 1:
                    dropped.add(at)
            opened = None
    return [token for at, token in enumerate(found) if at not in dropped]


def read(passages: Sequence[str]) -> Iterator[list[Claim]]:
    """The claims of each passage of one solution, letters carried on from one to the next."""
    reader = Reader()
    for passage in passages:
        yield reader.read(passage)
