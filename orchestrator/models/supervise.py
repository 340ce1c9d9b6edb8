"""Runs one server and leaves nothing of it behind. A script of its own, without imports of ours:

    python supervise.py (watch|stay) COMMAND…

The server gets a process group of its own. It ends when this process is told to (SIGTERM, SIGINT), when the server's own
process ends, or, with `watch`, when standard input closes: when whoever started it is gone, however it went.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PATIENCE = 10.0
"""Seconds between asking the group to end and ending it."""
PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Linux: even if this supervisor is killed outright, the server is told to end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main() -> int:
    """Run the command and see it out."""
    watch, command = sys.argv[1] == "watch", sys.argv[2:]
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: told.append(got))
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent)
    while server.poll() is None and not told:
        ready, _, _ = select.select([sys.stdin] if watch else [], [], [], 0.2)
        if ready and not os.read(sys.stdin.fileno(), 1024):
            break
    _signal_group(server.pid, signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and _signal_group(server.pid, 0):
        server.poll()
        time.sleep(0.1)
    _signal_group(server.pid, signal.SIGKILL)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
