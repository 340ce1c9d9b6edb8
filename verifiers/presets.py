"""The verifiers by name: what `--verifier`, `verify-quality` and `list verifiers` know. Each is a short function over the parts.

Parameters without a default are roles, which take a model; the others are options, `-V name=value`.
"""

from __future__ import annotations

from reasonweave.orchestrator.confidence import WINDOW, Windowed, bottom_confidence, lowest_confidence, tail_confidence
from reasonweave.orchestrator.errors import BadInput, NotFound
from reasonweave.orchestrator.models.base import Model, RewardModel
from reasonweave.orchestrator.protocols import Verifier
from reasonweave.orchestrator.sandbox import Limits, Sandbox
from reasonweave.verifiers.code import CodeCheck
from reasonweave.verifiers.confidence import MEASURES, Confidence
from reasonweave.verifiers.consistency import Agreement, RoundTrip
from reasonweave.verifiers.constraints import Constraints, share_met, stated
from reasonweave.verifiers.formal import Formal
from reasonweave.verifiers.judge import UtilityDigit
from reasonweave.verifiers.lean import Lean
from reasonweave.verifiers.outcome import OutcomeReward
from reasonweave.verifiers.pairwise import Pairwise, Tournament, bradley_terry, mean_win
from reasonweave.verifiers.prm import REDUCTIONS, PrefixReward, ProcessReward, Reduction
from reasonweave.verifiers.rubric import Rubric
from reasonweave.verifiers.self_check import BrainstormedCheck, SelfCheck, SelfEvaluation
from reasonweave.verifiers.steps import StepCheck
from reasonweave.verifiers.unit_tests import AssertTests, StatementTests

WINDOWED = {"tail": tail_confidence, "bottom": bottom_confidence, "lowest": lowest_confidence}
RANKS = {"mean-win": mean_win, "bradley-terry": bradley_terry}
READINGS = {"stated": stated, "share-met": share_met}


def process_reward(prm: RewardModel, *, reduce: str = "product") -> Verifier:
    """A process reward model: a score a step, made one by `reduce` (last, lowest, product, average; model: one tag at the end).

    Costs: one pass of the reward model a candidate.
    """
    if reduce != "model" and reduce not in REDUCTIONS:
        raise NotFound("reduction", reduce, [*REDUCTIONS, "model"])
    return PrefixReward(prm) if reduce == "model" else ProcessReward(prm, REDUCTIONS[reduce])


def outcome(orm: RewardModel) -> Verifier:
    """An outcome reward model: one score for the whole solution.

    Costs: one pass of the reward model a candidate.
    """
    return OutcomeReward(orm)


def judge(judge: Model, *, expected: bool = True) -> Verifier:
    """A model grades the last step from 0 to 9 (SpecReason): the expected digit, or with expected=false the greedy one.

    Costs: one token of the judge a candidate, on a cached prefix.
    """
    return UtilityDigit(judge, expected)


def self_check(judge: Model, *, drawn: int = 0) -> Verifier:
    """P(True): a model is asked whether the answer is right (Kadavath et al., 2022); drawn=k shows it k more answers of its own.

    Costs: one token of the judge a candidate, on a cached prefix; with drawn, k solutions a problem.
    """
    return SelfCheck(judge, drawn=drawn)


def confidence(*, measure: str = "probability", window: int = WINDOW) -> Verifier:
    """How sure the author was, by measure: probability, entropy, self-certainty, mean, tail, bottom or lowest confidence.

    Costs: nothing.
    Needs: log-probabilities; alternatives (-S top_logprobs=20) for all measures but probability.
    """
    if measure not in MEASURES:
        raise NotFound("measure", measure, MEASURES)
    if measure in WINDOWED:
        return Confidence(Windowed(WINDOWED[measure], window))
    if window != WINDOW:
        raise BadInput(f"confidence: window is for {', '.join(WINDOWED)}; {measure} reads the whole solution")
    return Confidence(MEASURES[measure])


def steps(
    *,
    reduce: str = "lowest",
    neutral: float = 1.0,
    wrong: float = 0.0,
    carried: float = 0.25,
    unsourced: float = 1.0,
) -> Verifier:
    """A symbolic checker: reads the equations and inequalities in each step, and does the sums again.

    Costs: nothing.
    """
    return StepCheck(_reduction(reduce), neutral, wrong, carried, unsourced)


def agreement() -> Verifier:
    """The share of a problem's other candidates that give the same answer: self-consistency as a score.

    Costs: nothing.
    """
    return Agreement()


def round_trip(judge: Model, *, maskings: int = 3, samples: int = 1) -> Verifier:
    """Solve the answer backwards: is a number of the problem found again from the answer (Weng et al., 2023)?

    Costs: maskings · samples solutions by the judge a distinct answer.
    """
    return RoundTrip(judge, maskings, samples, temperature=0.7 if samples > 1 else 0.0)


def rubric(judge: Model, *, tries: int = 2) -> Verifier:
    """A model grades each criterion of a rubric in JSON; the weighted mean, 0 to 1.

    Costs: a reply of the judge a candidate.
    """
    return Rubric(judge, tries=tries)


def pairwise(judge: Model, *, most: int = 0, rank: str = "mean-win") -> Verifier:
    """A model says of pairs which is better, both ways round; mean-win or bradley-terry. most bounds the pairs, 0 being all.

    Costs: two tokens of the judge a pair, n (n − 1) / 2 pairs.
    """
    if rank not in RANKS:
        raise NotFound("rank", rank, RANKS)
    return Pairwise(judge, most or None, RANKS[rank])


def tournament(judge: Model) -> Verifier:
    """A knockout of candidates, in pairs that a model decides: how far each one comes.

    Costs: two tokens of the judge a match, n − 1 matches.
    """
    return Tournament(judge)


def brainstormed_check(judge: Model, *, k: int = 5) -> Verifier:
    """P(True), the model being shown up to k answers of the other candidates first (Kadavath et al., 2022).

    Costs: one token of the judge a candidate.
    """
    return BrainstormedCheck(judge, k)


def self_evaluation(judge: Model, *, ratio: float = 0.5) -> Verifier:
    """A model is asked about each step; joined with how sure its author was (Xie et al., 2023). ratio=1 asks the model alone.

    Costs: one token of the judge a step, on a cached prefix.
    Needs: log-probabilities, but with ratio=1.
    """
    return SelfEvaluation(judge, ratio)


def constraints(judge: Model, *, value: str = "stated", tries: int = 2) -> Verifier:
    """A model writes down what the problem demands, once, and checks candidates against it (PlanGEN); stated score or share-met.

    Costs: a reply of the judge a candidate, and one a problem.
    """
    if value not in READINGS:
        raise NotFound("value", value, READINGS)
    return Constraints(judge, value=READINGS[value], tries=tries)


def code(*, seconds: float = 10.0, memory: int = 512, all_or_nothing: bool = False, unsafe: bool = False) -> Verifier:
    """Runs the candidate's program against the problem's tests, in a sandbox; the share that it passes. memory is in MiB.

    Costs: no tokens; about 0.05 s of processor time a candidate, and what its program takes.
    Needs: tests with each problem (a field `tests`); Linux with user namespaces, or unsafe=true.
    """
    return CodeCheck(_sandbox(seconds, memory, unsafe), all_or_nothing=all_or_nothing)


def unit_tests(judge: Model, *, most: int = 8) -> Verifier:
    """A model writes statements that a good answer makes true, once a problem, and checks each candidate against them (Archon).

    Costs: a reply of the judge a candidate, and one a problem.
    """
    return StatementTests(judge, most=most)


def assert_tests(
    judge: Model, *, most: int = 8, seconds: float = 10.0, memory: int = 512, unsafe: bool = False
) -> Verifier:
    """A model writes asserts, once a problem, and candidates' programs run against them in a sandbox (CodeT). memory is in MiB.

    Costs: a reply of the judge a problem; about 0.1 s of processor time a candidate, and what its program takes.
    Needs: Linux with user namespaces, or unsafe=true.
    """
    return AssertTests(judge, _sandbox(seconds, memory, unsafe), most=most)


def formal(formaliser: Model, prover: Model, *, tries: int = 3, proofs: int = 16, project: str = "") -> Verifier:
    """Lean 4: each step is written as a theorem that Lean accepts, and then proved (Safe). project is a folder with Mathlib.

    Costs: up to tries replies of the formaliser and proofs of the prover a step, and a run of Lean for each.
    Needs: Lean 4 with Mathlib (https://lean-lang.org/install).
    """
    return Formal(formaliser, prover, Lean(project=project or None), tries=tries, proofs=proofs)


def _reduction(name: str) -> Reduction:
    if name not in REDUCTIONS:
        raise NotFound("reduction", name, REDUCTIONS)
    return REDUCTIONS[name]


def _sandbox(seconds: float, memory: int, unsafe: bool) -> Sandbox:
    return Sandbox(Limits(seconds=seconds, memory=memory << 20), unsafe=unsafe)
