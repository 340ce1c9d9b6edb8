"""How fast mathematical answers are compared, and what shares of the data sets' answers are found and recognised.

    python benchmarks/math_answers.py [--data ../shared/data] [--pairs 2000]

Every pair is new, so nothing is remembered. "In this process" needs no worker; "worker" is math-verify in a process of its own,
after it has started. The shares: a gold answer against itself, against itself written otherwise, and against the golds of other
problems. Rates of the worker are for one core; a busy machine halves them.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from reasonweave.verifiers._math_workers import shared
from reasonweave.verifiers.math_answers import MathAnswers

Pair = tuple[str, str]
MATHS, LENIENT = MathAnswers(), MathAnswers(lenient=True)

IN_PROCESS: dict[str, Callable[[int], Pair]] = {
    "numbers, same": lambda k: (f"{k:,}", f"{k}.0"),
    "numbers, different": lambda k: (str(k), str(k + 1)),
    "fractions, same": lambda k: (rf"\frac{{{k}}}{{{k + 1}}}", rf"\dfrac{{{2 * k}}}{{{2 * k + 2}}}"),
    "fractions, different": lambda k: (rf"\frac{{{k}}}{{{k + 1}}}", rf"\frac{{{k}}}{{{k + 2}}}"),
    "surds, same": lambda k: (rf"{k}\sqrt{{12}}", rf"{2 * k}\sqrt3"),
    "surds, different": lambda k: (rf"{k}\sqrt{{12}}", rf"{k}\sqrt3"),
    "polynomials, same": lambda k: (f"(x+{k})^2", f"x^2+{2 * k}x+{k * k}"),
    "tuples, same": lambda k: (rf"({k},\frac{{\pi}}{{2}})", rf"\left({k}, \pi/2\right)"),
    "tuples, different": lambda k: (f"({k},1)", f"(1,{k + 2})"),
    "words, different": lambda k: (rf"\text{{no{k}}}", str(k)),
}
WORKER: dict[str, Callable[[int], Pair]] = {
    "rational functions, same": lambda k: (rf"\frac{{x^2-{k * k}}}{{x-{k}}}", f"x+{k}"),
    "nested roots, same": lambda k: (rf"\sqrt{{{k + 3}+2\sqrt{{{k + 2}}}}}", rf"1+\sqrt{{{k + 2}}}"),
    "logarithms, same": lambda k: (rf"\ln {(k + 2) ** 2}", rf"2\ln {k + 2}"),
    "powers, same": lambda k: (rf"{k + 2}^{{n+1}}", rf"{k + 2}\cdot {k + 2}^n"),
    "trigonometry, same": lambda k: (rf"\sin {2 * k}x", rf"2\sin {k}x\cos {k}x"),
}


def speed(pair: Callable[[int], Pair], first: int, count: int) -> tuple[float, float]:
    """Comparisons a second, and the share that was called the same."""
    pairs = [pair(k) for k in range(first, first + count)]
    begun = time.perf_counter()
    same = sum(MATHS.same(*each) for each in pairs)
    return count / (time.perf_counter() - begun), same / count


def rows(data: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (data / f"{name}.jsonl").read_text().splitlines()]


def share(what: str, hits: Iterable[bool]) -> None:
    hits = list(hits)
    print(f"| {what} | {sum(hits):,} / {len(hits):,} | {100 * sum(hits) / len(hits):.2f} % |", flush=True)


def other_way(gold: str) -> str:
    """A gold answer with other commands for the same, in a box."""
    text = gold.strip("$").replace(r"\frac", r"\dfrac").replace("(", r"\left(").replace(")", r"\right)")
    return MATHS.extract(rf"\boxed{{{text}}}") or ""


def shares(data: Path) -> None:
    print("| answers | same | |\n|---|---:|---:|")
    math500, olympiad = rows(data, "math500"), rows(data, "olympiadbench")
    share("MATH-500: box of the solution, found", (MATHS.extract(str(row["solution"])) is not None for row in math500))
    share(
        "MATH-500: the same as the answer",
        (MATHS.same(str(row["answer"]), MATHS.extract(str(row["solution"])) or "") for row in math500),
    )
    gsm = [
        (str(row["answer"]).split("####")[1].strip(), LENIENT.extract(str(row["answer"])) or "")
        for row in rows(data, "gsm8k")
    ]
    share("GSM8K: what follows ####", (LENIENT.same(gold, answer) for gold, answer in gsm))
    golds = [str(row["final_answer"][0]) for row in olympiad]  # type: ignore[index]
    share("OlympiadBench: itself", (MATHS.same(gold, gold) for gold in golds))
    share("OlympiadBench: itself, written otherwise", (MATHS.same(gold, other_way(gold)) for gold in golds))
    for name, field in (("aime24", "answer"), ("amc23", "answer"), ("svamp", "Answer")):
        share(
            f"{name}: itself as a whole number",
            (MATHS.same(str(row[field]), str(int(float(str(row[field]))))) for row in rows(data, name)),
        )
    begun, started = time.perf_counter(), shared().started
    pairs = list(strangers([*golds, *(str(row["answer"]) for row in math500)], 10_000))
    wrong = [pair for pair in pairs if MATHS.same(*pair)]
    seconds = time.perf_counter() - begun
    share("golds of two problems, not plain integers, keys unequal: the same", (pair in wrong for pair in pairs))
    print(
        f"\n{len(pairs) / seconds:,.0f} of these a second, {shared().started - started} more workers started. Called the same:"
    )
    for pair in wrong:
        print("    ", *pair, sep="  ")


def strangers(golds: list[str], count: int) -> Iterator[Pair]:
    draw = random.Random(0)
    golds = sorted({gold for gold in golds if not gold.strip("$").lstrip("-").isdigit()})
    for _ in range(count):
        a, b = draw.sample(golds, 2)
        if MATHS.canonical(a) != MATHS.canonical(b):
            yield a, b


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    parser.add_argument("--pairs", type=int, default=2000)
    args = parser.parse_args()
    print("| in this process | a second | called the same |\n|---|---:|---:|")
    for name, pair in IN_PROCESS.items():
        rate, same = speed(pair, 1000, args.pairs)
        print(f"| {name} | {rate:,.0f} | {100 * same:.0f} % |", flush=True)
    begun = time.perf_counter()
    MATHS.same(r"\frac{x^2-1}{x-1}", "x+1")
    print(f"\nThe first worker and its first comparison: {time.perf_counter() - begun:.2f} s\n")
    print("| worker | a second | called the same |\n|---|---:|---:|")
    for name, pair in WORKER.items():
        rate, same = speed(pair, 3, min(args.pairs, 60))
        print(f"| {name} | {rate:,.1f} | {100 * same:.0f} % |", flush=True)
    begun = time.perf_counter()
    MATHS.same("100000!!!", "4")
    print(f"\nA hang, with a deadline of {MATHS.deadline:g} s: {time.perf_counter() - begun:.2f} s\n")
    if args.data.exists():
        shares(args.data)


if __name__ == "__main__":
    main()
