"""Where the boxes of a layered drawing go, and how the arrows run: geometry alone, no text, no colours.

Boxes stand in layers, each arrow going from one layer to a later one (Sugiyama, Tagawa & Toda, 1981): layers by the longest way,
orders by barycentres, positions by isotonic regression. An arrow that passes a layer has a lane of its own in it, and bends only
between layers, so that it crosses no box.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

SIDE = 26.0
"""Room between two boxes of a layer, in pixels."""
LANE = 16.0
"""Room between a box and an arrow that passes it, or between two such arrows."""
GAP, WIDEST_GAP = 22.0, 84.0
"""Room between two layers, and the most of it: the further arrows go to the side, the more there is."""
PORT, CLOSE = 24.0, 12.0
"""The most and the least room between two arrows at the same side of a box."""
HEAD = 13.0
"""Room for an arrow's head before its box."""
CORNER = 8.0
"""Room from a box's corner to the first arrow."""
SWEEPS = 12
WIGGLE = 0.75
"""Pixels by which two ends may miss each other without a bend."""
TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle: its left upper corner and its size, in pixels."""

    x: float
    y: float
    w: float
    h: float

    def moved(self, x: float, y: float) -> Rect:
        return Rect(self.x + x, self.y + y, self.w, self.h)

    def turned(self) -> Rect:
        return Rect(self.y, self.x, self.h, self.w)


@dataclass(frozen=True, slots=True)
class Item:
    """A box to place. `main` is the part of it that arrows lead to and from, None for all of it."""

    key: Hashable
    w: float
    h: float
    main: Rect | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """An arrow to run from one box to another; `w` and `h` are the size of what is written on it, 0 for nothing."""

    start: Hashable
    end: Hashable
    w: float = 0.0
    h: float = 0.0


Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Route:
    """How one arrow runs: from its first point by straight lines and, where a part has four points, by Bézier curves. `label` is
    where what is written on it goes."""

    link: Link
    start: Point
    parts: tuple[tuple[Point, ...], ...]
    label: Rect | None = None

    @property
    def end(self) -> Point:
        return self.parts[-1][-1]

    def points(self, fine: int = 12) -> Iterator[Point]:
        """Points along it."""
        at = self.start
        yield at
        for part in self.parts:
            for i in range(1, fine + 1):
                yield _along((at, *part), i / fine)
            at = part[-1]

    def moved(self, x: float, y: float) -> Route:
        parts = tuple(tuple((px + x, py + y) for px, py in part) for part in self.parts)
        label = self.label.moved(x, y) if self.label else None
        return replace(self, start=(self.start[0] + x, self.start[1] + y), parts=parts, label=label)

    def turned(self) -> Route:
        parts = tuple(tuple((py, px) for px, py in part) for part in self.parts)
        return replace(self, start=self.start[::-1], parts=parts, label=self.label.turned() if self.label else None)


def _along(points: Sequence[Point], t: float) -> Point:
    """A point of a Bézier curve of any degree (de Casteljau)."""
    while len(points) > 1:
        points = [(a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])) for a, b in itertools.pairwise(points)]
    return points[0]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where everything is. `places` has the corner of each box."""

    places: Mapping[Hashable, Point]
    routes: tuple[Route, ...]
    w: float
    h: float


def room_for(written: Sequence[float]) -> float:
    """How broad a side has to be, its corners left out, for arrows on which something of these widths is written (0: nothing)."""
    widest = max(written, default=0.0)
    return len(written) * (widest + CORNER if widest else CLOSE)


def arrange(items: Sequence[Item], links: Sequence[Link], *, down: bool = True) -> Arrangement:
    """Place boxes in layers, from top to bottom or, without `down`, from left to right. Of arrows on a circle, one runs
    backwards; one from a box to itself is left out."""
    links = [link for link in links if link.start != link.end]
    if not items:
        return Arrangement({}, (), 0.0, 0.0)
    if not down:
        turned = [replace(item, w=item.h, h=item.w, main=item.main.turned() if item.main else None) for item in items]
        found = arrange(turned, [replace(link, w=link.h, h=link.w) for link in links])
        places = {key: point[::-1] for key, point in found.places.items()}
        routes = [replace(r.turned(), link=link) for r, link in zip(found.routes, links, strict=True)]
        return Arrangement(places, tuple(routes), found.h, found.w)
    return _Layers(items, links).arranged()


@dataclass(slots=True, eq=False)
class _Spot:
    """A box or, without an item, the place where an arrow passes a layer. `v` is across the flow, that of its arrows' middle."""

    item: Item | None
    left: float
    right: float
    layer: int = 0
    v: float = 0.0
    above: list[_Spot] = field(default_factory=list)
    below: list[_Spot] = field(default_factory=list)

    @property
    def main(self) -> Rect:
        """Where its arrows are, from its corner."""
        if self.item is None:
            return Rect(0, 0, 0, 0)
        return self.item.main or Rect(0, 0, self.item.w, self.item.h)

    @property
    def height(self) -> float:
        return self.item.h if self.item else 0.0


class _Layers:
    def __init__(self, items: Sequence[Item], links: Sequence[Link]) -> None:
        self.items = {item.key: item for item in items}
        self.links = list(links)
        self.turned = _backwards(list(self.items), self.links)
        self.spots = {key: self._spot(item) for key, item in self.items.items()}
        self._layer()
        self.ways = [self._way(link, i in self.turned) for i, link in enumerate(self.links)]
        everything = list(dict.fromkeys([*self.spots.values(), *(spot for way in self.ways for spot in way)]))
        self.layers: list[list[_Spot]] = [[] for _ in range(1 + max(spot.layer for spot in everything))]
        for spot in everything:
            self.layers[spot.layer].append(spot)

    def _spot(self, item: Item) -> _Spot:
        main = item.main or Rect(0, 0, item.w, item.h)
        middle = main.x + main.w / 2
        widths = [link.w for i, link in enumerate(self.links) if self._low(i) == item.key]
        written = room_for(widths) if len(widths) > 1 and any(widths) else max(widths, default=0.0)
        return _Spot(item, max(middle, written / 2), max(item.w - middle, written / 2))

    def _low(self, i: int) -> Hashable:
        """The end of an arrow that is in the later layer: what is written on the arrow stands there."""
        return self.links[i].start if i in self.turned else self.links[i].end

    def _high(self, i: int) -> Hashable:
        return self.links[i].end if i in self.turned else self.links[i].start

    def _layer(self) -> None:
        """The longest way to each box."""
        waiting = dict.fromkeys(self.spots, 0)
        for i in range(len(self.links)):
            waiting[self._low(i)] += self._high(i) != self._low(i)
        ready = [key for key, count in waiting.items() if count == 0]
        while ready:
            key = ready.pop()
            for i in range(len(self.links)):
                low = self._low(i)
                if self._high(i) == key and low != key:
                    self.spots[low].layer = max(self.spots[low].layer, self.spots[key].layer + 1)
                    waiting[low] -= 1
                    ready += [low] if waiting[low] == 0 else []

    def _way(self, link: Link, turned: bool) -> list[_Spot]:
        """The places that an arrow goes through, from the earlier layer to the later one."""
        first, last = (link.end, link.start) if turned else (link.start, link.end)
        a, b = self.spots[first], self.spots[last]
        lanes = [_Spot(None, 0.0, 0.0, layer) for layer in range(a.layer + 1, b.layer)]
        way = [a, *lanes, b]
        for high, low in itertools.pairwise(way):
            high.below.append(low)
            low.above.append(high)
        return way

    def arranged(self) -> Arrangement:
        self._order()
        self._position()
        left = min(spot.v - spot.left for layer in self.layers for spot in layer)
        for spot in (s for layer in self.layers for s in layer):
            spot.v -= left
        width = max(spot.v + spot.right for layer in self.layers for spot in layer)
        outs, ins = self._ports()
        bands, height = self._bands(outs, ins)
        places = {
            key: (spot.v - spot.main.x - spot.main.w / 2, self._top(spot, bands)) for key, spot in self.spots.items()
        }
        routes = [self._route(i, outs, ins, bands) for i in range(len(self.links))]
        return Arrangement(places, tuple(routes), width, height)

    def _order(self) -> None:
        """Within each layer, an order with few crossings."""
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(SWEEPS):
            if fewest == 0:
                break
            down = sweep % 2 == 0
            for layer in self.layers if down else reversed(self.layers):
                near = {id(spot): at for other in self.layers for at, spot in enumerate(other)}
                keys = {}
                for at, spot in enumerate(layer):
                    others = [near[id(o)] for o in (spot.above if down else spot.below)]
                    keys[id(spot)] = sum(others) / len(others) if others else at
                layer.sort(key=lambda spot: keys[id(spot)])
            if (crossings := self._crossings()) < fewest:
                best, fewest = [list(layer) for layer in self.layers], crossings
        self.layers = best

    def _crossings(self) -> int:
        count = 0
        for layer, after in itertools.pairwise(self.layers):
            place = {id(spot): at for at, spot in enumerate(after)}
            ends = [place[id(low)] for spot in layer for low in sorted(spot.below, key=lambda s: place[id(s)])]
            count += sum(a > b for a, b in itertools.combinations(ends, 2))
        return count

    def _position(self) -> None:
        """Across the flow: near what a box is connected with, apart from its neighbours."""
        for layer in self.layers:
            _apart(layer, [0.0] * len(layer), [1.0] * len(layer))
        for sweep in range(2 * SWEEPS + 2):
            both = sweep >= 2 * SWEEPS
            for layer in self.layers if sweep % 2 == 0 else reversed(self.layers):
                wanted, weights = list[float](), list[float]()
                for spot in layer:
                    near = [*spot.above, *spot.below] if both else spot.above if sweep % 2 == 0 else spot.below
                    pulls = [(_pull(spot, other), other.v) for other in near]
                    total = sum(pull for pull, _ in pulls)
                    wanted.append(sum(pull * v for pull, v in pulls) / total if total else spot.v)
                    weights.append(total or 0.1)
                _apart(layer, wanted, weights)

        self._straighten()

    def _straighten(self) -> None:
        """Arrows that pass several layers run straight as far as their neighbours leave them room."""
        near = {id(spot): self._room(layer, at) for layer in self.layers for at, spot in enumerate(layer)}
        for way in self.ways:
            run: list[_Spot] = []
            low, high = -math.inf, math.inf
            for spot in [*way[1:-1], None]:
                left, right = near[id(spot)] if spot is not None else (math.inf, -math.inf)
                if spot is None or max(low, left) > min(high, right):
                    if len(run) > 1:
                        middle = min(high, max(low, sum(s.v for s in run) / len(run)))
                        for each in run:
                            each.v = middle
                        for each in run:
                            layer = self.layers[each.layer]
                            for at in range(len(layer)):
                                near[id(layer[at])] = self._room(layer, at)
                    run, low, high = [], -math.inf, math.inf
                if spot is not None:
                    left, right = near[id(spot)]
                    run, low, high = [*run, spot], max(low, left), min(high, right)

    def _room(self, layer: Sequence[_Spot], at: int) -> tuple[float, float]:
        """How far a place may go to either side."""
        spot = layer[at]
        left, right = -math.inf, math.inf
        if at:
            left = layer[at - 1].v + _distance(layer[at - 1], spot)
        if at + 1 < len(layer):
            right = layer[at + 1].v - _distance(spot, layer[at + 1])
        return left, right

    def _ports(self) -> tuple[list[list[float]], list[list[float]]]:
        """Where across the flow each arrow leaves and enters each place on its way."""
        outs: list[list[float]] = [[spot.v for spot in way[:-1]] for way in self.ways]
        ins: list[list[float]] = [[spot.v for spot in way[1:]] for way in self.ways]
        for spot in self.spots.values():
            leaving = [i for i, way in enumerate(self.ways) if way[0] is spot]
            entering = [i for i, way in enumerate(self.ways) if way[-1] is spot]
            for ways, table, at, nearest in ((leaving, outs, 0, 1), (entering, ins, -1, -2)):
                ways.sort(key=lambda i: self.ways[i][nearest].v)
                for i, v in zip(ways, self._spread(spot, [self.links[i].w for i in ways]), strict=True):
                    table[i][at] = v
        return outs, ins

    def _spread(self, spot: _Spot, written: Sequence[float]) -> list[float]:
        """So many arrows along a side of a box, with room for what is written on them."""
        count = len(written)
        wanted = max(PORT, room_for(written) / count) if count else 0.0
        step = min(wanted, max(0.0, spot.main.w - 2 * CORNER) / max(1, count))
        return [spot.v + step * (k - (count - 1) / 2) for k in range(count)]

    def _bands(
        self, outs: Sequence[Sequence[float]], ins: Sequence[Sequence[float]]
    ) -> tuple[list[tuple[float, float, float]], float]:
        """Of each layer, where what is written on its arrows begins, where its boxes begin, and where they end; and the whole."""
        aside, written = [0.0] * len(self.layers), [0.0] + [HEAD] * (len(self.layers) - 1)
        for link, way, out, into in zip(self.links, self.ways, outs, ins, strict=True):
            for spot, a, b in zip(way[1:], out, into, strict=True):
                aside[spot.layer] = max(aside[spot.layer], abs(a - b))
            if link.h:
                written[way[-1].layer] = max(written[way[-1].layer], link.h + HEAD)
        bands, at = list[tuple[float, float, float]](), 0.0
        for layer, spots in enumerate(self.layers):
            at += min(WIDEST_GAP, GAP + 0.12 * aside[layer]) if layer else 0.0
            high = max(spot.height for spot in spots)
            bands.append((at, at + written[layer], at + written[layer] + high))
            at = bands[-1][2]
        return bands, at

    def _top(self, spot: _Spot, bands: Sequence[tuple[float, float, float]]) -> float:
        return bands[spot.layer][1]

    def _route(
        self,
        i: int,
        outs: Sequence[Sequence[float]],
        ins: Sequence[Sequence[float]],
        bands: Sequence[tuple[float, float, float]],
    ) -> Route:
        link, way = self.links[i], self.ways[i]
        top, bottom = way[0], way[-1]
        start = (outs[i][0], self._top(top, bands) + top.main.y + top.main.h)
        parts: list[tuple[Point, ...]] = []
        for (high, low), a, b in zip(itertools.pairwise(way), outs[i], ins[i], strict=True):
            leave, enter = bands[high.layer][2], bands[low.layer][0]
            b = a if abs(a - b) <= WIGGLE and low is bottom else b
            parts.append(((a, leave),))
            half = (leave + enter) / 2
            parts.append(((a, half), (b, half), (b, enter)) if a != b else ((b, enter),))
            if low is not bottom:
                parts.append(((b, bands[low.layer][2]),))
        end = parts[-1][-1][0]
        label = None
        if link.h:
            label = Rect(end - link.w / 2, bands[bottom.layer][1] - HEAD - link.h, link.w, link.h)
        parts.append(((end, self._top(bottom, bands) + bottom.main.y),))
        route = Route(link, start, _joined(start, parts), label)
        return _reversed(route) if i in self.turned else route


def _joined(start: Point, parts: Sequence[tuple[Point, ...]]) -> tuple[tuple[Point, ...], ...]:
    """The parts of a route without those of no length, and straight ones in one direction as one."""
    found: list[tuple[Point, ...]] = []
    at = start
    for part in parts:
        if math.dist(part[-1], at) < TINY:
            continue
        if len(part) == 1 and found and len(found[-1]) == 1:
            before = found[-2][-1] if len(found) > 1 else start
            if abs(before[0] - at[0]) < TINY and abs(at[0] - part[0][0]) < TINY:
                found[-1] = part
                at = part[-1]
                continue
        found.append(part)
        at = part[-1]
    return tuple(found)


def _reversed(route: Route) -> Route:
    points = [route.start, *(part[-1] for part in route.parts)]
    parts = [
        (*reversed(part[:-1]), before)
        for part, before in zip(reversed(route.parts), reversed(points[:-1]), strict=True)
    ]
    return replace(route, start=route.end, parts=tuple(parts))


def _pull(spot: _Spot, other: _Spot) -> float:
    """How much two places want to be in line: lanes most, so that long arrows are straight."""
    lanes = (spot.item is None) + (other.item is None)
    return (1.0, 2.0, 8.0)[lanes]


def _distance(before: _Spot, after: _Spot) -> float:
    """How far apart two neighbours' middles are at least."""
    return before.right + after.left + (SIDE if before.item and after.item else LANE)


def _apart(layer: Sequence[_Spot], wanted: Sequence[float], weights: Sequence[float]) -> None:
    """The places nearest to the wanted ones (weighted squares) at which neighbours keep their distance: isotonic regression, by
    pooling adjacent violators."""
    offsets, at = list[float](), 0.0
    for i, spot in enumerate(layer):
        if i:
            at += _distance(layer[i - 1], spot)
        offsets.append(at)
    blocks: list[list[float]] = []  # sum of weights, weighted mean, how many
    for v, weight, offset in zip(wanted, weights, offsets, strict=True):
        blocks.append([weight, v - offset, 1])
        while len(blocks) > 1 and blocks[-2][1] > blocks[-1][1]:
            w2, m2, n2 = blocks.pop()
            w1, m1, n1 = blocks.pop()
            blocks.append([w1 + w2, (w1 * m1 + w2 * m2) / (w1 + w2), n1 + n2])
    means = [mean for _, mean, count in blocks for _ in range(int(count))]
    for spot, mean, offset in zip(layer, means, offsets, strict=True):
        spot.v = mean + offset


def _backwards(keys: Sequence[Hashable], links: Sequence[Link]) -> set[int]:
    """Which arrows lead back to where one came from, found depth first in the order of the boxes."""
    back: set[int] = set()
    state: dict[Hashable, int] = {}
    for root in keys:
        stack: list[tuple[Hashable, Iterator[int]]] = []
        if root not in state:
            state[root] = 1
            stack.append((root, _leaving(root, links)))
        while stack:
            key, rest = stack[-1]
            i = next(rest, None)
            if i is None:
                state[key] = 2
                stack.pop()
            elif state.get(links[i].end) == 1:
                back.add(i)
            elif links[i].end not in state:
                state[links[i].end] = 1
                stack.append((links[i].end, _leaving(links[i].end, links)))
    return back


def _leaving(key: Hashable, links: Sequence[Link]) -> Iterator[int]:
    return iter([i for i, link in enumerate(links) if link.start == key])


def touches(point: Point, rect: Rect, slack: float = 0.51) -> bool:
    """Is a point on the border of a rectangle, or as near as drawing goes?"""
    x, y = point
    within = rect.x - slack <= x <= rect.x + rect.w + slack and rect.y - slack <= y <= rect.y + rect.h + slack
    edges = (abs(x - rect.x), abs(x - rect.x - rect.w), abs(y - rect.y), abs(y - rect.y - rect.h))
    return within and min(edges, default=math.inf) <= slack
