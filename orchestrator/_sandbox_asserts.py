"""Runs tests written in Python against a program, in two processes, so that it is not the program that compares.

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
import struct
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
    Unfit,
    Unusable,
    described,
    packed,
    raised,
    unpacked,
)

TOO_LONG = "it took too long"
ENDED = "the program has ended the process that starts it"
DOOR = "door"
"""Where a program's process connects to its judge, in the working folder."""
TOLD = 500
"""Characters of a line that tells why, at most 12 bytes each in JSON: the host reckons with 8192 bytes a test."""
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

    def __contains__(self, item: object) -> bool:
        """The program is not told what plain value is looked for: its items are."""
        return self._ask("contains", self, item) is True if isinstance(item, Remote) else any(x == item for x in self)

    def __next__(self) -> Any:
        return self._ask("next", self)

    def __instancecheck__(self, other: object) -> bool:
        return isinstance(other, Remote) and self._ask("isinstance", other, self) is True


def _own(*values: object) -> None:
    """Refuse an operation in which a program would be told a plain value, and could say what comes of comparing with it."""
    if not all(isinstance(each, Remote) for each in values):
        raise TypeError("the test computes with an object of the program's and plain data, or orders them")


def _forward(method: str, operation: str, *, own: bool = False) -> None:
    def forwarded(self: Remote, *args: object) -> Any:
        if own:
            _own(*args)
        return self._ask(operation, self, *args)

    setattr(Remote, method, forwarded)


for _name in ("len", "str", "repr", "bool", "abs", "int", "float", "neg", "getitem", "setitem", "delitem"):
    _forward(f"__{_name}__", _name)
for _name in ("lt", "le", "gt", "ge"):
    _forward(f"__{_name}__", _name, own=True)
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _forward(f"__{_name}__", f"{_name}_" if _name in ("and", "or") else _name, own=True)
    setattr(Remote, f"__r{_name}__", lambda self, other: _own(other))


class Made(type):
    """The class of classes that stand for exceptions of the program's: tests can catch these, and not make them.

    Or the name of a function, being such a class, could be called without the program.
    """

    def __call__(cls, *args: object, **names: object) -> Any:
        raise TypeError(f"the test calls {cls.__name__}, an exception of the program's")


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
            if isinstance(value, BaseException):  # it depends on the program whether there is one
                raise Unfit("the test gives the program an exception, which cannot be sent to it")
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
                    error = raised([str(kind) for kind in kinds], text, self.exceptions)
                    if isinstance(error, StopIteration) and operation != "next":  # it would end a loop of the test's
                        raise RuntimeError("the program raised StopIteration")
                    raise error
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


ALIASES = {"np": "numpy", "numpy": "numpy", "pytest": "pytest", "pd": "pandas", "pandas": "pandas"}
HELPERS = {
    **dict.fromkeys(("Counter", "OrderedDict", "defaultdict", "deque", "namedtuple", "ChainMap"), "collections"),
    **dict.fromkeys(("fabs", "fsum", "inf", "isclose", "isfinite", "isinf", "isnan", "nan", "pi"), "math"),
    **dict.fromkeys(("datetime", "timedelta", "timezone"), "datetime"),
    **dict.fromkeys(("allclose", "array_equal"), "numpy"),
    **dict.fromkeys(("approx", "raises"), "pytest"),
    "Decimal": "decimal",
    "Fraction": "fractions",
    "deepcopy": "copy",
}
"""Names that tests use to compare with what is expected, often without importing them as the program has, and their modules."""


def namespace(client: Client, offered: dict[str, Any], tree: ast.Module) -> dict[str, Any]:
    """What a test finds: the program's names, as remotes and plain values.

    Names of built-ins, `HELPERS`, `ALIASES` and modules of the standard library (`math.…`) are the judge's own, or `sorted`
    could be the program's to say what is sorted. One of the first two, one only, means the program's in a test that uses
    nothing else of it. Raises `TypeError` where there are more.
    """
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & offered.keys()
    own = {name: found for name in used if (found := judges(name, tree))}
    theirs = used - own.keys()
    if not theirs:
        theirs = {name for name, (_, module) in own.items() if not module and offered[name][0][0] != "module"}
        if len(theirs) > 1:
            raise TypeError(f"of the program the test uses nothing but its own {', '.join(sorted(theirs))}")
    names: dict[str, Any] = {"__name__": "test", **{name: found[0] for name, found in own.items()}}
    for name in theirs:
        kind, number = offered[name]
        match kind:
            case ["module", str(module)] if module.partition(".")[0] in sys.stdlib_module_names and "__" not in module:
                names[name] = importlib.import_module(module)
            case ["exception", [*kinds]] if type(exception(client, [str(each) for each in kinds])) is Made:
                names[name] = client.exceptions[str(kinds[0])]
            case _:
                names[name] = client.ask("value", client.remote(number))
    client.touched = any(
        not isinstance(names[name], Remote | type | type(sys)) for name in theirs
    )  # a plain value is asked for
    return names


def judges(name: str, tree: ast.Module) -> tuple[Any, bool] | None:
    """The judge's own meaning of a name in a test, and whether that is a module; None where it has none.

    A module of the standard library counts where the test uses an attribute that it has, for ``bisect(…)`` may be a program's.
    """
    module = ALIASES.get(name, "")
    if name in sys.stdlib_module_names:
        attributes = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
        }
        module = name if attributes and any(hasattr(importlib.import_module(name), each) for each in attributes) else ""
    if module:
        return importlib.import_module(module), True
    if name in HELPERS:
        return getattr(importlib.import_module(HELPERS[name]), name), False
    return (getattr(builtins, name), False) if hasattr(builtins, name) else None


def exception(client: Client, kinds: list[str]) -> type[BaseException]:
    """A class that stands for an exception of the program's, derived as that one is."""
    for name in reversed(kinds):
        if name not in client.exceptions:
            known = getattr(builtins, name, None)
            bases = [client.exceptions[each] for each in kinds[kinds.index(name) + 1 :] if each in client.exceptions]
            if isinstance(known, type) and issubclass(known, BaseException):
                client.exceptions[name] = known
            elif bases:
                made: Any = Made(name, (bases[0],), {})
                client.exceptions[name] = made
    return client.exceptions.get(kinds[0] if kinds else "", Exception)


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
        return False, str(error), client.touched, not (client.touched and isinstance(error, Unfit))
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
    """Forks a process with the program each time that it is asked, and tells its number. Forked before any test was read.

    The process connects to its judge. A socket made for it would have to be sent, and the kernel limits what all processes of
    a user have sent and not yet received: another program could use that up.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    while control.recv(1):
        child = os.fork()
        if child == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgid(0, 0)
            try:
                end = socket.socket(socket.AF_UNIX)
                end.connect(DOOR)
                Hosted(Line(end)).serve("candidate.py")
            finally:
                os._exit(0)
        control.sendall(child.to_bytes(WORD, "big"))
    os._exit(0)


def admitted(door: socket.socket, child: int) -> socket.socket:
    """The connection of this process. What else of the program's connects is turned away."""
    while True:
        end, _ = door.accept()
        if struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == child:
            end.settimeout(None)
            return end
        end.close()


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
    door = socket.socket(socket.AF_UNIX)
    door.bind(DOOR)
    door.listen()
    for end in (control, door):
        end.settimeout(max(seconds, 1.0))
    if os.fork() == 0:
        control.close()
        door.close()
        spawner(far)
    far.close()
    tests = json.load(sys.stdin)
    os.write(out := os.dup(1), b"ready\n")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):  # a test that prints does not print among the results
        os.dup2(null, fd)
    signal.signal(signal.SIGALRM, late)
    for test in tests:
        try:
            control.sendall(b"x")
            child = int.from_bytes(control.recv(WORD), "big")
            mine = admitted(door, child) if child else sys.exit(ENDED)
        except OSError:
            sys.exit(ENDED)
        passed, told, touched, unusable = judged(test, Line(mine), seconds)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(child, signal.SIGKILL)
        mine.close()
        os.write(out, json.dumps([passed, told[:TOLD], touched, unusable]).encode() + b"\n")


if __name__ == "__main__":
    main()
