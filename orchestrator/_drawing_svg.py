"""A composition as one SVG picture, made without any library: what to draw where (`Picture`), and how it is written down."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from xml.sax.saxutils import escape, quoteattr

from reasonweave.orchestrator._drawing_layout import (
    CORNER,
    Arrangement,
    Item,
    Link,
    Point,
    Rect,
    Route,
    arrange,
    room_for,
)
from reasonweave.orchestrator._drawing_measure import FONT, width, wrapped
from reasonweave.orchestrator._drawing_words import (
    FAILS,
    KINDS,
    Tone,
    details,
    figures,
    kind_of,
    percent,
    remarks,
    rules,
    summary,
)
from reasonweave.orchestrator.errors import Path, show
from reasonweave.orchestrator.happened import Account
from reasonweave.orchestrator.outline import Arrow, Box, Outline
from reasonweave.orchestrator.types import Usage

WIDEST = 236.0
"""The most pixels that a line of text in a box takes."""
PAD = 12.0
MARGIN = 28.0
INDENT = 12.0
"""Room for the mark before a line that tells of something unusual."""
ACROSS, TALL = 1180.0, 1500.0
"""The size of a page that a drawing should fit on: of two directions, the one that fits better is taken."""

INK, MUTED, PAPER, RULE = "#1f2328", "#59636e", "#ffffff", "#d1d9e0"
FILLS = ("#f6f8fa", "#ebeff4")
"""What boxes around boxes are filled with, in turn by depth."""
COLOURS = {
    "strategy": "#0969da",
    "aggregator": "#1a7f37",
    "graph": "#6e7781",
    "part": "#8a6d3b",
    "finish": "#8250df",
    "stand-in": "#bf3989",
}
TONES: dict[Tone, str] = {"plain": INK, "idle": MUTED, "part": INK, "stopped": "#9a6700", "failed": "#cf222e"}
DOTS: dict[Tone, str] = {"idle": "#8c959f", "part": "#0969da", "stopped": "#bf8700", "failed": "#cf222e"}
START, END = "problem", "answer"


@dataclass(frozen=True, slots=True)
class Style:
    """How a line of text looks, and how much room it takes."""

    size: float
    line: float
    colour: str = INK
    bold: bool = False
    italic: bool = False


TITLE, HEAD = Style(17, 24, bold=True), Style(13, 18, bold=True)
WHAT, PART, SAID = Style(11.5, 16), Style(11, 15, MUTED), Style(11, 15, MUTED, italic=True)
FIGURE, LABEL, NOTE = Style(11, 15), Style(11, 14, MUTED), Style(11, 16, MUTED)


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text: where its left end is on the base line, and how wide the place for it is."""

    x: float
    y: float
    text: str
    style: Style
    room: float
    middle: bool = False

    @property
    def width(self) -> float:
        return width(self.text, self.style.size, bold=self.style.bold)


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of a box; `depth` counts the boxes around it, and `idle` says that it never ran."""

    rect: Rect
    box: Box
    depth: int
    cluster: bool
    idle: bool


@dataclass(frozen=True, slots=True)
class Pill:
    """Where the problem comes in, or the answer goes out."""

    rect: Rect
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A share as a bar."""

    rect: Rect
    share: float
    colour: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A mark before a line of text."""

    x: float
    y: float
    colour: str


@dataclass(frozen=True, slots=True)
class Stroke:
    """An arrow."""

    route: Route
    arrow: Arrow
    idle: bool


@dataclass(frozen=True, slots=True)
class Tag:
    """What is written on an arrow."""

    rect: Rect
    lines: tuple[str, ...]
    fill: str


Shape = Text | Frame | Pill | Bar | Dot | Stroke | Tag


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn, in the order of painting, and how large it is."""

    w: float
    h: float
    shapes: tuple[Shape, ...]


def moved(shape: Shape, x: float, y: float) -> Shape:
    """A shape somewhere else."""
    match shape:
        case Text() | Dot():
            return replace(shape, x=shape.x + x, y=shape.y + y)
        case Stroke():
            return replace(shape, route=shape.route.moved(x, y))
        case _:
            return replace(shape, rect=shape.rect.moved(x, y))


@dataclass(slots=True)
class _Column:
    """Lines of text under one another."""

    x: float
    y: float
    shapes: list[Shape] = field(default_factory=list)
    w: float = 0.0

    def add(self, text: str, style: Style, most: float, *, indent: float = 0.0, lines: int | None = None) -> None:
        for line in wrapped(printable(text), style.size, most - indent, bold=style.bold, lines=lines):
            drawn = Text(self.x + indent, self.y + 0.76 * style.line, line, style, most - indent)
            self.shapes.append(drawn)
            self.w = max(self.w, indent + drawn.width)
            self.y += style.line


@dataclass(frozen=True, slots=True)
class _Block:
    """A box with all that is in it, its corner at the origin. `main` is where arrows lead to."""

    key: Hashable
    w: float
    h: float
    shapes: tuple[Shape, ...]
    main: Rect | None = None


class _Painter:
    def __init__(self, drawn: Outline, account: Account | None, down: bool) -> None:
        self.drawn, self.account, self.down = drawn, account, down
        self.whole = account.of(drawn.root).usage if account is not None else Usage()

    def _idle(self, box: Box) -> bool:
        """Did it never run, as far as is known?"""
        found = self.account.of(box) if self.account is not None else None
        return found is not None and not found.ran and (box.kind != "part" or bool(found.skipped))

    def _tag(self, arrow: Arrow, end: Box | None) -> tuple[str, ...]:
        lines = wrapped(printable(arrow.label), LABEL.size, 150, lines=3) if arrow.label else []
        if lines and end is not None and self.account is not None and self.account.problems > 1:
            lines.append(percent(self.account.of(end).share))
        return tuple(lines)

    def block(self, box: Box, depth: int, least: float = 0.0) -> _Block:
        """A box, beside it what stands in for it. Its side for arrows is at least so long."""
        own = self._cluster(box, depth, least) if box.inner else self._leaf(box, depth, least)
        if box.instead is None:
            return own
        other = self.block(box.instead, depth)
        arrow = Arrow(box.path, box.instead.path, FAILS, "failed")
        long = width(FAILS, LABEL.size) + 12
        stroke: Route
        if self.down:
            h, middle = max(own.h, other.h), min(own.h, other.h) / 2
            a, b = Rect(0, 0, own.w, own.h), (own.w + long + 18, 0.0)
            stroke = Route(Link(0, 1), (a.w, middle), (((b[0], middle),),))
            tag = Rect(a.w + 4, middle - 8, long, 16)
            w = b[0] + other.w
        else:
            w = max(own.w, other.w, long)
            a, b = Rect(0, 0, own.w, own.h), (0.0, own.h + 40)
            middle = min(own.w, other.w, long + 8) / 2
            stroke = Route(Link(0, 1), (middle, own.h), (((middle, b[1]),),))
            tag = Rect(middle - long / 2, own.h + 10, long, 16)
            h = b[1] + other.h
        shapes = [
            Stroke(stroke, arrow, self._idle(box.instead)),
            *(moved(shape, a.x, a.y) for shape in own.shapes),
            *(moved(shape, *b) for shape in other.shapes),
            Tag(tag, (FAILS,), _fill(depth)),
        ]
        return _Block(box.path, w, h, tuple(shapes), a)

    def _text(self, box: Box, column: _Column, most: float) -> None:
        """What a box says, into a column."""
        column.add(box.name, HEAD, most)
        for i, line in enumerate(details(box)):
            first = i == 0 and line not in box.parts
            column.add(line, WHAT if first else PART, most, lines=4)
        for line in rules(box):
            column.add(line, SAID, most)
        told = list(figures(box, self.account, self.whole)) if self.account is not None else []
        if box.inner:  # there is room to the side
            own: list[tuple[Tone, str]] = [each for each in told if each[0] != "plain"]
            plain = _filled([line for tone, line in told if tone == "plain"], most)
            told = [*own, *(("plain", line) for line in plain)]
        if told:
            column.y += 4
            for tone, line in told:
                if tone in DOTS:
                    column.shapes.append(Dot(column.x + 4, column.y + 7, DOTS[tone]))
                style = replace(FIGURE, colour=TONES[tone])
                column.add(line, style, most, indent=INDENT if tone in DOTS else 0.0, lines=4)

    def _bar(self, box: Box, column: _Column, w: float) -> None:
        found = self.account.of(box) if self.account is not None else None
        if found is not None and 0 < found.ran < found.problems:
            column.shapes.append(Bar(Rect(column.x, column.y + 4, w, 4), found.share, COLOURS[kind_of(box)]))
            column.y += 8

    def _leaf(self, box: Box, depth: int, least: float) -> _Block:
        column = _Column(PAD + 3, 8)
        self._text(box, column, WIDEST)
        w = max(column.w, 72.0, least - 2 * PAD - 3 if self.down else 0.0)
        self._bar(box, column, w)
        h = max(column.y + 8, 0.0 if self.down else least)
        frame = Frame(Rect(0, 0, w + 2 * PAD + 3, h), box, depth, False, self._idle(box))
        lower = (h - column.y - 8) / 2
        return _Block(box.path, frame.rect.w, h, (frame, *(moved(shape, 0, lower) for shape in column.shapes)))

    def _cluster(self, box: Box, depth: int, least: float) -> _Block:
        inner, w, h = self.inside(box, depth + 1)
        column = _Column(PAD, 8)
        self._text(box, column, max(w, WIDEST + 40))
        w = max(w, column.w, least - 2 * PAD if self.down else 0.0)
        self._bar(box, column, min(w, 200.0))
        top = column.y + 12
        aside = (w - _extent(inner)) / 2
        frame = Frame(Rect(0, 0, w + 2 * PAD, top + h + PAD + 4), box, depth, True, self._idle(box))
        placed = [moved(shape, PAD + aside, top) for shape in inner]
        return _Block(box.path, frame.rect.w, frame.rect.h, (frame, *column.shapes, *placed))

    def inside(self, box: Box, depth: int, ends: bool = False) -> tuple[list[Shape], float, float]:
        """All that is in a box: what to draw, how wide and how high. With `ends`, between the problem and the answer."""
        known = {each.path: each for each in box.inner}
        arrows = [a for a in box.arrows if a.start in known and a.end in known and a.start != a.end]
        return self._arranged(list(box.inner), arrows, depth, ends)

    def _arranged(
        self, boxes: Sequence[Box], arrows: list[Arrow], depth: int, ends: bool
    ) -> tuple[list[Shape], float, float]:
        known: dict[Path, Box] = {box.path: box for box in boxes}
        tags = {i: self._tag(arrow, known.get(arrow.end)) for i, arrow in enumerate(arrows)}
        wide = {i: max((width(t, LABEL.size) for t in tag), default=0.0) + 10 * bool(tag) for i, tag in tags.items()}
        blocks = []
        for box in boxes:
            entering = [i for i, arrow in enumerate(arrows) if arrow.end == box.path]
            leaving = [0.0 for arrow in arrows if arrow.start == box.path]
            across = [wide[i] if self.down else len(tags[i]) * LABEL.line for i in entering]
            blocks.append(self.block(box, depth, max(room_for(across), room_for(leaving)) + 2 * CORNER))
        links = [
            Link(arrow.start, arrow.end, wide[i], len(tags[i]) * LABEL.line + 4 * bool(tags[i]))
            for i, arrow in enumerate(arrows)
        ]
        pills: dict[Hashable, Pill] = {}
        if ends:
            pills = {name: Pill(Rect(0, 0, width(name, 12, bold=True) + 28, 26), name) for name in (START, END)}
            entries = [box.path for box in boxes if not any(a.end == box.path for a in arrows)]
            exits = [b.path for b in boxes if not any(a.start == b.path and a.lead != "finish" for a in arrows)]
            more = [Arrow((), path) for path in entries] + [Arrow(path, ()) for path in exits]
            links += [Link(START, path) for path in entries] + [Link(path, END) for path in exits]
            arrows = arrows + more
        items = [Item(b.key, b.w, b.h, b.main) for b in blocks]
        items = [*items, *(Item(name, pill.rect.w, pill.rect.h) for name, pill in pills.items())]
        found = arrange(items, links, down=self.down)
        return self._painted(blocks, pills, arrows, tags, known, found, depth)

    def _painted(
        self,
        blocks: Sequence[_Block],
        pills: dict[Hashable, Pill],
        arrows: Sequence[Arrow],
        tags: dict[int, tuple[str, ...]],
        known: Mapping[Path, Box],
        found: Arrangement,
        depth: int,
    ) -> tuple[list[Shape], float, float]:
        shapes: list[Shape] = []
        for arrow, route in zip(arrows, found.routes, strict=True):
            ends = [known[path] for path in (arrow.start, arrow.end) if path in known]
            shapes.append(Stroke(route, arrow, any(map(self._idle, ends))))
        for block in blocks:
            shapes += [moved(shape, *found.places[block.key]) for shape in block.shapes]
        shapes += [moved(pill, *found.places[name]) for name, pill in pills.items()]
        for i, route in enumerate(found.routes):
            if route.label is not None:
                shapes.append(Tag(route.label, tags[i], _fill(depth - 1)))
        return shapes, found.w, found.h


def _filled(parts: Sequence[str], most: float) -> list[str]:
    """Short texts side by side, in as few lines as they need."""
    lines = list[str]()
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines else part
        if lines and width(longer, FIGURE.size) <= most:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _extent(shapes: Sequence[Shape]) -> float:
    """How far to the right frames and what is written on arrows go."""
    return max((s.rect.x + s.rect.w for s in shapes if isinstance(s, Frame | Tag | Pill)), default=0.0)


def _fill(depth: int) -> str:
    """What a box at this depth is filled with; -1 is the paper."""
    return PAPER if depth < 0 else FILLS[depth % 2]


def picture(drawn: Outline, account: Account | None = None) -> Picture:
    """What to draw where: from top to bottom or from left to right, whichever fits a page better."""
    both = [_picture(drawn, account, down) for down in (True, False)]
    return min(both, key=lambda p: max(p.w / ACROSS, p.h / TALL, 0.75))


def _picture(drawn: Outline, account: Account | None, down: bool) -> Picture:
    painter, root = _Painter(drawn, account, down), drawn.root
    if root.kind == "graph":
        shapes, w, h = painter.inside(root, 0, ends=True)
    else:
        shapes, w, h = painter._arranged([root], [], 0, True)
    most = max(w, 520.0)
    top = _Column(MARGIN, MARGIN - 6)
    top.add(root.name, TITLE, most)
    head = [] if root.kind != "graph" else rules(root)
    for line in [*head, *summary(drawn, account)]:
        top.add(line, NOTE, most)
    below = _Column(MARGIN, top.y + 16 + h + 20)
    legend, more = _legend(drawn, below, most)
    for line in remarks(drawn, account):
        below.add(line, NOTE, most)
    used = max(w, top.w, below.w, more)
    aside = MARGIN + (used - w) / 2
    everything = [*top.shapes, *(moved(s, aside, top.y + 16) for s in shapes), *legend, *below.shapes]
    return Picture(used + 2 * MARGIN, below.y + MARGIN - 8, tuple(everything))


def _legend(drawn: Outline, column: _Column, most: float) -> tuple[list[Shape], float]:
    """The kinds of boxes that there are, each with its colour."""
    kinds = dict.fromkeys(kind_of(box) for box in drawn.boxes() if box is not drawn.root or box.kind != "graph")
    shapes: list[Shape] = []
    x, used = 0.0, 0.0
    for kind in [k for k in KINDS if k in kinds]:
        wide = width(KINDS[kind], NOTE.size) + 16
        if x and x + wide > most:
            x, column.y = 0.0, column.y + NOTE.line
        shapes.append(Bar(Rect(column.x + x, column.y + 3, 9, 9), 1.0, COLOURS[kind]))
        shapes.append(Text(column.x + x + 14, column.y + 0.76 * NOTE.line, KINDS[kind], NOTE, wide))
        used = max(used, x + wide)
        x += wide + 14
    column.y += NOTE.line + 2
    return shapes, used


def svg(drawn: Outline, account: Account | None = None) -> str:
    """The picture as a file's text."""
    made = picture(drawn, account)
    told = printable(drawn.root.name)
    body = "\n".join(line for shape in made.shapes for line in _written(shape))
    mark = hashlib.sha256(body.encode()).hexdigest()[:8]
    w, h = _n(made.w), _n(made.h)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" '
            f'aria-labelledby="title-{mark} desc-{mark}" font-family={quoteattr(FONT)}>',
            f'<title id="title-{mark}">{escape(told)}</title>',
            f'<desc id="desc-{mark}">{escape(printable("; ".join(_described(drawn.root))))}</desc>',
            f'<rect x="0.5" y="0.5" width="{_n(made.w - 1)}" height="{_n(made.h - 1)}" rx="10" fill="{PAPER}" stroke="{RULE}"/>',
            body,
            "</svg>\n",
        ]
    )


def _described(box: Box) -> Iterator[str]:
    for each in box.inner:
        after = f" after {', '.join(show(p[-1:]) for p in each.after)}" if each.after else ""
        when = f" if {each.when}" if each.when else ""
        yield " ".join([show(each.path), f"({', '.join([each.what, *each.params])})"]) + after + when
        yield from _described(each)
        if each.instead is not None:
            yield f"{show(each.instead.path)} ({each.instead.what}) where {each.name} fails"
            yield from _described(each.instead)


def _written(shape: Shape) -> list[str]:
    return _WRITERS[type(shape)](shape)


def _text(text: Text) -> list[str]:
    style = text.style
    more = (
        ' font-weight="600"' * style.bold
        + ' font-style="italic"' * style.italic
        + ' text-anchor="middle"' * text.middle
    )
    place = f'x="{_n(text.x)}" y="{_n(text.y)}" font-size="{_n(style.size)}" fill="{style.colour}"{more}'
    return [f"<text {place}>{escape(text.text)}</text>"]


def _frame(frame: Frame) -> list[str]:
    rect, box = frame.rect, frame.box
    colour = COLOURS[kind_of(box)]
    fill = _fill(frame.depth) if frame.cluster else (_fill(0) if frame.idle else PAPER)
    dashed = ' stroke-dasharray="5 4"' if frame.idle or box.place != "node" else ""
    edge = f"stroke={quoteattr('#b6bfc9' if frame.cluster or frame.idle else '#8c959f')}"
    faint = ' opacity="0.45"' if frame.idle else ""
    told = escape(printable(f"{show(box.path)}: {' '.join(details(box))}"))
    found = [
        f"<g><title>{told}</title>",
        f'<rect {_at(rect)} rx={quoteattr("9" if frame.cluster else "7")} fill="{fill}" {edge}{dashed}/>',
    ]
    if frame.cluster:
        found.append(
            f'<path d="M{_n(rect.x + 9)} {_n(rect.y)}H{_n(rect.x + rect.w - 9)}" stroke="{colour}" stroke-width="2.5"{faint}/>'
        )
    else:
        found.append(
            f'<path d="M{_n(rect.x + 2)} {_n(rect.y + 7)}V{_n(rect.y + rect.h - 7)}" stroke="{colour}" stroke-width="4" '
            f'stroke-linecap="round"{faint}/>'
        )
    return [*found, "</g>"]


def _pill(pill: Pill) -> list[str]:
    rect = pill.rect
    text = Text(rect.x + rect.w / 2, rect.y + 17, pill.text, Style(12, 16, PAPER, bold=True), rect.w, middle=True)
    return [f'<rect {_at(rect)} rx="{_n(rect.h / 2)}" fill="#424a53"/>', *_text(text)]


def _bar(bar: Bar) -> list[str]:
    filled = replace(bar.rect, w=bar.rect.w * bar.share)
    ground = [f'<rect {_at(bar.rect)} rx="2" fill="#d8dee4"/>'] if bar.share < 1 else []
    return [*ground, f'<rect {_at(filled)} rx="2" fill="{bar.colour}"/>']


def _dot(dot: Dot) -> list[str]:
    return [f'<circle cx="{_n(dot.x)}" cy="{_n(dot.y)}" r="3" fill="{dot.colour}"/>']


def _stroke(stroke: Stroke) -> list[str]:
    route = stroke.route
    points = list(route.points())
    colour = {"then": "#57606a", "finish": COLOURS["finish"], "failed": COLOURS["stand-in"]}[stroke.arrow.lead]
    colour = "#afb8c1" if stroke.idle else colour
    dashed = ' stroke-dasharray="5 4"' if stroke.arrow.lead != "then" or stroke.idle else ""
    tip = points[-1]
    before = next((p for p in reversed(points) if math.dist(p, tip) > 5), route.start)
    path = f"M{_n(route.start[0])} {_n(route.start[1])}" + "".join(
        ("C" if len(part) == 3 else "L") + " ".join(f"{_n(x)} {_n(y)}" for x, y in part) for part in route.parts
    )
    return [
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{dashed}/>',
        f'<path d="{_head(tip, before)}" fill="{colour}"/>',
    ]


def _head(tip: Point, before: Point) -> str:
    dx, dy = tip[0] - before[0], tip[1] - before[1]
    long = max(1e-9, (dx * dx + dy * dy) ** 0.5)
    ux, uy = dx / long, dy / long
    left = (tip[0] - 8 * ux - 4 * uy, tip[1] - 8 * uy + 4 * ux)
    right = (tip[0] - 8 * ux + 4 * uy, tip[1] - 8 * uy - 4 * ux)
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in (tip, left, right)) + "Z"


def _tag(tag: Tag) -> list[str]:
    rect = tag.rect
    found = [f'<rect {_at(rect)} rx="3" fill="{tag.fill}"/>']
    for i, line in enumerate(tag.lines):
        y = rect.y + (rect.h - len(tag.lines) * LABEL.line) / 2 + (i + 0.76) * LABEL.line
        found += _text(Text(rect.x + rect.w / 2, y, line, LABEL, rect.w, middle=True))
    return found


_WRITERS: dict[type, Callable[..., list[str]]] = {
    Text: _text,
    Frame: _frame,
    Pill: _pill,
    Bar: _bar,
    Dot: _dot,
    Stroke: _stroke,
    Tag: _tag,
}


def _at(rect: Rect) -> str:
    return f'x="{_n(rect.x)}" y="{_n(rect.y)}" width="{_n(rect.w)}" height="{_n(rect.h)}"'


def _n(number: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{round(number, 1):g}" if abs(number) < 1e5 else f"{number:.0f}"


def printable(text: str) -> str:
    """A text in one line that XML can hold: line ends and blanks in a row as one, control characters and half letters as their
    escapes; nothing but blanks is shown as such.

    >>> printable("a\\n b" + chr(0)), printable(" ")
    ('a b\\\\x00', '␣')
    """
    if text and not text.split():
        return "␣"
    letters = (x if x.isprintable() or x == " " else repr(x)[1:-1] for x in " ".join(text.split()))
    return "".join(letters)
