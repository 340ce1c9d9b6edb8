"""The inside of the sandbox: `_sandbox_host.py` runs this code in a process of its own (``python -I -S``), never imports it.

Three processes: the *launcher* takes namespaces of its own and waits; the *keeper*, process 1 of the new PID namespace, makes the
file system, starts the *program*, watches it, and reports on a pipe that the program never has. When the keeper ends, for
whatever reason, the kernel kills all that is left in its PID namespace. Without namespaces (`plain`) the launcher is the keeper.

Linux only where namespaces are used. It runs outside of the package, and has to start fast: built-in modules only, without
signal, socket and typing, which take longer to import than the sandbox takes to make.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import marshal
import os
import resource
import select
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

USER = 1000
"""The program's user and group inside. Outside it is `OUTSIDE` where we are root, else whoever runs us."""
OUTSIDE = 65534
TICK = 0.01
"""Seconds between two looks at what a program uses."""
SLACK = 16
"""Processes that the kernel allows above the limit, so that the watch sees the limit passed."""

NEW_USER, NEW_NS, NEW_PID, NEW_NET, NEW_IPC, NEW_UTS = 0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
SET_DEATH_SIGNAL, SET_DUMPABLE, SET_SECCOMP, DROP_BOUND, SET_SUBREAPER, SET_NO_NEW_PRIVS = 1, 4, 22, 24, 36, 38
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

CALLS = {  # numbers on (x86_64, aarch64); None where an architecture has no such call
    "pivot_root": (155, 41), "mount_setattr": (442, 442), "capset": (126, 91), "clone": (56, 220), "clone3": (435, 435),
    "socket": (41, 198),
}  # fmt: skip
OWN = ((302, 261), (203, 122), (144, 119), (142, 118), (314, 274))
"""Limits and scheduling, which a program may set for itself (process 0) and not for its keeper."""
DENIED = (  # each (x86_64, aarch64)
    # other processes' memory and files
    (101, 117), (310, 270), (311, 271), (438, 438), (312, 272),
    # memory that no limit counts: memfd_create, memfd_secret, System V and POSIX queues and segments
    (319, 279), (447, 447), (29, 194), (30, 196), (31, 195), (67, 197), (64, 190), (65, 193), (220, 192), (66, 191),
    (68, 186), (69, 189), (70, 188), (71, 187), (240, 180), (241, 181),
    # mounts and namespaces
    (165, 40), (166, 39), (155, 41), (161, 51), (272, 97), (308, 268), (442, 442), (428, 428), (429, 429), (430, 430),
    (431, 431), (432, 432), (433, 433), (467, 467),
    # keys, programs for the kernel, tracing, asynchronous calls
    (250, 219), (248, 217), (249, 218), (321, 280), (298, 241), (323, 282), (425, 425), (426, 426), (427, 427),
    # modules, kernels, clocks, swap, quotas, file handles, watching the machine
    (246, 104), (320, 294), (175, 105), (313, 273), (176, 106), (167, 224), (168, 225), (169, 142), (163, 89),
    (164, 170), (227, 112), (159, 171), (305, 266), (103, 116), (179, 60), (303, 264), (304, 265), (300, 262),
    (172, None), (173, None), (154, None), (153, 58), (135, 92), (134, None),
    # priorities; the machine's disks; what a user can have little of: watches of files, messages with open files in them
    (141, 140), (251, 30), (162, 81), (306, 267), (253, None), (294, 26), (46, 211), (307, 269),
)  # fmt: skip
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Which column of the tables, and the kernel's name of the architecture."""
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
FAMILIES = (AF_UNIX, AF_INET, AF_INET6)
"""Sockets a program may have, which reach nothing: there is no network. AF_VSOCK, for one, heeds no namespace."""
SIGINT, SIGKILL, SIGPIPE, SIGXFSZ = 2, 9, 13, 25

NOTHING = (ctypes.c_ulong(0),) * 3
libc: Any = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """A step of the set-up did not work. The message is a sentence for people."""


def check(result: int, step: str) -> int:
    """The result of a C call, or `Refused`, saying which step failed and why."""
    if result < 0:
        raise Refused(f"{step}: {os.strerror(ctypes.get_errno())}")
    return result


def column() -> tuple[int, int]:
    machine = os.uname().machine
    if machine not in MACHINES or sys.maxsize < 1 << 32:
        raise Refused(f"no table of system calls for {machine}")
    return MACHINES[machine]


def call(name: str, *args: object) -> int:
    number = CALLS[name][column()[0]]
    return int(libc.syscall(ctypes.c_long(number), *args))


def prctl(option: int, argument: int, step: str) -> None:
    check(libc.prctl(option, ctypes.c_ulong(argument), *NOTHING), step)


def forget_handler(number: int) -> None:
    libc.signal(number, None)


# The launcher


def take_namespaces() -> None:
    """New user, mount, PID, network, IPC and host name namespaces for this process's children.

    The maps of users are written by a child that stays outside: only there root may map two users, itself for the keeper and
    nobody for the program.
    """
    ready, go = os.pipe()
    if (scribe := os.fork()) == 0:
        os.close(go)
        os.read(ready, 1)
        os._exit(0 if write_maps(os.getppid()) else 1)
    os.close(ready)
    flags = NEW_USER | NEW_NS | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS
    failed = libc.unshare(flags) < 0 and ctypes.get_errno()
    os.close(go)
    _, status = os.waitpid(scribe, 0)
    if failed:
        raise Refused(f"could not take namespaces: {os.strerror(failed)}")
    if status:
        raise Refused("could not map the users of the new namespace")


def write_maps(pid: int) -> bool:
    user, group = os.geteuid(), os.getegid()
    if user == 0 and written(pid, f"0 0 1\n{USER} {OUTSIDE} 1\n", f"0 {group} 1\n{USER} {OUTSIDE} 1\n", groups=True):
        return True
    return written(pid, f"{USER} {user} 1\n", f"{USER} {group} 1\n", groups=False)


def written(pid: int, users: str, groups_: str, *, groups: bool) -> bool:
    try:
        if not groups:
            put(f"/proc/{pid}/setgroups", b"deny")
        put(f"/proc/{pid}/uid_map", users.encode())
        put(f"/proc/{pid}/gid_map", groups_.encode())
    except OSError:
        return False
    return True


def put(path: str, content: bytes, mode: int = 0o644) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)


def launch(job: dict[str, Any]) -> None:
    """Take namespaces, fork the keeper, wait until it and all in its namespace are gone."""
    take_namespaces()
    prctl(SET_DEATH_SIGNAL, SIGKILL, "could not tie the sandbox to its parent")
    if os.getppid() != job["parent"]:  # it died before the line above
        os._exit(1)
    leash, held = os.pipe()
    if (keeper := os.fork()) == 0:
        os.close(held)
        reporting(job, lambda: keep(job, leash))
        os._exit(0)
    for fd in (0, 1, 2, leash, job["life"]):  # but not the report's: it ends when this process does, the last of all
        os.close(fd)
    os.waitpid(keeper, 0)


# The keeper


def keep(job: dict[str, Any], leash: int) -> None:
    prctl(SET_DEATH_SIGNAL, SIGKILL, "could not tie the sandbox to its parent")
    if select.select([leash], [], [], 0)[0]:  # the launcher died before the line above
        os._exit(1)
    prctl(SET_DUMPABLE, 0, "could not hide the keeper's memory")
    forget_handler(SIGINT)  # process 1 is deaf to what it does not handle
    os.umask(0o022)
    double = os.getuid() == 0
    if double:
        os.setgroups([])
    make_root(job, f"uid={USER},gid={USER}")
    check(libc.sethostname(b"sandbox", 7), "could not name the host")
    place(job["files"], (USER, USER) if double else None)
    report(job, **watch(job, lambda: begin(job, USER if double else None), others))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    check(result, f"could not mount {kind or source} at {target}")


def read_only(path: str, *, whole: bool = True, device: bool = False) -> None:
    asked = struct.pack("QQQQ", MS_RDONLY | MS_NOSUID | (0 if device else MS_NODEV), 0, 0, 0)  # the same values here
    result = call("mount_setattr", AT_FDCWD, path.encode(), AT_RECURSIVE if whole else 0, asked, len(asked))
    check(result, f"could not make {path} read-only")


def make_root(job: dict[str, Any], owner: str) -> None:
    """A file system in memory with the read-only parts that programs need, a /proc of this namespace, and the scratch folder."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    base = next(each for each in ("/tmp", "/mnt", "/usr") if os.path.isdir(each))
    mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    os.mkdir(f"{base}/old")
    check(call("pivot_root", base.encode(), f"{base}/old".encode()), "could not change the root")
    os.chdir("/")
    for target, path in job["links"]:  # such as /lib, before what may lie below it
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    for source, target in job["binds"]:
        bind(f"/old{source}", target)
        read_only(target)
    for name in ("null", "zero", "full", "random", "urandom"):
        bind(f"/old/dev/{name}", f"/dev/{name}")
        read_only(f"/dev/{name}", device=True)
    os.mkdir("/empty")
    for path in job["hidden"]:
        if os.path.isdir(path):
            mount("/empty", path, "", MS_BIND)
            read_only(path)
    for path, content in job["texts"].items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        put(path, content)
    os.mkdir("/proc")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2")
    check(libc.umount2(b"/old", MNT_DETACH), "could not let go of the old root")
    os.rmdir("/old")
    os.mkdir(job["scratch"])
    size = f"size={job['disk']},nr_inodes=4096,mode=700,{owner}"
    mount("tmpfs", job["scratch"], "tmpfs", MS_NOSUID | MS_NODEV, size)
    read_only("/", whole=False)
    os.chdir(job["scratch"])


def bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            put(target, b"")
    mount(source, target, "", MS_BIND | MS_REC)


def place(files: dict[str, bytes], owner: tuple[int, int] | None) -> None:
    """Write the files into the scratch folder, which is the working folder."""
    for name, content in files.items():
        made = [name[:i] for i, char in enumerate(name) if char == "/"]
        for folder in made:
            os.makedirs(folder, exist_ok=True)
        put(name, content)
        for each in (*made, name) if owner else ():
            os.chown(each, *owner or (0, 0))


def others() -> list[int]:
    """All processes of this namespace but its first."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def descendants() -> list[int]:
    """All processes below this one, in a /proc that shows those of everybody."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit() and (fields := stat(int(name))):
            parents.setdefault(int(fields[1]), []).append(int(name))
    found, at = parents.get(os.getpid(), []), 0
    while at < len(found):
        found += parents.get(found[at], [])
        at += 1
    return found


def stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat after the name; none where the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # the name is any bytes, as the process says
            return file.read().rpartition(b") ")[2].decode().split()
    except OSError:
        return []


def look(pid: int) -> tuple[int, list[str]]:
    """A process's fields, with its number; where its first thread has ended, which then shows no memory, those of another."""
    fields = stat(pid)
    if fields and fields[0] == "Z" and int(fields[17]) > 1:
        try:
            for tid in map(int, os.listdir(f"/proc/{pid}/task")):
                if (other := stat(tid)) and other[0] != "Z":
                    return tid, other
        except OSError:
            return pid, []
    return pid, fields


def proportional(pids: Iterable[int]) -> int:
    """Bytes of memory in use, what several processes share being counted once."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
        except OSError:
            continue
    return total


def watch(job: dict[str, Any], start: Callable[[], int], pids: Callable[[], list[int]]) -> dict[str, Any]:
    """Start the program, watch it until it ends or breaks a limit, and say what happened."""
    child, began = start(), time.monotonic()
    try:
        return followed(job, child, began, pids)
    except Exception as error:  # the program runs, and may have brought that about
        return {"why": f"it could not be watched: {type(error).__name__}: {error}", "seconds": time.monotonic() - began}


def followed(job: dict[str, Any], child: int, began: float, pids: Callable[[], list[int]]) -> dict[str, Any]:
    ticks, poll = os.sysconf("SC_CLK_TCK"), select.poll()
    poll.register(job["life"], 0)  # hanging up is told always
    try:
        ended = os.pidfd_open(child)
    except (AttributeError, OSError):  # an old kernel or another system: the next tick will do
        ended = -1
    if ended >= 0:
        poll.register(ended, select.POLLIN)
    why, status, peak, cpu, counted_at = "", None, 0, 0.0, 0.0
    past, used = 0, dict[int, int]()  # processor time of the processes that are gone, and of those that are there
    while status is None and not why:
        events = dict(poll.poll(TICK * 1000))
        now, looked = time.monotonic(), [(pid, *look(pid)) for pid in pids()]
        fields = [each for _, _, each in looked if each]
        tasks = sum(max(1, int(each[17])) for each in fields)
        memory = sum(int(each[21]) for each in fields) * resource.getpagesize()
        if memory > job["memory"]:  # shared pages are counted several times here, so look closer, which takes longer
            memory = proportional(shown for _, shown, _ in looked) if now > counted_at + 5 * TICK else 0
            counted_at = now if memory else counted_at
        while (reaped := reap()) and status is None:
            status = reaped[1] if reaped[0] == child else None
        gone = resource.getrusage(resource.RUSAGE_CHILDREN)
        waited = gone.ru_utime + gone.ru_stime + sum(sum(map(int, each[11:15])) for each in fields) / ticks
        uses = {pid: int(each[11]) + int(each[12]) for pid, _, each in looked if each}
        past += sum(each for pid, each in used.items() if uses.get(pid, 0) < each)
        used = uses  # children that nobody waits for are in here alone
        cpu = max(cpu, waited, (past + sum(used.values())) / ticks)
        peak = max(peak, memory)
        if job["life"] in events:
            why = "cancelled"
        elif tasks > job["processes"]:
            why = "processes"
        elif memory > job["memory"]:
            why = "memory"
        elif status is None and now - began > job["seconds"]:
            why = "seconds"
        elif cpu > job["cpu"]:
            why = "cpu"
    seconds = time.monotonic() - began
    full = 0 in ((space := os.statvfs(".")).f_bavail, space.f_favail)
    return {"why": why, "status": status, "seconds": seconds, "cpu": cpu, "memory": peak, "full": full}


def reap() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def keep_plainly(job: dict[str, Any]) -> None:
    """The keeper where there are no namespaces: it can only kill what it finds."""
    linux = sys.platform == "linux"
    if linux:
        prctl(SET_SUBREAPER, 1, "could not adopt orphans")
    os.chdir(job["scratch"])
    place(job["files"], None)
    child = 0

    def start() -> int:
        nonlocal child
        child = begin(job, None)
        return child

    found = watch(job, start, descendants if linux else list)
    end = time.monotonic() + 2.0
    while child:
        for pid in (left := descendants()):
            kill(os.kill, pid)
        kill(os.killpg, child)
        while reap():
            pass
        if not left or time.monotonic() > end:
            break
    report(job, **found)


def kill(how: Callable[[int, int], None], target: int) -> None:
    try:  # no contextlib, which imports much
        how(target, SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


# The program


def begin(job: dict[str, Any], user: int | None) -> int:
    """Fork and start the program; returns once it runs, or raises `Refused`."""
    told, telling = os.pipe()
    if (child := os.fork()) == 0:
        try:
            become(job, user, telling)
        except BaseException as error:
            os.write(telling, str(error).encode(errors="replace")[:1000])
        os._exit(127)
    os.close(telling)
    for fd in (0, 1, 2):  # the program alone has its output
        os.close(fd)
    why = os.read(told, 4096).decode(errors="replace")
    os.close(told)
    if why:
        os.waitpid(child, 0)
        raise Refused(why)
    return child


def become(job: dict[str, Any], user: int | None, telling: int) -> None:
    """Give up all that a program should not have, and execute it."""
    os.setsid()
    linux, plain = sys.platform == "linux", job["plain"]
    if linux:
        drop_privileges(job, user)
    bound(job)
    for number in (SIGPIPE, SIGXFSZ, SIGINT):  # which Python has set for itself
        forget_handler(number)
    close_others(telling)
    if linux and (not plain or filters()):
        install_filter((AF_UNIX,) if plain else FAMILIES)
    try:
        os.execvpe(job["argv"][0], job["argv"], job["env"])
    except OSError as error:
        raise Refused(f"could not start {job['argv'][0]}: {error.strerror}") from None


def drop_privileges(job: dict[str, Any], user: int | None) -> None:
    if job["plain"]:
        prctl(SET_DEATH_SIGNAL, SIGKILL, "could not tie the program to its keeper")
    else:
        prctl(SET_DUMPABLE, 1, "could not open its own files in /proc")
        put("/proc/self/oom_score_adj", b"1000")  # first to go when memory ends, if it does not put that back
        for capability in range(64):
            if libc.prctl(DROP_BOUND, capability, 0, 0, 0) < 0:
                break
        if user is not None:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
        check(call("capset", header, none), "could not drop capabilities")
    prctl(SET_NO_NEW_PRIVS, 1, "could not forbid new privileges")


def bound(job: dict[str, Any]) -> None:
    """Resource limits. Those that count a user's processes would count others' too where there are no namespaces."""
    cpu = int(job["cpu"]) + 2  # the watch counts all processes together; this is for one, should the watch be slow
    limit(resource.RLIMIT_CPU, cpu)
    limit(resource.RLIMIT_AS, job["memory"])
    limit(resource.RLIMIT_FSIZE, job["disk"])
    limit(resource.RLIMIT_NOFILE, job["open_files"])
    limit(resource.RLIMIT_CORE, 1)  # less than any core; where cores go to a program, 1 keeps them from it, 0 does not
    limit(resource.RLIMIT_STACK, max(8 << 20, job["memory"] // 4), soft=8 << 20)
    if sys.platform == "linux":
        for nothing in ("MSGQUEUE", "RTPRIO", "NICE", "MEMLOCK"):
            limit(getattr(resource, f"RLIMIT_{nothing}"), 0)
        if not job["plain"]:
            limit(resource.RLIMIT_NPROC, job["processes"] + SLACK)


def limit(what: int, hard: int, soft: int | None = None) -> None:
    """Set a resource limit, or as near to it as what is set already allows."""
    ceiling = resource.getrlimit(what)[1]
    hard = hard if ceiling == resource.RLIM_INFINITY else min(hard, ceiling)
    try:
        resource.setrlimit(what, (min(hard, hard if soft is None else soft), hard))
    except (ValueError, OSError) as error:
        if sys.platform == "linux":  # elsewhere some limits cannot be had
            raise Refused(f"could not set resource limit {what} to {hard}: {error}") from None


def close_others(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16 if sys.platform != "linux" else 1 << 20)


def filters() -> bool:
    """Can system calls be filtered here?"""
    try:
        column()
    except Refused:
        return False
    with open("/proc/self/status") as file:
        return "\nSeccomp:" in file.read()


def filter_code(families: Sequence[int]) -> bytes:
    """The filter of system calls, in the kernel's packet filter language: what is denied fails with EPERM."""
    at, machine = column()
    load, equal, above, any_bit, done = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, deny, missing, kill_ = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
    number, architecture, argument = 0, 4, 16
    new_any = NEW_USER | NEW_NS | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | 0x2000000
    code = [(load, 0, 0, architecture), (equal, 1, 0, machine), (done, 0, 0, kill_), (load, 0, 0, number)]
    if at == 0:  # the x32 calls have numbers of their own
        code += [(above, 0, 1, 0x40000000), (done, 0, 0, missing)]
    for each in DENIED:
        if (denied := each[at]) is not None:
            code += [(equal, 0, 1, denied), (done, 0, 0, deny)]
    code += [
        (equal, 0, 1, CALLS["clone3"][at]),
        (done, 0, 0, missing),
    ]  # the C library then uses clone, whose flags show
    code += [(equal, 0, 4, CALLS["clone"][at]), (load, 0, 0, argument), (any_bit, 0, 1, new_any)]
    code += [(done, 0, 0, deny), (done, 0, 0, allow)]
    for own in OWN:
        code += [(equal, 0, 4, own[at]), (load, 0, 0, argument), (equal, 1, 0, 0)]
        code += [(done, 0, 0, deny), (done, 0, 0, allow)]
    code += [(equal, 0, len(families) + 3, CALLS["socket"][at]), (load, 0, 0, argument)]
    code += [(equal, len(families) - i, 0, family) for i, family in enumerate(families)]
    code += [(done, 0, 0, 0x00050000 | errno.EAFNOSUPPORT), (done, 0, 0, allow), (done, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *each) for each in code)


def install_filter(families: Sequence[int]) -> None:
    code = ctypes.create_string_buffer(filter_code(families))
    program = struct.pack("HxxxxxxQ", (len(code) - 1) // 8, ctypes.addressof(code))
    check(libc.prctl(SET_SECCOMP, ctypes.c_ulong(2), program, *NOTHING[:2]), "could not filter system calls")


# What is missing, one by one


def diagnose(job: dict[str, Any]) -> None:
    """Try each thing alone, in a process of its own, and report what does not work and why."""
    parts = {
        "user": NEW_USER, "mount": NEW_NS, "PID": NEW_PID, "network": NEW_NET, "IPC": NEW_IPC, "host name": NEW_UTS,
    }  # fmt: skip
    tries: dict[str, Callable[[], object]] = {
        f"{name} namespaces": lambda flag=flag: check(libc.unshare(flag | NEW_USER), "unshare")  # type: ignore[misc]
        for name, flag in parts.items()
    }

    def filtered() -> None:
        prctl(SET_NO_NEW_PRIVS, 1, "prctl")
        install_filter(FAMILIES)

    tries["a filter of system calls"] = filtered
    report(job, missing=[f"{name} ({why})" for name, attempt in tries.items() if (why := alone(attempt))])


def alone(attempt: Callable[[], object]) -> str:
    told, telling = os.pipe()
    if (child := os.fork()) == 0:
        try:
            attempt()
        except Exception as error:
            os.write(telling, str(error).encode()[:500])
        os._exit(0)
    os.close(telling)
    why = os.read(told, 4096).decode()
    os.close(told)
    os.waitpid(child, 0)
    return why


def report(job: dict[str, Any], **facts: object) -> None:
    os.write(job["report"], marshal.dumps(facts))


def reporting(job: dict[str, Any], work: Callable[[], None]) -> None:
    """Do the work; where it fails, report that."""
    try:
        work()
    except Exception as error:
        told = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        report(job, refused=told[:2000])


def main(job: dict[str, Any]) -> None:
    """Follow the orders; never returns."""
    for fd in (job["report"], job["life"]):
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    work = diagnose if job["diagnose"] else keep_plainly if job["plain"] else launch
    reporting(job, lambda: work(job))
    os._exit(0)
