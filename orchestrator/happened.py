"""What happened at each part of a composition: a tracer, a reader of traces, and the figures of each box of an outline.

    happened = Happened()
    solve(problem, flow, trace=happened)
    print(text(outline(flow), happened))

`Happened` takes one problem after another; for problems that run at the same time, give each a `Course` of its own, which
`Happened.add` takes when it is over.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from reasonweave.orchestrator.errors import BadInput, Path
from reasonweave.orchestrator.outline import Box, Outline, texts
from reasonweave.orchestrator.trace import Ended, Event, Failed, Generated, Judged, Rated, Skipped, Started
from reasonweave.orchestrator.types import Usage

Place = tuple[str, ...]
"""A path as texts."""


@dataclass(slots=True)
class Visit:
    """What happened at one path in one problem, and not below it: how often a part `started` and `ended` there, with how many
    candidates in all (`given`, `got`), its last answer, and, each told once, why it was stopped or skipped, what failed and what
    ran instead, and which promises a verifier broke. `usage` is that of the calls made there, by model."""

    started: int = 0
    ended: int = 0
    given: int = 0
    got: int = 0
    answered: int = 0
    answer: str | None = None
    seconds: float = 0.0
    stopped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    usage: dict[str, Usage] = field(default_factory=dict)

    @property
    def told(self) -> bool:
        """Did anything happen but calls?"""
        return bool(self.started or self.ended or self.skipped or self.failed or self.broken)


@dataclass(slots=True)
class Course:
    """A tracer: how one problem went, by path. `known` says whether it is known which parts ran, and not only which calls were
    made; `timed`, whether their times are."""

    visits: dict[Place, Visit] = field(default_factory=dict)
    known: bool = True
    timed: bool = True

    def at(self, path: Path | str) -> Visit:
        """What happened at a path; nothing so far, where it is new."""
        return self.visits.setdefault(texts(path), Visit())

    def called(self, path: Path | str, model: str, usage: Usage) -> None:
        """Book a call."""
        spent = self.at(path).usage
        spent[model] = spent.get(model, Usage()) + usage

    def __call__(self, event: Event) -> None:
        match event:
            case Generated() | Rated():
                self.called(event.path, event.model, event.usage)
            case Started():
                here = self.at(event.path)
                here.started += 1
                here.given += event.candidates
            case Ended():
                here = self.at(event.path)
                here.ended += 1
                here.got += event.candidates
                here.answered += event.answer is not None
                here.answer = event.answer
                here.seconds += event.seconds
                _note(here.stopped, event.stopped)
            case Skipped():
                _note(self.at(event.path).skipped, event.why)
            case Failed():
                _note(self.at(event.path).failed, (event.error, event.instead))
            case Judged() if event.broken is not None:
                _note(self.at(event.path).broken, event.broken)


def _note(kept: list[Any], told: Any) -> None:
    if told is not None and told not in kept:
        kept.append(told)


class Happened:
    """A tracer: how problems went that ran one after another. `courses` has one for each; `seen` is the strategy that ran."""

    def __init__(self, courses: Iterable[Course] = ()) -> None:
        self.courses = list(courses)
        self.seen: str | None = None
        self.mixed = False
        """Did problems run at the same time, so that it cannot be told what happened in which of them?"""
        self._deeper = 0
        self._over = True

    def add(self, course: Course) -> None:
        """Take over how one problem went."""
        self.courses.append(course)

    def __call__(self, event: Event) -> None:
        if event.path == () and isinstance(event, Started | Ended):
            if isinstance(event, Started) and not self._begins(event):
                return
            if isinstance(event, Ended) and self._deeper:
                self._deeper -= 1
                return
            if isinstance(event, Ended):
                self.mixed, self._over = self.mixed or self._over, True
        if not self.courses:
            self.courses.append(Course())
        self.courses[-1](event)

    def _begins(self, event: Started) -> bool:
        """Does a problem begin here? Else the strategy drives another one at its own path."""
        if not self._over and self.seen not in (None, event.strategy):
            self._deeper += 1
            return False
        self.seen, self._deeper, self._over = event.strategy, 0, False
        self.courses.append(Course())
        return True

    @property
    def problems(self) -> int:
        return len(self.courses)

    @classmethod
    def of_trace(cls, path: FilePath) -> Happened:
        """What a trace (`Jsonl`) tells. Raises `BadInput`, with the line's number, for a file that is none; a last line that is
        not whole, as after a kill, is passed over."""
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
        found = cls()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                event = _event(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if number == len(lines):
                    break
                raise BadInput(
                    f"{path}, line {number}: no event of a trace ({type(error).__name__}: {error}); make one with solve --trace"
                ) from None
            if event is not None:
                found(event)
        if not found.courses:
            raise BadInput(f"{path}: there is no event in this trace")
        return found


def _event(data: Mapping[str, Any]) -> Event | None:
    """An event as `to_json` wrote it, as far as it tells of costs and of what ran; None for any other."""
    path: Path = texts(data["path"])
    match data["event"]:
        case "generated" | "rated":
            usage = Usage(**{each.name: data["usage"][each.name] for each in fields(Usage)})
            return Rated(path, data["model"], data["role"], (), usage, data["seconds"])
        case "judged":
            return Judged(path, data["verifier"], (), data["broken"], data["seconds"])
        case "started":
            return Started(path, data["strategy"], data["candidates"])
        case "ended":
            return Ended(path, data["candidates"], data["answer"], data["stopped"], data["seconds"])
        case "skipped":
            return Skipped(path, data["why"])
        case "failed":
            return Failed(path, data["error"], data["instead"])
        case "snapshot":
            return None
        case other:
            raise ValueError(f"event {other!r} is unknown")


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened at one box and below it, over all problems; what its stand-in did is that one's.

    `ran` counts problems in which it ran, `runs` how often it did; `skipped`, `stopped`, `failed` and `broken` count problems by
    their first reason, `unreached` those in which it was neither run nor skipped, `unended` those in which it began and did not
    end. `known` says whether that is known: else `ran` counts the problems in which it made calls. `given`, `got` (candidates),
    `answered` and `seconds` are sums over `told` runs, since a part that runs without being driven by itself tells of none.
    `answer` is the last one of a single problem.
    """

    problems: int
    known: bool = True
    timed: bool = True
    ran: int = 0
    runs: int = 0
    told: int = 0
    unreached: int = 0
    unended: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    stopped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, Usage] = field(default_factory=dict)
    given: int = 0
    got: int = 0
    answered: int = 0
    answer: str | None = None
    seconds: float = 0.0

    @property
    def usage(self) -> Usage:
        """Of all models together."""
        return Usage.total(list(self.models.values()))

    @property
    def share(self) -> float:
        """The share of the problems in which it ran, 0..1."""
        return self.ran / self.problems if self.problems else 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """The figures of each box of an outline, by its path. `strays` is what happened at paths of which the outline knows nothing:
    it is in the figures of the boxes around them."""

    problems: int
    figures: Mapping[Path, Figures]
    strays: Mapping[str, Usage] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, box: Box) -> Figures:
        return self.figures[box.path]


def account(drawn: Outline, happened: Happened) -> Account:
    """What happened, box by box."""
    chains = dict(_chains(drawn.root, ()))
    sums = {path: _Sum() for path in chains}
    strays: dict[str, Usage] = {}
    places: dict[Place, tuple[Box, Place]] = {}

    def placed(path: Place) -> tuple[Box, Place]:
        if path not in places:
            places[path] = drawn.place(path)
        return places[path]

    def own(at: Path, why: str) -> bool:
        """Did a limit end something here or below? A set that was cut short carries its reason along, to where nothing was."""
        where, limit, _ = why.partition(": asked for ")
        return not limit or at in chains[placed(texts(where))[0].path]

    for course in happened.courses:
        once = {path: _Once() for path in chains}
        for path, visit in course.visits.items():
            box, rest = placed(path)
            chain = chains[box.path]
            for at in chain:
                once[at].touched |= visit.started > 0 or bool(visit.usage)
                _add(once[at].models, visit.usage)
            if all(part.isdigit() for part in rest):
                (once[box.path].loose if rest else once[box.path].exact).append(visit)
            elif box.kind == "graph":
                stray = "/".join(path[: len(path) - len(rest) + 1])
                strays[stray] = strays.get(stray, Usage()) + Usage.total(list(visit.usage.values()))
            for why in visit.broken:
                for at in chain:
                    _note(once[at].broken, why)
        for at, one in once.items():
            sums[at].add(one, course, partial(own, at))
    figures = {path: found.figures(happened) for path, found in sums.items()}
    return Account(happened.problems, figures, strays, tuple(_notes(happened)))


def _notes(happened: Happened) -> Iterator[str]:
    if any(not course.known for course in happened.courses):
        yield (
            "Which parts ran was not recorded when this was run: a part counts as run where it made calls, and its times, "
            "candidates and reasons are not known (?)."
        )
    if happened.mixed:
        yield "Problems ran at the same time and were traced as one: sums hold, shares of problems do not."


def _chains(box: Box, above: tuple[Path, ...]) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """For each box, itself and the boxes that its costs are part of; a stand-in's are not of what it stands in for."""
    chain = (box.path, *above)
    yield box.path, chain
    for inner in box.inner:
        yield from _chains(inner, chain)
    if box.instead is not None:
        yield from _chains(box.instead, above)


def _add(models: dict[str, Usage], more: Mapping[str, Usage]) -> None:
    for model, usage in more.items():
        models[model] = models.get(model, Usage()) + usage


@dataclass(slots=True)
class _Once:
    """One box in one problem."""

    exact: list[Visit] = field(default_factory=list)
    loose: list[Visit] = field(default_factory=list)
    """Visits to its path with numbers after it, which are its own where there are no others: a loop ran it."""
    touched: bool = False
    models: dict[str, Usage] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Sum:
    """One box over all problems."""

    ran: int = 0
    runs: int = 0
    told: int = 0
    unreached: int = 0
    unended: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    stopped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    models: dict[str, Usage] = field(default_factory=dict)
    given: int = 0
    got: int = 0
    answered: int = 0
    answer: str | None = None
    seconds: float = 0.0

    def add(self, one: _Once, course: Course, own: Callable[[str], bool]) -> None:
        visits = one.exact if any(v.told for v in one.exact) else [v for v in one.loose if v.told]
        started = sum(v.started for v in visits)
        ran = started > 0 or one.touched
        self.ran += ran
        self.runs += max(started, ran)
        self.told += sum(v.ended for v in visits)
        skipped = [why for v in visits for why in v.skipped] if not ran else []
        self.unreached += course.known and not ran and not skipped
        self.unended += any(v.ended < v.started for v in visits)
        self.skipped.update(skipped[:1])
        self.stopped.update([why for v in visits for why in v.stopped if own(why)][:1])
        self.failed.update([error for v in visits for error, _ in v.failed][:1])
        self.broken.update(one.broken[:1])
        _add(self.models, one.models)
        self.given += sum(v.given for v in visits if v.ended)
        self.got += sum(v.got for v in visits)
        self.answered += sum(v.answered for v in visits)
        self.seconds += sum(v.seconds for v in visits)
        self.answer = next((v.answer for v in reversed(visits) if v.ended), None)

    def figures(self, happened: Happened) -> Figures:
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        if happened.problems != 1:
            own["answer"] = None
        known = all(course.known for course in happened.courses)
        timed = all(course.timed for course in happened.courses)
        return Figures(happened.problems, known, timed, **own)
