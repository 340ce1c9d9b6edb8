"""Formal step verification in Lean 4, as in Safe (Liu et al., 2025, arXiv 2506.04592): a theorem a step, proved or not."""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, TypeAlias

import numpy as np

from reasonweave.orchestrator.errors import BadInput
from reasonweave.orchestrator.models.base import Model
from reasonweave.orchestrator.prompts import filled
from reasonweave.orchestrator.run import Run
from reasonweave.orchestrator.types import (
    Candidate,
    Completion,
    Context,
    FloatArray,
    Message,
    Problem,
    Sampling,
    Score,
    shown,
)
from reasonweave.verifiers._once import Once
from reasonweave.verifiers.judge import Unreadable, heard, not_judged
from reasonweave.verifiers.lean import AXIOMS, Lean, Report

FORMALISE_PROMPT = """\
Below is a problem, and a solution as far as it goes. Look at the last step only. Does it need to be proved?

* If it says nothing that could be wrong (it restates the problem, announces what comes, or gives the result again), reply: False
* If it calculates anything at all, or draws a conclusion, write a theorem in Lean 4 with Mathlib that holds if and only if the
step is right. What the step builds on, from the problem and the steps before, goes into the hypotheses; what it claims is the
conclusion. Give every variable its type. Do not prove it: end it with `:= by sorry`. No natural language, no other declaration.

Example. Step: "Since $a(2)+3=2-5$, we get $2a=-6$, so $a=-3$."
```lean
theorem step (a : ℝ) (h : a * 2 + 3 = 2 - 5) : 2 * a = -6 ∧ a = -3 := by sorry
```

Problem:
{problem}

Solution up to here:
{steps}

Last step:
{step}

Reply with False, or with one theorem in a code block, and nothing else."""

PROVE_PROMPT = "Complete the following Lean 4 code:\n\n{header}\n{statement} := by\n"
PROOF_PREFIX = "```lean4\n{header}\n{statement} := by\n"

FORBIDDEN = frozenset(
    "sorry sorryAx admit axiom native_decide set_option unsafe macro macro_rules notation notation3 syntax elab "
    "elab_rules infix infixl infixr prefix postfix import open namespace section variable variables universe "
    "instance attribute local private scoped def abbrev theorem lemma example class structure inductive "
    "coinductive opaque constant initialize builtin_initialize run_cmd run_tac run_elab run_meta by_elab "
    "implemented_by extern csimp reduceBool reduceNat ofReduceBool ofReduceNat trustCompiler lcProof unsafeCast "
    "include_str export mutual deriving noncomputable partial declare_syntax_cat simproc register_simp_attr alias "
    "include omit".split()
)
"""What neither a theorem nor a proof may say: ways to prove nothing, to change what words mean, or to run programs."""

_WORD = re.compile(r"(?<![\w.'!?])[A-Za-z_][\w']*")
_COMMAND = re.compile(r"#[a-z]\w\w+|@\[|«|»|\bIO\b|\beval%")
_TOKEN = re.compile(r'--[^\n]*|/-|-/|"(?:[^"\\]|\\.)*"|.', re.DOTALL)
_FENCED = re.compile(r"```[A-Za-z0-9]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_THEOREM = re.compile(r"theorem\s+(?P<name>[A-Za-z_][\w']*)(?P<rest>.*?)\s*:=\s*(?:by\s+)?sorry\s*\Z", re.DOTALL)
_OPENING = re.compile(r"\A(?:\s*(?:import|open)\b[^\n]*\n|\s*\n)*\s*")
_NOTHING = re.compile(r"\W*(?:False|no verification (?:is )?(?:required|needed))\W*", re.IGNORECASE)


class State(StrEnum):
    """What becomes of a step."""

    PROVED = "proof success"
    UNPROVED = "proof failure"
    PLAIN = "no verification required"
    UNFORMAL = "formalisation failed"


@dataclass(frozen=True, slots=True)
class Checked:
    """A step that was looked at: its state, the theorem (with its name) and the proof where there are any, and why it failed."""

    state: State
    statement: str = ""
    name: str = ""
    proof: str = ""
    why: str = ""


Aggregation: TypeAlias = Callable[[Sequence[State]], float]
"""From the states of a solution's steps (at least one) to its value in 0..1."""


@dataclass(frozen=True)
class Worth:
    """What a step in each state is worth, in 0..1, and a solution: the mean of its steps, in logs if `geometric`.

    The numbers are ours: a proof says most, no proof in so many tries speaks against a step but refutes nothing, and a step that
    could not be put into Lean says little. Without labelled data they are as good as any; with some, fit a `StateLogit`.
    """

    proved: float = 0.95
    plain: float = 0.8
    unformal: float = 0.6
    unproved: float = 0.3
    geometric: bool = True

    def __post_init__(self) -> None:
        if not all(0 < each <= 1 for each in (self.proved, self.plain, self.unformal, self.unproved)):
            raise BadInput(f"{self!r}: a state is worth something above 0 and up to 1")

    def of(self, state: State) -> float:
        return {
            State.PROVED: self.proved,
            State.PLAIN: self.plain,
            State.UNFORMAL: self.unformal,
            State.UNPROVED: self.unproved,
        }[state]

    def __call__(self, states: Sequence[State]) -> float:
        """What a solution with steps in these states is worth.

        >>> round(Worth()([State.PROVED, State.PLAIN]), 3), round(Worth(geometric=False)([State.PROVED, State.UNPROVED]), 3)
        (0.872, 0.625)
        """
        worth = [self.of(state) for state in states]
        if self.geometric:
            return math.exp(math.fsum(map(math.log, worth)) / len(worth))
        return math.fsum(worth) / len(worth)


@dataclass(frozen=True)
class StateLogit:
    """The chance that a solution is right, from the shares of its steps in each state: 1 / (1 + exp(−(bias + Σ wₛ·shareₛ))).

    It stands where the paper has an LSTM over the sequence of states, and knows how many there are of each, not in which order.
    `fit` finds the weights from solutions with known outcomes.
    """

    bias: float = 0.0
    proved: float = 0.0
    unproved: float = 0.0
    unformal: float = 0.0

    def __call__(self, states: Sequence[State]) -> float:
        weights = np.array([self.bias, self.proved, self.unproved, self.unformal])
        return float(1 / (1 + np.exp(-np.clip(_features(states) @ weights, -30, 30))))

    @classmethod
    def fit(cls, solutions: Sequence[Sequence[State]], right: Sequence[bool], *, ridge: float = 1.0) -> StateLogit:
        """The weights that fit best, by Newton's method on the log-likelihood less `ridge`/2 times their squares (bias aside).

        Raises `BadInput` where there are no solutions, or all are right, or all wrong.
        """
        if len(solutions) != len(right) or len(set(map(bool, right))) < 2 or not all(solutions):
            raise BadInput(
                "StateLogit.fit: give the states of at least one right and one wrong solution, none of them empty"
            )
        x, y = np.array([_features(states) for states in solutions]), np.array(right, dtype=float)
        penalty = np.diag([1e-6, ridge, ridge, ridge])
        weights = np.zeros(4)
        for _ in range(50):
            p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
            slope = x.T @ (y - p) - penalty @ weights
            step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + penalty, slope)
            weights = weights + np.clip(step, -5, 5)
            if np.abs(step).max() < 1e-9:
                break
        return cls(*map(float, weights))


def _features(states: Sequence[State]) -> FloatArray:
    shares = [
        sum(state is each for state in states) / len(states) for each in (State.PROVED, State.UNPROVED, State.UNFORMAL)
    ]
    return np.array([1.0, *shares])


_Key: TypeAlias = tuple[Problem, tuple[str, ...]]
"""A step: the problem, and the passages up to it."""


@dataclass(frozen=True)
class Formal:
    """Safe: a model puts each step into Lean 4 as a theorem, or says there is nothing to prove; a prover proves it; Lean decides.

    Up to `tries` theorems are asked for until Lean compiles one with exactly one sorry, then up to `proofs` proofs, `batch` at a
    time, until one compiles without any and rests on Lean's own axioms only (`lean.AXIOMS`). A step ends in one of four states.
    `worth` gives each state its step score, and `value` makes one number of them: `Worth`, or a fitted `StateLogit`. A step is
    looked at once a run, however many candidates share it. Where the budget or a failure kept a step from being looked at,
    its candidates are nan, with the reason.

    Costs: a step, up to `tries` replies of the model and `proofs` of the prover, fewer where one succeeds; Lean's time.
    Needs: Lean 4 on this machine, with Mathlib for all but whole numbers (`Lean`).
    """

    model: Model
    prover: Model
    lean: Lean = field(default_factory=Lean)
    tries: int = 3
    proofs: int = 16
    batch: int = 4
    worth: Worth = field(default_factory=Worth)
    value: Aggregation | None = None
    temperature: float = 0.7
    max_tokens: int = 1024
    formalise_prompt: str = FORMALISE_PROMPT
    prove_prompt: str = PROVE_PROMPT
    proof_prefix: str = PROOF_PREFIX
    _known: Once[_Key, Checked] = field(default_factory=Once, init=False, repr=False, compare=False)

    __repr__ = shown

    patience: ClassVar[float] = math.inf
    """What it runs has limits of its own."""

    def __post_init__(self) -> None:
        if min(self.tries, self.proofs, self.batch) < 1:
            raise BadInput(f"Formal: tries={self.tries}, proofs={self.proofs}, batch={self.batch}; each is 1 or more")
        if "{step}" not in self.formalise_prompt or "{statement}" not in self.prove_prompt + self.proof_prefix:
            raise BadInput("Formal: formalise_prompt needs {step} in it, prove_prompt or proof_prefix {statement}")

    async def score(self, candidates: Sequence[Candidate], run: Run) -> list[Score]:
        found = await self.check(candidates, run)
        return [each if isinstance(each, Score) else self._score([checked.state for checked in each]) for each in found]

    def _score(self, states: Sequence[State]) -> Score:
        if not states:
            return not_judged("there is no step to look at")
        return Score((self.value or self.worth)(states), tuple(self.worth.of(state) for state in states))

    async def check(self, candidates: Sequence[Candidate], run: Run) -> list[tuple[Checked, ...] | Score]:
        """What becomes of each candidate's steps; a score of nan, with the reason, for one that could not be judged.

        Raises `BadInput`, before anything is spent, where there is no Lean to ask.
        """
        if not candidates:
            return []
        await self.lean.probe()
        keys = [[(c.problem, c.passages[: k + 1]) for k in range(len(c.passages))] for c in candidates]
        failed: dict[_Key, str] = {}

        async def find(missing: list[_Key], here: Run) -> Mapping[_Key, Checked]:
            return await self._looked_at(missing, here, failed)

        known = await self._known.all(list(itertools.chain(*keys)), run, find)
        return [
            tuple(known[key] for key in own)
            if all(key in known for key in own)
            else not_judged(next(failed.get(key, "a step was not looked at") for key in own if key not in known))
            for own in keys
        ]

    async def _looked_at(self, keys: Sequence[_Key], run: Run, failed: dict[_Key, str]) -> dict[_Key, Checked]:
        stated = await self._formalised(keys, run.child("formalise"), failed)
        unproved = {key: each for key, each in stated.items() if each.state is State.UNPROVED}
        proved = await self._proved(unproved, run.child("prove"), failed)
        return {key: proved.get(key, each) for key, each in stated.items() if key not in failed}

    async def _formalised(self, keys: Sequence[_Key], run: Run, failed: dict[_Key, str]) -> dict[_Key, Checked]:
        """Each step with an accepted theorem ("proof failure", so far), or in one of the two other states."""
        found: dict[_Key, Checked] = {}
        asking = list(keys)
        for attempt in range(self.tries):
            if not asking:
                break
            sampling = Sampling(temperature=self.temperature, max_tokens=self.max_tokens)
            contexts = [self._question(key) for key in asking]
            replies = await self.model.generate(contexts, run.child("try", attempt), sampling=sampling)
            again, compiling = list[_Key](), dict[_Key, Checked]()
            for key, reply in zip(asking, replies, strict=True):
                try:
                    checked = statement_in(_said(reply))
                except Unreadable as why:
                    if reply.finish_reason in ("budget", "error", "cancelled"):
                        failed[key] = f"step {len(key[1])} was not formalised: {why}"
                        continue
                    checked = Checked(State.UNFORMAL, why=str(why))
                if checked.state is State.UNPROVED:
                    compiling[key] = checked
                else:
                    found[key] = checked
                    again += [key] if checked.state is State.UNFORMAL else []
            reports = await self.lean.check([f"{each.statement} := by sorry\n" for each in compiling.values()])
            for (key, checked), report in zip(compiling.items(), reports, strict=True):
                refused = _not_accepted(report)
                found[key] = checked if refused is None else replace(checked, state=State.UNFORMAL, why=refused)
                again += [key] if refused is not None else []
            asking = again
        return {key: each for key, each in found.items() if key not in failed}

    async def _proved(self, stated: Mapping[_Key, Checked], run: Run, failed: dict[_Key, str]) -> dict[_Key, Checked]:
        """Each step with the proof that Lean has accepted, or as it was."""
        found = dict(stated)
        for done in range(0, self.proofs, self.batch):
            asking = [key for key, each in found.items() if each.state is State.UNPROVED and key not in failed]
            if not asking:
                break
            each_of = [key for key in asking for _ in range(min(self.batch, self.proofs - done))]
            sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=2 * self.max_tokens, stop=("```",))
            contexts = [self._task(found[key]) for key in each_of]
            replies = await self.prover.generate(contexts, run.child("try", done), sampling=sampling)
            proofs: dict[tuple[_Key, str], None] = {}
            for key, reply in zip(each_of, replies, strict=True):
                try:
                    proofs[key, proof_in(_said(reply))] = None
                except Unreadable as why:
                    found[key] = replace(found[key], why=str(why))
                    if reply.finish_reason in ("budget", "error", "cancelled") and not reply.text:
                        failed[key] = f"step {len(key[1])} was not proved: {why}"
            reports = await self.lean.check([self._whole(found[key], proof) for key, proof in proofs])
            for (key, proof), report in zip(proofs, reports, strict=True):
                line = self.lean.first_line + f"{found[key].statement} := {proof}".count("\n") + 2
                if (refused := _not_proved(report, found[key].name, line)) is None:
                    found[key] = replace(found[key], state=State.PROVED, proof=proof, why="")
                    failed.pop(key, None)
                elif found[key].state is State.UNPROVED:
                    found[key] = replace(found[key], why=refused)
        return found

    def _question(self, key: _Key) -> Context:
        problem, passages = key
        before = "\n".join(passage.strip() for passage in passages[:-1]) or "(nothing yet)"
        asked = filled(self.formalise_prompt, problem=problem.prompt, steps=before, step=passages[-1].strip())
        return Context((Message("user", asked),))

    def _task(self, checked: Checked) -> Context:
        parts = {"header": self.lean.header.strip(), "statement": checked.statement}
        return Context((Message("user", filled(self.prove_prompt, **parts)),), filled(self.proof_prefix, **parts))

    def _whole(self, checked: Checked, proof: str) -> str:
        """The accepted statement, byte for byte, with a proof, and a question what it rests on."""
        return f"{checked.statement} := {proof}\n\n#print axioms {checked.name}\n"


def _said(reply: Completion) -> str:
    """What a model says, after its thinking. Raises `Unreadable`."""
    return heard(reply).rpartition("</think>")[2]


def statement_in(reply: str) -> Checked:
    """The theorem of a reply, ready to be compiled (state "proof failure"), or that there is nothing to prove.

    Raises `Unreadable` where there is no theorem, more than one, one without exactly one sorry at its end, or a forbidden word.

    >>> statement_in("```lean\\ntheorem step : 17 + 28 = 45 := by sorry\\n```").statement
    'theorem step : 17 + 28 = 45'
    >>> statement_in("False.").state.value
    'no verification required'
    """
    if _NOTHING.fullmatch(reply):
        return Checked(State.PLAIN)
    blocks = _FENCED.findall(reply)
    code = bare(_OPENING.sub("", blocks[-1] if blocks else reply)).strip()
    found = _THEOREM.fullmatch(code)
    if found is None:
        raise Unreadable("the reply has no theorem that ends in `:= by sorry`")
    if found["rest"].startswith("."):
        raise Unreadable("the theorem's name has a point in it")
    statement = f"theorem {found['name']}{found['rest']}"
    if word := forbidden(found["name"] + found["rest"]):
        raise Unreadable(f"the theorem has a forbidden word, {word}")
    return Checked(State.UNPROVED, statement, found["name"])


def proof_in(reply: str) -> str:
    """The proof of a reply that goes on after ``:= by``. Raises `Unreadable` where it is empty or cheats.

    >>> proof_in("  norm_num\\n```")
    'by\\n  norm_num'
    """
    body = bare(reply.partition("```")[0]).rstrip()
    lines = body.splitlines()
    while lines and not lines[0].strip():
        lines.pop(0)
    if not lines:
        raise Unreadable("an empty proof")
    body = "\n".join(lines)
    if word := forbidden(body):
        raise Unreadable(f"the proof has a forbidden word, {word}")
    return "by\n" + (body if lines[0][0].isspace() else textwrap.indent(body, "  "))


def forbidden(code: str) -> str | None:
    """The first word or sign of a piece of Lean (without comments) that it must not have; None where it has none.

    >>> forbidden("  exact absurd h (by sorry)"), forbidden("  linarith [isOpen_univ.open_me]")
    ('sorry', None)
    """
    if (found := _COMMAND.search(code)) is not None:
        return found.group()
    return next((word for word in _WORD.findall(code) if word in FORBIDDEN), None)


def bare(code: str) -> str:
    """A piece of Lean without its comments, which may be nested.

    >>> bare("theorem t /- a /- b -/ c -/ : 1 = 1 -- really")
    'theorem t   : 1 = 1 '
    """
    depth, kept = 0, list[str]()
    for match in _TOKEN.finditer(code):
        piece = match.group()
        if piece == "/-":
            depth += 1
        elif piece == "-/":
            if depth == 0:
                kept.append(piece)
            elif depth == 1:
                kept.append(" ")
            depth = max(0, depth - 1)
        elif piece.startswith("--") and depth == 0:
            continue
        elif depth == 0:
            kept.append(piece)
        elif "-/" in piece:  # a comment's end inside what would be a string or a comment outside
            depth -= 1
    return "".join(kept)


def _not_accepted(report: Report) -> str | None:
    """Why a theorem is not accepted: it must compile, with exactly one sorry."""
    if report.error is not None:
        return report.error
    return None if report.sorries == 1 else f"it has {report.sorries} declarations with sorry, not one"


def _not_proved(report: Report, name: str, line: int) -> str | None:
    """Why a proof is not accepted: it must compile, without sorry, and rest on Lean's own axioms only."""
    if report.error is not None:
        return report.error
    if report.sorries:
        return "the proof uses sorry"
    axioms = report.axioms(name, line)
    if axioms is None:
        return "Lean does not say what the proof rests on"
    beyond = sorted(axioms - AXIOMS)
    return f"the proof rests on {', '.join(beyond)}" if beyond else None
