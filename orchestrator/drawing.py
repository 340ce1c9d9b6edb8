"""A composition drawn: as text for a terminal, as Mermaid, as SVG, as a Markdown page; after a run, with what happened.

    print(text(outline(flow)))
    Path("flow.svg").write_text(svg(outline(flow), account(outline(flow), happened)))
    draw_run(flow, happened, Path("flow.svg"))

Each of them takes an `Outline`, and an `Account` of what happened or None.
"""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path as FilePath
from typing import Any

from reasonweave.orchestrator._drawing_svg import COLOURS, END, START, printable, svg
from reasonweave.orchestrator._drawing_words import (
    FAILS,
    KINDS,
    details,
    figures,
    kind_of,
    percent,
    remarks,
    rules,
    summary,
)
from reasonweave.orchestrator.errors import BadInput, Path, show
from reasonweave.orchestrator.happened import Account, Figures, Happened, account
from reasonweave.orchestrator.outline import Arrow, Box, Outline, outline
from reasonweave.orchestrator.types import Usage

__all__ = ["as_data", "draw_run", "form_of", "markdown", "mermaid", "svg", "text", "write"]

WIDTH = 110
"""Columns of a drawing in text, where nobody says how many."""
NARROWEST = 24


def text(drawn: Outline, account: Account | None = None, *, width: int = WIDTH) -> str:
    """The composition in lines: a number for each generation, what is in a part indented below it.

    >>> from reasonweave.orchestrator.graph import chain
    >>> print(text(outline(chain(len, vote=max), title="two")))
    two
    ├─ 1 ─ len
    └─ 2 ─ vote: max
    """
    root = drawn.root
    head = [printable(root.name if root.kind == "graph" else " ".join([root.title, *root.params]))]
    own = [*(() if root.kind == "graph" else root.parts), *rules(root), *summary(drawn, account)]
    head += [line for told in own for line in _folded(told, width)]
    lines = head + list(_inner(root, account, _whole(drawn, account), width))
    if root.instead is not None:
        lines += _block(root.instead, account, Usage(), width)
    notes = [line for told in remarks(drawn, account) for line in _broken(printable(told), width)]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _whole(drawn: Outline, account: Account | None) -> Usage:
    return account.of(drawn.root).usage if account is not None else Usage()


def _folded(told: str, width: int) -> list[str]:
    """A text in lines, broken between the parts that dots separate where that is enough."""
    found = list[str]()
    for part in told.split(" · "):
        if found and len(found[-1]) + len(part) + 3 <= width:
            found[-1] += f" · {part}"
        else:
            found.append(part)
    return [line for part in found for line in _broken(part, width)]


def _broken(told: str, width: int) -> list[str]:
    lines = textwrap.wrap(told.replace(" %", "\0%"), max(NARROWEST, width), break_on_hyphens=False) or [""]
    return [line.replace("\0%", " %") for line in lines]


def _block(box: Box, account: Account | None, whole: Usage, width: int, after: str = "") -> list[str]:
    """The lines of a box and of all in it."""
    lines = _folded(" ".join([printable(box.title), *box.params]), width)
    said = [f"if {box.when}"] if box.when and not box.condition else []
    said = [*said, *([after] if after else []), *rules(box)]
    told = [printable(" · ".join(box.parts)), ", ".join(said)]
    if account is not None:
        found = figures(box, account, whole)
        plain = " · ".join(line for tone, line in found if tone == "plain")
        told += [f"› {line}" for line in [*(line for tone, line in found if tone != "plain"), plain] if line]
    lines += ["  " + line for each in told if each for line in _folded(printable(each), width - 2)]
    lines += _inner(box, account, whole, width)
    if box.instead is not None:
        first, *rest = _block(box.instead, account, whole, width - 3)
        lines += [f"╰╌ {FAILS}: {first}", *(f"   {line}" for line in rest)]
    return lines


def _inner(box: Box, account: Account | None, whole: Usage, width: int) -> Iterator[str]:
    """The lines of what is in a box, generation by generation."""
    numbered = box.kind == "graph" or bool(box.arrows)
    groups = [list(group) for _, group in groupby(box.inner, key=lambda each: (each.generation, each.place))]
    groups = groups if numbered else [[each] for each in box.inner]
    before: set[Path] = set()
    wide = len(str(len(groups)))
    for at, group in enumerate(groups):
        last = at == len(groups) - 1
        number = "" if group[0].place == "finish" else f"{group[0].generation + 1:>{wide}} "
        label = f" {number}" if numbered else " "
        for i, each in enumerate(group):
            corner = ("└─" if last else "├─") if i == 0 else "  " if last else "│ "
            if len(group) == 1:
                fork, on = ("─ ", "  ") if number and numbered else ("", "")
            else:
                fork, on = (
                    ("┬ " if i == 0 else "└ " if i == len(group) - 1 else "├ "),
                    "│ " if i < len(group) - 1 else "  ",
                )
            first = corner + (label if i == 0 else " " * len(label)) + fork
            other = ("  " if last else "│ ") + " " * len(label) + on
            odd = set(each.after) != before and each.place == "node" and box.kind == "graph"
            after = f"after {', '.join(str(path[-1]) for path in each.after) or 'the start'}" if odd else ""
            head, *rest = _block(each, account, whole, width - len(first), after)
            yield first + head
            yield from (other + line for line in rest)
        before = {each.path for each in group}


def mermaid(drawn: Outline, account: Account | None = None) -> str:
    """The composition as a Mermaid flowchart.

    >>> from reasonweave.orchestrator.graph import chain
    >>> print(mermaid(outline(chain(len, vote=max), title="two")).split("classDef")[0].rstrip())
    ---
    title: "two"
    ---
    flowchart TD
      start(["problem"])
      n1["len"]
      n2["vote<br/>max"]
      answer(["answer"])
      start --> n1
      n1 --> n2
      n2 --> answer
    """
    return "\n".join(_Mermaid(drawn, account).lines()) + "\n"


class _Mermaid:
    def __init__(self, drawn: Outline, account: Account | None) -> None:
        self.root, self.account, self.whole = drawn.root, account, _whole(drawn, account)
        self.names = {box.path: f"n{i}" for i, box in enumerate(drawn.boxes())}
        self.title = drawn.root.name

    def lines(self) -> Iterator[str]:
        root = self.root
        yield from ("---", f"title: {json.dumps(printable(self.title), ensure_ascii=False)}", "---", "flowchart TD")
        yield f'  start(["{START}"])'
        plain = root.kind == "graph"
        boxes = root.inner if plain else (root,)
        for box in boxes:
            yield from self._box(box, "  ")
        yield f'  answer(["{END}"])'
        arrows = [] if not plain else list(root.arrows)
        for box in boxes:
            if not any(arrow.end == box.path for arrow in arrows):
                yield f"  start --> {self.names[box.path]}"
        yield from self._arrows(root)
        for box in boxes:
            if not any(arrow.start == box.path and arrow.lead != "finish" for arrow in arrows):
                yield f"  {self.names[box.path]} --> answer"
        yield from self._classes()

    def _box(self, box: Box, indent: str) -> Iterator[str]:
        name = self.names[box.path]
        if box.inner:
            yield f'{indent}subgraph {name}["{self._label(box)}"]'
            for inner in box.inner:
                yield from self._box(inner, indent + "  ")
            yield f"{indent}end"
        else:
            yield f'{indent}{name}["{self._label(box)}"]'
        if box.instead is not None:
            yield from self._box(box.instead, indent)

    def _label(self, box: Box) -> str:
        told = [box.name, *details(box), *rules(box)]
        if self.account is not None:
            told += [line for _, line in figures(box, self.account, self.whole)]
        return "<br/>".join(map(escaped, told))

    def _arrows(self, box: Box) -> Iterator[str]:
        for arrow in box.arrows:
            if arrow.start in self.names and arrow.end in self.names:
                yield self._arrow(arrow)
        for inner in box.inner:
            if inner.instead is not None:
                yield self._arrow(Arrow(inner.path, inner.instead.path, FAILS, "failed"))
            yield from self._arrows(inner)
            if inner.instead is not None:
                yield from self._arrows(inner.instead)

    def _arrow(self, arrow: Arrow) -> str:
        label = escaped(arrow.label)
        if label and self.account is not None and self.account.problems > 1:
            label += f"<br/>{percent(self.account.figures[arrow.end].share)}"
        line = "-->" if arrow.lead == "then" else "-.->"
        said = f'|"{label}"|' if label else ""
        return f"  {self.names[arrow.start]} {line}{said} {self.names[arrow.end]}"

    def _classes(self) -> Iterator[str]:
        kinds: dict[str, list[str]] = {}
        idle: list[str] = []
        for box in self.root.boxes():
            if box is self.root and box.kind == "graph":
                continue
            name = self.names[box.path]
            if self.account is not None and not self.account.of(box).ran:
                idle.append(name)
            kinds.setdefault(kind_of(box), []).append(name)
        for kind in (kind for kind in KINDS if kind in kinds):
            mark = "a" + kind.title().replace("-", "")  # "graph" by itself is a word of Mermaid's
            dashed = "" if kind not in ("finish", "stand-in") else ",stroke-dasharray:5 4"
            yield f"  classDef {mark} fill:#ffffff,color:#1f2328,stroke:{COLOURS[kind]}{dashed}"
            yield f"  class {','.join(kinds[kind])} {mark}"
        if idle:
            yield "  classDef idle fill:#f6f8fa,color:#59636e,stroke:#b6bfc9,stroke-dasharray:5 4"
            yield f"  class {','.join(idle)} idle"


_ENTITIES = {
    "#": "#35;",
    '"': "#quot;",
    "<": "#lt;",
    ">": "#gt;",
    "&": "#amp;",
    "`": "#96;",
    "|": "#124;",
    "\\": "#92;",
    "*": "#42;",
    "~": "#126;",
}
_LEADING = re.compile(r"()([^\w\s#]|_)|(\d+)([.)])(?=\s|$)")
"""What begins a line as no word does: Mermaid might take it for Markdown, a list above all."""


def escaped(told: str) -> str:
    """A text in one line as Mermaid takes it within quotes.

    >>> escaped('say "a" [<b>]' + chr(10) + '100 %% # 1')
    'say #quot;a#quot; [#lt;b#gt;] 100 #37;#37; #35; 1'
    """
    plain = printable(told)
    lead = _LEADING.match(plain)
    begun = f"{lead[1] or lead[3] or ''}#{ord(lead[2] or lead[4])};" if lead else ""
    rest = "".join(_ENTITIES.get(letter, letter) for letter in plain[lead.end() if lead else 0 :])
    out = begun + rest.replace("%%", "#37;#37;")
    if "style" in out or "classDef" in out:  # Mermaid takes the last ';' off what looks like a style
        out = out.replace(":", "#58;")
    return out


def markdown(drawn: Outline, account: Account | None = None) -> str:
    """A page with the flowchart, and a table of the boxes."""
    rows = ["| node | what | how it is run |", "|---|---|---|"]
    if account is not None:
        rows = ["| node | what | how it is run | what happened |", "|---|---|---|---|"]
    whole = _whole(drawn, account)
    for box in drawn.boxes():
        if box is drawn.root and box.kind == "graph":
            continue
        run = [*([f"if {box.when}"] if box.when and not box.condition else []), *rules(box)]
        run += ["where there is no answer"] if box.place == "finish" else []
        run += [f"in place of {show(box.path[:-1])}, where that fails"] if box.place == "stand-in" else []
        run += [f"after {', '.join(show(path) for path in box.after)}"] if box.after else []
        cells = [show(box.path), " · ".join([box.what, *box.params, *box.parts]), "; ".join(run)]
        if account is not None:
            cells.append(" · ".join(line for _, line in figures(box, account, whole)))
        rows.append("| " + " | ".join(map(_cell, cells)) + " |")
    head = "\n\n".join([f"# {_cell(drawn.root.name)}", *map(_cell, summary(drawn, account))])
    notes = "\n\n".join(map(_cell, remarks(drawn, account)))
    return f"{head}\n\n```mermaid\n{mermaid(drawn, account)}```\n\n" + "\n".join(rows) + f"\n\n{notes}".rstrip() + "\n"


def _cell(told: str) -> str:
    """A text as Markdown shows it unchanged."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in printable(told))


def as_data(drawn: Outline, account: Account | None = None) -> dict[str, Any]:
    """The outline and, after a run, its figures by path, as plain JSON data."""
    data = drawn.data()
    if account is not None:
        data["happened"] = {
            "problems": account.problems,
            "nodes": {show(path): _figures(found) for path, found in account.figures.items()},
            "not_in_outline": {path: dataclasses.asdict(usage) for path, usage in account.strays.items()},
            "notes": list(account.notes),
        }
    return data


def _figures(found: Figures) -> dict[str, Any]:
    data = {each.name: getattr(found, each.name) for each in dataclasses.fields(found)}
    data["models"] = {model: dataclasses.asdict(usage) for model, usage in sorted(found.models.items())}
    if not found.timed or (found.ran and not found.told):
        data["seconds"] = None
    if found.ran and not found.told:
        data |= {"given": None, "got": None, "answered": None}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in data.items()}


FORMS: dict[str, Callable[[Outline, Account | None], str]] = {
    ".svg": svg,
    ".mmd": mermaid,
    ".mermaid": mermaid,
    ".txt": lambda drawn, account: text(drawn, account) + "\n",
    ".md": markdown,
    ".json": lambda drawn, account: json.dumps(as_data(drawn, account), indent=2, ensure_ascii=False) + "\n",
}
"""What a file's name ends with, and what is then written into it."""


def form_of(path: FilePath) -> Callable[[Outline, Account | None], str]:
    """What draws a file of this name. Raises `BadInput` where its ending is unknown, or its folder is not there."""
    if (form := FORMS.get(path.suffix.lower())) is None:
        raise BadInput(f"{path}: a drawing's name ends with one of {', '.join(FORMS)}")
    if not path.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {str(path.parent)!r}")
    return form


def draw_run(strategy: object, happened: Happened | None, path: FilePath | str, *, title: str = "") -> None:
    """Draw a strategy, and what happened at its parts, into a file; the form is that of its name's ending (`FORMS`)."""
    path = FilePath(path)
    form_of(path)
    drawn = outline(strategy, title=title)
    write(drawn, account(drawn, happened) if happened is not None else None, path)


def write(drawn: Outline, account: Account | None, path: FilePath) -> None:
    """A drawing into a file; the form is that of its name's ending (`FORMS`)."""
    path.write_text(form_of(path)(drawn, account), encoding="utf-8", errors="backslashreplace")
