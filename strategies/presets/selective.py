"""The preset that says "I don't know"."""

from __future__ import annotations

from pathlib import Path

from reasonweave.orchestrator.calibration import Calibrator, ConformalThreshold, from_json
from reasonweave.orchestrator.errors import BadInput, described
from reasonweave.orchestrator.graph import chain
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.protocols import Strategy
from reasonweave.strategies.aggregators.vote import majority
from reasonweave.strategies.policies.sample import whole
from reasonweave.strategies.routers.abstain import abstain
from reasonweave.strategies.searches.best_of_n import BestOfN


def selective(
    small: Model,
    *,
    n: int = 16,
    below: float = 0.5,
    calibration: str = "",
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> Strategy:
    """Self-consistency that abstains: no answer where the winner's share of the votes is lower than `below`.

    `calibration` names a file that holds what `to_json` wrote: a calibrator, whose probability is then compared with `below`,
    or a `ConformalThreshold`, which takes its place.
    """
    fitted = _calibration(calibration) if calibration else None
    unsure = abstain(fitted) if isinstance(fitted, ConformalThreshold) else abstain(below, fitted)
    samples = BestOfN(whole(small, temperature=temperature, max_tokens=max_tokens), n=n, max_steps=1)
    return chain(samples, majority, unsure)


def _calibration(file: str) -> Calibrator | ConformalThreshold:
    try:
        return from_json(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"calibration={file!r}: that file cannot be read ({described(error)})") from error
