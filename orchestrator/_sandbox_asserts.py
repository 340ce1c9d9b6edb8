"""Runs tests written in Python against a program, in two processes, so that the program cannot say that it passed.

`verifiers/code.py` runs this file in the sandbox, never imports it. The *judge* executes the tests. The program lives in a
process of its own, a fresh one for each test, which has never seen a test; in the judge each of its functions and classes is a
*remote*, which sends the call over, as data. What comes back is data again, so the judge compares plain values: an object that
claims to equal everything equals nothing here. The program cannot read the judge's memory, write to its output or trace it; it
can kill it, and then has failed.

Input: a JSON list of tests on standard input, ``candidate.py`` in the working folder, the seconds of one test as the argument.
Output: a line ``ready``, then for each test a JSON line ``[passed, told, touched, unusable]``, in order.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from reasonweave.orchestrator._sandbox_hosted import Hosted
from reasonweave.orchestrator._sandbox_wire import (
    CONFUSED,
    NONSENSE,
    WORD,
    Line,
    Lost,
    Unusable,
    described,
    packed,
    raised,
    unpacked,
)

TOO_LONG = "it took too long"
overdue = False
"""Whether the time of the test under way is over."""


class Late(BaseException):
    """The test's time is over."""


class Remote:
    """Something of the program's, seen from the judge."""

    __slots__ = ("_ask", "_number")

    def __init__(self, ask: Callable[..., Any], number: int) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._ask("setattr", self, name, value)

    def __call__(self, *args: object, **names: object) -> Any:
        return self._ask("call", self, *args, **names)

    def __eq__(self, other: object) -> Any:
        """Two of the program's own objects compare as it says. To what is not of the program none is equal."""
        return isinstance(other, Remote) and (self._number == other._number or bool(self._ask("eq", self, other)))

    def __ne__(self, other: object) -> Any:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._number)

    def __iter__(self) -> Iterator[Any]:
        items = self._ask("iter", self)
        while True:
            try:
                yield self._ask("next", items)
            except StopIteration:
                return

    def __next__(self) -> Any:
        return self._ask("next", self)

    def __instancecheck__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._ask("isinstance", other, self) is True


def _forward(method: str, operation: str, *, strict: bool = False, turned: bool = False) -> None:
    def forwarded(self: Remote, *args: object) -> Any:
        if strict and not all(isinstance(each, Remote) for each in args):
            return NotImplemented
        return self._ask(operation, *((*args, self) if turned else (self, *args)))

    setattr(Remote, method, forwarded)


for _name in ("len", "str", "repr", "bool", "abs", "int", "float", "neg", "getitem", "setitem", "delitem", "contains"):
    _forward(f"__{_name}__", _name)
for _name in ("lt", "le", "gt", "ge"):  # an order, like equality, is between two of the program's own
    _forward(f"__{_name}__", _name, strict=True)
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _operation = f"{_name}_" if _name in ("and", "or") else _name
    _forward(f"__{_name}__", _operation)
    _forward(f"__r{_name}__", _operation, turned=True)


class Client:
    """The judge's end of the line to one process of the program."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.remotes: dict[int, Remote] = {}
        self.functions: list[Callable[..., Any]] = []
        self.exceptions: dict[str, type[BaseException]] = {}
        self.touched = False

    def remote(self, number: object) -> Remote:
        if not isinstance(number, int):
            raise TypeError("no number")
        return self.remotes.setdefault(number, Remote(self.ask, number))

    def packed(self, value: object) -> Any:
        def other(value: object) -> list[Any]:
            if isinstance(value, Remote):
                return ["object", value._number]
            if getattr(builtins, getattr(value, "__name__", ""), None) is value:
                return ["builtin", getattr(value, "__name__", "")]
            if callable(value) and not isinstance(value, type):
                self.functions.append(value)
                return ["function", len(self.functions) - 1]
            raise Unusable(f"the test gives the program a {type(value).__name__}, which cannot be sent to it")

        return packed(value, other)

    def unpacked(self, form: Any) -> Any:
        def other(form: list[Any]) -> object:
            if form[0] == "object":
                return self.remote(form[1])
            raise ValueError(form[0])

        try:
            return unpacked(form, other)
        except CONFUSED:
            raise self.line.gone(NONSENSE) from None

    def ask(self, operation: str, /, *args: object, **names: object) -> Any:
        self.touched = True
        self.line.send(["ask", operation, self.packed(list(args)), self.packed(names)])
        while True:
            match self.line.receive():
                case ["value", form, after]:
                    renew(list(args), self.unpacked(after))
                    return self.unpacked(form)
                case ["raised", [*kinds], str(text)]:
                    raise raised([str(kind) for kind in kinds], text, self.exceptions)
                case ["back", int(number), args_, names_] if 0 <= number < len(self.functions):
                    self.call(self.functions[number], self.unpacked(args_), self.unpacked(names_))
                case _:
                    raise self.line.gone(NONSENSE)

    def call(self, function: Callable[..., Any], args: Any, names: Any) -> None:
        """A call from the program of a function of the test's."""
        try:
            self.line.send(["value", self.packed(function(*args, **names))])
        except Exception as error:
            self.line.send(["raised", *described(error)])


def renew(old: Any, new: Any) -> None:
    """Make the lists, sets and dicts that a call was given what the call has made of them."""
    if type(old) is not type(new) or isinstance(old, Remote):
        return
    if isinstance(old, list | tuple):
        kept = list(old)
        if isinstance(old, list):
            old[:] = new
        for i, (before, after) in enumerate(zip(kept, new, strict=False)):
            if isinstance(before, list | set | dict) and type(before) is type(after):
                renew(before, after)
                if isinstance(old, list):
                    old[i] = before
    elif isinstance(old, dict):
        kept_values = dict(old)
        old.clear()
        old.update(new)
        for key, before in kept_values.items():
            if key in old and isinstance(before, list | set | dict) and type(before) is type(old[key]):
                renew(before, old[key])
                old[key] = before
    elif isinstance(old, set | bytearray):
        old.clear()
        old.update(new) if isinstance(old, set) else old.extend(new)


def namespace(client: Client, offered: dict[str, Any], tree: ast.Module) -> dict[str, Any]:
    """What a test finds: the program's names, as remotes.

    The names of built-ins mean the program's only in a test that uses no other name of it, or `sorted` could be the program's
    to say what is sorted. Modules of the standard library are the judge's own.
    """
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    mine = {name for name in used & offered.keys() if not hasattr(builtins, name)}
    found: dict[str, Any] = {"__name__": "test"}
    plain = {name for name in mine if offered[name][0][0] != "module"}
    for name in used & offered.keys() if not plain else mine:
        kind, number = offered[name]
        match kind:
            case ["module", str(module)] if module.partition(".")[0] in sys.stdlib_module_names:
                found[name] = importlib.import_module(module)
            case ["exception", [*kinds]]:
                found[name] = exception(client, [str(each) for each in kinds])
            case _:
                found[name] = client.remote(number)
    return found


def exception(client: Client, kinds: list[str]) -> type[BaseException]:
    """A class that stands for an exception of the program's, derived as that one is."""
    for name in reversed(kinds):
        if name not in client.exceptions:
            known = getattr(builtins, name, None)
            bases = [client.exceptions[each] for each in kinds[kinds.index(name) + 1 :] if each in client.exceptions]
            if isinstance(known, type) and issubclass(known, BaseException):
                client.exceptions[name] = known
            elif bases:
                client.exceptions[name] = type(name, (bases[0],), {})
    return client.exceptions.get(kinds[0], Exception)


def tried(test: str, line: Line) -> tuple[bool, str, bool, bool]:
    """Run one test: passed, what to tell, whether it called the program, whether it cannot be run at all."""
    client = Client(line)
    try:
        tree = ast.parse(test)
        code = compile(tree, "test", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return False, f"{type(error).__name__}: {error}", False, True
    try:
        match line.receive():
            case ["ready", dict(offered)]:
                exec(code, namespace(client, offered, tree))
            case ["raised", [*kinds], str(text)]:
                return False, f"the program does not load: {kinds[0] if kinds else ''}: {text}", False, False
            case _:
                return False, NONSENSE, False, False
    except Unusable as error:
        return False, str(error), client.touched, True
    except (Lost, Late) as error:
        return False, str(error), client.touched, False
    except BaseException as error:
        kinds, text = described(error)
        return False, f"{kinds[0]}: {text}" if text else kinds[0], client.touched, False
    if line.lost:  # and the test has caught that
        return False, line.lost, client.touched, False
    return True, "passed", client.touched, False


# The processes


def spawner(control: socket.socket) -> None:
    """Forks a process with the program for each socket that it is sent, and tells its number. Forked before any test was read."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            os._exit(0)
        child = os.fork()
        if child == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)
            try:
                Hosted(Line(socket.socket(fileno=fds[0]))).serve("candidate.py")
            finally:
                os._exit(0)
        os.close(fds[0])
        control.sendall(child.to_bytes(WORD, "big"))


def late(number: int, frame: object) -> None:
    global overdue
    overdue = True
    signal.setitimer(signal.ITIMER_REAL, 0.05)  # again, should the test catch it
    raise Late(TOO_LONG)


def judged(test: str, line: Line, seconds: float) -> tuple[bool, str, bool, bool]:
    """`tried`, within its time."""
    global overdue
    overdue = False
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            result = tried(test, line)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        pass
    return (False, TOO_LONG, True, False) if overdue else result


def main() -> None:
    sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]  # there the program could leave modules
    hidden = ctypes.CDLL(None).prctl(
        4, 0, 0, 0, 0
    )  # PR_SET_DUMPABLE: nobody reads this process's memory, or has its files
    if hidden < 0:
        sys.exit("the judge could not be hidden")
    seconds = float(sys.argv[1])
    control, far = socket.socketpair()
    if os.fork() == 0:
        control.close()
        spawner(far)
    far.close()
    tests = json.load(sys.stdin)
    os.write(out := os.dup(1), b"ready\n")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):  # a test that prints does not print among the results
        os.dup2(null, fd)
    signal.signal(signal.SIGALRM, late)
    for test in tests:
        mine, theirs = socket.socketpair()
        try:
            socket.send_fds(control, [b"x"], [theirs.fileno()])
        except OSError:
            sys.exit("the program has ended the process that starts it")
        theirs.close()
        child = int.from_bytes(control.recv(WORD), "big")
        if not child:
            sys.exit("the program has ended the process that starts it")
        passed, told, touched, unusable = judged(test, Line(mine), seconds)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(child, signal.SIGKILL)
        mine.close()
        os.write(out, json.dumps([passed, told[:1000], touched, unusable]).encode() + b"\n")


if __name__ == "__main__":
    main()
