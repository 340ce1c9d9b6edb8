"""What is said of a verifier: against enumeration, hand-worked tables, and as a user sees it."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonweave.orchestrator.calibration import Isotonic, from_json
from reasonweave.orchestrator.imperfect import outcomes
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.types import Usage
from reasonweave.tasks.evaluation.quality import Graded, Quality, any_of, best_of
from reasonweave.tasks.lab.task import LabTask
from reasonweave.tasks.opening import in_range
from reasonweave.verifiers import ProcessReward, Scaled, SelfCheck, UtilityDigit

COMMAND = [sys.executable, "-m", "reasonweave.tasks.cli"]
PLUGIN = Path(__file__).parents[2] / "examples" / "plugin" / "reasonweave_example_plugin" / "verifier.py"


def enumerated(values: list[float], right: list[bool], n: int) -> float:
    """The chance that the highest of n is right, over all choices of n, ties shared evenly."""
    total = 0.0
    choices = list(itertools.combinations(range(len(values)), n))
    for chosen in choices:
        ranks = [-math.inf if math.isnan(values[i]) else values[i] for i in chosen]
        tops = [i for i, rank in zip(chosen, ranks, strict=True) if rank == max(ranks)]
        total += sum(right[i] for i in tops) / len(tops)
    return total / len(choices)


CELLS = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan]), st.booleans()), min_size=1, max_size=8)


@given(CELLS, st.integers(1, 8))
def test_best_of_n_is_what_enumeration_gives(cells: list[tuple[float, bool]], n: int) -> None:
    values, right = [v for v, _ in cells], [r for _, r in cells]
    n = min(n, len(cells))
    assert best_of(values, right, n) == pytest.approx(enumerated(values, right, n))
    share = sum(any(right[i] for i in some) for some in itertools.combinations(range(len(right)), n))
    assert any_of(right, n) == pytest.approx(share / math.comb(len(right), n))


def test_best_of_many_stays_exact() -> None:
    values = [i / 200 for i in range(200)]
    assert best_of(values, [i == 199 for i in range(200)], 100) == pytest.approx(0.5)
    assert best_of([0.5] * 200, [i < 50 for i in range(200)], 77) == pytest.approx(0.25)


def quality(rows: list[list[tuple[float, bool]]]) -> Quality:
    graded = [Graded(i, value, right) for i, row in enumerate(rows) for value, right in row]
    return Quality("mine", tuple(graded), {"m": Usage(prompt=90, calls=9)}, 1.0)


def test_a_verifier_that_is_fooled_by_one_in_a_hundred_has_a_peak() -> None:
    """A right answer scores 0.5, most wrong ones 0.1, one wrong one 0.9: the more samples, the surer that one is found."""
    row = [(0.5, True)] * 5 + [(0.1, False)] * 9 + [(0.9, False)]
    found = quality([row] * 30)
    curve = [best_of([v for v, _ in row], [r for _, r in row], n) for n in range(1, 16)]
    assert found.peak.value == curve.index(max(curve)) + 1 == 4
    assert (found.peak.low, found.peak.high) == (4, 4)
    assert not found.still_rising
    assert [found.best_of_n(n).value for n in (1, 4, 15)] == pytest.approx([1 / 3, max(curve), 0.0])
    assert found.sizes == [1, 2, 4, 8, 15]
    assert found.pass_at(15) == 1


def test_a_perfect_verifier_goes_on_rising_and_a_blind_one_never_gains() -> None:
    rng = random.Random(1)
    rows = [[(1.0 if right else 0.0, right) for right in (rng.random() < 0.3 for _ in range(8))] for _ in range(50)]
    perfect = quality(rows)
    assert perfect.still_rising
    assert perfect.best_of_n(8).value == pytest.approx(perfect.pass_at(8))
    assert (perfect.outcome.value, perfect.within.value) == (1.0, 1.0)
    blind = quality([[(0.5, right) for _, right in row] for row in rows])
    assert blind.peak.value == 1
    assert blind.outcome.value == blind.within.value == 0.5
    low, high = blind.gain_over_one(8)
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(0, abs=1e-12)


def test_two_verifiers_are_compared_in_pairs() -> None:
    rows = [[(1.0, True), (0.0, False)], [(0.0, True), (1.0, False)]]
    good = quality([[(1.0, right) if right else (0.0, right) for _, right in row] for row in rows])
    gap = good.less(quality(rows), 2)
    assert (gap.value, gap.n) == (0.5, 2)
    assert 0 <= gap.low <= 0.5 <= gap.high <= 1
    assert good.less(good, 2).high == 0


def test_unanswered_candidates_are_chosen_last_and_unjudged_ones_too() -> None:
    graded = (Graded(0, 0.9, False, answered=False), Graded(0, 0.1, True), Graded(0, math.nan, False, error="no digit"))
    found = Quality("mine", graded, {}, 1.0)
    assert found.best_of_n(3).value == 1
    assert (found.unjudged, found.first_error) == (1, "no digit")
    assert len(found.judged) == 2


def test_thresholds_by_hand() -> None:
    rows = [
        [(0.9, True), (0.8, False), (0.2, True), (0.1, False)],
        [(0.8, True), (0.7, True), (0.3, False), (0.1, False)],
    ]
    found = quality(rows)
    at = {round(t.at, 6): t for t in found.thresholds}
    seven = at[0.7]
    assert (seven.accepted, seven.completeness, seven.soundness, seven.precision) == (0.5, 0.75, 0.75, 0.75)
    assert seven.ceiling == pytest.approx(outcomes(math.inf, [0.5, 0.5], 0.75, 0.75).right)
    best = found.best_threshold
    assert best is not None
    assert best.completeness + best.soundness == 1.5
    assert found.outcome.value == pytest.approx((4 + 2 + 3.5 + 3) / 16)


def test_calibration_is_for_probabilities_only() -> None:
    found = quality([[(1.5, True), (0.2, False)]])
    assert not found.probable
    assert math.isnan(found.calibration.value)
    assert math.isnan(found.brier)
    fair = quality([[(0.5, True), (0.5, False)]] * 20)
    assert fair.calibration.value == pytest.approx(0)
    assert fair.brier == pytest.approx(0.25)
    assert fair.bins() == [(0.5, 0.5, 40)]


def test_the_curve_and_the_calibration_error_are_of_the_same_bins() -> None:
    rng = random.Random(2)
    for zeros in (0.0, 0.3, 0.9):
        cells = [(0.0 if rng.random() < zeros else rng.random(), rng.random() < 0.5) for _ in range(300)]
        found = quality([cells])
        bins = found.bins()
        gap = sum(n * abs(mean - share) for mean, share, n in bins) / 300
        assert gap == pytest.approx(found.calibration.value)
        assert zeros < 0.5 or len(bins) > 1


def test_what_could_not_be_judged_is_not_accepted() -> None:
    graded = [Graded(0, 0.9, True), *(Graded(0, math.nan, True, error="no") for _ in range(3)), Graded(0, 0.1, False)]
    best = Quality("mine", tuple(graded), {}, 1.0).best_threshold
    assert best is not None
    assert (best.completeness, best.soundness, best.accepted) == (0.25, 1.0, 0.2)


def test_the_best_threshold_is_the_one_of_all_scores() -> None:
    rng = random.Random(3)
    for _ in range(50):
        row = [(rng.randrange(30) / 30, rng.random() < 0.4) for _ in range(40)]
        best = quality([row]).best_threshold
        rights, wrongs = sum(r for _, r in row), sum(not r for _, r in row)
        gains = [
            sum(r for v, r in row if v >= t) / rights + sum(not r for v, r in row if v < t) / wrongs
            for t in {v for v, _ in row}
        ]
        assert best is not None
        assert best.completeness + best.soundness == pytest.approx(max(gains))


def test_a_problem_with_few_candidates_does_not_decide_for_all() -> None:
    rows = [[(0.9, True), (0.1, False)] * 4 for _ in range(19)]
    found = quality([*rows, [(0.5, True)]])
    assert (found.fewest, found.short, found.sizes) == (8, 1, [1, 2, 4, 8])
    assert found.best_of_n(8).value == 1


def test_step_auc_by_hand() -> None:
    graded = [
        Graded(0, 0.5, True, steps=(0.9, 0.3), labels=(True, False)),
        Graded(1, 0.5, False, steps=(0.2, 0.8), labels=(True, False)),
        Graded(1, 0.5, False, steps=(0.2,), labels=(True, False)),  # not one a step: left out
        Graded(1, 0.5, False, steps=(0.2,), labels=None),
    ]
    step = Quality("mine", tuple(graded), {}, 1.0).step
    assert (step.value, step.n) == (0.5, 4)


def test_the_lab_labels_steps() -> None:
    (example,) = LabTask().examples(1)
    assert LabTask().step_labels(example, ["nonsense"]) == [False]


def reasonweave(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=200, check=False)


def test_the_command_measures_prints_draws_and_saves(tmp_path: Path) -> None:
    ended = reasonweave("verify-quality", "prm", "--limit", "12", "-S", "n=8", "--save", "fit.json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for told in ("prm on lab: 12 problems, 96 candidates", "outcome AUC", "step AUC", "calibration error", "ceiling"):
        assert told in ended.stdout
    assert "lab-prm" in ended.stdout
    assert (tmp_path / "runs" / "verify-quality-prm-lab.png").stat().st_size > 10_000
    assert isinstance(from_json((tmp_path / "fit.json").read_text()), Isotonic)
    again = reasonweave("verify-quality", "prm", "--limit", "12", "-S", "n=8", "--json", "--no-plot", cwd=tmp_path)
    other = reasonweave(
        "verify-quality",
        "prm",
        "--limit",
        "12",
        "-S",
        "n=8",
        "--json",
        "--no-plot",
        "--max-connections",
        "1",
        cwd=tmp_path,
    )
    data, same = json.loads(again.stdout), json.loads(other.stdout)
    for each in (data, same):
        del each["cost_per_candidate"]["seconds"]
    assert data == same
    assert data["candidates"] == 96
    assert data["step_auc"]["value"] > 0.8
    assert set(data["best_of_n"]) == {"1", "2", "4", "8"}


def test_too_few_candidates_for_a_calibrator_lose_no_figure(tmp_path: Path) -> None:
    ended = reasonweave(
        "verify-quality", "agreement", "--limit", "1", "-S", "n=4", "--save", "a/fit.json", cwd=tmp_path
    )
    assert "outcome AUC" in ended.stdout
    assert ended.returncode == 2
    assert "Isotonic.fit" in ended.stderr


def test_recorded_samples_are_judged_for_no_tokens_of_their_model(tmp_path: Path) -> None:
    made = reasonweave(
        "eval", "self-consistency", "--limit", "10", "-S", "n=4", "--no-plot", "--log-dir", "runs", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    (run,) = (tmp_path / "runs").iterdir()
    chosen = (f"{PLUGIN}:follows_the_problem", "--records", str(run), "--json", "--no-plot")
    ended = reasonweave("verify-quality", *chosen, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    data = json.loads(ended.stdout)
    assert (data["problems"], data["candidates"], data["cost_per_candidate"]["tokens"]) == (10, 40, {})
    ended = reasonweave("verify-quality", "prm", "--records", str(run), "--json", "--no-plot", cwd=tmp_path)
    assert json.loads(ended.stdout)["step_auc"]["value"] > 0.8
    ended = reasonweave("verify-quality", "confidence", "--records", str(run), "--no-plot", cwd=tmp_path)
    assert ended.returncode == 2
    assert "its steps have no log-probabilities" in " ".join(
        ended.stderr.split()
    )  # records do not say which step has which


def test_a_role_gets_scores_in_the_range_that_it_reads() -> None:
    digit = UtilityDigit(ScriptedModel(["7"]))
    assert repr(in_range("prm", digit)) == "Scaled(verifier=" + repr(digit) + ", highest=1.0)"
    assert in_range("judge", digit) is digit
    assert isinstance(check := in_range("judge", SelfCheck(ScriptedModel(["True"]))), Scaled)
    assert check.highest == 9.0
    prm = ProcessReward(ScriptedReward())
    assert in_range("prm", prm) is prm
    assert in_range("judge", prm) is prm


MISTAKES = """
from reasonweave.verifiers import Rule
nothing = Rule(lambda candidate: None)
class Empty:
    pass
empty = Empty()
def makes_nothing():
    return 3
"""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["prn"], "no verifier 'prn'; did you mean 'prm'"),
        (["prm", "-V", "reduce=max"], "no reduction 'max'"),
        (["prm", "-V", "redcue=last"], "no option 'redcue'; did you mean 'reduce'"),
        (["outcome"], "verifier outcome needs a model for its role 'orm': add --model-role orm=SPEC"),
        (["prm", "--prm", "lab/small"], "lab-small generates text; this role is for a reward model"),
        (["mine.py:nothing", "--limit", "2"], "nothing could judge none of 32 candidates: <lambda> cannot judge this"),
        (["mine.py:empty"], "no verifier 'empty'"),
        (["mine.py"], "name a verifier of it, as mine.py:nothing"),
        (["mine.py:makes_nothing"], "verifier makes-nothing is 3, which has no score(candidates, run)"),
        (["prm", "--records", "nowhere"], "there is no such file or folder"),
        (["confidence", "-V", "measure=tail", "--limit", "2"], "kept no alternatives"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], told: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MISTAKES)
    ended = reasonweave("verify-quality", *arguments, cwd=tmp_path)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert told in " ".join(ended.stderr.split())


# The same names in `eval`.


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["single", "--verifier", "confidence"], "--verifier confidence: single takes no verifier; best-of-n does"),
        (["best-of-n", "--verifier", "judge=confidence"], "no verifier role 'judge'"),
        (["best-of-n", "--verifier", "confidence", "--verifier", "prm"], "there is one for every role already"),
        (["best-of-n", "-V", "measure=tail"], "-V measure=tail sets an option of a verifier: name it with --verifier"),
        (["best-of-n", "--verifier", "confidence", "-V", "mesure=tail"], "no option 'mesure'; did you mean 'measure'"),
        (["best-of-n", "--verifier", "confidence", "--budget", "prm.tokens=5"], "no role 'prm'"),
    ],
)
def test_a_mistake_about_verifiers_in_eval(arguments: list[str], told: str, tmp_path: Path) -> None:
    ended = reasonweave("eval", *arguments, "--limit", "1", cwd=tmp_path)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert told in " ".join(ended.stderr.split())


def test_eval_with_a_verifier_of_ones_own(tmp_path: Path) -> None:
    chosen = ["best-of-n", "--verifier", f"prm={PLUGIN}:follows_the_problem", "--limit", "3", "-S", "n=2"]
    ended = reasonweave("eval", *chosen, "--no-plot", "--log-dir", "runs", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "lab-prm" not in ended.stdout
    (records,) = (tmp_path / "runs").glob("*/best-of-n.jsonl")
    head = json.loads(records.read_text().splitlines()[0])
    assert head["verifiers"] == {"prm": "follows-the-problem"}
    assert head["models"] == {"small": "lab/small"}


def test_a_verifiers_own_models_are_named_as_any_others(tmp_path: Path) -> None:
    """The judge of a verifier is the large model, where nobody else is named."""
    chosen = ["best-of-n", "--verifier", "self-check", "--limit", "2", "-S", "n=2", "--json", "--no-plot"]
    (data,) = json.loads(reasonweave("eval", *chosen, cwd=tmp_path).stdout)
    assert set(data["tokens"]) == {"lab-small", "lab-large"}
    (data,) = json.loads(reasonweave("eval", *chosen, "--model-role", "judge=lab/small", cwd=tmp_path).stdout)
    assert set(data["tokens"]) == {"lab-small"}


RULES = """
def shortest(candidate, *, least: int = 0):
    return -max(least, len(candidate.text))
"""


def test_a_plain_function_of_a_candidate_is_a_verifier(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(RULES)
    chosen = ("best-of-n", "--verifier", "mine.py:shortest", "--limit", "2", "-S", "n=4", "--no-plot")
    assert reasonweave("eval", *chosen, "-V", "least=9", cwd=tmp_path).returncode == 0
    (records,) = (tmp_path / "runs").glob("*/best-of-n.jsonl")
    for line in records.read_text().splitlines()[1:]:
        samples = json.loads(line)["samples"]
        assert [s["score"] for s in samples] == [-max(9, len(s["text"])) for s in samples]


BROKEN = """
class Broken:
    name = "half-done"
    async def score(self, candidates, run):
        return []
broken = Broken()
"""


def test_a_broken_verifier_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    ended = reasonweave(
        "eval", "best-of-n", "--verifier", "mine.py:broken", "--limit", "3", "-S", "n=2", "--no-plot", cwd=tmp_path
    )
    assert "verifier half-done gave 0 scores for 2 candidates" in " ".join(ended.stdout.split())
    assert "Traceback" not in ended.stderr
    (records,) = (tmp_path / "runs").glob("*/best-of-n.jsonl")
    assert all(json.loads(line)["answer"] for line in records.read_text().splitlines()[1:])
