"""What the lab models learn from: solutions with slips and "Wait" repairs, grades, self-checks and step labels.

Each document is a short chat. A solution may slip (a wrong result), repair the slip ("Wait, A: 47 + 38 = 85"), carry the
error on, or check a right step for no reason. A second turn may ask for the utility digit of the last step or whether
the answer is right, in the words that `reasonweave.verifiers.judge` and `self_check` use with any model.

`Piece.learn` says how much loss a text carries: prompts none, a slip's wrong digits only rarely any, so that the models
see many errors (to learn to notice them) while imitating few; a verdict, one token in a hundred, more than its share.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from reasonweave.tasks.lab.problems import LETTERS, Chain, Symbol, apply
from reasonweave.verifiers.judge import GRADE_PREFIX, GRADE_PROMPT
from reasonweave.verifiers.self_check import SELF_CHECK_PROMPT

DELIMITER = "\n\n"
USER, ASSISTANT, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"

SLIPPERY = 0.6
"""Share of the documents in which slips happen at all."""
SLIP = 0.25
"""Chance of a slip at each step of such a document."""
REPAIR = 0.8
"""Chance that a slip is repaired in the next paragraph."""
NEEDLESS = 0.01
"""Chance that a right step is checked for no reason."""
VERDICT = 4.0
"""Loss weight of a grade or a self-check, against 1 for other tokens."""

_STEP = re.compile(r"^(?:Wait, )?([A-L]): (\d{1,5}) ([-+*/]) (\d{1,5}) = (\d{1,6})$")
_ANSWER = re.compile(r"^The answer is \\boxed\{(\d+)\}$")


@dataclass(frozen=True, slots=True)
class WrittenStep:
    """One paragraph of a solution. `right` means that the running value after it is the true one; `sound` that it makes
    no error of its own; `learn` weighs the loss of its result."""

    text: str
    right: bool
    sound: bool = True
    learn: float = 1.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text; `learn` weighs the loss of its tokens, `ends` is the step that it ends, if it ends one."""

    text: str
    learn: float
    ends: WrittenStep | None = None


def slip(rng: random.Random, result: int, value: int, operand: int) -> int:
    """A wrong result of the kind that people and models produce: a lost carry, a neighbour, swapped digits, an operand."""
    digits = str(result)
    swapped = int(digits[:-2] + digits[-1] + digits[-2]) if len(digits) > 1 else result
    choices = [result + 1, result - 1, result + 10, result - 10, result + rng.randint(2, 9), result - rng.randint(2, 9)]
    choices += [result + 10 * rng.randint(-5, 5), swapped, value, operand, rng.randint(0, 99)]
    return rng.choice([c for c in choices if 0 <= c <= 199 and c != result] or [result + 1])


def write(chain: Chain, rng: random.Random, *, slips: float, imitated: float = 0.0) -> list[WrittenStep]:
    """A worked solution without its last line; each step slips with the chance `slips`, and a slip's wrong digits carry
    loss, so that models learn to slip like this, with the chance `imitated`."""
    steps: list[WrittenStep] = []
    value = chain.start
    for i, ((symbol, operand), true) in enumerate(zip(chain.operations, chain.values, strict=True)):
        result = apply(value, symbol, operand)
        head = f"{LETTERS[i]}: {value} {symbol} {operand} ="
        if rng.random() < slips:
            wrong = slip(rng, result, value, operand)
            steps.append(WrittenStep(f"{head} {wrong}", False, False, float(rng.random() < imitated)))
            if rng.random() < REPAIR or not _possible(wrong, chain.operations[i + 1 :]):
                steps.append(WrittenStep(f"Wait, {head} {result}", result == true))
            else:
                result = wrong
        else:
            steps.append(WrittenStep(f"{head} {result}", result == true))
            if rng.random() < NEEDLESS:
                steps.append(WrittenStep(f"Wait, {head} {result}", result == true))
        value = result
    return steps


def _possible(value: int, operations: Sequence[tuple[Symbol, int]]) -> bool:
    """Can the rest of the chain be worked in whole numbers from this wrong value? If not, the error gets noticed."""
    for symbol, operand in operations:
        if symbol == "/" and value % operand:
            return False
        value = apply(value, symbol, operand)
        if not 0 <= value <= 199:
            return False
    return True


def answer_of(steps: Sequence[WrittenStep]) -> str:
    """The value that the last step leaves."""
    return steps[-1].text.rpartition("= ")[2]


def grade(rng: random.Random, right: bool) -> int:
    """The utility digit: high for a step that leaves the right running value, low for one that does not."""
    return rng.choice((7, 8, 8, 9, 9, 9) if right else (0, 0, 0, 1, 1, 2))


@dataclass(frozen=True, slots=True)
class Mix:
    """What documents are like in one phase of training.

    `solve`, `grade` and `check` are the shares of documents that end with the solution, with a grade of its last step,
    and with a self-check; `imitated` is the share of the slips whose wrong digits carry loss.
    """

    solve: float
    grade: float
    check: float
    imitated: float


EARLY = Mix(0.5, 0.3, 0.2, imitated=0.1)
LATE = Mix(0.15, 0.5, 0.35, imitated=1.0)


def document(chain: Chain, rng: random.Random, mix: Mix = EARLY) -> list[Piece]:
    """One training chat: the problem, a solution, and for some a question about it."""
    steps = write(chain, rng, slips=SLIP if rng.random() < SLIPPERY else 0.0, imitated=mix.imitated)
    kind = rng.choices(("solve", "grade", "check"), (mix.solve, mix.grade, mix.check))[0]
    if kind == "grade":
        steps = steps[: _balanced_end(rng, steps)]
    pieces = [Piece(f"{USER}{chain.text}{END}\n{ASSISTANT}", 0.0)]
    for step in steps:
        told, _, result = step.text.rpartition(" ")
        pieces += [Piece(told + " ", 1.0), Piece(result, step.learn), Piece(DELIMITER, 1.0, step)]
    if kind == "grade":
        pieces.append(Piece(f"{END}\n{USER}{GRADE_PROMPT}{END}\n{ASSISTANT}{GRADE_PREFIX}", 0.0))
        pieces += [Piece(str(grade(rng, steps[-1].right)), VERDICT), Piece(END, 1.0)]
        return pieces
    pieces += [Piece(f"The answer is \\boxed{{{answer_of(steps)}}}", 1.0), Piece(END, 1.0)]
    if kind == "check":
        pieces.append(Piece(f"\n{USER}{SELF_CHECK_PROMPT}{END}\n{ASSISTANT}", 0.0))
        pieces += [Piece("True" if steps[-1].right else "False", VERDICT), Piece(END, 1.0)]
    return pieces


def _balanced_end(rng: random.Random, steps: Sequence[WrittenStep]) -> int:
    """Where to cut a solution for grading: after a wrong step in half of the cases where there is one."""
    wrong = [i for i, step in enumerate(steps, 1) if not step.right]
    return rng.choice(wrong) if wrong and rng.random() < 0.6 else rng.randint(1, len(steps))


def label(chain: Chain, steps: Sequence[str]) -> list[bool]:
    """Is each paragraph of a solution right? True where the running value after it is the true one.

    A "Wait" paragraph redoes the operation before it. The last line is right if it repeats the true answer. A paragraph
    that is no equation, uses another operation than the problem asks for, or comes when none is left, is wrong, and so
    is all that follows it until a repair.

    >>> chain = Chain(47, (("+", 38), ("*", 6)), level=1)
    >>> label(chain, ["A: 47 + 38 = 75", "Wait, A: 47 + 38 = 85", "B: 85 * 6 = 510", "The answer is \\\\boxed{510}"])
    [False, True, True, True]
    """
    labels: list[bool] = []
    done = 0
    for text in (step.strip() for step in steps):
        if final := _ANSWER.match(text):
            labels.append(done == len(chain.operations) and int(final[1]) == chain.answer)
            continue
        if not (match := _STEP.match(text)):
            labels.append(False)
            continue
        letter, left, symbol, operand, result = match[1], int(match[2]), match[3], int(match[4]), int(match[5])
        at = done - 1 if text.startswith("Wait") and done > 0 else done
        done = at + 1
        labels.append(
            at < len(chain.operations)
            and letter == LETTERS[at]
            and (symbol, operand) == chain.operations[at]
            and left == (chain.start, *chain.values)[at]
            and result == chain.values[at]
        )
    return labels
