"""A study: the folder with all that a search has found so far, and the sampler that says what to try next.

The folder has `study.json` (what is searched for), `journal.log` (optuna's trials), `outcomes.jsonl` (a line a workflow and
problem), `samples.jsonl` (what the models said), `front.json` and `front.png` (what was found). The middle three only grow, and a
killed search goes on where it was.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.space import Axis, OneOf, Space
from reasonweave.tasks.tuning.outcomes import Figures, whole_lines

FORM = 1
NAME = "tune"
CORNERS = 12
"""The most trials at the beginning that are the defaults with one choice changed."""
RANDOM = 5
"""Trials after those that are drawn at random, before the sampler learns."""
SEARCHING = 4
"""One trial in so many is drawn at random later on, too."""
TINY = 1e-12


def optuna() -> Any:
    """The library, loaded on use. Raises `BadInput` without it (extra `tune`)."""
    try:
        found = importlib.import_module("optuna")
    except ImportError:
        raise BadInput("tune needs optuna: pip install 'reasonweave[tune]'") from None
    found.logging.set_verbosity(found.logging.ERROR)
    return found


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes out of a study's folder while this one is in it; a killed process leaves it open.

    Raises `BadInput` where another one is in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:  # a system without it cannot tell
        yield
        return
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"{folder}: another process is at work on this study; wait, or name another folder"
            ) from None
        yield


def defined(folder: Path) -> dict[str, Any] | None:
    """What a study's folder says it searches for; None for a folder without a study.

    Raises `BadInput` for a file that is none, or of a later form.
    """
    path = folder / "study.json"
    if not path.exists():
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        form, given = int(known["form"]), dict(known["study"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{path}: no study of `reasonweave tune`; name another folder") from None
    if form > FORM:
        raise BadInput(f"{path}: written in form {form}, and this version reads up to {FORM}: upgrade reasonweave")
    return given


def define(folder: Path, study: Mapping[str, Any]) -> None:
    """Write down what is searched for."""
    new = folder / "study.json.new"
    new.write_text(json.dumps({"form": FORM, "study": study}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(folder / "study.json")


@dataclass(frozen=True)
class Tried:
    """One trial of the journal: its options, and the values that it was given (None: not yet, or it could not be made)."""

    number: int
    options: Mapping[str, Any]
    values: tuple[float, float] | None = None
    failed: bool = False

    @property
    def name(self) -> str:
        return f"t{self.number}"


class Journal:
    """optuna's side: asked for options, told accuracy and cost.

    Each trial's sampler has a seed of its own, from the study's seed and the trial's number, and learns from the journal: a
    search that is killed and goes on tries what it would have tried. Costs are told as their logarithm to base 10, so that a
    factor counts the same everywhere on the front.
    """

    def __init__(self, folder: Path, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed
        self._optuna = optuna()
        path = folder / "journal.log"
        whole_lines(path)
        for stale in folder.glob("journal.log.lock*"):  # nobody else is here (`alone`), so a killed process left it
            stale.unlink()
        journal = importlib.import_module("optuna.storages.journal")
        storage = self._optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
        self._study = self._optuna.create_study(
            study_name=NAME, storage=storage, directions=["maximize", "minimize"], load_if_exists=True
        )
        self._axes = {axis.name: self._distribution(axis) for axis in space.axes}
        self._corners = [corner for corner, _ in zip(space.corners(), range(CORNERS), strict=False)]

    def _distribution(self, axis: Axis) -> Any:
        kinds = self._optuna.distributions
        if isinstance(axis.within, OneOf):
            return kinds.CategoricalDistribution(axis.within.values)
        low, high, log, step = axis.within.low, axis.within.high, axis.within.log, axis.within.step
        if axis.whole:
            top = high if step is None else low + math.floor((high - low) / step) * step
            return kinds.IntDistribution(int(low), int(top), log=log, step=int(step or 1))
        top = high if step is None else low + math.floor((high - low) / step + TINY) * step
        return kinds.FloatDistribution(float(low), float(top), log=log, step=step)

    def tried(self) -> list[Tried]:
        """All trials that are over, in their order."""
        states = self._optuna.trial.TrialState
        return [
            Tried(t.number, self.space.fixed | t.params, tuple(t.values) if t.values else None, t.state == states.FAIL)
            for t in self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.FAIL))
            if set(t.params) == set(self._axes)
        ]

    def next(self) -> Tried:
        """The trial to go on with: one that was begun, else a new one."""
        states = self._optuna.trial.TrialState
        for begun in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            if set(begun.params) == set(self._axes):
                return Tried(begun.number, self.space.fixed | begun.params)
            self._study.tell(begun.number, state=states.FAIL)  # killed before it had all its options
        waiting = self._study.get_trials(deepcopy=False, states=(states.WAITING,))
        number = waiting[0].number if waiting else len(self._study.get_trials(deepcopy=False))
        if not waiting and number < len(self._corners):
            self._study.enqueue_trial(self._corners[number])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.sampler = self._sampler(number)
            trial = self._study.ask(self._axes)
        return Tried(trial.number, self.space.fixed | trial.params)

    def _sampler(self, number: int) -> Any:
        seed, samplers = Run(self.seed, ("tune", number)).seed() % 2**32, self._optuna.samplers
        if number % SEARCHING == 0:
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(n_startup_trials=len(self._corners) + RANDOM, seed=seed)

    def tell(self, trial: Tried, figures: Figures) -> None:
        """What a trial came to."""
        self._study.tell(trial.number, [figures.accuracy, math.log10(max(figures.cost, TINY))])

    def fail(self, trial: Tried) -> None:
        """These options make no workflow."""
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)


def differing(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """The first thing that is given and is not what the study has; what is not given is the study's."""
    return next(
        (name for name, value in given.items() if value not in (None, [], "") and stored.get(name) != value), None
    )


def varied(space: Space, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the search that are not at their defaults."""
    return {axis.name: options[axis.name] for axis in space.axes if options[axis.name] != axis.default}


def fresh_folder(parent: Path, stem: str) -> Path:
    """A folder that was not there."""
    for name in (stem, *(f"{stem}-{again}" for again in range(2, 10_000))):
        try:
            os.makedirs(parent / name)
        except FileExistsError:
            continue
        return parent / name
    raise BadInput(f"{parent}: too many folders {stem}-…")


def shown(options: Mapping[str, Any]) -> str:
    """Options as the command line takes them."""
    return " ".join(f"{name}={_plain(value)}" for name, value in options.items())


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plain_value(value: object) -> object:
    """An option's value as JSON can hold it."""
    return value if isinstance(value, str | int | float | bool | None) else getattr(value, "__name__", repr(value))


def listed(parts: Sequence[str]) -> str:
    """Names in a sentence."""
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else "".join(parts)
