"""The real Lean 4: is it here, does this compile, and what does this proof rest on?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reasonweave.orchestrator.errors import BadInput

MATHLIB = "import Mathlib\n\nopen BigOperators Real Nat Topology\n"
"""What stands before a theorem where Mathlib is there: everything, and what Safe's header opens."""

AXIOMS = frozenset({"propext", "Classical.choice", "Quot.sound"})
"""What a proof may rest on: Lean's own three axioms, as in all of Mathlib."""

INSTALL = (
    "install it with elan (https://lean-lang.org/install; then `elan default leanprover/lean4:stable`), or say where it is: "
    'Lean(command=("path/to/lean",)), and Lean(project="path") for a Lake project with Mathlib'
)

_SORRY = re.compile(r"declaration uses ['`‘’]?sorry")
_AXIOMS = re.compile(r"'(?P<name>[^']+)' (?:depends on axioms: \[(?P<axioms>[^\]]*)\]|does not depend on any axioms)")
_KEPT = (
    "PATH",
    "HOME",
    "LEAN_PATH",
    "LEAN_SRC_PATH",
    "LEAN_SYSROOT",
    "LAKE_HOME",
    "ELAN_HOME",
    "ELAN_TOOLCHAIN",
    "TMPDIR",
    "LANG",
)
"""The environment variables that Lean gets: what it needs to be found, and no one's secrets."""
_LIMITED = 'ulimit -c 0; ulimit -v "$1"; ulimit -t "$2"; shift 2; exec "$@"'
"""A shell that limits itself, where it is not limited more tightly already, then becomes Lean."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message of Lean's: "error", "warning" or "information", and the line that it is about, from 1."""

    severity: str
    text: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What Lean says of a file. `failed` tells why it could not say: too slow, too much memory, no such program."""

    said: tuple[Said, ...] = ()
    failed: str | None = None

    @property
    def error(self) -> str | None:
        """Why this does not compile, in one line; None where it does."""
        found = next((each.text for each in self.said if each.severity == "error"), None)
        return self.failed or (" ".join(found.split())[:300] if found is not None else None)

    @property
    def sorries(self) -> int:
        """Declarations that use sorry."""
        return sum(each.severity == "warning" and _SORRY.search(each.text) is not None for each in self.said)

    def axioms(self, name: str, line: int) -> frozenset[str] | None:
        """What ``#print axioms name`` on this line says; None where it does not say. What other lines print does not count."""
        here = [each.text for each in self.said if each.line == line and each.severity.startswith("info")]
        found = _AXIOMS.fullmatch(here[0].strip()) if len(here) == 1 else None
        if found is None or found["name"] != name:
            return None
        return frozenset(each.strip() for each in (found["axioms"] or "").split(",") if each.strip())


@dataclass(frozen=True)
class Lean:
    """Lean 4 as a program: each check is a process of its own, with limits, and nothing is left running.

    `command` is what is run, with ``--json`` and a file: by default `lean`, or ``lake env lean`` in a `project`. `header` stands
    before every theorem. A check may take `seconds` and `memory` bytes of address space (Mathlib maps some gigabytes of files);
    `at_once` run at the same time. Lean's own code can read and write files: forbidden words are refused (`reasonweave.verifiers.
    formal`), but for models that you do not trust, run all of it in a container.
    """

    command: Sequence[str] = ()
    project: str | Path | None = None
    header: str = MATHLIB
    seconds: float = 120.0
    memory: int = 16 * 2**30
    at_once: int = 2
    output: int = 4 * 2**20
    _probed: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.command, str):
            object.__setattr__(self, "command", tuple(shlex.split(self.command)))
        if not (self.seconds > 0 and self.memory > 0 and self.at_once >= 1 and self.output > 0):
            raise BadInput("Lean: seconds, memory and output are above 0, at_once is 1 or more")
        if self.project is not None and not Path(self.project).is_dir():
            raise BadInput(f"Lean: project={str(self.project)!r} is no folder; give that of a Lake project")

    @property
    def runs(self) -> tuple[str, ...]:
        """The command that is run."""
        return tuple(self.command) or (("lake", "env", "lean") if self.project is not None else ("lean",))

    async def probe(self) -> str:
        """Lean's version, after a proof that it must accept and one that it must refuse; asked once, then remembered.

        Raises `BadInput`, in one line, where Lean is not there, is too old, or cannot read the header.
        """
        if "version" not in self._probed:
            self._probed["version"] = await self._tried()
        return self._probed["version"]

    async def _tried(self) -> str:
        program = self.runs[0]
        if shutil.which(program) is None:
            where = "on PATH" if os.sep not in program else "there"
            raise BadInput(f"no Lean 4: {program!r} is not {where}; {INSTALL}")
        version, why = await self._run([*self.runs, "--version"], min(self.seconds, 60.0))
        told = version.strip().splitlines()
        if why or not told or re.search(r"version 4\.|version v4\.", told[0]) is None:
            raise BadInput(
                f"no Lean 4: `{shlex.join(self.runs)} --version` says {(why or version).strip()[:120]!r}; {INSTALL}"
            )
        right, wrong = await self.check(["theorem probe : 1 + 1 = 2 := rfl", "theorem probe : 1 + 1 = 3 := rfl"])
        if right.error:
            hint = "give Lean(project=…) of a Lake project that has what it imports, or another header"
            raise BadInput(
                f"Lean is there ({told[0]}), but does not compile `1 + 1 = 2` after the header: {right.error}; {hint}"
            )
        if wrong.error is None:
            raise BadInput(
                f"`{shlex.join(self.runs)}` accepts a proof of 1 + 1 = 3; it is no Lean that can be believed"
            )
        return told[0]

    async def check(self, sources: Sequence[str]) -> list[Report]:
        """What Lean says of each text, the header put before it, in order; the first line of a text is `first_line`."""
        room = asyncio.Semaphore(self.at_once)

        async def one(source: str) -> Report:
            async with room:
                return await self._check(source)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(source)) for source in sources]
        return [task.result() for task in tasks]

    @property
    def first_line(self) -> int:
        """The number of the first line after the header."""
        return self.header.rstrip("\n").count("\n") + 3 if self.header.strip() else 1

    async def _check(self, source: str) -> Report:
        head = self.header.rstrip("\n") + "\n\n" if self.header.strip() else ""
        with tempfile.TemporaryDirectory(prefix="lean-") as folder:
            file = Path(folder) / "Step.lean"
            file.write_text(head + source, encoding="utf-8")
            told, why = await self._run([*self.runs, "--json", str(file)], self.seconds)
        said = tuple(each for line in told.splitlines() if (each := _message(line)) is not None)
        if why and any(each.severity == "error" for each in said) and why.startswith("exit status"):
            why = ""
        return Report(said, f"Lean: {why}" if why else None)

    async def _run(self, command: Sequence[str], seconds: float) -> tuple[str, str]:
        """What a command writes, and why it did not end well, empty where it did. Its whole process group ends with it."""
        limits = [str(self.memory // 1024), str(math.ceil(seconds * 4))]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _LIMITED, "lean", *limits, *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                cwd=self.project,
                env=environment,
            )
        except OSError as error:
            return "", f"cannot be started: {error}"
        try:
            async with asyncio.timeout(seconds):
                out, err = await asyncio.gather(self._read(process.stdout), self._read(process.stderr))
                status = await process.wait()
        except TimeoutError:
            return "", f"took more than {seconds:g} seconds"
        except _TooMuch:
            return "", f"wrote more than {self.output:,} bytes"
        finally:
            await _ended(process)
        if status:
            told = " ".join(err.split())[:200] or f"of {command[0]}"
            return out, f"killed by signal {-status}" if status < 0 else f"exit status {status}: {told}"
        return out, ""

    async def _read(self, stream: asyncio.StreamReader | None) -> str:
        """All that a stream says. Raises `_TooMuch` where that is too much."""
        parts, size = list[bytes](), 0
        while stream is not None and (part := await stream.read(2**16)):
            size += len(part)
            if size > self.output:
                raise _TooMuch
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")


class _TooMuch(Exception):
    """A program writes more than it may."""


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Kill a process with all that it has started, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if (transport := getattr(process, "_transport", None)) is not None:
        transport.close()  # a pipe that nobody reads any more would keep `wait` from ending
    await asyncio.shield(process.wait())


def _message(line: str) -> Said | None:
    """One line of ``lean --json``, None for what is none."""
    try:
        found = json.loads(line)
        return Said(str(found["severity"]), str(found["data"]), int((found.get("pos") or {}).get("line", 0)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
