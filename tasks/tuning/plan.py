"""What a command asks for, once it makes sense: what is tuned on what, and where it is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.registry import Workflow, is_file, is_saved
from reasonweave.orchestrator.space import Space
from reasonweave.tasks.opening import Chosen, check_roles, open_task, settings_of, specs_of, verifiers_of
from reasonweave.tasks.tuning.outcomes import COSTS
from reasonweave.tasks.tuning.split import Split
from reasonweave.tasks.tuning.study import defined, differing, fresh_folder

DEFAULTS: dict[str, Any] = {"task": "lab", "budget": "", "cost": "flops", "seed": 0}
RUNS = Path("runs")


def located(reference: str | None) -> str | None:
    """A reference that means the same from every folder."""
    if reference is None:
        return None
    if not (is_file(reference) or is_saved(reference)):
        return reference
    path, colon, name = reference.rpartition(":") if not reference.endswith((".py", ".json")) else (reference, "", "")
    return f"{Path(path).resolve()}{colon}{name}"


def named(verifier: str) -> str:
    """What `--verifier` was given, in a form that means the same from every folder."""
    role, equals, reference = verifier.rpartition("=")
    return f"{role}{equals}{located(reference)}"


@dataclass(frozen=True)
class Plan:
    """A command that makes sense: what is tuned on what, and where it is kept. Nothing is opened yet."""

    folder: Path
    given: Mapping[str, Any]
    workflow: Workflow
    baselines: Mapping[str, Workflow]
    """By the names that they are told by."""
    space: Space
    split: Split
    budget: Budget
    task: str
    verifiers: Mapping[str, Chosen]

    @classmethod
    def of(cls, study: Path | None, given: Mapping[str, Any], against: Sequence[str]) -> Plan:
        """What a study that is there has, and what is given. Raises `BadInput` and `NotFound` for whatever cannot be."""
        stored = defined(study) if study else None
        if study and not stored and study.is_dir() and any(p.stat().st_size for p in study.iterdir()):
            raise BadInput(f"{study}: there are files in it, and none is a study; name another folder")
        if stored and (name := differing(stored, given)):
            flag = "the workflow" if name == "workflow" else f"--{name.replace('_', '-')}"
            raise BadInput(
                f"{study}: this study has {stored.get(name)!r} for {flag}, and {given[name]!r} is given; leave it out to go on, "
                "or name another folder"
            )
        known = stored or DEFAULTS | {name: value for name, value in given.items() if value not in (None, "")}
        known = dict.fromkeys(given) | known
        if known["workflow"] is None:
            raise BadInput(
                "name a workflow to tune, as examples/workflows/tunable.py:workflow, or a --study that is there"
            )
        if known["cost"] not in COSTS:
            raise BadInput(f"--cost {known['cost']}: one of {', '.join(COSTS)} is needed")
        workflow = Workflow.named(known["workflow"])
        named = {reference: Workflow.named(reference) for reference in dict.fromkeys(against)}
        short = [each.name for each in named.values()]
        baselines = {w.name if short.count(w.name) == 1 else reference: w for reference, w in named.items()}
        workflows = [workflow, *baselines.values()]
        budget = Budget.parse(known["budget"] or "")
        (fixed,) = settings_of(known["setting"] or [], [workflow])
        space = Space.of(workflow, fixed)
        verifiers = verifiers_of(known["verifier"] or [], known["verifier_setting"] or [], workflows)
        check_roles(workflows, budget, known["model_role"] or [], verifiers)
        instruction = known["instruction"]
        task = open_task(known["task"], None if instruction is None else instruction and f"\n\n{instruction}")
        split = Split.of(task, known["limit"], known["held_out"], known["seed"])
        known |= {"limit": len(split.search), "held_out": len(split.held_out), "problems": split.digest}
        if stored and stored["problems"] != split.digest:
            raise BadInput(
                f"{study}: the problems of {known['task']} are not those of this study any more; name another folder"
            )
        folder = study or fresh_folder(RUNS, f"{time.strftime('%Y%m%d-%H%M%S')}-tune-{task.name}")
        return cls(folder, known, workflow, baselines, space, split, budget, task.name, verifiers)

    @property
    def workflows(self) -> list[Workflow]:
        return [self.workflow, *self.baselines.values()]

    @property
    def specs(self) -> Any:
        """Which spec fills which role, given the roles of a models file."""
        flags = {role: self.given[role] for role in ("small", "large", "prm")}
        return partial(specs_of, self.given["task"], flags, self.given["model_role"] or [])

    @property
    def remembers(self) -> bool:
        """Are samples dealt out again? Not where time counts, of which a sample that is known takes none."""
        return self.given["cost"] != "seconds" and self.budget.seconds is None
