"""Tool calls as answers: what an agent's turn calls, read from the common formats, and when two turns call the same.

Read are ``<tool_call>{"name": …, "arguments": {…}}</tool_call>`` (Hermes, Qwen), JSON with a name and arguments (or parameters)
among other text, and OpenAI's ``{"function": {"name": …, "arguments": "…"}}``, also in a list or as a message's ``tool_calls``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from reasonweave.orchestrator.answers import after_thinking
from reasonweave.orchestrator.errors import BadInput

By: TypeAlias = Literal["name", "arguments"]

_TAG, _END = "<tool_call>", "</tool_call>"
_BETWEEN = re.compile(r"[\s,;]*")
_OBJECT = re.compile(r"(?:\[\s*){0,2}\{\s*[\"}]")
_CALL = re.compile(r"(?:\[\s*){0,2}\{\s*\"(?:name|arguments|parameters|function|tool_calls|id|type|index)\"")
_ARGUMENTS = "arguments", "parameters"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool: its name, and its arguments as JSON has them."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """An answer space in which the answer is what tools are called, as JSON text; so every vote works on agents' turns.

    Two answers are the same if they call the same tools; with `by` "arguments" (the default) with the same arguments too, but for
    those named in `excluded`. Arguments are compared as JSON values: the order of keys is irrelevant, 1 is 1.0 and not "1" or
    true, a missing key is not null. Several calls in a turn are compared as a multiset, with `ordered` in their order.

    A turn abstains if it calls nothing, or if one of its calls cannot be read: part of a turn would be another turn. Calls in the
    thinking do not count.

    >>> calls = ToolCalls(excluded=("reason",))
    >>> turn = 'Let me see. <tool_call>{"name": "add", "arguments": {"a": 1, "b": 2, "reason": "sum"}}</tool_call>'
    >>> calls.extract(turn)
    '{"name": "add", "arguments": {"a": 1, "b": 2, "reason": "sum"}}'
    >>> calls.same(calls.extract(turn), '[{"function": {"name": "add", "arguments": "{\\\\"b\\\\": 2.0, \\\\"a\\\\": 1}"}}]')
    True
    """

    by: By = "arguments"
    excluded: tuple[str, ...] = ()
    ordered: bool = False

    def __post_init__(self) -> None:
        if self.by not in ("name", "arguments"):
            raise BadInput(f"ToolCalls(by={self.by!r}): by is 'name' or 'arguments'")
        if isinstance(self.excluded, str) or not all(isinstance(name, str) for name in self.excluded):
            raise BadInput(f"ToolCalls(excluded={self.excluded!r}): give a tuple of names of arguments")

    def extract(self, text: str) -> str | None:
        """The calls of a turn in its own words: one as its JSON text, several as a JSON list."""
        said = after_thinking(text)
        try:
            found = _tagged(said) if _TAG in said else _bare(said)
        except (ValueError, RecursionError):
            return None
        if len(found) <= 1:
            return found[0] if found else None
        inner = [part[1:-1].strip() if part.startswith("[") else part for part in found]
        return f"[{', '.join(part for part in inner if part)}]"

    def canonical(self, answer: str) -> Hashable:
        return _canonical(self, answer)

    def same(self, a: str, b: str) -> bool:
        return self.canonical(a) == self.canonical(b)


def calls_in(text: str) -> tuple[ToolCall, ...]:
    """The calls of an answer, or of a whole turn, in their order; none where one of them cannot be read.

    >>> calls_in('{"name": "now", "arguments": {}}')
    (ToolCall(name='now', arguments={}),)
    """
    try:
        return tuple(_calls(_DECODER.decode(text.strip()), sure=True))
    except (ValueError, RecursionError):
        extracted = ToolCalls().extract(text)
        return tuple(_calls(_DECODER.decode(extracted), sure=True)) if extracted else ()


@lru_cache(maxsize=65_536)
def _canonical(space: ToolCalls, answer: str) -> Hashable:
    """The key of an answer; one that calls nothing is only like itself."""
    try:
        keys = [_call_key(space, call) for call in calls_in(answer)]
    except RecursionError:  # arguments within arguments, a thousand deep
        keys = []
    if not keys:
        return "none", answer.strip()
    return tuple(keys) if space.ordered else frozenset(Counter(keys).items())


def _call_key(space: ToolCalls, call: ToolCall) -> Hashable:
    if space.by == "name":
        return call.name
    return call.name, _key({name: value for name, value in call.arguments.items() if name not in space.excluded})


def _key(value: Any) -> Hashable:
    """A JSON value as something to compare and count by. Python calls True and 1 the same, JSON does not."""
    if isinstance(value, dict):
        return "object", frozenset([(name, _key(each)) for name, each in value.items()])
    if isinstance(value, list):
        return "list", tuple([_key(each) for each in value])
    return ("constant", value) if value is None or isinstance(value, bool) else value


def _tagged(text: str) -> list[str]:
    """The JSON texts in a turn's tags, the last of which may be left open. Raises ValueError for a tag without a call in it."""
    found: list[str] = []
    at = 0
    while (start := text.find(_TAG, at)) >= 0:
        before = len(found)
        at = _skip(text, start + len(_TAG))
        while at < len(text) and not text.startswith((_END, _TAG), at):
            value, end = _DECODER.raw_decode(text, at)
            if not _calls(value, sure=True):
                raise ValueError("no call in a tag")
            found.append(text[at:end])
            at = _skip(text, end)
        if len(found) == before:
            raise ValueError("an empty tag")
    return found


def _bare(text: str) -> list[str]:
    """The JSON texts of calls in a text without tags; other JSON in it is passed over. Raises ValueError for a broken call."""
    found: list[str] = []
    at = 0
    while match := _OBJECT.search(text, at):
        try:
            value, at = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            if _CALL.match(text, match.start()):
                raise
            at = match.end()
        else:
            if _calls(value, sure=False):
                found.append(text[match.start() : at])
    return found


def _calls(value: Any, *, sure: bool) -> list[ToolCall]:
    """The calls that a JSON value is; none where it is something else. Raises ValueError for one that cannot be made.

    `sure` says that a call is expected here, so that a name alone is one.
    """
    if isinstance(value, list):
        each = [_calls(item, sure=sure) for item in value]
        if any(each) and not all(each):
            raise ValueError("a list of calls and other things")
        return [call for some in each for call in some]
    if not isinstance(value, dict):
        return []
    if isinstance(listed := value.get("tool_calls"), list):
        return _calls(listed, sure=True)
    if isinstance(function := value.get("function"), dict):
        value, sure = function, True
    given = next((key for key in _ARGUMENTS if key in value), None)
    described = given == "parameters" and "description" in value  # a tool's own description, quoted
    if "name" not in value or described or (given is None and not sure):
        return []
    name, arguments = value["name"], value[given] if given else None
    if isinstance(arguments, str):
        arguments = _DECODER.decode(arguments) if arguments.strip() else None
    arguments = {} if arguments is None else arguments
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError("a call without a name, or whose arguments are no object")
    return [ToolCall(name, arguments)]


def _skip(text: str, at: int) -> int:
    """Where the next thing stands, after what may separate two calls."""
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_constant)
