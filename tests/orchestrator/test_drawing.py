"""Compositions drawn: what an outline has, what text and Mermaid say, where an SVG has its boxes, what happened at each node."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonweave.orchestrator import (
    BadInput,
    Budget,
    Candidates,
    Graph,
    Jsonl,
    Node,
    Problem,
    Run,
    Strategy,
    Usage,
    asolve,
    chain,
    drive,
    parallel,
    solve,
    sure,
    unsure,
)
from reasonweave.orchestrator._drawing_layout import Item, Link, Rect, arrange, touches
from reasonweave.orchestrator._drawing_measure import width, wrapped
from reasonweave.orchestrator._drawing_svg import Frame, Picture, Pill, Stroke, Tag, Text, _picture, svg
from reasonweave.orchestrator.conditions import Answered, Not, Scored
from reasonweave.orchestrator.drawing import as_data, draw_run, escaped, form_of, markdown, mermaid, text
from reasonweave.orchestrator.happened import Account, Course, Happened, account
from reasonweave.orchestrator.outline import Outline, condition, limits, outline
from reasonweave.orchestrator.testing import ScriptedModel, ScriptedReward
from reasonweave.orchestrator.trace import Ended, Skipped, Started, both
from reasonweave.strategies import BestOfN, ForceAnswer, ParticleFilter, Sample, majority, whole
from reasonweave.strategies.policies import spec_reason
from reasonweave.verifiers import ProcessReward, UtilityDigit

SMALL = ScriptedModel(name="lab-small", role="small")
LARGE = ScriptedModel(name="lab-large", role="large")
PRM = ProcessReward(ScriptedReward(name="lab-prm", role="prm"))
SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Anew:
    """Solutions from the bare problem, whatever came before."""

    model: ScriptedModel
    n: int = 2

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        async for found in BestOfN(whole(self.model), n=self.n).search(roots.fresh(), run):
            yield found


def nothing(candidates: Candidates) -> bool:
    return False


def diamond() -> Graph:
    graph = Graph(finish=ForceAnswer(LARGE))
    graph.add("draft", BestOfN(whole(SMALL), n=4), budget=Budget(tokens=2000))
    graph.add("vote", majority, after="draft", enough=sure(0.9))
    graph.add("cheap", BestOfN(whole(SMALL), n=8), after="vote", when=sure(0.5), when_failed=BestOfN(whole(LARGE), n=1))
    graph.add("dear", BestOfN(whole(LARGE), n=2), after="vote", when=unsure(0.5))
    graph.add("both", majority, after=("cheap", "dear"), when=nothing)
    return graph


@dataclass(frozen=True)
class Tiers:
    """A strategy of two flows that shows them, and how one follows the other."""

    cheap: Strategy
    dear: Strategy

    @property
    def inside(self) -> Mapping[tuple[str | int, ...], object]:
        return {("tier", 0): self.cheap, ("check",): PRM, ("tier", 1): self.dear}

    @property
    def arrows(self) -> Mapping[tuple[tuple[str | int, ...], tuple[str | int, ...]], str]:
        return {(("tier", 0), ("check",)): "", (("check",), ("tier", 1)): "below 0.5"}

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        yield await drive(self.cheap, roots, run.child("tier", 0))
        yield await drive(self.dear, roots, run.child("tier", 1))


# Outlines


def test_the_outline_of_a_graph() -> None:
    found = outline(diamond(), title="diamond")
    root = found.root
    assert (root.name, root.kind, root.path) == ("diamond", "graph", ())
    assert [(b.name, b.kind, b.place, b.generation) for b in root.inner] == [
        ("draft", "strategy", "node", 0),
        ("vote", "aggregator", "node", 1),
        ("cheap", "strategy", "node", 2),
        ("dear", "strategy", "node", 2),
        ("both", "aggregator", "node", 3),
        ("finish", "strategy", "finish", 4),
    ]
    draft, vote, cheap, dear, both_, finish = root.inner
    assert (draft.what, draft.params, draft.parts, draft.roles) == (
        "BestOfN",
        ("n=4",),
        ("policy Sample(small)",),
        ("small",),
    )
    assert (draft.budget, vote.enough) == ("2,000 tokens", "sure (≥ 0.9)")
    assert (cheap.when, dear.when, both_.when) == ("sure (≥ 0.5)", "unsure (< 0.5)", "nothing")
    assert (cheap.condition, both_.condition) == ("", "nothing")  # an arrow carries the one, two cannot carry the other
    assert cheap.instead is not None
    assert (cheap.instead.path, cheap.instead.place, cheap.instead.roles) == (
        ("cheap", "instead"),
        "stand-in",
        ("large",),
    )
    assert finish.roles == ("large",)
    assert {(a.start, a.end, a.label, a.lead) for a in root.arrows} == {
        (("draft",), ("vote",), "", "then"),
        (("vote",), ("cheap",), "sure (≥ 0.5)", "then"),
        (("vote",), ("dear",), "unsure (< 0.5)", "then"),
        (("cheap",), ("both",), "", "then"),
        (("dear",), ("both",), "", "then"),
        (("both",), ("finish",), "no answer", "finish"),
    }
    assert found.models == {"large": "lab-large", "small": "lab-small"}
    assert json.loads(json.dumps(found.data()))["root"]["inner"][2]["instead"]["path"] == "cheap/instead"


def test_graphs_in_graphs_and_strategies_that_show_their_parts() -> None:
    inner = chain(BestOfN(whole(SMALL), n=2), majority)
    found = outline(chain(tiers=Tiers(inner, BestOfN(whole(LARGE), n=1)), last=majority))
    tiers, last = found.root.inner
    assert [(b.path, b.name, b.kind, b.generation) for b in tiers.inner] == [
        (("tiers", "tier", 0), "tier 0", "graph", 0),
        (("tiers", "check"), "check", "part", 1),
        (("tiers", "tier", 1), "tier 1", "strategy", 2),
    ]
    assert [b.path for b in tiers.inner[0].inner] == [("tiers", "tier", 0, "BestOfN"), ("tiers", "tier", 0, "majority")]
    assert (tiers.title, tiers.parts) == ("tiers: Tiers", ())  # its parts have boxes, and are not told again
    assert [(a.start[1:], a.end[1:], a.label) for a in tiers.arrows] == [
        (("tier", 0), ("check",), ""),
        (("check",), ("tier", 1), "below 0.5"),
    ]
    assert last.title == "last: majority"


def test_a_strategy_alone_is_one_box_that_tells_its_parts() -> None:
    policy = spec_reason(SMALL, LARGE, UtilityDigit(LARGE))
    (box,) = outline(ParticleFilter(policy, PRM, n=16)).boxes()
    assert (box.name, box.params, box.path, box.kind) == ("ParticleFilter", ("n=16",), (), "strategy")
    assert box.parts == ("policy Guard(Speculate(Sample(small), Sample(large), AtLeast(large, 7)))", "verifier prm")
    assert box.roles == ("small", "large", "prm")


def test_conditions_and_budgets_in_words() -> None:
    asked = [sure(0.9), unsure(), Not(Answered()), Scored(0.25), Not(Scored(0.25)), nothing, lambda c: True]
    *words, unnamed = map(condition, asked)
    assert words == [
        "sure (≥ 0.9)",
        "unsure (< 0.6)",
        "no answer",
        "best score ≥ 0.25",
        "best score < 0.25",
        "nothing",
    ]
    assert unnamed.startswith("lambda (test_drawing.py, line ")
    assert limits(Budget(completion_tokens=1e6, large=Budget(calls=2))) == "1,000,000 completion tokens, large: 2 calls"


@pytest.mark.parametrize(
    ("path", "box", "rest"),
    [
        ("", "", ""),
        ("tiers/tier/0/BestOfN/step/0/extend", "tiers/tier/0/BestOfN", "step/0/extend"),
        ("tiers/tier/1/step/2", "tiers/tier/1", "step/2"),
        ("tiers/round/3/check/call", "tiers/check", "call"),  # names on the way are passed over
        ("tiers/own", "tiers", "own"),
        ("4/last", "last", ""),  # a loop around the whole
        ("lost/step/1", "", "lost/step/1"),
    ],
)
def test_each_path_belongs_to_a_box(path: str, box: str, rest: str) -> None:
    flow = chain(tiers=Tiers(chain(BestOfN(whole(SMALL), n=2), majority), BestOfN(whole(LARGE), n=1)), last=majority)
    found, left = outline(flow).place(tuple(filter(None, path.split("/"))))
    assert ("/".join(map(str, found.path)), "/".join(left)) == (box, rest)


# Text and Mermaid


def test_text_by_hand() -> None:
    assert (
        text(outline(diamond(), title="diamond"))
        == """\
diamond
├─ 1 ─ draft: BestOfN n=4
│        policy Sample(small)
│        at most 2,000 tokens
├─ 2 ─ vote: majority
│        the graph ends here if sure (≥ 0.9)
├─ 3 ┬ cheap: BestOfN n=8
│    │   policy Sample(small)
│    │   if sure (≥ 0.5)
│    │ ╰╌ if it fails: BestOfN n=1
│    │      policy Sample(large)
│    └ dear: BestOfN n=2
│        policy Sample(large)
│        if unsure (< 0.5)
├─ 4 ─ both: majority
│        if nothing
└─ finish: ForceAnswer
     model large

Models: large = lab-large, small = lab-small."""
    )


def test_text_says_what_comes_after_what_where_that_is_not_the_line_before() -> None:
    graph = Graph()
    graph.add("a", majority)
    graph.add("b", majority, after="a")
    graph.add("c", majority, after="a")
    graph.add("d", majority, after="b")
    graph.add("e", majority, after=("c", "d"))
    told = text(outline(graph))
    assert "after b" in told  # of the generation before, d follows b alone
    assert "after c, d" in told
    assert "after a" not in told


@pytest.mark.parametrize("columns", [40, 80])
def test_text_keeps_to_the_terminal(columns: int) -> None:
    happened = Happened()
    solve(Problem("q"), diamond(), trace=happened)
    drawn = outline(diamond(), title="diamond")
    told = text(drawn, account(drawn, happened), width=columns)
    assert max(map(len, told.splitlines())) <= columns


DIAMOND = """\
---
title: "diamond"
---
flowchart TD
  start(["problem"])
  n1["draft<br/>BestOfN n=4<br/>policy Sample(small)<br/>at most 2,000 tokens"]
  n2["vote<br/>majority<br/>the graph ends here if sure (≥ 0.9)"]
  n3["cheap<br/>BestOfN n=8<br/>policy Sample(small)"]
  n4["BestOfN<br/>n=1<br/>policy Sample(large)"]
  n5["dear<br/>BestOfN n=2<br/>policy Sample(large)"]
  n6["both<br/>majority<br/>if nothing"]
  n7["finish<br/>ForceAnswer<br/>model large"]
  answer(["answer"])
  start --> n1
  n1 --> n2
  n2 -->|"sure (≥ 0.5)"| n3
  n2 -->|"unsure (#lt; 0.5)"| n5
  n3 --> n6
  n5 --> n6
  n6 -.->|"no answer"| n7
  n3 -.->|"if it fails"| n4
  n6 --> answer
  n7 --> answer
  classDef aStrategy fill:#ffffff,color:#1f2328,stroke:#0969da
  class n1,n3,n5 aStrategy
  classDef aAggregator fill:#ffffff,color:#1f2328,stroke:#1a7f37
  class n2,n6 aAggregator
  classDef aFinish fill:#ffffff,color:#1f2328,stroke:#8250df,stroke-dasharray:5 4
  class n7 aFinish
  classDef aStandIn fill:#ffffff,color:#1f2328,stroke:#bf3989,stroke-dasharray:5 4
  class n4 aStandIn
"""

NESTED = """\
---
title: "nested"
---
flowchart TD
  start(["problem"])
  subgraph n1["Graph"]
    n2["a<br/>BestOfN n=2<br/>policy Sample(small)"]
    subgraph n3["b"]
      n4["BestOfN<br/>n=3<br/>policy Sample(large)"]
      n5["majority"]
    end
    n6["joined"]
  end
  n7["last<br/>majority"]
  answer(["answer"])
  start --> n1
  n1 --> n7
  n2 --> n6
  n3 --> n6
  n4 --> n5
  n7 --> answer
  classDef aStrategy fill:#ffffff,color:#1f2328,stroke:#0969da
  class n2,n4 aStrategy
  classDef aAggregator fill:#ffffff,color:#1f2328,stroke:#1a7f37
  class n5,n6,n7 aAggregator
  classDef aGraph fill:#ffffff,color:#1f2328,stroke:#6e7781
  class n1,n3 aGraph
"""


def nested() -> Graph:
    slow = chain(BestOfN(whole(LARGE), n=3), majority)
    return chain(parallel(a=BestOfN(whole(SMALL), n=2), b=slow), last=majority)


@pytest.mark.parametrize(("flow", "title", "expected"), [(diamond, "diamond", DIAMOND), (nested, "nested", NESTED)])
def test_mermaid_by_hand(flow: object, title: str, expected: str) -> None:
    """Both parse in Mermaid 11 (tried apart from these tests, which have no browser)."""
    assert mermaid(outline(flow(), title=title)) == expected  # type: ignore[operator]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('a "b" [c] {d} |e|', "a #quot;b#quot; [c] {d} #124;e#124;"),
        ("one\ntwo\r\n three", "one two three"),
        ("<b>&amp;</b>", "#60;b#gt;#amp;amp;#lt;/b#gt;"),
        ("`code` #1; 50 % %%{init}%%", "#96;code#96; #35;1; 50 % #37;#37;{init}#37;#37;"),
        ("1. first", "1#46; first"),
        ("85.5 tokens", "85.5 tokens"),
        ("- item", "#45; item"),
        ("style a:#fff;", "style a#58;#35;fff;"),
        ("zero\0", "zero#92;x00"),
        (" \n", "#9251;"),
        ("", ""),
    ],
)
def test_mermaid_escapes(said: str, expected: str) -> None:
    assert escaped(said) == expected


ODD = [
    'a "quoted" <name> & co',
    "two\nlines [x] | y",
    "中文节点 🎉 é",
    "long-" * 30,
    "zero\0 \ud800 half",
    "1. first `x` %%",
]


def test_odd_names_are_drawn_whole() -> None:
    flow = chain(**dict.fromkeys(ODD, majority))
    drawn = outline(flow, title="odd\n<title>")
    root = ET.fromstring(svg(drawn))  # valid XML
    tips = [title.text or "" for title in root.iter(f"{SVG}title")]
    for name in ODD[:4]:
        assert any(tip.startswith(" ".join(name.split())) for tip in tips)
    assert any(tip.startswith("zero\\x00 \\ud800 half") for tip in tips)
    for form in (mermaid, markdown, text):
        made = form(drawn)
        assert made.encode("utf-8")
        assert "\0" not in made
    assert all(line.count('"') % 2 == 0 for line in mermaid(drawn).splitlines())


# SVG


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=30)


@st.composite
def graphs(draw: st.DrawFn, depth: int = 2) -> Graph:
    """A random DAG with one sink: conditions, stand-ins, graphs within, odd names."""
    graph = Graph(finish=ForceAnswer(SMALL) if draw(st.booleans()) else None)
    names: list[str] = []
    for i in range(draw(st.integers(1, 7 if depth == 2 else 3))):
        parents = draw(st.lists(st.sampled_from(names), unique=True, max_size=3)) if names else []
        kind = draw(st.integers(0, 5))
        part: object = majority if kind < 3 else BestOfN(whole(SMALL), n=kind)
        if kind == 5 and depth:
            part = draw(graphs(depth=depth - 1))
        name = draw(NAMES)
        name = f"{name}{i}" if name in names or name == "finish" else name
        when = draw(st.sampled_from([None, unsure(0.5), nothing]))
        instead = majority if draw(st.integers(0, 4)) == 0 else None
        names.append(graph.add(name, part, after=parents, when=when, when_failed=instead))  # type: ignore[arg-type]
    open_ends = [n for n in names if not any(n in node.after for node in graph.nodes.values())]
    if len(open_ends) > 1:
        graph.add("the end" if "the end" not in names else "the end of all", majority, after=open_ends)
    return graph


def inner(rect: Rect, point: tuple[float, float], by: float = 1.0) -> bool:
    return rect.x + by < point[0] < rect.x + rect.w - by and rect.y + by < point[1] < rect.y + rect.h - by


def holds(outer: Rect, rect: Rect, slack: float = 0.01) -> bool:
    across = outer.x - slack <= rect.x and rect.x + rect.w <= outer.x + outer.w + slack
    return across and outer.y - slack <= rect.y and rect.y + rect.h <= outer.y + outer.h + slack


def overlap(a: Rect, b: Rect) -> bool:
    slack = 0.01
    return a.x + slack < b.x + b.w and b.x + slack < a.x + a.w and a.y + slack < b.y + b.h and b.y + slack < a.y + a.h


def wider(rect: Rect, by: float = 10.0) -> Rect:
    return Rect(rect.x - by, rect.y - by, rect.w + 2 * by, rect.h + 2 * by)


def check_picture(made: Picture) -> None:
    page = Rect(0, 0, made.w, made.h)
    frames = [s for s in made.shapes if isinstance(s, Frame)]
    pills = {s.text: s.rect for s in made.shapes if isinstance(s, Pill)}
    at = {frame.box.path: frame.rect for frame in frames}
    boxes = [*(f.rect for f in frames), *pills.values()]
    for i, a in enumerate(boxes):
        assert holds(page, a)
        for b in boxes[:i]:
            assert not overlap(wider(a), b) or holds(a, b) or holds(b, a)
    for frame in frames:  # what is in a part is drawn in it
        for each in frame.box.inner:
            assert holds(frame.rect, at[each.path])
    for said in (s for s in made.shapes if isinstance(s, Text)):
        around = [rect for rect in boxes if inner(rect, (said.x, said.y), 0.0)]
        room = min(around, key=lambda r: r.w * r.h, default=page)
        assert said.width <= said.room + 0.01
        assert said.x + said.width <= room.x + room.w - 4
    tags = [s.rect for s in made.shapes if isinstance(s, Tag)]
    for i, tag in enumerate(tags):
        assert not any(overlap(tag, box) for box in boxes if not holds(box, tag))
        assert not any(overlap(tag, other) for other in tags[:i])
    for tag in (s for s in made.shapes if isinstance(s, Tag)):
        assert all(width(line, 11) <= tag.rect.w for line in tag.lines)
    for stroke in (s for s in made.shapes if isinstance(s, Stroke)):
        start = at[stroke.arrow.start] if stroke.arrow.start else pills["problem"]
        end = at[stroke.arrow.end] if stroke.arrow.end else pills["answer"]
        assert touches(stroke.route.start, start)
        assert touches(stroke.route.end, end)
        for point in stroke.route.points():
            crossed = [box for box in boxes if inner(box, point) and not (holds(box, start) and holds(box, end))]
            assert not crossed


@settings(max_examples=60, deadline=None)
@given(graphs(), st.booleans())
def test_boxes_do_not_overlap_texts_fit_and_arrows_go_around(flow: Graph, down: bool) -> None:
    drawn = outline(flow, title="random")
    made = _picture(drawn, None, down)
    check_picture(made)
    ET.fromstring(svg(drawn))
    assert {frame.box.path for frame in made.shapes if isinstance(frame, Frame)} == {
        box.path for box in drawn.boxes() if box.path
    }


@pytest.mark.parametrize("down", [True, False])
def test_a_picture_of_what_happened_keeps_the_same_rules(down: bool) -> None:
    happened = Happened()
    for i in range(12):
        solve(Problem(f"q{i}"), diamond(), trace=happened, seed=i, budget=Budget(tokens=60 + 20 * i))
    drawn = outline(diamond(), title="diamond")
    check_picture(_picture(drawn, account(drawn, happened), down))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(20, 300), st.floats(20, 120)), min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.floats(0, 80)), max_size=14),
    st.booleans(),
)
def test_any_arrows_can_be_arranged_circles_too(
    sizes: list[tuple[float, float]], pairs: list[tuple[int, int, float]], down: bool
) -> None:
    items = [Item(i, w, h) for i, (w, h) in enumerate(sizes)]
    n = len(items)
    links = [Link(a % n, b % n, w, 14.0 if w else 0.0) for a, b, w in pairs if a % n != b % n]
    links = list({(link.start, link.end): link for link in links}.values())
    found = arrange(items, links, down=down)
    at = {i: Rect(*found.places[i], items[i].w, items[i].h) for i in range(n)}
    for i in range(n):
        assert holds(Rect(0, 0, found.w, found.h), at[i])
        assert not any(overlap(wider(at[i]), at[j]) for j in range(i))
    for link, route in zip(links, found.routes, strict=True):
        assert touches(route.start, at[link.start])  # type: ignore[index]
        assert touches(route.end, at[link.end])  # type: ignore[index]
        assert not any(inner(rect, point) for rect in at.values() for point in route.points())


def test_a_loop_is_drawn_as_one() -> None:
    found = arrange(
        [Item("write", 80, 30), Item("judge", 80, 30)], [Link("write", "judge"), Link("judge", "write", 40, 14)]
    )
    assert found.places["write"][1] < found.places["judge"][1]
    assert found.routes[1].start[1] > found.routes[1].end[1]  # back up


def test_texts_are_never_wider_than_measured() -> None:
    """Against the font itself, DejaVu Sans, which is wider than what browsers take for sans-serif."""
    pytest.importorskip("matplotlib")
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    for bold in (False, True):
        font = FontProperties(family="DejaVu Sans", size=12, weight="bold" if bold else "normal")
        for said in (
            "BestOfN n=16",
            "policy Guard(Speculate(Sample(small)))",
            "if unsure (< 0.6)",
            "WWW@@@%%",
            "12 → 4",
        ):
            real, _, _ = TextToPath().get_text_width_height_descent(said, font, False)
            assert real <= width(said, 12, bold=bold) <= 1.25 * real + 2


def test_wrapping_cuts_words_only_where_it_must() -> None:
    assert wrapped("alpha beta gamma", 10, 60) == ["alpha beta", "gamma"]
    assert "".join(wrapped("x" * 100, 10, 60)) == "x" * 100
    assert wrapped("answer on 100 %", 10, width("answer on 100", 10) + 1)[-1] == "100 %"
    assert wrapped("one two three four", 10, 45, lines=2)[-1].endswith("…")


def test_the_svg_says_what_it_is_and_needs_no_page_around_it() -> None:
    root = ET.fromstring(svg(outline(diamond(), title="diamond")))
    title, desc, paper = list(root)[:3]
    assert (title.tag, title.text) == (f"{SVG}title", "diamond")
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert "cheap (BestOfN, n=8) after vote if sure (≥ 0.5)" in (desc.text or "")
    assert "cheap/instead (BestOfN) where cheap fails" in (desc.text or "")
    assert (paper.tag, paper.get("fill")) == (f"{SVG}rect", "#ffffff")  # readable on a dark page too
    written = {said.text for said in root.iter(f"{SVG}text")}
    assert {"draft", "vote", "cheap", "dear", "both", "finish", "sure (≥ 0.5)", "no answer", "if it fails"} <= written


# What happened


def ran(flow: Strategy, problems: int = 1, **more: object) -> tuple[Outline, Account, list[Usage]]:
    happened, spent = Happened(), []
    for i in range(problems):
        spent.append(solve(Problem(f"q{i}"), flow, trace=happened, seed=i, **more).total)  # type: ignore[arg-type]
    drawn = outline(flow)
    return drawn, account(drawn, happened), spent


def flows() -> list[Strategy]:
    two = Tiers(chain(BestOfN(whole(SMALL), n=2), majority), BestOfN(whole(LARGE), n=1, verifier=PRM))
    fails = chain(Node(Breaks(), when_failed=Anew(SMALL, 3)), majority)
    return [diamond(), nested(), chain(two, majority, finish=ForceAnswer(SMALL)), fails, BestOfN(Sample(SMALL), n=2)]


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("budget", [None, Budget(tokens=40)])
def test_the_sums_are_what_was_paid(which: int, budget: Budget | None) -> None:
    """The whole is the results' usage, and in each graph that of its nodes, stand-ins and finish."""
    drawn, told, spent = ran(flows()[which], 5, budget=budget)
    assert told.of(drawn.root).usage == Usage.total(spent)
    for box in drawn.boxes():
        if box.kind == "graph":
            parts = [*box.inner, *(each.instead for each in box.inner if each.instead is not None)]
            assert Usage.total([told.of(each).usage for each in parts]) == told.of(box).usage


class Breaks:
    """A strategy that raises in the middle, having paid."""

    def __repr__(self) -> str:
        return "Breaks()"

    async def search(self, roots: Candidates, run: Run) -> AsyncIterator[Candidates]:
        async for found in Anew(LARGE, 1).search(roots, run):
            yield found
        raise RuntimeError("no room left")


def test_skipped_stopped_and_failed_parts_say_why() -> None:
    graph = Graph(finish=ForceAnswer(LARGE))
    graph.add("draft", BestOfN(whole(SMALL), n=4), budget=Budget(tokens=45))
    graph.add("vote", majority, after="draft")
    graph.add("cheap", Breaks(), after="vote", when_failed=Anew(SMALL, 3))
    graph.add("dear", chain(BestOfN(whole(LARGE), n=2)), after="vote", when=nothing)
    graph.add("both", majority, after=("cheap", "dear"))
    drawn, told, _ = ran(graph)
    at = {box.path: told.of(box) for box in drawn.boxes()}
    (why,) = at["draft",].stopped
    assert why.startswith("draft/")
    assert not at["vote",].stopped  # its set was cut short, it was not
    assert (at["cheap",].failed, at["cheap",].unended) == ({"RuntimeError: no room left": 1}, 1)
    assert at["cheap", "instead"].ran == 1
    assert at["cheap",].usage.calls == 1  # the stand-in's own calls are told there
    assert at["cheap", "instead"].got == 3
    assert at["dear",].skipped == {"nothing is false": 1}
    assert (at["dear", "BestOfN"].unreached, at["dear", "BestOfN"].ran) == (1, 0)
    for made in (text(drawn, told, width=200), mermaid(drawn, told), markdown(drawn, told), svg(drawn, told)):
        words = " ".join(made.replace("<br/>", " ").split())
        for said in ("no room left", "nothing is false", "not reached", "not needed", "→ 3 candidates"):
            assert said in words
    assert "stopped: asked for" in text(drawn, told, width=200)
    assert "left of tokens=45" in text(drawn, told, width=200)


def test_over_many_problems_shares_and_means_are_told() -> None:
    """The conditions are of each problem, so that the shares can be counted by hand from the results."""

    def hard(candidates: Candidates) -> bool:
        return int(candidates[0].problem.prompt) % 4 == 0

    flow = chain(Anew(SMALL), ask=Node(Anew(LARGE, 3), when=hard), last=majority)
    happened = Happened()
    results = [solve(Problem(str(i)), flow, trace=happened, seed=i) for i in range(12)]
    drawn = outline(flow)
    told = account(drawn, happened)
    ask = told.figures["ask",]
    assert (ask.problems, ask.ran, ask.runs, ask.share) == (12, 3, 3, 0.25)
    assert ask.skipped == {"hard is false": 9}
    assert ask.models["lab-large"] == Usage.total([r.usage.get("lab-large", Usage()) for r in results])
    assert told.figures["last",].ran == 3  # its one parent was skipped on the others
    words = text(drawn, told, width=200)
    assert "ran on 3 of 12 (25 %)" in words
    assert f"{ask.usage.tokens / 12:.3g} tokens a problem" in words
    assert "12 problems" in words
    assert "<br/>25 %" in mermaid(drawn, told)  # on the arrow to it
    assert "2 · active parameters · (uncached prompt" in words
    data = as_data(drawn, told)["happened"]
    assert json.loads(json.dumps(data))["nodes"]["ask"]["ran"] == 3


def test_a_trace_tells_what_the_tracer_told(tmp_path: Path) -> None:
    live, path = Happened(), tmp_path / "trace.jsonl"
    flow = flows()[2]
    with Jsonl(path) as jsonl:
        for i in range(3):
            solve(Problem(f"q{i}"), flow, trace=both(live, jsonl), seed=i, budget=Budget(tokens=60 + 30 * i))
    drawn = outline(flow)
    read = Happened.of_trace(path)
    assert account(drawn, read) == account(drawn, live)
    assert read.seen == repr(flow)
    with path.open("a") as file:
        file.write('{"event": "ended", "pa')  # as after a kill
    assert account(drawn, Happened.of_trace(path)) == account(drawn, live)
    path.write_text('{"event": "snapshot", "path": "run"}\nno event\n')
    with pytest.raises(BadInput, match=r"trace.jsonl, line 2: no event of a trace"):
        Happened.of_trace(path)


def test_paths_that_the_outline_does_not_have_are_told_not_dropped() -> None:
    happened = Happened()
    solve(Problem("q"), chain(other=BestOfN(whole(SMALL), n=2), last=majority), trace=happened)
    drawn = outline(chain(BestOfN(whole(SMALL), n=2), last=majority))
    told = account(drawn, happened)
    assert list(told.strays) == ["other"]
    assert told.strays["other"].calls == 2
    assert told.of(drawn.root).usage == told.strays["other"]
    assert "Not in this drawing, and counted with the box around it: other (2 calls" in text(drawn, told, width=200)
    assert as_data(drawn, told)["happened"]["not_in_outline"]["other"]["calls"] == 2


def test_a_part_that_a_loop_runs_again_and_again() -> None:
    """Rounds put their number into the path; how often and with how many candidates is still known."""
    course, usage = Course(), Usage(10, 0, 5, 1)
    course(Started((), "Loop", 1))
    for r in range(3):
        course(Started(("round", r, "write"), "BestOfN", 2))
        course.called(("round", r, "write", "step", 0), "m", usage)
        course(Ended(("round", r, "write"), 4, "7", None, 0.5))
    course(Ended((), 4, "7", None, 2.0))
    loop = Tiers(BestOfN(whole(SMALL)), BestOfN(whole(SMALL)))

    class Loop(Tiers):
        @property
        def inside(self) -> Mapping[tuple[str | int, ...], object]:
            return {("write",): self.cheap}

    drawn = outline(Loop(loop.cheap, loop.dear))
    write = account(drawn, Happened([course])).figures["write",]
    assert (write.ran, write.runs, write.given, write.got, write.seconds) == (1, 3, 6, 12, 1.5)
    assert write.usage == Usage(30, 0, 15, 3)
    assert write.answer == "7"


def test_a_part_that_is_not_driven_by_itself_counts_as_run_where_it_did_something() -> None:
    course = Course()
    course(Started((), "Select", 1))
    course.called(("tier", 1, "step", 0), "m", Usage(10, 0, 5, 1))
    course(Skipped(("tier", 0), "the other one was chosen"))
    drawn = outline(Tiers(BestOfN(whole(SMALL)), BestOfN(whole(LARGE))))
    told = account(drawn, Happened([course]))
    first, second = told.figures["tier", 0], told.figures["tier", 1]
    assert (first.ran, first.skipped) == (0, {"the other one was chosen": 1})
    assert (second.ran, second.runs, second.told) == (1, 1, 0)
    assert "? → ?" not in text(drawn, told)
    assert "? s" in text(drawn, told)  # its time is not known, and it says so


def test_problems_at_the_same_time_are_told_apart_or_said_to_be_mixed() -> None:
    flow = chain(BestOfN(whole(ScriptedModel(name="m", latency=0.01)), n=2), majority)

    async def at_once(mixed: Happened, apart: Happened) -> None:
        courses = [Course() for _ in range(3)]
        await asyncio.gather(
            *(asolve(Problem(f"q{i}"), flow, trace=both(mixed, course)) for i, course in enumerate(courses))
        )
        for course in courses:
            apart.add(course)

    mixed, apart = Happened(), Happened()
    asyncio.run(at_once(mixed, apart))
    drawn = outline(flow)
    assert (mixed.mixed, mixed.problems, apart.mixed, apart.problems) == (True, 3, False, 3)
    assert "shares of problems do not" in text(drawn, account(drawn, mixed), width=200)
    assert account(drawn, mixed).of(drawn.root).usage == account(drawn, apart).of(drawn.root).usage
    assert account(drawn, apart).figures["majority",].ran == 3


def test_a_problem_that_failed_does_not_spoil_the_next() -> None:
    happened, flow = Happened(), chain(Breaks(), majority)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            solve(Problem("q"), flow, trace=happened)
    drawn = outline(flow)
    told = account(drawn, happened)
    assert (happened.problems, happened.mixed) == (2, False)
    assert (told.figures["Breaks",].unended, told.figures["majority",].unreached) == (2, 2)
    assert "did not come to its end on all" in text(drawn, told)


def test_what_was_not_recorded_shows_as_such() -> None:
    course = Course(known=False, timed=False)
    course.called("draft/step/0/extend", "m", Usage(10, 0, 5, 1))
    drawn = outline(chain(draft=BestOfN(whole(SMALL), n=1), vote=majority))
    told = account(drawn, Happened([course]))
    words = text(drawn, told, width=200)
    assert "? s" in words
    assert "? → ? candidates" in words
    assert "was not recorded" in words
    assert told.figures["vote",].unreached == 0  # it may well have run
    assert "made no calls" in words


# Files


def test_a_run_is_drawn_into_a_file_by_its_ending(tmp_path: Path) -> None:
    happened = Happened()
    solve(Problem("q"), diamond(), trace=happened)
    heads = {".svg": "<svg ", ".mmd": "---", ".txt": "d\n├─ 1", ".md": "# d", ".json": "{"}
    for ending, head in heads.items():
        draw_run(diamond(), happened, tmp_path / f"graph{ending}", title="d")
        written = (tmp_path / f"graph{ending}").read_text()
        assert written.startswith(head) or ending == ".txt"
        assert "candidates" in written or ending == ".json"
    draw_run(diamond(), None, tmp_path / "plain.svg")
    assert "candidates" not in (tmp_path / "plain.svg").read_text()
    with pytest.raises(BadInput, match=r"ends with one of .svg"):
        form_of(tmp_path / "graph.png")
    with pytest.raises(BadInput, match="there is no folder"):
        form_of(tmp_path / "none" / "graph.svg")
