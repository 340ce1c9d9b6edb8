"""One side of a claim, read by recursive descent: from tokens to a small tree. Nothing is ever evaluated as code."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from reasonweave.verifiers._claims_tokens import Token
from reasonweave.verifiers._claims_tree import Call, Member, Name, Node, Num, Op
from reasonweave.verifiers._claims_words import (
    FUNCTIONS,
    OPERATORS,
    PERCENT,
    POWERS,
    SCALES,
    TWO_WORD_OPERATORS,
    UNIT_ENDS,
    stem,
)

DEEPEST = 40
"""How deep brackets may be nested."""


class Unread(Exception):
    """What stands at a token cannot be read."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


class Exhausted(Exception):
    """The work that a text may cost is done."""


class Work:
    """How much may still be done for a text: a bound on everything, so that nothing hangs."""

    def __init__(self, left: int = 60_000) -> None:
        self.left = left

    def spend(self, amount: int = 1) -> None:
        """Raises `Exhausted` where nothing is left."""
        self.left -= amount
        if self.left < 0:
            raise Exhausted


_FRACTIONS = frozenset({"frac", "dfrac", "tfrac", "cfrac"})
_BINOMIALS = frozenset({"binom", "dbinom", "tbinom"})
_ACCENTS = frozenset({"overline", "bar", "hat", "vec", "tilde", "widehat"})
_NOT_HERE = frozenset({"rfloor", "rceil", "rvert", "pmod", "pod", "infty", "circ", "prime", "mathcal", "mathbb"})
_LISTS = frozenset({"gcd", "lcm", "max", "min"})
_EACH = frozenset({"of", "a", "an", "each", "every"})
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_FUNCTION_LETTERS = frozenset("fghpquvABCDEFGHIJKLMNOPQRSTUVWXYZφψΓΦ")


class Parser:
    """Reads a member from a token on, as far as it goes."""

    def __init__(self, tokens: Sequence[Token], work: Work) -> None:
        self.tokens, self.work = tokens, work
        self.at, self.stop, self.depth = 0, 0, 0
        self.doubts: list[str] = []
        self.units: set[str] = set()

    def member(self, start: int, stop: int) -> Member:
        """The longest member that begins at `start`, before `stop`. Raises `Unread` where none begins there."""
        self.at, self.stop, self.depth = start, stop, 0
        self.doubts, self.units = [], set()
        node = self._sum()
        return Member(node, start, self.at, tuple(self.doubts), frozenset(self.units))

    def _token(self, ahead: int = 0) -> Token | None:
        at = self.at + ahead
        return self.tokens[at] if at < self.stop else None

    def _doubt(self, why: str) -> None:
        if why not in self.doubts:
            self.doubts.append(why)

    def _sum(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unread(self.at)
        outer, self.units = self.units, set()
        node = self._term()
        before = set(self.units)
        while (token := self._token()) is not None:
            symbol = (
                token.text
                if token.kind == "op"
                else OPERATORS.get(token.text.lower())
                if token.kind == "word"
                else None
            )
            tight = not token.gap and (ahead := self._token(1)) is not None and not ahead.gap
            if symbol == "–":
                symbol = "-"
                if tight:
                    self._doubt("the dash may be a range's")
            if symbol not in ("+", "-", "mod"):
                break
            at, self.units = self.at, set()
            self.at += 1
            try:
                right = self._term()
            except Unread as failed:
                if failed.at > at + 1:
                    raise
                self.at = at  # a dash or a word that belongs to the text after it
                break
            if (
                symbol == "-"
                and tight
                and not token.tex
                and isinstance(node, Num)
                and isinstance(right, Num)
                and node < right
            ):
                self._doubt("the dash may be a range's")
            if symbol == "mod" and not isinstance(node, Num | Name):
                self._doubt("what mod applies to is not clear")
            if before and self.units and not before & self.units:
                self._doubt("its units differ")
            before |= self.units
            node = Op(symbol, node, right)
        self.units = outer | before
        self.depth -= 1
        return node

    def _term(self) -> Node:
        node = self._signed()
        divided = False
        while (token := self._token()) is not None:
            symbol, length = self._times(token, node)
            if symbol is None:
                break
            at, before, self.units = self.at, self.units, set()
            self.at += length
            try:
                right = self._signed() if length else self._power()
            except Unread as failed:
                if failed.at > at + length or not length:
                    raise
                self.at, self.units = at, before
                break
            self.units = set() if symbol == "/" and before == self.units else before | self.units
            if not length and divided:
                self._doubt("what is divided is not clear")
            if symbol == "/" and divided:
                self._doubt("which division comes first is not clear")
            divided = divided or symbol == "/"
            node = Op(symbol, node, right)
        return node

    def _times(self, token: Token, node: Node) -> tuple[str | None, int]:
        """Which multiplication goes on here, if any, and how many tokens it is."""
        kind, text = token.kind, token.text
        if kind == "op":
            return (text, 1) if text in ("*", "/") else ("*", 0) if text == "√" and not token.gap else (None, 0)
        if kind == "word":
            if text == "times":
                return "*", 1
            after = self._token(1)
            if after is not None and (symbol := TWO_WORD_OPERATORS.get((text.lower(), after.text.lower()))):
                return symbol, 2
            if text == "of" and after is not None and after.kind in ("num", "currency", "func", "open", "name"):
                self._of(node)
                return "*", 1
            return None, 0
        if kind == "func":
            return (None, 0) if text in _NOT_HERE or (token.gap and not token.tex) else ("*", 0)
        if kind == "open" and (after := self._token(1)) is not None and after.text in ("mod", "modulo"):
            return None, 0
        if kind == "name" or (kind == "open" and text in _CLOSES and (token.tex or not token.gap)):
            return "*", 0
        return None, 0

    def _of(self, node: Node) -> None:
        fraction = (
            isinstance(node, Op) and node.symbol == "/" and isinstance(node.left, Num) and isinstance(node.right, Num)
        )
        decimal = isinstance(node, Num) and (node.places > 0 or node.value.denominator > 1)
        if not (fraction or decimal or (isinstance(node, Call) and node.name == "%")):
            self._doubt("“of” may mean something else")

    def _signed(self) -> Node:
        token = self._token()
        if token is not None and token.kind == "op" and token.text in ("-", "+"):
            self.work.spend()
            self.depth += 1
            if self.depth > DEEPEST:
                raise Unread(self.at)
            self.at += 1
            node = self._signed()
            self.depth -= 1
            if token.text == "+":
                return node
            if isinstance(node, Op) and node.symbol == "^" and isinstance(node.left, Num):
                self._doubt("the sign may belong to the base")
            return Call("neg", (node,))
        return self._power()

    def _power(self) -> Node:
        node = self._postfix(self._atom())
        token = self._token()
        while token is not None and token.kind == "op" and token.text == "^":
            at = self.at
            self.at += 1
            node = Call("deg", (node,)) if self._degree() else self._raised(node, at)
            node = self._postfix(node)
            token = self._token()
        if token is not None and token.kind == "word" and (exponent := POWERS.get(token.text.lower())):
            self.at += 1
            if isinstance(node, Num) or self.tokens[self.at - 2].kind == "close":
                return Op("^", node, Num(Fraction(exponent)))
            self._doubt("what is raised is not clear")
        return node

    def _degree(self) -> bool:
        """Is this exponent TeX's degree sign?"""
        token, after = self._token(), self._token(1)
        if token is not None and token.text in ("circ", "°"):
            self.at += 1
            return True
        if token is not None and token.text == "{" and after is not None and after.text in ("circ", "°"):
            closing = self._token(2)
            if closing is not None and closing.text == "}":
                self.at += 3
                return True
        return False

    def _raised(self, node: Node, at: int) -> Node:
        token = self._token()
        if token is None:
            raise Unread(at)
        if token.tex and token.kind == "num" and len(token.text) > 1:
            self._doubt("the exponent is not clear")
        if token.kind == "op" and token.text == "-":
            self.at += 1
            exponent: Node = Call("neg", (self._atom(),))
        else:
            exponent = self._atom()
        after = self._token()
        if after is not None and after.kind == "op" and after.text == "^":
            self.at += 1
            exponent = self._raised(exponent, self.at)
        if isinstance(node, Name) and after is not None and after.text == "(" and not after.gap:
            self._doubt(f"{node.text} may be a function")
        return Op("^", node, exponent)

    def _postfix(self, node: Node) -> Node:
        while (token := self._token()) is not None:
            if token.kind == "op" and token.text in ("%", "!", "°"):
                self.at += 1
                node = Call({"°": "deg"}.get(token.text, token.text), (node,))
            elif token.kind == "word" and token.text.lower() in PERCENT:
                self.at += 1
                node = Call("%", (node,))
            elif (token.kind == "word" or token.text in ("/", "-")) and self._unit(token):
                pass
            else:
                break
        return node

    def _unit(self, token: Token) -> bool:
        """Take words after a quantity as its unit, up to four of them, with what they are counted by: "miles per hour"."""
        last = self.tokens[self.at - 1]
        if last.kind not in ("num", "close", "word", "currency") and last.text not in ("%", "°"):
            return False
        began = self.at
        while (here := self._token()) is not None and self.at < began + 6:
            word, after = here.text.lower(), self._token(1)
            another = after is not None and after.kind == "word" and after.text.lower() not in UNIT_ENDS
            if another and after is not None and self._joins(here, after, self.at > began):
                self.at += 1
            elif here.kind == "word" and self._plain(word, after):
                if word in SCALES:
                    self._doubt("a word multiplies its number")
                self.units.add(stem(word))
                self.at += 1
                self._unit_power()
            else:
                break
        return self.at > began

    def _joins(self, here: Token, after: Token, begun: bool) -> bool:
        """Does this join two words of a unit: "miles per hour", "hours/day", "30-minute"?"""
        if here.kind == "word":
            return here.text.lower() == "per" or (here.text.lower() in _EACH and begun)
        return here.text == "/" or (here.text == "-" and not here.gap and not after.gap)

    def _plain(self, word: str, after: Token | None) -> bool:
        pair = (word, after.text.lower() if after is not None else "")
        return word not in UNIT_ENDS | OPERATORS.keys() | POWERS.keys() | PERCENT and pair not in TWO_WORD_OPERATORS

    def _unit_power(self) -> None:
        """The exponent of a unit: "cm^2"."""
        token, after = self._token(), self._token(1)
        if token is None or token.text != "^" or after is None:
            return
        if after.kind == "num":
            self.at += 2
        elif after.text == "{" and (closing := self._token(3)) is not None and closing.text == "}":
            self.at += 4

    def _atom(self) -> Node:
        self.work.spend()
        token = self._token()
        if token is None:
            raise Unread(self.at)
        at = self.at
        match token.kind:
            case "num":
                self.at += 1
                return self._number(token)
            case "currency":
                return self._money(token)
            case "name":
                self.at += 1
                return self._named(token)
            case "open" if token.text in _CLOSES:
                return self._group(token)
            case "func":
                return self._function(token)
            case "op" if token.text == "√":
                self.at += 1
                return Call("sqrt", (self._atom(),))
            case "bar":
                self.at += 1
                inner = self._sum()
                self._expect("|")
                return Call("abs", (inner,))
            case "word" if token.text == "sqrt":
                return self._function(token)
            case "word" if token.text in FUNCTIONS and (after := self._token(1)) is not None and after.text == "(":
                return self._function(token)
            case "word" if token.gap and self.tokens[at - 1].tex and token.text[0].isalpha() and not token.tex:
                raise Unread(at)
            case _:
                raise Unread(at)

    def _expect(self, text: str) -> None:
        token = self._token()
        if token is None or token.text != text:
            raise Unread(self.at)
        self.at += 1

    def _number(self, token: Token) -> Node:
        assert token.value is not None
        after, base = self._token(), self._token(1)
        if after is not None and after.kind == "op" and after.text == "_" and base is not None:
            if base.text == "{" and (inner := self._token(2)) is not None and (closing := self._token(3)) is not None:
                if inner.kind == "num" and closing.text == "}":
                    self.at += 4
                    return self._in_base(token, inner)
            elif base.kind == "num":
                self.at += 2
                return self._in_base(token, base)
            raise Unread(self.at)
        if after is not None and after.kind == "currency" and not after.gap and after.text != "$":
            self.at += 1
            self.units.add(after.text)
        whole = Num(token.value, token.places)
        return whole if token.places or after is None or not token.text.isdigit() else self._mixed(whole, after)

    def _mixed(self, whole: Num, after: Token) -> Node:
        """A whole number with a fraction right after it: ½, TeX's, or after a blank one such as 1/2."""
        if after.kind == "num" and after.value is not None and after.value.denominator > 1 and not after.places:
            self.at += 1
            return Num(whole.value + after.value)
        if after.kind == "func" and after.text in _FRACTIONS:
            fraction = self._function(after)
            plain = isinstance(fraction, Op) and isinstance(fraction.left, Num) and isinstance(fraction.right, Num)
            return Call("mixed", (whole, fraction)) if plain else Op("*", whole, fraction)
        slash, below = self._token(1), self._token(2)
        if after.kind == "num" and after.gap and slash is not None and slash.text == "/" and not slash.gap:
            over, under = after.value, below.value if below is not None else None
            if over is not None and under is not None and over < under:
                self.at += 3
                return Call("mixed", (whole, Op("/", Num(over), Num(under))))
        return whole

    def _in_base(self, token: Token, base: Token) -> Node:
        try:
            return Call("base", (Num(Fraction(int(token.text, int(base.text)))),))
        except ValueError:
            raise Unread(self.at) from None

    def _money(self, token: Token) -> Node:
        self.at += 1
        sign = self._token()
        if sign is not None and sign.text == "-":
            self.at += 1
        number = self._token()
        if number is None or number.kind != "num":
            raise Unread(self.at)
        self.units.add("$" if token.text in ("$", "\\$") else token.text)
        self.at += 1
        node = self._number(number)
        return Call("neg", (node,)) if sign is not None and sign.text == "-" else node

    def _group(self, token: Token) -> Node:
        self.at += 1
        if token.text == "[":
            self._doubt("square brackets may round down")
        first, closing = self._token(), self._token(1)
        if (
            first is not None
            and closing is not None
            and closing.text in (")", "]")
            and first.end - first.start > len(first.text) + 1
        ):
            raise Unread(self.at)  # (378,315) may be a pair
        inner = self._sum()
        self._expect(_CLOSES[token.text])
        return inner

    def _named(self, token: Token) -> Node:
        """A letter, with its index; and opaque, with its argument, where it is or may be a function."""
        text = token.text
        while (after := self._token()) is not None and after.kind == "op" and after.text in ("_", "'"):
            self.at += 1
            if after.text == "'":
                text += "'"
                continue
            text += "_" + self._raw()
        if after is not None and after.text == "(" and (not after.gap or after.tex) and self._is_function(token.text):
            return Name(text + self._raw())
        return Name(text)

    def _raw(self) -> str:
        """The text of the next token or group, as it is."""
        began, depth = self.at, 0
        while (token := self._token()) is not None:
            self.work.spend()
            depth += (token.kind == "open") - (token.kind == "close")
            self.at += 1
            if depth <= 0:
                return "".join(each.text for each in self.tokens[began : self.at])
        raise Unread(began)

    def _is_function(self, letter: str) -> bool:
        """Is a letter before a bracket a function's name? Some always are, others where it holds one number or letter."""
        if letter in _FUNCTION_LETTERS:
            return True
        k, depth, count, comma = 0, 0, 0, False
        while (token := self._token(k)) is not None:
            depth += (token.kind == "open") - (token.kind == "close")
            comma = comma or token.kind == "comma"
            count += token.kind not in ("open", "close") and token.text not in ("-", "+")
            k += 1
            if depth == 0:
                break
        return count <= 1 or comma

    def _function(self, token: Token) -> Node:
        name, at = token.text, self.at
        self.at += 1
        if name == "pi":
            return Call("pi", ())
        if name in ("boxed", "fbox"):
            return self._group(self._brace())
        if name in _FRACTIONS:
            return Op("/", self._argument(), self._argument())
        if name in _BINOMIALS:
            return Call("binom", (self._argument(), self._argument()))
        if name == "sqrt":
            return self._root()
        if name in ("lfloor", "lceil", "lvert"):
            inner = self._sum()
            self._expect({"lfloor": "rfloor", "lceil": "rceil", "lvert": "rvert"}[name])
            return Call({"lfloor": "floor", "lceil": "ceil", "lvert": "abs"}[name], (inner,))
        if name == "vert":
            inner = self._sum()
            self._expect("vert")
            return Call("abs", (inner,))
        if name in ("angle", "triangle"):
            return self._prefixed(name, at)
        if name in _ACCENTS:
            return Name(name + self._raw())
        if name in _LISTS:
            return self._list(name)
        if name in FUNCTIONS:
            return self._applied(name)
        raise Unread(at)

    def _brace(self) -> Token:
        token = self._token()
        if token is None or token.text not in ("{", "("):
            raise Unread(self.at)
        return token

    def _argument(self) -> Node:
        """A TeX argument: a group in braces, or one token."""
        token = self._token()
        if token is not None and token.text == "{":
            return self._group(token)
        if token is None or token.kind not in ("num", "name", "func"):
            raise Unread(self.at)
        return self._atom()

    def _root(self) -> Node:
        token = self._token()
        if token is not None and token.text == "[":
            self.at += 1
            degree = self._sum()
            self._expect("]")
            return Call("root", (self._argument(), degree))
        if token is not None and token.text == "(":
            return Call("sqrt", (self._group(token),))
        return Call("sqrt", (self._argument(),))

    def _prefixed(self, name: str, at: int) -> Node:
        """An angle or a triangle, with the letters that name it."""
        began = self.at
        while (token := self._token()) is not None and token.kind == "name":
            self.at += 1
        if self.at == began:
            raise Unread(at)
        return Name(name + "".join(each.text for each in self.tokens[began : self.at]))

    def _list(self, name: str) -> Node:
        began = self.at
        self._expect("(")
        items = [self._sum()]
        while (token := self._token()) is not None and token.kind == "comma":
            self.at += 1
            items.append(self._sum())
        self._expect(")")
        if any(each.kind == "num" and each.end - each.start > len(each.text) for each in self.tokens[began : self.at]):
            raise Unread(began)  # 378,315 may be two numbers here
        return Call(name, tuple(items))

    def _applied(self, name: str) -> Node:
        """A function with or without brackets, a power on its name, a base under it."""
        power: Node | None = None
        base: Node | None = None
        while (token := self._token()) is not None and token.kind == "op" and token.text in ("^", "_"):
            self.at += 1
            if token.text == "^":
                power = self._atom()
            else:
                base = self._atom()
        if power is not None and not (isinstance(power, Num) and power.value > 0):
            raise Unread(self.at)
        inner = self._group(token) if token is not None and token.text == "(" else self._bracketless()
        if name in ("log", "lg") and base is not None:
            node: Node = Call("log", (inner, base))
        elif base is not None:
            raise Unread(self.at)
        else:
            node = Call(name, (inner,))
        return Op("^", node, power) if power is not None else node

    def _bracketless(self) -> Node:
        """The argument of a function without brackets: a product of numbers, letters and fractions, as in sin 2x."""
        node = self._power()
        while (token := self._token()) is not None:
            more = token.kind == "name" or (token.kind == "func" and token.text in {"pi", *_FRACTIONS})
            if not more or (token.gap and not token.tex):
                break
            node = Op("*", node, self._power())
        if token is not None and (token.text == "/" or token.kind == "open"):
            self._doubt("where the argument ends is not clear")
        return node
