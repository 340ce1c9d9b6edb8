"""One process of a study: search, hold what was found against other problems, tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.remembered import Memory
from reasonweave.orchestrator.registry import Workflow
from reasonweave.tasks.evaluation.display import Display, stderr, stdout
from reasonweave.tasks.tuning.front import Entry, Report
from reasonweave.tasks.tuning.measure import Bench, RememberingModels, Subject
from reasonweave.tasks.tuning.outcomes import Difference, Figures, Outcomes
from reasonweave.tasks.tuning.plan import Plan
from reasonweave.tasks.tuning.report import Lines, draw, options_of, table, verdict
from reasonweave.tasks.tuning.search import Search
from reasonweave.tasks.tuning.study import Journal, define, defined, listed, plain_value, shown

OWN = "defaults"
"""What the tuned workflow with its own options is called."""


@dataclass
class Tuning:
    """One process of a study."""

    plan: Plan
    models: RememberingModels
    trials: int
    minutes: float | None
    connections: int
    save: Path | None
    plot: bool
    display: Display
    as_json: bool
    baselines: list[tuple[Entry, Subject]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bound: dict[str, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Search, measure what was found on the held-out problems, and tell. Ctrl-C tells what there is."""
        plan = self.plan
        space, folder, cost = plan.space, plan.folder, plan.given["cost"]
        self.models.memory = memory = Memory(folder / "samples.jsonl") if plan.remembers else None
        subject = self._subject(plan.workflow, dict(space.fixed) | space.defaults)
        self.baselines = [
            (Entry(name, {n: plain_value(v) for n, v in w.options.items()}, workflow=w.name), self._subject(w, {}))
            for name, w in plan.baselines.items()
        ]
        if not self.baselines:
            self.baselines = [(Entry(OWN, dict(space.fixed) | space.defaults), subject)]
        self.models.warn_of(plan.budget)
        if plan.given["cost"] == "usd" and not self.models.priced:
            raise BadInput("--cost usd: no model here has a price; take --cost flops, tokens or seconds")
        if not defined(folder):
            define(folder, dict(plan.given) | {"defaults": subject.key})
        elif (known := defined(folder)) and known["defaults"] != subject.key:
            raise BadInput(
                f"{folder}: {plan.given['workflow']} is not what it was when this study began; name another folder"
            )
        outcomes, lines = Outcomes(folder / "outcomes.jsonl"), Lines(self.display, stderr(), space, cost, self.trials)
        bench = Bench(outcomes, cost, plan.budget, plan.given["seed"], self.connections, lines.tick)
        search = Search(
            Journal(folder, space, plan.given["seed"]),
            bench,
            plan.split.search,
            lambda options: self._subject(plan.workflow, options),
            self.trials,
            lines,
        )
        stopped: BaseException | None = None
        try:
            with lines:
                self._begun(lines)
                await self._search(search, lines)
                await self._hold_out(search, bench, lines)
        except (asyncio.CancelledError, Exception) as error:
            stopped = error
        finally:
            await self.models.aclose()
            outcomes.close()
            if memory is not None:
                memory.close()
        if search.measured:
            self._tell(search, bench)
        elif stopped is None:
            raise BadInput(f"nothing was measured in {self.minutes:g} minutes; go on with more: {self._again}")
        if stopped is not None:
            if search.measured or isinstance(stopped, asyncio.CancelledError):
                told = f"stopped; all that was measured is in {folder}\ngo on with: {self._again}"
                stderr().print(told, highlight=False, markup=False, soft_wrap=True)
            raise KeyboardInterrupt if isinstance(stopped, asyncio.CancelledError) else stopped

    @property
    def _again(self) -> str:
        return f"reasonweave tune --study {self.plan.folder} --trials {self.trials}"

    def _subject(self, workflow: Workflow, options: Mapping[str, Any]) -> Subject:
        strategy, specs = self.models.bind(workflow, options)
        self.bound |= specs
        return Subject(strategy)

    def _begun(self, lines: Lines) -> None:
        plan, split = self.plan, self.plan.split
        lines.say(
            f"study {plan.folder}: {len(split.search)} problems to search with, {len(split.held_out)} held out, "
            f"{len(plan.space.axes)} options ({', '.join(axis.name for axis in plan.space.axes)})"
        )
        if plan.space.left:
            lines.say("left as they are: " + "; ".join(f"{name} {why}" for name, why in plan.space.left.items()))
        if not plan.remembers:
            lines.say("time counts here, so every sample is drawn anew")

    async def _search(self, search: Search, lines: Lines) -> None:
        try:
            async with asyncio.timeout(None if self.minutes is None else 60 * self.minutes) as limit:
                await search.run()
        except TimeoutError:
            if not limit.expired():
                raise
            self.notes.append(f"the search ended after {self.minutes:g} minutes with {search.count} trials")
        if search.exhausted:
            self.notes.append(f"the search found no new workflow any more after {search.count}")
        if search.repeated:
            self.notes.append(f"{search.repeated} trials did the same as another one, and do not count")
        if search.failed:
            told = [f"{tried.name} ({why})" if why else tried.name for tried, why in search.failed]
            self.notes.append(f"{len(search.failed)} trials could not be run: {listed(told)}")

    async def _hold_out(self, search: Search, bench: Bench, lines: Lines) -> None:
        """The front and the baselines on the problems that nothing was chosen by; the baselines on the others too."""
        split, level = self.plan.split, search.level
        if not search.measured:
            return
        asked = [(f"{entry.name} on the search problems", s, split.search[:level]) for entry, s in self.baselines]
        named = [(entry.name, subject) for entry, subject in self.baselines]
        named += [(m.tried.name, m.subject) for m in search.front]
        asked += [(f"{name} held out", subject, split.held_out) for name, subject in named]
        for label, subject, problems in asked:
            lines.begin(label, len(problems))
            lines.scored(label, Figures.of(await bench.measure(subject, problems), bench.cost))

    def _report(self, search: Search, bench: Bench) -> Report:
        """What is known by now."""
        plan, split = self.plan, self.plan.split
        searched, cost = split.search[: search.level], plan.given["cost"]

        def measured(entry: Entry, subject: Subject) -> Entry:
            return replace(
                entry, search=bench.figures(subject, searched), held_out=bench.figures(subject, split.held_out)
            )

        baselines = [(measured(entry, subject), subject) for entry, subject in self.baselines]
        front = [(measured(Entry(m.tried.name, m.tried.options), m.subject), m.subject) for m in search.front]
        known = [(entry, subject) for entry, subject in baselines if entry.search is not None]
        best = max(known, key=lambda pair: _rank(pair[0].search), default=None)

        def compared(entry: Entry, subject: Subject) -> Entry:
            if best is None or subject.key == best[1].key:
                return entry
            found: list[Difference | None] = []
            for problems in (searched, split.held_out):
                own, other = (bench.outcomes.of(key, problems) for key in (subject.key, best[1].key))
                found.append(Difference.of(own, other, cost) if own and other else None)
            return replace(entry, against=found[0], held_against=found[1])

        notes = list(self.notes)
        if search.level < len(split.search):
            notes.append(
                f"no trial got to all {len(split.search)} search problems: the front is of the first {search.level}"
            )
        lower = [e for e, _ in front if e.drop is not None and e.drop > 0]
        told = [e for e, _ in front if e.drop is not None]
        if told:
            mean = 100 * sum(e.drop or 0.0 for e in told) / len(told)
            notes.append(
                f"{len(lower)} of the {len(told)} entries score lower held out than where they were chosen; "
                f"on average the front is {abs(mean):.1f} points {'lower' if mean >= 0 else 'higher'} there"
            )
        return Report(
            workflow=plan.given["workflow"],
            task=plan.task,
            cost=cost,
            seed=plan.given["seed"],
            budget=repr(plan.budget),
            models=self.bound,
            front=[compared(*pair) for pair in front],
            baselines=[compared(*pair) for pair in baselines],
            trials=search.trials,
            reference=best[0].name if best else None,
            notes=notes,
        )

    def _tell(self, search: Search, bench: Bench) -> None:
        report, folder = self._report(search, bench), self.plan.folder
        report.save(folder / "front.json")
        if self.save is not None:
            report.save(self.save)
        picture: Path | None = folder / "front.png"
        try:
            if self.plot and picture:
                draw(report, picture, len(self.plan.split.search))
        except BadInput as error:
            picture = None
            stderr().print(f"no picture: {error}", highlight=False, markup=False, soft_wrap=True)
        if self.as_json:
            typer.echo(json.dumps(report.data(folder) | {"folder": str(folder)}, indent=2, ensure_ascii=False))
            return
        console = stdout()
        console.print(table(report))
        for line in options_of(report, self.plan.space):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if set_ := shown(self.plan.space.fixed):
            console.print(f"set   {set_}", highlight=False, markup=False, soft_wrap=True)
        console.print()
        for note in report.notes:
            console.print(f"note     {note}", highlight=False, markup=False, soft_wrap=True)
        if said := verdict(report):
            console.print(f"verdict  {said}", highlight=False, markup=False, soft_wrap=True)
        fresh, dealt = self.models.fresh, self.models.dealt
        if fresh + dealt:
            share = f"{fresh:,} samples and ratings were made, {dealt:,} dealt out again"
            console.print(f"reuse    {share}", highlight=False, soft_wrap=True)
        console.print(f"front    {self.save or folder / 'front.json'}", highlight=False, markup=False, soft_wrap=True)
        if self.plot and picture:
            console.print(f"picture  {picture}", highlight=False, markup=False, soft_wrap=True)
        if report.front:
            last = report.front[-1].name
            told = f"reasonweave eval {self.save or folder / 'front.json'}:{last} --task {self.plan.given['task']}"
            console.print(f"run one  {told}", highlight=False, markup=False, soft_wrap=True)


def _rank(figures: Figures | None) -> tuple[float, float]:
    """More accurate first, then cheaper."""
    return (figures.accuracy, -figures.cost) if figures else (-1.0, 0.0)
