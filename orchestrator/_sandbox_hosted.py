"""The program's side of its tests: calls what the judge asks for, in the program's own process, and is trusted as little as it.

Like `_sandbox_asserts.py`, this runs in the sandbox, on what an interpreter brings along.
"""

from __future__ import annotations

import builtins
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

from reasonweave.orchestrator._sandbox_wire import Line, Lost, Unusable, described, lineage, packed, raised, unpacked

OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda what, /, *args, **names: what(*args, **names),
    "getattr": getattr,
    "setattr": setattr,
    "isinstance": isinstance,
    "value": lambda value: value,
    **{name: getattr(builtins, name) for name in ("iter", "next", "len", "str", "repr", "bool", "hash", "abs", "int", "float")},
    **{
        name: getattr(operator, name)
        for name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
    },
    **{name: getattr(operator, name) for name in ("neg", "getitem", "setitem", "delitem", "contains", "and_", "or_", "xor")},
}  # fmt: skip
"""What a judge may ask for."""


class Hosted:
    """Serves the program's functions: runs in the program's process, and is as little trusted as the program."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.objects: list[object] = []
        self.numbers: dict[int, int] = {}

    def serve(self, path: str) -> None:
        sys.modules["candidate"] = module = type(sys)("candidate")
        scope = module.__dict__
        try:
            with open(path, encoding="utf-8") as file:
                exec(compile(file.read(), path, "exec"), scope)
        except BaseException as error:
            self.line.send(["raised", *described(error)])
            return
        names = {name: self.kind(value) for name, value in list(scope.items()) if not name.startswith("__")}
        self.line.send(["ready", {name: [kind, self.number(scope[name])] for name, kind in names.items()}])
        while True:
            self.answer(self.line.receive())

    def kind(self, value: object) -> Any:
        if isinstance(value, type(sys)):
            return ["module", value.__name__]
        if isinstance(value, type) and issubclass(value, BaseException):
            return ["exception", lineage(value)]
        return ["object"]

    def number(self, value: object) -> int:
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return self.numbers[id(value)]

    def packed(self, value: object) -> Any:
        return packed(value, lambda other: ["object", self.number(other)])

    def unpacked(self, form: Any) -> Any:
        def other(form: list[Any]) -> object:
            kind, which = form
            if kind == "builtin":
                return getattr(builtins, which)
            return self.objects[which] if kind == "object" else self.back(which)

        return unpacked(form, other)

    def back(self, number: int) -> Callable[..., Any]:
        """A function of the test's, to be called from here."""

        def call(*args: object, **names: object) -> Any:
            self.line.send(["back", number, self.packed(list(args)), self.packed(names)])
            while (reply := self.line.receive())[0] not in ("value", "raised"):
                self.answer(reply)
            if reply[0] == "raised":
                raise raised(reply[1], reply[2])
            return self.unpacked(reply[1])

        return call

    def answer(self, message: list[Any]) -> None:
        _, name, args, names = message
        try:
            values, named = self.unpacked(args), self.unpacked(names)
            result = self.packed(OPERATIONS[name](*values, **named))
            self.line.send(["value", result, self.packed(values)])
        except Lost:
            os._exit(0)
        except Unusable as error:
            self.line.send(["raised", ["ValueError"], f"the program gave {error}"])
        except BaseException as error:
            self.line.send(["raised", *described(error)])
