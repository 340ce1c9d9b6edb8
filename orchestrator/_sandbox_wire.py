"""How a judge and a program, in two processes, speak with each other: messages, values as data, exceptions.

Like `_sandbox_asserts.py`, this runs in the sandbox, on what an interpreter brings along.
"""

from __future__ import annotations

import builtins
import importlib
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

WORD = 8
MOST = 16 << 20
"""The most bytes of one message."""
NONSENSE = "the program sent nonsense"


class Lost(BaseException):
    """The program is gone, or talks nonsense. No test's ``except Exception`` catches it."""


class Unusable(BaseException):
    """The test asks for what cannot be sent to another process."""


class Unfit(Unusable):
    """So it does, but the program may have brought that about: with a value nearly too large, say."""


class Line:
    """Messages over a socket: a length, then JSON. `lost` says why there are no more."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.lost = ""

    def gone(self, why: str) -> Lost:
        self.lost = self.lost or why
        return Lost(self.lost)

    def send(self, message: object) -> None:
        content = json.dumps(message).encode()
        if len(content) > MOST:
            raise Unfit("a value of more than 16 MiB")
        try:
            self.end.sendall(len(content).to_bytes(WORD, "big") + content)
        except OSError:
            raise self.gone("the program ended") from None

    def receive(self) -> Any:
        size = int.from_bytes(self._read(WORD), "big")
        if size > MOST:
            raise self.gone("the program sent a value of more than 16 MiB")
        try:
            return json.loads(self._read(size))
        except (ValueError, RecursionError):
            raise self.gone(NONSENSE) from None

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self.end.recv(min(size - len(parts), 1 << 16))
            except OSError:
                part = b""
            if not part:
                raise self.gone("the program ended")
            parts += part
        return bytes(parts)


# Values as data


def packed(value: Any, other: Callable[[Any], Any], depth: int = 0) -> Any:
    """A value as JSON: a plain number, text, True, False or None as it is, everything else as a list that begins with its kind.

    Values of derived classes (a Counter, a named tuple) go as their base's. What has no form here is left to `other`.
    """
    if value is None or value is True or value is False or type(value) is str:
        return value
    if depth > 200:
        raise Unfit("a value nested more than 200 deep")

    def each(items: Iterable[object]) -> list[Any]:
        return [packed(item, other, depth + 1) for item in items]

    kind = type(value)
    if isinstance(value, int):
        number = int.__index__(value)
        return number if -(1 << 53) < number < 1 << 53 else ["int", hex(number)]
    if isinstance(value, float):
        return ["float", float.__repr__(value)]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list):
        return ["list", each(list.__iter__(value))]
    if isinstance(value, tuple):
        return ["tuple", each(tuple.__iter__(value))]
    if isinstance(value, dict):
        return ["dict", [each(pair) for pair in dict.items(value)]]
    if isinstance(value, frozenset):
        return ["frozenset", each(frozenset.__iter__(value))]
    if isinstance(value, set):
        return ["set", each(set.__iter__(value))]
    if isinstance(value, bytes | bytearray):
        return [kind.__name__ if kind in (bytes, bytearray) else "bytes", bytes(value).hex()]
    if isinstance(value, complex):
        return ["complex", repr(value.real), repr(value.imag)]
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        plain = packed(value.tolist(), other, depth)
        return ["array", str(getattr(value, "dtype", "")), plain] if kind.__name__ == "ndarray" else plain
    if kind is range:
        return ["range", *each((value.start, value.stop, value.step))]
    if (kind.__module__, kind.__name__) in TEXTUAL:
        return ["text", kind.__module__, kind.__name__, TEXTUAL[kind.__module__, kind.__name__][0](value)]
    if (kind.__module__, kind.__name__) == ("collections", "deque"):
        return ["deque", each(value), packed(value.maxlen, other)]
    if (kind.__module__, kind.__name__) == ("datetime", "timedelta"):
        return ["timedelta", value.days, value.seconds, value.microseconds]
    return other(value)


def _iso(value: Any) -> str:
    return str(value.isoformat())


TEXTUAL: dict[tuple[str, str], tuple[Callable[[object], str], str]] = {
    ("fractions", "Fraction"): (str, ""),
    ("decimal", "Decimal"): (str, ""),
    ("datetime", "date"): (_iso, "fromisoformat"),
    ("datetime", "datetime"): (_iso, "fromisoformat"),
    ("datetime", "time"): (_iso, "fromisoformat"),
}
"""Classes that go as texts: how one is written, and the class's method that reads it ("" its constructor)."""


def unpacked(form: Any, other: Callable[[list[Any]], object]) -> Any:
    """The value of a form that `packed` made. Raises what comes where it is none: see `CONFUSED`."""
    if not isinstance(form, list):
        return form
    kind, *rest = form

    def each(forms: Iterable[Any]) -> Iterator[Any]:
        return (unpacked(item, other) for item in forms)

    match kind:
        case "int":
            return int(rest[0], 16)
        case "float":
            return float(rest[0])
        case "list":
            return list(each(rest[0]))
        case "tuple":
            return tuple(each(rest[0]))
        case "dict":
            return dict(tuple(each(pair)) for pair in rest[0])
        case "set":
            return set(each(rest[0]))
        case "frozenset":
            return frozenset(each(rest[0]))
        case "bytes":
            return bytes.fromhex(rest[0])
        case "bytearray":
            return bytearray.fromhex(rest[0])
        case "complex":
            return complex(float(rest[0]), float(rest[1]))
        case "range":
            return range(*each(rest))
        case "text":
            module, name, text = rest
            reader = TEXTUAL[module, name][1]
            whole = getattr(importlib.import_module(module), name)
            return (getattr(whole, reader) if reader else whole)(text)
        case "deque":
            return importlib.import_module("collections").deque(each(rest[0]), rest[1])
        case "array":
            return importlib.import_module("numpy").array(unpacked(rest[1], other), rest[0])
        case "timedelta":
            return importlib.import_module("datetime").timedelta(*rest)
    return other(form)


CONFUSED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, ImportError)
"""What reading a form raises that is none."""


def lineage(kind: type) -> list[str]:
    return [each.__name__ for each in kind.__mro__]


def described(error: BaseException) -> tuple[list[str], str]:
    """An exception as its classes' names and its text."""
    try:
        return lineage(type(error)), str(error)[:1000]
    except BaseException:
        return lineage(type(error)), ""


def raised(names: list[str], text: str, made: dict[str, type[BaseException]] | None = None) -> BaseException:
    """An exception of the first of these classes that is known here."""
    for name in names:
        kind = (made or {}).get(name) or getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            if issubclass(kind, UnicodeError) and kind is not UnicodeError:  # these take five arguments
                continue
            return type.__call__(kind, text)  # type: ignore[no-any-return]  # not `Made.__call__`, which is for tests
    return RuntimeError(text)
