"""What confidences on the lab are worth, raw and calibrated, and what abstaining by them gives: docs/confidence.md.

    reasonweave eval self-consistency weighted-majority best-of-n selective --task lab --limit 500 -S n=16 --log-dir runs
    python benchmarks/calibration.py runs/20261121-120000-lab

Calibrators are fitted on every other problem and judged on the rest, both ways round, so that each problem is judged by a
fit that has not seen it. Thresholds are fitted on a random half and judged on the other, over and over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reasonweave.orchestrator.calibration import ConformalThreshold, Isotonic, Platt, TemperatureScaling
from reasonweave.tasks.evaluation.confidence import LAMBDAS, aurc, brier, coverage_at, ece, surest, utility
from reasonweave.tasks.evaluation.records import Record, Records
from reasonweave.tasks.evaluation.stats import auc, bootstrap

SPLITS = 500
RISKS = ((0.05, None), (0.1, None), (0.05, 0.1), (0.1, 0.1))
CALIBRATORS = {"isotonic": Isotonic, "Platt": Platt, "temperature": TemperatureScaling}


def told(found: Callable[[np.ndarray], float], n: int, form: str = "{:.3f}") -> str:
    """A figure with its 95 % bootstrap interval over problems."""
    low, high = bootstrap(found, range(n), draws=2000)
    return f"{form.format(found(np.arange(n)))} [{form.format(low)}, {form.format(high)}]"


def crossed(kind: type[Isotonic], confidences: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Calibrated confidences, each by a fit on the half that it is not in."""
    half, made = np.arange(len(right)) % 2 == 0, np.empty(len(right))
    for fitted_on in (half, ~half):
        made[~fitted_on] = kind.fit(confidences[fitted_on], right[fitted_on]).each(confidences[~fitted_on])
    return made


def raw(name: str, confidences: np.ndarray, right: np.ndarray) -> str:
    half = told(lambda rows: 100 * surest(confidences[rows], right[rows]), len(right), "{:.1f}")
    return (
        f"| {name} | {len(right)} | {100 * right.mean():.1f} | {confidences.mean():.3f} | "
        f"{ece(confidences, right, equal_mass=True):.3f} | {auc(confidences, right):.3f} | {aurc(confidences, right):.3f} | "
        f"{half} | {100 * coverage_at(confidences, right):.1f} |"
    )


def calibrated(name: str, confidences: np.ndarray, right: np.ndarray) -> list[str]:
    ways = {"raw": confidences} | {way: crossed(kind, confidences, right) for way, kind in CALIBRATORS.items()}
    rows = []
    for way, said in ways.items():
        cells = [told(lambda i, of=of, said=said: of(said[i], right[i]), len(right)) for of in (ece, brier)]
        gains = [utility(right, said >= lam / (1 + lam), lam) for lam in LAMBDAS]
        answered = [f"{100 * (said >= lam / (1 + lam)).mean():.0f} %" for lam in LAMBDAS[1:]]
        won = " | ".join(f"{gain:.3f}" for gain in gains[1:])
        rows.append(f"| {name} | {way} | {' | '.join(cells)} | {won} | {' / '.join(answered)} |")
    always = [utility(right, np.ones(len(right), bool), lam) for lam in LAMBDAS[1:]]
    return [*rows, f"| {name} | always answers | – | – | {' | '.join(f'{gain:.3f}' for gain in always)} | 100 % |"]


def promised(name: str, confidences: np.ndarray, right: np.ndarray) -> list[str]:
    rng, n, rows = np.random.default_rng(0), len(right), []
    for risk, delta in RISKS:
        answered, lost, wrong, never = [], [], [], 0
        for _ in range(SPLITS):
            order = rng.permutation(n)
            fitted_on, rest = order[: n // 2], order[n // 2 :]
            t = ConformalThreshold.fit(confidences[fitted_on], right[fitted_on], risk=risk, delta=delta).threshold
            given = confidences[rest] >= t
            answered.append(given.mean())
            lost.append((given & ~right[rest]).mean())
            never += not given.any()
            if given.any():
                wrong.append((~right[rest])[given].mean())
        above = "–" if delta is None else f"{100 * np.sum(np.array(wrong) > risk) / SPLITS:.1f}"
        kind = "P(answered and wrong)" if delta is None else f"P(wrong \\| answered), δ = {delta}"
        rows.append(
            f"| {name} | {kind} | {risk} | {100 * np.mean(answered):.1f} | {100 * np.mean(lost):.2f} | "
            f"{100 * np.mean(wrong) if wrong else np.nan:.2f} | {above} | {100 * never / SPLITS:.0f} |"
        )
    return rows


def known(records: list[Record]) -> tuple[np.ndarray, np.ndarray]:
    kept = [r for r in records if r.answer is not None and r.confidence is not None]
    return np.array([r.confidence for r in kept]), np.array([r.correct for r in kept])


def main(folder: Path) -> None:
    files = [Records.read(path) for path in sorted(folder.glob("*.jsonl"))]
    found = {f.header.workflow: known(f.items) for f in files if not any(r.abstained for r in f.items)}
    print(
        "| workflow | answers | right, % | mean confidence | ECE, equal mass | AUC | AURC | right of the surest half, % | ",
        end="",
    )
    print("coverage at 5 %, % |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(raw(name, *pairs) for name, pairs in found.items()), end="\n\n")
    print(
        "| workflow | confidence | ECE | Brier | utility λ = 1 | λ = 20 | answered |\n|---|---|---:|---:|---:|---:|---:|"
    )
    print("\n".join(row for name, pairs in found.items() for row in calibrated(name, *pairs)), end="\n\n")
    print("| workflow | promise | at most | answered, % | answered and wrong, % | wrong of answered, % | ", end="")
    print("halves above, % | never answers, % |\n|---|---|---:|---:|---:|---:|---:|---:|")
    print("\n".join(row for name, pairs in found.items() for row in promised(name, *pairs)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
