"""What a drawing says, in words and figures: of a box, of what happened at it, of the whole."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from reasonweave.orchestrator.happened import Account, Figures
from reasonweave.orchestrator.outline import Box, Outline
from reasonweave.orchestrator.types import Usage

Tone = Literal["plain", "idle", "part", "stopped", "failed"]
"""What a line is about: what was spent, that something did not run or only in part, that it was cut short, that it failed."""

FAILS = "if it fails"
UNKNOWN = "?"

KINDS: dict[str, str] = {
    "strategy": "strategy",
    "aggregator": "aggregator",
    "graph": "graph",
    "part": "verifier or other part",
    "finish": "finish, where there is no answer",
    "stand-in": "stand-in for one that fails",
}
"""What a legend says of each kind of box."""


def kind_of(box: Box) -> str:
    """The kind by which a box is coloured."""
    return box.kind if box.place == "node" else box.place


def details(box: Box) -> list[str]:
    """What a box is, below its name: its class and numbers, and its parts."""
    head = "" if box.title == box.name else box.what
    said = " ".join(filter(None, (head, *box.params)))
    return [*([said] if said else []), *box.parts]


def rules(box: Box) -> list[str]:
    """How a box is run: its condition where no arrow carries it, its budget, and whether the graph may end with it."""
    found = [f"if {box.condition}"] if box.condition else []
    found += [f"at most {box.budget}"] if box.budget else []
    return found + ([f"the graph ends here if {box.enough}"] if box.enough else [])


def scaled(number: float) -> str:
    """A number in three figures with a unit prefix.

    >>> scaled(12_345), scaled(2.1e9), scaled(999), scaled(0.25)
    ('12.3k', '2.1G', '999', '0.25')
    """
    power = min(6, int(math.log10(number) // 3)) if number >= 1000 else 0
    text = f"{number / 1000**power:.3g}"
    if text == "1e+03":
        power, text = power + 1, "1"
    return text + ("", "k", "M", "G", "T", "P", "E", "Z")[power]


def counted(number: float) -> str:
    """How many: whole numbers to the last figure, means in three.

    >>> counted(1204.0), counted(3.14159), counted(1204.4)
    ('1,204', '3.14', '1,204')
    """
    return f"{number:,.0f}" if number >= 100 or number == round(number) else f"{number:.3g}"


def lasted(seconds: float) -> str:
    """A time.

    >>> lasted(0.0123), lasted(2.345), lasted(95)
    ('12 ms', '2.3 s', '95 s')
    """
    if seconds < 0.0005:
        return "<1 ms"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds:,.0f} s"


def percent(share: float) -> str:
    """A share, never rounded to none or all.

    >>> percent(0.374), percent(0.001), percent(0.999), percent(1)
    ('37 %', '<1 %', '>99 %', '100 %')
    """
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def costs(usage: Usage, seconds: float | None, problems: int, whole: Usage | None = None) -> list[str]:
    """What was spent, a problem: tokens (and the share of the `whole`), calls, FLOPs, time; `seconds` None is unknown."""
    many, n = problems > 1, max(1, problems)
    tokens = f"{counted(usage.tokens / n)} tokens" + (" a problem" if many else "")
    split = f"{counted(usage.prompt / n)} prompt + {counted(usage.completion / n)} completion"
    of_all = f", {percent(usage.tokens / whole.tokens)} of all" if whole is not None and whole.tokens else ""
    calls = f"{counted(usage.calls / n)} call{'s' * (usage.calls / n != 1)}"
    time = UNKNOWN + " s" if seconds is None else lasted(seconds / n)
    flops = f"{scaled(usage.flops / n)} FLOPs" if usage.flops else ""
    return [f"{tokens}{of_all}", split, " · ".join(filter(None, (calls, flops, time)))]


def figures(box: Box, account: Account, whole: Usage) -> list[tuple[Tone, str]]:
    """What happened at a box, line by line: whether it ran and what stood in the way, what it cost, what it made of its set."""
    found = account.of(box)
    many, spent = found.problems > 1, found.usage
    if box.kind == "part" and not found.runs and not spent.calls:
        return []
    lines = list(_course(box, found))
    if not found.ran:
        return lines
    if spent.calls:
        lines += [("plain", told) for told in costs(spent, _seconds(found), found.problems, whole if many else None)]
    elif found.timed and found.seconds / found.problems >= 0.001:
        lines.append(("plain", lasted(found.seconds / found.problems)))
    return [*lines, *(("plain", told) for told in [_sets(found, many)] if told)]


def _seconds(found: Figures) -> float | None:
    return found.seconds if found.timed and found.told else None


def _sets(found: Figures, many: bool) -> str:
    """What went in and came out."""
    if not found.told:
        return "" if found.known else f"{UNKNOWN} → {UNKNOWN} candidates"
    n = found.told
    told = f"{counted(found.given / n)} → {counted(found.got / n)} candidate{'s' * (found.got != n)}"
    if many and found.answered:
        told += f" · answer on {percent(found.answered / n)}"
    if not many and found.answer is not None:
        told += f" · answer {found.answer}"
    return told


def _course(box: Box, found: Figures) -> Iterator[tuple[Tone, str]]:
    """Whether it ran, where that is not always, and what stood in the way."""
    n, many = found.problems, found.problems > 1
    often = f"{counted(found.runs / max(1, found.ran))} times"
    if 0 < found.ran < n:
        yield "part", f"ran on {_of(found.ran, n)}" + (f", {often} each" if found.runs > found.ran else "")
    elif found.runs > found.ran > 0:
        yield "plain", f"ran {often}" + " a problem" * many
    told: list[tuple[Tone, str, Mapping[str, int]]] = [
        ("idle", "skipped", found.skipped),
        ("stopped", "stopped", found.stopped),
        ("failed", "failed", found.failed),
        ("failed", "a verifier broke a promise", found.broken),
    ]
    for tone, word, reasons in told:
        if reasons:
            yield tone, f"{word}{_on(sum(reasons.values()), n)}: {_worded(box, reasons, n)}"
    if not found.ran and not found.skipped:
        reached = "not reached" if box.place == "node" else "not needed"
        yield "idle", reached if found.known else "made no calls"
    if found.unended and not found.failed:
        yield "failed", f"did not come to its end{_on(found.unended, n)}"


def _of(count: int, n: int) -> str:
    return f"{count:,} of {n:,} ({percent(count / n)})"


def _on(count: int, n: int) -> str:
    return f" on {_of(count, n)}" if n > 1 and count < n else " on all" if n > 1 else ""


_LIMIT = re.compile(
    r"^.*?: asked for (?P<asked>\S+) (?P<what>\w+), (?P<left>\S+) left of Budget\((?P<limit>.*)\); raise budget.*$"
)


def _worded(box: Box, reasons: Mapping[str, int], n: int) -> str:
    """The most frequent reason, and how many others there are. A limit's refusals are one reason, whatever was asked for; a
    condition is told in the words of the box."""
    words: dict[str, int] = {}
    for why, count in reasons.items():
        told = f"{box.when} is false" if box.when and why.endswith(" is false") else why
        if found := _LIMIT.match(why):
            told = f"asked for {found['asked']} {found['what']}, {found['left']} left of {found['limit']}"
            told = f"out of {found['what'].replace('_', ' ')} ({found['limit']})" if n > 1 else told
        words[told] = words.get(told, 0) + count
    most = min(words, key=lambda told: (-words[told], told))
    others = len(words) - 1
    return most + (f" (and {others} other reason{'s' * (others > 1)})" if others else "")


def summary(drawn: Outline, account: Account | None) -> list[str]:
    """The whole in a line or two, after a run: what it came to, and what cut it short."""
    if account is None:
        return []
    found = account.of(drawn.root)
    n = found.problems
    told = [f"{n:,} problem{'s' * (n != 1)}", *costs(found.usage, _seconds(found), n)]
    if found.answered and n > 1:
        told.append(f"answer on {percent(found.answered / n)}")
    if found.answer is not None and n == 1:
        told.append(f"answer {found.answer}")
    return [" · ".join(told), *(line for tone, line in _course(drawn.root, found) if tone in ("stopped", "failed"))]


def remarks(drawn: Outline, account: Account | None) -> list[str]:
    """What stands below a drawing: its models, and what is to be known of its figures."""
    found = []
    if drawn.models:
        found.append("Models: " + ", ".join(f"{role} = {name}" for role, name in drawn.models.items()) + ".")
    if account is None:
        return found
    means = "Figures are means over all problems; a box that says no share ran on all of them. "
    found.append(
        means * (account.problems > 1)
        + "What a box cost is what everything in it cost; FLOPs = 2 · active parameters · (uncached prompt + completion tokens)."
    )
    found += account.notes
    for path, usage in sorted(account.strays.items()):
        spent = f"{counted(usage.calls)} calls, {counted(usage.tokens)} tokens"
        found.append(f"Not in this drawing, and counted with the box around it: {path} ({spent}).")
    return found
