"""What `reasonweave up | down | status | doctor` do, and `--models` and `--up` of the other commands."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models import launch
from reasonweave.orchestrator.models.doctor import Check, report
from reasonweave.orchestrator.models.roles import RoleSpec, load
from reasonweave.tasks.evaluation.display import stderr, stdout


def say(line: str) -> None:
    """A line of progress."""
    stderr().print(line, highlight=False, markup=False, soft_wrap=True)


def roles_of(models: Path) -> dict[str, RoleSpec]:
    """The roles of a models file, with the servers that `up` keeps for it."""
    return launch.with_urls(load(models), launch.known(models))


@contextmanager
def running(models: Path, used: Collection[str]) -> Iterator[dict[str, RoleSpec]]:
    """The roles that are used, with what is not up started for the time of the block."""
    specs = {role: spec for role, spec in roles_of(models).items() if role in used}
    with launch.running(specs, say) as served:
        yield served


@contextmanager
def examined(models: Path, start: bool) -> Iterator[dict[str, RoleSpec]]:
    """What `doctor` looks at: the roles, with what is not up started for the time of the block if `start`, as far as there is
    a vLLM to start it with. A role that is served nowhere stays so, and the report says it."""
    specs = roles_of(models)
    waiting = launch.to_start(specs)
    if waiting and start:
        try:
            launch.python_with_vllm()
        except BadInput as error:
            say(f"not started: {error}")
        else:
            say(f"starting {', '.join(waiting)} for the time of this report (--no-start looks only at what is up)")
            with launch.running(specs, say) as served:
                yield served
            return
    yield specs


def up(models: Path, python: str | None, timeout: float) -> None:
    """Start what a models file needs, and leave it running."""
    specs = load(models)
    if there := launch.known(models):
        raise BadInput(f"{', '.join(s.role for s in there)} of {models} are up already; `reasonweave down {models}`")
    if not launch.to_start(specs):
        raise BadInput(f"{models}: every role has a url or a spec; there is nothing to start")
    fleet = launch.Fleet(specs, python=python)
    try:

        def told(line: str) -> None:
            launch.remember(models, fleet.servers)  # so that `down` finds them whatever becomes of this command
            say(line)

        fleet.bring_up(told, stay=True, timeout=timeout)
    except BaseException:
        fleet.stop()
        launch.forget(models)
        raise
    say(f"up; `reasonweave eval … --models {models}` uses them, `reasonweave down {models}` ends them")


def down(models: Path) -> None:
    """End what `up` left running."""
    _must_exist(models)
    there = launch.known(models)
    launch.stop(there)
    launch.forget(models)
    say(f"ended: {', '.join(s.role for s in there)}" if there else "nothing was up")


def _must_exist(models: Path) -> None:
    if not models.exists() and not launch.known(models):
        raise BadInput(f"{models}: there is no such file, and nothing was started from one of that name here")


def status(models: Path) -> None:
    """Show what `up` left running."""
    _must_exist(models)
    there = launch.known(models)
    for server in there:
        health = "answers" if server.healthy else "does not answer"
        stdout().print(f"{server.role}: {server.model} at {server.url} {health}; log {server.log}", soft_wrap=True)
    if not there:
        stdout().print("nothing is up")


def doctor(specs: Mapping[str, RoleSpec]) -> bool:
    """Print the report; was a model out of reach?"""
    return asyncio.run(_examine(specs))


async def _examine(specs: Mapping[str, RoleSpec]) -> bool:
    drawn = Table(show_header=False, box=None, padding=(0, 1))
    for _ in range(3):
        drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    unreached, last = False, ""
    async for role, check in report(specs):
        unreached |= check.name in ("reachable", "opened", "rewards") and check.well is False
        told = check.told + (f" → {check.todo}" if check.todo else "")
        drawn.add_row("" if role == last else role, _mark(check), check.name, told)
        last = role
    stdout().print(drawn, markup=False, highlight=False)
    return unreached


def _mark(check: Check) -> str:
    return {True: "ok", False: "–", None: ""}[check.well]
