"""A sandbox for programs that nobody has read: no network, no files but a scratch folder, limits on all they use.

    ran = await Sandbox().run("print(6 * 7)")
    ran.verdict, ran.stdout                               # (Verdict.OK, "42\\n")

Linux namespaces hold it, with a filter of system calls and resource limits: nothing needs root, and nothing is installed.
`Sandbox.probe` tries what it relies on. Where something is missing, `run` refuses, unless the user says ``unsafe=True``.
What it does not protect against is in docs/verifiers/code.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import os
import re
import signal
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from reasonweave.orchestrator._sandbox_host import SCRATCH, Ended, Leash, interpreter, pool, supervised, view
from reasonweave.orchestrator.errors import BadInput

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": SCRATCH, "TMPDIR": SCRATCH, "LANG": "C.UTF-8", "USER": "program",
    "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1",
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
}  # fmt: skip
"""All that a program's environment holds by default. With the hash seed set, sets come in the same order each time."""
_NO_MEMORY = re.compile(r"[\w.]*MemoryError\b")


class Verdict(StrEnum):
    """How a program ended."""

    OK = "ok"
    """With exit status 0."""
    FAILED = "failed"
    """With another exit status; or stopped, as it could not be watched."""
    CRASHED = "crashed"
    """By a signal."""
    TIMEOUT = "timeout"
    """Stopped: too many seconds, by the clock or of processor time."""
    MEMORY = "memory"
    """Stopped: too much memory; or ended by itself with a ``MemoryError``."""
    PROCESSES = "processes"
    """Stopped: too many processes and threads."""
    OUTPUT = "output"
    """Stopped: wrote too much."""
    DISK = "disk"
    """Failed, its scratch folder being full."""
    NOT_RUN = "not run"
    """The sandbox could not be started, or was ended from outside: nothing is known of the program."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; `memory`, `output` and `disk` in bytes.

    `seconds` go by the clock, from the program's start; `cpu` seconds are processor time of all its processes together, None
    being as many as `seconds`. `memory` is the address space of each process, and what is seen of all of them together, a
    hundred times a second; docs/verifiers/code.md says what is not seen. `processes` counts threads too. `output` is for
    standard output and standard error each. `disk` is the size of the scratch folder, which lies in memory and is not
    counted there.
    """

    seconds: float = 10.0
    cpu: float | None = None
    memory: int = 512 << 20
    processes: int = 32
    output: int = 1 << 20
    disk: int = 64 << 20
    open_files: int = 128

    def __post_init__(self) -> None:
        for each in fields(self):
            value, whole = getattr(self, each.name), each.name not in ("seconds", "cpu")
            if value is None and each.name == "cpu":
                continue
            number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise BadInput(f"Limits({each.name}={value!r}): a {'whole ' if whole else ''}number above 0")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended: the verdict, the line `told` that says it to people, and what it wrote.

    `status` is the exit status, or minus the number of the signal; None where the program was stopped. `seconds` go by the
    clock, `cpu` is processor time, `memory` the most bytes seen in use, looked at a hundred times a second. Standard output
    and error end at the limit; bytes that are no UTF-8 become U+FFFD.
    """

    verdict: Verdict
    told: str
    stdout: str = ""
    stderr: str = ""
    status: int | None = None
    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """What the sandbox relies on, tried here: what holds and what is missing, a sentence each."""

    holds: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return not self.missing


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Sandbox:
    """Runs programs shut off from the machine, each within `limits`, at most `at_once` at a time (None: as many as there are
    cores; all sandboxes of this process with the same number share it).

    `python` is the interpreter for Python programs: the one that runs this, with its standard library alone, or the path of
    another (that of a virtual environment, say), with its packages. `readable` are further files and folders that programs
    may read, under the same names. `env` is added to their environment, in which there is nothing of ours.

    With ``unsafe=True`` a program runs even where `probe` finds something missing, with what there is: limits on time, memory
    and files, a clean environment, an end to its processes. It can then read and write whatever you can, and may escape.
    """

    limits: Limits = Limits()
    python: str | None = None
    readable: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    at_once: int | None = None
    unsafe: bool = False

    def __post_init__(self) -> None:
        if self.at_once is not None and self.at_once < 1:
            raise BadInput(f"Sandbox(at_once={self.at_once}): at least one program at a time")
        if self.python is not None and not os.path.isabs(self.python):
            raise BadInput(f"Sandbox(python={self.python!r}): give an absolute path")
        if isinstance(self.readable, str):
            raise BadInput(f"Sandbox(readable={self.readable!r}): give a tuple of paths")
        for path in self.readable:
            if live := _live(path):
                raise BadInput(
                    f"Sandbox(readable=({path!r},)): {live} is a socket or pipe, by which programs could reach out"
                )
            plain = os.path.normpath(path)
            taken = any(plain == top or plain.startswith(f"{top}/") for top in ("/", "/proc", "/dev", SCRATCH))
            if taken or not os.path.isabs(path) or not os.path.exists(path):
                raise BadInput(
                    f"Sandbox(readable=({path!r},)): give absolute paths that exist, not /, nor in /proc or /dev"
                )

    def probe(self) -> Probe:
        """Try what the sandbox relies on: a fraction of a second, and remembered as long as this process lives."""
        return _probe(self.python)

    async def run(
        self,
        program: str | None = None,
        *,
        args: Sequence[str] = (),
        argv: Sequence[str] | None = None,
        stdin: str | bytes = "",
        files: Mapping[str, str | bytes] | None = None,
        limits: Limits | None = None,
    ) -> Ran:
        """Run a Python program, or any command, in a scratch folder of its own, and say how it ended.

        `program` becomes ``program.py`` there, and runs with the arguments `args`; `argv` is another command, its paths being
        those of the sandbox: the scratch folder is ``/sandbox`` and the working folder. `files` lie in it, under relative
        names. Nothing that a program does raises here. A run that is cancelled has killed all of its processes before it ends.

        Raises `BadInput` where the sandbox is not whole here and not `unsafe`, and for names and commands that cannot be.
        """
        placed = _placed(program, files or {})
        if argv is None and program is None:
            raise BadInput("Sandbox.run(): give a program or argv")
        command = None if argv is None else [*argv]
        if isinstance(argv, str) or command == [] or any("\0" in each for each in (*args, *(command or ()))):
            raise BadInput(f"Sandbox.run(argv={argv!r}, args={args!r}): give lists of texts, the command first in argv")
        leash, asked = Leash(), (command, list(args), _bytes(stdin), placed, limits or self.limits)
        work = pool(self.at_once or _cores()).submit(self._run, *asked, leash)
        try:
            return await asyncio.shield(asyncio.wrap_future(work))
        except asyncio.CancelledError:
            work.cancel()  # where it waits its turn
            leash.pull()  # where it runs
            while not work.done():
                try:
                    await asyncio.wait([asyncio.wrap_future(work)])
                except asyncio.CancelledError:  # once more: the processes are dying already
                    continue
            raise

    def _run(
        self,
        argv: list[str] | None,
        args: list[str],
        stdin: bytes,
        files: dict[str, bytes],
        limits: Limits,
        leash: Leash,
    ) -> Ran:
        """`run`, in a thread."""
        found = self.probe()
        if not (found.whole or self.unsafe):
            raise BadInput(
                f"the sandbox is not whole here. {' '.join(found.missing)} Sandbox(unsafe=True) runs programs all the same, "
                "with what protection there is"
            )
        python = interpreter(self.python)
        command, env = argv or [python.program, "program.py", *args], ENVIRONMENT | dict(self.env)
        if found.whole:
            job = _orders(limits, command, env, files) | view(python, self.readable)
            return _ran(supervised(job, stdin, limits.output, leash), limits)
        if sys.platform == "win32":
            raise BadInput("Sandbox(unsafe=True): there are no limits for programs on Windows")
        with tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as scratch:
            env |= {"HOME": scratch, "TMPDIR": scratch} | dict(self.env)
            job = _orders(limits, command, env, files) | {"plain": True, "scratch": scratch}
            return _ran(supervised(job, stdin, limits.output, leash), limits)


def _live(path: str) -> str | None:
    """A socket or a named pipe in this place, or in the folder that it is, but not in folders of that."""
    try:
        with os.scandir(path) if os.path.isdir(path) else contextlib.nullcontext(()) as entries:
            for each in (path, *(entry.path for entry in entries)):
                mode = os.stat(each, follow_symlinks=each == path).st_mode
                if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
                    return each
    except OSError:
        return None
    return None


def _bytes(text: str | bytes) -> bytes:
    return text.encode(errors="replace") if isinstance(text, str) else text


def _placed(program: str | None, files: Mapping[str, str | bytes]) -> dict[str, bytes]:
    """The files of a scratch folder."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or str(path) != name:
            raise BadInput(f"Sandbox.run(files={{{name!r}: …}}): give plain relative names, such as 'data/in.txt'")
    whole = {**files} if program is None else {"program.py": program, **files}
    return {name: _bytes(text) for name, text in whole.items()}


def _orders(limits: Limits, argv: list[str], env: dict[str, str], files: dict[str, bytes]) -> dict[str, Any]:
    """What the launcher is told, but for what a program sees."""
    numbers = {each.name: getattr(limits, each.name) for each in fields(limits)}
    numbers["cpu"] = limits.seconds if limits.cpu is None else limits.cpu
    return {**numbers, "argv": argv, "env": env, "files": files, "plain": False, "diagnose": False}


def _ran(ended: Ended, limits: Limits) -> Ran:
    """What a run comes to."""
    report, stdout, stderr = (
        ended.report or {},
        *(part.decode(errors="replace") for part in (ended.stdout, ended.stderr)),
    )
    last = (stderr.strip().splitlines() or [""])[-1][:300]
    status = report.get("status")
    code = None if status is None else os.waitstatus_to_exitcode(status)
    verdict, told = _verdict(ended, report, code, last, limits)
    used = (report.get("seconds", 0.0), report.get("cpu", 0.0), report.get("memory", 0))
    stopped = verdict in (Verdict.TIMEOUT, Verdict.PROCESSES, Verdict.OUTPUT) or report.get("why") == "memory"
    return Ran(verdict, printable(told), stdout, stderr, None if stopped else code, *used)


def printable(text: str, most: int = 1000) -> str:
    r"""A text as one line that can be shown: what is not printable is escaped, and what is longer is cut.

    >>> printable("a\n\x1b[2J")
    'a\\n\\x1b[2J'
    """
    whole = (each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[: most + 1])
    line = "".join(whole)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _verdict(ended: Ended, report: dict[str, Any], code: int | None, last: str, limits: Limits) -> tuple[Verdict, str]:
    """The verdict and its line. `last` is the last line of standard error."""
    megabytes = f"{limits.memory / (1 << 20):,.6g} MiB of memory"
    if ended.cut:
        return Verdict.OUTPUT, f"stopped: it wrote more than {limits.output:,} bytes"
    if "refused" in report:
        return Verdict.NOT_RUN, f"the sandbox could not be started: {report['refused']}"
    match report.get("why"):
        case "seconds":
            return Verdict.TIMEOUT, f"stopped: it ran longer than {limits.seconds:g} s"
        case "cpu":
            cpu = limits.seconds if limits.cpu is None else limits.cpu
            return Verdict.TIMEOUT, f"stopped: it took more than {cpu:g} s of processor time"
        case "memory":
            return Verdict.MEMORY, f"stopped: it used more than {megabytes}"
        case "processes":
            return Verdict.PROCESSES, f"stopped: it had more than {limits.processes} processes and threads"
        case str(why) if why not in ("", "cancelled"):
            return Verdict.FAILED, f"stopped: {why}"
    if code is None:
        return Verdict.NOT_RUN, f"{ended.trouble}{': ' + last if last else ''}"
    if code == 0:
        return Verdict.OK, f"ended after {report['seconds']:.3g} s"
    if _NO_MEMORY.match(last):
        return Verdict.MEMORY, f"it asked for more than {megabytes} ({last})"
    if report["full"]:
        return (
            Verdict.DISK,
            f"its scratch folder of {limits.disk / (1 << 20):,.6g} MiB is full{' (' + last + ')' if last else ''}",
        )
    if code < 0:
        return Verdict.CRASHED, f"ended by signal {_signal(-code)}"
    return Verdict.FAILED, f"ended with exit status {code}{': ' + last if last else ''}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


# What the sandbox relies on

_CHECK = """
import errno, json, os, socket, sys
def fails(what, *args):
    try:
        what(*args)
    except OSError as error:
        return error.errno
    return 0
with open("/proc/self/status") as file:
    status = dict(line.split(":", 1) for line in file)
there = {int(name) for name in os.listdir("/proc") if name.isdigit()}
print(json.dumps({
    "files": not os.path.exists(sys.argv[1]),
    "writing": all(fails(os.mkdir, path) in (errno.EROFS, errno.EACCES) for path in ("/x", "/usr/x", "/proc/x", "/dev/x")
                   if os.path.isdir(os.path.dirname(path)) and not path.startswith("/proc")),
    "processes": os.getppid() == 1 and there <= {1, os.getpid()},
    "network": fails(socket.socket().connect, ("127.0.0.1", 9)) == errno.ENETUNREACH,
    "privileges": not int(status["CapEff"], 16) and not int(status["CapPrm"], 16) and int(status["NoNewPrivs"]) == 1,
    "calls": int(status["Seccomp"]) == 2 and fails(os.memfd_create, "x") == errno.EPERM,
}))
"""
_SENTENCES = {
    "files": ("Programs see none of your files.", "Programs could read your files."),
    "writing": ("They write in their scratch folder alone.", "Programs could write outside of their scratch folder."),
    "processes": (
        "They see no other process, and end with their keeper.",
        "Programs could see other processes and outlive their keeper.",
    ),
    "network": ("They have no network.", "Programs could reach the network."),
    "privileges": ("They have no privileges and can gain none.", "Programs could have or gain privileges."),
    "calls": ("System calls that get round limits are denied.", "System calls could not be filtered."),
}


@functools.cache
def _probe(python: str | None) -> Probe:
    if sys.platform != "linux":
        return Probe((), (f"This is {sys.platform}: the sandbox is made of parts of Linux.",))
    limits = Limits(seconds=30.0)
    inside = interpreter(python)
    with tempfile.NamedTemporaryFile(prefix="sandbox-") as mark:
        orders = _orders(
            limits, [inside.program, "program.py", mark.name], ENVIRONMENT, {"program.py": _CHECK.encode()}
        )
        ran = _ran(supervised(orders | view(inside, ()), b"", limits.output, Leash()), limits)
    if ran.verdict is not Verdict.OK:
        tried = supervised(orders | {"diagnose": True}, b"", limits.output, Leash()).report or {}
        missing = tried.get("missing") or tried.get("refused", "").split("\n")
        return Probe((), tuple(f"It lacks {each}." for each in missing if each) or (f"A try of it: {ran.told}.",))
    found = json.loads(ran.stdout)
    holds, missing = (tuple(_SENTENCES[key][i] for key in found if found[key] is (i == 0)) for i in (0, 1))
    return Probe(holds, missing)
