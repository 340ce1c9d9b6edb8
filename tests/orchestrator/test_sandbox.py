from __future__ import annotations

import ast
import asyncio
import errno
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reasonweave.orchestrator import _sandbox_host as host
from reasonweave.orchestrator import sandbox as module
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.sandbox import Limits, Probe, Ran, Sandbox, Verdict

PROBE = Sandbox().probe()
whole = pytest.mark.skipif(not PROBE.whole, reason=f"no whole sandbox on this machine: {' '.join(PROBE.missing)}")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SMALL = Limits(seconds=10.0, memory=128 << 20, processes=12, output=100_000, disk=4 << 20)
SHORT = replace(SMALL, seconds=0.3)
OK, FAILED, CRASHED, TIMEOUT = Verdict.OK, Verdict.FAILED, Verdict.CRASHED, Verdict.TIMEOUT
MEMORY, PROCESSES, OUTPUT, DISK = Verdict.MEMORY, Verdict.PROCESSES, Verdict.OUTPUT, Verdict.DISK


def run(program: str | None = None, sandbox: Sandbox | None = None, **asked: object) -> Ran:
    return asyncio.run((sandbox or Sandbox(SMALL)).run(program, **asked))  # type: ignore[arg-type]


def marked(mark: str) -> list[int]:
    """The processes of this machine that have the mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def children() -> list[str]:
    """The children of this process, dead ones too."""
    return " ".join(file.read_text() for file in Path("/proc/self/task").glob("*/children")).split()


@pytest.fixture
def mark() -> Iterator[str]:
    """A mark for the environment of programs. After the test no process has it, and this one has no child left."""
    before = children()
    mark = f"mark-{uuid.uuid4().hex}"
    yield mark
    assert marked(mark) == []
    assert children() == before


# What programs are given and give back


@whole
def test_a_program_gets_its_input_files_and_arguments_and_gives_its_output_and_status(mark: str) -> None:
    program = """
import sys
from pathlib import Path
print(sys.stdin.read().upper(), Path("data/in.txt").read_text(), sys.argv[1:], Path.cwd())
print("é", file=sys.stderr)
Path("out.txt").write_text("mine")
sys.exit(3)
"""
    ran = run(
        program, Sandbox(SMALL, env=(("MARK", mark),)), stdin="abc", files={"data/in.txt": b"xyz"}, args=["-v", "1"]
    )
    assert (ran.verdict, ran.status) == (FAILED, 3)
    assert ran.stdout == "ABC xyz ['-v', '1'] /sandbox\n"
    assert ran.stderr == "é\n"
    assert ran.told == "ended with exit status 3: é"
    assert 0 < ran.seconds < SMALL.seconds
    assert ran.cpu > 0


@whole
def test_any_command_runs() -> None:
    assert run(argv=["sh", "-c", "echo $((6 * 7)) > /tmp/x; cat /sandbox/x"]).stdout == "42\n"
    ran = run(argv=["no-such-command"])
    assert ran.verdict is Verdict.NOT_RUN
    assert "no-such-command: No such file" in ran.told


@whole
def test_each_run_has_a_scratch_folder_of_its_own() -> None:
    assert run("open('x', 'w').write('1'); import os; print(sorted(os.listdir()))").stdout == "['program.py', 'x']\n"
    assert run("import os; print(os.listdir())").stdout == "['program.py']\n"


@whole
def test_sets_come_in_the_same_order_each_time() -> None:
    program = "print({str(i) for i in range(20)})"
    assert len({run(program).stdout for _ in range(3)}) == 1


@whole
def test_several_processes_are_fine_within_the_limits() -> None:
    program = """
import multiprocessing
def square(x): return x * x
if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool:
        print(pool.map(square, range(5)))
"""
    assert run(program).stdout == "[0, 1, 4, 9, 16]\n"


@whole
def test_memory_that_processes_share_is_counted_once() -> None:
    program = """
import os, time
held = bytearray(b"x") * (50 << 20)
for _ in range(6):
    if os.fork() == 0:
        time.sleep(0.3)
        os._exit(0)
time.sleep(0.4)
print("fine")
"""
    ran = run(program)
    assert (ran.verdict, ran.stdout) == (OK, "fine\n")
    assert 50 < ran.memory / (1 << 20) < 128


@whole
def test_an_interpreter_of_ones_own_comes_with_its_packages() -> None:
    program = "import sys, numpy; print(sys.prefix, numpy.arange(3))"
    assert run(program, Sandbox()).told.endswith("ModuleNotFoundError: No module named 'numpy'")
    ran = run(program, Sandbox(python=sys.executable))
    assert ran.stdout == f"{sys.prefix} [0 1 2]\n"


@whole
def test_more_may_be_readable_and_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "a").write_text("A")
    (tmp_path / "shown" / "a").chmod(0o666)
    (tmp_path / "hidden").write_text("B")
    sandbox = Sandbox(SMALL, readable=(str(tmp_path / "shown"),))
    assert run(f"print(open('{tmp_path}/shown/a').read())", sandbox).stdout == "A\n"
    assert "FileNotFoundError" in run(f"open('{tmp_path}/hidden')", sandbox).told
    assert "Read-only file system" in run(f"open('{tmp_path}/shown/b', 'w')", sandbox).told
    assert "Read-only file system" in run(f"open('{tmp_path}/shown/a', 'a')", sandbox).told


# Attacks. Each is contained, has a clear verdict within its limits, and leaves nothing running (the fixture looks)

FORKS = "import os\nwhile True:\n    {}"
ATTACKS = {
    "fork bomb": (FORKS.format("os.fork()"), {PROCESSES}, "more than 12 processes"),
    "patient fork bomb": (
        FORKS.format("try: os.fork()\n    except OSError: pass"),
        {PROCESSES},
        "more than 12 processes",
    ),
    "fork and execute": (
        "import subprocess\nfor _ in range(1000): subprocess.Popen(['sleep', '100'])",
        {PROCESSES},
        "more than 12 processes",
    ),
    "threads": (
        "import threading, time\nthreading.stack_size(1 << 16)\n"
        "for _ in range(1000): threading.Thread(target=time.sleep, args=(100,)).start()",
        {PROCESSES},
        "more than 12 processes",
    ),
    "memory at once": ("x = bytearray(10 ** 10)", {MEMORY}, "MemoryError"),
    "memory bit by bit": ("x = []\nwhile True: x.append(bytearray(10 ** 6))", {MEMORY}, "MemoryError"),
    "memory of many processes": (
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0: x = bytearray(b'x') * (60 << 20); time.sleep(100)\n"
        "time.sleep(100)",
        {MEMORY},
        "used more than 128 MiB",
    ),
    "memory that is shared": (
        "import mmap, os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        m = mmap.mmap(-1, 60 << 20)\n"
        "        for i in range(60): m.write(b'x' * (1 << 20))\n        time.sleep(100)\ntime.sleep(100)",
        {MEMORY},
        "used more than 128 MiB",
    ),
    "memory behind an ended first thread": (
        "import ctypes, os, threading, time\ndef hold():\n    time.sleep(0.1)\n    x = bytearray(b'x') * (40 << 20)\n"
        "    time.sleep(100)\nfor _ in range(5):\n    if os.fork() == 0:\n        threading.stack_size(1 << 18)\n"
        "        threading.Thread(target=hold).start()\n"
        "        ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)\ntime.sleep(2)",
        {MEMORY},
        "used more than 128 MiB",
    ),
    "a name that is no text": (
        "import ctypes, sys, time\nctypes.CDLL(None).prctl(15, b'\\xff) R\\xfe', 0, 0, 0)\ntime.sleep(0.1)\nsys.exit(3)",
        {FAILED},
        "exit status 3",
    ),
    "lines that a terminal obeys": (
        r"raise ValueError('\x1b[2J\x1b]0;x\x07 \u200b')",
        {FAILED},
        r"ValueError: \x1b[2J\x1b]0;x\x07 \u200b",
    ),
    "files on the way": (
        "import os, socket\na, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [0])",
        {FAILED},
        "Operation not permitted",
    ),
    "watches of files": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.inotify_init() < 0\n"
        "assert libc.inotify_init1(0) < 0 and libc.syncfs(os.open('/usr', 0)) < 0\nraise OSError(ctypes.get_errno(), 'all')",
        {FAILED},
        "[Errno 1]",
    ),
    "times of a device": ("import os\nos.utime('/dev/null')", {FAILED}, "Read-only file system"),
    "memory in no process": ("import os\nos.memfd_create('x')", {FAILED}, "Operation not permitted"),
    "memory in System V segments": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.shmget(0, 1 << 30, 0o1666) < 0\nraise OSError(ctypes.get_errno(), 'shmget')",
        {FAILED},
        "[Errno 1]",
    ),
    "endless output": ("while True: print('x' * 1000)", {OUTPUT}, "wrote more than 100,000 bytes"),
    "endless errors": ("import sys\nwhile True: sys.stderr.write('x' * 1000)", {OUTPUT}, "wrote more than 100,000"),
    "a bomb of prints": ("print('x' * 10 ** 8)", {OUTPUT, MEMORY}, ""),
    "output of many": (
        "import os\nfor _ in range(3): os.fork()\nwhile True: os.write(1, b'x' * 1000)",
        {OUTPUT},
        "wrote more than 100,000 bytes",
    ),
    "endless loop": ("while True: pass", {TIMEOUT}, "longer than 0.3 s"),
    "endless loops": (
        "import os\nos.fork(); os.fork()\nwhile True: pass",
        {TIMEOUT},
        "",
    ),
    "sleep": ("import time\ntime.sleep(1000)", {TIMEOUT}, "longer than 0.3 s"),
    "deaf to signals": (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
        {TIMEOUT},
        "longer than 0.3 s",
    ),
    "closed pipes": ("import os, time\nfor fd in range(256):\n    try: os.close(fd)\n    except OSError: pass\n"
                     "time.sleep(1000)", {TIMEOUT}, "longer than 0.3 s"),
    "copied pipes": (
        "import os, time\nfor fd in range(3, 100): os.dup2(1, fd, inheritable=True)\n"
        "if os.fork() == 0: os.setsid(); time.sleep(1000)\nprint('left')",
        {OK},
        "ended after",
    ),
    "daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        for fd in range(256):\n            try: os.close(fd)\n            except OSError: pass\n"
        "        time.sleep(1000)\n    os._exit(0)\nos.wait()",
        {OK},
        "ended after",
    ),
    "daemon with open pipes": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)",
        {OK},
        "ended after",
    ),
    "full disk": ("f = open('x', 'wb')\nwhile True: f.write(b'x' * 10 ** 6)", {DISK}, "4 MiB is full"),
    "full disk, deleted": (
        "import os\nfs = []\nwhile True:\n    f = open('x', 'wb', 0); os.remove('x'); fs.append(f); f.write(b'x' * 10 ** 6)",
        {DISK, FAILED},
        "No space left",
    ),
    "many files": ("i = 0\nwhile True: i += 1; open(str(i), 'w')", {DISK}, "is full"),
    "huge sparse file": ("open('x', 'wb').truncate(1 << 40)", {FAILED}, "File too large"),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\n"
        "class A:\n    def __getattr__(self, n): return getattr(self, n + 'x')\nA().x",
        {CRASHED, MEMORY, TIMEOUT, FAILED},
        "",
    ),
    "null pointer": ("import ctypes\nctypes.string_at(0)", {CRASHED}, "SIGSEGV"),
    "abort": ("import os\nos.abort()", {CRASHED}, "SIGABRT"),
    "core dump": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))",
        {FAILED},
        "not allowed to raise",
    ),
    "raising limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
        {FAILED},
        "not allowed to raise",
    ),
    "limits of the keeper": (
        "import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (1, 1))",
        {FAILED},
        "Operation not permitted",
    ),
    "slowing down the keeper": (
        "import os\nos.sched_setaffinity(0, os.sched_getaffinity(0))\nos.sched_setaffinity(1, {0})",
        {FAILED},
        "Operation not permitted",
    ),
    "kill everybody": ("import os\nos.kill(-1, 9)", {FAILED, OK}, ""),
    "kill the parent": (
        "import os, time\nfor n in range(1, 65):\n    for pid in (os.getppid(), 1):\n        try: os.kill(pid, n)\n"
        "        except OSError: pass\ntime.sleep(0.1)\nassert os.getppid() == 1",
        {OK},
        "ended after",
    ),
    "trace the parent": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.ptrace(16, os.getppid(), 0, 0) < 0\n"
        "raise OSError(ctypes.get_errno(), 'ptrace')",
        {FAILED},
        "[Errno 1]",
    ),
    "new namespaces": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.unshare(0x10000000) < 0\n"
        "raise OSError(ctypes.get_errno(), 'unshare')",
        {FAILED},
        "[Errno 1]",
    ),
    "change the root": ("import os\nos.mkdir('d'); os.chroot('d')", {FAILED}, "Operation not permitted"),
    "become root": ("import os\nos.setuid(0)", {FAILED}, "Operation not permitted"),
    "machine sockets": ("import socket\nsocket.socket(40, socket.SOCK_STREAM)", {FAILED}, "[Errno 97]"),
    "name server": ("import socket\nsocket.getaddrinfo('example.com', 80)", {FAILED}, "gaierror"),
    "datagram": (
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        {FAILED},
        "Network is unreachable",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def attacked() -> dict[str, tuple[Ran, float, list[int]]]:
    """What became of each attack, three at a time: how it ended, how long that took, what was left of it."""

    async def all_() -> list[tuple[Ran, float, list[int]]]:
        turn = asyncio.Semaphore(3)

        async def one(program: str, verdicts: set[Verdict]) -> tuple[Ran, float, list[int]]:
            async with turn:
                mark, began = f"mark-{uuid.uuid4().hex}", time.monotonic()
                limits = SHORT if TIMEOUT in verdicts else SMALL
                ran = await Sandbox(limits, env=(("MARK", mark),), at_once=3).run(program)
                return ran, time.monotonic() - began - limits.seconds, marked(mark)

        return list(await asyncio.gather(*(one(program, verdicts) for program, verdicts, _ in ATTACKS.values())))

    before = children()
    found = dict(zip(ATTACKS, asyncio.run(all_()), strict=True))
    assert children() == before
    return found


@whole
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_contained(name: str, attacked: dict[str, tuple[Ran, float, list[int]]]) -> None:
    _, verdicts, told = ATTACKS[name]
    ran, seconds, left = attacked[name]
    assert ran.verdict in verdicts, ran
    assert told in ran.told
    assert ran.told.isprintable()
    assert seconds < 5  # beyond its own; a busy machine makes and takes down a sandbox in much less
    assert left == []
    assert max(len(ran.stdout), len(ran.stderr)) <= SMALL.output
    assert ran.memory < 3 * SMALL.memory


@whole
def test_what_cannot_be_watched_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a program that brings that about would be called not run, and would not be judged."""
    source = host.LAUNCH.read_text()
    assert "def others() -> list[int]:\n" in source
    broken = source.replace("def others() -> list[int]:\n", "def others() -> list[int]:\n    raise ValueError('odd')\n")
    monkeypatch.setattr(host, "_launcher", lambda: compile(broken, "launch", "exec"))
    ran = run("import time; time.sleep(100)")
    assert (ran.verdict, ran.status) == (FAILED, None)
    assert ran.told == "stopped: it could not be watched: ValueError: odd"


@whole
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")
def test_calls_by_the_old_door_are_no_way_round_the_filter(mark: str) -> None:
    """The 32-bit interface has numbers of its own, which the filter does not list: a program that uses it is killed."""
    program = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print("back")
"""
    ran = run(program, Sandbox(SMALL, env=(("MARK", mark),)))
    assert (ran.verdict, ran.stdout) == (CRASHED, ""), ran


ALL = "import os\nos.fork()\nwhile True: pass"
UNWAITED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        while time.process_time() < 0.12: pass
        os._exit(0)
    try: os.wait()
    except ChildProcessError: pass
"""


@whole
@pytest.mark.parametrize("program", [ALL, UNWAITED])
def test_processor_time_is_counted_over_all_processes(program: str, mark: str) -> None:
    ran = run(program, Sandbox(Limits(seconds=5.0, cpu=0.4), env=(("MARK", mark),)))
    assert (ran.verdict, ran.status) == (TIMEOUT, None)
    assert ran.told == "stopped: it took more than 0.4 s of processor time"
    assert 0.4 < ran.cpu < 3


@whole
def test_no_network_reaches_a_program(mark: str, tmp_path: Path) -> None:
    """Servers that would answer: on this machine's loopback, on an abstract socket, on a socket file."""
    servers = [socket.create_server(("127.0.0.1", 0)), *(socket.socket(socket.AF_UNIX) for _ in range(2))]
    names = [servers[0].getsockname(), f"\0{mark}", str(tmp_path / "s")]
    try:
        for server, name in zip(servers[1:], names[1:], strict=True):
            server.bind(name)
            server.listen()
        program = f"""
import socket
for family, name in zip((socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX), {names!r}):
    try:
        socket.socket(family).connect(tuple(name) if isinstance(name, list) else name)
    except OSError as error:
        print(error.errno)
"""
        for server, family, name in zip(servers, (socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX), names, strict=True):
            with socket.socket(family) as client:  # they do answer
                client.connect(name)
            server.accept()[0].close()
            server.setblocking(False)
        ran = run(program)
        assert ran.stdout.split() == [str(errno.ENETUNREACH), str(errno.ECONNREFUSED), str(errno.ENOENT)]
        for server in servers:
            with pytest.raises(BlockingIOError):
                server.accept()
    finally:
        for server in servers:
            server.close()


@whole
def test_secrets_stay_outside(mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, files of the user, the project, other processes, open files: all is tried; the mark appears nowhere."""
    monkeypatch.setenv("API_KEY", mark)
    secret = tmp_path / "secret.txt"
    secret.write_text(mark)
    fd = os.open(secret, os.O_RDONLY)
    os.set_inheritable(fd, True)
    home = os.path.expanduser("~")
    places = [
        str(secret),
        str(tmp_path),
        "/etc/shadow",
        "/etc/hostname",
        host.__file__,
        f"{home}/.bashrc",
        f"{home}/.ssh",
    ]
    program = f"""
import glob, os
print(dict(os.environ))
for path in {places!r}:
    print(os.path.exists(path), end=" ")
for pid in glob.glob("/proc/[0-9]*"):
    for name in ("environ", "cmdline", "mem", "maps", "cwd", "root/etc/shadow", "fd/0"):
        if pid == f"/proc/{{os.getpid()}}": continue
        try:
            print(pid, name, open(f"{{pid}}/{{name}}", "rb").read(1000))
        except OSError:
            pass
for fd in range(3, 1024):
    try:
        print("open", fd, os.read(fd, 100))
    except OSError:
        pass
print()
print(os.listdir("/"))
print(sorted(int(os.path.basename(pid)) for pid in glob.glob("/proc/[0-9]*")) == [os.getpid()])
"""
    try:
        ran = run(program)
    finally:
        os.close(fd)
    assert ran.verdict is OK, ran
    assert mark not in ran.stdout
    assert "open" not in ran.stdout
    assert "/proc/" not in ran.stdout
    environment, there, shown, alone = ran.stdout.splitlines()
    assert there.split() == ["False"] * len(places)
    assert alone == "True"
    assert set(ast.literal_eval(environment)) == set(module.ENVIRONMENT)
    system = {path.split("/")[1] for path in (*host.SYSTEM, sys.base_prefix)}
    assert set(ast.literal_eval(shown)) <= system | {"dev", "empty", "etc", "proc", "sandbox", "tmp"}


@whole
def test_nothing_is_written_outside(mark: str, tmp_path: Path) -> None:
    """Straight, by links out of the scratch folder, by its parents, by open files."""
    victim = tmp_path / "victim.txt"
    victim.write_text("whole")
    program = f"""
import os
os.symlink("{victim}", "link"); os.symlink("{tmp_path}", "folder")
paths = ["{victim}", "link", "folder/new", "/{mark}", "/usr/{mark}", "/etc/{mark}", "/dev/{mark}", "/home/{mark}",
         "../{mark}", "/proc/self/cwd/../{mark}", "/proc/self/root/{mark}", "{os.path.dirname(sys.executable)}/{mark}",
         "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/empty/{mark}"]
for path in paths:
    try:
        open(path, "w").write("{mark}")
        print(path)
    except OSError:
        pass
print("tried", len(paths))
"""
    ran = run(program)
    assert ran.stdout == "tried 15\n", ran
    assert victim.read_text() == "whole"
    assert [each.name for each in tmp_path.iterdir()] == ["victim.txt"]
    for folder in ("/", "/usr", "/etc", "/dev", os.path.dirname(sys.executable)):
        assert not os.path.exists(f"{folder}/{mark}")


@whole
def test_the_input_cannot_be_changed() -> None:
    program = "import os\nos.write(os.open('/proc/self/fd/0', os.O_RDWR), b'y' * 10)"
    assert "not permitted" in run(program, stdin="x" * 10).told


@whole
def test_a_verdict_cannot_be_forged(mark: str) -> None:
    """What the keeper would report, written to every file that a program has, and to those of the keeper."""
    program = """
import marshal, os
report = marshal.dumps({"why": "", "status": 0, "seconds": 0.0, "cpu": 0.0, "memory": 0, "full": False})
for fd in range(1024):
    try: os.write(fd, report)
    except OSError: pass
    for pid in range(1, 10):
        try: os.write(os.open(f"/proc/{pid}/fd/{fd}", os.O_WRONLY), report)
        except OSError: pass
os._exit(9)
"""
    ran = run(program, Sandbox(Limits(), env=(("MARK", mark),)))
    assert (ran.verdict, ran.status) == (FAILED, 9)


@whole
def test_lots_of_sandboxes_at_once(mark: str) -> None:
    sandbox = Sandbox(SMALL, env=(("MARK", mark),))

    async def all_() -> list[Ran]:
        return list(await asyncio.gather(*(sandbox.run(f"print({i})") for i in range(30))))

    assert [ran.stdout for ran in asyncio.run(all_())] == [f"{i}\n" for i in range(30)]


@whole
def test_so_many_run_at_once_and_no_more() -> None:
    async def three(sandbox: Sandbox) -> float:
        began = time.monotonic()
        await asyncio.gather(*(sandbox.run("import time; time.sleep(0.3)") for _ in range(3)))
        return time.monotonic() - began

    assert asyncio.run(three(Sandbox(at_once=1))) >= 0.9
    assert asyncio.run(three(Sandbox(at_once=3))) < 0.9


@whole
def test_a_cancelled_run_has_killed_everything_first(mark: str) -> None:
    program = (
        "import os, time\nfor _ in range(3): os.fork()\nos.setsid() if os.getpid() != 2 else None\ntime.sleep(1000)"
    )
    sandbox = Sandbox(Limits(seconds=60), env=(("MARK", mark),))

    async def cancelled() -> None:
        running = asyncio.ensure_future(sandbox.run(program))
        while len(marked(mark)) < 8:  # noqa: ASYNC110 -- nothing tells; and so the mark is found where there is something to find
            await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert marked(mark) == []

    began = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - began < 10


@whole
def test_runs_that_wait_are_cancelled_before_they_begin(mark: str) -> None:
    sandbox = Sandbox(Limits(seconds=60), env=(("MARK", mark),), at_once=1)

    async def cancelled() -> list[object]:
        runs = [asyncio.ensure_future(sandbox.run("import time; time.sleep(1000)")) for _ in range(3)]
        await asyncio.sleep(0.2)
        for each in runs:
            each.cancel()
        return list(await asyncio.gather(*runs, return_exceptions=True))

    assert [type(each) for each in asyncio.run(cancelled())] == [asyncio.CancelledError] * 3


@whole
def test_sandboxes_end_with_the_process_that_started_them(mark: str) -> None:
    code = f"""
import asyncio
from reasonweave.orchestrator.sandbox import Limits, Sandbox
asyncio.run(Sandbox(Limits(seconds=60), env=(("MARK", {mark!r}),)).run("import time; time.sleep(1000)"))
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd="/") as starter:
        end = time.monotonic() + 30
        while not marked(mark) and time.monotonic() < end:
            time.sleep(0.05)
        assert marked(mark)
        starter.send_signal(signal.SIGKILL)
    end = time.monotonic() + 5
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.02)
    assert marked(mark) == []


@whole
def test_runs_in_other_threads_loops_and_forked_children() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(run("print(1)").stdout))
    thread.start()
    thread.join()
    code = """
import asyncio, os
from reasonweave.orchestrator.sandbox import Sandbox
print(asyncio.run(Sandbox().run("print(2)")).stdout, end="", flush=True)
if os.fork() == 0:
    print(asyncio.run(Sandbox().run("print(3)")).stdout, end="", flush=True)
    os._exit(0)
os.wait()
"""
    forked = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    assert (found, forked.stdout) == (["1\n"], "2\n3\n")


@whole
def test_a_launcher_that_hangs_is_killed_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper never reports: the deadline is held all the same, and the verdict is that nothing is known."""
    source = host.LAUNCH.read_text().replace(
        "def place(", "def place(files, owner):\n    time.sleep(1000)\n\n\ndef placed_("
    )
    monkeypatch.setattr(host, "_launcher", lambda: compile(source, "launch", "exec"))
    monkeypatch.setattr(host, "GRACE", 0.5)
    before, began = children(), time.monotonic()
    ran = run("print(1)", Sandbox(Limits(seconds=0.5)))
    assert ran.verdict is Verdict.NOT_RUN
    assert "did not end within 1 s and was killed" in ran.told
    assert time.monotonic() - began < 5
    assert children() == before


# What it relies on


@linux
def test_where_namespaces_can_be_had_the_sandbox_is_whole() -> None:
    """Else a sandbox that is broken would skip most of this file."""
    asked = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--net",
        "--ipc",
        "--uts",
        "--fork",
        "--mount-proc",
        "true",
    ]
    try:
        can = subprocess.run(asked, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        pytest.skip("no unshare command to ask")
    assert PROBE.whole or not can, PROBE.missing


@whole
def test_the_probe_says_what_holds() -> None:
    assert "They have no network." in PROBE.holds
    assert len(PROBE.holds) == 6


@whole
@pytest.mark.parametrize(
    ("what", "instead", "missing"),
    [
        ("NEW_UTS = 0x10000000, 0x20000, 0x20000000, 0x40000000", "NEW_UTS = 0x10000000, 0x20000, 0x20000000, 0x1", "network"),
        ("(SET_SECCOMP, ctypes.c_ulong(2)", "(SET_SECCOMP, ctypes.c_ulong(77)", "a filter of system calls"),
        ("check(call(\"capset\", header, none)", "check(-1", "could not drop capabilities"),
        ("    read_only(\"/\", whole=False)\n", "", "Programs could write outside of their scratch folder."),
    ],
)  # fmt: skip
def test_the_probe_says_what_is_missing(what: str, instead: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launchers with one part broken. A root folder that programs can write to needs their user to own it."""
    source = host.LAUNCH.read_text()
    assert what in source
    if "read_only" in what:
        source = source.replace("size=1m,mode=755", "size=1m,mode=777")
    broken = source.replace(what, instead)
    monkeypatch.setattr(host, "_launcher", lambda: compile(broken, "launch", "exec"))
    found = module._probe.__wrapped__(None)
    assert not found.whole
    assert any(missing in each for each in found.missing), found


def test_where_something_is_missing_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_probe", lambda python: Probe((), ("It lacks network namespaces (why).",)))
    with pytest.raises(BadInput, match=r"not whole here. It lacks network namespaces \(why\). Sandbox\(unsafe=True\)"):
        run("print(1)")


UNSAFE = {
    "print(input())": (OK, "ended after"),
    "while True: pass": (TIMEOUT, "longer than 0.3 s"),
    "x = bytearray(10 ** 10)": (MEMORY, "MemoryError"),
    "while True: print('x' * 1000)": (OUTPUT, "wrote more"),
    "import time, os\nfor _ in range(5): os.fork()\ntime.sleep(1000)": (PROCESSES, "more than 12"),
    "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(1000)\n    os._exit(0)": (
        OK,
        "ended after",
    ),
    "import ctypes\nctypes.string_at(0)": (CRASHED, "SIGSEGV"),
}


@linux
@pytest.mark.parametrize("program", UNSAFE)
def test_unsafe_runs_have_limits_all_the_same(
    program: str, mark: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_probe", lambda python: Probe((), ("Nothing.",)))
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    verdict, told = UNSAFE[program]
    limits = SHORT if verdict is TIMEOUT else SMALL
    ran = run(program, Sandbox(limits, env=(("MARK", mark),), unsafe=True), stdin="in")
    assert ran.verdict is verdict, ran
    assert told in ran.told
    assert list(tmp_path.iterdir()) == []


# What users get wrong


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": 0}, {"seconds": math.inf}, {"memory": 1.5}, {"memory": -1}, {"processes": True}, {"cpu": "1"}],
    ids=str,
)
def test_limits_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", ".", "a//b", "a\0b", "./a"])
def test_names_of_files_are_checked(name: str) -> None:
    with pytest.raises(BadInput, match="relative names"):
        run("print(1)", files={name: "x"})


def test_commands_paths_and_interpreters_are_checked(tmp_path: Path) -> None:
    for asked in ({}, {"argv": []}, {"argv": "ls"}, {"argv": ["a\0b"]}):
        with pytest.raises(BadInput, match="give"):
            run(**asked)  # type: ignore[arg-type]
    for wrong in (
        {"readable": ("/no/such",)},
        {"readable": ("/",)},
        {"readable": "/usr"},
        {"at_once": 0},
        {"python": "py"},
    ):
        with pytest.raises(BadInput, match="Sandbox"):
            Sandbox(**wrong)  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    (tmp_path / "b").mkdir()
    server.bind(str(tmp_path / "b" / "s"))
    server.close()
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "b"):
        with pytest.raises(BadInput, match="is a socket or pipe"):
            Sandbox(readable=(str(path),))
    with pytest.raises(BadInput, match="no Python that runs here"):
        run("print(1)", Sandbox(python=str(tmp_path / "python")))
