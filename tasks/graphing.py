"""`reasonweave graph`: a workflow drawn, and after a run what happened at each of its nodes. No model is opened for it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from reasonweave.orchestrator.budget import Budget
from reasonweave.orchestrator.checking import roles_in
from reasonweave.orchestrator.drawing import as_data, form_of, text, write
from reasonweave.orchestrator.errors import BadInput, ModelError, NotFound
from reasonweave.orchestrator.graph import check
from reasonweave.orchestrator.happened import Happened, account
from reasonweave.orchestrator.models.base import Model, Rating, Request, RewardModel
from reasonweave.orchestrator.outline import outline
from reasonweave.orchestrator.protocols import Strategy, Verifier
from reasonweave.orchestrator.registry import Recipe, VerifierRecipe, Workflow
from reasonweave.orchestrator.types import Completion, Score, Usage
from reasonweave.tasks.evaluation.display import stderr, stdout
from reasonweave.tasks.evaluation.records import Header, Records
from reasonweave.tasks.flags import (
    JsonFlag,
    LargeFlag,
    PrmFlag,
    RoleFlag,
    SetFlag,
    SmallFlag,
    VerifierFlag,
    VerifierSetFlag,
)
from reasonweave.tasks.opening import (
    JUDGE,
    Chosen,
    Models,
    check_roles,
    needs,
    settings_of,
    specs_of,
    verifiers_of,
)

OutFlag = Annotated[
    list[Path] | None,
    typer.Option("--out", help="Write a drawing; its ending says how: .svg, .mmd, .md, .txt or .json.", metavar="FILE"),
]
HappenedFlag = Annotated[
    Path | None,
    typer.Option(
        "--happened", help="What happened: records of eval (or their folder), or a trace of solve.", metavar="RUN"
    ),
]


class NotOpened(Model):
    """A model that a role is known to need, and that nobody has opened: it has a name, and answers nothing."""

    def __repr__(self) -> str:
        return f"{self.role}={self.name!r}"

    async def _generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise ModelError(f"{self.name} was not opened: a drawing asks no model")


class NotOpenedReward(RewardModel):
    """The same in place of a reward model."""

    def __repr__(self) -> str:
        return f"{self.role}={self.name!r}"

    async def _rate(self, ratings: Sequence[Rating]) -> list[tuple[Score, Usage]]:
        raise ModelError(f"{self.name} was not opened: a drawing asks no model")


class Unopened(Models):
    """Models that are named and never opened, by the specs that are known, else by their roles."""

    def __init__(
        self, specs: Mapping[str, str], workflow: Workflow, verifiers: Mapping[str, Chosen] | None = None
    ) -> None:
        known = needs(workflow, verifiers or {})
        kinds = {role: recipe.roles[role] for role, recipe in known.items()}
        if JUDGE in kinds and JUDGE not in specs and ("large" in kinds or isinstance(known[JUDGE], VerifierRecipe)):
            del kinds[JUDGE]  # the large model judges
            kinds.setdefault("large", Model)
        super().__init__({role: role for role in kinds} | dict(specs), verifiers=verifiers)
        self._rates = {
            role for role, kind in kinds.items() if kind is RewardModel or (kind is Verifier and role != JUDGE)
        }

    def _opened(self, role: str) -> Model | RewardModel:
        if role not in self._open:
            kind = NotOpenedReward if role in self._rates else NotOpened
            self._open[role] = kind(self.specs[role], role=role)
        return self._open[role]

    def check(self, recipes: Sequence[Recipe]) -> None:
        """There is a model for every role."""


@dataclass(frozen=True)
class Ran:
    """What a file tells of a run: what happened, of what, and with which settings, where it says so."""

    path: Path
    happened: Happened
    header: Header | None = None

    @property
    def strategy(self) -> str:
        """The strategy as it wrote itself down."""
        return self.header.strategy if self.header is not None else self.happened.seen or ""


def graph_(
    workflow: Annotated[str, typer.Argument(help="A workflow by name, or file.py:function.")],
    out: OutFlag = None,
    happened: HappenedFlag = None,
    small: SmallFlag = None,
    large: LargeFlag = None,
    prm: PrmFlag = None,
    model_role: RoleFlag = None,
    setting: SetFlag = None,
    verifier: VerifierFlag = None,
    verifier_setting: VerifierSetFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Draw a workflow, as text and as files; after a run, with what happened at each node. No model is opened."""
    found = Workflow.named(workflow)
    for path in out or []:
        form_of(path)
    verifiers = verifiers_of(verifier or [], verifier_setting or [], [found])
    check_roles([found], Budget(), model_role or [], verifiers)
    (options,) = settings_of(setting or [], [found])
    specs = specs_of("", {"small": small, "large": large, "prm": prm}, model_role or [])
    ran = read(happened, found) if happened is not None else None
    notes = list[str]()
    if ran is not None and ran.header is not None and _of(ran.header.workflow, found):
        options = _kept(ran.header, found, notes) | options
        verifiers = _verifiers(ran.header, notes) | verifiers
        specs = ran.header.models | specs
    strategy, _ = Unopened(specs, found, verifiers).bind(found, options)
    check(strategy)
    drawn = outline(strategy, title=found.name)
    told = account(drawn, ran.happened) if ran is not None else None
    if ran is not None:
        notes += differences(ran, found, strategy)
    for path in out or []:
        write(drawn, told, path)
    if as_json:
        data = {"workflow": found.name, **as_data(drawn, told), "remarks": notes}
        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        console = stdout()
        console.print(text(drawn, told, width=console.width), highlight=False, markup=False, soft_wrap=True)
        for path in out or []:
            console.print(f"drawing  {path}", highlight=False, markup=False, soft_wrap=True)
    for note in notes:
        stderr().print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def read(path: Path, workflow: Workflow) -> Ran:
    """What a file of records, a folder of them or a trace tells. Of a folder, the file that is of this workflow.

    Raises `BadInput` where it is none of them, or the folder has none, or several.
    """
    if path.is_dir():
        files = sorted(path.glob("*.jsonl"))
        ours = [file for file in files if _of(file.stem, workflow)]
        if not ours and len(files) != 1:
            told = f"it has {', '.join(file.name for file in files)}" if files else "it has no *.jsonl"
            raise BadInput(f"{path}: no records of {workflow.name} in this folder ({told}); name a file")
        return read((ours or files)[0], workflow)
    if not path.exists():
        raise BadInput(f"{path}: there is no such file or folder; name what eval or solve --trace wrote")
    with path.open("rb") as file:
        first = file.readline()
    try:
        is_header = json.loads(first).get("event") == "header"
    except (ValueError, AttributeError):
        is_header = False
    if not is_header:
        return Ran(path, Happened.of_trace(path))
    records = Records.read(path)
    if not records.items:
        raise BadInput(f"{path}: no problem in it is finished")
    return Ran(path, Happened(record.course for record in records.items), records.header)


def _of(label: str, workflow: Workflow) -> bool:
    """Is this what a workflow of this name is called in a run? A second one of the same name is numbered."""
    return label == workflow.name or re.fullmatch(rf"{re.escape(workflow.name)}-\d+", label) is not None


def _kept(header: Header, workflow: Workflow, notes: list[str]) -> dict[str, Any]:
    """The options of the run, as far as a file can say them and the workflow has them."""
    kept = dict[str, Any]()
    for name, value in header.options.items():
        default = workflow.options.get(name)
        if name in workflow.options and (callable(default) or not isinstance(default, str | int | float | bool | None)):
            continue  # a part: a file has no more than its name
        if name in workflow.options:
            kept[name] = value
        else:
            notes.append(f"the run had the option {name}={value}, which {workflow.name} does not have")
    return kept


def _verifiers(header: Header, notes: list[str]) -> dict[str, Chosen]:
    """The verifiers that were named for the run."""
    found = dict[str, Chosen]()
    for role, told in header.verifiers.items():
        name, *pairs = told.split(" ")
        try:
            recipe = VerifierRecipe.named(name)
            options = {pair.partition("=")[0]: recipe.option(*pair.partition("=")[::2]) for pair in pairs}
        except (NotFound, BadInput):
            notes.append(f"the run's verifier for {role} was {told}, which is not known here; name it with --verifier")
        else:
            found[role] = Chosen(recipe, options)
    return found


def differences(ran: Ran, workflow: Workflow, strategy: Strategy) -> list[str]:
    """In what the run was not one of the composition that is drawn."""
    if ran.header is not None and not _of(ran.header.workflow, workflow):
        return [f"{ran.path} is a run of {ran.header.workflow}, not of {workflow.name}"]
    roles = roles_in(strategy)
    if plain(ran.strategy, roles) != plain(repr(strategy), roles):
        how = (
            "another workflow, or of this one with other options"
            if ran.header is None
            else "this workflow as it was then"
        )
        return [f"{ran.path} is a run of {how}: its composition is not the one that is drawn"]
    return []


def plain(strategy: str, roles: Iterable[str]) -> str:
    """A strategy's text without what differs from one opening of its models to the next: their names, and addresses.

    >>> plain("Sample(model=small='lab-small', until=None)", ["small"])
    'Sample(model=small, until=None)'
    """
    known = "|".join(map(re.escape, sorted(roles))) or "(?!)"
    named = re.sub(rf"\b({known})='(?:[^'\\]|\\.)*'", r"\1", re.sub(r" at 0x[0-9a-f]+", "", strategy))
    return re.sub(rf"\b\w+\('({known})'\)", r"\1", named)


def hint(workflow: str, records: Path) -> str:
    """The command that draws what happened in a run."""
    return shlex.join(["reasonweave", "graph", workflow, "--happened", str(records), "--out", "graph.svg"])
