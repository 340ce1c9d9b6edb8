"""The outside of the sandbox: what an interpreter needs inside, starting the launcher, reading what comes, ending it."""

from __future__ import annotations

import functools
import json
import marshal
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from reasonweave.orchestrator.errors import BadInput

if sys.platform != "win32":
    import fcntl

LAUNCH = Path(__file__).with_name("_sandbox_launch.py")
SCRATCH = "/sandbox"
GRACE = 10.0
"""Seconds beyond the program's own to make the sandbox and to take it down; after that it is killed from outside."""
CHUNK = 1 << 16
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
"""What programs may read of the machine, with the interpreter and these settings."""
SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime")
TEXTS = {"/etc/passwd": f"program:x:1000:1000::{SCRATCH}:/bin/sh\n".encode(), "/etc/group": b"program:x:1000:\n"}
LINKS = ((SCRATCH, "/tmp"), (SCRATCH, "/dev/shm"), ("/proc/self/fd", "/dev/fd"))


@dataclass(frozen=True)
class Interpreter:
    """A Python in the sandbox: its path; what must be readable for it, as (where it is, under which name); and package
    folders that are shown empty."""

    program: str
    needs: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]


_ASK = """
import json, site, sys
try:
    maps = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if ".so" in line}
except OSError:
    maps = ()
folders = site.getsitepackages([sys.base_prefix, sys.base_exec_prefix])
prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
print(json.dumps([sorted(prefixes), sorted(maps), folders]))
"""


@functools.cache
def interpreter(python: str | None) -> Interpreter:
    """Ask an interpreter what it needs; None is the one that runs this, with its standard library alone.

    Raises `BadInput` where it does not answer.
    """
    program = python or os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    asked = [program, "-I", *(() if python else ("-S",)), "-c", _ASK]
    try:
        answer = subprocess.run(asked, capture_output=True, check=True, timeout=60, cwd="/", env=_libraries())
        prefixes, maps, folders = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise BadInput(f"Sandbox(python={python!r}): {program} is no Python that runs here ({error})") from None
    wanted = [os.path.join(prefix, part) for prefix in prefixes for part in ("bin", "lib", "lib64", "pyvenv.cfg")]
    wanted += [os.path.dirname(os.path.realpath(program)), *map(os.path.realpath, maps)]
    return Interpreter(program, bindings(wanted), () if python else tuple(map(os.path.realpath, folders)))


def _libraries() -> dict[str, str]:
    """The one setting of ours that an interpreter may need to start."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


def bindings(paths: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """What to show read-only, as (where it is, under which name), but for what the system's own parts hold already."""
    found: dict[str, str] = {}
    for path in sorted(map(os.path.normpath, paths), key=len):
        if os.path.exists(path) and not any(path == top or path.startswith(f"{top}/") for top in (*SYSTEM, *found)):
            found[path] = os.path.realpath(path)
    return tuple((real, path) for path, real in found.items())


def view(python: Interpreter, readable: Sequence[str]) -> dict[str, Any]:
    """The part of the launcher's orders that says what a program sees."""
    tops = [path for path in SYSTEM if os.path.exists(path)]
    links = [(os.readlink(path), path) for path in tops if os.path.islink(path)]
    shown = [path for path in (*tops, *(f"/etc/{name}" for name in SETTINGS)) if os.path.exists(path)]
    binds = [(os.path.realpath(path), path) for path in shown if not os.path.islink(path) or path not in tops]
    binds += dict.fromkeys((*python.needs, *bindings(readable)))
    return {
        "binds": binds,
        "links": [*links, *(link for link in LINKS if not any(path.startswith(f"{link[1]}/") for _, path in binds))],
        "hidden": list(python.hidden),
        "texts": TEXTS,
        "scratch": SCRATCH,
    }


@functools.cache
def pool(at_once: int) -> ThreadPoolExecutor:
    """The threads that watch sandboxes; their number bounds how many run at once."""
    return ThreadPoolExecutor(at_once, thread_name_prefix="sandbox")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a forked child has the pools but not their threads


class Leash:
    """What ends a run from another thread: its keeper lives only as long as the writing end of a pipe is open."""

    def __init__(self) -> None:
        self._lock, self._fd, self._pulled = threading.Lock(), -1, False

    def hold(self) -> int:
        """Make the pipe; returns the reading end, for the keeper."""
        read, write = os.pipe()
        with self._lock:
            self._fd = write
        if self._pulled:
            self.pull()
        return read

    def pull(self) -> None:
        """End the run, now or as soon as it begins."""
        with self._lock:
            self._pulled = True
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1


@dataclass
class Ended:
    """What came of a run: the keeper's report (None where there is none), what the program wrote, whether it was cut."""

    report: dict[str, Any] | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    cut: bool = False
    trouble: str = field(default="the sandbox was ended from outside")
    """Why there is no report."""


_BOOT = """
import marshal, os, sys
fd = int(sys.argv[1])
code, job = marshal.loads(os.pread(fd, os.fstat(fd).st_size, 0))
os.close(fd)
exec(code, scope := {"__name__": "launch"})
scope["main"](job)
"""


@functools.cache
def _launcher() -> CodeType:
    """The launcher's code, compiled once: that takes as long as all the rest of its start."""
    return compile(LAUNCH.read_bytes(), str(LAUNCH), "exec")


def supervised(job: dict[str, Any], stdin: bytes, output: int, leash: Leash) -> Ended:
    """Start the launcher with these orders and stay with it to its end, which is the end of all that it started.

    Reads at most `output` bytes of standard output and of standard error, and ends the run at one more. Returns `GRACE`
    seconds after the program's own time at the latest, or a little later where it has to be killed.
    """
    opened: list[int] = []
    try:
        life = leash.hold()
        opened.append(life)
        reading, report = os.pipe()
        opened += [reading, report]
        job = job | {"life": life, "report": report, "parent": os.getpid()}
        orders = _handed(marshal.dumps((_launcher(), job)))
        opened.append(orders)
        given = _handed(stdin)
        opened.append(given)
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT, str(orders)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=(orders, report, life),
            cwd="/",
            env=_libraries(),
            start_new_session=True,
        ) as process:
            for fd in (life, report, orders, given):
                os.close(fd)
                opened.remove(fd)
            return _read(process, reading, job["seconds"] + GRACE, output, leash)
    except OSError as error:
        return Ended(trouble=f"the sandbox could not be started: {error}")
    finally:
        leash.pull()
        for fd in opened:
            os.close(fd)


def _read(process: subprocess.Popen[bytes], reading: int, seconds: float, output: int, leash: Leash) -> Ended:
    """Read all three pipes to their ends. That of the report ends with the launcher, the last of all."""
    assert process.stdout is not None
    assert process.stderr is not None
    parts = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray(), reading: bytearray()}
    ended, deadline, killed = Ended(), time.monotonic() + seconds, False
    with selectors.DefaultSelector() as selector:
        for fd in parts:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                if killed:
                    break
                ended.trouble, killed = f"the sandbox did not end within {seconds:g} s and was killed", True
                process.kill()
                leash.pull()
                deadline += GRACE
                continue
            for key, _ in selector.select(min(left, 3600.0)):
                part = parts[key.fd]
                if not (read := os.read(key.fd, CHUNK)):
                    selector.unregister(key.fd)
                elif len(part) + len(read) > output and key.fd != reading:
                    ended.cut = True
                    leash.pull()
                part += read[: max(0, output - len(part)) if key.fd != reading else None]
    ended.stdout, ended.stderr = (bytes(parts[each.fileno()]) for each in (process.stdout, process.stderr))
    if parts[reading]:
        ended.report = marshal.loads(bytes(parts[reading]))
    return ended


def _handed(content: bytes) -> int:
    """An open file with this content, at its beginning, which nobody can change."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            return os.dup(file.fileno())
    fd = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        os.lseek(fd, 0, os.SEEK_SET)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd
