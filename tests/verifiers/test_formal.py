from __future__ import annotations

import asyncio
import math
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reasonweave.orchestrator import BadInput, Budget, Candidate, Ledger, OverBudget, Problem, Request, Run, Score, Step
from reasonweave.orchestrator.testing import ScriptedModel, check_verifier
from reasonweave.verifiers.formal import Formal, State, StateLogit, Worth, bare, proof_in, statement_in
from reasonweave.verifiers.judge import Unreadable
from reasonweave.verifiers.lean import Lean, Report, Said

FAKE = (sys.executable, str(Path(__file__).parent / "fake_lean.py"))
SUM = re.compile(r"(\d+ [-+*] \d+) = (\d+)")


@pytest.fixture
def lean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lean:
    """The stand-in for Lean, which finds its own home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return Lean(FAKE, header="", seconds=20)


def candidate(*passages: str) -> Candidate:
    return Candidate(Problem("Add 17 and 28, then 2."), tuple(Step(text, "m", 1) for text in passages), done=True)


def last_step(request: Request) -> str:
    return request.context.messages[0].content.partition("Last step:\n")[2].partition("\n\nReply")[0]


def formaliser(request: Request) -> str:
    """Puts a sum into Lean, and finds nothing to prove elsewhere."""
    found = SUM.search(last_step(request))
    return f"```lean\ntheorem step : {found[1]} = {found[2]} := by sorry\n```" if found else "False"


def scripted(
    formal: Callable[[Request], str] = formaliser, proof: str | Callable[[Request], str] = "  norm_num\n```"
) -> tuple[ScriptedModel, ScriptedModel]:
    prover = ScriptedModel(proof if callable(proof) else [proof], name="prover")
    return ScriptedModel(formal, name="formaliser"), prover


def checked(verifier: Formal, *candidates: Candidate) -> list[list[State]]:
    found = asyncio.run(verifier.check(candidates, Run()))
    return [[each.state for each in one] for one in found if not isinstance(one, Score)]


def test_the_four_states(lean: Lean) -> None:
    def formal(request: Request) -> str:
        return "theorem step : one = 1 := by sorry" if "odd" in last_step(request) else formaliser(request)

    model, prover = scripted(formal)
    verifier = Formal(model, prover, lean, proofs=3, batch=2)
    solution = candidate("17 + 28 = 45\n\n", "45 + 2 = 46\n\n", "odd\n\n", "The answer is \\boxed{46}")
    states = [State.PROVED, State.UNPROVED, State.UNFORMAL, State.PLAIN]
    assert checked(verifier, solution) == [states]
    assert [len(call) for call in model.calls] == [4, 1, 1]  # the odd step is tried three times
    assert [len(call) for call in prover.calls] == [4, 1]  # two proofs each; then one more where none was accepted
    score = asyncio.run(verifier.score([solution], Run()))[0]
    assert score.steps == (0.95, 0.3, 0.6, 0.8)
    assert score.value == pytest.approx((0.95 * 0.3 * 0.6 * 0.8) ** 0.25)


def test_what_the_models_are_asked(lean: Lean) -> None:
    model, prover = scripted()
    asyncio.run(Formal(model, prover, lean).score([candidate("We add.\n\n", "17 + 28 = 45\n\n")], Run()))
    asked = model.calls[0][1].context.messages[0].content
    assert "Add 17 and 28, then 2." in asked
    assert "Solution up to here:\nWe add.\n" in asked
    assert last_step(model.calls[0][1]) == "17 + 28 = 45"
    (request, *_rest) = prover.calls[0]
    assert request.context.prefix.endswith("theorem step : 17 + 28 = 45 := by\n")
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.stop) == (1.0, 0.95, ("```",))


def test_a_theorem_that_lean_refuses_is_asked_for_again(lean: Lean) -> None:
    replies = iter(["no theorem here", "theorem step : x = 1 := by sorry", "theorem step : 17 + 28 = 45 := by sorry"])
    model, prover = scripted(lambda request: next(replies))
    assert checked(Formal(model, prover, lean), candidate("17 + 28 = 45")) == [[State.PROVED]]
    replies = iter(["no", "no", "theorem step : 17 + 28 = 45 := by sorry"])
    model, prover = scripted(lambda request: next(replies))
    assert checked(Formal(model, prover, lean, tries=2), candidate("17 + 28 = 45")) == [[State.UNFORMAL]]


def test_a_step_that_candidates_share_is_looked_at_once(lean: Lean) -> None:
    model, prover = scripted()
    verifier, run = Formal(model, prover, lean, batch=1), Run()
    first, second = candidate("17 + 28 = 45\n\n", "45 + 2 = 47"), candidate("17 + 28 = 45\n\n", "45 + 2 = 48")

    async def twice() -> None:
        await verifier.score([first, second], run.child(1))
        await verifier.score([second, first], run.child(2))

    asyncio.run(twice())
    assert [len(call) for call in model.calls] == [3]


CHEATS = (
    "  sorry",
    "  admit",
    "  exact absurd rfl (by sorry)",
    "  native_decide",
    "  exact sorryAx _",
    "  rfl\n\naxiom cheat : 1 = 2",
    "  rfl\n\nset_option autoImplicit true",
    "  rfl\n#eval 1",
    "  rfl\n#print axioms step",
    '  rfl\nmacro "x" : tactic => `(tactic| skip)',
    '  rfl\nnotation "x" => 1',
    "  rfl\nunsafe def x := 1",
    "  rfl\nimport Mathlib",
    "  open Classical in exact rfl",
    "  rfl\ntheorem other : 1 = 1 := rfl",
    "  rfl\n@[simp] def x := 1",
    "  rfl\nattribute [simp] x",
    "  run_tac pure ()",
    "  exact (by_elab return x)",
    '  rfl\nelab "x" : tactic => pure ()',
    "  exact «sorry»",
    "  rfl /- a -/ sorry",
    "  rfl /- /- -/ -/ sorry /- -/",
    "  exact '\"' -- \"\n  sorry",
    '  have := IO.FS.readFile "/etc/passwd"\n  rfl',
)


@pytest.mark.parametrize("proof", CHEATS)
def test_cheating_proofs_never_reach_lean(proof: str) -> None:
    with pytest.raises(Unreadable, match="forbidden word"):
        proof_in(proof)


@pytest.mark.parametrize(
    "proof",
    [
        "  norm_num",
        "  intro x hx\n  nlinarith [sq_nonneg (x - 1), isOpen_univ]",
        "  -- sorry, this is a comment: open, axiom\n  ring_nf\n  simp_all only [Finset.sum_range_succ]",
        "  /- set_option /- nested -/ sorry -/ decide",
        "  exact Nat.le_of_lt_succ (by omega)",
        "  rcases h with ⟨a, b⟩ | h' <;> field_simp at *",
    ],
)
def test_honest_proofs_do(proof: str) -> None:
    assert proof_in(proof + "\n```").startswith("by\n  ")


def test_a_proof_at_the_margin_is_indented_and_an_empty_one_refused() -> None:
    assert proof_in("\nnorm_num\n  at h\n```\nmore") == "by\n  norm_num\n    at h"
    for empty in ("", "```", "-- nothing\n"):
        with pytest.raises(Unreadable, match="empty"):
            proof_in(empty)


def test_comments_are_taken_out_as_lean_does() -> None:
    assert bare("a /- b /- c -/ d -/ e -- f\ng") == "a   e \ng"
    assert bare('x "-- no comment" y') == 'x "-- no comment" y'
    assert bare("a /- never closed sorry") == "a "
    assert bare('/- " -/ sorry') == "  sorry"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("I cannot do that.", "no theorem"),
        ("theorem step : 1 = 1 := by norm_num", "no theorem"),
        ("def x := 1\ntheorem step : x = 1 := by sorry", "no theorem"),
        ("theorem step : 1 = (by sorry) := by sorry", "sorry"),
        ("theorem a : 1 = 1 := by sorry\ntheorem b : 1 = 2 := by sorry", "sorry"),
        ("theorem a : 1 = 1 := rfl\naxiom x : 1 = 2\ntheorem b : 1 = 2 := by sorry", "axiom"),
        ("theorem a : True := trivial theorem b : 1 = 2 := by sorry", "theorem"),
        ("theorem Nat.add_comm : 1 = 1 := by sorry", "a point in it"),
    ],
)
def test_replies_that_are_no_single_theorem_are_refused(reply: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        statement_in(reply)


def test_theorems_are_found_in_replies() -> None:
    theorem = "theorem step (x : ℝ) (h : x = 1) : x + 1 = 2"
    block = f"Here it is:\n```lean4\nimport Mathlib\nopen Real\n\n-- the step\n{theorem} := by\n  sorry\n```\nDone."
    found = statement_in(block)
    assert (found.statement, found.name) == (theorem, "step")
    for nothing in ("False", " false.\n", "**False**", "No verification required."):
        assert statement_in(nothing).state is State.PLAIN
    assert statement_in("theorem step : False → False := by sorry").state is State.UNPROVED


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        ("  believe", "rests on Test.believe"),
        ("  lie\n  believe", "rests on Test.believe"),
        ("  silent rfl", "does not say"),
        ("  skip", "unsolved goals"),
    ],
)
def test_what_a_proof_rests_on_is_asked(lean: Lean, proof: str, why: str) -> None:
    model, prover = scripted(proof=proof)
    ((found,),) = asyncio.run(Formal(model, prover, lean, proofs=1).check([candidate("17 + 28 = 45")], Run()))  # type: ignore[misc]
    assert found.state is State.UNPROVED
    assert why in found.why


def test_the_statement_is_the_accepted_one_byte_for_byte(lean: Lean) -> None:
    """Whatever the prover writes, it only goes on after ``:= by``: proving something easier does not help."""
    model, prover = scripted(proof="theorem step : 1 + 1 = 2 := by rfl")
    ((found,),) = asyncio.run(Formal(model, prover, lean, proofs=1).check([candidate("17 + 28 = 46")], Run()))  # type: ignore[misc]
    assert (found.state, found.statement) == (State.UNPROVED, "theorem step : 17 + 28 = 46")


def test_reports_are_read_strictly() -> None:
    told = "'step' depends on axioms: [propext,\n Classical.choice, Quot.sound]"
    assert Report((Said("information", told, 7),)).axioms("step", 7) == {"propext", "Classical.choice", "Quot.sound"}
    assert Report((Said("info", "'step' does not depend on any axioms", 7),)).axioms("step", 7) == frozenset()
    assert Report((Said("info", told, 6),)).axioms("step", 7) is None
    assert Report((Said("info", told, 7), Said("info", told, 7))).axioms("step", 7) is None
    assert Report((Said("info", "and " + told, 7),)).axioms("step", 7) is None
    assert Report((Said("info", told, 7),)).axioms("other", 7) is None
    both = Report(
        (
            Said("warning", "declaration uses 'sorry'"),
            Said("warning", "declaration uses `sorry`"),
            Said("error", "x\n y"),
        )
    )
    assert (both.sorries, both.error) == (2, "x y")


@pytest.mark.parametrize(
    "command", [("no-such-lean",), ("/nowhere/lean",), (sys.executable, "-c", "print('Lean (version 3.4.2)')")]
)
def test_without_lean_there_is_one_clear_sentence_and_nothing_is_spent(command: tuple[str, ...]) -> None:
    model, prover = scripted()
    with pytest.raises(BadInput, match=r"^no Lean 4: .*install it with elan") as error:
        asyncio.run(Formal(model, prover, Lean(command)).score([candidate("17 + 28 = 45")], Run()))
    assert "\n" not in str(error.value)
    assert model.calls == []


def test_by_default_lean_is_looked_for_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="'lean' is not on PATH"):
        asyncio.run(Lean().probe())
    with pytest.raises(BadInput, match="'lake' is not on PATH"):
        asyncio.run(Lean(project=tmp_path).probe())
    with pytest.raises(BadInput, match="is no folder"):
        Lean(project=tmp_path / "none")
    assert Lean("lake env lean").runs == ("lake", "env", "lean")


def test_a_header_that_does_not_compile_is_said_before_anything_is_asked(lean: Lean, tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"does not compile .* after the header: unknown module prefix 'Mathlib'.*Lean\(project=…\)"
    ):
        asyncio.run(Lean(FAKE).probe())
    (tmp_path / "mathlib").touch()
    assert asyncio.run(Lean(FAKE).probe()).startswith("Lean (version 4.99.0")


def test_a_lean_that_believes_anything_is_not_believed(tmp_path: Path) -> None:
    gullible = tmp_path / "lean"
    gullible.write_text(
        f"#!{sys.executable}\nimport sys\nprint('Lean (version 4.1.0)' if '--version' in sys.argv else '')\n"
    )
    gullible.chmod(0o755)
    with pytest.raises(BadInput, match="accepts a proof of 1 \\+ 1 = 3"):
        asyncio.run(Lean((str(gullible),)).probe())


def gone(pid: int) -> bool:
    """Does a process end within five seconds? One that was killed with its group may take a moment."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_a_proof_that_takes_too_long_is_ended_with_all_it_started(lean: Lean, tmp_path: Path) -> None:
    slow = Lean(FAKE, header="", seconds=2)
    began = time.monotonic()
    (report,) = asyncio.run(slow.check(["theorem step : 1 = 1 := by sleep"]))
    assert report.failed == "Lean: took more than 2 seconds"
    assert time.monotonic() - began < 10
    assert gone(int((tmp_path / "child").read_text()))


def test_a_cancelled_check_leaves_nothing_running(lean: Lean, tmp_path: Path) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(lean.check(["theorem step : 1 = 1 := by sleep"]))
        for _ in range(400):  # until it has started what must end with it
            await asyncio.sleep(0.05)
            if (tmp_path / "child").exists() and (tmp_path / "child").read_text():
                break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert gone(int((tmp_path / "child").read_text()))


def test_output_and_memory_are_limited(lean: Lean) -> None:
    small = Lean(FAKE, header="", seconds=20, memory=2 * 2**30, output=2**20)
    flood, hog, fine = asyncio.run(
        small.check([f"theorem step : 1 = 1 := by {tactic}" for tactic in ("flood", "hog", "rfl")])
    )
    assert flood.failed == "Lean: wrote more than 1,048,576 bytes"
    assert hog.failed is not None
    assert fine.error is None


def test_no_secrets_reach_lean(lean: Lean, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    spy = tmp_path / "lean"
    spy.write_text(
        f"#!{sys.executable}\nimport json, os\nprint(json.dumps({{'severity': 'info', 'data': ' '.join(os.environ)}}))\n"
    )
    spy.chmod(0o755)
    (report,) = asyncio.run(Lean((str(spy),)).check(["x"]))
    assert "HOME" in report.said[0].text
    assert "OPENAI_API_KEY" not in report.said[0].text


def test_a_budget_that_ends_makes_no_number(lean: Lean) -> None:
    model, prover = scripted()
    free = asyncio.run(Formal(model, prover, lean).score([candidate("17 + 28 = 45")], Run()))
    assert not math.isnan(free[0].value)
    with pytest.raises(OverBudget):
        asyncio.run(
            Formal(model, prover, lean).score([candidate("17 + 28 = 45")], Run(ledger=Ledger(Budget(tokens=1))))
        )

    class Failing(ScriptedModel):
        async def _generate(self, requests):  # type: ignore[no-untyped-def]
            raise OSError("gone")

    for pair in ((Failing(), prover), (model, Failing())):
        (score,) = asyncio.run(Formal(*pair, lean).score([candidate("17 + 28 = 45")], Run()))
        assert math.isnan(score.value)
        assert "step 1 was not" in (score.error or "")
        assert "gone" in (score.error or "")


def test_nothing_to_look_at_is_no_number(lean: Lean) -> None:
    model, prover = scripted()
    (score,) = asyncio.run(Formal(model, prover, lean).score([Candidate(Problem("q"))], Run()))
    assert math.isnan(score.value)
    assert asyncio.run(Formal(model, prover, Lean(("no-such-lean",))).score([], Run())) == []


def test_it_keeps_what_verifiers_promise(lean: Lean) -> None:
    model, prover = scripted()
    check_verifier(Formal(model, prover, lean, tries=1, proofs=1), Problem("Add 1 and 1."))


def test_worth_is_the_mean_of_the_steps() -> None:
    states = [State.PROVED, State.UNPROVED, State.UNPROVED]
    assert Worth(1.0, 0.5, 0.5, 0.25)(states) == pytest.approx((1 * 0.25 * 0.25) ** (1 / 3))
    assert Worth(1.0, 0.5, 0.5, 0.25, geometric=False)(states) == pytest.approx(0.5)
    with pytest.raises(BadInput, match="above 0"):
        Worth(unproved=0.0)
    with pytest.raises(BadInput, match="each is 1 or more"):
        Formal(*scripted(), tries=0)


def test_a_fitted_logit_finds_the_weights_that_made_the_data() -> None:
    """4,000 solutions whose outcomes are drawn with known weights; the fit's error is 3 standard errors at most (seed fixed)."""
    rng, every = random.Random(0), list(State)
    true = StateLogit(-0.5, 3.0, -2.0, 0.5)
    solutions = [[rng.choice(every) for _ in range(rng.randint(1, 4))] for _ in range(4_000)]
    right = [rng.random() < true(states) for states in solutions]
    fit = StateLogit.fit(solutions, right, ridge=1e-3)
    found, made = (np.array([f.bias, f.proved, f.unproved, f.unformal]) for f in (fit, true))
    assert np.abs(found - made).max() < 0.45
    assert fit([State.PROVED]) > 0.8 > 0.3 > fit([State.UNPROVED])
    separable = StateLogit.fit([[State.PROVED], [State.UNPROVED]], [True, False])
    assert 0.5 < separable([State.PROVED]) < 1
    for bad in (([], []), ([[State.PROVED]], [True]), ([[State.PROVED], []], [True, False])):
        with pytest.raises(BadInput, match="at least one right and one wrong"):
            StateLogit.fit(*bad)  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("lean") is None, reason="no Lean 4 on PATH")
def test_the_real_lean_when_it_is_there() -> None:
    """Whole numbers need no Mathlib."""
    os.environ.setdefault("HOME", "/root")
    lean = Lean(header="", seconds=100)
    assert "version 4." in asyncio.run(lean.probe())
    model, prover = scripted(proof="  decide\n```")
    solution = candidate("17 + 28 = 45\n\n", "45 + 2 = 46\n\n", "The answer is \\boxed{46}")
    assert checked(Formal(model, prover, lean, proofs=1), solution) == [[State.PROVED, State.UNPROVED, State.PLAIN]]
    cheat, honest = asyncio.run(
        lean.check(["theorem step : 1 = 2 := by sorry\n", "theorem step : 1 = 1 := by\n  rfl\n\n#print axioms step\n"])
    )
    assert (cheat.sorries, cheat.error) == (1, None)
    assert honest.axioms("step", lean.first_line + 3) == frozenset()
